"""Passes over elements: tensors in tuples and dicts, as users see them.

At the bottom a table's rows become tensors: a batch of them by one gather a column. Above, and where a user's function
runs, elements go one by one. No tensor that comes out has a history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape import nest
from numtape.data import stages
from numtape.data.cursors import Cursor, Over, Shuffling, State, open_order, open_over
from numtape.data.held import revived, saved
from numtape.data.orders import Draws, block_length
from numtape.data.prefetch import Prefetching
from numtape.data.stages import Ramp, Stage
from numtape.dtypes import TensorType, tensor_type
from numtape.tape.apart import Apart
from numtape.tape.operands import as_tensor
from numtape.tape.spec import TensorSpec
from numtape.tape.tensor import Tensor, buffer_of, fresh, from_numpy


def open_elements(stage: Stage) -> Cursor:
    """A pass over the elements of a stage."""
    table = stages.table_of(stage)
    if table is not None:
        return SingleRows(table, open_order(stage))
    match stage:
        case stages.Batch(source=source):
            table = stages.table_of(source)
            if table is not None:
                return RowBatches(stage, table, open_order(source))
            return Batching(stage, open_elements(source))
        case stages.Shuffle(source=source):
            return ShufflingElements(stage, open_elements(source))
        case stages.Prefetch(source=source) if stages.computes(source):
            return Prefetching(open_elements(source), stage.buffer_size)
        case stages.Unbatch(source=source):
            return Unbatching(open_elements(source))
        case stages.Map(source=source, function=function):
            return Mapping(open_elements(source), function)
        case stages.Filter(source=source, predicate=predicate):
            return Filtering(open_elements(source), predicate)
        case stages.Zip(sources=sources, structure=structure):
            return Zipping([open_elements(source) for source in sources], structure)
        case stages.Concatenate(sources=sources):
            return Concatenating([open_elements(source) for source in sources])
        case stages.Generated():
            return Generating(stage)
    return open_over(stage, open_elements)


def packer(structure: Any) -> Callable[[list[Any]], Any]:
    """From a list of what stands in a structure's places to the structure: what is usual, by the shortest way."""
    if not nest.is_nested(structure):
        return lambda parts: parts[0]
    if type(structure) is tuple and not any(map(nest.is_nested, structure)):
        return tuple
    return partial(nest.pack_sequence_as, structure)


# ---- from rows to tensors ---------------------------------------------------------------------------------------


def gatherer(column: Tensor | Ramp) -> Callable[[npt.NDArray[Any]], Tensor]:
    """A function that gives the rows of a column with these numbers, all of which exist."""
    if isinstance(column, Ramp):
        return lambda rows: from_numpy(column[rows])
    shape, dtype = column.shape[1:], column.dtype
    take = array_of(column).take
    types: dict[int, TensorType] = {}

    def gather(rows: npt.NDArray[Any]) -> Tensor:
        count = len(rows)
        type = types.get(count)
        if type is None:
            type = types[count] = tensor_type(dtype, (count, *shape))
        buffer, view = fresh(type)
        take(rows, 0, view, "clip")  # "raise" would copy once more
        return Tensor(type, buffer)

    return gather


def stack(tensors: Sequence[Tensor], place: int) -> Tensor:
    """Tensors of one type along a new first axis."""
    first = tensors[0]._type
    for k, tensor in enumerate(tensors):
        if tensor._type is not first:
            kind = TypeError if tensor._type.dtype is not first.dtype else ValueError
            raise kind(
                f"component {place} of the first element is {first.dtype.name}{list(first.shape)}, and of element {k} "
                f"{tensor.dtype.name}{list(tensor.shape)}; only what is alike becomes one batch"
            )
    type = tensor_type(first.dtype, (len(tensors), *first.shape))
    buffer, _ = fresh(type)
    flat = buffer.array.reshape(len(tensors), first.size)
    for k, tensor in enumerate(tensors):
        flat[k] = (tensor._data or buffer_of(tensor)).array
    return Tensor(type, buffer)


def array_of(tensor: Tensor) -> npt.NDArray[Any]:
    """A view of the elements, for as long as the tensor lives."""
    return buffer_of(tensor).array.reshape(tensor.shape)


