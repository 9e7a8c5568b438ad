"""What a dataset is: a tree of stages with its sources at the leaves.

Stages are plain values and hold no position: an iterator has one, and is opened anew for each pass. Whatever wants to
know something about a dataset, an iterator or a compiler, reads the tree. The only things in it that change are how
often a shuffle has begun, and what a cache has seen.

A stage is a *table* if its elements are rows of arrays in memory, in some order: then the order alone is computed, as
arrays of row numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape import nest
from numtape.data.orders import Epochs
from numtape.dtypes import DType, tensor_type
from numtape.tape.apart import Apart
from numtape.tape.spec import TensorSpec
from numtape.tape.tensor import Tensor, from_numpy

INFINITE, UNKNOWN = -1, -2


class Stage:
    """A dataset that is made of others, or a source."""

    __slots__ = ()


class Source(Stage):
    __slots__ = ()


@dataclass(frozen=True, slots=True, eq=False)
class Ramp:
    """A column of evenly spaced numbers, which takes no memory."""

    numbers: range
    dtype: DType

    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        """The numbers of one row, or of an array of them."""
        found = self.numbers.start + np.asarray(rows, np.int64) * self.numbers.step
        return found.astype(self.dtype.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Rows(Source):
    """The rows of columns, in their order."""

    structure: Any
    """With None where a column's row stands in an element."""
    columns: tuple[Tensor | Ramp, ...]
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Generated(Source):
    """What a Python function yields."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    signature: Any


@dataclass(frozen=True, slots=True, eq=False)
class Zip(Stage):
    structure: Any
    """With None where an element of each source stands."""
    sources: tuple[Stage, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Concatenate(Stage):
    sources: tuple[Stage, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Over(Stage):
    """A stage on one other."""

    source: Stage


@dataclass(frozen=True, slots=True, eq=False)
class Shuffle(Over):
    buffer_size: int
    stream: int
    reshuffle: bool
    epochs: Epochs = field(default_factory=Epochs)


@dataclass(frozen=True, slots=True, eq=False)
class Batch(Over):
    batch_size: int
    drop_remainder: bool


@dataclass(frozen=True, slots=True, eq=False)
class Unbatch(Over):
    pass


@dataclass(frozen=True, slots=True, eq=False)
class Repeat(Over):
    """So many passes over the source, -1 for no end."""

    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Map(Over):
    function: Callable[..., Any]


@dataclass(frozen=True, slots=True, eq=False)
class Filter(Over):
    predicate: Callable[..., Any]


@dataclass(frozen=True, slots=True, eq=False)
class Take(Over):
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Skip(Over):
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Shard(Over):
    num_shards: int
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class Prefetch(Over):
    buffer_size: int


class Memory:
    """What a cache has seen, once it has seen all, and where its source began."""

    def __init__(self) -> None:
        self.elements: Any = None
        self.start: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Cache(Over):
    memory: Memory = field(default_factory=Memory)


_HIDDEN = {"source", "stream", "epochs", "memory"}


# ---- walks over the tree ----------------------------------------------------------------------------------------


def walk(stage: Stage) -> Iterator[Stage]:
    """All stages, from the last to the sources."""
    yield stage
    if isinstance(stage, Over):
        yield from walk(stage.source)
    elif isinstance(stage, Zip | Concatenate):
        for source in stage.sources:
            yield from walk(source)


def table_of(stage: Stage) -> Rows | None:
    """The source of a table; None if the stage is none."""
    while isinstance(stage, Shuffle | Repeat | Take | Skip | Shard | Prefetch | Cache):
        stage = stage.source
    return stage if isinstance(stage, Rows) else None


def computes(stage: Stage) -> bool:
    """Whether users' functions run for an element: all else costs less than to hand it from thread to thread."""
    return any(isinstance(s, Map | Filter | Generated) for s in walk(stage))


