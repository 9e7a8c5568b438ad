"""The jacobian of the logits, (32, 10), of an MLP 64-32-10 with respect to its four weights, as NumPy arrays.

That of the first weights has 655,360 elements. Every step takes its batch from NumPy arrays and hands all four
jacobians over, so that none is left out by a library that computes what somebody looks at.
"""

from __future__ import annotations

import itertools

import numpy as np

from workloads import Workload
from workloads.mlp import data, eager

workload = Workload("jacobian of the logits of an MLP 64-32-10, batch of 32", data, tolerance=1e-5, check_steps=3)


def repeat(data, jacobians):
    """The `run` of a function that takes a batch and returns the jacobians as what becomes a NumPy array."""
    batches = itertools.cycle(data.x)

    def run(n):
        for x in itertools.islice(batches, n):
            found = [np.asarray(j) for j in jacobians(x)]
        return [distance(j) for j in found]

    return run


def distance(j):
    """From a ramp, of every 31st element: notices order and sign, and takes next to no time.

    There is no BLAS in it, whose threads would still wait for each other when the next step begins.
    """
    some = j.ravel()[::31]
    return float(np.square(some - np.linspace(-1, 1, some.size)).sum())


def logits_by(matmul, relu):
    """The network, as a function of its weights and a batch."""

    def logits(parameters, x):
        w1, b1, w2, b2 = parameters
        return matmul(relu(matmul(x, w1) + b1), w2) + b2

    return logits


@workload.way("numpy", "by hand")
def numpy_by_hand(data):
    w1, b1, w2, _ = data.parameters
    same = np.eye(10, dtype=np.float32)
    of_b2 = np.repeat(same[None], 32, axis=0)

    def jacobians(x):
        hidden = np.maximum(x @ w1 + b1, 0)
        of_b1 = np.einsum("bh,ho->boh", hidden > 0, w2)
        of_w1 = np.einsum("bi,boh->boih", x, of_b1)
        of_w2 = np.einsum("bh,ok->bohk", hidden, same)
        return of_w1, of_b1, of_w2, of_b2

    return repeat(data, jacobians)


@workload.way("numtape", "tape.jacobian")
def numtape_tape(data):
    import numtape as nt

    variables = [nt.Variable(a) for a in data.parameters]
    logits_of = logits_by(nt.matmul, nt.nn.relu)

    def jacobians(x):
        with nt.GradientTape() as tape:
            logits = logits_of(variables, x)
        return [j.numpy() for j in tape.jacobian(logits, variables)]

    return repeat(data, jacobians)


def jax_with(mode):
    def way(data):
        import jax

        logits_of = logits_by(jax.numpy.matmul, jax.nn.relu)
        parameters = tuple(map(jax.numpy.array, data.parameters))
        compiled = jax.jit(getattr(jax, mode)(logits_of))
        return repeat(data, lambda x: compiled(parameters, x))

    return way


workload.way("jax", "jit(jacrev)")(jax_with("jacrev"))
workload.way("jax", "jit(jacfwd)")(jax_with("jacfwd"))


def torch_with(compiler, jacobian_of):
    def way(data):
        import torch

        logits_of = logits_by(torch.matmul, torch.relu)
        parameters = tuple(map(torch.tensor, data.parameters))
        function = compiler(torch)(jacobian_of(torch, logits_of))
        return repeat(data, lambda x: function(parameters, torch.from_numpy(x)))

    return way


def by_functional(torch, logits_of):
    def jacobian(parameters, x):
        return torch.autograd.functional.jacobian(lambda *p: logits_of(p, x), parameters, vectorize=True)

    return jacobian


def by_jacrev(torch, logits_of):
    return torch.func.jacrev(logits_of)


workload.way("torch", "func.jacrev")(torch_with(eager, by_jacrev))
workload.way("torch", "compile(func.jacrev)")(torch_with(lambda torch: torch.compile, by_jacrev))
workload.way("torch", "autograd.functional, vectorized")(torch_with(eager, by_functional))


def tensorflow_with(compiler):
    def way(data):
        import tensorflow as tf

        variables = [tf.Variable(a) for a in data.parameters]
        logits_of = logits_by(tf.matmul, tf.nn.relu)

        @compiler(tf)
        def jacobians(x):
            with tf.GradientTape() as tape:
                logits = logits_of(variables, x)
            return tape.jacobian(logits, variables)

        return repeat(data, jacobians)

    return way


workload.way("tensorflow", "eager")(tensorflow_with(eager))
workload.way("tensorflow", "tf.function")(tensorflow_with(lambda tf: tf.function))
workload.way("tensorflow", "tf.function, XLA")(tensorflow_with(lambda tf: tf.function(jit_compile=True)))
