"""What the registry's tests cannot see of elementwise ops: special values, ties, extreme integers, errors."""

from __future__ import annotations

import itertools
import operator

import numpy as np
import pytest

from numtape.dtypes import ALL, float32, float64, int8, int32, int64, type_of, uint8
from numtape.ir.op import REGISTRY
from numtape.ir.program import Builder, Program
from numtape.ops import activation
from numtape.ops.elementwise import (
    POWERS,
    absolute,
    add,
    add_n,
    cast,
    clip_by_value,
    divide,
    divide_no_nan,
    equal,
    floor,
    floordiv,
    floormod,
    less,
    logical_and,
    maximum,
    minimum,
    multiply_no_nan,
    pow_,
    power,
    reciprocal_no_nan,
    rint,
    sign,
    where,
    xdivy,
    xlogy,
)
from numtape.ops.transcendental import asinh, atan, erf, erfc, exp, expm1, sigmoid, sin, softplus, sqrt, tanh
from tests.programs import WAYS, agree, connected, gradient_of

FLOATS = [float32, float64]
INTEGERS = [d for d in ALL if d.is_integer]
NAN, INF = float("nan"), float("inf")

by_float = pytest.mark.parametrize("dtype", FLOATS, ids=str)
by_integer = pytest.mark.parametrize("dtype", INTEGERS, ids=str)


def program(function, *arrays):
    builder = Builder()
    results = function(*(builder.input(type_of(np.asarray(a)), k) for k, a in enumerate(arrays)))
    results = results if isinstance(results, list) else [results]
    return Program(tuple(builder.instructions), tuple(v.index for v in results))


def outputs(made, arrays, names=None):
    """The results, the same in every way to run the program."""
    arrays = [np.asarray(a) for a in arrays]
    expected = WAYS["reference"](made, arrays)
    for way in ("plain", "native"):
        for name, got, right in zip(names or made.outputs, WAYS[way](made, arrays), expected, strict=True):
            agree([got], [right], f"{name}, {way}")
    return expected


def value(function, *arrays):
    return outputs(program(function, *arrays), arrays)[0]


def check(names, *arrays):
    """These ops on these operands."""
    made = program(lambda *values: [values[0].builder.emit(REGISTRY[n], values) for n in names], *arrays)
    outputs(made, arrays, names)


def gradients(function, *arrays):
    """Gradients of the result's sum by every float operand that is connected."""
    made = program(function, *arrays)
    ones = np.ones(made.type(made.outputs[0]).shape, made.type(made.outputs[0]).dtype.dtype)
    return outputs(gradient_of(made), [*arrays, ones])


def second_derivatives(function, array):
    """Second derivatives of a function of single elements."""
    made = gradient_of(program(function, array))
    ones = np.ones_like(array)
    return outputs(gradient_of(made), [array, ones, ones])[0]


# ---- special values ---------------------------------------------------------------------------------------------

UNARY = [
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cosh", "cube", "erf", "erfc", "exp",
    "expm1", "floor", "is_finite", "is_inf", "is_nan", "log", "log1p", "negative", "reciprocal", "relu", "relu6",
    "rint", "round", "rsqrt", "sigmoid", "sign", "sinh", "softplus", "softsign", "sqrt", "square", "tanh",
]  # fmt: skip
CIRCULAR = ["sin", "cos", "tan"]
BINARY = [
    "add", "atan2", "divide", "divide_no_nan", "equal", "floordiv", "floormod", "greater", "greater_equal", "less",
    "less_equal", "maximum", "minimum", "multiply", "multiply_no_nan", "not_equal", "squared_difference",
    "subtract", "xdivy", "xlog1py", "xlogy",
]  # fmt: skip


def special(dtype):
    info = np.finfo(dtype.dtype)
    some = [0, 0.5, 1, 1.5, 2, 2.5, 3, 1000, 1e7, info.smallest_subnormal, info.tiny, info.eps, info.max, INF]
    return np.array([*some, *(-x for x in some), NAN], dtype.dtype)


