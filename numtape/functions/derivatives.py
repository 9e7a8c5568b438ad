"""What is derived of a function of tensors: functions again, to be recorded like the one they come from.

Each takes the arguments of the function that it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numtape import nest
from numtape.ops.core import PUBLIC
from numtape.tape.gradient_tape import GradientTape
from numtape.tape.tensor import Tensor

Derived = Callable[..., Any]


def named(derived: Derived, name: str) -> Derived:
    """What errors call a derived function, too."""
    derived.__name__ = name
    return derived


def values(function: Callable[..., Any]) -> Derived:
    """Gives what the function does, each result a tensor of its own, or None."""

    def own(x: Any) -> Any:
        return None if x is None else PUBLIC["identity"](x)

    return lambda *arguments: nest.map_structure(own, function(*arguments))


def value_and_gradients(function: Callable[..., Any], name: str, places: Sequence[int]) -> Derived:
    """Gives the value, a single float, and a list of its gradients with respect to the arguments at these places; zeros
    where no path leads to one."""

    def derived(*arguments: Any) -> tuple[Tensor, list[Tensor]]:
        sources = [arguments[k] for k in places]
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            value = PUBLIC["identity"](function(*arguments))
        if value.shape or not value.dtype.is_floating:
            raise ValueError(
                f"{name}: only a single float has a gradient, and the function returned {value._type.text}; reduce it, "
                "with nt.reduce_sum or the like"
            )
        gradients = tape.gradient(value, sources)
        if not any(g is not None for g in gradients):
            raise ValueError(
                f"{name}: no path leads from the value to a float argument, so there is no gradient; write the "
                "function with numtape's ops"
            )
        return value, [_dense(g, x) for g, x in zip(gradients, sources, strict=True)]

    return derived


def hessian(function: Callable[..., Any], name: str) -> Derived:
    """Gives the matrix of second derivatives with respect to the first argument, of shape `x.shape + x.shape`."""
    gradient = value_and_gradients(function, name, [0])

    def derived(x: Tensor, *others: Any) -> Tensor:
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            (slope,) = gradient(x, *others)[1]
        found = tape.jacobian(slope, x)
        return PUBLIC["zeros"](x.shape + x.shape, x.dtype) if found is None else found  # type: ignore[no-any-return]

    return derived


def hessian_product(function: Callable[..., Any], name: str) -> Derived:
    """Gives the product of that matrix and a vector, which is the second argument: the gradient of the gradient's part
    along it."""
    gradient = value_and_gradients(function, name, [0])

    def derived(x: Tensor, direction: Tensor, *others: Any) -> Tensor:
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            (slope,) = gradient(x, *others)[1]
        return _dense(tape.gradient(slope, x, output_gradients=direction), x)

    return derived


def _dense(gradient: Any, source: Tensor) -> Tensor:
    """A gradient as a tensor: zeros for None, rows in their places."""
    if gradient is None:
        return PUBLIC["zeros_like"](source)  # type: ignore[no-any-return]
    return PUBLIC["identity"](gradient)  # type: ignore[no-any-return]
