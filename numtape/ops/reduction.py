"""Ops that fold axes away.

The folds themselves (`sum_`, `max_`, ...) keep the folded axes as length 1, so that what they give broadcasts against
what they took; the public functions, written with them, drop those axes unless `keepdims` asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, prod
from typing import Any

import numpy as np

from numtape.dtypes import Shape, as_dtype, float64, int32, int64, tensor_type, uint64
from numtape.ir.op import Example, Gradient, Kind
from numtape.ops.core import (
    Tensor,
    TensorType,
    check_flag,
    check_kind,
    composite,
    describe,
    instruction,
    normalize_axes,
    normalize_axis,
)
from numtape.ops.creation import range_
from numtape.ops.elementwise import absolute, convert, floordiv, is_finite, not_equal, square, where
from numtape.ops.movement import broadcast, inverse, permute, reshape_to, stop
from numtape.ops.scan import cumprod_
from numtape.ops.transcendental import exp, log, sqrt

# ---- folds ------------------------------------------------------------------------------------------------------


def _infer(name: str, kind: str) -> Any:
    def infer(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
        (x,), (axes,) = types, attributes
        check_kind(name, x, kind)
        return tensor_type(x.dtype, tuple(1 if a in axes else n for a, n in enumerate(x.shape)))

    return infer


def _fold(name: str, function: Callable[..., Any], gradient: Any, doc: str, kind: str = "number") -> Any:
    return instruction(
        name, Kind.REDUCE, attributes=("axes",), kernel=name, infer=_infer(name, kind), doc=doc, gradient=gradient,
        reference=lambda x, axes: function(x, axis=axes, keepdims=True),
        examples=[
            Example((shape,), {"axes": axes})
            for shape, axes in (
                ((4,), (0,)), ((2, 3), (1,)), ((3, 2), (0,)), ((2, 3), (0, 1)), ((2, 3, 2), (1,)), ((2, 3, 2), (0, 2)),
                ((1, 3), (0,)), ((2, 3), ()), ((), ()), ((0, 2), (1,)),
            )
        ],
    )  # fmt: skip


def _extremum(function: Callable[..., Any], first: Callable[[np.dtype[Any]], Any]) -> Callable[..., Any]:
    """NumPy's function, which on nothing gives what any element beats."""
    return lambda x, axis, keepdims: function(x, axis=axis, keepdims=keepdims, initial=first(x.dtype))


def _lowest(dtype: np.dtype[Any]) -> Any:
    return -inf if dtype.kind == "f" else np.iinfo(dtype).min


def _highest(dtype: np.dtype[Any]) -> Any:
    return inf if dtype.kind == "f" else np.iinfo(dtype).max


