"""Calling a recording without recording the call: one native call that reads its inputs and writes its results.

That is for a function in which Python looks at nothing, where no tape records. A Variable whose value nobody else holds
keeps its buffer, and is changed in place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from sys import getrefcount
from typing import Any

from numtape import nest
from numtape.backends.buffer import ALONE_IN_MAP, Buffer
from numtape.backends.native import chooser
from numtape.cache.statistics import COUNTERS
from numtape.functions.recording import Argument, Array, Drawn, Output, OutputRows, Segment
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.lower import lower
from numtape.tape.tensor import EPOCH, Tensor, buffer_of
from numtape.tape.trace import RAN, Node
from numtape.tape.variable import Variable

_HELD_ONCE = ALONE_IN_MAP + 1
"""What `map(getrefcount, things)` says of a thing that, beside the list, one other holds."""
_value_of, _data_of = attrgetter("_value"), attrgetter("_data")


class Direct:
    """A segment that is all of a function, as a program with places to read from and to write to."""

    def __init__(self, node: Node, segment: Segment) -> None:
        """The segment, and where in the trie its recording ended."""
        inputs = {slot: i.attributes[0] for slot, i in enumerate(node.recorded()) if not i.operands}
        outputs = [output for output in segment.outputs if output.given is None]
        wanted = list(dict.fromkeys([
            *[output.slot for output in outputs],
            *[slot for _, slot, _ in segment.assigned],
            *[slot for _, slots in segment.packed for slot in slots],
        ]))  # fmt: skip
        lowered = lower(node.path(), tuple(wanted), frozenset(), segment.equal)
        self.executable = lowered.compile()
        self.ran = lowered, *(segment.provenance or ())
        # Inputs come from a pool: arguments, Variables, what is captured, packs.
        given = [(slot, s) for slot, s in segment.sources if isinstance(s, Argument)]
        read = [(slot, s) for slot, s in segment.sources if isinstance(s, Variable)]
        captured = [(slot, s) for slot, s in segment.sources if not isinstance(s, Argument | Variable)]
        self.arguments = [argument.number for _, argument in given]
        self.variables = [variable for _, variable in read]
        self.captured: list[Any] = [source for _, source in captured]
        self.packs = [(pack, len(slots)) for pack, slots in segment.packs]
        pool = [slot for slot, _ in [*given, *read, *captured]]
        pool += [slot for _, slots in segment.packs for slot in slots]
        at = {inputs[slot]: k for k, slot in enumerate(pool)}
        self.sources = [at[k] for k in lowered.arrays]
        """Which of the pool each of the program's arrays is."""
        self.choose_arrays: Callable[[Sequence[Any]], tuple[Buffer, ...]] = chooser(self.sources)
        self.words = self.executable.choose(range(self.executable.row_words))
        """For each result the word of a binding's row that says where it is, or is it."""
        self._numbers = segment.fresh
        self.has_live_numbers = any(callable(numbers) for numbers in segment.fresh)
        self._chosen_numbers = lowered.scalars
        place = {slot: k for k, slot in enumerate(wanted)}
        self.assigned = [(v, place[slot]) for v, slot, _ in segment.assigned]
        self.packed = [(pack, [place[slot] for slot in slots]) for pack, slots in segment.packed]
        self.result = segment.result
        self.place = place
        self.turn = threading.RLock() if self.assigned or self.packed else None
        """Who calls from several threads takes turns where Variables change, so that no change is lost."""
        # Which of the pool's Variables a program may change in place: their handles have to be their own, too.
        first = len(self.arguments)
        mine = {k: k - first for k in range(first, first + len(self.variables))}
        chosen = {k: at[lowered.arrays[k]] for k in self.executable.donated}
        self.donated = [(k, mine[place]) for k, place in chosen.items() if place in mine]
        members = [(pack, number) for pack, count in self.packs for number in range(count)]
        parts = dict(enumerate(members, len(pool) - len(members)))
        self.donated_parts = [(k, *parts[place]) for k, place in chosen.items() if place in parts]

    @property
    def copies_arrays(self) -> bool:
        """Whether the function captured an array that no program can read where it is."""
        return any(isinstance(c, Array | Drawn) and c.buffer is None for c in self.captured)

    @property
    def in_place(self) -> bool:
        """Whether all that is assigned takes over the memory of the old value."""
        results = self.executable.plan.results
        places = [place for _, place in self.assigned] + [place for _, places in self.packed for place in places]
        return all(results[place][0] == "donated" for place in places)

    def __call__(self, tensors: Sequence[Tensor]) -> Any:
        if self.turn is None:
            return self._run(tensors)
        with self.turn:
            return self._run(tensors)

    def _run(self, tensors: Sequence[Tensor]) -> Any:
        arrays, scalars = self.gather(tensors)
        executable = self.executable
        binding, found = executable.prepare(arrays, scalars)
        COUNTERS.memory_hits += 1
        RAN[0] = self.ran
        try:
            executable.entry(binding.header_address)
        finally:
            # An interrupt shows up behind the native call, when what is changed in place has changed.
            for variable, k in self.assigned:
                if variable._value._data is not found[k]:
                    variable._value = Tensor(variable._type, found[k])
                    EPOCH[0] += 1
            for pack, places in self.packed:
                buffers = [found[k] for k in places]
                EPOCH[0] += buffers != pack.buffers  # these compare by identity
                pack.buffers = buffers
        executable.idle.append(binding)
        result = self.result
        if type(result) is Output:
            return self._give(found, tensors, result)
        # Not a function within this one: a cycle of references would keep the buffers.
        return nest.map_structure(partial(self._give, found, tensors), result)

    def gather(self, tensors: Sequence[Tensor], bound: bool = False) -> tuple[list[Buffer], list[Any]]:
        """The inputs of a call, arrays and numbers; what is changed in place and somebody else holds is a copy.

        So is an array that the function captured, unless the inputs are to be bound.
        """
        handles = [*map(_value_of, self.variables)]
        pool: list[Any] = [tensors[k]._data for k in self.arguments]
        pool += map(_data_of, handles)
        for c in self.captured:
            pool.append(c._data if isinstance(c, Tensor) else (bound and c.buffer) or c.tensor()._data)
        for pack, count in self.packs:
            pack.wait()
            pool += pack.buffers[:count]
        if None in pool:
            pool = self._waited(tensors, handles, pool)
        arrays = [*self.choose_arrays(pool)]
        del pool
        donated = self.executable.donated
        if donated:
            counts = [*map(getrefcount, arrays)]
            holders = [*map(getrefcount, handles)]
            for k in donated:
                if counts[k] != _HELD_ONCE:
                    arrays[k] = arrays[k].copy()
            for k, handle in self.donated:
                if holders[handle] != _HELD_ONCE:
                    arrays[k] = arrays[k].copy()
        return arrays, self.numbers()

    def numbers(self) -> list[Any]:
        """The Python numbers of a call."""
        numbers = [x for given in self._numbers for x in (given() if callable(given) else given)]
        return numbers if self._chosen_numbers is None else [numbers[k] for k in self._chosen_numbers]

    def keep(self, arrays: Sequence[Buffer]) -> None:
        """Make the inputs that a program changes in place the values of Variables and packs, copies included."""
        for k, number in self.donated:
            variable = self.variables[number]
            if variable._value._data is not arrays[k]:
                variable._value = Tensor(variable._type, arrays[k])
                EPOCH[0] += 1
        for k, pack, number in self.donated_parts:
            if pack.buffers[number] is not arrays[k]:
                pack.buffers[number] = arrays[k]
                EPOCH[0] += 1

    def _waited(self, tensors: Sequence[Tensor], handles: Sequence[Tensor], pool: list[Any]) -> list[Any]:
        """The pool, with what was pending computed."""
        ready = [buffer_of(tensors[k]) for k in self.arguments]
        ready += [buffer_of(handle) for handle in handles]
        ready += [b if b is not None else buffer_of(c) for b, c in zip(pool[len(ready) :], self.captured)]  # noqa: B905
        return ready + pool[len(ready) :]

    def _give(self, found: list[Buffer], tensors: Sequence[Tensor], leaf: Any) -> Any:
        """What stands for a leaf of the result."""
        if type(leaf) is Output:
            given = leaf.given
            if given is None:
                return Tensor(leaf.type, found[self.place[leaf.slot]])
            if isinstance(given, Argument):
                return Tensor(leaf.type, buffer_of(tensors[given.number]))
            return given
        if type(leaf) is OutputRows:
            values, indices = (self._give(found, tensors, part) for part in (leaf.values, leaf.indices))
            return IndexedSlices(values, indices, leaf.shape)
        return leaf