@by_float
def test_special_values(dtype):
    x = special(dtype)
    check(UNARY, x)
    check(CIRCULAR, x[~(np.abs(x) > 2.0**28) | np.isinf(x)])


@by_float
def test_special_pairs(dtype):
    x, y = np.array(list(itertools.product(special(dtype), repeat=2))).T
    check(BINARY, x.copy(), y.copy())
    # NumPy takes the root of -inf for a scalar, and the power for an array.
    known = ~((x == -INF) & (y == 0.5))
    check(["pow"], x[known], y[known])


def test_circular_functions_give_no_wrong_number_far_away():
    x = np.array([1e30, -1e30], np.float32)
    for name in CIRCULAR:
        made = program(lambda x, name=name: x.builder.emit(REGISTRY[name], [x]), x)
        assert np.isnan(WAYS["native"](made, [x])[0]).all()


@by_float
def test_signs_of_zero(dtype):
    zeros = np.array([0.0, -0.0], dtype.dtype)
    for function in (sqrt, tanh, sin, expm1, floor, rint):
        made = program(function, zeros)
        for way in WAYS.values():
            assert np.signbit(way(made, [zeros])[0]).tolist() == [False, True]


# ---- integers ---------------------------------------------------------------------------------------------------


def extremes(dtype):
    some = [0, 1, 2, 3, 5, 7, dtype.max, dtype.max - 1, dtype.min, dtype.min + 1]
    return np.array(some + ([-1, -2, -3, -7] if dtype.min < 0 else []), dtype.dtype)


@by_integer
def test_extreme_integers(dtype):
    x = extremes(dtype)
    check(["abs", "cube", "invert", "negative", "relu", "relu6", "round", "sign", "square"], x)
    x, y = np.array(list(itertools.product(x, repeat=2)), dtype.dtype).T.copy()
    check(
        [
            "add", "bitwise_and", "bitwise_or", "bitwise_xor", "equal", "floordiv", "floormod", "greater", "less_equal",
            "left_shift", "maximum", "minimum", "multiply", "pow", "right_shift", "squared_difference", "subtract",
        ],
        x, y,
    )  # fmt: skip


def test_integers_to_negative_powers():
    x, y = np.array([0, 1, -1, -1, 2, -2, 2], np.int32), np.array([-1, -5, -3, -2, -1, -1, -2**31], np.int32)
    assert value(pow_, x, y).tolist() == [0, 1, -1, 1, 0, 0, 0]


def test_integers_divided_by_zero_give_zero():
    x, zero = np.array([5, -5, 0], np.int32), np.zeros(3, np.int32)
    assert value(floordiv, x, zero).tolist() == [0, 0, 0]
    assert value(floormod, x, zero).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("given", "result"), [(int8, float32), (uint8, float32), (int32, float64), (int64, float64), (float32, float32)]
)
def test_true_division_of_integers_gives_floats(given, result):
    x, y = np.array([1, 7], given.dtype), np.array([2, 0], given.dtype)
    assert value(divide, x, y).tolist() == [0.5, INF]
    assert value(lambda x, y: x / y, x, y).dtype == result.dtype
    assert value(divide_no_nan, x, y).tolist() == [0.5, 0]


# ---- casts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ALL, ids=str)
def test_cast_between_all_dtypes(given):
    if given.is_floating:
        limits = [s * 2.0**p + d for s in (1, -1) for p in (7, 8, 15, 16, 31, 32, 63, 64) for d in (-1, 0, 1)]
        x = np.concatenate([special(given), np.array([*limits, 0.9, -0.9, 254.7], given.dtype)])
    else:
        x = np.array([True, False]) if given.is_bool else extremes(given)
    found = outputs(program(lambda x: [cast(x, to) for to in ALL], x), [x], ALL)
    assert [y.dtype for y in found] == list(ALL)


