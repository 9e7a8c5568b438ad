"""Activations: what neural networks apply to each element between their linear layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numtape.ops.core import Example, Tensor, check_kind, composite, elementwise
from numtape.ops.elementwise import absolute, linked, minimum, square, where
from numtape.ops.transcendental import documented, erfc, expm1, sigmoid, softplus

_FLOATS = "Takes float32 or float64 of any shape, and gives the same."
_NUMBERS = "Takes numbers of any dtype and shape, and gives the same."

relu: Any = elementwise(
    "relu", "maximum(features, T(0))", parameters=("features",), kind="number",
    reference=lambda features: np.maximum(features, np.zeros((), features.dtype)),
    gradient=lambda g, out: linked(where(out > 0, g, 0), out), sample=((-3, 3),), public=("nn.relu",),
    doc=documented(
        f"Each element, or 0 where it is negative; the derivative at 0 is 0.\n\n{_NUMBERS}",
        "nt.nn.relu([-1.0, 2.0]).numpy()", "array([0., 2.], dtype=float32)",
    ),
)  # fmt: skip
relu6: Any = elementwise(
    "relu6", "minimum(maximum(features, T(0)), T(6))", parameters=("features",), kind="number",
    reference=lambda features: np.clip(features, 0, 6),
    gradient=lambda g, out: linked(where((out > 0) & (out < 6), g, 0), out),
    sample=((-3, 9),), public=("nn.relu6",),
    doc=documented(
        f"Each element, but at least 0 and at most 6; the derivative at both is 0.\n\n{_NUMBERS}",
        "nt.nn.relu6([-1.0, 2.0, 7.0]).numpy()", "array([0., 2., 6.], dtype=float32)",
    ),
)  # fmt: skip
softsign: Any = elementwise(
    "softsign", "features / (T(1) + fabs(features))", parameters=("features",),
    reference=lambda features: features / (1 + np.abs(features)),
    gradient=lambda g, features: g / square(1 + absolute(features)), sample=((-3, 3),),
    public=("nn.softsign", "math.softsign"),
    doc=documented(
        f"x / (1 + |x|) of each element.\n\n{_FLOATS}",
        "nt.nn.softsign([-1.0, 3.0]).numpy()", "array([-0.5 ,  0.75], dtype=float32)",
    ),
)  # fmt: skip


@composite(
    "nn.leaky_relu", reference=lambda features, alpha: np.where(features > 0, features, alpha * features),
    examples=[Example(((2, 3), ()), domains=((-3, 3), (0.1, 1.5)))],
)  # fmt: skip
def leaky_relu(features: Tensor, alpha: Tensor = 0.2) -> Any:
    """Each element, or `alpha` times it where it is negative; the derivative at 0 is `alpha`.

    Takes float32 or float64 of any shape, and gives the same.

    >>> nt.nn.leaky_relu([-1.0, 2.0]).numpy()
    array([-0.2,  2. ], dtype=float32)
    """
    check_kind("leaky_relu", features.type, "float")
    return linked(where(features > 0, features, alpha * features), features)


@composite(
    "nn.elu", reference=lambda features, alpha: np.where(features < 0, alpha * np.expm1(features), features),
    examples=[Example(((2, 3), ()), domains=((-3, 3), (0.5, 1.5)))],
)  # fmt: skip
def elu(features: Tensor, alpha: Tensor = 1.0) -> Any:
    """Each element, or alpha * (exp(x) - 1) where it is negative.

    Takes float32 or float64 of any shape, and gives the same. After Clevert, Unterthiner and Hochreiter, "Fast and
    Accurate Deep Network Learning by Exponential Linear Units" (2016).

    >>> nt.nn.elu([-1.0, 2.0]).numpy().round(4)
    array([-0.6321,  2.    ], dtype=float32)
    """
    # What is not chosen is expm1(0), whose derivative is finite.
    return where(features < 0, alpha * expm1(minimum(features, 0)), features)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@composite(
    "nn.selu",
    reference=lambda features: _SELU_SCALE * np.where(features < 0, _SELU_ALPHA * np.expm1(features), features),
    examples=[Example(((2, 3),))],
)  # fmt: skip
def selu(features: Tensor) -> Any:
    """`elu` with the scales that keep mean 0 and variance 1 through layers.

    Takes float32 or float64 of any shape, and gives the same. After Klambauer et al., "Self-Normalizing Neural
    Networks" (2017).

    >>> nt.nn.selu([-1.0, 2.0]).numpy().round(4)
    array([-1.1113,  2.1014], dtype=float32)
    """
    return _SELU_SCALE * elu(features, _SELU_ALPHA)


def _gelu(features: Any, approximate: bool) -> Any:
    if approximate:
        return features / (1 + np.exp(-_GELU_SLOPE * (features + _GELU_CUBIC * features**3)))
    normal = np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2, otypes=[np.float64])
    return features * normal(features).astype(features.dtype)


_GELU_SLOPE, _GELU_CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715


@composite(
    "nn.gelu", reference=_gelu, examples=[Example(((2, 3),), {"approximate": a}) for a in (False, True)]
)  # fmt: skip
def gelu(features: Tensor, approximate: bool = False) -> Any:
    """Each element times the probability that a normal variable is less.

    Takes float32 or float64 of any shape, and gives the same. `approximate` takes the logistic function of a cubic
    for that probability: the form with tanh of Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016).

    >>> nt.nn.gelu([-1.0, 2.0]).numpy().round(4)
    array([-0.1587,  1.9545], dtype=float32)
    """
    if approximate:
        return features * sigmoid(_GELU_SLOPE * (features + _GELU_CUBIC * features * features * features))
    return features * (0.5 * erfc(-math.sqrt(0.5) * features))


@composite(
    "nn.silu", "nn.swish", reference=lambda features, beta: features / (1 + np.exp(-beta * features)),
    examples=[Example(((2, 3), ()), domains=((-3, 3), (0.5, 1.5)))],
)  # fmt: skip
def silu(features: Tensor, beta: Tensor = 1.0) -> Any:
    """x * sigmoid(beta * x) of each element.

    Takes float32 or float64 of any shape, and gives the same. After Ramachandran, Zoph and Le, "Searching for
    Activation Functions" (2017).

    >>> nt.nn.silu([-1.0, 2.0]).numpy().round(4)
    array([-0.2689,  1.7616], dtype=float32)
    """
    return features * sigmoid(beta * features)


@composite(
    "math.log_sigmoid", reference=lambda x: -np.logaddexp(-x, np.zeros((), x.dtype)), examples=[Example(((2, 3),))]
)  # fmt: skip
def log_sigmoid(x: Tensor) -> Any:
    """Natural logarithm of the logistic function of each element; finite for all finite ones.

    Takes float32 or float64 of any shape, and gives the same.

    >>> nt.math.log_sigmoid([-10.0, 0.0]).numpy().round(4)
    array([-10.    ,  -0.6931], dtype=float32)
    """
    return -softplus(-x)