class TableCursor(Over):
    """What comes out of a table; it holds the table, whose arrays are views."""

    def __init__(self, table: stages.Rows, source: Cursor) -> None:
        self.table, self.source = table, source
        self.pack = packer(table.structure)


class SingleRows(TableCursor):
    name = "slices"

    def __init__(self, table: stages.Rows, source: Cursor) -> None:
        super().__init__(table, source)
        self.columns = [c if isinstance(c, Ramp) else array_of(c) for c in table.columns]

    def take(self, count: int) -> list[Any]:
        rows = self.source.take(count)
        return [self.pack([from_numpy(column[row]) for column in self.columns]) for row in rows.tolist()]


class RowBatches(TableCursor):
    name = "batch"

    def __init__(self, stage: stages.Batch, table: stages.Rows, source: Cursor) -> None:
        super().__init__(table, source)
        self.size = stage.batch_size
        self.least = stage.batch_size if stage.drop_remainder else 1
        self.gathers = [gatherer(column) for column in table.columns]

    def take(self, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            rows = self.source.take(self.size)
            if len(rows) < self.least:
                break
            found.append(self.pack([gather(rows) for gather in self.gathers]))
        return found


# ---- from elements to elements ----------------------------------------------------------------------------------


class Batching(Over):
    name = "batch"

    def __init__(self, stage: stages.Batch, source: Cursor) -> None:
        self.source = source
        self.size = stage.batch_size
        self.least = stage.batch_size if stage.drop_remainder else 1

    def take(self, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            elements = self.source.take(self.size)
            if len(elements) < self.least:
                break
            first = elements[0]
            if set(map(type, elements)) == {Tensor}:
                found.append(stack(elements, 0))
                continue
            for other in elements:
                nest.assert_same_structure(first, other)
            columns = zip(*map(nest.flatten, elements), strict=True)
            found.append(nest.pack_sequence_as(first, [stack(column, k) for k, column in enumerate(columns)]))
        return found


class Unbatching(Over):
    name = "unbatch"

    def __init__(self, source: Cursor) -> None:
        self.source = source
        self.batch: list[Any] = []
        """One or none, and how many rows of it have been given."""
        self.position = 0

    def take(self, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            if not self.batch:
                self.batch, self.position = self.source.take(1), 0
                if not self.batch:
                    break
            (element,) = self.batch
            arrays = [array_of(tensor) for tensor in nest.flatten(element)]
            lengths = {array.shape[0] if array.ndim else None for array in arrays}
            if len(lengths) > 1 or None in lengths:
                self.batch = []
                raise ValueError(
                    f"Dataset.unbatch: components of shapes {[a.shape for a in arrays]} have no first axis in common"
                )
            end = min(self.position + count - len(found), arrays[0].shape[0])
            rows = range(self.position, end)
            found += [nest.pack_sequence_as(element, [from_numpy(array[row]) for array in arrays]) for row in rows]
            self.position = end
            if end == arrays[0].shape[0]:
                self.batch = []
        return found

    def state(self) -> State:
        return {"position": self.position, "batch": saved(self.batch), **super().state()}

    def restore(self, state: State) -> None:
        self.batch = revived(state["batch"], self.source)
        super().restore(state)
        self.position = int(state["position"])


class ShufflingElements(Shuffling):
    """Goes step by step: the order is that of `ShufflingRows`."""

    def __init__(self, stage: stages.Shuffle, source: Cursor) -> None:
        super().__init__(stage, source)
        self.buffer: list[Any] = []
        """The elements from step `steps` up to `loaded`, each at its number modulo the length of the buffer."""
        self.steps = self.loaded = 0
        self.draws = Draws(self.stream, self.epoch, block_length(self.buffer_size))

    def take(self, count: int) -> list[Any]:
        found: list[Any] = []
        size = self.buffer_size
        while len(found) < count:
            while self.loaded - self.steps < size and (one := self.source.take(1)):
                if self.loaded < size:
                    self.buffer += one
                else:
                    self.buffer[self.loaded % size] = one[0]
                self.loaded += 1
            left = self.loaded - self.steps
            if not left:
                break
            first, chosen = self.steps % size, (self.steps + self.draws.below(self.steps, left)) % size
            found.append(self.buffer[chosen])
            self.buffer[chosen], self.buffer[first] = self.buffer[first], None
            self.steps += 1
        return found

    def state(self) -> State:
        held = [self.buffer[k % self.buffer_size] for k in range(self.steps, self.loaded)]
        return {**self.order_state(), "steps": self.steps, "held": saved(held), **super().state()}

    def restore(self, state: State) -> None:
        held = revived(state["held"], self.source)
        super().restore(state)
        self.restore_order(state)
        self.steps = int(state["steps"])
        self.loaded = self.steps + len(held)
        self.buffer = [None] * min(self.loaded, self.buffer_size)
        for k, element in enumerate(held, self.steps):
            self.buffer[k % self.buffer_size] = element
        self.draws = Draws(self.stream, self.epoch, block_length(self.buffer_size))


class Mapping(Over):
    name = "map"

    def __init__(self, source: Cursor, function: Callable[..., Any]) -> None:
        self.source, self.function = source, function
        self.apart = Apart()

    def take(self, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count and (one := self.source.take(1)):
            found.append(self.apart.call(stages.mapped, self.function, one[0]))
        return found


class Filtering(Over):
    name = "filter"

    def __init__(self, source: Cursor, predicate: Callable[..., Any]) -> None:
        self.source, self.predicate = source, predicate
        self.apart = Apart()

    def take(self, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count and (one := self.source.take(1)):
            kept = self.apart.call(stages.mapped, self.predicate, one[0])
            if not (isinstance(kept, Tensor) and kept.dtype.is_bool and not kept.shape):
                raise ValueError(f"Dataset.filter: the predicate gives one bool for an element, not {kept!r}")
            if kept:
                found += one
        return found


class Zipping(Cursor):
    name = "zip"

    def __init__(self, sources: list[Cursor], structure: Any) -> None:
        self._sources = sources
        self.pack = packer(structure)

    def sources(self) -> list[Cursor]:
        return self._sources

    def take(self, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            parts: list[Any] = []
            failure: Exception | None = None
            for source in self._sources:
                try:
                    one = source.take(1)
                except Exception as error:  # the others go on, too, so that what follows still belongs together
                    failure = failure or error
                    continue
                if not one:
                    return found
                parts += one
            if failure is not None:
                raise failure
            found.append(self.pack(parts))
        return found


class Concatenating(Cursor):
    name, fields = "concatenate", ("current",)

    def __init__(self, sources: list[Cursor]) -> None:
        self._sources = sources
        self.current = 0

    def sources(self) -> list[Cursor]:
        return self._sources

    def take(self, count: int) -> list[Any]:
        found: list[Any] = []
        while True:
            found += self._sources[self.current].take(count - len(found))
            if len(found) == count or self.current == len(self._sources) - 1:
                return found
            self.current += 1


class Generating(Cursor):
    name = "generator"

    def __init__(self, stage: stages.Generated) -> None:
        self.stage = stage
        self.apart = Apart()
        self.iterator: Iterator[Any] | None = None

    def take(self, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            try:
                found.append(self.apart.call(self._next))
            except StopIteration:
                self.iterator = iter(())
                break
        return found

    def _next(self) -> Any:
        stage = self.stage
        if self.iterator is None:
            self.iterator = iter(stage.function(*(np.asarray(a)[()] for a in stage.arguments)))
        return conform(next(self.iterator), stage.signature)


def conform(value: Any, signature: Any) -> Any:
    """What a generator yielded, as tensors; TypeError unless it is what the signature says."""
    if isinstance(signature, TensorSpec):
        tensor = as_tensor(value, signature.dtype)
        if not signature.is_compatible_with(tensor):
            raise TypeError(
                f"Dataset.from_generator: the generator yielded {tensor.dtype.name}{list(tensor.shape)} where "
                f"{signature} was declared"
            )
        return tensor
    if isinstance(signature, dict):
        if isinstance(value, dict) and value.keys() == signature.keys():
            return {key: conform(value[key], spec) for key, spec in signature.items()}
    elif isinstance(value, tuple | list) and len(value) == len(signature):
        items = [conform(item, spec) for item, spec in zip(value, signature, strict=True)]
        return type(signature)(*items) if hasattr(signature, "_fields") else tuple(items)
    raise TypeError(f"Dataset.from_generator: the generator yielded {value!r} where {signature} was declared")
