"""The gradient of x**2 for one float32, read back in every step: what a call costs when there is nothing to do."""

from __future__ import annotations

import numpy as np

from workloads import Workload

X = np.float32(3)

workload = Workload("gradient of `x**2`, one float32", data=lambda: X, tolerance=1e-6)


def square(x):
    return x**2


def repeat(gradient):
    """The `run` of a gradient that takes no argument and returns a float."""

    def run(n):
        for _ in range(n):
            g = gradient()
        return [g]

    return run


@workload.way("numpy", "by hand")
def numpy_by_hand(x):
    return repeat(lambda: float(2 * x))


def gradient_on_tape(x):
    import numtape as nt

    with nt.GradientTape() as tape:
        tape.watch(x)
        y = x**2
    return tape.gradient(y, x)


@workload.way("numtape", "plain tape")
def numtape_tape(x):
    import numtape as nt

    x = nt.Variable(x)

    def gradient():
        with nt.GradientTape() as tape:
            y = x**2
        return float(tape.gradient(y, x))

    return repeat(gradient)


@workload.way("numtape", "nt.function")
def numtape_function(x):
    import numtape as nt

    compiled, x = nt.function(gradient_on_tape), nt.constant(x)
    return repeat(lambda: float(compiled(x)))


@workload.way("numtape", "nt.function, bound")
def numtape_bound(x):
    import numtape as nt

    bound = nt.function(gradient_on_tape).bind(np.array(x))
    return repeat(lambda: bound().item())


@workload.way("jax", "jit(grad)")
def jax_jit(x):
    import jax

    x = jax.numpy.asarray(x)
    compiled = jax.jit(jax.grad(square))
    return repeat(lambda: compiled(x).item())


@workload.way("jax", "jit(grad) of a NumPy scalar")
def jax_host(x):
    import jax

    compiled = jax.jit(jax.grad(square))
    return repeat(lambda: compiled(x).item())


@workload.way("torch", "autograd.grad")
def torch_grad(x):
    import torch

    x = torch.tensor(x, requires_grad=True)

    def gradient():
        (g,) = torch.autograd.grad(x**2, x)
        return g.item()

    return repeat(gradient)


@workload.way("torch", "backward")
def torch_backward(x):
    import torch

    x = torch.tensor(x, requires_grad=True)

    def gradient():
        x.grad = None
        (x**2).backward()
        return x.grad.item()

    return repeat(gradient)


@workload.way("torch", "compile(func.grad)")
def torch_compile(x):
    import torch

    x = torch.tensor(x)
    compiled = torch.compile(torch.func.grad(square))
    return repeat(lambda: compiled(x).item())


def tensorflow_with(compiler):
    def way(x):
        import tensorflow as tf

        x = tf.Variable(x)

        def gradient():
            with tf.GradientTape() as tape:
                y = x**2
            return tape.gradient(y, x)

        compiled = compiler(tf, gradient)
        return repeat(lambda: float(compiled()))

    return way


workload.way("tensorflow", "eager")(tensorflow_with(lambda tf, f: f))
workload.way("tensorflow", "tf.function")(tensorflow_with(lambda tf, f: tf.function(f)))
workload.way("tensorflow", "tf.function, XLA")(tensorflow_with(lambda tf, f: tf.function(f, jit_compile=True)))


@workload.way("pytensor", "Numba mode")
def pytensor_numba(x):
    import pytensor

    symbol = pytensor.tensor.fscalar()
    compiled = pytensor.function([symbol], pytensor.grad(symbol**2, symbol), mode="NUMBA")
    compiled.trust_input = True
    x = np.asarray(x)
    return repeat(lambda: float(compiled(x)))


@workload.way("autograd", "grad")
def autograd_grad(x):
    import autograd

    gradient = autograd.grad(square)
    return repeat(lambda: float(gradient(x)))
