"""Numbers with infinitesimals, and random programs computed with them: what gradients of gradients ought to be.

A `Jet` is an array for each set of infinitesimals: the coefficient of their product. Each of them squares to zero, so
the coefficient of one is a derivative, and that of two a derivative of a derivative. Nothing here knows of tapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Tags = frozenset[int]
NONE: Tags = frozenset()


class Jet:
    """The sum of arrays times products of infinitesimals."""

    def __init__(self, parts: Mapping[Tags, Any]) -> None:
        self.parts = {tags: np.asarray(array, np.float64) for tags, array in parts.items()}

    @property
    def value(self) -> Any:
        return self.parts[NONE]

    def part(self, tag: int) -> Jet:
        """The coefficient of one infinitesimal, itself a jet in the others."""
        found = {tags - {tag}: array for tags, array in self.parts.items() if tag in tags}
        return Jet({NONE: np.zeros_like(self.value), **found})

    def without(self, tag: int) -> Jet:
        return Jet({tags: array for tags, array in self.parts.items() if tag not in tags})

    def __add__(self, other: Any) -> Jet:
        other = jet(other)
        parts: dict[Tags, Any] = dict(self.parts)
        for tags, array in other.parts.items():
            parts[tags] = parts[tags] + array if tags in parts else array
        shape = np.broadcast_shapes(self.value.shape, other.value.shape)
        return Jet({tags: np.broadcast_to(array, shape) for tags, array in parts.items()})

    def __mul__(self, other: Any) -> Jet:
        parts: dict[Tags, Any] = {}
        for a, x in self.parts.items():
            for b, y in jet(other).parts.items():
                if not a & b:
                    parts[a | b] = parts.get(a | b, 0.0) + x * y
        return Jet(parts)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Jet:
        return self * -1.0

    def __sub__(self, other: Any) -> Jet:
        return self + -jet(other)

    def __rsub__(self, other: Any) -> Jet:
        return -self + other

    def total(self) -> Jet:
        return Jet({tags: np.sum(array) for tags, array in self.parts.items()})

    def map(self, derivatives: list[Any]) -> Jet:
        """A function of the value, given with its derivatives: Taylor's series, which ends."""
        rest = Jet({NONE: np.zeros_like(self.value), **{t: a for t, a in self.parts.items() if t}})
        found, power, factorial = Jet({NONE: derivatives[0](self.value)}), jet(1.0), 1.0
        for k, derivative in enumerate(derivatives[1:], 1):
            power, factorial = power * rest, factorial * k
            found = found + power * (derivative(self.value) / factorial)
        return found


def jet(x: Any) -> Jet:
    return x if isinstance(x, Jet) else Jet({NONE: x})


SIN = [np.sin, np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin]


def _tanh(order: int) -> Any:
    polynomials = {
        0: lambda t: t,
        1: lambda t: 1 - t**2,
        2: lambda t: -2 * t * (1 - t**2),
        3: lambda t: (6 * t**2 - 2) * (1 - t**2),
        4: lambda t: (16 * t - 24 * t**3) * (1 - t**2),
    }
    return lambda x: polynomials[order](np.tanh(x))


TANH = [_tanh(k) for k in range(5)]
