"""Sorting along one axis.

`order` finds the permutation; what is sorted is then gathered by it, so that its gradient is scattered back. Equal
elements keep their order, and nan is greater than everything, as in NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from numtape.dtypes import Shape, as_dtype, int32, int64, tensor_type
from numtape.ir.kernel import Kernel, Scratch
from numtape.ir.op import Example, Gradient, Kind, Op, register
from numtape.ops.core import (
    Tensor,
    TensorType,
    apply,
    check_flag,
    check_kind,
    composite,
    describe,
    freeze,
    instruction,
    normalize_axis,
    public,
)
from numtape.ops.elementwise import convert
from numtape.ops.gather import take_rows
from numtape.ops.movement import inverse, permute, reshape_to
from numtape.ops.rearrange import integer

# ---- the permutation --------------------------------------------------------------------------------------------

_MERGE_SORT = """\
def kernel(out, x, a, b, rows, n, count):
    for i in range(rows):
        row = i * n
        for k in range(n):
            at = k
            while at % 8 and {earlier}:
                a[at] = a[at - 1]
                at -= 1
            a[at] = k
        width = 8
        while width < n:
            for low in range(0, n, 2 * width):
                left = low
                right = middle = minimum(low + width, n)
                high = minimum(low + 2 * width, n)
                for k in range(low, high):
                    if left == middle or (right < high and {right_first}):
                        b[k] = a[right]
                        right += 1
                    else:
                        b[k] = a[left]
                        left += 1
            a, b = b, a
            width *= 2
        for k in range(count):
            out[i * count + k] = a[k]
"""
"""Runs of eight by insertion, then merged: stable."""

_INSERTION = """\
def kernel(out, x, rows, n, count):
    for i in range(rows):
        row = i * n
        to = i * count
        for k in range(n):
            at = k
            if k >= count:
                at = count - 1
                if not {beats_last}:
                    continue
            while at and {beats}:
                out[to + at] = out[to + at - 1]
                at -= 1
            out[to + at] = k
