"""One training step of an MLP 64-32-10 on a batch of 32: softmax cross entropy and Adam, as in examples/digits.py.

Every step takes its batch from NumPy arrays, so that what a library needs to take data in counts for all alike. The
loss is read once, after the last step. Adam is Keras's: the bias corrections are in the rate, and epsilon is 1e-7.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from workloads import Workload

BATCH, BATCHES = 32, 64
RATE, BETA1, BETA2, EPSILON = 3e-3, 0.9, 0.999, 1e-7


class Data(NamedTuple):
    parameters: tuple[np.ndarray, ...]  # w1, b1, w2, b2
    x: np.ndarray
    y: np.ndarray

    def batches(self, labels=np.int64):
        """Pairs of pixels and labels, over and over."""
        return itertools.cycle(list(zip(self.x, self.y.astype(labels), strict=True)))


def data():
    rng = np.random.default_rng(0)
    w1 = rng.normal(0, (2 / 64) ** 0.5, (64, 32))
    w2 = rng.normal(0, (2 / 32) ** 0.5, (32, 10))
    parameters = tuple(a.astype(np.float32) for a in (w1, np.zeros(32), w2, np.zeros(10)))
    x = rng.random((BATCHES, BATCH, 64), dtype=np.float32)
    return Data(parameters, x, y=np.argmax(x[..., :10], axis=-1))


# Torch corrects epsilon for the bias as well, and that shows in the fourth digit of the loss.
workload = Workload("Adam step of an MLP 64-32-10, batch of 32", data, tolerance=5e-4, check_steps=50, first_step=True)


def rate_at(t):
    return RATE * (1 - BETA2**t) ** 0.5 / (1 - BETA1**t)


def adam(sqrt, rate, parameters, gradients, m, v):
    """New parameters and moments, as three tuples, by arithmetic that every library has."""
    m = tuple(a + (g - a) * (1 - BETA1) for a, g in zip(m, gradients, strict=True))
    v = tuple(a + (g * g - a) * (1 - BETA2) for a, g in zip(v, gradients, strict=True))
    moments = zip(parameters, m, v, strict=True)
    return tuple(p - rate * a / (sqrt(b) + EPSILON) for p, a, b in moments), m, v


def train(batches, step):
    """The `run` of a step that takes a batch and returns its loss, on the host or not."""

    def run(n):
        for x, y in itertools.islice(batches, n):
            loss = step(x, y)
        return [float(loss)]

    return run


def train_on_host(data, value_and_gradients):
    """The `run` of a library that has gradients of NumPy arrays and no optimizer."""
    parameters, m, v = data.parameters, *[tuple(map(np.zeros_like, data.parameters))] * 2
    count = itertools.count(1)

    def step(x, y):
        nonlocal parameters, m, v
        loss, gradients = value_and_gradients(parameters, x, y)
        parameters, m, v = adam(np.sqrt, rate_at(next(count)), parameters, gradients, m, v)
        return loss

    return train(data.batches(), step)


@workload.way("numpy", "by hand")
def numpy_by_hand(data):
    rows = np.arange(BATCH)

    def value_and_gradients(parameters, x, y):
        w1, b1, w2, b2 = parameters
        hidden = np.maximum(x @ w1 + b1, 0)
        logits = hidden @ w2 + b2
        logits -= logits.max(axis=1, keepdims=True)
        g = np.exp(logits)
        total = g.sum(axis=1, keepdims=True)
        loss = (np.log(total[:, 0]) - logits[rows, y]).mean()
        g /= total
        g[rows, y] -= 1
        g /= np.float32(BATCH)
        g_hidden = g @ w2.T * (hidden > 0)
        return loss, (x.T @ g_hidden, g_hidden.sum(axis=0), hidden.T @ g, g.sum(axis=0))

    return train_on_host(data, value_and_gradients)


def numtape_step(data):
    import numtape as nt

    w1, b1, w2, b2 = variables = [nt.Variable(a) for a in data.parameters]
    optimizer = nt.keras.optimizers.Adam(RATE)

    def step(x, y):
        with nt.GradientTape() as tape:
            logits = nt.nn.relu(x @ w1 + b1) @ w2 + b2
            losses = nt.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
            loss = nt.reduce_mean(losses)
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return step


@workload.way("numtape", "plain tape loop")
def numtape_loop(data):
    return train(data.batches(), numtape_step(data))


@workload.way("numtape", "nt.function")
def numtape_function(data):
    import numtape as nt

    return train(data.batches(), nt.function(numtape_step(data)))


@workload.way("numtape", "nt.function, bound")
def numtape_bound(data):
    import numtape as nt

    x, y = map(np.copy, next(data.batches()))
    bound = nt.function(numtape_step(data)).bind(x, y)

    def step(pixels, labels):
        x[:] = pixels
        y[:] = labels
        return bound()

    return train(data.batches(), step)


def jax_update(state, x, y):
    """New parameters, moments and number of the next step, and the loss."""
    import jax

    def loss_of(parameters):
        w1, b1, w2, b2 = parameters
        logits = jax.nn.relu(x @ w1 + b1) @ w2 + b2
        log_p = jax.nn.log_softmax(logits)
        return -jax.numpy.take_along_axis(log_p, y[:, None], axis=1).mean()

    parameters, m, v, t = state
    loss, gradients = jax.value_and_grad(loss_of)(parameters)
    return (*adam(jax.numpy.sqrt, rate_at(t), parameters, gradients, m, v), t + 1), loss


def jax_state(data):
    """Parameters, moments and number of the first step."""
    import jax.numpy as jnp

    parameters = tuple(map(jnp.array, data.parameters))
    return parameters, *[tuple(map(jnp.zeros_like, parameters)) for _ in range(2)], jnp.float32(1)


def jax_with(**options):
    def way(data):
        import jax

        compiled = jax.jit(jax_update, **options)
        state = jax_state(data)

        def step(x, y):
            nonlocal state
            state, loss = compiled(state, x, y)
            return loss

        return train(data.batches(np.int32), step)

    return way


workload.way("jax", "jit")(jax_with())
workload.way("jax", "jit, donated state")(jax_with(donate_argnums=0))


def torch_with(compiler, **options):
    def way(data):
        import torch

        w1, b1, w2, b2 = parameters = [torch.tensor(a, requires_grad=True) for a in data.parameters]
        optimizer = torch.optim.Adam(parameters, RATE, eps=EPSILON, **options)

        @compiler(torch)
        def loss_of(x, y):
            logits = torch.addmm(b2, torch.relu(torch.addmm(b1, x, w1)), w2)
            return torch.nn.functional.cross_entropy(logits, y)

        def step(x, y):
            loss = loss_of(torch.from_numpy(x), torch.from_numpy(y))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return train(data.batches(), step)

    return way


workload.way("torch", "eager")(torch_with(lambda torch: lambda f: f))
workload.way("torch", "eager, fused Adam")(torch_with(lambda torch: lambda f: f, fused=True))
workload.way("torch", "compile, fused Adam")(torch_with(lambda torch: torch.compile, fused=True))


@workload.way("torch", "compile of the whole step")
def torch_whole(data):
    import torch

    def loss_of(parameters, x, y):
        w1, b1, w2, b2 = parameters
        logits = torch.addmm(b2, torch.relu(torch.addmm(b1, x, w1)), w2)
        return torch.nn.functional.cross_entropy(logits, y)

    @torch.compile
    def update(parameters, m, v, t, x, y):
        gradients, loss = torch.func.grad_and_value(loss_of)(parameters, x, y)
        return adam(torch.sqrt, rate_at(t), parameters, gradients, m, v), t + 1, loss

    parameters = tuple(map(torch.tensor, data.parameters))
    state = parameters, *[tuple(map(torch.zeros_like, parameters))] * 2
    t = torch.tensor(1.0)

    def step(x, y):
        nonlocal state, t
        state, t, loss = update(*state, t, torch.from_numpy(x), torch.from_numpy(y))
        return loss

    return train(data.batches(), step)


def tensorflow_with(compiler, optimizer):
    def way(data):
        import tensorflow as tf

        w1, b1, w2, b2 = variables = [tf.Variable(a) for a in data.parameters]
        apply = optimizer(tf, variables)

        @compiler(tf)
        def update(x, y, t):
            with tf.GradientTape() as tape:
                logits = tf.nn.relu(x @ w1 + b1) @ w2 + b2
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
                loss = tf.reduce_mean(losses)
            apply(tape.gradient(loss, variables), t)
            return loss

        count = itertools.count(1)
        return train(data.batches(), lambda x, y: update(x, y, np.float32(next(count))))

    return way


def keras_adam(tf, variables):
    optimizer = tf.keras.optimizers.Adam(RATE, epsilon=EPSILON)
    optimizer.build(variables)
    return lambda gradients, t: optimizer.apply_gradients(zip(gradients, variables, strict=True))


def raw_adam(tf, variables):
    """TensorFlow's own kernel of the update, one call for each variable, without Keras."""
    moments = [[tf.Variable(tf.zeros_like(a)) for _ in range(2)] for a in variables]

    def apply(gradients, t):
        for variable, (m, v), g in zip(variables, moments, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=m.handle, v=v.handle, grad=g, lr=RATE, epsilon=EPSILON,
                beta1=BETA1, beta2=BETA2, beta1_power=BETA1**t, beta2_power=BETA2**t,
            )  # fmt: skip

    return apply


