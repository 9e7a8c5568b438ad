"""Gather: elements picked at places that other tensors name, and what carries their gradients back.

Every public function here comes down to `take_rows` and its transpose `add_rows`, each the gradient of the other, on
one canonical shape; reshapes lead there at no cost. Rows of a table, which is what `gather` picks along the first
axis, have a pair of their own, `look_up` and `spread`: a gradient that is nothing but spread rows can be given back as
these rows and their indices. An index that is out of range reads nothing and writes nothing: it picks 0 and drops what
it was to add, as TensorFlow does on GPUs, where kernels cannot raise either.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from numtape.dtypes import DType, as_dtype, bool_, float32, float64, int32, int64, tensor_type
from numtape.ir.kernel import Kernel
from numtape.ir.op import Example, Gradient, Kind, Op, register
from numtape.ops.core import (
    Shape,
    Tensor,
    TensorType,
    apply,
    check_kind,
    composite,
    default_dtype,
    describe,
    freeze,
    instruction,
    normalize_axis,
    public,
)
from numtape.ops.core import broadcast as broadcast_shapes
from numtape.ops.creation import range_
from numtape.ops.elementwise import convert, square, where
from numtape.ops.movement import Call, broadcast, permute, reshape_to
from numtape.ops.rearrange import concat, integer, number_of, reshape
from numtape.ops.reduction import sum_
from numtape.ops.transcendental import sqrt

# ---- instructions -----------------------------------------------------------------------------------------------


def element(dtype: DType) -> str:
    return f"u{8 * dtype.itemsize}*"


def _infer_take(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    x, indices = types
    check_kind("gather", indices, "integer")
    if x.rank != 4 or indices.rank != 2 or x.shape[0] != indices.shape[0]:
        raise ValueError(f"gather: {describe(types)} are not (batch, outer, length, inner) and (batch, count)")
    return tensor_type(x.dtype, (*x.shape[:2], indices.shape[1], x.shape[3]))


def _infer_add(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    (x, indices), (length, _) = types, attributes
    check_kind("scatter", x, "number")
    check_kind("scatter", indices, "integer")
    if x.rank != 4 or indices.shape != (x.shape[0], x.shape[2]):
        raise ValueError(f"scatter: {describe(types)} are not (batch, outer, count, inner) and (batch, count)")
    return tensor_type(x.dtype, (*x.shape[:2], length, x.shape[3]))


def places_of(indices: Any, length: int, wrap: bool) -> Any:
    """Indices as they are meant, and `length` for those out of range."""
    places = indices.astype(np.int64)
    if wrap:
        places = np.where(places < 0, places + length, places)
    return np.where((places >= 0) & (places < length), places, length)


def _take_reference(x: Any, indices: Any, wrap: bool) -> Any:
    batch, outer, length, inner = x.shape
    padded = np.concatenate([x, np.zeros((batch, outer, 1, inner), x.dtype)], axis=2)
    picked = padded[np.arange(batch)[:, None], :, places_of(indices, length, wrap)]
    return np.moveaxis(picked, 1, 2)


def _add_reference(x: Any, indices: Any, length: int, wrap: bool) -> Any:
    batch, outer, _, inner = x.shape
    out = np.zeros((batch, outer, length + 1, inner), x.dtype)
    where: Any = (np.arange(batch)[:, None], slice(None), places_of(indices, length, wrap))
    np.add.at(out, where, np.moveaxis(x, 2, 1))
    return out[:, :, :length]


_TAKE = """\
def kernel(out, x, indices, batches, outer, length, count, inner, wrap):
    to = 0
    for b in range(batches):
        for o in range(outer):
            row = (b * outer + o) * length
            for m in range(count):
                j = i64(indices[b * count + m])
                if j < 0:
                    j += wrap
                if j >= 0 and j < length:
                    start = (row + j) * inner
                    for i in range(inner):
                        out[to + i] = x[start + i]
                else:
                    for i in range(inner):
                        out[to + i] = 0
                to += inner
