"""Arithmetic, comparisons, logic, choice and casts on single elements, and the operators of tensors.

What NumPy leaves to the processor has one meaning here, whatever runs it: integers wrap around, dividing them by zero
gives 0, and a float becomes the nearest integer towards zero that the dtype can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numtape.dtypes import ALL, DType, TensorType, as_dtype, bool_, float32, float64, int32
from numtape.ir.op import REGISTRY, Example, Gradient, Op
from numtape.ir.program import Value
from numtape.ops.core import Tensor, Tensors, apply, check_kind, composite, describe, elementwise, emit, public
from numtape.ops.transcendental import documented, log, rsqrt, sqrt

_NO = Gradient.NONE
_REALS: tuple[tuple[float, float], ...] = ((-3, 3), (-3, 3))
_DIVISORS: tuple[tuple[float, float], ...] = ((-3, 3), (0.5, 3))
_TAKES = {
    "number": "Takes numbers of any one dtype, and gives the same.",
    "float": "Takes float32 or float64, and gives the same.",
    "integer": "Takes integers of any one dtype, and gives the same.",
    "bool": "Takes and gives bools.",
    "any": "Takes elements of any one dtype.",
}


def _operation(
    name: str,
    kernel: str | Callable[..., str],
    doc: str,
    reference: Callable[..., Any],
    gradient: Any,
    sample: Sequence[tuple[float, float]],
    example: tuple[str, str],
    *,
    kind: str = "number",
    result: DType | None = None,
    examples: Sequence[Example] = (),
    public: Sequence[str] | None = None,
) -> Any:
    """One row of the tables below: an op on `x`, or on `x` and `y` if `sample` has two domains."""
    takes = _TAKES[kind] if result is None else f"{_TAKES[kind].split(', and')[0].rstrip('.')}; gives bools."
    shown = f"nt.{(public or (name,))[0]}({example[0]}).numpy()"
    more = " Operands broadcast against each other." if len(sample) == 2 else ""
    return elementwise(
        name, kernel, parameters=("x", "y")[: len(sample)], kind=kind, reference=reference, gradient=gradient,
        sample=sample, examples=examples, result=result, public=public,
        doc=documented(f"{doc}\n\n{takes}{more}", shown, f"array({example[1]})"),
    )  # fmt: skip


# ---- choice -----------------------------------------------------------------------------------------------------

select: Any = elementwise(
    "where", "select(condition, x, y)", parameters=("condition", "x", "y"), groups=("B", "T", "T"), kind="any",
    reference=np.where, public=(),
    gradient=lambda g, condition: (None, select(condition, g, 0), select(condition, 0, g)),
    examples=[
        Example(((2, 3), (2, 3), (2, 3))), Example(((2, 1), (3,), ())), Example(((3,), (2, 1), (2, 3))),
        Example(((), (0,), ())),
    ],
    doc="`x` where `condition` holds, else `y`.",
)  # fmt: skip


linked: Any = elementwise(
    "linked", "x", parameters=("x", "source"), kind="any", public=(),
    reference=lambda x, source: np.broadcast_arrays(x, source)[0],
    gradient=lambda g, source: (linked(g, source), 0.0), examples=[Example(((2, 3), (2, 3)))],
    doc="`x`, whose derivative by `source`, on which it depends in steps, is 0 and not None.",
)  # fmt: skip


@public(select.op, "where")
def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Any:
    """`x` where `condition` holds, else `y`, element by element.

    `condition` has bools, `x` and `y` elements of one dtype; all three broadcast against each other. An element that
    is not chosen gets the gradient 0. ValueError if only one of `x` and `y` is given.

    Without both it gives the places where `condition` holds, or is not 0, as int64 of shape (count, rank): its elements
    are read at the call, since the count depends on them.

    >>> nt.where([True, False], [1.0, 2.0], 0.0).numpy()
    array([1., 0.], dtype=float32)
    >>> nt.where([True, False, True]).numpy()
    array([[0],
           [2]])
    """
    if x is None and y is None and type(condition) is not Value:
        return apply(REGISTRY["identity"], (np.argwhere(np.asarray(condition)),))
    if x is None or y is None:
        raise ValueError("where: give both x and y, or neither (and both where elements are not known yet)")
    return apply(select.op, (condition, x, y))


# ---- arithmetic -------------------------------------------------------------------------------------------------


def _sign_kernel(attributes: tuple[Any, ...], types: Sequence[TensorType]) -> str:
    unsigned = types[0].dtype.min == 0
    return "minimum(x, T(1))" if unsigned else "select(x > T(0), T(1), select(x < T(0), T(-1), x))"


_BROADCASTS = (Example(((2, 3), (3,))), Example(((2, 1), (1, 3))), Example(((), (2,))), Example(((0, 3), (3,))))

add: Any = _operation(
    "add", "x + y", "Sum, element by element: `x + y`.",
    np.add, lambda g: (g, g), _REALS, ("[1, 2], 3", "[4, 5], dtype=int32"), examples=_BROADCASTS,
)  # fmt: skip
subtract: Any = _operation(
    "subtract", "x - y", "Difference, element by element: `x - y`.",
    np.subtract, lambda g: (g, -g), _REALS, ("[1, 2], 3", "[-2, -1], dtype=int32"),
)  # fmt: skip
multiply: Any = _operation(
    "multiply", "x * y", "Product, element by element: `x * y`.",
    np.multiply, lambda g, x, y: (g * y, g * x), _REALS, ("[1, 2], 3", "[3, 6], dtype=int32"), examples=_BROADCASTS,
)  # fmt: skip
negative: Any = _operation(
    "negative", "-x", "Each element with the other sign: `-x`.",
    np.negative, lambda g: -g, ((-3, 3),), ("[1, -2]", "[-1,  2], dtype=int32"),
)  # fmt: skip
absolute: Any = _operation(
    "abs", "fabs(x)", "Each element without its sign; the derivative at 0 is 0.",
    np.abs, lambda g, x: g * sign(x), ((-3, 3),), ("[1, -2]", "[1, 2], dtype=int32"),
)  # fmt: skip
sign: Any = _operation(
    "sign", _sign_kernel, "-1, 0 or 1 by the sign of each element; its derivative is 0.",
    np.sign, lambda g: 0.0, ((-3, 3),), ("[5, 0, -2]", "[ 1,  0, -1], dtype=int32"),
)  # fmt: skip
square: Any = _operation(
    "square", "x * x", "Square of each element.",
    np.square, lambda g, x: 2 * g * x, ((-3, 3),), ("[3, -2]", "[9, 4], dtype=int32"),
)  # fmt: skip
cube: Any = elementwise(
    "cube", "x * x * x", kind="number", reference=lambda x: x * x * x, gradient=lambda g, x: 3 * g * square(x),
    sample=((-3, 3),), doc="Third power of each element.", public=(),
)  # fmt: skip
squared_difference: Any = _operation(
    "squared_difference", "(x - y) * (x - y)", "Square of the difference, element by element: `(x - y)**2`.",
    lambda x, y: np.square(x - y), lambda g, x, y: ((d := 2 * g * (x - y)), -d), _REALS,
    ("[1, 2], 4", "[9, 4], dtype=int32"), public=("math.squared_difference",),
)  # fmt: skip
reciprocal: Any = _operation(
    "reciprocal", "T(1) / x", "One divided by each element.",
    np.reciprocal, lambda g, out: multiply_no_nan(-out * out, g), ((0.5, 3),),
    ("[2.0, 4.0]", "[0.5 , 0.25], dtype=float32"), kind="float", public=("math.reciprocal",),
)  # fmt: skip
maximum: Any = _operation(
    "maximum", "maximum(x, y)", "The greater of two, element by element; of equal ones, `x` gets the gradient.",
    np.maximum, lambda g, x, y: (where(x >= y, g, 0), where(x >= y, 0, g)), _REALS,
    ("[1, 5], 3", "[3, 5], dtype=int32"),
)  # fmt: skip
minimum: Any = _operation(
    "minimum", "minimum(x, y)", "The lesser of two, element by element; of equal ones, `x` gets the gradient.",
    np.minimum, lambda g, x, y: (where(x <= y, g, 0), where(x <= y, 0, g)), _REALS,
    ("[1, 5], 3", "[1, 3], dtype=int32"),
)  # fmt: skip

# ---- division ---------------------------------------------------------------------------------------------------

quotient: Any = elementwise(
    "divide", "x / y", parameters=("x", "y"), reference=np.divide, gradient=lambda g, y, out: (g / y, -g * out / y),
    sample=_DIVISORS, doc="Quotient of floats, element by element.", public=(),
)  # fmt: skip
quotient_no_nan: Any = elementwise(
    "divide_no_nan", "select(y == T(0), T(0), x / y)", parameters=("x", "y"),
    reference=lambda x, y: np.where(y == 0, 0, np.divide(x, y)),
    gradient=lambda g, y, out: (quotient_no_nan(g, y), -g * quotient_no_nan(out, y)),
    sample=_DIVISORS, doc="Quotient of floats, or 0 where the divisor is 0.", public=(),
)  # fmt: skip


def _real_dtype(dtype: DType) -> DType:
    """What true division makes of a dtype: TensorFlow's choice."""
    return dtype if not dtype.is_integer else float32 if dtype.itemsize < 4 else float64


