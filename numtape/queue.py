"""Queues of tensors between threads, blocking as TensorFlow's do: what comes out has no history.

A queue holds elements, each a tuple of one tensor for each component. Adding waits while the queue is full, and taking
while it has too few elements; `close` ends the waiting.
"""

from __future__ import annotations

import heapq
import itertools
import sys
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from numtape._front import front
from numtape.data.elements import array_of, stack
from numtape.data.orders import Draws, stream_of
from numtape.dtypes import DType, as_dtype, int64
from numtape.errors import CancelledError, OutOfRangeError
from numtape.ops.core import freeze
from numtape.ops.rearrange import integer
from numtape.tape.apart import Apart
from numtape.tape.operands import as_tensor
from numtape.tape.spec import TensorSpec
from numtape.tape.tensor import Tensor, from_numpy
from numtape.tape.trace import refuse_recording

__all__ = ["FIFOQueue", "PriorityQueue", "QueueBase", "RandomShuffleQueue"]
__getattr__, __dir__ = front(__name__, __all__)

Element = tuple[Tensor, ...]


class QueueBase:
    """What all queues have in common; they differ in which element they give next."""

    _least = 0
    """So many elements stay, unless the queue is closed."""

    def __init__(self, capacity: Any, dtypes: Any, shapes: Any, names: Any, name: str) -> None:
        self._name = name
        capacity = integer(name, "capacity", freeze(capacity))
        if not capacity:
            raise ValueError(f"{name}: a capacity of 0 has room for nothing; a negative one has no limit")
        self._capacity = capacity if capacity > 0 else sys.maxsize
        kinds = [as_dtype(d) for d in _listed(dtypes)]
        self._specs = [TensorSpec(s, d) for s, d in zip(_shapes(name, shapes, len(kinds)), kinds, strict=True)]
        self._names = None if names is None else _listed(names)
        if self._names is not None and len(self._names) != len(kinds):
            raise ValueError(f"{name}: {len(self._names)} names were given for {len(kinds)} dtypes")
        self._adding, self._taking = threading.Lock(), threading.Lock()
        """First come, first served, also where several elements are added or taken."""
        self._changed = threading.Condition()
        self._closed = self._cancelled = False
        self._pending = 0
        """Elements that threads wait to add."""

    def _put(self, element: Element) -> None:
        raise NotImplementedError

    def _get(self) -> Element:
        raise NotImplementedError

    def _count(self) -> int:
        raise NotImplementedError

    # ---- adding ----------------------------------------------------------------------------------------------------

    def enqueue(self, vals: Any, name: str | None = None) -> None:
        """Add an element: a tensor, a list with one for each component, or a dict if the queue has names.

        Waits while the queue is full; `nt.errors.CancelledError` if it is closed. Numbers and arrays are converted to
        the dtypes; TypeError where they are of another kind, ValueError where a tensor's dtype or a shape differs.
        """
        self._add([self._checked(self._components(vals))])

    def enqueue_many(self, vals: Any, name: str | None = None) -> None:
        """Add an element for each row of values, which are as for `enqueue` but for one more axis in front."""
        columns = self._components(vals)
        arrays = [array_of(column) for column in columns]
        lengths = {array.shape[0] if array.ndim else None for array in arrays}
        if len(lengths) > 1 or None in lengths:
            shapes = [array.shape for array in arrays]
            raise ValueError(f"{self._name}: components of shapes {shapes} have no first axis in common")
        self._add([self._checked(tuple(from_numpy(a[row]) for a in arrays)) for row in range(arrays[0].shape[0])])

    def _add(self, elements: list[Element]) -> None:
        refuse_recording()
        with self._changed:
            if self._closed:
                raise CancelledError(f"{self._name} is closed, and takes no more elements")
            self._pending += len(elements)
        left = len(elements)
        try:
            with self._adding, self._changed:
                for element in elements:
                    while self._count() >= self._capacity and not self._cancelled:
                        self._changed.wait()
                    if self._cancelled:
                        raise CancelledError(f"{self._name} was closed while an element waited to be added")
                    self._put(element)
                    self._pending -= 1
                    left -= 1
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._pending -= left
                self._changed.notify_all()

    def _components(self, vals: Any) -> Element:
        if self._names is not None:
            if not isinstance(vals, Mapping) or set(vals) != set(self._names):
                raise ValueError(f"{self._name} takes a dict with the keys {self._names}, not {vals!r}")
            listed = [vals[key] for key in self._names]
        elif isinstance(vals, Mapping):
            raise ValueError(f"{self._name} has no names: it takes a tensor or a list, not a dict")
        else:
            listed = _listed(vals)
        if len(listed) != len(self._specs):
            raise ValueError(f"{self._name} has {len(self._specs)} components, but {len(listed)} values were given")
        found: Element = Apart().call(lambda: tuple(map(as_tensor, listed, self.dtypes)))
        return found

    def _checked(self, element: Element) -> Element:
        for tensor, spec in zip(element, self._specs, strict=True):
            if not spec.is_compatible_with(tensor):
                raise ValueError(f"{self._name}: {tensor.dtype.name}{list(tensor.shape)} was given for {spec}")
        return element

    # ---- taking ----------------------------------------------------------------------------------------------------

    def dequeue(self, name: str | None = None) -> Any:
        """Take the next element: a tensor, a list with one for each component, or a dict if the queue has names.

        Waits while there is none; `nt.errors.OutOfRangeError` if the queue is closed and none will come.
        """
        (element,) = self._taken(1, False)
        return self._given(list(element))

    def dequeue_many(self, n: Any, name: str | None = None) -> Any:
        """Take `n` elements at once, stacked along a new first axis; needs `shapes`.

        Waits until there are so many; `nt.errors.OutOfRangeError`, and all stay, if the queue is closed with fewer.
        """
        return self._several(n, False)

    def dequeue_up_to(self, n: Any, name: str | None = None) -> Any:
        """As `dequeue_many`, but what is left if the queue is closed with fewer than `n` elements, and not empty."""
        return self._several(n, True)

    def _several(self, n: Any, fewer: bool) -> Any:
        n = integer(self._name, "n", freeze(n))
        if any(spec.shape is None for spec in self._specs):
            raise ValueError(f"{self._name}: elements are stacked only if the queue was made with shapes")
        most = self._capacity - self._least
        if not 0 <= n <= most:
            raise ValueError(f"{self._name}: {n} elements are never there to be taken at once; up to {most} are")
        if not n:
            empty = [np.empty((0, *spec.shape), spec.dtype.dtype) for spec in self._specs]  # type: ignore[misc]
            return self._given([from_numpy(array) for array in empty])
        return self._given([stack(column, k) for k, column in enumerate(zip(*self._taken(n, fewer), strict=True))])

    def _taken(self, n: int, fewer: bool) -> list[Element]:
        refuse_recording()
        with self._taking, self._changed:
            while self._count() < n + (0 if self._closed else self._least) and not self._ended():
                self._changed.wait()
            count = self._count()
            if count < n and not (fewer and count):
                raise OutOfRangeError(f"{self._name} is closed, and has {count} elements where {n} are asked for")
            found = [self._get() for _ in range(min(n, count))]
            self._changed.notify_all()
        return found

    def _ended(self) -> bool:
        return self._closed and not self._pending

    def _given(self, tensors: list[Tensor]) -> Any:
        if self._names is not None:
            return dict(zip(self._names, tensors, strict=True))
        return tensors if len(tensors) > 1 else tensors[0]

    # ---- what it is ------------------------------------------------------------------------------------------------

    def close(self, cancel_pending_enqueues: bool = False, name: str | None = None) -> None:
        """Take no more elements; those that wait to be added still are, unless cancelled.

        What is there can still be taken.
        """
        refuse_recording()
        with self._changed:
            self._closed = True
            self._cancelled = self._cancelled or cancel_pending_enqueues
            self._changed.notify_all()

    def is_closed(self, name: str | None = None) -> Tensor:
        refuse_recording()
        return from_numpy(np.bool_(self._closed))  # type: ignore[arg-type]

    def size(self, name: str | None = None) -> Tensor:
        """How many elements there are."""
        refuse_recording()
        with self._changed:
            return from_numpy(np.int32(self._count()))  # type: ignore[arg-type]

    @property
    def dtypes(self) -> list[DType]:
        return [spec.dtype for spec in self._specs]

    @property
    def shapes(self) -> list[Any]:
        return [spec.shape for spec in self._specs]

    @property
    def names(self) -> list[str] | None:
        return self._names

    @property
    def name(self) -> str:
        return self._name

    def __repr__(self) -> str:
        limit = "no limit" if self._capacity == sys.maxsize else f"capacity {self._capacity}"
        state = "closed" if self._closed else "open"
        return f"<nt.queue.{type(self).__name__} {self._name!r}: {self._count()} elements, {limit}, {state}>"


