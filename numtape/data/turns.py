"""A dataset in a loop of a function that is recorded: its order is an input, drawn at each call, and rows are gathered.

That holds for tables, by rows or in batches; what Python functions take part in has to be run by Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape.data import stages
from numtape.data.cursors import open_order
from numtape.data.elements import packer
from numtape.ops.core import PUBLIC
from numtape.tape.tensor import Tensor, from_numpy


def recorded(stage: stages.Stage, recorder: Any) -> Iterator[Any] | None:
    """The elements of a stage in a function that is recorded; None if it is no table."""
    while isinstance(stage, stages.Prefetch):
        stage = stage.source
    source = stage.source if isinstance(stage, stages.Batch) else stage
    table = stages.table_of(source)
    if table is None or stages.cardinality(source) < 0:
        return None
    count, pack = stages.cardinality(source), packer(table.structure)
    columns = [
        c if isinstance(c, Tensor) else from_numpy(c[np.arange(table.count)]) for c in table.columns
    ]

    shuffles = [s.epochs for s in stages.walk(source) if isinstance(s, stages.Shuffle)]
    own = [(epochs, epochs.next) for epochs in shuffles if epochs.is_made_in(recorder)]

    def draw() -> tuple[npt.NDArray[Any], Callable[[], None]]:
        for epochs, first in own:
            epochs.next = first
        before = [epochs.next for epochs in shuffles]
        found = np.asarray(open_order(source).take(count), np.int64)
        after = [epochs.next for epochs in shuffles]

        def put_back() -> None:
            for epochs, old, new in zip(shuffles, before, after, strict=True):
                if epochs.next == new:  # nobody else has drawn
                    epochs.next = old

        return found, put_back

    rows, put_back = draw()
    put_back()  # this is no pass yet
    order = from_numpy(rows)
    recorder.note_drawn(order, source, draw)

    def batch(chosen: Any) -> Any:
        return pack([PUBLIC["stop_gradient"](PUBLIC["gather"](column, chosen)) for column in columns])

    if not isinstance(stage, stages.Batch):
        return recorder.turns(count, lambda k: batch(order[k]))  # type: ignore[no-any-return]
    size = stage.batch_size
    full, left = divmod(count, size)
    rest = [lambda: batch(order[full * size :])] if left and not stage.drop_remainder else []
    return recorder.turns(full, lambda k: batch(order[k * size : (k + 1) * size]), rest)  # type: ignore[no-any-return]
