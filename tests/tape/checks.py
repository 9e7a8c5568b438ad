"""What the tests of the tape layer share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import numtape as nt


def same(found: Any, expected: Any, rtol: float = 1e-6, atol: float = 0.0) -> None:
    """A tensor with these elements; None exactly where None is expected; lists and dicts leaf by leaf."""
    if expected is None:
        assert found is None, f"expected None, got {found}"
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        assert len(found) == len(expected), f"{len(found)} results, not {len(expected)}"
        for f, e in zip(found, expected, strict=True):
            same(f, e, rtol, atol)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            same(found[key], expected[key], rtol, atol)
    else:
        assert found is not None, f"expected {expected}, got None"
        array, right = found.numpy(), np.asarray(expected)
        assert array.shape == right.shape, f"shape {array.shape}, not {right.shape}"
        np.testing.assert_allclose(array, right, rtol=rtol, atol=atol)


def difference(f: Callable[..., Any], *arrays: Any, step: float = 1e-5) -> list[Any]:
    """The gradient of a NumPy function with one number for a result, by central differences in float64."""
    found = []
    for k, array in enumerate(arrays):
        gradient = np.zeros(np.shape(array))
        for at in np.ndindex(*np.shape(array)):
            sides = []
            for sign in (1, -1):
                moved = [np.array(a, np.float64) for a in arrays]
                moved[k][at] += sign * step
                sides.append(float(f(*moved)))
            gradient[at] = (sides[0] - sides[1]) / (2 * step)
        found.append(gradient)
    return found


def gradient(f: Callable[..., Any], *arrays: Any, **options: Any) -> Any:
    """The gradient of `f` on watched constants of float64, one after another."""
    xs = [nt.constant(np.asarray(a, np.float64)) for a in arrays]
    with nt.GradientTape() as tape:
        tape.watch(xs)
        y = f(*xs)
    found = tape.gradient(y, xs, **options)
    return found if len(found) > 1 else found[0]
