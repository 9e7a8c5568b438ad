"""Cursors: positions in a pass over a stage, and the stages that treat row numbers and elements alike.

`take(count)` gives the next elements, fewer than `count` only at the end, where it goes on to give none. For the stages
of a table they are row numbers, as an array; for all others a list of elements. `state()` is what has to be known to go
on from here in another process, as numbers, arrays and dicts of those; `restore` goes there from anywhere. A cursor is
used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from numtape.data import stages
from numtape.data.orders import block_length, block_order
from numtape.data.stages import Stage

Part = Any
"""Row numbers, or a list of elements."""
State = dict[str, Any]
Opening = Callable[[Stage], "Cursor"]


class Cursor:
    """A pass over a stage."""

    name: ClassVar[str]
    fields: ClassVar[tuple[str, ...]] = ()
    """The attributes that are integers and part of the state."""

    def take(self, count: int) -> Part:
        raise NotImplementedError

    def sources(self) -> list[Cursor]:
        return []

    def state(self) -> State:
        own = {name: getattr(self, name) for name in self.fields}
        return own | {f"{k}.{source.name}": source.state() for k, source in enumerate(self.sources())}

    def restore(self, state: State) -> None:
        for name in self.fields:
            setattr(self, name, int(state[name]))
        for k, source in enumerate(self.sources()):
            source.restore(state[f"{k}.{source.name}"])


class Over(Cursor):
    """A cursor on one other."""

    source: Cursor

    def sources(self) -> list[Cursor]:
        return [self.source]


def joined(parts: Sequence[Part]) -> Part:
    """Parts one after another."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else [e for part in parts for e in part]


# ---- for row numbers and elements alike -------------------------------------------------------------------------


def open_over(stage: Stage, opening: Opening) -> Cursor:
    """A pass over a stage that is nothing special, on what `opening` makes of its source."""
    match stage:
        case stages.Repeat():
            return Repeating(stage, opening)
        case stages.Cache():
            return Remembering(stage, opening)
        case stages.Take(source=source, count=count):
            return Taking(opening(source), count)
        case stages.Skip(source=source, count=count):
            return Skipping(opening(source), count)
        case stages.Shard(source=source, num_shards=num_shards, index=index):
            return Sharding(opening(source), num_shards, index)
    assert isinstance(stage, stages.Prefetch), stage
    return opening(stage.source)


class Taking(Over):
    name, fields = "take", ("left",)

    def __init__(self, source: Cursor, count: int) -> None:
        self.source, self.left = source, count

    def take(self, count: int) -> Part:
        found = self.source.take(min(count, self.left))
        self.left -= len(found)
        return found


class Skipping(Over):
    name, fields = "skip", ("left",)

    def __init__(self, source: Cursor, count: int) -> None:
        self.source, self.left = source, count

    def take(self, count: int) -> Part:
        while self.left:
            skipped = len(self.source.take(min(self.left, 64)))
            self.left = self.left - skipped if skipped else 0
        return self.source.take(count)


class Sharding(Over):
    name = "shard"

    def __init__(self, source: Cursor, num_shards: int, index: int) -> None:
        self.source, self.num_shards, self.index = source, num_shards, index

    def take(self, count: int) -> Part:
        return self.source.take(count * self.num_shards)[self.index :: self.num_shards]


class Repeating(Over):
    name, fields = "repeat", ("left", "given")

    def __init__(self, stage: stages.Repeat, opening: Opening) -> None:
        self.stage, self.opening = stage, opening
        self.left = stage.count - 1
        """Passes after this one; below zero if there is no end."""
        self.given = 0
        """Elements of this pass; one without any ends what has no end."""
        self.source = opening(stage.source)

    def take(self, count: int) -> Part:
        found = self.source.take(count)
        self.given += len(found)
        missing = count - len(found)
        if not missing:
            return found
        parts = [found]
        while missing and self.left and (self.given or self.left > 0):
            self.source = self.opening(self.stage.source)
            self.left -= self.left > 0
            found = self.source.take(missing)
            self.given = len(found)
            parts.append(found)
            missing -= len(found)
        return joined(parts)