def _true_division(function: Any) -> Callable[..., Any]:
    """The reference: `function` of both operands as floats."""

    def divide(x: Any, y: Any) -> Any:
        dtype = _real_dtype(as_dtype(x.dtype)).dtype
        return function(x.astype(dtype), y.astype(dtype))

    return divide


@composite(
    "divide", "math.divide", "truediv", "math.truediv", reference=_true_division(np.divide),
    examples=[Example(((2, 3), (3,)), domains=_DIVISORS)],
)  # fmt: skip
def divide(x: Tensor, y: Tensor) -> Any:
    """Quotient, element by element: `x / y`.

    Takes numbers of any one dtype. Floats give the same, integers float64 (those below 32 bits float32). Operands
    broadcast against each other.

    >>> nt.divide([1, 3], 2).numpy()
    array([0.5, 1.5])
    """
    return quotient(_real(x), _real(y))


def _real(x: Any) -> Any:
    return convert(x, _real_dtype(x.dtype)) if x.dtype.is_integer else x


@composite(
    "math.divide_no_nan", reference=_true_division(lambda x, y: np.where(y == 0, 0, np.divide(x, y))),
    examples=[Example(((2, 3), (3,)), domains=_DIVISORS)],
)  # fmt: skip
def divide_no_nan(x: Tensor, y: Tensor) -> Any:
    """Quotient, element by element, or 0 where the divisor is 0; the gradient is 0 there too.

    Takes numbers of any one dtype. Floats give the same, integers float64 (those below 32 bits float32). Operands
    broadcast against each other.

    >>> nt.math.divide_no_nan([1.0, 3.0], [2.0, 0.0]).numpy()
    array([0.5, 0. ], dtype=float32)
    """
    return quotient_no_nan(_real(x), _real(y))