@by_float
def test_cast_of_floats_to_integers_saturates(dtype):
    x = np.array([2.9, -2.9, -0.5, 300, -300, 1e30, -1e30, INF, -INF, NAN], dtype.dtype)
    least, most = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    assert value(lambda x: cast(x, int32), x).tolist() == [2, -2, 0, 300, -300, most, least, most, least, 0]
    assert value(lambda x: cast(x, uint8), x).tolist() == [2, 0, 0, 255, 0, 255, 0, 255, 0, 0]
    x = np.array([2.0**63, -(2.0**63), 2.0**62, 2.0**64], dtype.dtype)
    assert value(lambda x: cast(x, "int64"), x).tolist() == [2**63 - 1, -(2**63), 2**62, 2**63 - 1]
    assert value(lambda x: cast(x, np.uint64), x).tolist() == [2**63, 0, 2**62, 2**64 - 1]


def test_cast_of_integers_wraps_around():
    assert value(lambda x: cast(x, uint8), np.array([300, -1], np.int32)).tolist() == [44, 255]


def test_gradient_passes_casts_between_floats_only():
    x = np.array([2.75])
    (g,) = gradients(lambda x: cast(x * x, float32), x)
    assert g.dtype == np.float64
    assert g == [5.5]
    (g,) = gradients(lambda x: cast(cast(x, int32), float64) * x, x)
    assert g == [2]


# ---- derivatives where they are delicate ------------------------------------------------------------------------


def both(a, b):
    return np.array(a, np.float64), np.array(b, np.float64)


@pytest.mark.parametrize(
    ("function", "operands", "expected"),
    [
        (maximum, both([2, 1, 3], [2, 3, 1]), [[1, 0, 1], [0, 1, 0]]),
        (minimum, both([2, 1, 3], [2, 3, 1]), [[1, 1, 0], [0, 0, 1]]),
        (pow_, both([0, 0, 0, 0, 2], [1, 2, 0, 3, 0]), [[1, 0, 0, 0, 0], [0, 0, 0, 0, np.log(2)]]),
        (pow_, both([-2, -2, -2], [3, 0, -1]), [[12, 0, -0.25], [0, 0, 0]]),
        (divide_no_nan, both([1, 1, 0], [0, 2, 0]), [[0, 0.5, 0], [0, -0.25, 0]]),
        (multiply_no_nan, both([INF, 3], [0, 2]), [[0, 2], [INF, 3]]),
        (xlogy, both([0, 0, 2], [0, 2, 1]), [[0, 0, 0], [0, 0, 2]]),
        (xdivy, both([0, 0, 2], [0, 2, 4]), [[0, 0, 0.25], [0, 0, -0.125]]),
        (floormod, both([7, -7], [3, 3]), [[1, 1], [-2, 3]]),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_gradients_of_pairs(function, operands, expected):
    for found, right in zip(gradients(function, *operands), expected, strict=True):
        np.testing.assert_allclose(found, right)


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (absolute, [0, 2, -2], [0, 1, -1]),
        (sign, [0, 2], [0, 0]),
        (activation.relu, [0, 2, -2, NAN], [0, 1, 0, 0]),
        (activation.relu6, [0, 2, 6, 7], [0, 1, 0, 0]),
        (activation.leaky_relu, [0, 2, -2], [0.2, 1, 0.2]),
        (activation.elu, [0, 2, 1000, -1000], [1, 1, 1, 0]),
        (lambda x: activation.elu(x, -2.0), [2, 1000, -1000], [1, 1, 0]),
        (lambda x: clip_by_value(x, -1.0, 1.0), [-1, 1, -2, 2, 0], [1, 1, 0, 0, 1]),
        (reciprocal_no_nan, [0, 2], [0, -0.25]),
        (lambda x: where(x > 0, sqrt(where(x > 0, x, 1)), 0), [0, -1, 4], [0, 0, 0.25]),
        (lambda x: pow_(x, 1.0), [0, 5], [1, 1]),
        (lambda x: x**0, [0, 5], [0, 0]),
        (lambda x: x**2, [0, -5], [0, -10]),
        (lambda x: x**3, [0, -5], [0, 75]),
        (lambda x: x**-1, [2, -4], [-0.25, -0.0625]),
        (lambda x: x**0.5, [4, 0], [0.25, INF]),
        (lambda x: x**-0.5, [4, 1], [-0.0625, -0.5]),
    ],
)
def test_gradients_at_corners(function, x, expected):
    (found,) = gradients(function, np.array(x, np.float64))
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("function", "far_left", "far_right"),
    [
        (sigmoid, 0, 0), (softplus, 0, 1), (tanh, 0, 0), (activation.log_sigmoid, 1, 0), (activation.elu, 0, 1),
        (activation.selu, 0, 1.0507009873554805), (activation.gelu, 0, 1), (activation.silu, 0, 1),
        (lambda x: activation.gelu(x, True), 0, 1), (activation.softsign, 1e-6, 1e-6), (atan, 1e-6, 1e-6),
        (asinh, 1e-3, 1e-3), (erf, 0, 0), (erfc, 0, 0),
    ],
)  # fmt: skip
@by_float
def test_derivatives_are_finite_far_out(function, far_left, far_right, dtype):
    x = np.array([-1000, 1000], dtype.dtype)
    assert np.isfinite(value(function, x)).all()
    np.testing.assert_allclose(gradients(function, x)[0], [far_left, far_right], rtol=3e-3, atol=1e-30)
    np.testing.assert_allclose(second_derivatives(function, x), [0, 0], atol=2e-6)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_second_derivatives_of_powers_at_zero(dtype):
    x = np.zeros(1, dtype.dtype)
    for exponent, expected in ((0.0, 0), (1.0, 0), (2.0, 2), (3.0, 0)):
        assert second_derivatives(lambda x, y=exponent: pow_(x, x.builder.constant(y, x.dtype)), x) == expected
        if exponent in POWERS:
            assert second_derivatives(lambda x, y=exponent: x**y, x) == expected


