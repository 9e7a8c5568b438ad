"""Elementary functions as branch-free text that vectorizes, in float32 and float64.

Each algorithm is written once, over numbers that know `+ - * /`, comparisons, bit operations on integers, and
over an `Arithmetic` that supplies the rest. Called with NumPy values an algorithm computes;
`numtape.codegen.intrinsics` calls the same text with LLVM values, and it emits instructions. What always
holds: no branch and no table, so that a loop over elements becomes vector code; no operation may be
reassociated, and only `multiply_add` may fuse; nan, infinities, signed zeros and subnormal numbers come out
as IEEE 754 and NumPy have them. The worst errors, in units in the last place, are asserted in
`tests/codegen/test_vector_math.py`.

The polynomials are minimax fits (Remez exchange at 60 digits) on the intervals stated beside them. The
argument reductions are those of Cody and Waite, "Software Manual for the Elementary Functions" (1980); the
compensated sums of `log` and `expm1` follow the analysis in Muller, "Elementary Functions" (2016).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from numtape.codegen.limits import CIRCULAR_LIMIT

Real = Any
"""A float32 or float64: a NumPy scalar, an array, or an LLVM value."""
Integer = Any
"""An integer as wide as its `Real`; right shifts only ever see values that are not negative."""
Condition = Any

T = TypeVar("T")


class Arithmetic(Protocol):
    """What an algorithm needs to know about its numbers beyond the operators."""

    width: int
    """32 or 64."""
    mantissa: int
    """Explicit bits of the significand: 23 or 52."""
    bias: int
    """What is added to an exponent to store it: 127 or 1023."""
    magic: float
    """1.5 * 2**mantissa: adding it rounds to an integer, and puts that integer into the low bits."""

    def bits(self, x: Real) -> Integer: ...
    def real(self, i: Integer) -> Real: ...
    def select(self, condition: Condition, a: Real, b: Real) -> Real: ...
    def multiply_add(self, a: Real, b: Real, c: Real) -> Real: ...
    def absolute(self, x: Real) -> Real: ...
    def copy_sign(self, magnitude: Real, sign: Real) -> Real: ...
    def square_root(self, x: Real) -> Real: ...
    def double(self) -> Arithmetic: ...
    def widen(self, x: Real) -> Real: ...
    def narrow(self, x: Any) -> Any: ...


class NumpyArithmetic:
    """The interpreter over NumPy: `multiply_add` rounds twice."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.mantissa, self.bias = (23, 127) if width == 32 else (52, 1023)
        self.magic = 1.5 * 2.0**self.mantissa
        self._real, self._integer = np.dtype(f"float{width}"), np.dtype(f"int{width}")

    def bits(self, x: Real) -> Integer:
        return x.view(self._integer)

    def real(self, i: Integer) -> Real:
        return i.view(self._real)

    def select(self, condition: Condition, a: Real, b: Real) -> Real:
        return np.where(condition, np.asarray(a, self._real), np.asarray(b, self._real))

    def multiply_add(self, a: Real, b: Real, c: Real) -> Real:
        return a * b + c

    def absolute(self, x: Real) -> Real:
        return np.abs(x)

    def copy_sign(self, magnitude: Real, sign: Real) -> Real:
        return np.copysign(magnitude, sign)

    def square_root(self, x: Real) -> Real:
        return np.sqrt(x)

    def double(self) -> NumpyArithmetic:
        return _NUMPY[np.dtype(np.float64)]

    def widen(self, x: Real) -> Real:
        return x.astype(np.float64)

    def narrow(self, x: Any) -> Any:
        return x.astype(self._real if x.dtype.kind == "f" else self._integer)


_NUMPY = {np.dtype(np.float32): NumpyArithmetic(32), np.dtype(np.float64): NumpyArithmetic(64)}

ALGORITHMS: dict[str, Algorithm] = {}
"""Every public function of this module by name."""


class Algorithm:
    """A function of real numbers: called, it computes with NumPy; its `text` takes any arithmetic."""

    def __init__(self, text: Callable[..., Real]) -> None:
        functools.update_wrapper(self, text)
        self.text = text
        self.arity = text.__code__.co_argcount - 1
        ALGORITHMS[text.__name__] = self

    def __call__(self, *arguments: Any) -> Any:
        arrays = [np.asarray(x) for x in arguments]
        try:
            (arithmetic,) = {_NUMPY[x.dtype] for x in arrays}
        except (KeyError, ValueError):
            given = ", ".join(str(x.dtype) for x in arrays)
            raise TypeError(
                f"{self.text.__name__} takes float32 or float64 of one width, not {given}"
            ) from None
        with np.errstate(all="ignore"):
            return self.text(arithmetic, *arrays)[()]


