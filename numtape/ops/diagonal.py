"""Diagonals and bands of matrices.

In a flattened matrix with c columns the elements of a diagonal are c + 1 apart: taking one is a slice, and putting one
back embeds it into zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numtape.dtypes import TensorType, int32, tensor_type
from numtape.ir.op import Example
from numtape.ir.program import Instruction
from numtape.ops.core import Tensor, check_kind, composite, describe
from numtape.ops.creation import IOTA
from numtape.ops.elementwise import select
from numtape.ops.movement import embed, reshape_to, slice_of
from numtape.ops.rearrange import integer
from numtape.ops.reduction import sum_


def check_matrix(name: str, type: TensorType) -> None:
    if type.rank < 2:
        raise ValueError(f"{name}: {describe([type])}: needs rank 2 or more, a matrix in the last two axes")


def diagonal_of(x: Any, k: int = 0) -> Any:
    """The elements `k` right of the main diagonal of the last two axes."""
    *lead, rows, columns = x.shape
    length = max(0, min(rows, columns - k) if k >= 0 else min(rows + k, columns))
    begin = k if k >= 0 else -k * columns
    flat = reshape_to(x, (*lead, rows * columns))
    zeros, ones = (0,) * len(lead), (1,) * len(lead)
    return slice_of(flat, (*zeros, begin if length else 0), (*lead, length), (*ones, columns + 1))


def diagonal_matrix(x: Any, k: int = 0) -> Any:
    """The last axis as a diagonal of square matrices that are zero elsewhere."""
    *lead, length = x.shape
    n = length + abs(k)
    begin = k if k >= 0 else -k * n
    zeros, ones = (0,) * len(lead), (1,) * len(lead)
    flat = embed(x, (*lead, n * n), (*zeros, begin if length else 0), (*ones, n + 1), 0)
    return reshape_to(flat, (*lead, n, n))


def band(x: Any, lower: int, upper: int) -> Any:
    """Zeros in all but so many diagonals below and above the main one; all are kept where the number is negative."""
    rows, columns = x.shape[-2:]
    i, j = reshape_to(_places(x, rows), (rows, 1)), _places(x, columns)
    if lower >= 0:
        x = select(i - j <= min(lower, rows), x, 0)
    if upper >= 0:
        x = select(j - i <= min(upper, columns), x, 0)
    return x


def _places(like: Any, length: int) -> Any:
    return like.builder.append(Instruction(IOTA, (), (int32, length), tensor_type(int32, (length,))))


# ---- what users call --------------------------------------------------------------------------------------------


def _diag_reference(diagonal: Any, k: int) -> Any:
    n = diagonal.shape[-1] + abs(k)
    out = np.zeros((*diagonal.shape[:-1], n, n), diagonal.dtype)
    i = np.arange(diagonal.shape[-1])
    out[..., i + max(-k, 0), i + max(k, 0)] = diagonal
    return out


@composite(
    "linalg.diag", reference=_diag_reference,
    examples=[
        Example((shape,), {"k": k})
        for k, shape in ((0, (3,)), (1, (2, 3)), (-2, (2, 2)), (0, (1,)), (0, (0,)), (1, (0,)), (-1, (2, 0)))
    ],
)  # fmt: skip
def diag(diagonal: Tensor, k: int = 0) -> Any:
    """Square matrices with the last axis on a diagonal and zeros elsewhere; `k` counts diagonals from the main one up.

    Shapes: (..., n) gives (..., n + abs(k), n + abs(k)).

    >>> nt.linalg.diag([1., 2.]).numpy()
    array([[1., 0.],
           [0., 2.]], dtype=float32)
    """
    k = integer("diag", "k", k)
    if diagonal.rank < 1:
        raise ValueError(f"diag: {describe([diagonal.type])}: needs rank 1 or more, the diagonal in the last axis")
    return diagonal_matrix(diagonal, k)


def _part_reference(input: Any, k: int) -> Any:
    return np.diagonal(input, k, -2, -1)


@composite(
    "linalg.diag_part", reference=_part_reference,
    examples=[
        Example((shape,), {"k": k})
        for k, shape in (
            (0, (3, 3)), (1, (2, 3)), (-1, (2, 3)), (0, (2, 3, 2)), (2, (2, 2, 4)), (-2, (3, 1)), (0, (1, 1)),
            (0, (0, 3)), (0, (3, 0)), (0, (0, 2, 2)),
        )
    ],
)  # fmt: skip
def diag_part(input: Tensor, k: int = 0) -> Any:
    """A diagonal of the last two axes, the main one or the one `k` above it (below it if negative).

    Shapes: (..., rows, columns) gives (..., length). Raises ValueError where there is no such diagonal.

    >>> nt.linalg.diag_part([[1., 2.], [3., 4.]]).numpy(), nt.linalg.diag_part([[1., 2.], [3., 4.]], k=1).numpy()
    (array([1., 4.], dtype=float32), array([2.], dtype=float32))
    """
    check_matrix("diag_part", input.type)
    rows, columns = input.shape[-2:]
    k = integer("diag_part", "k", k)
    if k and not -rows < k < columns:
        raise ValueError(f"diag_part: {describe([input.type])} has diagonals {1 - rows} to {columns - 1}, and not {k}")
    return diagonal_of(input, k)


@composite(
    "linalg.trace", reference=lambda x: np.trace(x, axis1=-2, axis2=-1, dtype=x.dtype),
    examples=[Example((shape,)) for shape in ((3, 3), (2, 3), (2, 3, 2), (1, 1), (0, 3), (0, 2, 2), (2, 0, 0))],
)  # fmt: skip
def trace(x: Tensor) -> Any:
    """Sum of the main diagonal of the last two axes.

    >>> nt.linalg.trace([[1., 2.], [3., 4.]]).numpy()
    np.float32(5.0)
    """
    check_matrix("trace", x.type)
    check_kind("trace", x.type, "number")
    return reshape_to(sum_(diagonal_of(x), (x.rank - 2,)), x.shape[:-2])


def _band_reference(input: Any, num_lower: int, num_upper: int) -> Any:
    lower = num_lower if num_lower >= 0 else max(input.shape)
    upper = num_upper if num_upper >= 0 else max(input.shape)
    return np.triu(np.tril(input, upper), -lower)


@composite(
    "linalg.band_part", reference=_band_reference,
    examples=[
        Example((shape,), {"num_lower": lower, "num_upper": upper})
        for lower, upper, shape in (
            (-1, 0, (3, 3)), (0, -1, (3, 4)), (0, 0, (2, 4, 3)), (1, 2, (5, 5)), (-1, -1, (2, 3)), (9, 0, (2, 2, 3, 4)),
            (1, 0, (0, 3)),
        )
    ],
)  # fmt: skip
def band_part(input: Tensor, num_lower: int, num_upper: int) -> Any:
    """Matrices with zeros in all but `num_lower` diagonals below and `num_upper` above the main one.

    A negative number keeps them all: `band_part(x, -1, 0)` is the lower triangle, `band_part(x, 0, -1)` the upper.

    >>> nt.linalg.band_part([[1., 2.], [3., 4.]], -1, 0).numpy()
    array([[1., 0.],
           [3., 4.]], dtype=float32)
    """
    check_matrix("band_part", input.type)
    lower, upper = integer("band_part", "num_lower", num_lower), integer("band_part", "num_upper", num_upper)
    return band(reshape_to(input, input.shape), lower, upper)
