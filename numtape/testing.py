"""Checks for users' own tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numtape import nest
from numtape._front import front
from numtape.ops.reduction import reduce_sum
from numtape.tape import GradientTape, Primitive, Tensor, Variable, constant, convert_to_tensor

__all__ = ["check_gradient"]
__getattr__, __dir__ = front(__name__, __all__)


def check_gradient(
    f: Callable[..., Any], *inputs: Any, order: int = 1, rtol: float = 1e-5, atol: float = 1e-7, seed: int = 0
) -> None:
    """Compare gradients with central differences, and raise AssertionError where they differ.

    `f` is a function of tensors and `inputs` its arguments: arrays, tensors or numbers. Floats are taken as float64,
    and all of them moved together in a random direction; the derivative of the result's elements, weighed at random, is
    compared with what a tape says. With `order` 2 the gradient's own gradient is checked in the same way, and so on.
    The points should not lie where `f` has a kink. A `nt.primitive` with a kernel is also compared with its function.

    >>> import numtape as nt
    >>> nt.testing.check_gradient(nt.tanh, [0.1, -0.5], order=3)
    >>> @nt.primitive(gradient=lambda g, x: g * x)
    ... def square(x):
    ...     return x * x
    >>> nt.testing.check_gradient(square, 3.0)
    Traceback (most recent call last):
    ...
    AssertionError: the gradient of order 1 in a random direction is 1.845..., but central differences give 3.690...
    """
    if order < 1:
        raise ValueError(f"check_gradient: order is 1 or more, got {order}")
    arrays = [np.asarray(x.numpy() if isinstance(x, Tensor | Variable) else x) for x in inputs]
    arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    if isinstance(f, Primitive) and f.is_fused:
        found, meant = f(*map(constant, arrays)), f.function(*arrays)
        np.testing.assert_allclose(found.numpy(), meant, rtol, atol, err_msg=f"the kernel of {f.name} differs from it")
    _check(f, arrays, order, 1, rtol, atol, np.random.default_rng(seed))


def _check(
    f: Callable[..., Any],
    arrays: Sequence[Any],
    order: int,
    at: int,
    rtol: float,
    atol: float,
    rng: np.random.Generator,
) -> None:
    moving = [k for k, a in enumerate(arrays) if a.dtype.kind == "f"]
    if not moving:
        raise ValueError("check_gradient: none of the inputs holds floats, so there is nothing to differentiate")
    directions = {k: rng.uniform(0.5, 1.5, arrays[k].shape) * rng.choice([-1, 1], arrays[k].shape) for k in moving}
    weights = [rng.uniform(0.5, 1.5, y.shape) for y in _floats(f(*map(constant, arrays)))]

    def weighed(*xs: Any) -> Any:
        terms = [reduce_sum(y * w) for y, w in zip(_floats(f(*xs)), weights, strict=True)]
        return sum(terms[1:], terms[0])

    def moved(step: float) -> float:
        return float(weighed(*[constant(a + step * directions[k]) if k in directions else constant(a)
                               for k, a in enumerate(arrays)]))  # fmt: skip

    def gradient(*xs: Any) -> Any:
        with GradientTape() as tape:
            tape.watch([xs[k] for k in moving])
            y = weighed(*xs)
        found = tape.gradient(y, [xs[k] for k in moving], unconnected_gradients="zero")
        return [*map(convert_to_tensor, found)]  # indexed slices become dense

    step = 1e-4
    difference = (8 * (moved(step) - moved(-step)) - (moved(2 * step) - moved(-2 * step))) / (12 * step)
    found = gradient(*map(constant, arrays))
    exact = float(sum(np.sum(g.numpy() * directions[k]) for g, k in zip(found, moving, strict=True)))
    if not np.isclose(exact, difference, rtol, atol):
        raise AssertionError(
            f"the gradient of order {at} in a random direction is {exact}, but central differences give {difference}"
        )
    if at < order:
        _check(gradient, arrays, order, at + 1, rtol, atol, rng)


def _floats(results: Any) -> list[Any]:
    found = [y for y in nest.flatten(results) if y.dtype.is_floating]
    if not found:
        raise ValueError("check_gradient: the function gives no floats, so there is nothing to differentiate")
    return found
