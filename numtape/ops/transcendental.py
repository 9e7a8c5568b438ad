"""Elementary functions of single elements: roots, exponentials, logarithms, circular and hyperbolic functions.

All take float32 or float64. Their kernels call the names of `numtape.codegen.intrinsics`, which vectorize; the
references are NumPy's functions, and `math`'s where NumPy has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numtape.codegen.limits import CIRCULAR_LIMIT
from numtape.ir.op import REGISTRY
from numtape.ops.core import elementwise, emit


def documented(text: str, example: str, result: str) -> str:
    """A docstring: the text, then an example that runs, and what it shows."""
    return f"{text}\n\n>>> {example}\n{result}\n"


def _function(
    name: str,
    doc: str,
    reference: Callable[..., Any],
    gradient: Callable[..., Any],
    domain: tuple[float, float],
    example: tuple[str, str],
    *,
    kernel: str = "",
    parameter: str = "x",
    public: Sequence[str] = (),
) -> Any:
    """One row of the table: the op, its reference, its gradient, and the domain and example for tests and docs."""
    public = public or (name, f"math.{name}")
    argument, result = example
    return elementwise(
        name, kernel or f"{name}({parameter})", parameters=(parameter,), reference=reference, gradient=gradient,
        sample=(domain,), public=public,
        doc=documented(
            f"{doc}\n\nTakes float32 or float64 of any shape, and gives the same.",
            f"nt.{public[0]}({argument}).numpy().round(4)", f"array({result}, dtype=float32)",
        ),
    )  # fmt: skip


def _each(function: Callable[[float], float]) -> Callable[..., Any]:
    """A function of Python numbers on the elements of an array, rounded to its dtype."""
    vectorized = np.vectorize(function, otypes=[np.float64])
    return lambda x: vectorized(x).astype(x.dtype)


def _unless_zero(g: Any, slope: Any) -> Any:
    """`g * slope`, but 0 where `g` is 0: what `where` did not choose gives no nan for an infinite slope."""
    return emit(REGISTRY["multiply_no_nan"], (slope, g))


# ---- roots, exponentials, logarithms ----------------------------------------------------------------------------

sqrt: Any = _function(
    "sqrt", "Square root of each element; nan below zero.",
    np.sqrt, lambda g, out: _unless_zero(g, 0.5 / out), (0.1, 4), ("[4.0, 9.0]", "[2., 3.]"),
)  # fmt: skip
rsqrt: Any = _function(
    "rsqrt", "One divided by the square root of each element.",
    lambda x: 1 / np.sqrt(x), lambda g, out: _unless_zero(g, -0.5 * out * out * out), (0.3, 4),
    ("[4.0, 16.0]", "[0.5 , 0.25]"), kernel="T(1) / sqrt(x)", public=("math.rsqrt",),
)  # fmt: skip
exp: Any = _function(
    "exp", "e to the power of each element.",
    np.exp, lambda g, out: g * out, (-3, 3), ("[0.0, 1.0]", "[1.    , 2.7183]"),
)  # fmt: skip
expm1: Any = _function(
    "expm1", "e to the power of each element, minus 1: accurate near zero.",
    np.expm1, lambda g, x: g * exp(x), (-3, 3), ("[0.0, 1.0]", "[0.    , 1.7183]"), public=("math.expm1",),
)  # fmt: skip
log: Any = _function(
    "log", "Natural logarithm of each element; -inf at zero, nan below.",
    np.log, lambda g, x: g / x, (0.1, 4), ("[1.0, 2.0]", "[0.    , 0.6931]"), public=("math.log",),
)  # fmt: skip
log1p: Any = _function(
    "log1p", "Natural logarithm of 1 plus each element: accurate near zero.",
    np.log1p, lambda g, x: g / (1 + x), (-0.8, 3), ("[0.0, 1.0]", "[0.    , 0.6931]"), public=("math.log1p",),
)  # fmt: skip

# ---- circular functions -----------------------------------------------------------------------------------------



def _circular(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of angles that are not too far."""
    return lambda x: np.where(np.abs(x) <= CIRCULAR_LIMIT[8 * x.dtype.itemsize], function(x), np.nan)


_FAR = "Angles beyond 2**28 in float32, and 2**30 in float64, give nan."

sin: Any = _function(
    "sin", f"Sine of each element, an angle in radians.\n\n{_FAR}",
    _circular(np.sin), lambda g, x: g * cos(x), (-3, 3), ("[0.0, 1.0]", "[0.    , 0.8415]"),
)  # fmt: skip
cos: Any = _function(
    "cos", f"Cosine of each element, an angle in radians.\n\n{_FAR}",
    _circular(np.cos), lambda g, x: -g * sin(x), (-3, 3), ("[0.0, 1.0]", "[1.    , 0.5403]"),
)  # fmt: skip
tan: Any = _function(
    "tan", f"Tangent of each element, an angle in radians.\n\n{_FAR}",
    _circular(np.tan), lambda g, out: g * (1 + out * out), (-1.2, 1.2), ("[0.0, 1.0]", "[0.    , 1.5574]"),
)  # fmt: skip
asin: Any = _function(
    "asin", "Angle in radians, from -pi/2 to pi/2, whose sine is each element.",
    np.arcsin, lambda g, x: g * rsqrt((1 - x) * (1 + x)), (-0.9, 0.9), ("[0.0, 1.0]", "[0.    , 1.5708]"),
)  # fmt: skip
acos: Any = _function(
    "acos", "Angle in radians, from 0 to pi, whose cosine is each element.",
    np.arccos, lambda g, x: -g * rsqrt((1 - x) * (1 + x)), (-0.9, 0.9), ("[0.0, 1.0]", "[1.5708, 0.    ]"),
)  # fmt: skip
atan: Any = _function(
    "atan", "Angle in radians, from -pi/2 to pi/2, whose tangent is each element.",
    np.arctan, lambda g, x: g / (1 + x * x), (-3, 3), ("[0.0, 1.0]", "[0.    , 0.7854]"),
)  # fmt: skip