@composite(
    "math.reciprocal_no_nan", reference=lambda x: np.where(x == 0, 0, np.reciprocal(x)),
    examples=[Example(((2, 3),), domains=((0.5, 3),))],
)  # fmt: skip
def reciprocal_no_nan(x: Tensor) -> Any:
    """One divided by each element, or 0 where it is 0.

    Takes float32 or float64, and gives the same.

    >>> nt.math.reciprocal_no_nan([2.0, 0.0]).numpy()
    array([0.5, 0. ], dtype=float32)
    """
    return quotient_no_nan(1, x)


multiply_no_nan: Any = _operation(
    "multiply_no_nan", "select(y == T(0), T(0), x * y)",
    "Product, element by element, but 0 where `y` is 0, even if `x` is infinite or nan.",
    lambda x, y: np.where(y == 0, 0, np.multiply(x, y)),
    lambda g, x, y: (multiply_no_nan(g, y), multiply_no_nan(x, g)), _REALS,
    ('[1.0, float("nan")], [2.0, 0.0]', "[2., 0.], dtype=float32"), kind="float", public=("math.multiply_no_nan",),
)  # fmt: skip
floordiv: Any = _operation(
    "floordiv", "floordiv(x, y)",
    "Quotient rounded down, element by element: `x // y`. Integers by zero give 0. No gradient flows.",
    np.floor_divide, _NO, _DIVISORS, ("[7, -7], 2", "[ 3, -4], dtype=int32"), public=("math.floordiv",),
)  # fmt: skip
floormod: Any = _operation(
    "floormod", "floormod(x, y)",
    "What is left by `x // y`, element by element: `x % y`. It has the sign of `y`; integers by zero give 0.",
    np.remainder, lambda g, x, y: (g, -g * floordiv(x, y)), _DIVISORS, ("[7, -7], 3", "[1, 2], dtype=int32"),
    public=("math.floormod", "math.mod"),
)  # fmt: skip

