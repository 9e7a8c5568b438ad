"""The gradient of all weights of a recurrent network: 64 steps of a tanh cell of 32, batch of 16.

The loss is the mean of the squares of the last state. Every step takes its sequences from NumPy arrays, and hands the
loss and three gradients over.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from workloads import Workload

STEPS, BATCH, INPUTS, HIDDEN, SEQUENCES = 64, 16, 16, 32, 16


class Data(NamedTuple):
    weights: tuple[np.ndarray, ...]  # of the input, of the state before, and the bias
    x: np.ndarray


def data():
    rng = np.random.default_rng(0)
    shapes = (INPUTS, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN,)
    weights = tuple(rng.normal(0, HIDDEN**-0.5, shape).astype(np.float32) for shape in shapes)
    return Data(weights, rng.standard_normal((SEQUENCES, STEPS, BATCH, INPUTS), dtype=np.float32))


workload = Workload("gradient through 64 steps of a tanh RNN of 32, batch of 16", data, tolerance=1e-4, check_steps=3)


def repeat(data, value_and_gradients):
    """The `run` of a function of sequences that returns what becomes NumPy arrays."""
    sequences = itertools.cycle(data.x)

    def run(n):
        for x in itertools.islice(sequences, n):
            loss, gradients = value_and_gradients(x)
            found = [np.asarray(a) for a in (loss, *gradients)]
        return [weighted(a) for a in found]

    return run


def weighted(a):
    """A sum that notices order and sign."""
    return float((a.ravel() * np.linspace(1, 2, a.size)).sum())


@workload.way("numpy", "by hand")
def numpy_by_hand(data):
    w, u, b = data.weights

    def value_and_gradients(x):
        states = [np.zeros((BATCH, HIDDEN), np.float32)]
        for x_t in x:
            states.append(np.tanh(x_t @ w + states[-1] @ u + b))
        g = states[-1] * np.float32(2 / states[-1].size)
        g_w, g_u, g_b = map(np.zeros_like, data.weights)
        for x_t, before, after in zip(x[::-1], states[-2::-1], states[:0:-1], strict=True):
            g = g * (1 - after * after)
            g_w += x_t.T @ g
            g_u += before.T @ g
            g_b += g.sum(axis=0)
            g = g @ u.T
        return np.square(states[-1]).mean(), (g_w, g_u, g_b)

    return repeat(data, value_and_gradients)


def numtape_gradient(data):
    import numtape as nt

    w, u, b = variables = [nt.Variable(a) for a in data.weights]

    def value_and_gradients(x):
        with nt.GradientTape() as tape:
            state = nt.zeros((BATCH, HIDDEN))
            for t in range(STEPS):
                state = nt.tanh(x[t] @ w + state @ u + b)
            loss = nt.reduce_mean(nt.square(state))
        return loss, tape.gradient(loss, variables)

    return value_and_gradients


@workload.way("numtape", "nt.function")
def numtape_function(data):
    import numtape as nt

    return repeat(data, nt.function(numtape_gradient(data)))


@workload.way("numtape", "nt.function, bound")
def numtape_bound(data):
    import numtape as nt

    x = data.x[0].copy()
    bound = nt.function(numtape_gradient(data)).bind(x)

    def value_and_gradients(sequences):
        x[:] = sequences
        return bound()

    return repeat(data, value_and_gradients)


def jax_with(states):
    """The way of a function of a cell, the first state and sequences that returns the last state."""

    def way(data):
        import jax

        def loss_of(weights, x):
            w, u, b = weights

            def cell(state, x_t):
                return jax.numpy.tanh(x_t @ w + state @ u + b)

            return jax.numpy.square(states(cell, jax.numpy.zeros((BATCH, HIDDEN)), x)).mean()

        compiled = jax.jit(jax.value_and_grad(loss_of))
        weights = tuple(map(jax.numpy.array, data.weights))
        return repeat(data, lambda x: compiled(weights, x))

    return way


def scanned(cell, state, x):
    import jax

    return jax.lax.scan(lambda state, x_t: (cell(state, x_t), None), state, x)[0]


def unrolled(cell, state, x):
    for t in range(STEPS):
        state = cell(state, x[t])
    return state


workload.way("jax", "jit, lax.scan")(jax_with(scanned))
workload.way("jax", "jit, unrolled loop")(jax_with(unrolled))