class FIFOQueue(QueueBase):
    """Gives elements in the order in which they came.

    `capacity` is how many there may be (no limit if it is negative), `dtypes` one or a list with one for each
    component, `shapes` likewise, `names` what the components are called in dicts.

    >>> import numtape as nt
    >>> queue = nt.queue.FIFOQueue(10, nt.float32, shapes=[()])
    >>> queue.enqueue(1.0)
    >>> queue.enqueue_many([[2.0, 3.0]])
    >>> queue.dequeue().numpy(), queue.dequeue_many(2).numpy()
    (np.float32(1.0), array([2., 3.], dtype=float32))
    """

    def __init__(
        self,
        capacity: Any,
        dtypes: Any,
        shapes: Any = None,
        names: Any = None,
        shared_name: str | None = None,
        name: str = "fifo_queue",
    ) -> None:
        super().__init__(capacity, dtypes, shapes, names, name)
        self._elements: deque[Element] = deque()

    def _put(self, element: Element) -> None:
        self._elements.append(element)

    def _get(self) -> Element:
        return self._elements.popleft()

    def _count(self) -> int:
        return len(self._elements)


class RandomShuffleQueue(QueueBase):
    """Gives elements in random order, which is a function of `seed` and `nt.random.set_seed`.

    At least `min_after_dequeue` elements stay, so that each is chosen among more than one, until the queue is closed.

    >>> import numtape as nt
    >>> queue = nt.queue.RandomShuffleQueue(10, 0, nt.int32, shapes=[()], seed=1)
    >>> queue.enqueue_many([[1, 2, 3]])
    >>> sorted(queue.dequeue_many(3).numpy().tolist())
    [1, 2, 3]
    """

    def __init__(
        self,
        capacity: Any,
        min_after_dequeue: Any,
        dtypes: Any,
        shapes: Any = None,
        names: Any = None,
        seed: Any = None,
        shared_name: str | None = None,
        name: str = "random_shuffle_queue",
    ) -> None:
        super().__init__(capacity, dtypes, shapes, names, name)
        self._least = integer(name, "min_after_dequeue", freeze(min_after_dequeue))
        if not 0 <= self._least < self._capacity:
            raise ValueError(f"{name}: min_after_dequeue is from 0 to below the capacity, not {self._least}")
        self._elements: list[Element] = []
        self._draws = Draws(stream_of(name, seed), 0, 1 << 31)
        self._steps = 0

    def _put(self, element: Element) -> None:
        self._elements.append(element)

    def _get(self) -> Element:
        elements = self._elements
        chosen = self._draws.below(self._steps, len(elements))
        self._steps += 1
        elements[chosen], elements[-1] = elements[-1], elements[chosen]
        return elements.pop()

    def _count(self) -> int:
        return len(self._elements)


