"""Scatter: elements added, replaced and merged at places that other tensors name.

A new tensor of zeros with something added is `add_rows`. What changes a tensor at some places is an *update* of rows
on the canonical shapes (length, inner), (count,) and (count, inner): it costs the rows that change where nobody needs
the tensor before any more, and a copy of it elsewhere. An index that is out of range writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from numtape.dtypes import int32, int64, tensor_type
from numtape.ir.kernel import Kernel, Scratch
from numtape.ir.op import Example, Gradient, Kind, Op, Rule
from numtape.ops.core import (
    Shape,
    Tensor,
    TensorType,
    check_group,
    check_kind,
    composite,
    describe,
    instruction,
)
from numtape.ops.creation import range_
from numtape.ops.elementwise import convert, where
from numtape.ops.gather import INDICES, add_rows, element, flatten_indices, look_up, places_of, spread
from numtape.ops.movement import Call, broadcast, copy, reshape_to
from numtape.ops.rearrange import integer, integer_list


def _infer_writer(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    check_kind("last_writer", types[0], "integer")
    return tensor_type(int64, attributes)


def _writer_reference(indices: Any, length: int) -> Any:
    out = np.full(length + 1, -1, np.int64)
    np.maximum.at(out, places_of(indices, length, False), np.arange(len(indices)))
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

# ---- updates ----------------------------------------------------------------------------------------------------


def _infer_update(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    x, indices, rows = types
    check_group("update", [x, rows])
    check_kind("update", indices, "integer")
    if x.rank != 2 or rows.shape != (*indices.shape, x.shape[1]):
        raise ValueError(f"update: {describe(types)} are not (length, inner), (count,) and (count, inner)")
    return x


_UPDATE = """\
def kernel(out, indices, rows, length, count, inner):
    for m in range(count):
        j = i64(indices[m])
        if j >= 0 and j < length:
            to = j * inner
            at = m * inner
            for i in range(inner):
                out[to + i] = {expression}
"""


def _update(name: str, expression: str, ufunc: Any, doc: str, kind: str, gradient: Rule | Gradient) -> Any:
    """An update by an expression in the old and the new element; `ufunc` is the same in NumPy, None for the new one."""

    def infer(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
        check_kind(name, types[0], kind)
        return _infer_update(types, attributes)

    def reference(x: Any, indices: Any, rows: Any) -> Any:
        out = np.concatenate([x, x[:1]]) if len(x) else np.zeros((1, *x.shape[1:]), x.dtype)
        places = places_of(indices, len(x), False)
        if ufunc:
            ufunc.at(out, places, rows)
        else:
            for at, row in zip(places, rows, strict=True):
                out[at] = row
        return out[:-1]

    def kernel(out: TensorType, types: Sequence[TensorType]) -> Call:
        text = _UPDATE.format(expression=expression.replace("old", "out[to + i]").replace("new", "rows[at + i]"))
        code = f"{out.dtype.code}*" if ufunc else element(out.dtype)
        parameters = (code, f"{types[1].dtype.code}*", code, *["i64"] * 3)
        return Kernel(name, text, parameters), (out.shape[0], *types[2].shape)

    return instruction(
        name, Kind.UPDATE, parameters=("x", "indices", "rows"), groups=("T", "I", "T"), infer=infer,
        reference=reference, kernel=kernel, gradient=gradient, doc=doc,
        examples=[
            Example(((4, 3), (6,), (6, 3)), {}, ((0.5, 3), (-2, 6), (0.5, 3))),
            Example(((4, 2), (5,), (5, 2)), {}, ((1, 4), (0, 4), (1, 4)), (None, int32, None)),
            Example(((4, 2), (0,), (0, 2)), {}, INDICES), Example(((0, 2), (2,), (2, 2)), {}, INDICES),
        ],
    )  # fmt: skip


def _replaced_gradient(g: Any, indices: Any, rows: Any) -> Any:
    last = look_up(last_writer(indices, g.shape[0]), indices) == range_(indices, indices.shape[0], int64)
    own = where(reshape_to(last, (*last.shape, 1)), look_up(g, indices), 0)
    return replace_rows(g, indices, g.builder.constant(0.0, g.dtype, rows.shape)), None, own


replace_rows: Any = _update(
    "replace_rows", "new", None, "Rows replaced; of several at one index the last counts.", "any", _replaced_gradient,
)  # fmt: skip
increase_rows: Any = _update(
    "increase_rows", "old + new", np.add, "Rows with others added.", "number",
    lambda g, indices: (g, None, look_up(g, indices)),
)  # fmt: skip
UPDATES = {
    "update": replace_rows,
    "add": increase_rows,
    "sub": lambda x, indices, rows: increase_rows(x, indices, -rows),
    "mul": _update("multiply_rows", "old * new", np.multiply, "Rows times others.", "number", Gradient.NONE),
    "div": _update("divide_rows", "old / new", np.divide, "Rows divided by others.", "float", Gradient.NONE),
    "max": _update("raise_rows", "maximum(old, new)", np.maximum, "Rows, or the larger.", "number", Gradient.NONE),
    "min": _update("lower_rows", "minimum(old, new)", np.minimum, "Rows, or the smaller.", "number", Gradient.NONE),
}
"""By TensorFlow's names. Those that only Variables have pass no gradient: a Variable's new value has no history."""


def _infer_overwrite(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    if types[0] is not types[1]:
        raise ValueError(f"overwrite: {describe(types)} are not of one dtype and shape")
    return types[1]


overwrite = instruction(
    "overwrite", Kind.UPDATE, parameters=("x", "new"), groups=("T", "T"), infer=_infer_overwrite,
    reference=lambda x, new: new.copy(), gradient=lambda g: (None, g),
    kernel=lambda out, types: copy(out.dtype, (out.size,), (1,), (1,)),
    doc="The second operand, in the memory of the first.", examples=[Example(((2, 3), (2, 3))), Example(((), ()))],
)  # fmt: skip


def replace(table: Any, indices: Any, rows: Any) -> Any:
    """A table of any rank with rows in place of those at a vector of indices."""
    inner = prod(table.shape[1:])
    new = replace_rows(reshape_to(table, (table.shape[0], inner)), indices, reshape_to(rows, (rows.shape[0], inner)))
    return reshape_to(new, table.shape)


def updated(name: str, how: str, tensor: Any, indices: Any, updates: Any) -> Any:
    """A tensor updated at index vectors, which are along the last axis of `indices`."""
    check_group(name, [tensor.type, updates.type])
    depth = _check_updates(name, indices.type, updates.type, tensor.shape)
    length, inner = prod(tensor.shape[:depth]), prod(tensor.shape[depth:])
    flat = flatten_indices(indices, tensor.shape[:depth])
    rows = reshape_to(updates, (flat.shape[0], inner))
    return reshape_to(UPDATES[how](reshape_to(tensor, (length, inner)), flat, rows), tensor.shape)


def _scatter_op(how: str, vectors: bool) -> Op:
    name = f"scatter_nd_{how}" if vectors else f"scatter_{how}"

    def expand(values: Sequence[Any], attributes: tuple[Any, ...]) -> Any:
        tensor, indices, updates = values
        if not vectors:
            wanted = (*indices.shape, *tensor.shape[1:])
            indices = reshape_to(indices, (*indices.shape, 1))
            if not updates.rank:
                updates = broadcast(updates, wanted)
        return updated(name, how, tensor, indices, updates)

    return Op(name, Kind.COMPOSITE, ("tensor", "indices", "updates"), expand=expand, groups=("T", "I", "T"))


SCATTERS = {f"scatter_{how}": _scatter_op(how, False) for how in UPDATES} | {
    f"scatter_nd_{how}": _scatter_op(how, True) for how in UPDATES
}
"""Updates of a Variable by method: rows at indices, where a single number stands for all, or at index vectors."""

# ---- rows of one index become one -------------------------------------------------------------------------------

_FIRST = """\
def kernel(out, indices, seen, bits, count, length):
    mask = (1 << bits) - 1
    for k in range(1 << bits):
        seen[k] = -1
    for m in range(count):
        j = i64(indices[m])
        out[m] = -1
        if j >= 0 and j < length:
            at = ((j * 2654435761) >> (32 - bits)) & mask
            while seen[at] >= 0 and i64(indices[seen[at]]) != j:
                at = (at + 1) & mask
            if seen[at] < 0:
                seen[at] = m
            out[m] = seen[at]
