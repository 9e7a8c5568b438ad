"""The gradient of a function with a branch on its argument, 32 numbers, taken this way or that at random.

Every step takes other numbers from a NumPy array and hands the gradient over. What chooses by hand sums in NumPy.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from workloads import Workload

SIZE, INPUTS = 32, 1024


class Data(NamedTuple):
    w: np.ndarray
    x: np.ndarray


def data():
    rng = np.random.default_rng(0)
    side = rng.choice([-0.5, 0.5], (INPUTS, 1))  # no sum so small that rounding chooses
    return Data(rng.standard_normal(SIZE, dtype=np.float32), (rng.normal(0, 0.2, (INPUTS, SIZE)) + side).astype("f4"))


workload = Workload("gradient of a branch at random, 32 numbers", data, tolerance=1e-4, check_steps=INPUTS)


def repeat(data, gradient):
    """The `run` of a function of a row that returns what becomes a NumPy array; its result has part of all steps."""
    rows = itertools.cycle(data.x)

    def run(n):
        total = np.zeros(SIZE, np.float32)
        for x in itertools.islice(rows, n):
            total += np.asarray(gradient(x))
        return [float(g) for g in total[:4]]

    return run


@workload.way("numpy", "by hand")
def numpy_by_hand(data):
    w = data.w

    def gradient(x):
        return x * (1 - np.tanh(w * x) ** 2) if x.sum() > 0 else 2 * w * x * x

    return repeat(data, gradient)


def bent(tf, w, x):
    return tf.reduce_sum(tf.tanh(w * x))


def squared(tf, w, x):
    return tf.reduce_sum(tf.square(w * x))


def branching(tf, w, x):
    if tf.reduce_sum(x) > 0:
        return bent(tf, w, x)
    return squared(tf, w, x)


def gradient_of(value, tf, w):
    """The gradient of one of these, on a tape of numtape or TensorFlow."""

    def gradient(x):
        with tf.GradientTape() as tape:
            y = value(tf, w, x)
        return tape.gradient(y, w)

    return gradient


def by_hand(of_bent, of_squared):
    return lambda x: (of_bent if x.sum() > 0 else of_squared)(x)


@workload.way("numtape", "plain tape")
def numtape_tape(data):
    import numtape as nt

    return repeat(data, gradient_of(branching, nt, nt.Variable(data.w)))


@workload.way("numtape", "nt.function")
def numtape_function(data):
    import numtape as nt

    return repeat(data, nt.function(gradient_of(branching, nt, nt.Variable(data.w))))


@workload.way("numtape", "two nt.functions, chosen by hand")
def numtape_two(data):
    import numtape as nt

    w = nt.Variable(data.w)
    return repeat(data, by_hand(*(nt.function(gradient_of(value, nt, w)) for value in (bent, squared))))


@workload.way("tensorflow", "tf.function")
def tensorflow_function(data):
    import tensorflow as tf

    return repeat(data, tf.function(gradient_of(branching, tf, tf.Variable(data.w))))


@workload.way("jax", "jit, lax.cond")
def jax_cond(data):
    import jax

    def value(w, x):
        return jax.lax.cond(x.sum() > 0, lambda: jax.numpy.tanh(w * x).sum(), lambda: jax.numpy.square(w * x).sum())

    compiled, w = jax.jit(jax.grad(value)), jax.numpy.array(data.w)
    return repeat(data, lambda x: compiled(w, x))


@workload.way("jax", "two jits, chosen by hand")
def jax_two(data):
    import jax

    w = jax.numpy.array(data.w)
    values = lambda w, x: jax.numpy.tanh(w * x).sum(), lambda w, x: jax.numpy.square(w * x).sum()
    of_bent, of_squared = (jax.jit(jax.grad(value)) for value in values)
    return repeat(data, by_hand(lambda x: of_bent(w, x), lambda x: of_squared(w, x)))
