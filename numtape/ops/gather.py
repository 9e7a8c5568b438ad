"""Gather and scatter: elements picked, added and replaced at places that other tensors name.

Every public function here comes down to `take_rows` and its transpose `add_rows`, each the gradient of the other, on
one canonical shape; reshapes lead there at no cost. An index that is out of range reads nothing and writes nothing:
it picks 0 and drops what it was to add, as TensorFlow does on GPUs, where kernels cannot raise either.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from numtape.dtypes import DType, as_dtype, bool_, float32, int32, int64, tensor_type
from numtape.ir.kernel import Kernel
from numtape.ir.op import Example, Gradient, Kind
from numtape.ops.core import (
    Shape,
    Tensor,
    TensorType,
    check_group,
    check_kind,
    composite,
    default_dtype,
    describe,
    instruction,
    normalize_axis,
    public,
)
from numtape.ops.core import broadcast as broadcast_shapes
from numtape.ops.creation import range_
from numtape.ops.elementwise import convert, where
from numtape.ops.movement import Call, broadcast, permute, reshape_to
from numtape.ops.rearrange import integer, integer_list, number_of, reshape

# ---- instructions -----------------------------------------------------------------------------------------------


def _element(dtype: DType) -> str:
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


def _places(indices: Any, length: int, wrap: bool) -> Any:
    """Indices as they are meant, and `length` for those out of range."""
    places = indices.astype(np.int64)
    if wrap:
        places = np.where(places < 0, places + length, places)
    return np.where((places >= 0) & (places < length), places, length)


def _take_reference(x: Any, indices: Any, wrap: bool) -> Any:
    batch, outer, length, inner = x.shape
    padded = np.concatenate([x, np.zeros((batch, outer, 1, inner), x.dtype)], axis=2)
    picked = padded[np.arange(batch)[:, None], :, _places(indices, length, wrap)]
    return np.moveaxis(picked, 1, 2)


def _add_reference(x: Any, indices: Any, length: int, wrap: bool) -> Any:
    batch, outer, _, inner = x.shape
    out = np.zeros((batch, outer, length + 1, inner), x.dtype)
    where: Any = (np.arange(batch)[:, None], slice(None), _places(indices, length, wrap))
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
    pointers = (_element(x.dtype), _element(x.dtype), f"{indices.dtype.code}*")
    extents = (batches, outer, length, indices.shape[1])
    if inner == 1:
        return Kernel("gather_elements", _TAKE_ELEMENTS, (*pointers, *["i64"] * 5)), (*extents, length * wrap)
    return Kernel("gather", _TAKE, (*pointers, *["i64"] * 6)), (*extents, inner, length * wrap)


def _add_kernel(out: TensorType, types: Sequence[TensorType], length: int, wrap: bool) -> Call:
    x, indices = types
    batches, outer, count, inner = x.shape
    pointers = (f"{x.dtype.code}*", f"{x.dtype.code}*", f"{indices.dtype.code}*")
    return Kernel("scatter_add", _ADD, (*pointers, *["i64"] * 6)), (batches, outer, length, count, inner, length * wrap)


_INDICES = ((-3, 3), (-2, 6))
"""Domains for a tensor and for indices into an axis of length 4: some are out of range."""

take_rows: Any = instruction(
    "gather", Kind.CALL, parameters=("x", "indices"), attributes=("wrap",), groups=("T", "I"), infer=_infer_take,
    reference=_take_reference, kernel=_take_kernel,
    gradient=lambda g, x, indices, wrap: (add_rows(g, indices, x.shape[2], wrap), None),
    doc="Rows of x (batch, outer, length, inner) at indices (batch, count): (batch, outer, count, inner). With `wrap` "
    "negative indices count from the end; out of range a row is 0.",
    examples=[
        Example(((1, 1, 4, 3), (1, 6)), {"wrap": False}, _INDICES),
        Example(((2, 3, 4, 2), (2, 5)), {"wrap": True}, _INDICES),
        Example(((2, 3, 4, 1), (2, 5)), {"wrap": True}, _INDICES),
        Example(((1, 2, 4, 1), (1, 5)), {"wrap": False}, _INDICES, (None, int32)),
        Example(((1, 1, 0, 2), (1, 3)), {"wrap": True}, _INDICES),
        Example(((1, 1, 4, 2), (1, 0)), {"wrap": True}, _INDICES),
    ],
)  # fmt: skip

add_rows: Any = instruction(
    "scatter_add", Kind.CALL, parameters=("x", "indices"), attributes=("length", "wrap"), groups=("T", "I"),
    infer=_infer_add, reference=_add_reference, kernel=_add_kernel,
    gradient=lambda g, indices, wrap: (take_rows(g, indices, wrap), None),
    doc="Rows of x (batch, outer, count, inner) added up at indices (batch, count): (batch, outer, length, inner).",
    examples=[
        Example(((1, 1, 6, 3), (1, 6)), {"length": 4, "wrap": False}, _INDICES),
        Example(((2, 3, 7, 2), (2, 7)), {"length": 4, "wrap": True}, _INDICES),
        Example(((2, 2, 5, 1), (2, 5)), {"length": 4, "wrap": True}, _INDICES, (None, int32)),
        Example(((1, 1, 0, 2), (1, 0)), {"length": 3, "wrap": False}, _INDICES),
        Example(((1, 1, 2, 2), (1, 2)), {"length": 0, "wrap": False}, _INDICES),
    ],
)  # fmt: skip


def _infer_flat(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    (indices,), (extents, _) = types, attributes
    check_kind("flat_index", indices, "integer")
    if indices.rank != 2 or indices.shape[1] != len(extents):
        raise ValueError(f"flat_index: {describe(types)} has no column for each of {extents}")
    return tensor_type(int64, indices.shape[:1])


def _flat_reference(indices: Any, extents: Shape, wrap: bool) -> Any:
    flat, valid = np.zeros(len(indices), np.int64), np.ones(len(indices), bool)
    for k, n in enumerate(extents):
        place = _places(indices[:, k], n, wrap)
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


def _infer_writer(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    check_kind("last_writer", types[0], "integer")
    return tensor_type(int64, attributes)


def _writer_reference(indices: Any, length: int) -> Any:
    out = np.full(length + 1, -1, np.int64)
    np.maximum.at(out, _places(indices, length, False), np.arange(len(indices)))
    return out[:length]


def _writer_kernel(out: TensorType, types: Sequence[TensorType], length: int) -> Call:
    source = """\
