"""A batch of a Dataset: what a loop waits for before its step begins."""

from __future__ import annotations

from functools import cache

import numpy as np

import numtape as nt

SETS = {
    "shuffled": lambda rows: rows.shuffle(8192, seed=0).batch(32),
    "mapped": lambda rows: rows.batch(32).map(lambda x, label: (x / 255.0, label)),
}


@cache
def batches_of(kind):
    """Batches without an end of 8192 rows of 64 pixels with their labels, in memory."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8192, 64)).astype(np.float32)
    rows = nt.data.Dataset.from_tensor_slices((pixels, rng.integers(0, 10, 8192)))
    return iter(SETS[kind](rows).repeat())


def time_batch(kind):
    x, _labels = next(batches_of(kind))
    x.numpy()


time_batch.params = list(SETS)
time_batch.param_names = ["dataset"]
time_batch.number = 200
