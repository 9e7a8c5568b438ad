"""Linear algebra on matrices in the last two axes: systems of equations, inverses, determinants, Cholesky factors.

Each routine is one plain loop nest for each matrix of a batch. A matrix that a routine cannot work with (one that is
singular, or not positive definite) gives inf or nan, and leaves the others of the batch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np

from numtape.dtypes import tensor_type
from numtape.ir.kernel import Kernel, Scratch
from numtape.ir.op import Example, Kind
from numtape.ops import core
from numtape.ops.contraction import matmul, reshaped
from numtape.ops.core import Shape, Tensor, TensorType, check_group, check_kind, composite, describe, instruction
from numtape.ops.diagonal import band, check_matrix, diagonal_matrix, diagonal_of
from numtape.ops.movement import broadcast, permute, reshape_to
from numtape.ops.rearrange import part
from numtape.ops.reduction import sum_
from numtape.ops.transcendental import log

# ---- shared -----------------------------------------------------------------------------------------------------


def _check_square(name: str, type: TensorType) -> None:
    check_matrix(name, type)
    check_kind(name, type, "float")
    if type.shape[-1] != type.shape[-2]:
        raise ValueError(f"{name}: {describe([type])}: the matrices in the last two axes have to be square")


def _check_system(name: str, types: Sequence[TensorType]) -> None:
    a, b = types
    check_group(name, types)
    _check_square(name, a)
    if b.rank < 2 or b.shape[-2] != a.shape[-1]:
        raise ValueError(
            f"{name}: {describe(types)}: the right-hand sides are the columns of a matrix (..., {a.shape[-1]}, count); "
            "a single vector needs an axis of length 1 after it"
        )


def _check_flag(name: str, what: str, flag: Any) -> None:
    if not isinstance(flag, bool):
        raise TypeError(f"{name}: {what} is True or False, got {flag!r}")


def _infer_square(name: str, shape: Callable[[Shape], Shape]) -> Any:
    def infer(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
        _check_square(name, types[0])
        return tensor_type(types[0].dtype, shape(types[0].shape))

    return infer


def _infer_system(name: str) -> Any:
    def infer(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
        _check_system(name, types)
        a, b = types
        if a.shape[:-2] != b.shape[:-2]:
            raise ValueError(f"{name}: {describe(types)}: the leading axes differ")
        return b

    return infer


def _common_batch(name: str, a: Any, b: Any) -> tuple[Any, Any]:
    """A system's operands with equal leading axes."""
    _check_system(name, [a.type, b.type])
    lead = core.broadcast(f"{name}: {describe([a.type, b.type])}: leading axes", a.shape[:-2], b.shape[:-2])
    first, second = (
        x if x.shape[:-2] == lead else broadcast(x, (*lead, *x.shape[-2:])) for x in (a, b)
    )
    return first, second


