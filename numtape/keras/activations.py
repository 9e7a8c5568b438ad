"""Activations by name: what layers take as `activation`.

They are the functions of `nt.nn`, and some that are written with them. All work on tensors of any shape, element by
element but for softmax and its logarithm, which belong to the last axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numtape._front import front
from numtape.ops.activation import elu, gelu, leaky_relu, log_sigmoid, relu, relu6, selu, silu, softsign
from numtape.ops.nn import log_softmax, softmax
from numtape.ops.transcendental import exp, sigmoid, softplus, tanh


def linear(x: Any) -> Any:
    """The elements as they are.

    >>> import numtape as nt
    >>> nt.keras.activations.linear(nt.constant([-1.0, 2.0])).numpy()
    array([-1.,  2.], dtype=float32)
    """
    return x


def hard_sigmoid(x: Any) -> Any:
    """The line x / 6 + 1/2, but at least 0 and at most 1.

    >>> import numtape as nt
    >>> nt.keras.activations.hard_sigmoid(nt.constant([-9.0, 0.0, 9.0])).numpy()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return relu6(x + 3.0) * (1 / 6)


def hard_silu(x: Any) -> Any:
    """Each element times its `hard_sigmoid`.

    >>> import numtape as nt
    >>> nt.keras.activations.hard_silu(nt.constant([-9.0, 0.0, 9.0])).numpy()
    array([-0.,  0.,  9.], dtype=float32)
    """
    return x * hard_sigmoid(x)


def mish(x: Any) -> Any:
    """x * tanh(softplus(x)), after Misra, "Mish: A Self Regularized Non-Monotonic Activation Function" (2019).

    >>> import numtape as nt
    >>> nt.keras.activations.mish(nt.constant([0.0, 1.0])).numpy().round(4)
    array([0.    , 0.8651], dtype=float32)
    """
    return x * tanh(softplus(x))


exponential, swish, hard_swish = exp, silu, hard_silu

__all__ = [
    "elu", "exponential", "gelu", "get", "hard_sigmoid", "hard_silu", "hard_swish", "leaky_relu", "linear",
    "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign",
    "swish", "tanh",
]  # fmt: skip
__getattr__, __dir__ = front(__name__, __all__)

_NAMED: dict[str, Callable[..., Any]] = {name: globals()[name] for name in __all__ if name != "get"}
SYMBOLIC = frozenset(_NAMED.values())
"""What a layer may call on symbolic values, and so record together with its own work."""


def get(identifier: Any) -> Callable[..., Any]:
    """The function that a name or a function stands for; None is `linear`. ValueError if there is none of that name.

    >>> import numtape as nt
    >>> nt.keras.activations.get("relu") is nt.nn.relu
    True
    """
    if identifier is None:
        return linear
    if isinstance(identifier, str) and identifier in _NAMED:
        return _NAMED[identifier]
    if callable(identifier):
        return identifier  # type: ignore[no-any-return]
    raise ValueError(f"{identifier!r} is no activation; give a function, or one of {', '.join(sorted(_NAMED))}")