class Remembering(Over):
    """Passes on what it takes, and remembers it; a later pass takes nothing from the source."""

    name, fields = "cache", ("position",)

    def __init__(self, stage: stages.Cache, opening: Opening) -> None:
        self.memory = stage.memory
        self.elements = self.memory.elements
        self.parts: list[Part] = []
        self.position = 0
        self.open = partial(opening, stage.source)
        if self.elements is None:
            self.source = self.open()
            self.start = self.source.state()
        else:
            self.start = self.memory.start

    def take(self, count: int) -> Part:
        if self.elements is None:
            found = self.source.take(count)
            self.parts.append(found)
            if len(found) < count:
                self.elements, self.parts = joined(self.parts), []
                self.memory.elements, self.memory.start = self.elements, self.start
        else:
            found = self.elements[self.position : self.position + count]
        self.position += len(found)
        return found

    def state(self) -> State:
        return {"position": self.position, "start": self.start}

    def restore(self, state: State) -> None:
        position = int(state["position"])
        if self.elements is None or not _alike(self.start, state["start"]):
            self.source = self.open()
            self.source.restore(state["start"])
            self.elements, self.parts, self.start = None, [], state["start"]
            found = self.source.take(position)
            self.parts.append(found)
            if len(found) < position:
                raise ValueError(f"the state is {position} elements into a cached dataset, which has only {len(found)}")
        self.position = position


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    return np.array_equal(a, b)


# ---- for row numbers alone --------------------------------------------------------------------------------------

_NO_ROWS = np.empty(0, np.int64)


def open_order(stage: Stage) -> Cursor:
    """A pass over the row numbers of a table."""
    if isinstance(stage, stages.Rows):
        return Counting(stage.count)
    if isinstance(stage, stages.Shuffle):
        return ShufflingRows(stage, open_order(stage.source))
    return open_over(stage, open_order)


class Counting(Cursor):
    name, fields = "rows", ("position", "count")

    def __init__(self, count: int) -> None:
        self.position, self.count = 0, count

    def take(self, count: int) -> npt.NDArray[Any]:
        start = self.position
        self.position = min(start + count, self.count)
        return np.arange(start, self.position)

    def restore(self, state: State) -> None:
        if int(state["count"]) != self.count:
            raise ValueError(f"the state is of a dataset with {int(state['count'])} rows, and this has {self.count}")
        super().restore(state)


class Shuffling(Over):
    """What the two ways of shuffling share: the stream and epoch that determine the order."""

    name = "shuffle"

    def __init__(self, stage: stages.Shuffle, source: Cursor) -> None:
        self.epochs, self.buffer_size = stage.epochs, stage.buffer_size
        self.stream, self.epoch = stage.stream, stage.epochs.draw() if stage.reshuffle else 0
        self.source = source

    def order_state(self) -> State:
        return {"stream": self.stream, "epoch": self.epoch, "epochs": self.epochs.next}

    def restore_order(self, state: State) -> None:
        self.stream, self.epoch, self.epochs.next = (int(state[name]) for name in ("stream", "epoch", "epochs"))


class ShufflingRows(Shuffling):
    """Takes a block of row numbers at once, and shuffles it by native code."""

    def __init__(self, stage: stages.Shuffle, source: Cursor) -> None:
        super().__init__(stage, source)
        self.block, self.position = 0, 0
        self.ready = self.held = _NO_ROWS
        """The block's rows in their order, and those that wait in the buffer for the next block."""
        self.begin: State = {"held": self.held, "source": source.state()}

    def take(self, count: int) -> npt.NDArray[Any]:
        start = self.position
        found = self.ready[start : start + count]
        self.position = start + len(found)
        if len(found) == count:
            return found
        parts = [found]
        while (missing := count - sum(map(len, parts))) and self._mix(self.block + bool(len(self.ready))):
            parts.append(self.ready[:missing])
            self.position = len(parts[-1])
        return np.concatenate(parts)

    def _mix(self, block: int) -> bool:
        """Take and shuffle a block; False, and nothing changes, if there are no rows left."""
        begin = {"held": self.held, "source": self.source.state()}
        wanted = self.buffer_size + block_length(self.buffer_size) - len(self.held)
        rows = joined([self.held, self.source.take(wanted)])
        if not len(rows):
            return False
        rows = rows[block_order(self.stream, self.epoch, block, len(rows), self.buffer_size)]
        steps = block_length(self.buffer_size)
        self.ready, self.held = rows[:steps], rows[steps:]
        self.begin, self.block, self.position = begin, block, 0
        return True

    def state(self) -> State:
        return self.order_state() | {"block": self.block, "position": self.position} | self.begin

    def restore(self, state: State) -> None:
        self.restore_order(state)
        self.source.restore(state["source"])
        self.ready, self.held = _NO_ROWS, np.asarray(state["held"], np.int64)
        self.block = int(state["block"])
        self.begin = {"held": self.held, "source": self.source.state()}
        self._mix(self.block)
        self.position = int(state["position"])