# ---- powers and logarithms of two operands ----------------------------------------------------------------------


def _power(x: Any, y: Any) -> Any:
    """As `np.power`, but an integer to a negative power is its reciprocal rounded towards zero."""
    if x.dtype.kind != "i":
        return np.power(x, y)
    reciprocal = np.where(np.abs(x) == 1, np.power(x, y & 1), 0)
    return np.where(y < 0, reciprocal, np.power(x, np.maximum(y, 0)))


def _power_gradient(g: Any, x: Any, y: Any, out: Any) -> Any:
    # 0**0 is 1 for any exponent that is 0: its derivative by x is 0, and not 0 * 0**-1.
    exponent = where((x == 0) & (y == 0), 1, y) - 1
    positive = x > 0
    return g * y * power(x, exponent), where(positive, g * out * log(where(positive, x, 1)), 0)


power: Any = elementwise(
    "pow", "pow(x, y)", parameters=("x", "y"), kind="number", reference=_power, gradient=_power_gradient,
    sample=((0.2, 3), (-2, 3)), examples=[Example(((2, 3), (2, 1)), domains=((-3, 3), (-3, 4)), dtypes=(int32,))],
    doc="`x` to the power of `y`, element by element.", public=(),
)  # fmt: skip

POWERS = {2: square, 3: cube, -1: reciprocal, 0.5: sqrt, -0.5: rsqrt}
"""What these powers of floats are: `pow` costs many times as much. As in NumPy, (-0.0)**0.5 is -0.0 then."""


def power_call(x: Any, y: Any) -> tuple[Op, tuple[Any, ...]]:
    """The op and the operands for `x ** y`."""
    if type(y) in (int, float) and y in POWERS and _is_floating(x):
        return POWERS[y].op, (x,)
    return power.op, (x, y)


def _is_floating(x: Any) -> bool:
    dtype = getattr(x, "dtype", None)
    return isinstance(dtype, DType) and dtype.is_floating


@public(power.op, "pow", "math.pow")
def pow_(x: Any, y: Any, name: str | None = None) -> Any:
    """`x` to the power of `y`, element by element: `x ** y`.

    Takes numbers of any one dtype, and gives the same. Operands broadcast against each other. A negative float to a
    power that is no integer is nan; an integer to a negative power is its reciprocal rounded towards zero. The
    derivative by `y` counts as 0 where `x` is not positive.

    >>> nt.pow([1.0, 2.0, 3.0], 2).numpy()
    array([1., 4., 9.], dtype=float32)
    """
    return apply(*power_call(x, y))


def _unless_zero(x: Any) -> Any:
    """1, or 0 where `x` is 0."""
    return convert(x != 0, x.dtype)