def _atan2_gradient(g: Any, y: Any, x: Any) -> Any:
    share = g / (x * x + y * y)
    return share * x, -share * y


atan2: Any = elementwise(
    "atan2", "atan2(y, x)", parameters=("y", "x"), reference=np.arctan2, gradient=_atan2_gradient,
    sample=((0.2, 3), (-3, 3)),
    doc=documented(
        "Angle in radians, from -pi to pi, of the point (x, y).\n\n"
        "Takes float32 or float64; `y`, which comes first, and `x` broadcast against each other.",
        "nt.atan2([1.0, 0.0], [1.0, -1.0]).numpy().round(4)", "array([0.7854, 3.1416], dtype=float32)",
    ),
)  # fmt: skip

# ---- hyperbolic functions ---------------------------------------------------------------------------------------

sinh: Any = _function(
    "sinh", "Hyperbolic sine of each element.",
    np.sinh, lambda g, x: g * cosh(x), (-3, 3), ("[0.0, 1.0]", "[0.    , 1.1752]"),
)  # fmt: skip
cosh: Any = _function(
    "cosh", "Hyperbolic cosine of each element.",
    np.cosh, lambda g, x: g * sinh(x), (-3, 3), ("[0.0, 1.0]", "[1.    , 1.5431]"),
)  # fmt: skip
tanh: Any = _function(
    "tanh", "Hyperbolic tangent of each element.",
    np.tanh, lambda g, out: g * (1 - out * out), (-3, 3), ("[0.0, 1.0]", "[0.    , 0.7616]"),
    public=("tanh", "math.tanh", "nn.tanh"),
)  # fmt: skip
# In terms of `out` these neither overflow nor cancel.
asinh: Any = _function(
    "asinh", "Inverse hyperbolic sine of each element.",
    np.arcsinh, lambda g, out: g / cosh(out), (-3, 3), ("[0.0, 1.0]", "[0.    , 0.8814]"),
)  # fmt: skip
acosh: Any = _function(
    "acosh", "Inverse hyperbolic cosine of each element; nan below 1.",
    np.arccosh, lambda g, out: g / sinh(out), (1.2, 4), ("[1.0, 2.0]", "[0.   , 1.317]"),
)  # fmt: skip
atanh: Any = _function(
    "atanh", "Inverse hyperbolic tangent of each element; infinite at -1 and 1, nan beyond.",
    np.arctanh, lambda g, x: g / ((1 - x) * (1 + x)), (-0.8, 0.8), ("[0.0, 0.5]", "[0.    , 0.5493]"),
)  # fmt: skip

# ---- the logistic and the error function ------------------------------------------------------------------------


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


sigmoid: Any = _function(
    "sigmoid", "Logistic function of each element, 1 / (1 + exp(-x)); never overflows.",
    _sigmoid, lambda g, out: g * out * (1 - out), (-3, 3), ("[-1000.0, 0.0]", "[0. , 0.5]"),
    public=("sigmoid", "math.sigmoid", "nn.sigmoid"),
)  # fmt: skip
softplus: Any = _function(
    "softplus", "log(1 + exp(x)) of each element, a smooth `relu`; never overflows.",
    lambda features: np.logaddexp(features, np.zeros((), features.dtype)),
    lambda g, features: g * sigmoid(features), (-3, 3), ("[-1000.0, 0.0]", "[0.    , 0.6931]"),
    parameter="features", public=("nn.softplus", "math.softplus"),
)  # fmt: skip

_SLOPE = 2 / math.sqrt(math.pi)
"""Of the error function at zero."""

erf: Any = _function(
    "erf", "Error function of each element: 2 / sqrt(pi) times the integral of exp(-t**2) from 0.",
    _each(math.erf), lambda g, x: _SLOPE * g * exp(-x * x), (-3, 3), ("[0.0, 1.0]", "[0.    , 0.8427]"),
    public=("math.erf",),
)  # fmt: skip
erfc: Any = _function(
    "erfc", "1 minus the error function of each element, accurate where that is near 1.",
    _each(math.erfc), lambda g, x: -_SLOPE * g * exp(-x * x), (-3, 3), ("[0.0, 1.0]", "[1.    , 0.1573]"),
    public=("math.erfc",),
)  # fmt: skip