def _matrix_transpose(x: Any) -> Any:
    return permute(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


def _each(function: Callable[..., Any], shape: Shape, *operands: Any) -> Any:
    """`function` in double precision for each matrix of a batch; nan where it refuses one."""
    out = np.full(shape, np.nan, operands[0].dtype)
    for place in np.ndindex(operands[0].shape[:-2]):
        with suppress(np.linalg.LinAlgError):
            out[place] = function(*(x[place].astype(np.float64) for x in operands))
    return out


def _kernel(name: str, text: str, code: str, pointers: int, scratch: Sequence[int], extents: Sequence[int]) -> Any:
    kernel = Kernel(f"{name}_{code}", text, (f"{code}*",) * (pointers + len(scratch)) + ("i64",) * len(extents))
    return kernel, (*map(Scratch, scratch), *extents)


_ELIMINATE = """\
        for k in range(n):
            p = k
            for i in range(k + 1, n):
                if fabs(w[i * n + k]) > fabs(w[p * n + k]):
                    p = i
            if p != k:
                sign = -sign
                for j in range(n):
                    w[k * n + j], w[p * n + j] = w[p * n + j], w[k * n + j]{swap}
            pivot = w[k * n + k]
            for i in range(k + 1, n):
                # All elements of the column are zero where the largest is.
                f = w[i * n + k] / pivot if pivot != {T}(0) else {T}(0)
                for j in range(k + 1, n):
                    w[i * n + j] -= f * w[k * n + j]{follow}
"""
"""Gaussian elimination in `w` with the largest pivot of each column; `swap` and `follow` do the same to right sides."""

# ---- Cholesky factors -------------------------------------------------------------------------------------------

_CHOLESKY = """\
def kernel(out, x, batch, n):
    for t in range(batch):
        o = t * n * n
        for i in range(n):
            r = o + i * n
            for j in range(i + 1):
                s, total = o + j * n, {T}(0)
                for k in range(j):
                    total = add_reassoc(total, out[r + k] * out[s + k])
                rest = x[r + j] - total
                out[r + j] = sqrt(rest) if i == j else rest / out[s + j]
            for j in range(i + 1, n):
                out[r + j] = {T}(0)
        if not out[o + n * n - 1] > {T}(0):
            for k in range(n * n):
                out[o + k] = {T}(nan)
"""


def _cholesky_kernel(out: TensorType, types: Sequence[TensorType]) -> Any:
    code, n = out.dtype.code, out.shape[-1]
    return _kernel("cholesky", _CHOLESKY.format(T=code), code, 2, (), (prod(out.shape[:-2]), n))


def _cholesky_gradient(g: Any, out: Any) -> Any:
    inner = band(matmul(out, g, transpose_a=True), -1, 0)
    inner = inner - diagonal_matrix(0.5 * diagonal_of(inner))
    half = triangular_solve_(out, inner, True, True)
    found = triangular_solve_(out, _matrix_transpose(half), True, True)
    return 0.5 * (found + _matrix_transpose(found))


cholesky_: Any = instruction(
    "cholesky", Kind.CALL, at_once=True, infer=_infer_square("cholesky", lambda shape: shape), kernel=_cholesky_kernel,
    reference=lambda x: _each(np.linalg.cholesky, x.shape, x), gradient=_cholesky_gradient,
    doc="The lower triangular factor of the matrix whose lower triangle is given.",
    examples=[Example((shape,), domains=((0.5, 3),)) for shape in ((1, 1), (2, 1, 1), (0, 0), (0, 2, 2))],
)  # fmt: skip


# A random matrix is symmetric only if it has one element; `tests/ops/test_linalg.py` has others.
@composite(
    "linalg.cholesky",
    reference=lambda input: _each(np.linalg.cholesky, input.shape, input),
    examples=[Example(((2, 1, 1),), domains=((0.5, 3),))],
)
def cholesky(input: Tensor) -> Any:
    """Lower triangular factors `L` of symmetric positive definite matrices `L @ transpose(L)`.

    Shapes: (..., n, n). Only the lower triangle is read; the gradient is symmetric, as that of a symmetric matrix is. A
    matrix that is not positive definite gives nan. The gradient is that of I. Murray, Differentiation of the Cholesky
    decomposition (2016).

    >>> nt.linalg.cholesky([[4., 2.], [2., 10.]]).numpy()
    array([[2., 0.],
           [1., 3.]], dtype=float32)
    """
    return cholesky_(input)


# ---- triangular systems -----------------------------------------------------------------------------------------

_SUBSTITUTE = """\
def kernel(out, a, b, batch, n, m, first, step, along_rows, along_columns):
    for t in range(batch):
        s, o = t * n * n, t * n * m
        for p in range(n):
            i = first + p * step
            r = o + i * m
            for j in range(m):
                out[r + j] = b[r + j]
            for q in range(p):
                k = first + q * step
                f, v = a[s + i * along_rows + k * along_columns], o + k * m
                for j in range(m):
                    out[r + j] -= f * out[v + j]
            pivot = a[s + i * (n + 1)]
            for j in range(m):
                out[r + j] = out[r + j] / pivot
"""


def _substitute_kernel(out: TensorType, types: Sequence[TensorType], lower: bool, transpose: bool) -> Any:
    code, (n, m) = out.dtype.code, out.shape[-2:]
    order = (0, 1) if lower != transpose else (n - 1, -1)
    along = (1, n) if transpose else (n, 1)
    extents = (prod(out.shape[:-2]), n, m, *order, *along)
    return _kernel("triangular_solve", _SUBSTITUTE, code, 3, (), extents)


def _substitute_reference(a: Any, b: Any, lower: bool, transpose: bool) -> Any:
    a = np.tril(a) if lower else np.triu(a)
    return _each(np.linalg.solve, b.shape, np.swapaxes(a, -1, -2) if transpose else a, b)


def _substitute_gradient(g: Any, a: Any, out: Any, lower: bool, transpose: bool) -> Any:
    db = triangular_solve_(a, g, lower, not transpose)
    da = matmul(out, db, transpose_b=True) if transpose else matmul(db, out, transpose_b=True)
    return -(band(da, -1, 0) if lower else band(da, 0, -1)), db


triangular_solve_: Any = instruction(
    "triangular_solve", Kind.CALL, at_once=True, parameters=("a", "b"), attributes=("lower", "transpose"),
    infer=_infer_system("triangular_solve"), kernel=_substitute_kernel, reference=_substitute_reference,
    gradient=_substitute_gradient, doc="Solution of systems with a triangle of each matrix, transposed on demand.",
    examples=[
        Example((a, b), {"lower": lower, "transpose": transpose}, domains=((0.5, 1.5), (-1, 1)))
        for lower, transpose, a, b in (
            (True, False, (3, 3), (3, 2)), (True, True, (3, 3), (3, 1)), (False, False, (2, 3, 3), (2, 3, 2)),
            (False, True, (3, 3), (3, 4)), (True, False, (1, 1), (1, 1)), (True, False, (2, 2), (2, 0)),
            (True, False, (0, 2, 2), (0, 2, 1)),
        )
    ],
)  # fmt: skip


@composite(
    "linalg.triangular_solve",
    reference=lambda matrix, rhs, lower, adjoint: _substitute_reference(
        np.broadcast_to(matrix, rhs.shape[:-2] + matrix.shape[-2:]), rhs, lower, adjoint
    ),
    examples=[
        Example(((3, 3), (3, 2)), {"lower": True, "adjoint": False}, domains=((0.5, 1.5), (-1, 1))),
        Example(((3, 3), (2, 3, 1)), {"lower": False, "adjoint": True}, domains=((0.5, 1.5), (-1, 1))),
    ],
)
def triangular_solve(matrix: Tensor, rhs: Tensor, lower: bool = True, adjoint: bool = False) -> Any:
    """Solution `x` of `matrix @ x = rhs` for triangular matrices; with `adjoint` that of `transpose(matrix) @ x = rhs`.

    Shapes: matrix (..., n, n), rhs (..., n, count), with leading axes that broadcast. Only the triangle that `lower`
    names is read. A zero on the diagonal gives inf or nan.

    >>> nt.linalg.triangular_solve([[2., 0.], [1., 4.]], [[2.], [9.]]).numpy()
    array([[1.],
           [2.]], dtype=float32)
    """
    _check_flag("triangular_solve", "lower", lower)
    _check_flag("triangular_solve", "adjoint", adjoint)
    return triangular_solve_(*_common_batch("triangular_solve", matrix, rhs), lower, adjoint)


@composite(
    "linalg.cholesky_solve",
    reference=lambda chol, rhs: _substitute_reference(chol, _substitute_reference(chol, rhs, True, False), True, True),
    examples=[Example(((3, 3), (3, 2)), domains=((0.5, 1.5), (-1, 1)))],
)
def cholesky_solve(chol: Tensor, rhs: Tensor) -> Any:
    """Solution `x` of `a @ x = rhs`, given the factors `chol = nt.linalg.cholesky(a)`.

    Shapes: chol (..., n, n), rhs (..., n, count), with leading axes that broadcast.

    >>> nt.linalg.cholesky_solve([[2., 0.], [1., 3.]], [[8.], [22.]]).numpy()
    array([[1.],
           [2.]], dtype=float32)
    """
    chol, rhs = _common_batch("cholesky_solve", chol, rhs)
    return triangular_solve_(chol, triangular_solve_(chol, rhs, True, False), True, True)


# ---- general systems and inverses -------------------------------------------------------------------------------

_SOLVE = """\
def kernel(out, {operands}, w, batch, n, m, along_rows, along_columns):
    sign = 1
    for t in range(batch):
        s, o = t * n * n, t * n * m
        for i in range(n):
            for j in range(n):
                w[i * n + j] = a[s + i * along_rows + j * along_columns]
            for j in range(m):
                out[o + i * m + j] = {start}
{eliminate}        for q in range(n):
            i = n - 1 - q
            r = o + i * m
            for k in range(i + 1, n):
                f, v = w[i * n + k], o + k * m
                for j in range(m):
                    out[r + j] -= f * out[v + j]
            for j in range(m):
                out[r + j] = out[r + j] / w[i * n + i]
"""

_SWAP = """
                for j in range(m):
                    u, v = o + k * m + j, o + p * m + j
                    out[u], out[v] = out[v], out[u]"""

_FOLLOW = """
                for j in range(m):
                    out[o + i * m + j] -= f * out[o + k * m + j]"""


def _solve_kernel(out: TensorType, types: Sequence[TensorType], transpose: bool = False) -> Any:
    code, (n, m), inverse = out.dtype.code, out.shape[-2:], len(types) == 1
    text = _SOLVE.format(
        operands="a" if inverse else "a, b",
        start=f"{code}(1) if i == j else {code}(0)" if inverse else "b[o + i * m + j]",
        eliminate=_ELIMINATE.format(T=code, swap=_SWAP, follow=_FOLLOW),
    )
    along = (1, n) if transpose else (n, 1)
    extents = (prod(out.shape[:-2]), n, m, *along)
    return _kernel("inverse" if inverse else "solve", text, code, 1 + len(types), [n * n * out.dtype.itemsize], extents)


def _solve_reference(a: Any, b: Any, transpose: bool) -> Any:
    return _each(np.linalg.solve, b.shape, np.swapaxes(a, -1, -2) if transpose else a, b)


def _solve_gradient(g: Any, a: Any, out: Any, transpose: bool) -> Any:
    db = solve_(a, g, not transpose)
    return -(matmul(out, db, transpose_b=True) if transpose else matmul(db, out, transpose_b=True)), db


solve_: Any = instruction(
    "solve", Kind.CALL, at_once=True, parameters=("a", "b"), attributes=("transpose",), infer=_infer_system("solve"),
    kernel=_solve_kernel, reference=_solve_reference, gradient=_solve_gradient,
    doc="Solution of systems with each matrix, transposed on demand.",
    examples=[
        Example((a, b), {"transpose": transpose}, domains=((-1, 1),))
        for transpose, a, b in (
            (False, (3, 3), (3, 2)), (True, (3, 3), (3, 1)), (False, (2, 2, 2), (2, 2, 3)), (False, (1, 1), (1, 2)),
            (False, (2, 2), (2, 0)), (True, (0, 2, 2), (0, 2, 1)),
        )
    ],
)  # fmt: skip

inverse_: Any = instruction(
    "inverse", Kind.CALL, at_once=True, infer=_infer_square("inv", lambda shape: shape), kernel=_solve_kernel,
    reference=lambda x: _each(np.linalg.inv, x.shape, x),
    gradient=lambda g, out: -matmul(out, matmul(g, out, transpose_b=True), transpose_a=True),
    doc="Inverse of each matrix.",
    examples=[Example((shape,), domains=((-1, 1),)) for shape in ((3, 3), (2, 2, 2), (1, 1), (0, 0), (0, 2, 2))],
)  # fmt: skip


@composite(
    "linalg.solve",
    reference=lambda matrix, rhs, adjoint: _solve_reference(
        np.broadcast_to(matrix, rhs.shape[:-2] + matrix.shape[-2:]), rhs, adjoint
    ),
    examples=[
        Example(((3, 3), (3, 2)), {"adjoint": False}, domains=((-1, 1),)),
        Example(((3, 3), (2, 3, 1)), {"adjoint": True}, domains=((-1, 1),)),
    ],
)
def solve(matrix: Tensor, rhs: Tensor, adjoint: bool = False) -> Any:
    """Solution `x` of `matrix @ x = rhs`; with `adjoint` that of `transpose(matrix) @ x = rhs`.

    Shapes: matrix (..., n, n), rhs (..., n, count), with leading axes that broadcast. A singular matrix gives inf or
    nan. Gaussian elimination with partial pivoting.

    >>> nt.linalg.solve([[1., 2.], [3., 4.]], [[5.], [11.]]).numpy()
    array([[1.],
           [2.]], dtype=float32)
    """
    _check_flag("solve", "adjoint", adjoint)
    return solve_(*_common_batch("solve", matrix, rhs), adjoint)


@composite(
    "linalg.inv",
    reference=lambda input, adjoint: _each(np.linalg.inv, input.shape, input.swapaxes(-1, -2) if adjoint else input),
    examples=[Example(((2, 3, 3),), {"adjoint": adjoint}, domains=((-1, 1),)) for adjoint in (False, True)],
)
def inv(input: Tensor, adjoint: bool = False) -> Any:
    """Inverses of square matrices; with `adjoint` those of their transposes.

    Shapes: (..., n, n). A singular matrix gives inf or nan. To solve equations, `linalg.solve` takes less time and errs
    less.

    >>> nt.linalg.inv([[2., 0.], [0., 4.]]).numpy()
    array([[0.5 , 0.  ],
           [0.  , 0.25]], dtype=float32)
    """
    _check_flag("inv", "adjoint", adjoint)
    found = inverse_(input)
    return _matrix_transpose(found) if adjoint else found


# ---- determinants -----------------------------------------------------------------------------------------------

_DETERMINANT = """\
def kernel(out, x, w, batch, n):
    for t in range(batch):
        for k in range(n * n):
            w[k] = x[t * n * n + k]
        sign = {T}(1)
{eliminate}        {start}
        for k in range(n):
            pivot = w[k * n + k]
            {step}
        {end}
"""


def _determinant_kernel(start: str, step: str, end: str) -> Any:
    def kernel(out: TensorType, types: Sequence[TensorType]) -> Any:
        (x,) = types
        code, n = x.dtype.code, x.shape[-1]
        parts = {"eliminate": _ELIMINATE, "start": start, "step": step, "end": end}
        parts = {name: lines.format(T=code, swap="", follow="") for name, lines in parts.items()}
        text = _DETERMINANT.format(T=code, **parts)
        return _kernel("determinant", text, code, 2, [n * n * x.dtype.itemsize], (prod(x.shape[:-2]), n))

    return kernel


# By elimination with the largest pivot of all, so that only the last one is zero where the rank is n - 1. With row
# and column permutations P and Q, P A Q = L U, and the adjugate of A is Q adj(U) inv(L) P times their signs. That of U
# needs no division by its last pivot d.
_COFACTOR = """\
def kernel(out, a, w, x, order, batch, n):
    for t in range(batch):
        s, last, scale = t * n * n, n - 1, {T}(1)
        for k in range(n * n):
            w[k] = a[s + k]
            x[k] = {T}(0)
        for k in range(n):
            x[k * n + k] = {T}(1)
            order[k] = {T}(k)
        for k in range(last):
            p, q = k, k
            for i in range(k, n):
                for j in range(k, n):
                    if fabs(w[i * n + j]) > fabs(w[p * n + q]):
                        p, q = i, j
            if p != k:
                scale = -scale
                for j in range(n):
                    w[k * n + j], w[p * n + j] = w[p * n + j], w[k * n + j]
                    x[k * n + j], x[p * n + j] = x[p * n + j], x[k * n + j]
            if q != k:
                scale = -scale
                order[k], order[q] = order[q], order[k]
                for i in range(n):
                    w[i * n + k], w[i * n + q] = w[i * n + q], w[i * n + k]
            pivot = w[k * n + k]
            scale = scale * pivot
            if pivot == {T}(0):
                break
            for i in range(k + 1, n):
                f = w[i * n + k] / pivot
                for j in range(k + 1, n):
                    w[i * n + j] -= f * w[k * n + j]
                for j in range(n):
                    x[i * n + j] -= f * x[k * n + j]
        d = w[n * n - 1]
        for q in range(last):
            i = last - 1 - q
            for j in range(n):
                x[i * n + j] = d * x[i * n + j] - w[i * n + last] * x[last * n + j]
            for k in range(i + 1, last):
                f = w[i * n + k]
                for j in range(n):
                    x[i * n + j] -= f * x[k * n + j]
            for j in range(n):
                x[i * n + j] = x[i * n + j] / w[i * n + i]
        for i in range(n):
            column = s + i64(order[i])
            for j in range(n):
                out[column + j * n] = {T}(0) if scale == {T}(0) else scale * x[i * n + j]
"""


def _cofactor_kernel(out: TensorType, types: Sequence[TensorType]) -> Any:
    code, n, size = out.dtype.code, out.shape[-1], out.dtype.itemsize
    scratch = (n * n * size, n * n * size, n * size)
    return _kernel("cofactor", _COFACTOR.format(T=code), code, 2, scratch, (prod(out.shape[:-2]), n))


def _cofactors(x: Any) -> Any:
    """By singular values: all but one of them are multiplied in turn."""
    u, s, v = np.linalg.svd(x)
    others = [np.prod(np.delete(s, k)) for k in range(len(s))]
    return np.linalg.det(u) * np.linalg.det(v) * (u * others) @ v


def _cofactor_gradient(g: Any, x: Any, out: Any) -> Any:
    total = sum_(g * out, (x.rank - 2, x.rank - 1))
    scaled = diagonal_matrix(broadcast(reshape_to(total, total.shape[:-1]), x.shape[:-1]))
    return solve_(x, scaled - matmul(g, out, transpose_a=True), True)


cofactor: Any = instruction(
    "cofactor", Kind.CALL, at_once=True, infer=_infer_square("det", lambda shape: shape), kernel=_cofactor_kernel,
    reference=lambda x: _each(_cofactors, x.shape, x), gradient=_cofactor_gradient,
    doc="The derivative of the determinant by each element.",
    examples=[Example((shape,), domains=((-1, 1),)) for shape in ((3, 3), (2, 2, 2), (1, 1), (4, 4), (0, 2, 2))],
)  # fmt: skip

determinant: Any = instruction(
    "determinant", Kind.CALL, at_once=True, infer=_infer_square("det", lambda shape: shape[:-2]),
    kernel=_determinant_kernel("", "sign = sign * pivot", "out[t] = sign"),
    reference=lambda x: np.linalg.det(x.astype(np.float64)).astype(x.dtype),
    gradient=lambda g, x: reshape_to(g, (*g.shape, 1, 1)) * cofactor(x), doc="Determinant of each matrix.",
    examples=[Example((shape,), domains=((-1, 1),)) for shape in ((3, 3), (2, 2, 2), (1, 1), (0, 2, 2))],
)  # fmt: skip


def _log_determinant_reference(x: Any) -> Any:
    return np.stack(np.linalg.slogdet(x.astype(np.float64)), -1).astype(x.dtype)


log_determinant: Any = instruction(
    "log_determinant", Kind.CALL, at_once=True, infer=_infer_square("slogdet", lambda shape: (*shape[:-2], 2)),
    kernel=_determinant_kernel(
        "total = {T}(0)",
        "sign = sign * ({T}(pivot > {T}(0)) - {T}(pivot < {T}(0)))\n            total += log(fabs(pivot))",
        "out[2 * t] = sign\n        out[2 * t + 1] = total",
    ),
    reference=_log_determinant_reference,
    gradient=lambda g, x: reshape_to(part(g, g.rank - 1, 1, 1), (*g.shape[:-1], 1, 1)) * _matrix_transpose(inverse_(x)),
    doc="Sign, and logarithm of the absolute value, of each matrix's determinant.",
    examples=[Example((shape,), domains=((-1, 1),)) for shape in ((3, 3), (2, 2, 2), (1, 1), (0, 2, 2))],
)  # fmt: skip


@composite(
    "linalg.det", reference=lambda input: np.linalg.det(input.astype(np.float64)).astype(input.dtype),
    examples=[Example((shape,), domains=((-1, 1),)) for shape in ((3, 3), (2, 3, 2, 2), (0, 0))],
)  # fmt: skip
def det(input: Tensor) -> Any:
    """Determinants of square matrices.

    Shapes: (..., n, n) gives (...). The gradient is right for singular matrices too.

    >>> nt.linalg.det([[2., 1.], [0., 4.]]).numpy()
    np.float32(8.0)
    """
    _check_square("det", input.type)
    if not input.shape[-1]:
        return input.builder.constant(1, input.dtype, input.shape[:-2])
    return determinant(input)


@composite(
    "linalg.slogdet", reference=lambda input: list(np.moveaxis(_log_determinant_reference(input), -1, 0)),
    examples=[Example((shape,), domains=((-1, 1),)) for shape in ((3, 3), (2, 3, 2, 2), (0, 0))],
)  # fmt: skip
def slogdet(input: Tensor) -> Any:
    """Signs of determinants, and logarithms of their absolute values: a list of two tensors.

    Shapes: (..., n, n) gives (...) twice. A singular matrix gives 0 and -inf.

    >>> sign, logarithm = nt.linalg.slogdet([[-1., 0.], [0., 1.]])
    >>> sign.numpy(), logarithm.numpy()
    (np.float32(-1.0), np.float32(0.0))
    """
    _check_square("slogdet", input.type)
    lead = input.shape[:-2]
    if not input.shape[-1]:
        return [input.builder.constant(number, input.dtype, lead) for number in (1, 0)]
    both = log_determinant(input)
    return [reshape_to(part(both, len(lead), k, 1), lead) for k in range(2)]


@composite("linalg.logdet", examples=[Example(((2, 1, 1),), domains=((0.5, 3),))])
def logdet(matrix: Tensor) -> Any:
    """Logarithms of the determinants of symmetric positive definite matrices.

    Shapes: (..., n, n) gives (...). A matrix that is not positive definite gives nan; only its lower triangle is read.

    >>> nt.linalg.logdet([[1., 0.], [0., 1.]]).numpy()
    np.float32(0.0)
    """
    _check_square("logdet", matrix.type)
    roots = log(diagonal_of(cholesky_(matrix)))
    return reshaped(2 * sum_(roots, (roots.rank - 1,)), matrix.shape[:-2])


# ---- cross products ---------------------------------------------------------------------------------------------

_CROSS = """\
def kernel(out, a, b, n):
    for k in range(n):
        x, y, z = 3 * k, 3 * k + 1, 3 * k + 2
        out[x] = {T}(a[y] * b[z] - a[z] * b[y])
        out[y] = {T}(a[z] * b[x] - a[x] * b[z])
        out[z] = {T}(a[x] * b[y] - a[y] * b[x])
"""


def _infer_cross(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    a, b = types
    check_kind("cross", tensor_type(check_group("cross", types), a.shape), "number")
    if a.shape != b.shape or a.shape[-1:] != (3,):
        raise ValueError(f"cross: {describe(types)}: needs vectors of three elements in the last axis of each")
    return a


def _cross_kernel(out: TensorType, types: Sequence[TensorType]) -> Any:
    code = out.dtype.code
    return _kernel("cross", _CROSS.format(T=code), code, 3, (), (out.size // 3,))


cross_: Any = instruction(
    "cross", Kind.CALL, parameters=("a", "b"), infer=_infer_cross, kernel=_cross_kernel, reference=np.cross,
    gradient=lambda g, a, b: (cross_(b, g), cross_(g, a)), doc="Cross products of vectors in the last axis.",
    examples=[Example((shape, shape)) for shape in ((3,), (2, 4, 3), (0, 3))],
)  # fmt: skip


@composite(
    "linalg.cross", reference=np.cross,
    examples=[Example(((3,), (3,))), Example(((2, 3), (3,))), Example(((2, 1, 3), (4, 3)))],
)  # fmt: skip
def cross(a: Tensor, b: Tensor) -> Any:
    """Cross products of vectors of three elements in the last axis; other axes broadcast.

    >>> nt.linalg.cross([1., 0., 0.], [0., 1., 0.]).numpy()
    array([0., 0., 1.], dtype=float32)
    """
    shape = core.broadcast("cross", a.shape, b.shape)
    if a.shape[-1:] == b.shape[-1:]:
        a, b = (x if x.shape == shape else broadcast(x, shape) for x in (a, b))
    return cross_(a, b)