def _in_dtype(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axis, keepdims: function(x, axis=axis, keepdims=keepdims, dtype=x.dtype)


def _share_among_ties(g: Any, x: Any, out: Any, axes: Any) -> Any:
    """Each of several equal extrema gets the same part, as in TensorFlow."""
    hit = convert(x == out, x.dtype)
    return g / sum_(hit, axes) * hit


def _product_of_others(g: Any, x: Any, axes: tuple[int, ...]) -> Any:
    """What comes before each element times what comes after: right where elements are zero."""
    kept = tuple(a for a in range(x.rank) if a not in axes)
    adjacent = bool(axes) and axes == tuple(range(axes[0], axes[-1] + 1))
    first = axes[0] if adjacent else len(kept)
    perm = (*kept[:first], *axes, *kept[first:])
    moved = permute(x, perm)
    end = first + len(axes)
    flat = reshape_to(moved, (prod(moved.shape[:first]), prod(moved.shape[first:end]), prod(moved.shape[end:])))
    others = reshape_to(cumprod_(flat, 1, True, False) * cumprod_(flat, 1, True, True), moved.shape)
    return g * permute(others, inverse(perm))


_NUMPY_SUM, _NUMPY_PRODUCT = _in_dtype(np.sum), _in_dtype(np.prod)
_NUMPY_MAX, _NUMPY_MIN = _extremum(np.max, _lowest), _extremum(np.min, _highest)

sum_ = _fold("sum", _NUMPY_SUM, lambda g, x: broadcast(g, x.shape), "Sum over axes.")
product = _fold("product", _NUMPY_PRODUCT, _product_of_others, "Product over axes.")
max_ = _fold("max", _NUMPY_MAX, _share_among_ties, "Maximum over axes.")
min_ = _fold("min", _NUMPY_MIN, _share_among_ties, "Minimum over axes.")
any_ = _fold("any", np.any, Gradient.NONE, "Whether any element over axes is True.", "bool")
all_ = _fold("all", np.all, Gradient.NONE, "Whether all elements over axes are True.", "bool")

# ---- what the public functions share ----------------------------------------------------------------------------


def count_over(shape: Shape, axes: Sequence[int]) -> int:
    """How many elements go into each result of a fold."""
    return prod(shape[a] for a in axes)


def mean_(x: Any, axes: tuple[int, ...]) -> Any:
    """Mean over axes, which stay as length 1; of integers the truncated one."""
    count = count_over(x.shape, axes)
    if x.dtype.is_floating:
        return sum_(x, axes) / count
    total = sum_(convert(x, uint64 if x.dtype is uint64 else int64), axes)
    down = floordiv(total, count)
    return convert(where((down < 0) & not_equal(down * count, total), down + 1, down), x.dtype)


def variance_(x: Any, axes: tuple[int, ...]) -> Any:
    """Mean square of what differs from the mean: nothing cancels."""
    return mean_(square(x - mean_(x, axes)), axes)


def root(x: Any) -> Any:
    """Square root of what is not negative, whose derivative at 0 is 0."""
    zero = x == 0
    return where(zero, 0, sqrt(where(zero, 1, x)))


def _reduce(
    name: str, fold: Callable[..., Any], x: Any, axis: Any, keepdims: Any, kind: str = "number"
) -> Any:
    check_kind(name, x.type, kind)
    axes = normalize_axes(name, axis, x.rank)
    return _squeezed(fold(x, axes), axes, check_flag(name, "keepdims", keepdims))


def _squeezed(value: Any, axes: Sequence[int], keepdims: bool) -> Any:
    if keepdims:
        return value
    return reshape_to(value, tuple(n for a, n in enumerate(value.shape) if a not in axes))


def _reference(function: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(input_tensor: Any, axis: Any, keepdims: Any) -> Any:
        return function(input_tensor, axis=axis, keepdims=bool(keepdims))

    return reduce


_CASES: tuple[tuple[Shape, Any, Any], ...] = (
    ((2, 3), None, False), ((2, 3), -1, True), ((4, 3), 0, None), ((2, 3, 2), (0, -1), False), ((2, 3, 2), 1, False),
    ((2, 3, 2), (-1, 1), True), ((), None, True), ((1, 2), 0, False),
)  # fmt: skip
_EXAMPLES = [Example((shape,), {"axis": axis, "keepdims": keepdims}) for shape, axis, keepdims in _CASES]
_EMPTY = [Example(((2, 0),), {"axis": axis, "keepdims": False}) for axis in (0, 1, None)]
_NONE_LEFT = _EMPTY[:1]
"""For folds that have no finite result over nothing."""

# ---- sums, products, extrema, truth -----------------------------------------------------------------------------


@composite("reduce_sum", "math.reduce_sum", reference=_reference(_NUMPY_SUM), examples=_EXAMPLES + _EMPTY)
def reduce_sum(input_tensor: Tensor, axis: Any = None, keepdims: bool = False) -> Any:
    """Sum of elements over `axis`: an integer, several of them, or None for all.

    Takes numbers and gives the same dtype: integers wrap around. The axes go away, or stay as length 1 with
    `keepdims`. Long sums of float32 run in blocks that are added in float64, always in the same order. ValueError if
    there is no such axis, or if one is named twice.

    >>> nt.reduce_sum([[1.0, 2.0], [3.0, 4.0]], axis=0).numpy()
    array([4., 6.], dtype=float32)
    """
    return _reduce("reduce_sum", sum_, input_tensor, axis, keepdims)


@composite("reduce_prod", "math.reduce_prod", reference=_reference(_NUMPY_PRODUCT), examples=_EXAMPLES + _EMPTY)
def reduce_prod(input_tensor: Tensor, axis: Any = None, keepdims: bool = False) -> Any:
    """Product of elements over `axis`: an integer, several of them, or None for all.

    Takes numbers and gives the same dtype: integers wrap around. The axes go away, or stay as length 1 with
    `keepdims`. Derivatives divide by nothing: they are right where elements are zero. ValueError if there is no such
    axis, or if one is named twice.

    >>> nt.reduce_prod([[1.0, 2.0], [3.0, 4.0]], axis=1).numpy()
    array([ 2., 12.], dtype=float32)
    """
    return _reduce("reduce_prod", product, input_tensor, axis, keepdims)


@composite("reduce_max", "math.reduce_max", reference=_reference(_NUMPY_MAX), examples=_EXAMPLES + _NONE_LEFT)
def reduce_max(input_tensor: Tensor, axis: Any = None, keepdims: bool = False) -> Any:
    """Greatest element over `axis`: an integer, several of them, or None for all.

    Takes numbers and gives the same dtype. The axes go away, or stay as length 1 with `keepdims`. Nan wins over
    everything; of no elements, the maximum is -inf or the least integer. Equal maxima share the gradient evenly.
    ValueError if there is no such axis, or if one is named twice.

    >>> nt.reduce_max([[1.0, 2.0], [3.0, 0.0]], axis=1).numpy()
    array([2., 3.], dtype=float32)
    """
    return _reduce("reduce_max", max_, input_tensor, axis, keepdims)


@composite("reduce_min", "math.reduce_min", reference=_reference(_NUMPY_MIN), examples=_EXAMPLES + _NONE_LEFT)
def reduce_min(input_tensor: Tensor, axis: Any = None, keepdims: bool = False) -> Any:
    """Least element over `axis`: an integer, several of them, or None for all.

    Takes numbers and gives the same dtype. The axes go away, or stay as length 1 with `keepdims`. Nan wins over
    everything; of no elements, the minimum is inf or the greatest integer. Equal minima share the gradient evenly.
    ValueError if there is no such axis, or if one is named twice.

    >>> nt.reduce_min([[1.0, 2.0], [3.0, 0.0]], axis=1).numpy()
    array([1., 0.], dtype=float32)
    """
    return _reduce("reduce_min", min_, input_tensor, axis, keepdims)


@composite("reduce_any", "math.reduce_any", reference=_reference(np.any), examples=_EXAMPLES + _EMPTY)
def reduce_any(input_tensor: Tensor, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether any element over `axis` is True; the axis is an integer, several of them, or None for all.

    Takes and gives bool. The axes go away, or stay as length 1 with `keepdims`. Of no elements, none is True.
    ValueError if there is no such axis, or if one is named twice.

    >>> nt.reduce_any([[True, False], [False, False]], axis=1).numpy()
    array([ True, False])
    """
    return _reduce("reduce_any", any_, input_tensor, axis, keepdims, "bool")


@composite("reduce_all", "math.reduce_all", reference=_reference(np.all), examples=_EXAMPLES + _EMPTY)
def reduce_all(input_tensor: Tensor, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether all elements over `axis` are True; the axis is an integer, several of them, or None for all.

    Takes and gives bool. The axes go away, or stay as length 1 with `keepdims`. Of no elements, all are True.
    ValueError if there is no such axis, or if one is named twice.

    >>> nt.reduce_all([[True, True], [True, False]], axis=1).numpy()
    array([ True, False])
    """
    return _reduce("reduce_all", all_, input_tensor, axis, keepdims, "bool")


def _count(input: Any, axis: Any, keepdims: Any, dtype: Any) -> Any:
    return np.asarray(np.count_nonzero(input, axis=axis, keepdims=bool(keepdims))).astype(as_dtype(dtype).dtype)


@composite(
    "math.count_nonzero", "count_nonzero", reference=_count,
    examples=[
        Example((shape,), {"axis": axis, "keepdims": False, "dtype": dtype})
        for shape, axis, dtype in (((2, 3), None, int64), ((2, 3), 1, int32), ((2, 3, 2), (0, -1), int64))
    ],
)  # fmt: skip
def count_nonzero(input: Tensor, axis: Any = None, keepdims: bool | None = None, dtype: Any = int64) -> Any:
    """How many elements over `axis` are not zero; the axis is an integer, several of them, or None for all.

    Takes any dtype and gives `dtype`, a numeric one; nan is not zero. The axes go away, or stay as length 1 with
    `keepdims`. ValueError if there is no such axis, or if one is named twice.

    >>> nt.math.count_nonzero([[1.0, 0.0], [3.0, 4.0]], axis=1).numpy()
    array([1, 2])
    """
    hit = input if input.dtype.is_bool else not_equal(input, 0)
    return _reduce("count_nonzero", sum_, convert(hit, as_dtype(dtype)), axis, keepdims)


# ---- means and what is measured from them -----------------------------------------------------------------------


def _mean(x: Any, axis: Any, keepdims: bool) -> Any:
    total = np.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype if x.dtype.kind == "f" else np.int64)
    count = x.size // max(total.size, 1)
    if x.dtype.kind == "f":
        return np.divide(total, count)
    return np.asarray(np.sign(total) * (np.abs(total) // max(count, 1))).astype(x.dtype)


@composite("reduce_mean", "math.reduce_mean", reference=_reference(_mean), examples=_EXAMPLES + _NONE_LEFT)
def reduce_mean(input_tensor: Tensor, axis: Any = None, keepdims: bool = False) -> Any:
    """Mean of elements over `axis`: an integer, several of them, or None for all.

    Takes numbers and gives the same dtype: a mean of integers loses its fraction, as in TensorFlow, but is summed in
    64 bits. The axes go away, or stay as length 1 with `keepdims`. Of no elements, the mean is nan, or 0 for
    integers. ValueError if there is no such axis, or if one is named twice.

    >>> nt.reduce_mean([[1.0, 2.0], [3.0, 4.0]], axis=0).numpy()
    array([2., 3.], dtype=float32)
    >>> int(nt.reduce_mean([1, 2, 0, 0]))
    0
    """
    return _reduce("reduce_mean", mean_, input_tensor, axis, keepdims)


def _variance(x: Any, axis: Any, keepdims: bool) -> Any:
    return _mean(np.square(x - _mean(x, axis, True)), axis, keepdims)


@composite(
    "reduce_variance", "math.reduce_variance", reference=_reference(_variance), examples=_EXAMPLES + _NONE_LEFT
)  # fmt: skip
def reduce_variance(input_tensor: Tensor, axis: Any = None, keepdims: bool = False) -> Any:
    """Variance of elements over `axis`: an integer, several of them, or None for all.

    It is the mean square of what differs from the mean: a population's variance, in two passes, so that a large mean
    costs no digits. Takes float32 or float64, and gives the same. The axes go away, or stay as length 1 with
    `keepdims`. Of no elements, the variance is nan. ValueError if there is no such axis, or if one is named twice.

    >>> nt.math.reduce_variance([[1.0, 2.0], [3.0, 7.0]], axis=1).numpy()
    array([0.25, 4.  ], dtype=float32)
    """
    return _reduce("reduce_variance", variance_, input_tensor, axis, keepdims, "float")


_STEADY = [e for e in _EXAMPLES if e.shapes[0] not in ((), (1, 2))]
"""Without variances of a single element, which are zero: a root has no derivative there."""


@composite(
    "reduce_std", "math.reduce_std", reference=_reference(lambda *a, **k: np.sqrt(_variance(*a, **k))),
    examples=_STEADY + _NONE_LEFT,
)  # fmt: skip
def reduce_std(input_tensor: Tensor, axis: Any = None, keepdims: bool = False) -> Any:
    """Standard deviation of elements over `axis`: an integer, several of them, or None for all.

    The square root of `reduce_variance`; where that is zero, the gradient is zero too. Takes float32 or float64, and
    gives the same. The axes go away, or stay as length 1 with `keepdims`. Of no elements, it is nan. ValueError if
    there is no such axis, or if one is named twice.

    >>> nt.math.reduce_std([[1.0, 2.0], [3.0, 7.0]], axis=1).numpy()
    array([0.5, 2. ], dtype=float32)
    """
    return _reduce("reduce_std", lambda x, axes: root(variance_(x, axes)), input_tensor, axis, keepdims, "float")


# ---- norms and log-sum-exp --------------------------------------------------------------------------------------


def _length(x: Any, axis: Any, keepdims: bool) -> Any:
    wide = x if x.dtype.kind == "f" else x.astype(np.float64)
    return np.asarray(np.sqrt(np.sum(np.square(wide), axis=axis, keepdims=keepdims))).astype(x.dtype)


def length_(x: Any, axes: tuple[int, ...]) -> Any:
    """Euclidean norm over axes, which stay as length 1."""
    return root(sum_(square(x), axes))


@composite(
    "reduce_euclidean_norm", "math.reduce_euclidean_norm", reference=_reference(_length), examples=_EXAMPLES + _EMPTY
)  # fmt: skip
def reduce_euclidean_norm(input_tensor: Tensor, axis: Any = None, keepdims: bool = False) -> Any:
    """Euclidean norm over `axis`: an integer, several of them, or None for all.

    Takes numbers and gives the same dtype: of integers, the norm loses its fraction. The axes go away, or stay as
    length 1 with `keepdims`. Where the norm is zero it has no derivative; the gradient is zero there. ValueError if
    there is no such axis, or if one is named twice.

    >>> nt.math.reduce_euclidean_norm([[3.0, 4.0], [6.0, 8.0]], axis=1).numpy()
    array([ 5., 10.], dtype=float32)
    """
    if input_tensor.dtype.is_integer:
        norm = _reduce("reduce_euclidean_norm", length_, convert(input_tensor, float64), axis, keepdims)
        return convert(norm, input_tensor.dtype)
    return _reduce("reduce_euclidean_norm", length_, input_tensor, axis, keepdims)


def logsumexp_(x: Any, axes: tuple[int, ...]) -> Any:
    """Logarithm of the sum of exponentials over axes, which stay as length 1."""
    top = stop(max_(x, axes))
    shift = where(is_finite(top), top, 0)
    total = sum_(exp(x - shift), axes)
    nothing = total == 0
    return where(nothing, -inf, log(where(nothing, 1, total))) + shift


def _logsumexp(x: Any, axis: Any, keepdims: bool) -> Any:
    top = _NUMPY_MAX(x, axis, True)
    shift = np.where(np.isfinite(top), top, 0)
    logarithm = np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    return logarithm if keepdims else np.squeeze(logarithm, tuple(range(x.ndim)) if axis is None else axis)


@composite(
    "reduce_logsumexp", "math.reduce_logsumexp", reference=_reference(_logsumexp), examples=_EXAMPLES + _NONE_LEFT
)  # fmt: skip
def reduce_logsumexp(input_tensor: Tensor, axis: Any = None, keepdims: bool = False) -> Any:
    """Logarithm of the sum of exponentials over `axis`: an integer, several of them, or None for all.

    Never overflows. Takes float32 or float64, and gives the same. The axes go away, or stay as length 1 with
    `keepdims`. Where all elements are -inf, or there are none, so is the result, and the gradient is zero.
    ValueError if there is no such axis, or if one is named twice.

    >>> nt.reduce_logsumexp([[0.0, 0.0], [0.0, 1000.0]], axis=1).numpy()
    array([6.931472e-01, 1.000000e+03], dtype=float32)
    """
    return _reduce("reduce_logsumexp", logsumexp_, input_tensor, axis, keepdims, "float")


_NORMS = ("euclidean", "fro", 1, 2, inf)


def _norm_reference(tensor: Any, ord: Any, axis: Any, keepdims: Any) -> Any:
    axes = tuple(range(tensor.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    size, keepdims = np.abs(tensor), bool(keepdims)
    if ord in ("euclidean", "fro") or ord == 2:
        return np.sqrt(np.sum(size * size, axis=axes, keepdims=keepdims))
    if axis is None or len(axes) == 1:
        return (np.sum if ord == 1 else np.max)(size, axis=axes, keepdims=keepdims)
    inner, outer = axes if ord == 1 else axes[::-1]
    found = np.max(np.sum(size, axis=inner, keepdims=True), axis=outer, keepdims=True)
    return found if keepdims else np.squeeze(found, axes)


@composite(
    "norm", "linalg.norm", reference=_norm_reference,
    examples=[
        Example(((3, 4),), {"ord": ord, "axis": axis, "keepdims": keepdims})
        for ord, axis, keepdims in (
            ("euclidean", None, None), (1, None, True), (inf, None, False), (2, 1, False), (1, -1, True),
            (inf, 0, None), ("fro", (0, 1), False), (1, (0, 1), True), (1, (1, 0), False), (inf, (-2, -1), False),
        )
    ],
)  # fmt: skip
def norm(tensor: Tensor, ord: Any = "euclidean", axis: Any = None, keepdims: bool | None = None) -> Any:
    """Norm of vectors (`axis` an integer), of matrices (a pair of axes), or of all elements as one vector (None).

    `ord` is "euclidean" (for matrices also "fro"), 1, 2 or inf; for matrices 1 is the greatest sum of a column, inf
    that of a row, and 2 is not available. Takes float32 or float64, and gives the same. The axes go away, or stay as
    length 1 with `keepdims`. Where a Euclidean norm is zero it has no derivative; the gradient is zero there, where
    TensorFlow gives nan. ValueError for another `ord`, or if there is no such axis.

    >>> nt.norm([[3.0, 4.0], [6.0, 8.0]], axis=1).numpy()
    array([ 5., 10.], dtype=float32)
    >>> float(nt.norm([[3.0, 4.0], [6.0, 8.0]], ord=1, axis=(0, 1)))
    12.0
    """
    check_kind("norm", tensor.type, "float")
    pair = isinstance(axis, tuple)
    if ord not in _NORMS or (pair and ord == 2) or (ord == "fro" and not pair):
        raise ValueError(
            f"norm: ord={ord!r} is not available for {'matrices' if pair else 'vectors'}; choose 'euclidean', 1, inf, "
            f"or {'fro' if pair else '2'!r}"
        )
    if pair and len(axis) != 2:
        raise ValueError(f"norm: axis is one integer for vectors and two for matrices, got {axis}")
    axes = normalize_axes("norm", axis, tensor.rank)
    if ord in ("euclidean", "fro", 2):
        found = length_(tensor, axes)
    elif not pair:
        found = (sum_ if ord == 1 else max_)(absolute(tensor), axes)
    else:
        rows, columns = (normalize_axis("norm", a, tensor.rank) for a in axis)
        inner, outer = (rows, columns) if ord == 1 else (columns, rows)
        found = max_(sum_(absolute(tensor), (inner,)), (outer,))
    return _squeezed(found, axes, check_flag("norm", "keepdims", keepdims))


# ---- where extrema are ------------------------------------------------------------------------------------------


def _position(name: str, extremum: Any, x: Any, axis: Any, output_type: Any) -> Any:
    """The least index whose element is the extremum, or nan."""
    check_kind(name, x.type, "number")
    dtype = as_dtype(output_type)
    if not dtype.is_integer:
        raise TypeError(f"{name}: output_type is an integer dtype, got {dtype!r}")
    axis = normalize_axis(name, 0 if axis is None else axis, x.rank)
    length = x.shape[axis]
    if length == 0:
        raise ValueError(f"{name}: axis {axis} of {describe([x.type])} has no elements")
    shape = tuple(length if a == axis else 1 for a in range(x.rank))
    place = reshape_to(range_(x, length, int32 if length < 1 << 31 else int64), shape)
    hit = where(x == extremum(x, (axis,)), place, length)
    if x.dtype.is_floating:
        hit = where(x == x, hit, place)
    return convert(_squeezed(min_(hit, (axis,)), (axis,), False), dtype)


def _position_reference(function: Callable[..., Any]) -> Callable[..., Any]:
    def position(input: Any, axis: Any, output_type: Any) -> Any:
        return np.asarray(function(input, axis=0 if axis is None else axis)).astype(as_dtype(output_type).dtype)

    return position


_POSITIONS = [
    Example((shape,), {"axis": axis, "output_type": dtype})
    for shape, axis, dtype in (
        ((5,), None, int64), ((2, 3), 1, int64), ((4, 3), None, int32), ((4, 3), 0, int64), ((2, 3, 2), 1, int64),
        ((2, 3, 4), -1, int32), ((2, 1), 1, int64), ((0, 3), 1, int64),
    )
]  # fmt: skip


@composite("argmax", "math.argmax", reference=_position_reference(np.argmax), examples=_POSITIONS)
def argmax(input: Tensor, axis: Any = None, output_type: Any = int64) -> Any:
    """Where along `axis` the greatest element is; None stands for axis 0.

    The first of equal ones counts, and the first nan before all others. Takes numbers and gives `output_type`, an
    integer dtype; the axis goes away. No gradient flows. ValueError if there is no such axis, or if it has no
    elements.

    >>> nt.argmax([[1.0, 5.0], [3.0, 2.0]], axis=1).numpy()
    array([1, 0])
    """
    return _position("argmax", max_, input, axis, output_type)


@composite("argmin", "math.argmin", reference=_position_reference(np.argmin), examples=_POSITIONS)
def argmin(input: Tensor, axis: Any = None, output_type: Any = int64) -> Any:
    """Where along `axis` the least element is; None stands for axis 0.

    The first of equal ones counts, and the first nan before all others. Takes numbers and gives `output_type`, an
    integer dtype; the axis goes away. No gradient flows. ValueError if there is no such axis, or if it has no
    elements.

    >>> nt.argmin([[1.0, 5.0], [3.0, 2.0]], axis=1).numpy()
    array([0, 1])
    """
    return _position("argmin", min_, input, axis, output_type)
