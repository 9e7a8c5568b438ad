"""Random programs with branches, loops, Variables and gradients within: a function does what its Python does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numtape as nt
from tests.tape.test_random_programs_with_state import OnTape, made

CALLS = 7


class Quiet(OnTape):
    """A program as a user writes it, who looks at nothing but conditions."""

    def read(self, k: int) -> Any:
        return self.variables[k] * 1.0

    def truth(self, value: Any, bound: float) -> bool:
        return bool(nt.reduce_sum(value) > bound)


class Side:
    """A program with Variables of its own, as plain Python or as a function."""

    def __init__(self, seed: int, recorded: bool) -> None:
        self.program, self.names, arrays = made(seed)
        self.variables = [nt.Variable(x) for x in arrays[2:]]
        self.call = nt.function(self.run) if recorded else self.run

    def run(self, a: Any, b: Any) -> dict[str, Any]:
        scope = Quiet(self.variables).run(self.program, {"a": a, "b": b})
        return {name: scope[name] for name in self.names[2:]}

    def total(self, found: dict[str, Any]) -> Any:
        return nt.add_n([nt.reduce_sum(nt.tanh(x)) for x in found.values()])

    def values(self, *arrays: Any) -> list[Any]:
        found = self.call(*map(nt.constant, arrays))
        return [*found.values()]

    def gradients(self, *arrays: Any) -> list[Any]:
        xs = [*map(nt.constant, arrays)]
        with nt.GradientTape() as tape:
            tape.watch(xs)
            y = self.total(self.call(*xs))
        return [y, *tape.gradient(y, [*xs, *self.variables])]

    def second(self, *arrays: Any) -> list[Any]:
        xs = [*map(nt.constant, arrays)]
        with nt.GradientTape() as outer:
            outer.watch(xs)
            with nt.GradientTape() as inner:
                inner.watch(xs)
                y = self.total(self.call(*xs))
            found = inner.gradient(y, [*xs, *self.variables])
            z = nt.add_n([y, *[nt.reduce_sum(g * g) for g in found if g is not None]])
        return [y, *found, *outer.gradient(z, [*xs, *self.variables])]

    def forward(self, *arrays: Any) -> list[Any]:
        xs = [*map(nt.constant, arrays)]
        with nt.autodiff.ForwardAccumulator([*xs, self.variables[0]], [nt.ones_like(x) for x in [*xs, xs[0]]]) as acc:
            y = self.total(self.call(*xs))
        return [y, acc.jvp(y)]


def same(found: Any, right: Any) -> None:
    assert (found is None) == (right is None)
    if right is not None:
        np.testing.assert_allclose(found.numpy(), right.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", ["values", "gradients", "second", "forward", "all"])
@pytest.mark.parametrize("seed", range(8))
def test_functions_do_what_their_python_does(seed: int, mode: str) -> None:
    plain, recorded = Side(seed, False), Side(seed, True)
    rng = np.random.default_rng(seed)
    for k in range(CALLS):
        arrays = rng.uniform(-1, 1, (2, 3)) * (1 + k % 3)
        kind = ["values", "gradients", "values", "second", "forward"][k % 5] if mode == "all" else mode
        for found, right in zip(getattr(recorded, kind)(*arrays), getattr(plain, kind)(*arrays), strict=True):
            same(found, right)
        for v, w in zip(recorded.variables, plain.variables, strict=True):
            same(v, w)