def cardinality(stage: Stage) -> int:
    """The number of elements; INFINITE, or UNKNOWN before they have been counted."""
    match stage:
        case Rows(count=count):
            return count
        case Take(count=0):
            return 0
        case Generated() | Filter():
            return UNKNOWN
        case Zip(sources=sources):
            counts = [n for source in sources if (n := cardinality(source)) != INFINITE]
            return UNKNOWN if UNKNOWN in counts else min(counts, default=INFINITE)
        case Concatenate(sources=sources):
            counts = [cardinality(source) for source in sources]
            return INFINITE if INFINITE in counts else UNKNOWN if UNKNOWN in counts else sum(counts)
        case Repeat(source=source, count=-1):
            return 0 if cardinality(source) == 0 else INFINITE
        case Unbatch(source=Batch(batch_size=size, drop_remainder=True) as batches):
            return count if (count := cardinality(batches)) < 0 else count * size
        case Unbatch():
            return UNKNOWN
    assert isinstance(stage, Over)
    count = cardinality(stage.source)
    match stage:
        case Take(count=taken) if count == INFINITE:
            return taken
        case _ if count < 0:
            return count
        case Take(count=taken):
            return min(count, taken)
        case Skip(count=skipped):
            return max(count - skipped, 0)
        case Shard(num_shards=num_shards, index=index):
            return max(-(-(count - index) // num_shards), 0)
        case Repeat(count=times):
            return count * times
        case Batch(batch_size=size, drop_remainder=drop):
            return count // size if drop else -(-count // size)
    return count


def element_spec(stage: Stage) -> Any:
    """A spec in each place of an element."""
    match stage:
        case Rows(structure=structure, columns=columns):
            specs = [TensorSpec(c.shape[1:] if isinstance(c, Tensor) else (), c.dtype) for c in columns]
            return nest.pack_sequence_as(structure, specs)
        case Generated(signature=signature):
            return signature
        case Zip(structure=structure, sources=sources):
            return nest.pack_sequence_as(structure, [element_spec(source) for source in sources])
        case Concatenate(sources=(first, *others)):
            found = element_spec(first)
            for other in others:
                found = nest.map_structure(_common, found, element_spec(other))
            return found
        case Batch(source=source, batch_size=size, drop_remainder=drop):
            length = size if drop else None
            return nest.map_structure(lambda s: _reshaped(s, lambda shape: (length, *shape)), element_spec(source))
        case Unbatch(source=source):
            return nest.map_structure(lambda s: _reshaped(s, lambda shape: shape[1:]), element_spec(source))
        case Map(source=source, function=function):
            spec = element_spec(source)
            # What differs between two lengths in unknown places is unknown, too.
            found, other = (
                Apart().call(mapped, function, nest.map_structure(partial(_ones, length), spec)) for length in (2, 3)
            )
            return nest.map_structure(lambda a, b: _common(*map(TensorSpec.from_tensor, (a, b))), found, other)
    assert isinstance(stage, Over)
    return element_spec(stage.source)


def describe(stage: Stage) -> str:
    """The calls that make a dataset of these stages."""
    match stage:
        case Rows(columns=columns):
            texts = [f"{c.dtype.name}{list(c.shape)}" if isinstance(c, Tensor) else str(c.numbers) for c in columns]
            return f"slices({', '.join(texts)})"
        case Generated(function=function):
            return f"from_generator({_name(function)})"
        case Zip(sources=sources):
            return f"zip({', '.join(map(describe, sources))})"
        case Concatenate(sources=(first, *others)):
            return f"{describe(first)}.concatenate({', '.join(map(describe, others))})"
    assert isinstance(stage, Over)
    options = [_name(getattr(stage, f.name)) for f in fields(stage) if f.name not in _HIDDEN]
    return f"{describe(stage.source)}.{type(stage).__name__.lower()}({', '.join(options)})"


def _name(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)


def mapped(function: Callable[..., Any], element: Any) -> Any:
    """Call a user's function with an element: the items of a tuple are arguments, and a list is a tuple."""
    found = function(*element) if type(element) is tuple else function(element)
    return tuple(found) if type(found) is list else found


def _common(a: TensorSpec, b: TensorSpec) -> TensorSpec:
    if a.dtype is not b.dtype:
        raise TypeError(f"the elements of a dataset are of one type each, not of {a} and {b}")
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return TensorSpec(None, a.dtype)
    return TensorSpec([m if m == n else None for m, n in zip(a.shape, b.shape, strict=True)], a.dtype)


def _reshaped(spec: TensorSpec, change: Callable[[tuple[int | None, ...]], Any]) -> TensorSpec:
    return TensorSpec(None if spec.shape is None else change(spec.shape), spec.dtype)


def _ones(length: int, spec: TensorSpec) -> Tensor:
    if spec.shape is None:
        raise ValueError(f"what a function makes of {spec} is only known from real elements: their rank is unknown")
    type = tensor_type(spec.dtype, tuple(length if n is None else n for n in spec.shape))
    return from_numpy(np.ones(type.shape, type.dtype.dtype))