@pytest.mark.parametrize("name", ["floor", "ceil", "round", "rint", "floordiv", "equal", "less", "is_nan"])
def test_no_gradient_flows(name):
    op = REGISTRY[name]
    x = np.array([1.5, 2.5])
    assert not connected(program(lambda *v: v[0].builder.emit(op, v), *[x] * len(op.parameters)))


def test_where_gives_the_branches_their_part_of_the_gradient():
    condition = np.array([[True, False, True], [False, False, True]])
    x, y = np.zeros((3,)), np.array(NAN)
    made = program(lambda x, y, c: where(c, x, y), x, y, condition)
    gx, gy = outputs(gradient_of(made), [x, y, condition, np.ones((2, 3))])
    assert gx.tolist() == [1, 0, 2]
    assert gy == 3


# ---- operators --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "symbol",
    ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "le", "gt", "ge", "eq", "ne"],
)
def test_operators_on_numbers(symbol):
    function = getattr(operator, symbol)
    x, y = np.array([1.0, 2.5, 3.0]), np.array([2.0, 2.5, 0.5])
    for left, right in ((x, y), (x, 2), (2, x), (x, 2.5), (2.5, x)):
        arrays = [a for a in (left, right) if isinstance(a, np.ndarray)]

        def call(*values, left=left, right=right):
            values = iter(values)
            return function(*(next(values) if isinstance(a, np.ndarray) else a for a in (left, right)))

        np.testing.assert_allclose(value(call, *arrays), function(left, right), rtol=1e-14)