class PriorityQueue(QueueBase):
    """Gives the element with the least first component, an int64, which comes before those of `types`.

    Those with the same come in the order in which they were added.

    >>> import numtape as nt
    >>> queue = nt.queue.PriorityQueue(10, nt.float32)
    >>> queue.enqueue([5, 0.5])
    >>> queue.enqueue([2, 0.2])
    >>> [component.numpy() for component in queue.dequeue()]
    [np.int64(2), np.float32(0.2)]
    """

    def __init__(
        self,
        capacity: Any,
        types: Any,
        shapes: Any = None,
        names: Any = None,
        shared_name: str | None = None,
        name: str = "priority_queue",
    ) -> None:
        types = _listed(types)
        rest = _shapes(name, shapes, len(types))
        super().__init__(capacity, [int64, *types], [(), *rest], names, name)
        self._heap: list[tuple[int, int, Element]] = []
        self._order = itertools.count()

    def _put(self, element: Element) -> None:
        heapq.heappush(self._heap, (int(element[0]), next(self._order), element))

    def _get(self) -> Element:
        return heapq.heappop(self._heap)[-1]

    def _count(self) -> int:
        return len(self._heap)


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values]


def _shapes(name: str, shapes: Any, count: int) -> list[Any]:
    """A shape, or None, for each component; a list of integers is one shape."""
    if shapes is None:
        return [None] * count
    listed = [shapes] if all(isinstance(n, int) for n in shapes) else list(shapes)
    if len(listed) != count:
        raise ValueError(f"{name}: {len(listed)} shapes were given for {count} dtypes")
    return listed