xlogy: Any = _operation(
    "xlogy", "select(x == T(0), T(0), x * log(y))",
    "`x * log(y)`, element by element, but 0 where `x` is 0; so are the derivatives there, as in TensorFlow.",
    lambda x, y: np.where(x == 0, 0, x * np.log(y)), lambda g, x, y: (g * xlogy(_unless_zero(x), y), g * xdivy(x, y)),
    ((-3, 3), (0.2, 3)), ("[0.0, 2.0], [0.0, 1.0]", "[0., 0.], dtype=float32"), kind="float", public=("math.xlogy",),
)  # fmt: skip
xlog1py: Any = _operation(
    "xlog1py", "select(x == T(0), T(0), x * log1p(y))",
    "`x * log1p(y)`, element by element, but 0 where `x` is 0; so are the derivatives there, as in TensorFlow.",
    lambda x, y: np.where(x == 0, 0, x * np.log1p(y)),
    lambda g, x, y: (g * xlog1py(_unless_zero(x), y), g * xdivy(x, 1 + y)),
    ((-3, 3), (-0.8, 3)), ("[0.0, 2.0], [-1.0, 0.0]", "[0., 0.], dtype=float32"), kind="float",
    public=("math.xlog1py",),
)  # fmt: skip
xdivy: Any = _operation(
    "xdivy", "select(x == T(0), T(0), x / y)",
    "`x / y`, element by element, but 0 where `x` is 0; so are the derivatives there, as in TensorFlow.",
    lambda x, y: np.where(x == 0, 0, x / y),
    lambda g, x, y: (g * xdivy(_unless_zero(x), y), g * xdivy(-x, square(y))),
    _DIVISORS, ("[0.0, 2.0], [0.0, 4.0]", "[0. , 0.5], dtype=float32"), kind="float", public=("math.xdivy",),
)  # fmt: skip

# ---- rounding ---------------------------------------------------------------------------------------------------

floor: Any = _operation(
    "floor", "floor(x)", "The greatest whole number that is not above each element; no gradient flows.",
    np.floor, _NO, ((-3, 3),), ("[1.5, -1.5]", "[ 1., -2.], dtype=float32"), kind="float",
)  # fmt: skip
ceil: Any = _operation(
    "ceil", "ceil(x)", "The least whole number that is not below each element; no gradient flows.",
    np.ceil, _NO, ((-3, 3),), ("[1.5, -1.5]", "[ 2., -1.], dtype=float32"), kind="float", public=("math.ceil",),
)  # fmt: skip
rint: Any = _operation(
    "rint", "rint(x)", "The whole number next to each element, halves to the even one; no gradient flows.",
    np.rint, _NO, ((-3, 3),), ("[0.5, 1.5, -1.7]", "[ 0.,  2., -2.], dtype=float32"), kind="float",
    public=("math.rint",),
)  # fmt: skip
round_: Any = _operation(
    "round", lambda attributes, types: "rint(x)" if types[0].dtype.is_floating else "x",
    "The whole number next to each element, halves to the even one; no gradient flows.",
    lambda x: np.rint(x) if x.dtype.kind == "f" else x, _NO, ((-3, 3),),
    ("[0.5, 1.5, -1.7]", "[ 0.,  2., -2.], dtype=float32"),
)  # fmt: skip

# ---- comparisons and classes of floats --------------------------------------------------------------------------


def _comparison(name: str, symbol: str, doc: str, reference: Any, answers: str, kind: str = "number") -> Any:
    example = ("[1, 2, 3], 2", answers)
    return _operation(
        name, f"x {symbol} y", f"{doc}: `x {symbol} y`.", reference, _NO, _REALS, example, kind=kind, result=bool_
    )