@pytest.mark.parametrize("symbol", ["and_", "or_", "xor"])
@pytest.mark.parametrize("arrays", [([True, True, False], [True, False, False]), ([5, 6, 7], [3, 2, 1])])
def test_logical_operators(symbol, arrays):
    function = getattr(operator, symbol)
    x, y = (np.array(a) for a in arrays)
    number = y[0].item()
    assert value(function, x, y).tolist() == function(x, y).tolist()
    assert value(lambda x: function(x, number), x).tolist() == function(x, number).tolist()
    assert value(lambda x: function(number, x), x).tolist() == function(number, x).tolist()
    assert value(lambda x: ~x, x).tolist() == (~x).tolist()


def test_unary_operators():
    x = np.array([1.5, -2.0])
    assert value(lambda x: -x, x).tolist() == [-1.5, 2]
    assert value(abs, x).tolist() == [1.5, 2]


def test_nothing_equals_none():
    x = Builder().input(type_of(np.zeros(2)), 0)
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711


@pytest.mark.parametrize(
    ("exponent", "name"),
    [(2, "square"), (2.0, "square"), (3, "cube"), (-1, "reciprocal"), (0.5, "sqrt"), (-0.5, "rsqrt"), (4, "pow")],
)
def test_powers_with_ops_of_their_own(exponent, name):
    x = np.array([0.5, 2, 3])
    for function in (lambda x: x**exponent, lambda x: pow_(x, exponent)):
        assert program(function, x).instructions[-1].op.name == name
        np.testing.assert_allclose(value(function, x), x**exponent, rtol=1e-15)


def test_powers_of_integers_stay_powers():
    x = np.array([2, -1, 5])
    assert value(lambda x: x**2, x).tolist() == [4, 1, 25]
    assert value(lambda x: x**-1, x).tolist() == [0, -1, 0]


def test_add_n_of_one_is_itself():
    assert value(lambda x: add_n([x]) * 1.0, np.array([1.0, 2.0])).tolist() == [1, 2]


# ---- errors -----------------------------------------------------------------------------------------------------

F32, F64, I32, B = (np.ones(2, t) for t in ("f4", "f8", "i4", "?"))


@pytest.mark.parametrize(
    ("function", "arrays", "kind", "message"),
    [
        (add, (F32, F64), TypeError, r"add: .*float32\[2\], float64\[2\].*nt.cast\(x, nt.float32\)"),
        (add, (B, B), TypeError, "add: needs numeric elements"),
        (add, (F32, np.ones(3, "f4")), ValueError, r"add: shapes \(2,\) and \(3,\) do not broadcast"),
        (divide, (F32, F64), TypeError, "divide: operands have different dtypes"),
        (divide, (F32, I32), TypeError, "divide: operands have different dtypes"),
        (divide, (B, B), TypeError, "divide: needs floating elements"),
        (less, (B, B), TypeError, "less: needs numeric elements"),
        (equal, (F32, I32), TypeError, "equal: operands have different dtypes"),
        (logical_and, (F32, F32), TypeError, r"logical_and: needs boolean elements.*nt.cast\(x, nt.bool\)"),
        (operator.and_, (F32, F32), TypeError, "bitwise_and: needs integer elements"),
        (exp, (I32,), TypeError, r"exp: needs floating elements.*nt.cast\(x, nt.float32\)"),
        (where, (F32, F32, F32), TypeError, "where: needs boolean elements"),
        (where, (B, F32, F64), TypeError, "where: operands have different dtypes"),
        (where, (B,), ValueError, "where: give both x and y"),
        (clip_by_value, (F32, np.ones((3, 2), "f4"), F32), ValueError, r"clip_by_value: the bounds .*\(2,\) of t"),
        (lambda x: cast(x, "complex64"), (F32,), TypeError, "complex64"),
        (lambda x, y: add_n([x, y]), (F32, np.ones(1, "f4")), ValueError, "add_n: shapes differ"),
        (activation.leaky_relu, (I32, I32), TypeError, "leaky_relu: needs floating elements"),
        (power, (F32, I32), TypeError, "pow: operands have different dtypes"),
    ],
)
def test_errors(function, arrays, kind, message):
    with pytest.raises(kind, match=message):
        program(function, *arrays)
