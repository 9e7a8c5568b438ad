"""An epoch of the MLP 64-32-10 of mlp.py: a step of Adam for each of 64 batches of 32 shuffled rows.

A step here is an epoch, and its result the loss of the last batch. The rows are in memory, and each library takes them
from there in an order that is given, the same in every epoch. Ways that loop over batches are those of mlp.py; the
others hand over an epoch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from workloads import Workload, mlp
from workloads.mlp import BATCH, BATCHES

ROWS = BATCH * BATCHES


class Data(NamedTuple):
    parameters: tuple[np.ndarray, ...]  # w1, b1, w2, b2
    x: np.ndarray
    y: np.ndarray
    order: np.ndarray

    def batches(self, labels=np.int64):
        """Pairs of pixels and labels of the rows in their order, over and over."""
        y = self.y.astype(labels)
        while True:
            for rows in self.order.reshape(BATCHES, BATCH):
                yield self.x[rows], y[rows]


def data():
    parameters, x, y = mlp.data()
    return Data(parameters, x.reshape(ROWS, -1), y.ravel(), np.random.default_rng(1).permutation(ROWS))


workload = Workload("epoch of 64 Adam steps of an MLP 64-32-10", data, tolerance=5e-4, check_steps=3)


def loop(way):
    """A way of mlp.py, 64 batches at a time."""

    def whole(data):
        run = way(data)
        return lambda n: run(n * BATCHES)

    return whole


workload.way("numpy", "by hand")(loop(mlp.numpy_by_hand))
workload.way("numtape", "plain tape loop")(loop(mlp.numtape_loop))
workload.way("numtape", "loop of nt.function, bound")(loop(mlp.numtape_bound))
workload.way("jax", "loop of jit, donated state")(loop(mlp.jax_with(donate_argnums=0)))


def repeat(epoch):
    """The `run` of an epoch that returns its last loss, on the host or not."""

    def run(n):
        for _ in range(n):
            loss = epoch()
        return [float(loss)]

    return run


@workload.way("numtape", "nt.function of an epoch")
def numtape_epoch(data):
    import numtape as nt

    step = mlp.numtape_step(data)
    drawn = [*nt.data.Dataset.range(ROWS).shuffle(ROWS, seed=0).as_numpy_iterator()]
    x, y = (np.empty_like(a) for a in (data.x, data.y))
    x[drawn], y[drawn] = data.x[data.order], data.y[data.order]  # where that shuffle finds them in the order given

    @nt.function
    def epoch():
        for pixels, labels in nt.data.Dataset.from_tensor_slices((x, y)).shuffle(ROWS, seed=0).batch(BATCH):
            loss = step(pixels, labels)
        return loss

    return repeat(epoch)


def jax_with(**options):
    def way(data):
        import jax

        def epoch(state, x, y, order):
            rows = order.reshape(BATCHES, BATCH)
            state, losses = jax.lax.scan(lambda state, batch: mlp.jax_update(state, *batch), state, (x[rows], y[rows]))
            return state, losses[-1]

        compiled = jax.jit(epoch, **options)
        state = mlp.jax_state(data)
        x, y, order = map(jax.numpy.array, (data.x, data.y.astype(np.int32), data.order.astype(np.int32)))

        def step():
            nonlocal state
            state, loss = compiled(state, x, y, order)
            return loss

        return repeat(step)

    return way


workload.way("jax", "jit of lax.scan")(jax_with())
workload.way("jax", "jit of lax.scan, donated state")(jax_with(donate_argnums=0))
