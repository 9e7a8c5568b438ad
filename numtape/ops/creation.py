"""Tensors out of nothing: one number everywhere, ramps, unit matrices.

Most of these have no operand, so there is no builder to expand in: they are plain functions that record a few ops.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from math import ceil, isfinite
from typing import Any

import numpy as np

from numtape.dtypes import DType, as_dtype, float32, float64, int32, int64, tensor_type
from numtape.ir.op import Example, Gradient, Kind, Op, register
from numtape.ir.program import CONSTANT, Instruction
from numtape.ops.core import (
    Shape,
    Tensor,
    TensorType,
    apply,
    check_group,
    check_kind,
    composite,
    default_dtype,
    describe,
    freeze,
    normalize_axis,
    public,
)
from numtape.ops.core import broadcast as broadcast_shapes
from numtape.ops.elementwise import add, convert, equal, multiply, where
from numtape.ops.movement import broadcast, reshape_to
from numtape.ops.rearrange import integer, integer_list


def _infer_iota(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    dtype, length = attributes
    return tensor_type(dtype, (length,))


IOTA = register(Op(
    "iota", Kind.MAP, (), ("dtype", "length"), infer=_infer_iota, kernel="R(index)",
    reference=lambda dtype, length: np.arange(length, dtype=dtype.dtype), gradient=Gradient.NONE,
    doc="0, 1, 2, ... of a length.",
    examples=(Example((), {"dtype": int32, "length": 5}), Example((), {"dtype": float64, "length": 0})),
))  # fmt: skip


def range_(like: Any, length: int, dtype: DType | None = None) -> Any:
    """0, 1, ... in the builder of `like`, and in its dtype unless another is given."""
    attributes = (dtype or like.dtype, length)
    return like.builder.append(Instruction(IOTA, (), attributes, _infer_iota((), attributes)))


# ---- one number everywhere --------------------------------------------------------------------------------------


def resolve_dims(name: str, shape: Any) -> Shape:
    """A user's shape as a tuple of lengths: a list, one integer, or a tensor of either."""
    dims = integer_list(name, "shape", freeze(shape))
    if any(n < 0 for n in dims):
        raise ValueError(f"{name}: shape {dims} has a negative length")
    return dims


def _constant(name: str, number: int, shape: Any, dtype: Any) -> Any:
    kind = as_dtype(dtype)
    return apply(CONSTANT, (), (kind.as_numpy_dtype(number).item(), kind, resolve_dims(name, shape)))


@public(CONSTANT, "zeros")
def zeros(shape: Any, dtype: Any = float32, name: str | None = None) -> Any:
    """A tensor of zeros.

    `shape` is a list of lengths, one integer or a tensor of those; `dtype` any element type, whose zero may be False.

    >>> nt.zeros([2, 3], nt.int32).numpy()
    array([[0, 0, 0],
           [0, 0, 0]], dtype=int32)
    """
    return _constant("zeros", 0, shape, dtype)


@public(CONSTANT, "ones")
def ones(shape: Any, dtype: Any = float32, name: str | None = None) -> Any:
    """A tensor of ones.

    `shape` is a list of lengths, one integer or a tensor of those; `dtype` any element type, whose one may be True.

    >>> nt.ones(3).numpy()
    array([1., 1., 1.], dtype=float32)
    """
    return _constant("ones", 1, shape, dtype)


@composite(
    reference=lambda value, dims: np.full(dims, value),
    examples=[
        Example(((),), {"dims": (2, 3)}), Example(((),), {"dims": ()}), Example(((),), {"dims": (0, 2)}),
        Example(((),), {"dims": (4,)}),
    ],
)  # fmt: skip
def fill(dims: Any, value: Tensor) -> Any:
    """A tensor with one number in every element.

    `dims` is a list of lengths, one integer or a tensor of those. The result has the dtype of `value`, and its
    gradient with respect to `value` is the sum over all elements. ValueError if `value` is not a single number.

    >>> nt.fill([2, 2], 7.0).numpy()
    array([[7., 7.],
           [7., 7.]], dtype=float32)
    """
    if value.rank:
        raise ValueError(
            f"fill: value is a single number, got {describe([value.type])}; nt.broadcast_to repeats a tensor"
        )
    return broadcast(value, resolve_dims("fill", dims))


