"""One SGD step of a table of 1,000,000 x 16 that gathers 100 of its rows, ten of them twice.

The loss is the mean of squares of rows minus targets, and is read once, after the last step. Every step takes other
rows and targets, from NumPy arrays. A step that costs what the table costs shows: that is 64 MB.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from workloads import Workload
from workloads.mlp import eager, train

ROWS, WIDTH, BATCH, TWICE, BATCHES = 1_000_000, 16, 100, 10, 256
RATE = 100.0  # moves a row by an eighth of its way: a gradient is two differences over 1600


class Data(NamedTuple):
    table: np.ndarray
    places: np.ndarray
    targets: np.ndarray

    def batches(self, integers=np.int64):
        """Pairs of places in the table and targets, over and over."""
        return itertools.cycle(list(zip(self.places.astype(integers), self.targets, strict=True)))


def data():
    rng = np.random.default_rng(0)
    places = rng.integers(0, ROWS, (BATCHES, BATCH))
    places[:, -TWICE:] = places[:, :TWICE]
    targets = rng.random((BATCHES, BATCH, WIDTH), dtype=np.float32)
    return Data(rng.random((ROWS, WIDTH), dtype=np.float32), places, targets)


# The second time around, the loss tells how the rows were moved the first time.
workload = Workload("SGD step of 100 rows gathered from 1,000,000 x 16", data, tolerance=1e-5, check_steps=BATCHES + 1)


@workload.way("numpy", "by hand")
def numpy_by_hand(data):
    table = data.table

    def step(places, targets):
        difference = table[places] - targets
        np.add.at(table, places, difference * np.float32(-RATE * 2 / targets.size))
        return np.square(difference).mean()

    return train(data.batches(), step)


@workload.way("numtape", "plain tape loop")
def numtape_loop(data):
    import numtape as nt

    table = nt.Variable(data.table)
    optimizer = nt.keras.optimizers.SGD(RATE)

    def step(places, targets):
        with nt.GradientTape() as tape:
            loss = nt.reduce_mean(nt.square(nt.gather(table, places) - targets))
        optimizer.apply_gradients([(tape.gradient(loss, table), table)])
        return loss

    return train(data.batches(), step)


def jax_with(update):
    def way(data):
        import jax

        def loss_of(rows, targets):
            return ((rows - targets) ** 2).mean()

        compiled = jax.jit(update(jax.value_and_grad, loss_of), donate_argnums=0)
        table = jax.numpy.array(data.table)

        def step(places, targets):
            nonlocal table
            table, loss = compiled(table, places, targets)
            return loss

        return train(data.batches(np.int32), step)

    return way


def of_rows(value_and_grad, loss_of):
    """The gradient is that of the rows, and added where they stand."""

    def update(table, places, targets):
        loss, gradient = value_and_grad(loss_of)(table[places], targets)
        return table.at[places].add(-RATE * gradient), loss

    return update


def of_table(value_and_grad, loss_of):
    def update(table, places, targets):
        loss, gradient = value_and_grad(lambda table: loss_of(table[places], targets))(table)
        return table - RATE * gradient, loss

    return update


workload.way("jax", "jit, donated table, rows added")(jax_with(of_rows))
workload.way("jax", "jit, donated table, gradient of the table")(jax_with(of_table))


@workload.way("torch", "sparse embedding, SGD")
def torch_sparse(data):
    import torch

    table = torch.tensor(data.table, requires_grad=True)
    optimizer = torch.optim.SGD([table], RATE)

    def step(places, targets):
        rows = torch.nn.functional.embedding(torch.from_numpy(places), table, sparse=True)
        loss = torch.nn.functional.mse_loss(rows, torch.from_numpy(targets))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return train(data.batches(), step)


@workload.way("torch", "index_add_ of the rows' gradient")
def torch_rows(data):
    import torch

    table = torch.tensor(data.table)

    def step(places, targets):
        places = torch.from_numpy(places)
        rows = table[places].requires_grad_()
        loss = torch.nn.functional.mse_loss(rows, torch.from_numpy(targets))
        loss.backward()
        table.index_add_(0, places, rows.grad, alpha=-RATE)
        return loss

    return train(data.batches(), step)


def tensorflow_with(compiler, optimizer):
    def way(data):
        import tensorflow as tf

        table = tf.Variable(data.table)
        apply = optimizer(tf, table)

        @compiler(tf)
        def update(places, targets):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(tf.gather(table, places) - targets))
            apply(tape.gradient(loss, table))
            return loss

        return train(data.batches(), update)

    return way


def keras_sgd(tf, table):
    optimizer = tf.keras.optimizers.SGD(RATE)
    optimizer.build([table])
    return lambda gradient: optimizer.apply_gradients([(gradient, table)])


def scatter(tf, table):
    """The update of a plain Variable, without Keras."""
    return lambda g: table.scatter_sub(tf.IndexedSlices(RATE * g.values, g.indices))


workload.way("tensorflow", "eager")(tensorflow_with(eager, keras_sgd))
workload.way("tensorflow", "eager, scatter_sub")(tensorflow_with(eager, scatter))
workload.way("tensorflow", "tf.function")(tensorflow_with(lambda tf: tf.function, keras_sgd))
workload.way("tensorflow", "tf.function, scatter_sub")(tensorflow_with(lambda tf: tf.function, scatter))