"""

_TAKE_ELEMENTS = """\
def kernel(out, x, indices, batches, outer, length, count, wrap):
    to = 0
    for b in range(batches):
        for o in range(outer):
            row = (b * outer + o) * length
            for m in range(count):
                j = i64(indices[b * count + m])
                if j < 0:
                    j += wrap
                if j >= 0 and j < length:
                    out[to + m] = x[row + j]
                else:
                    out[to + m] = 0
            to += count
"""

_ADD = """\
def kernel(out, x, indices, batches, outer, length, count, inner, wrap):
    for k in range(batches * outer * length * inner):
        out[k] = 0
    at = 0
    for b in range(batches):
        for o in range(outer):
            row = (b * outer + o) * length
            for m in range(count):
                j = i64(indices[b * count + m])
                if j < 0:
                    j += wrap
                if j >= 0 and j < length:
                    start = (row + j) * inner
                    for i in range(inner):
                        out[start + i] += x[at + i]
                at += inner
"""


def _take_kernel(out: TensorType, types: Sequence[TensorType], wrap: bool) -> Call:
    x, indices = types
    batches, outer, length, inner = x.shape
    pointers = (element(x.dtype), element(x.dtype), f"{indices.dtype.code}*")
    extents = (batches, outer, length, indices.shape[1])
    if inner == 1:
        return Kernel("gather_elements", _TAKE_ELEMENTS, (*pointers, *["i64"] * 5)), (*extents, length * wrap)
    return Kernel("gather", _TAKE, (*pointers, *["i64"] * 6)), (*extents, inner, length * wrap)


def _add_kernel(out: TensorType, types: Sequence[TensorType], length: int, wrap: bool) -> Call:
    x, indices = types
    batches, outer, count, inner = x.shape
    pointers = (f"{x.dtype.code}*", f"{x.dtype.code}*", f"{indices.dtype.code}*")
    return Kernel("scatter_add", _ADD, (*pointers, *["i64"] * 6)), (batches, outer, length, count, inner, length * wrap)


INDICES = ((-3, 3), (-2, 6))
"""Domains for a tensor and for indices into an axis of length 4: some are out of range."""

take_rows: Any = instruction(
    "gather", Kind.CALL, parameters=("x", "indices"), attributes=("wrap",), groups=("T", "I"), infer=_infer_take,
    reference=_take_reference, kernel=_take_kernel,
    gradient=lambda g, x, indices, wrap: (add_rows(g, indices, x.shape[2], wrap), None),
    doc="Rows of x (batch, outer, length, inner) at indices (batch, count): (batch, outer, count, inner). With `wrap` "
    "negative indices count from the end; out of range a row is 0.",
    examples=[
        Example(((1, 1, 4, 3), (1, 6)), {"wrap": False}, INDICES),
        Example(((2, 3, 4, 2), (2, 5)), {"wrap": True}, INDICES),
        Example(((2, 3, 4, 1), (2, 5)), {"wrap": True}, INDICES),
        Example(((1, 2, 4, 1), (1, 5)), {"wrap": False}, INDICES, (None, int32)),
        Example(((1, 1, 0, 2), (1, 3)), {"wrap": True}, INDICES),
        Example(((1, 1, 4, 2), (1, 0)), {"wrap": True}, INDICES),
    ],
)  # fmt: skip

add_rows: Any = instruction(
    "scatter_add", Kind.CALL, parameters=("x", "indices"), attributes=("length", "wrap"), groups=("T", "I"),
    infer=_infer_add, reference=_add_reference, kernel=_add_kernel,
    gradient=lambda g, indices, wrap: (take_rows(g, indices, wrap), None),
    doc="Rows of x (batch, outer, count, inner) added up at indices (batch, count): (batch, outer, length, inner).",
    examples=[
        Example(((1, 1, 6, 3), (1, 6)), {"length": 4, "wrap": False}, INDICES),
        Example(((2, 3, 7, 2), (2, 7)), {"length": 4, "wrap": True}, INDICES),
        Example(((2, 2, 5, 1), (2, 5)), {"length": 4, "wrap": True}, INDICES, (None, int32)),
        Example(((1, 1, 0, 2), (1, 0)), {"length": 3, "wrap": False}, INDICES),
        Example(((1, 1, 2, 2), (1, 2)), {"length": 0, "wrap": False}, INDICES),
    ],
)  # fmt: skip

# ---- rows of a table --------------------------------------------------------------------------------------------


def _table(x: TensorType) -> TensorType:
    """A table, or rows, in the canonical shape."""
    return tensor_type(x.dtype, (1, 1, x.shape[0], prod(x.shape[1:])))


def _vector(indices: TensorType) -> TensorType:
    return tensor_type(indices.dtype, (1, *indices.shape))


def _infer_look_up(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    x, indices = types
    check_kind("look_up", indices, "integer")
    if not x.rank or indices.rank != 1:
        raise ValueError(f"look_up: {describe(types)} are not a table and a vector of indices")
    return tensor_type(x.dtype, (*indices.shape, *x.shape[1:]))


def _infer_spread(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    (rows, indices), (length,) = types, attributes
    check_kind("spread", rows, "number")
    check_kind("spread", indices, "integer")
    if indices.rank != 1 or rows.shape[:1] != indices.shape:
        raise ValueError(f"spread: {describe(types)} are not rows and an index for each")
    return tensor_type(rows.dtype, (length, *rows.shape[1:]))


def _look_up_reference(x: Any, indices: Any) -> Any:
    picked = _take_reference(x.reshape(1, 1, len(x), prod(x.shape[1:])), indices[None], False)
    return picked.reshape(len(indices), *x.shape[1:])


def _spread_reference(rows: Any, indices: Any, length: int) -> Any:
    summed = _add_reference(rows.reshape(1, 1, len(rows), prod(rows.shape[1:])), indices[None], length, False)
    return summed.reshape(length, *rows.shape[1:])


look_up: Any = instruction(
    "look_up", Kind.CALL, parameters=("x", "indices"), groups=("T", "I"), infer=_infer_look_up,
    reference=_look_up_reference,
    kernel=lambda out, types: _take_kernel(_table(out), [_table(types[0]), _vector(types[1])], False),
    gradient=lambda g, x, indices: (spread(g, indices, x.shape[0]), None),
    doc="Rows of a table at a vector of indices; out of range a row is 0.",
    examples=[
        Example(((4, 3), (6,)), {}, INDICES), Example(((4, 2, 3), (5,)), {}, INDICES, (None, int32)),
        Example(((4,), (5,)), {}, INDICES), Example(((4, 2), (0,)), {}, INDICES),
        Example(((0, 2), (3,)), {}, INDICES),
    ],
)  # fmt: skip

spread: Any = instruction(
    "spread", Kind.CALL, parameters=("rows", "indices"), attributes=("length",), groups=("T", "I"),
    infer=_infer_spread, reference=_spread_reference,
    kernel=lambda out, types, length: _add_kernel(_table(out), [_table(types[0]), _vector(types[1])], length, False),
    gradient=lambda g, indices: (look_up(g, indices), None),
    doc="A table of zeros with rows added at a vector of indices; those out of range are dropped.",
    examples=[
        Example(((6, 3), (6,)), {"length": 4}, INDICES), Example(((5,), (5,)), {"length": 4}, INDICES, (None, int32)),
        Example(((5, 2, 3), (5,)), {"length": 4}, INDICES), Example(((0, 2), (0,)), {"length": 3}, INDICES),
        Example(((2, 2), (2,)), {"length": 0}, INDICES),
    ],
)  # fmt: skip

# ---- places -----------------------------------------------------------------------------------------------------


def _infer_flat(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    (indices,), (extents, _) = types, attributes
    check_kind("flat_index", indices, "integer")
    if indices.rank != 2 or indices.shape[1] != len(extents):
        raise ValueError(f"flat_index: {describe(types)} has no column for each of {extents}")
    return tensor_type(int64, indices.shape[:1])


def _flat_reference(indices: Any, extents: Shape, wrap: bool) -> Any:
    flat, valid = np.zeros(len(indices), np.int64), np.ones(len(indices), bool)
    for k, n in enumerate(extents):
        place = places_of(indices[:, k], n, wrap)
        flat, valid = flat * n + place, valid & (place < n)
    return np.where(valid, flat, -1)


def _flat_kernel(out: TensorType, types: Sequence[TensorType], extents: Shape, wrap: bool) -> Call:
    rank = len(extents)
    lines = [
        f"def kernel(out, indices, count, wrap, {', '.join(f'n{k}' for k in range(rank))}):",
        "    for m in range(count):",
        "        flat = 0",
        "        valid = True",
    ]
    for k in range(rank):
        lines += [
            f"        j = i64(indices[m * {rank} + {k}])",
            f"        if j < 0:\n            j += wrap * n{k}",
            f"        valid = valid and j >= 0 and j < n{k}",
            f"        flat = flat * n{k} + j",
        ]
    lines += ["        out[m] = flat if valid else -1", ""]
    parameters = ("i64*", f"{types[0].dtype.code}*", *["i64"] * (2 + rank))
    return Kernel(f"flat_index_{rank}", "\n".join(lines), parameters), (out.size, int(wrap), *extents)


flat_index = instruction(
    "flat_index", Kind.CALL, parameters=("indices",), attributes=("extents", "wrap"), groups=("I",), infer=_infer_flat,
    reference=_flat_reference, kernel=_flat_kernel, gradient=Gradient.NONE,
    doc="For each row of indices the place in a flattened tensor of shape `extents`; -1 where one is out of range.",
    examples=[
        Example(((9, 2),), {"extents": (3, 2), "wrap": False}, ((-4, 5),)),
        Example(((9, 3),), {"extents": (2, 3, 4), "wrap": True}, ((-4, 4),), (int32,)),
        Example(((3, 0),), {"extents": (), "wrap": True}), Example(((0, 2),), {"extents": (2, 2), "wrap": True}),
    ],
)  # fmt: skip


# ---- gather -----------------------------------------------------------------------------------------------------


def take(x: Any, indices: Any, axis: int, batch_dims: int = 0, wrap: bool = False) -> Any:
    """`gather` with a normalized axis, but that its gradient is always a tensor."""
    batch, outer = x.shape[:batch_dims], x.shape[batch_dims:axis]
    length, inner = x.shape[axis], x.shape[axis + 1 :]
    places = indices.shape[batch_dims:]
    rows = reshape_to(x, (prod(batch), prod(outer), length, prod(inner)))
    picked = take_rows(rows, reshape_to(indices, (prod(batch), prod(places))), wrap)
    return reshape_to(picked, (*batch, *outer, *places, *inner))


def _gather_reference(params: Any, indices: Any, axis: int | None, batch_dims: int) -> Any:
    batch_dims += indices.ndim if batch_dims < 0 else 0
    axis = (batch_dims if axis is None else axis) % params.ndim
    if batch_dims:
        inner = [_gather_reference(p, i, axis - 1, batch_dims - 1) for p, i in zip(params, indices, strict=True)]
        return np.stack(inner)
    picked = np.take(params, np.clip(indices, 0, params.shape[axis] - 1), axis)
    valid = (indices >= 0) & (indices < params.shape[axis])
    return picked * valid.reshape(valid.shape + (1,) * (params.ndim - axis - 1)).astype(params.dtype)


def _gather(values: Sequence[Any], attributes: tuple[Any, ...]) -> Any:
    (params, indices), (axis, batch_dims) = values, attributes
    check_kind("gather", indices.type, "integer")
    batch_dims = integer("gather", "batch_dims", batch_dims)
    if batch_dims < 0:
        batch_dims += indices.rank
    axis = normalize_axis("gather", batch_dims if axis is None else axis, params.rank)
    both = describe([params.type, indices.type])
    if not 0 <= batch_dims <= min(axis, indices.rank):
        raise ValueError(f"gather: batch_dims {batch_dims} goes beyond axis {axis} or the rank of the indices: {both}")
    if params.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise ValueError(f"gather: {both} differ in the first {batch_dims} axes, which are to be the batch")
    if axis or batch_dims:
        return take(params, indices, axis, batch_dims)
    picked = look_up(params, reshape_to(indices, (indices.type.size,)))
    return reshape_to(picked, (*indices.shape, *params.shape[1:]))


_GATHER = register(Op(
    "nt.gather", Kind.COMPOSITE, ("params", "indices"), ("axis", "batch_dims"), expand=_gather, groups=("T", "I"),
    reference=_gather_reference, doc="Slices along an axis.",
    examples=(
        Example(((4, 3), (2, 2)), {"axis": None, "batch_dims": 0}, INDICES),
        Example(((3, 4), (5,)), {"axis": -1, "batch_dims": 0}, INDICES, (None, int32)),
        Example(((2, 4, 3), ()), {"axis": 1, "batch_dims": 0}, INDICES),
        Example(((2, 4, 3), (2, 5)), {"axis": None, "batch_dims": 1}, INDICES),
        Example(((2, 3, 4, 2), (2, 5)), {"axis": 2, "batch_dims": 1}, INDICES),
        Example(((2, 3, 4), (2, 3, 2)), {"axis": -1, "batch_dims": -1}, INDICES),
        Example(((4, 3), (0,)), {"axis": 0, "batch_dims": 0}, INDICES),
    ),
))  # fmt: skip


@public(_GATHER, "gather")
def gather(params: Any, indices: Any, axis: int | None = None, batch_dims: int = 0, name: Any = None) -> Any:
    """Slices of `params` along `axis` at `indices`, which may have any shape and any integer dtype.

    Shapes: params (batch, outer, length, inner) and indices (batch, places) give (batch, outer, places, inner), where
    `batch_dims` axes are the batch and `axis` (by default the first after it) has the length. An index from outside
    0 to length - 1 is an IndexError if it is given as a Python number or NumPy array; one in a tensor gives zeros.
    Gradients of an index that occurs several times add up. Along the first axis, without a batch, the gradient of
    `params` is an `nt.IndexedSlices`, which costs what was gathered.

    >>> nt.gather([[1, 2], [3, 4], [5, 6]], [2, 0, 2]).numpy()
    array([[5, 6],
           [1, 2],
           [5, 6]], dtype=int32)
    >>> nt.gather([[1, 2, 3], [4, 5, 6]], [[0], [2]], batch_dims=1).numpy()
    array([[1],
           [6]], dtype=int32)
    """
    _check_range("gather", params, indices, batch_dims if axis is None else axis)
    return apply(_GATHER, (params, indices), (freeze(axis), freeze(batch_dims)))


def _check_range(name: str, params: Any, indices: Any, axis: Any) -> None:
    """IndexError if one of the indices that are known at the call is out of range."""
    if not isinstance(indices, int | list | tuple | np.ndarray | np.integer):
        return
    shape, part = [], params
    while isinstance(part, list | tuple) and part:
        shape.append(len(part))
        part = part[0]
    shape += getattr(part, "shape", ())
    leaves = [indices]
    while leaves and isinstance(leaves[0], list | tuple):
        leaves = [x for leaf in leaves if isinstance(leaf, list | tuple) for x in leaf]
    if not all(isinstance(x, int | np.integer | np.ndarray) for x in leaves):
        return
    known = np.concatenate([np.ravel(x) for x in leaves]) if leaves else np.zeros(0, int)
    if known.size and known.dtype.kind in "iu" and isinstance(axis, int) and -len(shape) <= axis < len(shape):
        length = shape[axis]
        low, high = known.min(), known.max()
        if low < 0 or high >= length:
            raise IndexError(f"{name}: index {low if low < 0 else high} is out of range for an axis of length {length}")


def _gather_nd_reference(params: Any, indices: Any, batch_dims: int) -> Any:
    if batch_dims:
        return np.stack([_gather_nd_reference(p, i, batch_dims - 1) for p, i in zip(params, indices, strict=True)])
    extents = params.shape[: indices.shape[-1]]
    valid = ((indices >= 0) & (indices < np.array(extents, np.int64))).all(axis=-1)
    picked = params[tuple(np.where(valid[..., None], indices, 0).astype(np.int64)[..., k] for k in range(len(extents)))]
    if not extents:
        picked = np.broadcast_to(params, valid.shape + params.shape)
    return picked * valid.reshape(valid.shape + (1,) * (picked.ndim - valid.ndim)).astype(params.dtype)


@composite(
    groups=("T", "I"),
    reference=_gather_nd_reference,
    examples=[
        Example(((4, 3), (6, 1)), {"batch_dims": 0}, INDICES),
        Example(((3, 4, 2), (2, 3, 2)), {"batch_dims": 0}, ((-3, 3), (-1, 4))),
        Example(((3, 4), (9, 2)), {"batch_dims": 0}, ((-3, 3), (-1, 4)), (None, int32)),
        Example(((3, 4), (2,)), {"batch_dims": 0}, ((-3, 3), (0, 3))),
        Example(((2, 3, 4), (2, 5, 2)), {"batch_dims": 1}, ((-3, 3), (-1, 4))),
        Example(((2, 3), (4, 0)), {"batch_dims": 0}),
    ],
)
def gather_nd(params: Tensor, indices: Tensor, batch_dims: int = 0) -> Any:
    """Slices of `params` at index vectors: the last axis of `indices` holds one index for each of its leading axes.

    Shapes: indices (batch, places, k) give (batch, places, params.shape[batch_dims + k:]). An index vector out of
    range gives zeros.

    >>> nt.gather_nd([[1, 2], [3, 4]], [[0, 1], [1, 0]]).numpy()
    array([2, 3], dtype=int32)
    """
    check_kind("gather_nd", indices.type, "integer")
    batch_dims = integer("gather_nd", "batch_dims", batch_dims)
    both = describe([params.type, indices.type])
    depth = indices.shape[-1] if indices.rank else 0
    if not 0 <= batch_dims < indices.rank or batch_dims + depth > params.rank:
        raise ValueError(f"gather_nd: {both}: index vectors of {depth} after {batch_dims} batch axes do not fit")
    if params.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise ValueError(f"gather_nd: {both} differ in the first {batch_dims} axes, which are to be the batch")
    if depth == 1 and indices.rank == 2 and not batch_dims:
        return look_up(params, reshape_to(indices, indices.shape[:1]))
    batch, places = indices.shape[:batch_dims], indices.shape[batch_dims:-1]
    extents, inner = params.shape[batch_dims : batch_dims + depth], params.shape[batch_dims + depth :]
    flat = flatten_indices(indices, extents)
    rows = reshape_to(params, (prod(batch), 1, prod(extents), prod(inner)))
    picked = take_rows(rows, reshape_to(flat, (prod(batch), prod(places))), False)
    return reshape_to(picked, (*batch, *places, *inner))


def flatten_indices(indices: Any, extents: Shape, wrap: bool = False) -> Any:
    """Index vectors along the last axis as places in a flattened tensor: a vector of them."""
    count = prod(indices.shape[:-1])
    if len(extents) == 1 and not wrap:
        return reshape_to(indices, (count,))
    return flat_index(reshape_to(indices, (count, len(extents))), extents, wrap)


def _along_reference(arr: Any, indices: Any, axis: int | None) -> Any:
    if axis is None:
        arr, axis = arr.reshape(-1), 0
    n = arr.shape[axis]
    places = places_of(indices, n, True)
    shape = list(np.broadcast_shapes(np.delete(arr.shape, axis), np.delete(places.shape, axis)))
    axis %= arr.ndim
    arr = np.broadcast_to(arr, (*shape[:axis], n, *shape[axis:]))
    places = np.broadcast_to(places, (*shape[:axis], places.shape[axis], *shape[axis:]))
    return np.take_along_axis(arr, np.minimum(places, n - 1), axis) * (places < n).astype(arr.dtype)


@composite(
    groups=("T", "I"),
    reference=_along_reference,
    examples=[
        Example(((2, 4), (2, 5)), {"axis": -1}, ((-3, 3), (-5, 6))),
        Example(((4, 3), (2, 3)), {"axis": 0}, ((-3, 3), (-5, 6)), (None, int32)),
        Example(((2, 4, 3), (1, 2, 3)), {"axis": 1}, ((-3, 3), (-5, 6))),
        Example(((1, 4), (3, 2)), {"axis": 1}, ((-3, 3), (-5, 6))), Example(((2, 2), (3,)), {"axis": None}, INDICES),
    ],
)  # fmt: skip
def take_along_axis(arr: Tensor, indices: Tensor, axis: int | None) -> Any:
    """Elements along `axis`, each row of `indices` picking from its own row: what undoes `nt.argsort`.

    All other axes broadcast; negative indices count from the end; out of range the result is 0. Without an axis
    (None) the tensor is flattened first.

    >>> nt.take_along_axis([[10, 20, 30], [40, 50, 60]], [[2, 0], [1, -1]], axis=1).numpy()
    array([[30, 10],
           [50, 60]], dtype=int32)
    """
    check_kind("take_along_axis", indices.type, "integer")
    if axis is None:
        arr, axis = reshape_to(arr, (arr.type.size,)), 0
    if arr.rank != indices.rank:
        raise ValueError(f"take_along_axis: {describe([arr.type, indices.type])} differ in rank")
    axis = normalize_axis("take_along_axis", axis, arr.rank)
    others = [s[:axis] + s[axis + 1 :] for s in (arr.shape, indices.shape)]
    rows = broadcast_shapes("take_along_axis", *others)
    last = (*(a for a in range(arr.rank) if a != axis), axis)
    length, count = arr.shape[axis], indices.shape[axis]
    x = reshape_to(broadcast(permute(arr, last), (*rows, length)), (prod(rows), 1, length, 1))
    places = reshape_to(broadcast(permute(indices, last), (*rows, count)), (prod(rows), count))
    picked = reshape_to(take_rows(x, places, True), (*rows, count))
    return permute(picked, (*range(axis), arr.rank - 1, *range(axis, arr.rank - 1)))


# ---- embeddings -------------------------------------------------------------------------------------------------


def _look_up_embeddings(values: Sequence[Any], attributes: tuple[Any, ...]) -> Any:
    (params, ids), (max_norm,) = values, attributes
    check_kind("embedding_lookup", ids.type, "integer")
    if not params.rank:
        raise ValueError(f"embedding_lookup: {describe([params.type])} has no rows")
    rows = reshape_to(look_up(params, reshape_to(ids, (ids.type.size,))), (*ids.shape, *params.shape[1:]))
    if max_norm is None:
        return rows
    check_kind("embedding_lookup", params.type, "float")
    limit = params.builder.constant(number_of(params.dtype, "embedding_lookup", "max_norm", max_norm), params.dtype)
    squares = sum_(square(rows), tuple(range(ids.rank, rows.rank)))
    # The root of 0 has no gradient, and a row of zeros stays as it is.
    norm = sqrt(where(squares > 0, squares, 1))
    return rows * where((squares > 0) & (norm > limit), limit / norm, 1)


def _embeddings_reference(params: Any, ids: Any, max_norm: float | None) -> Any:
    rows = _gather_reference(params, ids, 0, 0)
    if max_norm is None:
        return rows
    norm = np.sqrt(np.square(rows).sum(axis=tuple(range(ids.ndim, rows.ndim)), keepdims=True))
    return rows * (max_norm / np.maximum(norm, max_norm))


_EMBEDDING = register(Op(
    "nt.nn.embedding_lookup", Kind.COMPOSITE, ("params", "ids"), ("max_norm",), expand=_look_up_embeddings,
    groups=("T", "I"), reference=_embeddings_reference, doc="Rows of a table.",
    examples=(
        Example(((4, 3), (2, 2)), {"max_norm": None}, INDICES),
        Example(((4, 3), (5,)), {"max_norm": 2.0}, INDICES, (float64, int32)),
        Example(((4,), (5,)), {"max_norm": 1.5}, ((-3, 3), (0, 4)), (float64, None)),
    ),
))  # fmt: skip


@public(_EMBEDDING, "nn.embedding_lookup")
def embedding_lookup(params: Any, ids: Any, max_norm: Any = None, name: Any = None) -> Any:
    """Rows of the table `params` at `ids`, which may have any shape and any integer dtype.

    Shapes: params (length, inner) and ids (places) give (places, inner). With `max_norm` rows of a larger Euclidean
    norm are scaled down to it. A list of tables stands for one, in which they follow one another. The gradient of a
    table is an `nt.IndexedSlices`, as for `nt.gather`; so are indices out of range.

    >>> nt.nn.embedding_lookup([[[1.0, 2.0], [3.0, 4.0]]], [1, 1]).numpy()
    array([[3., 4.],
           [3., 4.]], dtype=float32)
    """
    if isinstance(params, list | tuple):
        params = params[0] if len(params) == 1 else concat(params, 0)
    _check_range("embedding_lookup", params, ids, 0)
    return apply(_EMBEDDING, (params, ids), (freeze(max_norm),))


# ---- masks ------------------------------------------------------------------------------------------------------


def _one_hot_reference(indices: Any, depth: int, on_value: Any, off_value: Any, axis: int, dtype: Any) -> Any:
    on, off = 1 if on_value is None else on_value, 0 if off_value is None else off_value
    hit = np.moveaxis(indices[..., None] == np.arange(depth), -1, axis)
    return np.where(hit, on, off).astype(as_dtype(dtype or float32).dtype)


@composite(
    groups=("I",),
    reference=_one_hot_reference,
    examples=[
        Example(((3,),), {"depth": 4, "on_value": None, "off_value": None, "axis": -1, "dtype": None}, ((-1, 5),)),
        Example(((2, 3),), {"depth": 3, "on_value": 5, "off_value": -1, "axis": 1, "dtype": int32}, ((0, 3),)),
        Example(((2,),), {"depth": 3, "on_value": 2.5, "off_value": None, "axis": 0, "dtype": None}, ((0, 3),)),
        Example(((),), {"depth": 3, "on_value": None, "off_value": None, "axis": -1, "dtype": bool_}, ((0, 3),)),
    ],
)  # fmt: skip
def one_hot(
    indices: Tensor, depth: int, on_value: Any = None, off_value: Any = None, axis: int = -1, dtype: Any = None
) -> Any:
    """A new axis of length `depth` that is `on_value` (1) at the index and `off_value` (0) elsewhere.

    The dtype is that of the values if they are given, else float32. An index out of range is off everywhere.

    >>> nt.one_hot([0, 2, -1], 3).numpy()
    array([[1., 0., 0.],
           [0., 0., 1.],
           [0., 0., 0.]], dtype=float32)
    """
    check_kind("one_hot", indices.type, "integer")
    depth = integer("one_hot", "depth", depth)
    if depth < 0:
        raise ValueError(f"one_hot: depth {depth} is negative")
    given = [v for v in (on_value, off_value) if v is not None]
    kind = as_dtype(dtype) if dtype is not None else default_dtype(given[0]) if given else float32
    on_value = kind.dtype.type(1).item() if on_value is None else on_value
    off_value = kind.dtype.type(0).item() if off_value is None else off_value
    axis = normalize_axis("one_hot", axis, indices.rank + 1)
    shape = indices.shape
    places = convert(reshape_to(indices, (*shape[:axis], 1, *shape[axis:])), int64)
    ramp = reshape_to(range_(places, depth), (depth,) + (1,) * (len(shape) - axis))
    on, off = (
        indices.builder.constant(number_of(kind, "one_hot", what, value), kind)
        for what, value in (("on_value", on_value), ("off_value", off_value))
    )
    return where(places == ramp, on, off)


@public(gather.op, "boolean_mask")
def boolean_mask(tensor: Any, mask: Any, axis: int = 0, name: Any = None) -> Any:
    """The slices of `tensor` where a mask holds; the axes of the mask stand from `axis` on in the tensor.

    How many there are depends on the mask, so its elements are read at the call: a mask that was only recorded so far
    is computed. `nt.where(mask, tensor, 0)` keeps the shape and waits for nothing.

    >>> nt.boolean_mask([1, 2, 3, 4], [True, False, True, False]).numpy()
    array([1, 3], dtype=int32)
    """
    chosen = np.asarray(mask)
    shape = np.shape(tensor) if isinstance(tensor, list | tuple) else tensor.shape
    if chosen.dtype != bool:
        raise TypeError(f"boolean_mask: the mask needs boolean elements, got {chosen.dtype}; compare it, as in x > 0")
    axis = normalize_axis("boolean_mask", axis, len(shape))
    stop = axis + chosen.ndim
    if not chosen.ndim or tuple(shape[axis:stop]) != chosen.shape:
        raise ValueError(
            f"boolean_mask: a mask of shape {chosen.shape} does not fit shape {tuple(shape)} from axis {axis} on"
        )
    flat = reshape(tensor, (*shape[:axis], chosen.size, *shape[stop:]))
    return gather(flat, np.flatnonzero(chosen), axis=axis)