def _like(input: Any, number: int, dtype: Any) -> Any:
    kind = input.dtype if dtype is None else as_dtype(dtype)
    return input.builder.constant(kind.as_numpy_dtype(number).item(), kind, input.shape)


_LIKE = [Example(((2, 3),), {"dtype": None}), Example(((),), {"dtype": "int32"}), Example(((0, 2),), {"dtype": bool})]


@composite(
    reference=lambda input, dtype: np.zeros(input.shape, input.dtype if dtype is None else as_dtype(dtype).dtype),
    examples=_LIKE,
)
def zeros_like(input: Tensor, dtype: Any = None) -> Any:
    """Zeros in the shape of `input`, and in its dtype unless another is given; no gradient flows.

    >>> nt.zeros_like([1.0, 2.0]).numpy()
    array([0., 0.], dtype=float32)
    """
    return _like(input, 0, dtype)


@composite(
    reference=lambda input, dtype: np.ones(input.shape, input.dtype if dtype is None else as_dtype(dtype).dtype),
    examples=_LIKE,
)
def ones_like(input: Tensor, dtype: Any = None) -> Any:
    """Ones in the shape of `input`, and in its dtype unless another is given; no gradient flows.

    >>> nt.ones_like([1.0, 2.0], dtype=nt.int32).numpy()
    array([1, 1], dtype=int32)
    """
    return _like(input, 1, dtype)


# ---- ramps ------------------------------------------------------------------------------------------------------

_WIDTHS = (int32, int64, float32, float64)
"""What `range` chooses among: the last that one of its arguments has."""


def _dtype_of(argument: Any) -> DType:
    dtype = getattr(argument, "dtype", None)
    return default_dtype(argument) if dtype is None else as_dtype(dtype)


def _range_dtype(given: Sequence[Any]) -> DType:
    dtypes = [_dtype_of(x) for x in given]
    if any(d not in _WIDTHS for d in dtypes):
        names = ", ".join(d.name for d in dtypes)
        raise TypeError(f"range: the dtype of a range over {names} is not clear; say it with dtype=")
    return max(dtypes, key=_WIDTHS.index)


def _check_range_number(number: Any, dtype: DType) -> Any:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"range: start, limit and delta are single numbers, got {number!r}")
    if dtype.is_integer and isinstance(number, float):
        raise TypeError(f"range: {number!r} is no integer, but the range is to be of {dtype.name}")
    if dtype.is_integer and not dtype.min <= number <= dtype.max:
        raise OverflowError(f"range: {number} is out of range for {dtype.name}")
    if not isfinite(number):
        raise ValueError(f"range: start, limit and delta are finite, got {number}")
    return number


def _count(start: Any, limit: Any, delta: Any, dtype: DType) -> int:
    """How many elements: for floats as their own arithmetic has it, which is what TensorFlow does."""
    if dtype.is_integer:
        return len(builtins.range(start, limit, delta))
    start, limit, delta = (dtype.as_numpy_dtype(x) for x in (start, limit, delta))
    count: int = ceil((limit - start) / delta)
    return count


@public(IOTA, "range")
def range(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str | None = None) -> Any:
    """Numbers from `start`, `delta` apart, up to but without `limit`; with one argument from 0 up to it.

    The arguments are single numbers or tensors of one, whose elements are looked at, so that no gradient flows to
    them. Without `dtype` it is the widest among theirs of int32, int64, float32 and float64. ValueError if `delta` is
    0 or leads away from `limit`.

    >>> nt.range(3, 18, 3).numpy()
    array([ 3,  6,  9, 12, 15], dtype=int32)
    >>> nt.range(1.0, 0.0, -0.25).numpy()
    array([1.  , 0.75, 0.5 , 0.25], dtype=float32)
    """
    if limit is None:
        start, limit = 0, start
    given = start, limit, delta
    kind = _range_dtype(given) if dtype is None else as_dtype(dtype)
    if kind.is_bool:
        raise TypeError("range: there is no range of bools")
    first, last, step = (_check_range_number(freeze(x), kind) for x in given)
    if step == 0:
        raise ValueError("range: delta is 0; no number of steps leads anywhere")
    if (last - first) * step < 0:
        raise ValueError(f"range: steps of {step} lead from {first} away from {last}")
    result = _ramp(_count(first, last, step, kind), kind)
    if step != 1:
        result = multiply(result, step)
    return add(result, first) if first != 0 else result


