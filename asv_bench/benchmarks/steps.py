"""The steps that are measured, written as a user writes them.

A step is called without arguments, goes on where its last call stopped, and returns what can be read as a float.
`STEPS` makes new ones by their name. `step_of` makes one of each, once in a process: asv would repeat a `setup` before
every call that it times.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

import numtape as nt

Step = Callable[[], Any]


def square() -> Step:
    """The gradient of x**2, read back: there is nothing to do but to call."""
    x = nt.Variable(3.0)

    def step() -> float:
        with nt.GradientTape() as tape:
            y = x**2
        return float(tape.gradient(y, x))

    return step


class Classifier:
    """Adam on a relu network with softmax cross entropy, as in examples/digits.py.

    Nobody looks at the loss. It lives until the next step, and so do the gradients, like the names of a plain loop.
    """

    def __init__(self, *sizes: int, batch: int) -> None:
        rng = np.random.default_rng(0)
        self.layers = [
            (nt.Variable(rng.normal(0, (2 / m) ** 0.5, (m, n)).astype(np.float32)), nt.Variable(nt.zeros(n)))
            for m, n in itertools.pairwise(sizes)
        ]
        self.variables = [v for layer in self.layers for v in layer]
        self.optimizer = nt.keras.optimizers.Adam(1e-3)
        x = rng.random((8, batch, sizes[0]), dtype=np.float32)
        self.batches = itertools.cycle(list(zip(x, x[:, :, : sizes[-1]].argmax(axis=-1), strict=True)))

    def record(self) -> tuple[nt.Tensor, list[nt.Tensor]]:
        """Loss and gradients for the next batch; nothing has run when this returns."""
        x, labels = next(self.batches)
        with nt.GradientTape() as tape:
            *hidden, (w, b) = self.layers
            for v, c in hidden:
                x = nt.nn.relu(x @ v + c)
            losses = nt.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x @ w + b)
            loss = nt.reduce_mean(losses)
        return loss, tape.gradient(loss, self.variables)

    def __call__(self) -> nt.Tensor:
        loss, self.gradients = self.record()
        self.optimizer.apply_gradients(zip(self.gradients, self.variables, strict=True))
        return loss


def black_scholes(rows: int) -> Step:
    """Prices of call options (Black and Scholes, 1973) and their derivatives in all five parameters."""
    rng = np.random.default_rng(0)
    ranges = {"spot": (80, 120), "strike": (80, 120), "years": (0.2, 2), "rate": (0, 0.1), "volatility": (0.1, 0.5)}
    inputs = [nt.constant(rng.uniform(low, high, rows).astype(np.float32)) for low, high in ranges.values()]

    def normal(x: nt.Tensor) -> nt.Tensor:
        """The distribution function of the standard normal distribution."""
        return 0.5 * (1.0 + nt.math.erf(x * 0.5**0.5))

    def price(spot, strike, years, rate, volatility) -> nt.Tensor:
        deviation = volatility * nt.sqrt(years)
        d = (nt.math.log(spot / strike) + rate * years) / deviation + 0.5 * deviation
        return spot * normal(d) - strike * nt.exp(-rate * years) * normal(d - deviation)

    def step() -> float:
        with nt.GradientTape() as tape:
            tape.watch(inputs)
            total = nt.reduce_sum(price(*inputs))
        gradients = tape.gradient(total, inputs)
        result = float(total)  # computes all that is alive, the gradients as well
        del gradients
        return result

    return step


STEPS: dict[str, Callable[[], Step]] = {
    "square": square,
    "digits": partial(Classifier, 64, 32, 10, batch=32),
    "mlp": partial(Classifier, 784, 256, 128, 10, batch=128),
    "black_scholes": partial(black_scholes, 100_000),
}


@cache
def step_of(name: str) -> Step:
    return STEPS[name]()