"""
"""A table of the indices seen so far, half empty, by a multiplicative hash (Knuth) with linear probing."""


def _infer_first(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    check_kind("first_equal", types[0], "integer")
    return tensor_type(int64, types[0].shape)


def _first_reference(indices: Any, length: int) -> Any:
    first = (indices[:, None] == indices).argmax(axis=1) if len(indices) else indices
    return np.where((indices >= 0) & (indices < length), first, -1)


def _first_kernel(out: TensorType, types: Sequence[TensorType], length: int) -> tuple[Kernel, tuple[Any, ...]]:
    bits = max(out.size, 1).bit_length() + 1
    kernel = Kernel("first_equal", _FIRST, ("i64*", f"{types[0].dtype.code}*", "i64*", *["i64"] * 3))
    return kernel, (Scratch(8 << bits), bits, out.size, length)


first_equal: Any = instruction(
    "first_equal", Kind.CALL, parameters=("indices",), attributes=("length",), groups=("I",), infer=_infer_first,
    reference=_first_reference, kernel=_first_kernel, gradient=Gradient.NONE,
    doc="For each index the position of the first that equals it, or -1 if it is not from 0 to `length` - 1.",
    examples=[
        Example(((9,),), {"length": 4}, (INDICES[1],)), Example(((40,),), {"length": 1 << 20}, ((0, 20),), (int32,)),
        Example(((70,),), {"length": 1 << 40}, ((0, 1 << 40),)), Example(((0,),), {"length": 4}),
    ],
)  # fmt: skip


def merge(rows: Any, indices: Any, length: int) -> tuple[Any, Any]:
    """Rows and a vector of indices into a table of that length, the rows of equal indices added up at the first.

    There are as many as before: those left over are zeros, with the index -1.
    """
    count = rows.shape[0]
    first = first_equal(indices, length)
    own = first == range_(first, count)
    return spread(rows, first, count), where(own, convert(indices, int64), -1)


MERGE = Op(
    "merge", Kind.COMPOSITE, ("rows", "indices"), ("length",), groups=("T", "I"),
    expand=lambda values, attributes: merge(*values, *attributes),
)  # fmt: skip
"""`merge` as an op to record."""


# ---- public -----------------------------------------------------------------------------------------------------


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
    return updated("tensor_scatter_nd_add", "add", tensor, indices, updates)


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
    return updated("tensor_scatter_nd_sub", "sub", tensor, indices, updates)


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
    return updated("tensor_scatter_nd_update", "update", tensor, indices, updates)


def _segment_reference(data: Any, segment_ids: Any, num_segments: int) -> Any:
    rank = segment_ids.ndim
    return _scatter_reference(segment_ids[..., None], data, (num_segments, *data.shape[rank:]))


@composite(
    "math.unsorted_segment_sum",
    groups=("T", "I"),
    reference=_segment_reference,
    examples=[
        Example(((6, 2), (6,)), {"num_segments": 4}, INDICES),
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