def kernel(out, indices, length, count):
    for k in range(length):
        out[k] = -1
    for m in range(count):
        j = i64(indices[m])
        if j >= 0 and j < length:
            out[j] = m
"""
    return Kernel("last_writer", source, ("i64*", f"{types[0].dtype.code}*", "i64", "i64")), (length, types[0].size)


last_writer = instruction(
    "last_writer", Kind.CALL, parameters=("indices",), attributes=("length",), groups=("I",), infer=_infer_writer,
    reference=_writer_reference, kernel=_writer_kernel, gradient=Gradient.NONE,
    doc="For each place the last position at which `indices` names it, or -1.",
    examples=[
        Example(((9,),), {"length": 5}, ((-2, 7),)), Example(((4,),), {"length": 5}, ((0, 5),), (int32,)),
        Example(((0,),), {"length": 3}), Example(((2,),), {"length": 0}),
    ],
)  # fmt: skip

# ---- gather -----------------------------------------------------------------------------------------------------


def take(x: Any, indices: Any, axis: int, batch_dims: int = 0, wrap: bool = False) -> Any:
    """`gather` with a normalized axis."""
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


@composite(
    groups=("T", "I"),
    reference=_gather_reference,
    examples=[
        Example(((4, 3), (2, 2)), {"axis": None, "batch_dims": 0}, _INDICES),
        Example(((3, 4), (5,)), {"axis": -1, "batch_dims": 0}, _INDICES, (None, int32)),
        Example(((2, 4, 3), ()), {"axis": 1, "batch_dims": 0}, _INDICES),
        Example(((2, 4, 3), (2, 5)), {"axis": None, "batch_dims": 1}, _INDICES),
        Example(((2, 3, 4, 2), (2, 5)), {"axis": 2, "batch_dims": 1}, _INDICES),
        Example(((2, 3, 4), (2, 3, 2)), {"axis": -1, "batch_dims": -1}, _INDICES),
        Example(((4, 3), (0,)), {"axis": 0, "batch_dims": 0}, _INDICES),
    ],
)
def gather(params: Tensor, indices: Tensor, axis: int | None = None, batch_dims: int = 0) -> Any:
    """Slices of `params` along `axis` at `indices`, which may have any shape and any integer dtype.

    Shapes: params (batch, outer, length, inner) and indices (batch, places) give (batch, outer, places, inner), where
    `batch_dims` axes are the batch and `axis` (by default the first after it) has the length. An index from outside
    0 to length - 1 gives zeros. Gradients of an index that occurs several times add up.

    >>> nt.gather([[1, 2], [3, 4], [5, 6]], [2, 0, 2]).numpy()
    array([[5, 6],
           [1, 2],
           [5, 6]], dtype=int32)
    >>> nt.gather([[1, 2, 3], [4, 5, 6]], [[0], [2]], batch_dims=1).numpy()
    array([[1],
           [6]], dtype=int32)
    """
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
    return take(params, indices, axis, batch_dims)


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
        Example(((4, 3), (6, 1)), {"batch_dims": 0}, _INDICES),
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
    places = _places(indices, n, True)
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
        Example(((1, 4), (3, 2)), {"axis": 1}, ((-3, 3), (-5, 6))), Example(((2, 2), (3,)), {"axis": None}, _INDICES),
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


# ---- scatter ----------------------------------------------------------------------------------------------------


def _check_updates(name: str, indices: TensorType, updates: TensorType, shape: Shape) -> int:
    """The length of the index vectors, once everything fits."""
    check_kind(name, indices, "integer")
    depth = indices.shape[-1] if indices.rank else 0
    wanted = indices.shape[:-1] + shape[depth:]
    if not indices.rank or depth > len(shape) or updates.shape != wanted:
        raise ValueError(
            f"{name}: indices {describe([indices])} and updates {describe([updates])} do not fit shape {shape}: the "
            f"last axis of indices holds index vectors, so updates need shape {wanted}"
        )
    return depth


def _scattered(name: str, indices: Any, updates: Any, shape: Shape) -> Any:
    depth = _check_updates(name, indices.type, updates.type, shape)
    flat = flatten_indices(indices, shape[:depth])
    rows = reshape_to(updates, (1, 1, flat.shape[0], prod(shape[depth:])))
    return reshape_to(add_rows(rows, reshape_to(flat, (1, flat.shape[0])), prod(shape[:depth]), False), shape)


def _valid(indices: Any, shape: Shape) -> tuple[Any, Any]:
    """A mask of the index vectors in range, and the index of those for NumPy."""
    depth = indices.shape[-1]
    valid = ((indices >= 0) & (indices < np.array(shape[:depth], np.int64))).all(axis=-1)
    return valid, tuple(indices[valid][..., k] for k in range(depth))


def _scatter_reference(indices: Any, updates: Any, shape: Any) -> Any:
    out = np.zeros(shape, updates.dtype)
    valid, where = _valid(indices, out.shape)
    np.add.at(out, where, updates[valid])
    return out


_SCATTERS = [
    Example(((6, 1), (6, 3)), {"shape": [4, 3]}, ((-2, 6), (-3, 3))),
    Example(((2, 3, 2), (2, 3, 2)), {"shape": [3, 4, 2]}, ((-1, 4), (-3, 3)), (int32, None)),
    Example(((9, 2), (9,)), {"shape": [3, 4]}, ((-1, 4), (-3, 3))),
    Example(((0, 1), (0, 3)), {"shape": [4, 3]}),
]


@composite(groups=("I", "T"), reference=_scatter_reference, examples=_SCATTERS)
def scatter_nd(indices: Tensor, updates: Tensor, shape: Any) -> Any:
    """Zeros of a shape, with `updates` added at index vectors: the last axis of `indices` holds the vectors.

    Shapes: indices (places, k) and updates (places, shape[k:]). Updates at one place add up; those out of range are
    dropped.

    >>> nt.scatter_nd([[1], [3], [1]], [10, 20, 30], [5]).numpy()
    array([ 0, 40,  0, 20,  0], dtype=int32)
    """
    return _scattered("scatter_nd", indices, updates, integer_list("scatter_nd", "shape", shape))


_UPDATES = [
    Example(((4, 3), (6, 1), (6, 3)), {}, ((-3, 3), (-2, 6), (-3, 3))),
    Example(((3, 4, 2), (2, 3, 2), (2, 3, 2)), {}, ((-3, 3), (-1, 4), (-3, 3)), (None, int32, None)),
    Example(((3, 4), (9, 2), (9,)), {}, ((-3, 3), (-1, 4), (-3, 3))),
    Example(((4, 3), (0, 1), (0, 3))),
]


def _add_at_reference(tensor: Any, indices: Any, updates: Any) -> Any:
    return tensor + _scatter_reference(indices, updates, tensor.shape)


@composite(groups=("T", "I", "T"), reference=_add_at_reference, examples=_UPDATES)
def tensor_scatter_nd_add(tensor: Tensor, indices: Tensor, updates: Tensor) -> Any:
    """`tensor` with `updates` added at index vectors; shapes and rules are those of `nt.scatter_nd`.

    >>> nt.tensor_scatter_nd_add([1, 1, 1], [[0], [2], [2]], [10, 20, 30]).numpy()
    array([11,  1, 51], dtype=int32)
    """
    check_group("tensor_scatter_nd_add", [tensor.type, updates.type])
    return tensor + _scattered("tensor_scatter_nd_add", indices, updates, tensor.shape)


@composite(
    groups=("T", "I", "T"),
    reference=lambda tensor, indices, updates: tensor - _scatter_reference(indices, updates, tensor.shape),
    examples=_UPDATES,
)
def tensor_scatter_nd_sub(tensor: Tensor, indices: Tensor, updates: Tensor) -> Any:
    """`tensor` with `updates` subtracted at index vectors; shapes and rules are those of `nt.scatter_nd`.

    >>> nt.tensor_scatter_nd_sub([1, 1, 1], [[0], [2], [2]], [10, 20, 30]).numpy()
    array([ -9,   1, -49], dtype=int32)
    """
    check_group("tensor_scatter_nd_sub", [tensor.type, updates.type])
    return tensor - _scattered("tensor_scatter_nd_sub", indices, updates, tensor.shape)


def _update_reference(tensor: Any, indices: Any, updates: Any) -> Any:
    out = tensor.copy()
    valid, where = _valid(indices, out.shape)
    if where:
        out[where] = updates[valid]
    return out


@composite(groups=("T", "I", "T"), reference=_update_reference, examples=_UPDATES)
def tensor_scatter_nd_update(tensor: Tensor, indices: Tensor, updates: Tensor) -> Any:
    """`tensor` with `updates` in place of its elements at index vectors; shapes are those of `nt.scatter_nd`.

    Of several updates at one place the last counts, and it alone gets a gradient. Those out of range are dropped.

    >>> nt.tensor_scatter_nd_update([1, 1, 1, 1], [[0], [2], [2]], [10, 20, 30]).numpy()
    array([10,  1, 30,  1], dtype=int32)
    """
    name = "tensor_scatter_nd_update"
    check_group(name, [tensor.type, updates.type])
    depth = _check_updates(name, indices.type, updates.type, tensor.shape)
    length, inner = prod(tensor.shape[:depth]), prod(tensor.shape[depth:])
    flat = flatten_indices(indices, tensor.shape[:depth])
    writer = last_writer(flat, length)
    rows = reshape_to(updates, (1, 1, flat.shape[0], inner))
    written = reshape_to(take_rows(rows, reshape_to(writer, (1, length)), False), (length, inner))
    kept = reshape_to(tensor, (length, inner))
    return reshape_to(where(reshape_to(writer, (length, 1)) >= 0, written, kept), tensor.shape)


def _segment_reference(data: Any, segment_ids: Any, num_segments: int) -> Any:
    rank = segment_ids.ndim
    return _scatter_reference(segment_ids[..., None], data, (num_segments, *data.shape[rank:]))


@composite(
    "math.unsorted_segment_sum",
    groups=("T", "I"),
    reference=_segment_reference,
    examples=[
        Example(((6, 2), (6,)), {"num_segments": 4}, _INDICES),
        Example(((2, 3, 2), (2, 3)), {"num_segments": 3}, ((-3, 3), (0, 3)), (None, int32)),
        Example(((5,), (5,)), {"num_segments": 1}, ((-3, 3), (-1, 2))),
    ],
)
def unsorted_segment_sum(data: Tensor, segment_ids: Tensor, num_segments: int) -> Any:
    """Sums of the slices of `data` that share a segment id; ids out of range, such as -1, are dropped.

    Shapes: data (places, inner) and segment_ids (places) give (num_segments, inner).

    >>> nt.math.unsorted_segment_sum([1, 2, 3, 4], [0, 2, 0, -1], num_segments=3).numpy()
    array([4, 0, 2], dtype=int32)
    """
    name = "unsorted_segment_sum"
    num_segments = integer(name, "num_segments", num_segments)
    places = segment_ids.shape
    if data.shape[: len(places)] != places or num_segments < 0:
        raise ValueError(
            f"{name}: {describe([data.type, segment_ids.type])} into {num_segments} segments: data must begin with the "
            "axes of segment_ids"
        )
    shape = (num_segments, *data.shape[len(places) :])
    return _scattered(name, reshape_to(segment_ids, (*places, 1)), data, shape)


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
