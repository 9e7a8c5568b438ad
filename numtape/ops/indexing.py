"""`x[...]` by NumPy's rules: integers, slices, `...`, `None`, and integer arrays.

The static parts of a key are attributes of the recorded op; arrays and tensors in it are operands. A key becomes a box
of elements, and for integer arrays a gather after it. The shape of a result is known when it is recorded, so a boolean
mask is read at the call; it is a whole key, as in TensorFlow.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from numtape.dtypes import int64
from numtape.ir.op import Example, Kind, Op, register
from numtape.ops.core import Shape, apply
from numtape.ops.elementwise import convert
from numtape.ops.gather import boolean_mask, flatten_indices, take
from numtape.ops.movement import broadcast, concat_along, permute, reshape_to, slice_of

INDEX = "index"
"""Stands in a key for an operand."""


def getitem(x: Any, key: Any) -> Any:
    """What `x[key]` is; IndexError or TypeError at the call where it is nothing."""
    if type(key) is int:
        return apply(GETITEM, (x,), ((key,),))
    if _is_mask(key):
        return boolean_mask(x, key)
    parts: list[Any] = []
    indices: list[Any] = []
    for item in key if isinstance(key, tuple) else (key,):
        if item is None or item is Ellipsis or type(item) is int:
            parts.append(item)
        elif isinstance(item, slice):
            parts.append(("slice", *(None if n is None else _integer(n) for n in (item.start, item.stop, item.step))))
        else:
            index = _index(item)
            parts.append(index if isinstance(index, int) else INDEX)
            indices += [] if isinstance(index, int) else [index]
    if any(isinstance(index, np.ndarray) for index in indices):
        _check_arrays(x.shape, parts, indices)
    return apply(GETITEM, (*indices, x), (tuple(parts),))


def _is_mask(key: Any) -> bool:
    if isinstance(key, list):
        key = np.asarray(key) if key and isinstance(key[0], bool | np.bool_ | list) else None
    return getattr(key, "dtype", None) == np.bool_ and bool(key.shape)


def _integer(n: Any) -> int:
    try:
        return operator.index(n)
    except TypeError:
        raise TypeError(f"x[...]: the bounds and the step of a slice are integers or None, got {n!r}") from None


def _index(item: Any) -> Any:
    """An integer, or an array or tensor of integers."""
    if isinstance(item, list | tuple):
        item = np.asarray(item) if item else np.zeros(0, np.int64)
    dtype = getattr(item, "dtype", None)
    if isinstance(item, bool | np.bool_) or dtype == np.bool_:
        raise TypeError(
            "x[...]: a boolean mask is a whole key, x[mask], and has an axis at least; among other indices write "
            "nt.boolean_mask(x, mask, axis)"
        )
    if isinstance(item, np.ndarray | np.generic):
        if item.dtype.kind not in "iu":
            raise TypeError(f"x[...]: index arrays need integers, got {item.dtype}; write index.astype(np.int64)")
        return item if item.ndim else int(item)
    if getattr(dtype, "is_integer", False):
        return item
    if dtype is None and hasattr(item, "__index__"):
        return operator.index(item)
    kind = f"{item!r}" if dtype is None else f"a tensor of {dtype.name}"
    raise TypeError(f"x[...]: a key is made of integers, slices, ..., None and arrays of integers, got {kind}")


def _check_arrays(shape: Shape, parts: Sequence[Any], indices: Sequence[Any]) -> None:
    """IndexError for an element of an array that is out of range: what is known at the call is checked at the call."""
    left = iter(indices)
    for part, axis in zip(*_complete(parts, len(shape)), strict=True):
        index = next(left) if part == INDEX else None
        if isinstance(index, np.ndarray) and index.size:
            low, high = int(index.min()), int(index.max())
            if low < -shape[axis] or high >= shape[axis]:
                wrong = low if low < -shape[axis] else high
                raise _out_of_range(wrong, axis, shape)


def _out_of_range(index: int, axis: int, shape: Shape) -> IndexError:
    return IndexError(f"x[...]: index {index} is out of range for axis {axis} of shape {tuple(shape)}")


def _complete(parts: Sequence[Any], rank: int) -> tuple[list[Any], list[int]]:
    """One part for each axis, with None and (without any axis) `...` between; and the axis at which each stands."""
    used = sum(part is not None and part is not Ellipsis for part in parts)
    dots = [k for k, part in enumerate(parts) if part is Ellipsis]
    if used > rank:
        raise IndexError(f"x[...]: {used} indices for a tensor of rank {rank}")
    if len(dots) > 1:
        raise IndexError("x[...]: a key has at most one '...'")
    at = dots[0] + 1 if dots else len(parts)
    completed = [*parts[:at], *[("slice", None, None, None)] * (rank - used), *parts[at:]]
    axes, axis = [], 0
    for part in completed:
        axes.append(axis)
        axis += part is not None and part is not Ellipsis
    return completed, axes


def _expand(values: Sequence[Any], attributes: tuple[Any, ...]) -> Any:
    *indices, x = values
    parts, axes = _complete(attributes[0], x.rank)
    begin, size, step = [0] * x.rank, list(x.shape), [1] * x.rank
    shape: list[int] = []
    kept: list[int] = []
    indexed: list[int] = []
    for part, axis in zip(parts, axes, strict=True):
        if part is None:
            shape.append(1)
        elif part == INDEX:
            indexed.append(axis)
            kept.append(axis)
        elif isinstance(part, int):
            n = x.shape[axis]
            if not -n <= part < n:
                raise _out_of_range(part, axis, x.shape)
            begin[axis], size[axis] = part % n, 1
        elif part is not Ellipsis:
            chosen = range(*slice(*part[1:]).indices(x.shape[axis]))
            size[axis] = len(chosen)
            if chosen:
                begin[axis], step[axis] = chosen[0], chosen.step if len(chosen) > 1 else 1
            shape.append(size[axis])
            kept.append(axis)
    box = slice_of(x, tuple(begin), tuple(size), tuple(step))
    if not indices:
        return reshape_to(box, tuple(shape))
    picked_shape, flat, extents = _joined(indices, [x.shape[a] for a in indexed])
    box = reshape_to(box, tuple(size[a] for a in kept))
    places = [kept.index(a) for a in indexed]
    front = _result_place(parts)
    if front == 0:
        box = permute(box, (*places, *(k for k in range(box.rank) if k not in places)))
        places = list(range(len(places)))
    first = places[0]
    box = reshape_to(box, (*box.shape[:first], prod(extents), *box.shape[first + len(places) :]))
    return reshape_to(take(box, flat, first, wrap=len(extents) == 1), (*shape[:front], *picked_shape, *shape[front:]))


def _result_place(parts: Sequence[Any]) -> int:
    """Which axis of the result comes from the arrays: where they stand, or the first if something is between them."""
    advanced = [k for k, part in enumerate(parts) if part == INDEX or isinstance(part, int)]
    if advanced[-1] - advanced[0] != len(advanced) - 1:
        return 0
    return sum(part is not Ellipsis for part in parts[: advanced[0]])


def _joined(indices: Sequence[Any], extents: Sequence[int]) -> tuple[Shape, Any, Sequence[int]]:
    """The shape that index arrays broadcast to, and one vector of places for all of them."""
    try:
        shape = np.broadcast_shapes(*(index.shape for index in indices))
    except ValueError:
        listed = " and ".join(str(index.shape) for index in indices)
        raise IndexError(f"x[...]: index arrays of shapes {listed} do not broadcast against each other") from None
    if len(indices) == 1:
        return shape, reshape_to(indices[0], (prod(shape),)), extents
    columns = [reshape_to(broadcast(convert(index, int64), shape), (prod(shape), 1)) for index in indices]
    return shape, flatten_indices(concat_along(columns, 1), tuple(extents), wrap=True), extents


def _example(shape: Shape, key: tuple[Any, ...], *indices: Shape, low: int = -2, high: int = 2) -> Example:
    return Example((*indices, shape), {"key": key}, (((low, high),) * len(indices)) + ((-3, 3),))


_ALL = ("slice", None, None, None)

GETITEM = register(
    Op(
        "getitem", Kind.COMPOSITE, ("indices", "x"), ("key",), expand=_expand, groups=("I", "T"),
        doc="`x[key]`: see nt.Tensor.",
        examples=(
            _example((4, 3), (1,)),
            _example((4, 3), (-1, 0)),
            _example((5, 3), (("slice", 3, None, -2), None, Ellipsis)),
            _example((2, 3, 4), (Ellipsis, ("slice", 1, -1, None))),
            _example((2, 3), (Ellipsis,)),
            _example((4,), (("slice", 2, 2, None),)),
            _example((3, 2), (INDEX,), (4,)),
            _example((2, 3), (_ALL, INDEX), (2, 2)),
            _example((3,), (INDEX,), ()),
            _example((2, 3, 4), (_ALL, INDEX, INDEX), (2, 1), (3,)),
            _example((2, 3, 4), (INDEX, _ALL, INDEX), (3,), (3,)),
            _example((2, 3, 4), (_ALL, 0, INDEX), (3,)),
            _example((2, 3, 4), (0, _ALL, INDEX), (3,)),
            _example((3, 2), (INDEX,), (0,)),
            _example((3, 2), (INDEX,), (6,), low=-5, high=5),
        ),
    )
)
