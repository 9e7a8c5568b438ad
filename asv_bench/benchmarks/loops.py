"""Loops and branches in Python that an `nt.function` records: what numtape makes of them is what is measured."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import numtape as nt

from .classifier import Network


def pendulum(steps: int) -> Callable[[], Any]:
    """The gradient through so many semi-implicit Euler steps of a pendulum, bound at the first call."""
    start = [np.array(a, np.float32) for a in (1.0, 0.5, 1.25)]

    @nt.function
    def value_and_gradient(angle, velocity, length):
        with nt.GradientTape() as tape:
            tape.watch((angle, velocity, length))
            a, v = angle, velocity
            for _ in range(steps):
                v = v - 0.01 * 9.81 / length * nt.sin(a)
                a = a + 0.01 * v
            value = nt.square(a)
        return value, tape.gradient(value, (angle, velocity, length))

    @cache
    def bound():
        return value_and_gradient.bind(*start)

    return lambda: bound()()[0]


def branch() -> Callable[[], Any]:
    """A gradient that Python leads this way or that at random, in one function."""
    rng = np.random.default_rng(0)
    w = nt.Variable(rng.standard_normal(32, dtype=np.float32))
    inputs = itertools.cycle(rng.standard_normal((64, 32), dtype=np.float32))

    @nt.function
    def gradient(x):
        with nt.GradientTape() as tape:
            y = nt.tanh(w * x) if nt.reduce_sum(x) > 0 else nt.square(w * x)
            total = nt.reduce_sum(y)
        return tape.gradient(total, w)

    return lambda: gradient(next(inputs))[0]


def epoch() -> Callable[[], Any]:
    """64 steps of Adam for the network of `digits`, in a function that goes over a Dataset."""
    network, optimizer = Network(64, 32, 10), nt.keras.optimizers.Adam(1e-3)
    x = np.random.default_rng(0).random((2048, 64), dtype=np.float32)
    y = x[:, :10].argmax(axis=-1)

    @nt.function
    def whole():
        for pixels, labels in nt.data.Dataset.from_tensor_slices((x, y)).shuffle(2048, seed=0).batch(32):
            with nt.GradientTape() as tape:
                logits = network(pixels)
                losses = nt.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
                loss = nt.reduce_mean(losses)
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return loss

    return whole
