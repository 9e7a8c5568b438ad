"""Structures of lists, tuples, namedtuples and dicts, nested in any way, as flat lists and back.

Dicts are flattened in the order of their sorted keys and repacked under them; every other object is a leaf, None
included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from numtape._front import front

__all__ = ["assert_same_structure", "flatten", "is_nested", "map_structure", "pack_sequence_as"]
__getattr__, __dir__ = front(__name__, __all__)


def is_nested(structure: Any) -> bool:
    """Whether this is a structure and not a leaf.

    >>> import numtape as nt
    >>> nt.nest.is_nested([1]), nt.nest.is_nested("text")
    (True, False)
    """
    return isinstance(structure, list | tuple | dict) or isinstance(structure, Mapping)  # noqa: SIM101  the last is slow


def flatten(structure: Any) -> list[Any]:
    """The leaves, from left to right.

    >>> import numtape as nt
    >>> nt.nest.flatten({"b": [3, (4,)], "a": 1})
    [1, 3, 4]
    """
    kind = type(structure)
    if kind is list or kind is tuple:
        for item in structure:
            if isinstance(item, list | tuple | Mapping):
                break
        else:
            return list(structure)
    found: list[Any] = []
    _collect(structure, found)
    return found


def _collect(structure: Any, found: list[Any]) -> None:
    if isinstance(structure, Mapping):
        for key in _sorted_keys(structure):
            _collect(structure[key], found)
    elif isinstance(structure, list | tuple):
        for item in structure:
            _collect(item, found)
    else:
        found.append(structure)


def pack_sequence_as(structure: Any, flat_sequence: Sequence[Any]) -> Any:
    """The leaves of `flat_sequence` in the shape of `structure`; ValueError if their number differs.

    >>> import numtape as nt
    >>> nt.nest.pack_sequence_as({"b": [0, (0,)], "a": 0}, [1, 3, 4])
    {'b': [3, (4,)], 'a': 1}
    """
    flat = list(flat_sequence)
    count = len(flatten(structure))
    if count != len(flat):
        raise ValueError(f"the structure has {count} leaves, but {len(flat)} were given")
    return _pack(structure, iter(flat))


def _pack(structure: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(structure, Mapping):
        packed = {key: _pack(structure[key], leaves) for key in _sorted_keys(structure)}
        ordered = {key: packed[key] for key in structure}
        if isinstance(structure, defaultdict):
            return type(structure)(structure.default_factory, ordered)
        return ordered if type(structure) is dict else type(structure)(ordered)  # type: ignore[call-arg]
    if isinstance(structure, list | tuple):
        items = [_pack(item, leaves) for item in structure]
        kind = type(structure)
        return kind(*items) if hasattr(kind, "_fields") else kind(items)
    return next(leaves)


def map_structure(func: Callable[..., Any], *structure: Any) -> Any:
    """`func` of the corresponding leaves of structures that are alike, in the same structure.

    >>> import numtape as nt
    >>> nt.nest.map_structure(lambda a, b: a + b, {"x": [1, 2]}, {"x": [10, 20]})
    {'x': [11, 22]}
    """
    first, *others = structure
    for other in others:
        assert_same_structure(first, other)
    return pack_sequence_as(first, [func(*leaves) for leaves in zip(*map(flatten, structure), strict=True)])


def assert_same_structure(nest1: Any, nest2: Any) -> None:
    """Raise ValueError where two structures differ in nesting, TypeError where they differ in the kind of a container.

    >>> import numtape as nt
    >>> nt.nest.assert_same_structure([1, {"a": 2}], [3, {"a": 4}])
    """
    if is_nested(nest1) != is_nested(nest2):
        raise ValueError(f"the structures differ: {nest1!r} against {nest2!r}")
    if not is_nested(nest1):
        return
    if isinstance(nest1, Mapping) != isinstance(nest2, Mapping) or isinstance(nest1, list) != isinstance(nest2, list):
        raise TypeError(f"the structures differ: {type(nest1).__name__} against {type(nest2).__name__}")
    if isinstance(nest1, Mapping):
        if set(nest1) != set(nest2):
            raise ValueError(f"the structures differ: keys {sorted(nest1)} against {sorted(nest2)}")
        pairs = [(nest1[key], nest2[key]) for key in nest1]
    else:
        if len(nest1) != len(nest2):
            raise ValueError(f"the structures differ: {len(nest1)} items against {len(nest2)}")
        pairs = list(zip(nest1, nest2, strict=True))
    for a, b in pairs:
        assert_same_structure(a, b)


def _sorted_keys(mapping: Mapping[Any, Any]) -> list[Any]:
    try:
        return sorted(mapping)
    except TypeError:
        raise TypeError(f"the keys of a dict in a structure must sort; got {list(mapping)}") from None