"""
"""The first few in order, into which each element that belongs there is inserted: stable."""

FEW = 32


def _order_kernel(out: TensorType, types: Sequence[TensorType], count: int, descending: bool) -> Any:
    (x,) = types
    rows, n = x.shape

    def before(u: str, v: str) -> str:
        high, low = (u, v) if descending else (v, u)
        nan = f" or ({high} != {high} and {low} == {low})" if x.dtype.is_floating else ""
        return f"({low} < {high}{nan})"

    if count <= FEW:
        source = _INSERTION.format(
            beats_last=before("x[row + k]", "x[row + out[to + at]]"),
            beats=before("x[row + k]", "x[row + out[to + at - 1]]"),
        )
        return Kernel("sort_few", source, ("i32*", f"{x.dtype.code}*", "i64", "i64", "i64")), (rows, n, count)
    source = _MERGE_SORT.format(
        earlier=before("x[row + k]", "x[row + a[at - 1]]"),
        right_first=before("x[row + a[right]]", "x[row + a[left]]"),
    )
    kernel = Kernel("sort", source, ("i32*", f"{x.dtype.code}*", "i32*", "i32*", "i64", "i64", "i64"))
    return kernel, (Scratch(4 * n), Scratch(4 * n), rows, n, count)


def _order_reference(x: Any, count: int, descending: bool) -> Any:
    last = x.shape[1] - 1
    order = last - np.argsort(x[:, ::-1], 1, kind="stable")[:, ::-1] if descending else np.argsort(x, 1, kind="stable")
    return order[:, :count].astype(np.int32)


def _infer_order(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    (x,), (count, _) = types, attributes
    check_kind("order", x, "number")
    if x.rank != 2 or not 0 <= count <= x.shape[1] < 1 << 31:
        raise ValueError(f"order: {describe(types)} are not rows of {count} elements or more")
    return tensor_type(int32, (x.shape[0], count))


order = instruction(
    "order", Kind.CALL, attributes=("count", "descending"), infer=_infer_order, kernel=_order_kernel,
    reference=_order_reference, gradient=Gradient.NONE,
    doc="For each row the places of its first `count` elements in ascending or descending order.",
    examples=[
        Example((shape,), {"count": count, "descending": descending})
        for shape, count in (
            ((2, 5), 5), ((1, 70), 70), ((2, 40), 33), ((3, 23), 2), ((2, 1), 1), ((2, 0), 0), ((0, 3), 3),
        )
        for descending in (False, True)
    ],
)  # fmt: skip

# ---- public -----------------------------------------------------------------------------------------------------


def _last(x: Any, axis: int) -> tuple[Any, tuple[int, ...]]:
    """`x` as rows along `axis`, and the permutation that put it last."""
    perm = (*(a for a in range(x.rank) if a != axis), axis)
    moved = permute(x, perm)
    return reshape_to(moved, (prod(moved.shape[:-1]), moved.shape[-1])), perm


def _back(rows: Any, shape: Shape, perm: tuple[int, ...]) -> Any:
    return permute(reshape_to(rows, tuple(shape[a] for a in perm)), inverse(perm))


def _picked(rows: Any, places: Any) -> Any:
    """The elements of each row at its places."""
    count, length = rows.shape
    return reshape_to(take_rows(reshape_to(rows, (count, 1, length, 1)), places, False), places.shape)


def _descending(name: str, direction: Any) -> bool:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise ValueError(f"{name}: direction is 'ASCENDING' or 'DESCENDING', got {direction!r}")
    return bool(direction == "DESCENDING")


def _along(function: Any) -> Any:
    """A function of rows along the last axis, as a reference along any."""

    def reference(values: Any, axis: int, direction: str, **_: Any) -> Any:
        moved = np.moveaxis(values, axis, -1)
        rows = moved.reshape(prod(moved.shape[:-1]), moved.shape[-1])
        places = _order_reference(rows, rows.shape[1], direction == "DESCENDING")
        return np.moveaxis(function(rows, places).reshape(moved.shape), -1, axis)

    return reference


_CASES = (((5,), -1, "ASCENDING"), ((4, 3), 0, "DESCENDING"), ((2, 3, 2), 1, "ASCENDING"), ((2, 0), 1, "ASCENDING"))


@composite(
    reference=_along(lambda rows, places: np.take_along_axis(rows, places, 1)),
    examples=[Example((shape,), {"axis": axis, "direction": direction}) for shape, axis, direction in _CASES],
)  # fmt: skip
def sort(values: Tensor, axis: int = -1, direction: str = "ASCENDING") -> Any:
    """Elements in order along `axis`; `direction` is "ASCENDING" or "DESCENDING".

    Takes numbers of any shape, and gives the same. Nan is greater than everything. Each element gets the gradient of
    the place it goes to; equal ones keep their order. ValueError if there is no such axis, or for another direction.

    >>> nt.sort([[3.0, 1.0, 2.0]], direction="DESCENDING").numpy()
    array([[3., 2., 1.]], dtype=float32)
    """
    descending = _descending("sort", direction)
    check_kind("sort", values.type, "number")
    axis = normalize_axis("sort", axis, values.rank)
    rows, perm = _last(values, axis)
    return _back(_picked(rows, order(rows, rows.shape[1], descending)), values.shape, perm)


@composite(
    reference=_along(lambda rows, places: places),
    examples=[
        Example((shape,), {"axis": axis, "direction": direction, "stable": False}) for shape, axis, direction in _CASES
    ],
)
def argsort(values: Tensor, axis: int = -1, direction: str = "ASCENDING", stable: bool = False) -> Any:
    """Indices that put elements in order along `axis`; `direction` is "ASCENDING" or "DESCENDING".

    Takes numbers of any shape, and gives int32 of the same shape. Nan is greater than everything. Equal elements
    always keep their order, whatever `stable` asks for. No gradient flows. ValueError if there is no such axis, or
    for another direction.

    >>> nt.argsort([30.0, 10.0, 20.0]).numpy()
    array([1, 2, 0], dtype=int32)
    """
    descending = _descending("argsort", direction)
    check_flag("argsort", "stable", stable)
    check_kind("argsort", values.type, "number")
    axis = normalize_axis("argsort", axis, values.rank)
    rows, perm = _last(values, axis)
    return _back(order(rows, rows.shape[1], descending), values.shape, perm)


class TopK(NamedTuple):
    """What `top_k` gives."""

    values: Any
    indices: Any


def _top_k_reference(input: Any, k: int, index_type: Any) -> Any:
    rows = input.reshape(prod(input.shape[:-1]), input.shape[-1])
    places = _order_reference(rows, k, True)
    shape = (*input.shape[:-1], k)
    values = np.take_along_axis(rows, places, 1).reshape(shape)
    return values, places.reshape(shape).astype(as_dtype(index_type).dtype)


def _expand_top_k(values: Sequence[Any], attributes: tuple[Any, ...]) -> tuple[Any, Any]:
    (x,), (k, index_type) = values, attributes
    check_kind("top_k", x.type, "number")
    k, length = integer("top_k", "k", k), x.shape[-1] if x.rank else 0
    if not (x.rank and 0 <= k <= length):
        raise ValueError(f"top_k: k={k} elements need a last axis that has so many, got {describe([x.type])}")
    rows = reshape_to(x, (prod(x.shape[:-1]), length))
    places = order(rows, k, True)
    shape = (*x.shape[:-1], k)
    return reshape_to(_picked(rows, places), shape), convert(reshape_to(places, shape), as_dtype(index_type))


TOP_K = register(Op(
    "nt.math.top_k", Kind.COMPOSITE, ("input",), ("k", "index_type"), expand=_expand_top_k, groups=("T",),
    reference=_top_k_reference, doc="The greatest elements along the last axis, and where they are.",
    examples=tuple(
        Example((shape,), {"k": k, "index_type": dtype})
        for shape, k, dtype in (((5,), 2, int32), ((2, 3, 12), 3, int64), ((2, 3), 0, int32), ((2, 3), 3, int32))
    ),
))  # fmt: skip


@public(TOP_K, "math.top_k", "nn.top_k")
def top_k(input: Any, k: int = 1, sorted: bool = True, index_type: Any = int32, name: str | None = None) -> TopK:
    """The `k` greatest elements along the last axis, the greatest first, and their indices: a named pair.

    Takes numbers; `values` has their dtype, `indices` the `index_type`. Of equal elements the first comes first; nan
    is greater than everything. They are sorted, whatever `sorted` asks for. Each element that is picked gets the
    gradient of its place. ValueError if the last axis has fewer than `k` elements.

    >>> values, indices = nt.math.top_k([10.0, 30.0, 20.0], k=2)
    >>> values.numpy(), indices.numpy()
    (array([30., 20.], dtype=float32), array([1, 2], dtype=int32))
    """
    check_flag("top_k", "sorted", sorted)
    return TopK(*apply(TOP_K, (input,), (freeze(k), freeze(index_type))))