def eager(library):
    return lambda f: f


workload.way("tensorflow", "eager")(tensorflow_with(eager, keras_adam))
workload.way("tensorflow", "eager, raw_ops Adam")(tensorflow_with(eager, raw_adam))
workload.way("tensorflow", "tf.function")(tensorflow_with(lambda tf: tf.function, keras_adam))
workload.way("tensorflow", "tf.function, raw_ops Adam")(tensorflow_with(lambda tf: tf.function, raw_adam))
workload.way("tensorflow", "tf.function, XLA")(tensorflow_with(lambda tf: tf.function(jit_compile=True), keras_adam))


@workload.way("pytensor", "Numba mode")
def pytensor_numba(data):
    import pytensor
    import pytensor.tensor as pt

    pytensor.config.floatX = "float32"
    parameters = tuple(map(pytensor.shared, data.parameters))
    m, v = (tuple(pytensor.shared(np.zeros_like(a)) for a in data.parameters) for _ in range(2))
    t = pytensor.shared(np.float32(1))
    x, y = pt.fmatrix(), pt.lvector()
    w1, b1, w2, b2 = parameters
    logits = pt.maximum(x @ w1 + b1, 0) @ w2 + b2
    loss = -pt.special.log_softmax(logits, axis=-1)[pt.arange(BATCH), y].mean()
    gradients = pytensor.grad(loss, list(parameters))
    new = adam(pt.sqrt, rate_at(t).astype("float32"), parameters, gradients, m, v)
    pairs = zip((*parameters, *m, *v), itertools.chain(*new), strict=True)
    updates = [(old, value.astype("float32")) for old, value in pairs]
    step = pytensor.function([x, y], loss, updates=[*updates, (t, t + np.float32(1))], mode="NUMBA")
    step.trust_input = True
    return train(data.batches(), step)


@workload.way("autograd", "value_and_grad")
def autograd_gradients(data):
    import autograd
    import autograd.numpy as anp

    rows = np.arange(BATCH)

    def loss_of(parameters, x, y):
        w1, b1, w2, b2 = parameters
        logits = anp.dot(anp.maximum(anp.dot(x, w1) + b1, 0), w2) + b2
        logits = logits - anp.max(logits, axis=1, keepdims=True)
        return anp.mean(anp.log(anp.sum(anp.exp(logits), axis=1)) - logits[rows, y])

    return train_on_host(data, autograd.value_and_grad(loss_of))
