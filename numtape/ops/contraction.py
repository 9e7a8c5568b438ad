"""Products that sum over shared axes: of matrices, and of tensors along any axes.

One instruction, `dot`, multiplies matrices or a batch of them. Everything else moves axes until its product is one of
those, and leaves the moving out where the order in memory and the transposing flags allow it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from numtape.dtypes import tensor_type
from numtape.ir.kernel import Kernel
from numtape.ir.op import Example, Kind
from numtape.ir.program import Value
from numtape.ops import core
from numtape.ops.core import (
    Shape,
    Tensor,
    TensorType,
    check_group,
    check_kind,
    composite,
    describe,
    instruction,
    normalize_axis,
)
from numtape.ops.movement import broadcast, permute, reshape_to
from numtape.ops.reduction import sum_

# ---- the product of two matrices, or of two batches of them -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Product:
    """The extents of `batch` products (rows, inner) times (inner, columns); a step of 0 takes one matrix for all."""

    batch: int
    rows: int
    columns: int
    inner: int
    step_a: int
    step_b: int


def product(out: TensorType, types: Sequence[TensorType], transpose_a: bool, transpose_b: bool) -> Product:
    """The extents of a `dot`."""
    batch = out.shape[0] if out.rank == 3 else 1
    rows, columns = out.shape[-2:]
    inner = types[0].shape[-2 if transpose_a else -1]
    steps = (t.shape[-2] * t.shape[-1] if t.rank == 3 and t.shape[0] == batch else 0 for t in types)
    return Product(batch, rows, columns, inner, *steps)


def _check_matrices(name: str, types: Sequence[TensorType], transpose_a: Any, transpose_b: Any) -> tuple[int, int]:
    """Rows and columns of a product."""
    a, b = types
    check_kind(name, tensor_type(check_group(name, types), a.shape), "number")
    for flag in (transpose_a, transpose_b):
        if not isinstance(flag, bool):
            raise TypeError(f"{name}: transpose_a and transpose_b are True or False, got {flag!r}")
    if a.rank < 2 or b.rank < 2:
        raise ValueError(
            f"{name}: {describe(types)}: both need rank 2 or more. Write nt.linalg.matvec(a, b) for a matrix times a "
            "vector, nt.tensordot(a, b, 1) for a vector times a matrix or a vector"
        )
    rows, inner = a.shape[-2:][::-1] if transpose_a else a.shape[-2:]
    inner_b, columns = b.shape[-2:][::-1] if transpose_b else b.shape[-2:]
    if inner != inner_b:
        flags = f" with transpose_a={transpose_a}, transpose_b={transpose_b}" if transpose_a or transpose_b else ""
        raise ValueError(
            f"{name}: {describe(types)}{flags}: the inner sizes {inner} and {inner_b} differ; the last axis of the "
            "first has to be as long as the second last of the second, after transposing"
        )
    return rows, columns


def _infer_dot(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    a, b = types
    matrix = _check_matrices("matmul", types, *attributes)
    batch = {t.shape[0] for t in types if t.rank == 3}
    if a.rank != b.rank or a.rank > 3 or len(batch - {1}) > 1:
        raise ValueError(f"matmul: {describe(types)} are neither two matrices nor two batches of as many or of one")
    return tensor_type(a.dtype, (*(batch - {1} or batch), *matrix))


def _dot_reference(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
    return np.matmul(np.swapaxes(a, -1, -2) if transpose_a else a, np.swapaxes(b, -1, -2) if transpose_b else b)


def _dot_gradient(g: Any, a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
    da = dot(b, g, transpose_b, True) if transpose_a else dot(g, b, False, not transpose_b)
    db = dot(g, a, True, transpose_a) if transpose_b else dot(a, g, not transpose_a, False)
    return [d if d.shape == operand.shape else sum_(d, (0,)) for d, operand in ((da, a), (db, b))]


_PANEL = 64
"""Rows of the second matrix that all rows of the first use before the next ones: they stay in the cache."""

_BY_ROWS = """\
def kernel(out, a, b, batch, rows, columns, inner, step_p, step_q, along_rows, along_inner):
    for t in range(batch):
        o, p, q = t * rows * columns, t * step_p, t * step_q
        for k in range(rows * columns):
            out[o + k] = {T}(0)
        for start in range(0, inner, {panel}):
            stop = minimum(start + {panel}, inner)
            rest = stop - (stop - start) % 4
            for i in range(rows):
                r, s = o + i * columns, p + i * along_rows
                for k in range(start, rest, 4):
                    q0, q1 = q + k * columns, q + (k + 1) * columns
                    q2, q3 = q + (k + 2) * columns, q + (k + 3) * columns
                    x0, x1 = {a}[s + k * along_inner], {a}[s + (k + 1) * along_inner]
                    x2, x3 = {a}[s + (k + 2) * along_inner], {a}[s + (k + 3) * along_inner]
                    for j in range(columns):
                        near = x0 * {b}[q0 + j] + x1 * {b}[q1 + j]
                        far = x2 * {b}[q2 + j] + x3 * {b}[q3 + j]
                        out[r + j] = {T}(out[r + j] + (near + far))
                for k in range(rest, stop):
                    q0, x0 = q + k * columns, {a}[s + k * along_inner]
                    for j in range(columns):
                        out[r + j] = {T}(out[r + j] + x0 * {b}[q0 + j])
