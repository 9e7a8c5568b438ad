"""Elements that a cursor holds, as arrays that can be saved.

For each component there are the numbers of all elements in a row, and their shapes: elements may differ in shape, but
not in rank or dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numtape import nest
from numtape.data.cursors import Cursor, State
from numtape.tape.tensor import buffer_of, from_numpy


def saved(elements: Sequence[Any]) -> State:
    """The elements as arrays."""
    state: State = {"count": len(elements)}
    if elements:
        for k, column in enumerate(zip(*map(nest.flatten, elements), strict=True)):
            if len({(t.dtype, t.ndim) for t in column}) > 1:
                raise ValueError(
                    "an iterator that holds elements of different ranks or dtypes cannot be saved; save it before its "
                    "first element, or shuffle before the elements become so different"
                )
            state[f"{k}.elements"] = np.concatenate([buffer_of(t).array for t in column])
            state[f"{k}.shapes"] = np.array([t.shape for t in column], np.int64).reshape(len(column), column[0].ndim)
    return state


def revived(state: State, source: Cursor) -> list[Any]:
    """The elements again, in the structure of those that `source` gives."""
    count = int(state["count"])
    if not count:
        return []
    columns = []
    for k in range((len(state) - 1) // 2):
        shapes = state[f"{k}.shapes"]
        ends = np.cumsum(shapes.prod(axis=1, dtype=np.int64))[:-1]
        parts = np.split(state[f"{k}.elements"], ends)
        columns.append([from_numpy(part.reshape(shape)) for part, shape in zip(parts, shapes.tolist(), strict=True)])
    example = source.take(1)
    if not example:
        raise ValueError("the state is of a dataset with elements, and this one has none")
    return [nest.pack_sequence_as(example[0], list(tensors)) for tensors in zip(*columns, strict=True)]
