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

from .classifier import Classifier, Network, layers, sign
from .derivatives import derivative
from .loops import branch, epoch, pendulum

TABLES = (10_000, 100_000, 1_000_000)

Step = Callable[[], Any]


def square() -> Step:
    """The gradient of x**2, read back: there is nothing to do but to call."""
    x = nt.Variable(3.0)

    def step() -> float:
        with nt.GradientTape() as tape:
            y = x**2
        return float(tape.gradient(y, x))

    return step


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


def gather(kind: str, rows: int) -> Step:
    """An optimizer's step of a table of so many rows, 100 of which are gathered, ten of them twice."""
    rng = np.random.default_rng(0)
    table = nt.Variable(rng.random((rows, 16), dtype=np.float32))
    optimizer = getattr(nt.keras.optimizers, kind)(0.01)
    places = rng.integers(0, rows, (64, 100))
    places[:, 90:] = places[:, :10]
    batches = itertools.cycle(list(zip(places, rng.random((64, 100, 16), dtype=np.float32), strict=True)))

    def step() -> nt.Tensor:
        at, targets = next(batches)
        with nt.GradientTape() as tape:
            loss = nt.reduce_mean(nt.square(nt.gather(table, at) - targets))
        optimizer.apply_gradients([(tape.gradient(loss, table), table)])
        return loss

    return step


digits = partial(Classifier, 64, 32, 10, batch=32)

LIGHT: dict[str, Callable[[], Step]] = {
    "square": square,
    "digits": digits,
    "layers": partial(digits, network=layers),
    "custom_gradient": partial(digits, network=partial(Network, activation=sign)),
    **{f"gather_{kind.lower()}_{rows}": partial(gather, kind, rows) for kind in ("SGD", "Adam") for rows in TABLES},
}
"""Steps of which a loop does thousands in a second."""

HEAVY: dict[str, Callable[[], Step]] = {
    "mlp": partial(Classifier, 784, 256, 128, 10, batch=128),
    **{
        name: partial(derivative, name, 784, 256, 128, 10, batch=128)
        for name in ("gradient", "hessian_forward", "hessian_reverse", "jvp")
    },
    "jacobian": partial(derivative, "jacobian", 64, 32, 10, batch=32),
    "black_scholes": partial(black_scholes, 100_000),
}

LOOPS: dict[str, Callable[[], Step]] = {
    "pendulum_100": partial(pendulum, 100),
    "pendulum_1000": partial(pendulum, 1000),
    "branch": branch,
    "epoch": epoch,
}

STEPS = LIGHT | HEAVY | LOOPS


@cache
def step_of(name: str) -> Step:
    return STEPS[name]()