"""
"""Adds up rows of the second matrix: the innermost loop runs along them."""

_BY_COLUMNS = """\
def kernel(out, a, b, batch, rows, columns, inner, step_p, step_q, along_rows, along_inner):
    for t in range(batch):
        o, p, q = t * rows * columns, t * step_p, t * step_q
        for start in range(0, columns, {panel}):
            stop = minimum(start + {panel}, columns)
            for i in range(rows):
                s = p + i * along_rows
                for j in range(start, stop):
                    r, total = q + j * inner, {T}(0)
                    for k in range(inner):
                        total = {add}
                    out[o + i * columns + j] = total
"""
"""Multiplies rows by rows, the second matrix being transposed."""


def _dot_kernel(out: TensorType, types: Sequence[TensorType], transpose_a: bool, transpose_b: bool) -> Any:
    """Plain loops: for integers, for vectors, and where there is no BLAS."""
    m, a, b = product(out, types, transpose_a, transpose_b), "a", "b"
    if m.columns == 1:  # The transposed product is one row times a matrix that is traversed as it lies.
        m, a, b = Product(m.batch, 1, m.rows, m.inner, m.step_b, m.step_a), b, a
        transpose_a, transpose_b = False, not transpose_a
    code = out.dtype.code
    factors = f"{a}[s + k * along_inner] * {b}[r + k]"
    add = f"add_reassoc(total, {factors})" if out.dtype.is_floating else f"{code}(total + {factors})"
    text = (_BY_COLUMNS if transpose_b else _BY_ROWS).format(T=code, a=a, b=b, add=add, panel=_PANEL)
    kernel = Kernel(f"matmul_{code}", text, (f"{code}*",) * 3 + ("i64",) * 8)
    strides = (1, m.rows) if transpose_a else (m.inner, 1)
    return kernel, (m.batch, m.rows, m.columns, m.inner, m.step_a, m.step_b, *strides)


def _products(*cases: tuple[str, Shape, Shape]) -> list[Example]:
    """Examples by the operands to transpose and the shapes."""
    return [Example((a, b), {"transpose_a": "a" in which, "transpose_b": "b" in which}) for which, a, b in cases]


dot = instruction(
    "matmul", Kind.CALL, parameters=("a", "b"), attributes=("transpose_a", "transpose_b"), infer=_infer_dot,
    reference=_dot_reference, gradient=_dot_gradient, kernel=_dot_kernel,
    doc="Matrix product, each operand transposed first where its flag says so; rank 2, or 3 with batches of one length "
    "or of 1.",
    examples=_products(
        ("", (2, 3), (3, 4)), ("a", (3, 2), (3, 4)), ("b", (2, 3), (4, 3)), ("ab", (3, 2), (4, 3)),
        ("", (5, 2, 3), (5, 3, 4)), ("ab", (5, 3, 2), (5, 4, 3)), ("", (1, 2, 3), (5, 3, 4)),
        ("a", (5, 3, 2), (1, 3, 4)), ("", (1, 5), (5, 3)), ("b", (1, 5), (3, 5)), ("", (3, 5), (5, 1)),
        ("ab", (5, 3), (1, 5)), ("a", (4, 5, 3), (1, 5, 1)), ("b", (3, 1), (4, 1)), ("", (1, 1), (1, 1)),
        ("", (9, 10), (10, 11)), ("b", (9, 10), (11, 10)), ("", (2, 0), (0, 3)), ("", (0, 3), (3, 2)),
        ("", (0, 2, 3), (1, 3, 2)),
    ),
)  # fmt: skip

# ---- any rank ---------------------------------------------------------------------------------------------------


def reshaped(x: Any, shape: Sequence[int]) -> Any:
    """The same elements under a shape, which they may have already."""
    return x if x.shape == tuple(shape) else reshape_to(x, tuple(shape))


@composite(
    "linalg.matmul", "matmul", reference=_dot_reference,
    examples=_products(
        ("", (2, 3), (3, 4)), ("ab", (3, 2), (4, 3)), ("", (2, 3, 5), (5, 3)), ("a", (2, 5, 3), (5, 3)),
        ("b", (2, 3, 5), (3, 5)), ("b", (3, 5), (2, 4, 5)), ("a", (5, 3), (2, 5, 4)), ("", (2, 3, 4, 5), (2, 3, 5, 2)),
        ("", (2, 3, 4, 5), (2, 1, 5, 2)), ("a", (2, 3, 5, 4), (2, 1, 5, 2)), ("", (2, 1, 4, 5), (3, 5, 2)),
        ("b", (2, 1, 4, 5), (1, 3, 2, 5)), ("", (2, 1, 2, 2, 3), (3, 1, 3, 2)), ("a", (1, 1, 5, 2), (4, 5, 3)),
        ("", (1, 1), (1, 1)), ("", (0, 3), (3, 2)), ("", (2, 0, 3, 4), (4, 2)), ("", (2, 3, 0), (0, 2)),
        ("", (0, 1, 2, 3), (2, 3, 1)),
    ),
)  # fmt: skip
def matmul(a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    """Matrix product over the last two axes: `a @ b`.

    Shapes: a (..., rows, inner), b (..., inner, columns), or with these two axes swapped where `transpose_a` or
    `transpose_b` says so; leading axes broadcast against each other, and the result is (..., rows, columns). Numbers of
    one dtype; integers wrap around. Raises ValueError for a rank below 2 (see `linalg.matvec` and `tensordot`) or where
    the inner sizes differ.

    >>> nt.matmul([[1., 2.], [3., 4.]], [[1.], [10.]]).numpy()
    array([[21.],
           [43.]], dtype=float32)
    """
    types = [a.type, b.type]
    rows, columns = _check_matrices("matmul", types, transpose_a, transpose_b)
    lead = core.broadcast(f"matmul: {describe(types)}: leading axes", a.shape[:-2], b.shape[:-2])
    lead_a, lead_b = ((1,) * (len(lead) + 2 - x.rank) + x.shape[:-2] for x in (a, b))
    # Axes of `a` alone, next to its rows, are more rows: a batch times one matrix is one product.
    count = len(lead)
    while not transpose_a and count and lead_b[count - 1] == 1:
        count -= 1
    matrix_a = (prod(lead[count:]) * a.shape[-2], a.shape[-1])
    x = _batch(a, lead_a[:count], lead[:count], matrix_a)
    y = _batch(b, lead_b[:count], lead[:count], b.shape[-2:])
    return reshaped(dot(x, y, transpose_a, transpose_b), (*lead, rows, columns))


def _batch(x: Any, own: Shape, lead: Shape, matrix: Shape) -> Any:
    """`x` with leading axes `own` as an operand of `dot`: one matrix, or a batch of one or of all of `lead`."""
    count = prod(own)
    if count not in (1, prod(lead)):
        x, count = broadcast(reshaped(x, (*own, *matrix)), (*lead, *matrix)), prod(lead)
    return reshaped(x, matrix if prod(lead) == 1 else (count, *matrix))


def _matvec_reference(a: Any, b: Any, transpose_a: bool) -> Any:
    return np.matmul(np.swapaxes(a, -1, -2) if transpose_a else a, b[..., None])[..., 0]


@composite(
    "linalg.matvec", reference=_matvec_reference,
    examples=[
        Example((a, b), {"transpose_a": transpose_a})
        for transpose_a, a, b in (
            (False, (2, 3), (3,)), (True, (3, 2), (3,)), (False, (2, 3), (4, 3)), (True, (3, 2), (4, 5, 3)),
            (False, (4, 2, 3), (3,)), (False, (4, 2, 3), (4, 3)), (True, (4, 3, 2), (5, 1, 3)), (False, (0, 3), (3,)),
        )
    ],
)  # fmt: skip
def matvec(a: Tensor, b: Tensor, transpose_a: bool = False) -> Any:
    """Matrix times vector, over the last two axes of `a` and the last of `b`.

    Shapes: a (..., rows, inner), or (..., inner, rows) with `transpose_a`, and b (..., inner); leading axes broadcast
    against each other, and the result is (..., rows). Raises ValueError where the inner sizes differ.

    >>> nt.linalg.matvec([[1., 2.], [3., 4.]], [1., 10.]).numpy()
    array([21., 43.], dtype=float32)
    """
    types = [a.type, b.type]
    check_group("matvec", types)
    if a.rank < 2 or b.rank < 1:
        raise ValueError(f"matvec: {describe(types)}: needs a matrix and a vector; write nt.matmul for two matrices")
    column = tensor_type(b.dtype, (*b.shape, 1))
    rows, _ = _check_matrices("matvec", [a.type, column], transpose_a, False)
    lead = core.broadcast(f"matvec: {describe(types)}: leading axes", a.shape[:-2], b.shape[:-1])
    if a.rank == 2:  # Several vectors are the rows of one matrix.
        found = matmul(reshaped(b, (prod(b.shape[:-1]), b.shape[-1])), a, False, not transpose_a)
    else:
        found = matmul(a, reshape_to(b, column.shape), transpose_a, False)
    return reshaped(found, (*lead, rows))


# ---- any axes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Labeled:
    """A value with a label for each axis; an axis of one value means the axis of the same label of another."""

    value: Any
    labels: tuple[Any, ...]

    def extent(self, labels: Sequence[Any]) -> int:
        """How many elements these axes have."""
        return prod(self.value.shape[self.labels.index(x)] for x in labels)

    def ordered(self, labels: Sequence[Any]) -> Any:
        """The value with its axes in this order; a label that it lacks becomes an axis of length 1."""
        own = [x for x in labels if x in self.labels]
        value = self.value
        if own != list(self.labels):
            value = permute(value, tuple(self.labels.index(x) for x in own))
        return reshaped(value, tuple(self.extent([x]) if x in own else 1 for x in labels))

    def summed(self, labels: Sequence[Any]) -> Labeled:
        """Without these axes."""
        if not labels:
            return self
        kept = tuple(x for x in self.labels if x not in labels)
        total = sum_(self.value, tuple(k for k, x in enumerate(self.labels) if x in labels))
        return Labeled(reshaped(total, [self.extent([x]) for x in kept]), kept)


def contract(a: Labeled, b: Labeled, kept: Container[Any]) -> Labeled:
    """The product, summed over the shared axes that are not kept; axes of one operand alone have to be.

    A product of matrices where a sum is left and an axis beside it, else element by element, which fuses.
    """
    shared = [x for x in a.labels if x in b.labels]
    batch, summed = [x for x in shared if x in kept], [x for x in shared if x not in kept]
    rows, columns = ([x for x in own.labels if x not in shared] for own in (a, b))
    if not summed or not (rows or columns):
        first = a.labels if not columns else b.labels if not rows else (*batch, *rows, *columns, *summed)
        order = tuple(x for x in first if x in kept) + tuple(x for x in first if x not in kept)
        return Labeled(a.ordered(order) * b.ordered(order), order).summed(summed)
    x, transpose_a = _matrices(a, batch, rows, summed)
    y, transpose_b = _matrices(b, batch, summed, columns)
    found = dot(x, y, transpose_a, transpose_b)
    shape = [*(a.extent([x]) for x in (*batch, *rows)), *(b.extent([x]) for x in columns)]
    return Labeled(reshaped(found, shape), (*batch, *rows, *columns))


def _matrices(x: Labeled, batch: list[Any], first: list[Any], second: list[Any]) -> tuple[Any, bool]:
    """Axes gathered into an operand of `dot`, and whether it is to be transposed: axes that lie well are not moved."""
    straight, transposed = [*batch, *first, *second], [*batch, *second, *first]
    flag = list(x.labels) == transposed != straight
    value = x.ordered(transposed if flag else straight)
    shape = [x.extent(labels) for labels in (batch, *((second, first) if flag else (first, second)))]
    return reshaped(value, shape if batch else shape[1:]), flag


def _tensordot_axes(types: Sequence[TensorType], axes: Any) -> tuple[list[int], list[int]]:
    """The axes of each operand that are summed over, in pairs."""
    a, b = types
    if isinstance(axes, int) and not isinstance(axes, bool):
        if not 0 <= axes <= min(a.rank, b.rank):
            raise ValueError(f"tensordot: {describe(types)} do not share {axes} axes; give 0 to {min(a.rank, b.rank)}")
        pair: Any = (tuple(range(a.rank - axes, a.rank)), tuple(range(axes)))
    elif isinstance(axes, tuple) and len(axes) == 2:
        pair = tuple(x if isinstance(x, tuple) else (x,) for x in axes)
    else:
        raise TypeError(f"tensordot: axes is a number of axes, or two lists of them, got {axes!r}")
    first, second = ([normalize_axis("tensordot", x, t.rank) for x in own] for own, t in zip(pair, types, strict=True))
    lengths = [[t.shape[x] for x in own] for own, t in ((first, a), (second, b))]
    if lengths[0] != lengths[1] or len(set(first)) != len(first) or len(set(second)) != len(second):
        raise ValueError(
            f"tensordot: {describe(types)}: axes {first} of the first and {second} of the second do not pair up: "
            "as many of each, none twice, with equal lengths"
        )
    return first, second


@composite(
    "tensordot", "linalg.tensordot", reference=np.tensordot,
    examples=[
        Example((a, b), {"axes": axes})
        for axes, a, b in (
            (0, (2, 3), (4,)), (1, (2, 3), (3, 4)), (1, (3,), (3,)), (1, (3,), (3, 2)), (1, (2, 3, 4), (4,)),
            (2, (2, 3, 4), (3, 4, 2)), (2, (3, 4), (3, 4)), (0, (), (2,)), (0, (), ()), (1, (2, 0), (0, 3)),
            (((0,), (0,)), (3, 2), (3, 4)), (((-1,), (-1,)), (2, 3), (4, 3)), ((1, 0), (2, 3), (3, 2)),
            (((0, 2), (1, 0)), (2, 3, 4), (4, 2, 5)), (((1, 0), (0, 1)), (2, 3), (3, 2)), (((), ()), (2,), (3,)),
            (((0, 1), (0, 1)), (3, 4, 2), (3, 4, 5)), (1, (0, 3), (3, 2)),
        )
    ],
)  # fmt: skip
def tensordot(a: Tensor, b: Tensor, axes: Any) -> Any:
    """Product summed over pairs of axes: the last `axes` ones of `a` and the first of `b`, or those that `axes` lists.

    Two lists in `axes` name the axes of `a` and those of `b` that go with them. The result has the axes of `a` that are
    left, then those of `b`. Raises ValueError where paired axes differ in length.

    >>> nt.tensordot([[1., 2.], [3., 4.]], [1., 10.], 1).numpy()
    array([21., 43.], dtype=float32)
    >>> nt.tensordot([[1., 2.], [3., 4.]], [1., 10.], [[0], [0]]).numpy()
    array([31., 42.], dtype=float32)
    """
    types = [a.type, b.type]
    check_kind("tensordot", tensor_type(check_group("tensordot", types), ()), "number")
    first, second = _tensordot_axes(types, axes)
    labels_b = [a.rank + k for k in range(b.rank)]
    for label, k in zip(first, second, strict=True):
        labels_b[k] = label
    left = [k for k in range(a.rank) if k not in first] + [x for x in labels_b if x >= a.rank]
    found = contract(Labeled(a, tuple(range(a.rank))), Labeled(b, tuple(labels_b)), left)
    return found.ordered(left)


Value.__matmul__ = matmul  # type: ignore[operator]