equal: Any = _comparison("equal", "==", "Whether elements are equal", np.equal, "[False,  True, False]", "any")
not_equal: Any = _comparison("not_equal", "!=", "Whether elements differ", np.not_equal, "[ True, False,  True]", "any")
less: Any = _comparison(
    "less", "<", "Whether elements of `x` are less than those of `y`", np.less, "[ True, False, False]"
)
less_equal: Any = _comparison(
    "less_equal", "<=", "Whether elements of `x` are at most those of `y`", np.less_equal, "[ True,  True, False]"
)
greater: Any = _comparison(
    "greater", ">", "Whether elements of `x` are greater than those of `y`", np.greater, "[False, False,  True]"
)
greater_equal: Any = _comparison(
    "greater_equal", ">=", "Whether elements of `x` are at least those of `y`", np.greater_equal,
    "[False,  True,  True]",
)  # fmt: skip


def _class(name: str, doc: str, reference: Any, answers: str) -> Any:
    example = ('[1.0, float("-inf"), float("nan")]', answers)
    return _operation(
        name, f"{name.replace('_', '')}(x)", doc, reference, _NO, ((-3, 3),), example, kind="float", result=bool_,
        public=(f"math.{name}",),
    )  # fmt: skip


is_nan: Any = _class("is_nan", "Whether elements are nan.", np.isnan, "[False, False,  True]")
is_inf: Any = _class("is_inf", "Whether elements are infinite.", np.isinf, "[False,  True, False]")
is_finite: Any = _class(
    "is_finite", "Whether elements are neither infinite nor nan.", np.isfinite, "[ True, False, False]"
)

# ---- logic and bits ---------------------------------------------------------------------------------------------

logical_not: Any = _operation(
    "logical_not", "not x", "Whether elements are False: `~x`.",
    np.logical_not, _NO, ((0, 2),), ("[True, False]", "[False,  True]"), kind="bool",
)  # fmt: skip
logical_and: Any = _operation(
    "logical_and", "x & y", "Whether both are True, element by element: `x & y`.",
    np.logical_and, _NO, ((0, 2), (0, 2)), ("[True, False], True", "[ True, False]"), kind="bool",
)  # fmt: skip
logical_or: Any = _operation(
    "logical_or", "x | y", "Whether one or both are True, element by element: `x | y`.",
    np.logical_or, _NO, ((0, 2), (0, 2)), ("[True, False], True", "[ True,  True]"), kind="bool",
)  # fmt: skip
logical_xor: Any = _operation(
    "logical_xor", "x ^ y", "Whether exactly one is True, element by element: `x ^ y`.",
    np.logical_xor, _NO, ((0, 2), (0, 2)), ("[True, False], True", "[False,  True]"), kind="bool",
    public=("math.logical_xor",),
)  # fmt: skip

_BITS: tuple[tuple[float, float], ...] = ((-99, 99), (-99, 99))


def _shift(text: str) -> Callable[..., str]:
    """A kernel that says what a shift by more bits than there are gives."""

    def kernel(attributes: tuple[Any, ...], types: Sequence[TensorType]) -> str:
        dtype = types[0].dtype
        beyond = "select(x < T(0), T(-1), T(0))" if ">>" in text and dtype.min < 0 else "T(0)"
        return f"select((y >= T(0)) & (y < T({8 * dtype.itemsize})), T({text}), {beyond})"

    return kernel


invert: Any = _operation(
    "invert", "~x", "Every bit flipped: `~x`.",
    np.invert, _NO, ((-99, 99),), ("[0, 5]", "[-1, -6], dtype=int32"), kind="integer", public=("bitwise.invert",),
)  # fmt: skip
bitwise_and: Any = _operation(
    "bitwise_and", "x & y", "The bits set in both: `x & y`.",
    np.bitwise_and, _NO, _BITS, ("[6, 5], 3", "[2, 1], dtype=int32"), kind="integer", public=("bitwise.bitwise_and",),
)  # fmt: skip
bitwise_or: Any = _operation(
    "bitwise_or", "x | y", "The bits set in one or both: `x | y`.",
    np.bitwise_or, _NO, _BITS, ("[6, 5], 3", "[7, 7], dtype=int32"), kind="integer", public=("bitwise.bitwise_or",),
)  # fmt: skip
bitwise_xor: Any = _operation(
    "bitwise_xor", "x ^ y", "The bits set in exactly one: `x ^ y`.",
    np.bitwise_xor, _NO, _BITS, ("[6, 5], 3", "[5, 6], dtype=int32"), kind="integer", public=("bitwise.bitwise_xor",),
)  # fmt: skip
left_shift: Any = _operation(
    "left_shift", _shift("x << y"), "The bits moved up by `y`; none are left if `y` is negative or exceeds the width.",
    np.left_shift, _NO, ((-99, 99), (-3, 40)), ("[1, 5], 2", "[ 4, 20], dtype=int32"), kind="integer",
    public=("bitwise.left_shift",),
)  # fmt: skip
right_shift: Any = _operation(
    "right_shift", _shift("x >> y"),
    "The bits moved down by `y`, the sign kept; only the sign is left if `y` is negative or exceeds the width.",
    np.right_shift, _NO, ((-99, 99), (-3, 40)), ("[-8, 20], 2", "[-2,  5], dtype=int32"), kind="integer",
    public=("bitwise.right_shift",),
)  # fmt: skip