# ---- building blocks ---------------------------------------------------------------------------------------


def _of(m: Arithmetic, single: T, double: T) -> T:
    return single if m.width == 32 else double


def _polynomial(m: Arithmetic, x: Real, coefficients: tuple[float, ...]) -> Real:
    """Horner's scheme, coefficients from the constant upwards."""
    *rest, last = coefficients
    total: Real = last
    for c in reversed(rest):
        total = m.multiply_add(x, total, c)
    return total


def _clamp(m: Arithmetic, x: Real, low: float, high: float) -> Real:
    """`x` between bounds; nan stays."""
    x = m.select(x < low, low, x)
    return m.select(x > high, high, x)


def _nearest(m: Arithmetic, x: Real, factor: float) -> tuple[Real, Integer]:
    """The integer next to `x * factor`, as a real and as an integer; right below 2**(mantissa - 1)."""
    shifted = m.multiply_add(x, factor, m.magic)
    return shifted - m.magic, m.bits(shifted) - _stored(m, m.magic)


def _stored(m: Arithmetic, x: float) -> int:
    """The bits of a constant, as a Python integer."""
    return int(np.float32(x).view(np.int32)) if m.width == 32 else int(np.float64(x).view(np.int64))


def _power_of_two(m: Arithmetic, k: Integer) -> Real:
    """2**k where that is a normal number."""
    return m.real((k + m.bias) << m.mantissa)


def _scale(m: Arithmetic, x: Real, k: Integer) -> Real:
    """`x * 2**k` in two factors, for results that overflow or are subnormal."""
    even = 4 * (m.bias + 1)
    half = ((k + even) >> 1) - even // 2
    return x * _power_of_two(m, half) * _power_of_two(m, k - half)


def _tiny(m: Arithmetic) -> float:
    """Below this `x + c * x * x` is `x` for c up to 1."""
    return _of(m, 2.0**-26, 2.0**-55)


_LOG2_E = 1.4426950408889634
_LN_2 = 0.6931471805599453
_INF, _NAN = float("inf"), float("nan")