def _ramp(length: int, dtype: DType) -> Any:
    """0, 1, ... recorded; narrow integers wrap around."""
    if dtype.itemsize < 4:
        return convert(apply(IOTA, (), (int32, length)), dtype)
    return apply(IOTA, (), (dtype, length))


def _linspace_reference(start: Any, stop: Any, last: Any, num: int, axis: int) -> Any:
    dtype = start.dtype if start.dtype.kind == "f" else np.float64
    return np.linspace(start, stop, num, axis=axis).astype(dtype)


def _expand_linspace(values: Sequence[Any], attributes: tuple[Any, ...]) -> Any:
    (start, stop, last), (num, axis) = values, attributes
    dtype = check_group("linspace", [start.type, stop.type])
    check_kind("linspace", start.type, "number")
    shape = broadcast_shapes("linspace", start.shape, stop.shape)
    axis = normalize_axis("linspace", axis, len(shape) + 1)
    # In float64, as NumPy computes it: between float32 bounds nearly every number is then the one next to the true.
    start, stop = (
        reshape_to(broadcast(convert(x, float64), shape), (*shape[:axis], 1, *shape[axis:])) for x in (start, stop)
    )
    column = (num, *[1] * (len(shape) - axis))
    at = reshape_to(range_(last, num, float64), column)
    result = start + (stop - start) * (at / convert(last, float64))
    if num > 1:
        result = where(at == convert(last, float64), stop, result)
    return convert(result, float64 if dtype.is_integer else dtype)


LINSPACE = register(Op(
    "nt.linspace", Kind.COMPOSITE, ("start", "stop", "last"), ("num", "axis"), expand=_expand_linspace,
    groups=("T", "T", "I"), reference=_linspace_reference, doc="See nt.linspace; `last` is the last index, at least 1.",
    examples=(
        Example(((), (), ()), {"num": 5, "axis": 0}, ((-3, 3), (-3, 3), (4, 4))),
        Example(((), (), ()), {"num": 1, "axis": 0}, ((-3, 3), (-3, 3), (1, 1))),
        Example(((), (), ()), {"num": 0, "axis": 0}, ((-3, 3), (-3, 3), (1, 1))),
        Example(((2, 3), (3,), ()), {"num": 4, "axis": -2}, ((-3, 3), (-3, 3), (3, 3))),
        Example(((3,), (), ()), {"num": 2, "axis": 1}, ((-3, 3), (-3, 3), (1, 1))),
    ),
))  # fmt: skip


@public(LINSPACE, "linspace")
def linspace(start: Any, stop: Any, num: Any, name: str | None = None, axis: int = 0) -> Any:
    """`num` numbers from `start` to `stop`, both of them included, at equal distances.

    `start` and `stop` are numbers or tensors of one dtype that broadcast against each other; the numbers go along a
    new axis. Floats give the same, integers float64. The first number is `start` and the last `stop`, exactly, unless
    there is one alone, which is `start`. Gradients flow to tensors. ValueError if `num` is negative.

    >>> nt.linspace(-10.0, 10.0, 5).numpy()
    array([-10.,  -5.,   0.,   5.,  10.], dtype=float32)
    """
    num = integer("linspace", "num", freeze(num))
    if num < 0:
        raise ValueError(f"linspace: num {num} is negative")
    return apply(LINSPACE, (start, stop, max(num - 1, 1)), (num, freeze(axis)))


# ---- unit matrices ----------------------------------------------------------------------------------------------


@public(IOTA, "eye", "linalg.eye")
def eye(
    num_rows: Any, num_columns: Any = None, batch_shape: Any = None, dtype: Any = float32, name: str | None = None
) -> Any:
    """A unit matrix, square unless `num_columns` is given, or `batch_shape` of them.

    `dtype` is any element type. ValueError if a length is negative.

    >>> nt.eye(2, 3).numpy()
    array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)
    """
    rows, columns = resolve_dims("eye", [num_rows, num_rows if num_columns is None else num_columns])
    diagonal = equal(reshape_to(_ramp(rows, int32), (rows, 1)), _ramp(columns, int32))
    matrix = convert(diagonal, as_dtype(dtype))
    return matrix if batch_shape is None else broadcast(matrix, (*resolve_dims("eye", batch_shape), rows, columns))