# ---- bounds and sums --------------------------------------------------------------------------------------------


@composite(
    reference=lambda t, clip_value_min, clip_value_max: np.maximum(np.minimum(t, clip_value_max), clip_value_min),
    examples=[Example(((2, 3), (), (3,)), domains=((-3, 3), (-2, -1), (1, 2)))],
)  # fmt: skip
def clip_by_value(t: Tensor, clip_value_min: Tensor, clip_value_max: Tensor) -> Any:
    """Each element, or the bound that it is beyond; at a bound the gradient goes to `t`.

    Takes numbers of any one dtype, and gives the same. ValueError if a bound does not broadcast to the shape of `t`.

    >>> nt.clip_by_value([-5.0, 0.5, 5.0], 0.0, 1.0).numpy()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    clipped = maximum(minimum(t, clip_value_max), clip_value_min)
    if clipped.shape != t.shape:
        bounds = describe([clip_value_min.type, clip_value_max.type])
        raise ValueError(f"clip_by_value: the bounds {bounds} do not broadcast to the shape {t.shape} of t")
    return clipped


@composite(
    "add_n", "math.add_n", reference=lambda inputs: sum(inputs[1:], inputs[0]),
    examples=[Example(((2, 3),) * 3)],
)  # fmt: skip
def add_n(inputs: Tensors) -> Any:
    """Sum of a list of tensors, element by element.

    Takes numbers of any one dtype, and gives the same. ValueError if shapes differ: nothing broadcasts here.

    >>> nt.add_n([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]).numpy()
    array([ 9., 12.], dtype=float32)
    """
    first, *rest = inputs
    check_kind("add_n", first.type, "number")
    if any(x.shape != first.shape for x in rest):
        raise ValueError(f"add_n: shapes differ: {describe([x.type for x in inputs])}")
    for x in rest:
        first = first + x
    return first


# ---- casts ------------------------------------------------------------------------------------------------------


def _bounds(dtype: DType) -> tuple[float, float]:
    """The least integer and what is 1 above the greatest: powers of two, which every float dtype has."""
    return float(dtype.min), float(dtype.max + 1.0)


def _cast(x: Any, dtype: DType) -> Any:
    if x.dtype.kind != "f" or not dtype.is_integer:
        return x.astype(dtype.dtype)
    low, high = _bounds(dtype)
    inside = np.where((x > low) & (x < high), x, 0).astype(dtype.dtype)
    return np.where(x >= high, np.asarray(dtype.max, dtype.dtype), np.where(x <= low, dtype.min, inside))


def _cast_kernel(attributes: tuple[Any, ...], types: Sequence[TensorType]) -> str:
    to, source = attributes[0], types[0].dtype
    if to.is_bool:
        return "x" if source.is_bool else "x != T(0)"
    if not source.is_floating or not to.is_integer:
        return "R(x)"
    low, high = _bounds(to)
    inside = f"select(x > T({low}), select(x < T({high}), x, T(0)), T({low}))"
    return f"select(x < T({high}), R({inside}), select(x == x, R({to.max}), R(0)))"


convert: Any = elementwise(
    "cast", _cast_kernel, attributes=("dtype",), kind="any", result=lambda dtype: dtype, public=(), reference=_cast,
    gradient=lambda g, x: convert(g, x.dtype) if x.dtype.is_floating else None,
    examples=[Example(((2, 3),), {"dtype": dtype}, ((-300, 300),)) for dtype in ALL if dtype is not float32],
    doc="Elements of another dtype.",
)  # fmt: skip


@composite(
    "cast", reference=lambda x, dtype: _cast(x, as_dtype(dtype)), examples=[Example(((2,),), {"dtype": float64})]
)  # fmt: skip
def cast(x: Tensor, dtype: Any) -> Any:
    """Elements converted to another dtype.

    Takes any dtype, and `dtype` as a `nt.DType`, a NumPy dtype or a name; TypeError if no tensor can have it. Floats
    become integers by dropping the fraction; those out of range become the nearest integer in range, and nan 0.
    Integers out of range wrap around. What is not 0 becomes True. The gradient passes from float to float, and
    nowhere else.

    >>> nt.cast([1.7, -1.7], nt.int32).numpy()
    array([ 1, -1], dtype=int32)
    """
    return convert(x, as_dtype(dtype))


# ---- operators --------------------------------------------------------------------------------------------------

BINARY = {
    "add": add, "sub": subtract, "mul": multiply, "truediv": divide, "floordiv": floordiv, "mod": floormod,
    "pow": power,
}  # fmt: skip
COMPARISONS = {"lt": less, "le": less_equal, "gt": greater, "ge": greater_equal}
UNARY = {"neg": negative, "abs": absolute}
LOGICAL = {
    "and": (logical_and, bitwise_and), "or": (logical_or, bitwise_or), "xor": (logical_xor, bitwise_xor),
}  # fmt: skip
"""For bools, and for integers."""


def install_operators(target: Any, call: Callable[[Op, tuple[Any, ...]], Any]) -> None:
    """Give a class Python's operators, each of which hands its op to `call(op, operands)`."""

    def binary(op: Op) -> Any:
        return lambda self, other: call(op, (self, other))

    def reflected(op: Op) -> Any:
        return lambda self, other: call(op, (other, self))

    def unary(op: Op) -> Any:
        return lambda self: call(op, (self,))

    def logical(on_bools: Op, on_integers: Op) -> Any:
        return lambda self, other: call(on_bools if self.dtype.is_bool else on_integers, (self, other))

    for method, function in BINARY.items():
        setattr(target, f"__{method}__", binary(function.op))
        setattr(target, f"__r{method}__", reflected(function.op))
    for method, function in COMPARISONS.items():
        setattr(target, f"__{method}__", binary(function.op))
    for method, function in UNARY.items():
        setattr(target, f"__{method}__", unary(function.op))
    for method, (on_bools, on_integers) in LOGICAL.items():
        # These commute, so that the reflected ones may swap their operands.
        setattr(target, f"__{method}__", logical(on_bools.op, on_integers.op))
        setattr(target, f"__r{method}__", logical(on_bools.op, on_integers.op))
    target.__pow__ = lambda self, other: call(*power_call(self, other))
    target.__invert__ = lambda self: call((logical_not if self.dtype.is_bool else invert).op, (self,))
    # Nothing equals None, nor what has another shape, as code that looks for something in a list expects.
    target.__eq__ = lambda self, other: False if other is None else call(equal.op, _compared(self, other))
    target.__ne__ = lambda self, other: True if other is None else call(not_equal.op, _compared(self, other))


def _compared(a: Any, b: Any) -> tuple[Any, Any]:
    """The two, or for shapes that do not broadcast against each other two things that differ."""
    shape = getattr(b, "shape", None)
    if shape and any(m != n and m != 1 and n != 1 for m, n in zip(a.shape[::-1], shape[::-1], strict=False)):
        return True, False
    return a, b


install_operators(Value, emit)
