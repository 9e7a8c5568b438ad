"""`Dataset`: an immutable description of elements and their order, which users build stage by stage.

Each method gives a new dataset with one stage more. Nothing is computed before someone iterates; over arrays in memory
`shuffle`, `repeat`, `take`, `skip` and `shard` then order row numbers, and `batch` gathers rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from numtape import nest
from numtape.data import stages
from numtape.data.iterator import Iterator
from numtape.data.orders import stream_of
from numtape.data.stages import INFINITE, UNKNOWN, Ramp, Rows, Stage
from numtape.data.turns import recorded
from numtape.dtypes import DType, as_dtype, int64
from numtape.ops.core import freeze
from numtape.ops.rearrange import integer
from numtape.tape.apart import Apart
from numtape.tape.spec import TensorSpec
from numtape.tape.tensor import Tensor, check_number, from_numpy
from numtape.tape.trace import STATE

AUTOTUNE = -1
INFINITE_CARDINALITY, UNKNOWN_CARDINALITY = INFINITE, UNKNOWN
_PREFETCHED = 2


class Dataset:
    """Elements in an order: tensors, or tuples and dicts of tensors.

    Iterating gives tensors without a history: no gradient flows back into what a dataset was made of, nor to Variables
    that its functions read. A tape can watch them like any others.

    >>> import numtape as nt
    >>> x, y = np.arange(10.0), np.arange(10) % 2
    >>> dataset = nt.data.Dataset.from_tensor_slices((x, y)).shuffle(10, seed=1).batch(4)
    >>> for features, labels in dataset:
    ...     print(features.shape, labels.shape)
    (4,) (4,)
    (4,) (4,)
    (2,) (2,)
    """

    __slots__ = ("_stage",)

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    # ---- sources ---------------------------------------------------------------------------------------------------

    @staticmethod
    def from_tensor_slices(tensors: Any, name: str | None = None) -> Dataset:
        """The rows, along the first axis, of arrays or tensors in tuples and dicts.

        Elements are copied once: later changes to an array are not seen. ValueError if lengths differ, or for a single
        number, which has no rows.

        >>> import numtape as nt
        >>> list(nt.data.Dataset.from_tensor_slices({"a": [1, 2]}).as_numpy_iterator())
        [{'a': np.int32(1)}, {'a': np.int32(2)}]
        """
        structure = _tensors("from_tensor_slices", tensors)
        columns = nest.flatten(structure)
        shapes = [column.shape for column in columns]
        if () in shapes:
            raise ValueError(f"Dataset.from_tensor_slices: components of shapes {shapes}; a single number has no rows")
        if len({shape[0] for shape in shapes}) > 1:
            raise ValueError(f"Dataset.from_tensor_slices: components of shapes {shapes} differ in their first lengths")
        return Dataset(Rows(_places(structure), tuple(columns), shapes[0][0]))

    @staticmethod
    def from_tensors(tensors: Any, name: str | None = None) -> Dataset:
        """One element: these arrays or tensors in tuples and dicts.

        >>> import numtape as nt
        >>> list(nt.data.Dataset.from_tensors([1, 2]).as_numpy_iterator())
        [array([1, 2], dtype=int32)]
        """
        structure = _tensors("from_tensors", tensors)
        columns = [from_numpy(np.asarray(tensor)[None]) for tensor in nest.flatten(structure)]
        return Dataset(Rows(_places(structure), tuple(columns), 1))

    @staticmethod
    def from_generator(
        generator: Callable[..., Iterable[Any]],
        *,
        output_signature: Any = None,
        args: Any = (),
        name: str | None = None,
    ) -> Dataset:
        """What the iterable yields that `generator(*args)` returns, called anew for each pass.

        `output_signature` has a `TensorSpec` in each place of an element. TypeError where an element is something else;
        numbers, lists and arrays are converted to the dtype, but floats never to integers.

        >>> import numtape as nt
        >>> def count(stop):
        ...     for n in range(stop):
        ...         yield n, [n / 2]
        >>> signature = nt.TensorSpec([], nt.int32), nt.TensorSpec([1], nt.float32)
        >>> dataset = nt.data.Dataset.from_generator(count, output_signature=signature, args=[2])
        >>> list(dataset.as_numpy_iterator())
        [(np.int32(0), array([0.], dtype=float32)), (np.int32(1), array([0.5], dtype=float32))]
        """
        if not callable(generator):
            raise TypeError(f"Dataset.from_generator: {generator!r} cannot be called, as it is for each pass")
        specs = nest.flatten(output_signature)
        if not specs or not all(isinstance(spec, TensorSpec) for spec in specs):
            raise TypeError(
                f"Dataset.from_generator: output_signature has an nt.TensorSpec in each place, not {output_signature!r}"
            )
        arguments = tuple(tensor.numpy() for tensor in Apart().call(lambda: tuple(args)))
        return Dataset(stages.Generated(generator, arguments, output_signature))

    @staticmethod
    def range(*args: Any, output_type: Any = int64, name: str | None = None) -> Dataset:
        """The integers of Python's `range(*args)`; OverflowError if one is out of range for `output_type`.

        >>> import numtape as nt
        >>> list(nt.data.Dataset.range(1, 6, 2).as_numpy_iterator())
        [np.int64(1), np.int64(3), np.int64(5)]
        """
        numbers = range(*(_integer("range", "each bound", a) for a in args))
        dtype = as_dtype(output_type)
        for n in (numbers[0], numbers[-1]) if numbers else ():
            check_number(n, dtype if dtype.is_integer else int64)
        return Dataset(_ramp(numbers, dtype))

    @staticmethod
    def zip(*datasets: Any, name: str | None = None) -> Dataset:
        """An element of each dataset, in the structure that these are given in; as many as the shortest has.

        >>> import numtape as nt
        >>> a, b = nt.data.Dataset.range(3), nt.data.Dataset.range(5, 9)
        >>> list(nt.data.Dataset.zip(a, b).as_numpy_iterator())
        [(np.int64(0), np.int64(5)), (np.int64(1), np.int64(6)), (np.int64(2), np.int64(7))]
        """
        structure: Any = datasets[0] if len(datasets) == 1 else datasets
        leaves = nest.flatten(structure)
        if not leaves or isinstance(structure, list) or not all(isinstance(leaf, Dataset) for leaf in leaves):
            raise TypeError(f"Dataset.zip: datasets in tuples and dicts are expected, not {structure!r}")
        return Dataset(_zipped(_places(structure), [leaf._stage for leaf in leaves]))

    # ---- order -----------------------------------------------------------------------------------------------------

    def shuffle(
        self, buffer_size: Any, seed: Any = None, reshuffle_each_iteration: bool | None = None, name: str | None = None
    ) -> Dataset:
        """The elements in random order: each is chosen among the next `buffer_size` that have not been given.

        With a buffer of the size of the dataset, or more, all orders are equally likely. Each pass has another order,
        unless `reshuffle_each_iteration` is False. The orders depend on `seed` and `nt.random.set_seed` alone, as they
        are when `shuffle` is called, and on how many passes there were; without `seed` the next one under the global
        seed is taken.

        >>> import numtape as nt
        >>> dataset = nt.data.Dataset.range(5).shuffle(5, seed=1)
        >>> sorted(dataset.as_numpy_iterator()) == [0, 1, 2, 3, 4]
        True
        """
        size = _positive("shuffle", "buffer_size", buffer_size)
        reshuffle = reshuffle_each_iteration is None or bool(reshuffle_each_iteration)
        return Dataset(stages.Shuffle(self._stage, size, stream_of("Dataset.shuffle", seed), reshuffle))

    def repeat(self, count: Any = None, name: str | None = None) -> Dataset:
        """So many passes, one after another; without end if `count` is None or negative.

        >>> import numtape as nt
        >>> len(nt.data.Dataset.range(5).repeat(3))
        15
        """
        count = -1 if count is None else max(_integer("repeat", "count", count), -1)
        return Dataset(stages.Repeat(self._stage, count) if count else stages.Take(self._stage, 0))

    def take(self, count: Any, name: str | None = None) -> Dataset:
        """The first `count` elements; all if it is negative.

        >>> import numtape as nt
        >>> list(nt.data.Dataset.range(5).take(2).as_numpy_iterator())
        [np.int64(0), np.int64(1)]
        """
        count = _integer("take", "count", count)
        return Dataset(stages.Take(self._stage, count)) if count >= 0 else self

    def skip(self, count: Any, name: str | None = None) -> Dataset:
        """All but the first `count` elements; none if it is negative.

        >>> import numtape as nt
        >>> list(nt.data.Dataset.range(5).skip(3).as_numpy_iterator())
        [np.int64(3), np.int64(4)]
        """
        count = _integer("skip", "count", count)
        return Dataset(stages.Skip(self._stage, count) if count >= 0 else stages.Take(self._stage, 0))

    def shard(self, num_shards: Any, index: Any, name: str | None = None) -> Dataset:
        """Every `num_shards`-th element, from number `index` on.

        >>> import numtape as nt
        >>> list(nt.data.Dataset.range(5).shard(2, 1).as_numpy_iterator())
        [np.int64(1), np.int64(3)]
        """
        num_shards, index = _positive("shard", "num_shards", num_shards), _integer("shard", "index", index)
        if not 0 <= index < num_shards:
            raise ValueError(f"Dataset.shard: index {index} is not one of {num_shards} shards, 0 to {num_shards - 1}")
        return Dataset(stages.Shard(self._stage, num_shards, index))

    def concatenate(self, dataset: Dataset, name: str | None = None) -> Dataset:
        """These elements, then those of another dataset, which are of the same structure and dtypes.

        >>> import numtape as nt
        >>> len(nt.data.Dataset.range(3).concatenate(nt.data.Dataset.range(2)))
        5
        """
        stage = stages.Concatenate((self._stage, dataset._stage))
        if not any(isinstance(s, stages.Map) for s in stages.walk(stage)):  # else it is found out later
            try:
                stages.element_spec(stage)
            except (TypeError, ValueError):
                raise TypeError(
                    f"Dataset.concatenate: elements of {self.element_spec} and {dataset.element_spec} differ"
                ) from None
        return Dataset(stage)

    # ---- batches ---------------------------------------------------------------------------------------------------

    def batch(
        self,
        batch_size: Any,
        drop_remainder: bool = False,
        num_parallel_calls: Any = None,
        deterministic: bool | None = None,
        name: str | None = None,
    ) -> Dataset:
        """Elements, `batch_size` at a time, stacked along a new first axis; the last batch may be smaller.

        With `drop_remainder` a smaller one is left out. ValueError where the elements of a batch differ in shape,
        TypeError if they do in dtype. `num_parallel_calls` and `deterministic` are for TensorFlow, and change nothing.

        >>> import numtape as nt
        >>> list(nt.data.Dataset.range(5).batch(3).as_numpy_iterator())
        [array([0, 1, 2]), array([3, 4])]
        """
        return Dataset(stages.Batch(self._stage, _positive("batch", "batch_size", batch_size), bool(drop_remainder)))

    def unbatch(self, name: str | None = None) -> Dataset:
        """The rows of each element, one after another.

        >>> import numtape as nt
        >>> len(list(nt.data.Dataset.range(5).batch(3).unbatch()))
        5
        """
        return Dataset(stages.Unbatch(self._stage))

    # ---- functions of elements -------------------------------------------------------------------------------------

    def map(
        self,
        map_func: Callable[..., Any],
        num_parallel_calls: Any = None,
        deterministic: bool | None = None,
        name: str | None = None,
    ) -> Dataset:
        """What a function makes of each element; the items of a tuple are its arguments.

        The function is called when an element is asked for, and no tape records it, not even one in whose block that
        happens. A list that it returns is a tuple. `num_parallel_calls` and `deterministic` are for TensorFlow, and
        change nothing: elements are computed one after another, in order. To compute them beside what the caller does,
        end with `prefetch`; to have few calls, `batch` before `map`.

        >>> import numtape as nt
        >>> list(nt.data.Dataset.range(3).map(lambda n: n * n).as_numpy_iterator())
        [np.int64(0), np.int64(1), np.int64(4)]
        """
        return Dataset(stages.Map(self._stage, _callable("map", map_func)))

    def filter(self, predicate: Callable[..., Any], name: str | None = None) -> Dataset:
        """The elements for which a function returns True; the items of a tuple are its arguments.

        ValueError if it returns anything but one bool.

        >>> import numtape as nt
        >>> list(nt.data.Dataset.range(5).filter(lambda n: n % 2 == 0).as_numpy_iterator())
        [np.int64(0), np.int64(2), np.int64(4)]
        """
        return Dataset(stages.Filter(self._stage, _callable("filter", predicate)))

    def enumerate(self, start: Any = 0, name: str | None = None) -> Dataset:
        """Pairs of a number, from `start` on, and an element.

        >>> import numtape as nt
        >>> list(nt.data.Dataset.from_tensor_slices([7, 8]).enumerate().as_numpy_iterator())
        [(np.int64(0), np.int32(7)), (np.int64(1), np.int32(8))]
        """
        first = _integer("enumerate", "start", start)
        return Dataset(_zipped((None, None), [_ramp(range(first, int64.max), int64), self._stage]))

    def reduce(self, initial_state: Any, reduce_func: Callable[[Any, Any], Any], name: str | None = None) -> Any:
        """What is left of `state = reduce_func(state, element)` after the last element.

        An element that is a tuple is one argument. TypeError unless the state keeps its structure and dtypes.

        >>> import numtape as nt
        >>> nt.data.Dataset.range(5).reduce(np.int64(0), lambda total, n: total + n).numpy()
        np.int64(10)
        """
        apart = Apart()
        state = apart.call(lambda: initial_state)
        for element in self:
            found = apart.call(reduce_func, state, element)
            try:
                nest.assert_same_structure(state, found)
                same = all(a.dtype is b.dtype for a, b in zip(nest.flatten(state), nest.flatten(found), strict=True))
            except (TypeError, ValueError):
                same = False
            if not same:
                raise TypeError(
                    f"Dataset.reduce: the new state {found!r} does not have the structure and dtypes of {state!r}"
                )
            state = found
        return state

    def apply(self, transformation_func: Callable[[Dataset], Dataset]) -> Dataset:
        """What a function makes of this dataset.

        >>> import numtape as nt
        >>> len(nt.data.Dataset.range(5).apply(lambda dataset: dataset.batch(2)))
        3
        """
        return transformation_func(self)

    # ---- when ------------------------------------------------------------------------------------------------------

    def cache(self, filename: str = "") -> Dataset:
        """Keep what the first full pass gives in memory, and give the same in later passes.

        Only in memory: ValueError for a `filename`.

        >>> import numtape as nt
        >>> dataset = nt.data.Dataset.range(3).map(lambda n: print("computed") or n).cache()
        >>> len(list(dataset)), len(list(dataset))
        computed
        computed
        computed
        (3, 3)
        """
        if filename:
            raise ValueError(f"Dataset.cache: elements are kept in memory, not in files such as {filename!r}")
        return Dataset(stages.Cache(self._stage))

    def prefetch(self, buffer_size: Any, name: str | None = None) -> Dataset:
        """Compute up to `buffer_size` elements ahead, in a thread; `nt.data.AUTOTUNE` chooses how many.

        An exception there is raised where the element would have come. Elements that no function of yours computes are
        ready sooner than a thread could hand them over, and are made when they are asked for.

        >>> import numtape as nt
        >>> list(nt.data.Dataset.range(3).map(lambda n: n * n).prefetch(1).as_numpy_iterator())
        [np.int64(0), np.int64(1), np.int64(4)]
        """
        size = _integer("prefetch", "buffer_size", buffer_size)
        if size < AUTOTUNE:
            raise ValueError(f"Dataset.prefetch: buffer_size is a count, or nt.data.AUTOTUNE, not {size}")
        return Dataset(stages.Prefetch(self._stage, _PREFETCHED if size == AUTOTUNE else size)) if size else self

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def element_spec(self) -> Any:
        """A `TensorSpec` in each place of an element; functions given to `map` are called with ones to find out.

        >>> import numtape as nt
        >>> nt.data.Dataset.range(5).batch(3).element_spec
        TensorSpec(shape=(None,), dtype=nt.int64, name=None)
        """
        return stages.element_spec(self._stage)

    def cardinality(self, name: str | None = None) -> Tensor:
        """The number of elements; `nt.data.INFINITE_CARDINALITY`, or `UNKNOWN_CARDINALITY` before they are counted.

        >>> import numtape as nt
        >>> nt.data.Dataset.range(5).batch(3).cardinality().numpy()
        np.int64(2)
        """
        return from_numpy(np.int64(stages.cardinality(self._stage)))  # type: ignore[arg-type]

    def __len__(self) -> int:
        count = stages.cardinality(self._stage)
        if count < 0:
            raise TypeError(f"the number of elements is {'infinite' if count == INFINITE else 'unknown'}")
        return count

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Any:
        """The elements; in a loop of an `nt.function` a few batches of a table may stand for all."""
        recorder = STATE.trace.recorder
        found = None if recorder is None else recorded(self._stage, recorder)
        return Iterator(self._stage) if found is None else found

    def as_numpy_iterator(self) -> Any:
        """The elements with NumPy arrays and numbers in place of tensors.

        >>> import numtape as nt
        >>> list(nt.data.Dataset.range(2).as_numpy_iterator())
        [np.int64(0), np.int64(1)]
        """
        return (nest.map_structure(Tensor.numpy, element) for element in self)

    def __repr__(self) -> str:
        return f"<nt.data.Dataset: {stages.describe(self._stage)}>"


def _tensors(name: str, structure: Any) -> Any:
    found = Apart().call(lambda: structure)
    if not nest.flatten(found):
        raise ValueError(f"Dataset.{name}: there is nothing in {structure!r}")
    return found


def _places(structure: Any) -> Any:
    return nest.map_structure(lambda leaf: None, structure)


def _ramp(numbers: range, dtype: DType) -> Rows:
    return Rows(None, (Ramp(numbers, dtype),), max(-(-(numbers.stop - numbers.start) // numbers.step), 0))


def _zipped(structure: Any, sources: list[Stage]) -> Stage:
    """Sources side by side: of arrays in memory a table again."""
    if not all(isinstance(source, Rows) for source in sources):
        return stages.Zip(structure, tuple(sources))
    tables: Any = sources
    whole = nest.pack_sequence_as(structure, [table.structure for table in tables])
    return Rows(whole, tuple(c for table in tables for c in table.columns), min(table.count for table in tables))


def _integer(method: str, what: str, number: Any) -> int:
    return integer(f"Dataset.{method}", what, freeze(number))


def _positive(method: str, what: str, number: Any) -> int:
    count = _integer(method, what, number)
    if count < 1:
        raise ValueError(f"Dataset.{method}: {what} is at least 1, not {count}")
    return count


def _callable(method: str, function: Any) -> Any:
    if not callable(function):
        raise TypeError(f"Dataset.{method}: a function is expected, not {function!r}")
    return function
