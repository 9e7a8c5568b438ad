"""Signatures: what tells calls of a function apart that are recorded apart."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MethodType
from typing import Any

import numpy as np

from numtape import nest
from numtape.dtypes import TensorType
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.operands import as_tensor
from numtape.tape.tensor import Tensor, from_numpy
from numtape.tape.trace import note_array


def signature(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, list[Any]]:
    """What tells calls apart that are recorded apart, and the tensors among the arguments."""
    key: list[Any] = []
    tensors: list[Any] = []
    for x in args:
        kind = type(x)
        if kind is Tensor:
            key.append(x._type)
            tensors.append(x)
        elif kind is np.ndarray:
            tensor = from_numpy(x)
            note_array(tensor, x)
            key.append(tensor._type)
            tensors.append(tensor)
        else:
            _describe(x, key, tensors)
    for name in sorted(kwargs) if kwargs else ():
        key += ("keyword", name)
        _describe(kwargs[name], key, tensors)
    return tuple(key), tensors


def _describe(x: Any, key: list[Any], tensors: list[Any]) -> None:
    kind = type(x)
    if kind is float:
        key += (float, x.hex())
    elif x is None or kind in _BY_VALUE:
        key += (kind, x)
    elif kind is IndexedSlices:
        key += (kind, x.shape, x.values._type, x.indices._type)
        tensors += (x.values, x.indices)
    elif _is_tensor(x):
        tensor = as_tensor(x)
        key.append(tensor._type)
        tensors.append(tensor)
    elif isinstance(x, Mapping):
        key += (kind, len(x), *x)  # in their order, which Python may go by
        for name in sorted(x):
            _describe(x[name], key, tensors)
    elif nest.is_nested(x):
        key += (kind, len(x))
        for item in x:
            _describe(item, key, tensors)
    elif kind is MethodType:
        key += (kind, x.__func__, Identity(x.__self__))
    else:
        key.append(Identity(x))


_BY_VALUE = frozenset({bool, int, str, bytes, complex, range, type(...)})


class Identity:
    """Stands for an object in a signature: equal to what stands for the same object, which it does not keep alive."""

    __slots__ = ("_hash", "_reference")

    def __init__(self, x: Any) -> None:
        self._hash = id(x)
        try:
            self._reference: Callable[[], Any] = weakref.ref(x)
        except TypeError:
            self._reference = lambda: x

    @property
    def is_gone(self) -> bool:
        return self._reference() is None

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        x = self._reference()
        return type(other) is Identity and x is not None and x is other._reference()

    def __repr__(self) -> str:
        x = self._reference()
        return "an object that is gone" if x is None else f"{type(x).__name__} {getattr(x, 'name', '')}".rstrip()


def _is_tensor(x: Any) -> bool:
    """Whether an argument is a tensor for the function; Variables stay what they are."""
    return isinstance(x, Tensor | np.ndarray | np.generic)


def filled(arguments: Any, tensors: Sequence[Any]) -> Any:
    """The arguments with other tensors in the places of theirs."""
    given = iter(tensors)

    def fill(x: Any) -> Any:
        if type(x) is IndexedSlices:
            return IndexedSlices(next(given), next(given), x.shape)
        return next(given) if _is_tensor(x) else x

    return nest.map_structure(fill, arguments)


def leaves(key: Sequence[Any]) -> list[tuple[str, Any]]:
    """A signature for people: each leaf of the arguments by its path, the type of a tensor or a text."""
    words, found = iter(key), list[tuple[str, Any]]()
    for number, word in enumerate(words):
        if word == "keyword":
            _write(f"argument {next(words)!r}", next(words), words, found)
        else:
            _write(f"argument {number}", word, words, found)
    return found


def _write(path: str, word: Any, words: Iterator[Any], found: list[tuple[str, Any]]) -> None:
    if word is float:
        found.append((path, str(float.fromhex(next(words)))))
    elif word is type(None) or word in _BY_VALUE:
        found.append((path, repr(next(words))))
    elif word is IndexedSlices:
        found.append((path, f"IndexedSlices of shape {next(words)}, values {next(words)}, indices {next(words)}"))
    elif word is MethodType:
        found.append((path, f"method {next(words).__qualname__} of {next(words)}"))
    elif isinstance(word, type) and issubclass(word, Mapping):
        for name in sorted([next(words) for _ in range(next(words))]):
            _write(f"{path}[{name!r}]", next(words), words, found)
    elif isinstance(word, type):
        for n in range(next(words)):
            _write(f"{path}[{n}]", next(words), words, found)
    else:
        found.append((path, word if isinstance(word, TensorType) else str(word)))