def _ln2(m: Arithmetic) -> tuple[float, float]:
    """ln 2 as a sum; the first part has trailing zeros, so that its product with an exponent is exact."""
    return _of(
        m,
        (float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cp-20")),
        (float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")),
    )


# ---- exponentials ------------------------------------------------------------------------------------------

# (exp(r) - 1 - r) / r**2 for |r| <= ln(2) / 2
_EXP = (
    (0.5, 0.166665435, 0.0416662805, 0.00836665463, 0.00139465602),
    (
        0.5000000000000006, 0.16666666666666685, 0.041666666666576056, 0.008333333333314668,
        0.0013888888931949262, 0.00019841269903119677, 2.4801504680154403e-05, 2.7557227688131433e-06,
        2.762631390780114e-07, 2.5114606529199627e-08,
    ),
)  # fmt: skip


def _expm1_reduced(m: Arithmetic, r: Real) -> Real:
    """exp(r) - 1 for |r| <= ln(2) / 2."""
    return m.multiply_add(r * r, _polynomial(m, r, _of(m, *_EXP)), r)


def _exp_parts(m: Arithmetic, x: Real) -> tuple[Real, Integer]:
    """`y` and `k` with exp(x) = y * 2**k."""
    high, low = _ln2(m)
    n, k = _nearest(m, x, _LOG2_E)
    return _expm1_reduced(m, m.multiply_add(n, -low, m.multiply_add(n, -high, x))) + 1.0, k


def _expm1_parts(m: Arithmetic, x: Real) -> tuple[Real, Integer]:
    """`y` and `k` with exp(x) = (1 + y) * 2**k, and y accurate near zero."""
    high, low = _ln2(m)
    n, k = _nearest(m, x, _LOG2_E)
    reduced, rest = m.multiply_add(n, -high, x), n * low
    r = reduced - rest
    lost = (reduced - r) - rest
    return r + m.multiply_add(r * r, _polynomial(m, r, _of(m, *_EXP)), lost), k


@Algorithm
def exp(m: Arithmetic, x: Real) -> Real:
    y, k = _exp_parts(m, _clamp(m, x, _of(m, -104.0, -746.0), _of(m, 89.0, 710.0)))
    return _scale(m, y, k)


@Algorithm
def exp2(m: Arithmetic, x: Real) -> Real:
    x = _clamp(m, x, _of(m, -151.0, -1076.0), _of(m, 129.0, 1025.0))
    n, k = _nearest(m, x, 1.0)
    return _scale(m, _expm1_reduced(m, (x - n) * _LN_2) + 1.0, k)


@Algorithm
def expm1(m: Arithmetic, x: Real) -> Real:
    y, k = _expm1_parts(m, _clamp(m, x, _of(m, -20.0, -40.0), _of(m, 89.0, 710.0)))
    half = _power_of_two(m, k - 1)
    return m.select(m.absolute(x) < _tiny(m), x, m.multiply_add(half, y, half - 0.5) * 2.0)


# (tanh(x) / x - 1) / x**2 for |x| <= 0.55 and (sinh(x) / x - 1) / x**2 for |x| <= 1, in x**2
_TANH = (
    (-0.333333194, 0.133326203, -0.0538510792, 0.0210532527, -0.00623503933),
    (
        -0.33333333333333315, 0.13333333333328956, -0.0539682539647613, 0.02186948840644628,
        -0.008863232832463304, 0.0035920934847090097, -0.0014555475142294836, 0.0005884474906392732,
        -0.0002333542945178386, 8.323461705509709e-05, -1.9421464386511222e-05,
    ),
)  # fmt: skip
_SINH = (
    (0.166666672, 0.00833335053, 0.000198358714, 2.81902908e-06),
    (
        0.16666666666666669, 0.008333333333333174, 0.00019841269841425354, 2.7557319156695973e-06,
        2.5052123477358395e-08, 1.6057217076575852e-10, 7.760411614905231e-13,
    ),
)  # fmt: skip


def _odd(m: Arithmetic, x: Real, coefficients: tuple[float, ...]) -> Real:
    """x + c * x**3 + ...; keeps the sign of zero."""
    z = x * x
    return m.multiply_add(x * z, _polynomial(m, z, coefficients), x)


@Algorithm
def tanh(m: Arithmetic, x: Real) -> Real:
    a = _clamp(m, m.absolute(x), 0.0, _of(m, 9.5, 19.5))
    y, k = _exp_parts(m, a + a)
    large = 1.0 - 2.0 / m.multiply_add(y, _power_of_two(m, k), 1.0)
    return m.copy_sign(m.select(a < 0.55, _odd(m, a, _of(m, *_TANH)), large), x)


def _quarter_exp(m: Arithmetic, x: Real) -> Real:
    """exp|x| / 4, which is finite wherever the hyperbolic sine is."""
    y, k = _exp_parts(m, _clamp(m, m.absolute(x), 0.0, _of(m, 89.5, 710.5)))
    return y * _power_of_two(m, k - 2)


@Algorithm
def sinh(m: Arithmetic, x: Real) -> Real:
    a, quarter = m.absolute(x), _quarter_exp(m, x)
    y = m.select(a < 1.0, _odd(m, a, _of(m, *_SINH)), m.multiply_add(quarter, 2.0, -0.125 / quarter))
    return m.copy_sign(y, x)


@Algorithm
def cosh(m: Arithmetic, x: Real) -> Real:
    quarter = _quarter_exp(m, x)
    return m.multiply_add(quarter, 2.0, 0.125 / quarter)


@Algorithm
def sigmoid(m: Arithmetic, x: Real) -> Real:
    e = exp.text(m, -m.absolute(x))
    d = e + 1.0
    lost = e - (d - 1.0)
    quotient = m.select(x < 0.0, e, 1.0) / d
    return m.multiply_add(-quotient, lost, quotient)


@Algorithm
def softplus(m: Arithmetic, x: Real) -> Real:
    return m.select(x > 0.0, x, 0.0) + _log1p_finite(m, exp.text(m, -m.absolute(x)))


# ---- logarithms --------------------------------------------------------------------------------------------

# (log(1 + f) / s - 2) / s**2 as a polynomial in s**2, s = f / (2 + f), 1 + f from sqrt(1/2) to sqrt(2)
_LOG = (
    (0.666667819, 0.399759859, 0.299282551),
    (
        0.666666666666671, 0.3999999999951423, 0.2857142873082085, 0.22222198910206978, 0.18183581869821405,
        0.15312881042015064, 0.14813508739395115,
    ),
)  # fmt: skip


def _log_parts(m: Arithmetic, x: Real) -> tuple[Real, Real]:
    """`n` and `f` with x = (1 + f) * 2**n, for x positive and normal."""
    root = _stored(m, 0.5**0.5)
    i = m.bits(x) + (_stored(m, 1.0) - root)
    n = m.real((i >> m.mantissa) + _stored(m, m.magic)) - (m.magic + m.bias)
    return n, m.real((i & ((1 << m.mantissa) - 1)) + root) - 1.0


def _log_sum(m: Arithmetic, n: Real, f: Real, correction: Real) -> Real:
    """log((1 + f) * 2**n) + correction."""
    high, low = _ln2(m)
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    small = m.multiply_add(s, m.multiply_add(z, _polynomial(m, z, _of(m, *_LOG)), half_square), correction)
    return n * high - ((half_square - m.multiply_add(n, low, small)) - f)


def _log_domain(m: Arithmetic, x: Real, origin: float, y: Real) -> Real:
    """`y`, but for the arguments where a logarithm that starts at `origin` is not finite."""
    return m.select(x > origin, m.select(x < _INF, y, x), m.select(x == origin, -_INF, _NAN))


@Algorithm
def log(m: Arithmetic, x: Real) -> Real:
    subnormal = x < 2.0 ** (1 - m.bias)
    n, f = _log_parts(m, m.select(subnormal, x * 2.0**m.mantissa, x))
    return _log_domain(m, x, 0.0, _log_sum(m, n - m.select(subnormal, float(m.mantissa), 0.0), f, 0.0))


@Algorithm
def log2(m: Arithmetic, x: Real) -> Real:
    subnormal = x < 2.0 ** (1 - m.bias)
    n, f = _log_parts(m, m.select(subnormal, x * 2.0**m.mantissa, x))
    n = n - m.select(subnormal, float(m.mantissa), 0.0)
    return _log_domain(m, x, 0.0, m.multiply_add(_log_sum(m, 0.0, f, 0.0), _LOG2_E, n))


def _log1p_finite(m: Arithmetic, x: Real) -> Real:
    """log(1 + x) for x above -1 and finite; the sign of zero is lost."""
    u = x + 1.0
    rounded = u - 1.0
    lost = (1.0 - (u - rounded)) + (x - rounded)
    n, f = _log_parts(m, u)
    near = n == 0.0
    return _log_sum(m, n, m.select(near, x, f), m.select(near, 0.0, lost / u))


@Algorithm
def log1p(m: Arithmetic, x: Real) -> Real:
    return m.select(m.absolute(x) < _tiny(m), x, _log_domain(m, x, -1.0, _log1p_finite(m, x)))


@Algorithm
def asinh(m: Arithmetic, x: Real) -> Real:
    a = m.absolute(x)
    huge = a > 2.0**60
    near = m.multiply_add(a, a / (m.square_root(m.multiply_add(a, a, 1.0)) + 1.0), a)
    y = log1p.text(m, m.select(huge, a, near)) + m.select(huge, _LN_2, 0.0)
    return m.copy_sign(y, x)


@Algorithm
def acosh(m: Arithmetic, x: Real) -> Real:
    huge = x > 2.0**60
    t = x - 1.0
    near = t + m.square_root(t * (t + 2.0))
    y = log1p.text(m, m.select(huge, x, near)) + m.select(huge, _LN_2, 0.0)
    return m.select(x < 1.0, _NAN, y)


@Algorithm
def atanh(m: Arithmetic, x: Real) -> Real:
    a = m.absolute(x)
    y = log1p.text(m, m.multiply_add(a + a, a / (1.0 - a), a + a)) * 0.5
    return m.select(a < _tiny(m), x, m.copy_sign(m.select(a < 1.0, y, m.select(a == 1.0, _INF, _NAN)), x))


# ---- the error function ------------------------------------------------------------------------------------

# erf(x) / x - 1 as a polynomial in x**2, for |x| up to 0.921875 and 1
_ERF_SMALL = (
    (0.128379166, -0.376126349, 0.112836957, -0.0268593989, 0.00520103239, -0.000814270519, 8.37010521e-05),
    (
        0.12837916709551256, -0.3761263890318352, 0.11283791670944184, -0.026866170643111392,
        0.005223977606117981, -0.0008548325929295569, 0.00012055293576448473, -1.4924712295107382e-05,
        1.6447131504267627e-06, -1.6206313361255484e-07, 1.3710979102306824e-08, -7.779466740436181e-10,
    ),
)  # fmt: skip
# log(1 - erf(x)) from there to 4 and 6
_ERF_LARGE = (
    (
        -0.000109299639, -1.1282742, -0.635587573, -0.106113903, 0.0239089262, -0.00377980736, 0.000366656168,
        -1.62274573e-05,
    ),
    (
        -1.885949542913333e-07, -1.1283774454258826, -0.6366269389427145, -0.10275482128367076,
        0.01909999954645937, 0.00023743911180085193, -0.0017068729951232717, 0.0005728225717856949,
        1.3953975544057765e-05, -0.00011050899389513467, 6.702609521009438e-05, -2.6224818686376085e-05,
        7.789539105040035e-06, -1.8452898833098277e-06, 3.5468797577739585e-07, -5.5480214080809034e-08,
        7.019896822970955e-09, -7.085946209845868e-10, 5.575458473075927e-11, -3.2958061058050575e-12,
        1.376644511716216e-13, -3.6216920941126375e-15, 4.5117732392589595e-17,
    ),
)  # fmt: skip


@Algorithm
def erf(m: Arithmetic, x: Real) -> Real:
    a = _clamp(m, m.absolute(x), 0.0, _of(m, 4.0, 6.0))
    small = m.multiply_add(x, _polynomial(m, x * x, _of(m, *_ERF_SMALL)), x)
    y, k = _exp_parts(m, _polynomial(m, a, _of(m, *_ERF_LARGE)))
    large = 1.0 - y * _power_of_two(m, k)
    return m.select(a < _of(m, 0.921875, 1.0), small, m.copy_sign(large, x))


# (1 + 2 x) exp(x**2) erfc(x) as a polynomial in (x - c) / (x + c); c = 2 up to x = 10.06, c = 4 up to 27.3
_ERFC = (
    (
        1.27697837, -0.0927639827, -0.166031405, 0.164055318, -0.054204464, -0.00805976428, 0.00863231532,
        0.00131360278, -0.00123070448, -0.00040103044,
    ),
    (
        1.2329951186255526, -0.13962111684056286, 0.015379652102620139, 0.06809705425473356,
        -0.10103906603632348, 0.09373283499691441, -0.06633036581204008, 0.037167515560700824,
        -0.016197734054709624, 0.005031969770626719, -0.0007577733614848356, -0.00019925557966081985,
        0.0001506222903350105, -2.440295342705196e-05, -1.122482176644953e-05, 5.717497582642393e-06,
        3.012734831507669e-07, -8.347649160873728e-07, 6.288834944431155e-08, 1.1515950060830515e-07,
        -7.842228019234753e-09, -1.3649777989334299e-08, -1.800073787758489e-09,
    ),
)  # fmt: skip


@Algorithm
def erfc(m: Arithmetic, x: Real) -> Real:
    """After Shepherd and Laframboise, Mathematics of Computation 36 (1981); x**2 keeps all its bits."""
    a = _clamp(m, m.absolute(x), 0.0, _of(m, 10.06, 27.3))
    coarse = m.real(m.bits(a) & _of(m, -(1 << 12), -(1 << 27)))
    square, rest = coarse * coarse, (a - coarse) * (a + coarse)
    high, low = _ln2(m)
    n, k = _nearest(m, -(square + rest), _LOG2_E)
    r = m.multiply_add(n, -low, m.multiply_add(n, -high, -square) - rest)
    c = _of(m, 2.0, 4.0)
    y = _polynomial(m, (a - c) / (a + c), _of(m, *_ERFC)) / (a + a + 1.0)
    tail = _scale(m, m.multiply_add(y, _expm1_reduced(m, r), y), k)
    center = 1.0 - m.multiply_add(x, _polynomial(m, x * x, _of(m, *_ERF_SMALL)), x)
    return m.select(a < 0.5, center, m.select(x < 0.0, 2.0 - tail, tail))


# ---- circular functions ------------------------------------------------------------------------------------

# (sin(r) / r - 1) / r**2 and (cos(r) - 1 + r**2 / 2) / r**4 as polynomials in r**2, for |r| <= pi / 4
_SIN = (
    (-0.166666552, 0.00833209138, -0.000195026238),
    (
        -0.1666666666666664, 0.008333333333323477, -0.00019841269829974506, 2.755731358818996e-06,
        -2.5050724135376328e-08, 1.5894088636531535e-10,
    ),
)  # fmt: skip
_COS = (
    (0.041666653, -0.00138876447, 2.44624935e-05),
    (
        0.04166666666666665, -0.0013888888888882722, 2.480158729452171e-05, -2.75573156987805e-07,
        2.0875891209247784e-09, -1.136759273828618e-11,
    ),
)  # fmt: skip

_TWO_OVER_PI = 0.6366197723675814
# pi / 2 as sums of parts of 25, 25, 53 bits (exact products up to 2**28) and 23, 23, 23, 53 (up to 2**30)
_HALF_PI_SINGLE = tuple(map(float.fromhex, ("0x1.921fb5p+0", "0x1.110b46p-26", "0x1.1a62633145c07p-54")))
_HALF_PI_DOUBLE = tuple(
    map(float.fromhex, ("0x1.921fb4p+0", "0x1.4442dp-24", "0x1.846988p-48", "0x1.8cc51701b839ap-72"))
)


def _quarter_turns(m: Arithmetic, x: Real) -> tuple[Real, Real, Integer]:
    """`r`, `rest`, `k` with x = r + rest + k * pi / 2, |r| <= pi / 4, and `rest` what r lost to rounding."""
    x = m.select(m.absolute(x) <= CIRCULAR_LIMIT[m.width], x, _NAN)
    if m.width == 32:
        wide, exact = m.double(), m.widen(x)
        n, k = _nearest(wide, exact, _TWO_OVER_PI)
        for part in _HALF_PI_SINGLE:
            exact = wide.multiply_add(n, -part, exact)
        r = m.narrow(exact)
        return r, m.narrow(exact - m.widen(r)), m.narrow(k)
    n, k = _nearest(m, x, _TWO_OVER_PI)
    first, second, third, fourth = _HALF_PI_DOUBLE
    a = m.multiply_add(n, -second, m.multiply_add(n, -first, x))
    subtrahend = n * third
    b = a - subtrahend
    lost = (a - b) - subtrahend
    subtrahend = n * fourth - lost
    r = b - subtrahend
    return r, (b - r) - subtrahend, k


def _sin_cos(m: Arithmetic, r: Real, rest: Real) -> tuple[Real, Real]:
    """Sine and cosine of r + rest for |r| <= pi / 4."""
    z = r * r
    sine = r + m.multiply_add(z * r, _polynomial(m, z, _of(m, *_SIN)), rest)
    half = z * 0.5
    leading = 1.0 - half
    correction = m.multiply_add(z * z, _polynomial(m, z, _of(m, *_COS)), -(r * rest))
    return sine, leading + (((1.0 - leading) - half) + correction)


def _turned(m: Arithmetic, k: Integer, sine: Real, cosine: Real) -> Real:
    """The sine of an angle k quarter turns further on."""
    y = m.select((k & 1) == 0, sine, cosine)
    return m.select((k & 2) == 0, y, -y)


@Algorithm
def sin(m: Arithmetic, x: Real) -> Real:
    """Sine of an angle in radians; nan beyond `CIRCULAR_LIMIT`."""
    r, rest, k = _quarter_turns(m, x)
    return m.select(m.absolute(x) < _tiny(m), x, _turned(m, k, *_sin_cos(m, r, rest)))


@Algorithm
def cos(m: Arithmetic, x: Real) -> Real:
    """Cosine of an angle in radians; nan beyond `CIRCULAR_LIMIT`."""
    r, rest, k = _quarter_turns(m, x)
    return _turned(m, k + 1, *_sin_cos(m, r, rest))


@Algorithm
def tan(m: Arithmetic, x: Real) -> Real:
    """Tangent of an angle in radians; nan beyond `CIRCULAR_LIMIT`."""
    r, rest, k = _quarter_turns(m, x)
    sine, cosine = _sin_cos(m, r, rest)
    even = (k & 1) == 0
    y = m.select(even, sine, -cosine) / m.select(even, cosine, sine)
    return m.select(m.absolute(x) < _tiny(m), x, y)


# ---- inverse circular functions ----------------------------------------------------------------------------

# (atan(t) / t - 1) / t**2 for |t| <= tan(pi / 8), (asin(s) / s - 1) / s**2 for |s| <= 1 / 2, in the squares
_ATAN = (
    (-0.333333194, 0.199985221, -0.142427459, 0.105797097, -0.0602857694),
    (
        -0.33333333333333265, 0.19999999999968743, -0.14285714281312456, 0.11111110822452887,
        -0.0909089848217343, 0.07692067274720538, -0.0666312934896553, 0.05847740042094587,
        -0.050373742191504596, 0.037988638496083624, -0.017799230626662787,
    ),
)  # fmt: skip
_ASIN = (
    (0.166666627, 0.0750043094, 0.0445231535, 0.0318038426, 0.0143173663, 0.0378325582),
    (
        0.16666666666666702, 0.07499999999984337, 0.04464285716385213, 0.030381943132110317,
        0.022372205335299357, 0.017351748608954855, 0.013979575399863343, 0.011406241454910024,
        0.010753464279891326, 0.0037593392466953373, 0.021683888723770084, -0.021099546257645437,
        0.03276687955790027,
    ),
)  # fmt: skip
_TAN_PI_8, _TAN_3_PI_8 = 0.41421356237309503, 2.414213562373095


def _pi(m: Arithmetic, fraction: float) -> tuple[float, float]:
    """pi times a power of two, as a sum of two numbers."""
    high, low = _of(
        m, (3.1415927410125732, -8.742277657347586e-08), (3.141592653589793, 1.2246467991473532e-16)
    )
    return high * fraction, low * fraction


@Algorithm
def atan(m: Arithmetic, x: Real) -> Real:
    a = m.absolute(x)
    steep, middle = a > _TAN_3_PI_8, a > _TAN_PI_8
    t = m.select(steep, -1.0, m.select(middle, a - 1.0, a)) / m.select(
        steep, a, m.select(middle, a + 1.0, 1.0)
    )
    z = t * t
    (half, half_low), (quarter, quarter_low) = _pi(m, 0.5), _pi(m, 0.25)
    base = m.select(steep, half, m.select(middle, quarter, 0.0))
    low = m.select(steep, half_low, m.select(middle, quarter_low, 0.0))
    return m.copy_sign(base + (m.multiply_add(t * z, _polynomial(m, z, _of(m, *_ATAN)), low) + t), x)


@Algorithm
def atan2(m: Arithmetic, y: Real, x: Real) -> Real:
    a, b = m.absolute(y), m.absolute(x)
    steep = a > b
    low, high = m.select(steep, b, a), m.select(steep, a, b)
    # 0 / 0 stands for 0 and inf / inf for 1, as IEEE 754 has it.
    ratio = m.select(low == high, m.select(high == 0.0, 0.0, 1.0), low / high)
    angle = atan.text(m, ratio)
    half, half_low = _pi(m, 0.5)
    angle = m.select(steep, half - (angle - half_low), angle)
    whole, whole_low = _pi(m, 1.0)
    angle = m.select(m.bits(x) < 0, whole - (angle - whole_low), angle)
    return m.select((x != x) | (y != y), x + y, m.copy_sign(angle, y))


def _asin_parts(m: Arithmetic, x: Real) -> tuple[Condition, Real, Real]:
    """Whether |x| > 1/2; `s` with asin|x| = asin(s), or else acos|x| = 2 asin(s); and asin(s) - s."""
    a = m.absolute(x)
    outer = a > 0.5
    z = m.select(outer, (1.0 - a) * 0.5, a * a)
    s = m.select(outer, m.square_root(z), a)
    return outer, s, s * z * _polynomial(m, z, _of(m, *_ASIN))


@Algorithm
def asin(m: Arithmetic, x: Real) -> Real:
    outer, s, more = _asin_parts(m, x)
    half, low = _pi(m, 0.5)
    return m.copy_sign(m.select(outer, half - ((s * 2.0 - low) + more * 2.0), s + more), x)


@Algorithm
def acos(m: Arithmetic, x: Real) -> Real:
    outer, s, more = _asin_parts(m, x)
    (half, half_low), (whole, whole_low) = _pi(m, 0.5), _pi(m, 1.0)
    near_one, near_minus_one = (s + more) * 2.0, whole - ((s * 2.0 - whole_low) + more * 2.0)
    inner = half - (x - (half_low - m.copy_sign(more, x)))
    return m.select(outer, m.select(x > 0.0, near_one, near_minus_one), inner)
