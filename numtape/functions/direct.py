"""Calling a recording without recording the call: native calls that read their inputs and write their results.

That is for calls where no tape records. A function in which Python looks at nothing is one native call; else there is
one for each segment, up to the look, whose value tells the next. A segment computes what its look needs, and keeps what
others need of that; only the last writes anything that is seen from outside, so that a way may end where something new
is seen. A Variable whose value nobody else holds keeps its buffer there, and is changed in place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from sys import getrefcount
from typing import Any

from numtape import nest
from numtape.backends.buffer import ALONE_IN_MAP, Buffer
from numtape.backends.native import Executable, chooser
from numtape.cache.statistics import COUNTERS
from numtape.functions.recording import UNKNOWN, Argument, Array, Drawn, Output, OutputRows, Segment, passed, wanted
from numtape.ir.program import INPUT
from numtape.ops.random import DRAWS, STREAMS
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.lower import lower
from numtape.tape.pack import Pack
from numtape.tape.tensor import EPOCH, Tensor, buffer_of, from_numpy
from numtape.tape.trace import RAN, Announced
from numtape.tape.variable import Variable

_HELD_ONCE = ALONE_IN_MAP + 1
"""What `map(getrefcount, things)` says of a thing that, beside the list, one other holds."""
_value_of, _data_of = attrgetter("_value"), attrgetter("_data")


def begin(root: Segment, turn: threading.RLock) -> Direct:
    """The root of a tree of segments, ready to be called; `turn` is what calls that change Variables wait for."""
    steps = [Direct(root, {})]
    for step in steps:
        for seen, segment in step.segment.following.items():
            step.following[seen] = following = Direct(segment, step.new_parts)
            steps.append(following)
    first = steps[0]
    if any(step.segment.assigned or step.segment.packed for step in steps):
        first.turn = turn
    if first.look is None:
        first.compile([first])
    return first


class Direct:
    """A segment as a program with places to read from and to write to, which is made when it is first needed.

    Its inputs come from a pool, to which each segment of a way adds in turn: arguments, Variables, what is captured,
    packs, then what its program gives.
    """

    is_compiled = False
    place: dict[int, int]
    """Where each slot is among the results."""

    def __init__(self, segment: Segment, new_parts: Mapping[int, tuple[int, ...]]) -> None:
        """`new_parts` are the slots of packs, by their identity, that the way has assigned before."""
        self.segment = segment
        self.passed = passed(segment, new_parts)
        self.new_parts = {**new_parts, **{id(pack): slots for pack, slots in segment.packed}}
        self.look = segment.look
        self.following: dict[Any, Direct] = {}
        self.kept = sorted(segment.kept)
        """As of now: later recordings may ask for more."""
        self.turn: threading.RLock | None = None
        """Who calls from several threads takes turns where Variables change, so that no change is lost."""
        known = {slot for slot, _ in self.passed}
        sources = [(slot, s) for slot, s in segment.sources if slot not in known]
        given = [(slot, s) for slot, s in sources if isinstance(s, Argument)]
        read = [(slot, s) for slot, s in sources if isinstance(s, Variable)]
        captured = [(slot, s) for slot, s in sources if not isinstance(s, Argument | Variable)]
        self.arguments = [argument.number for _, argument in given]
        self.variables = [variable for _, variable in read]
        self.captured: list[Any] = [source for _, source in captured]
        self.packs = [(pack, slots) for pack, slots in segment.packs if id(pack) not in new_parts]
        self.taken = [slot for slot, _ in [*given, *read, *captured]]
        self.taken += [slot for _, slots in self.packs for slot in slots]
        """The slots of what is read."""
        self._numbers = segment.fresh
        self.has_live_numbers = any(callable(x) and not isinstance(x, Announced) for x in segment.fresh)
        self.result = segment.result

    def compile(self, way: Sequence[Direct]) -> None:
        """Make the program, for the end of this way."""
        segment, look = self.segment, self.look
        goal = tuple(wanted([step.segment for step in way]) if look is None else dict.fromkeys([look.slot, *self.kept]))
        assert segment.provenance is not None
        node = segment.provenance.node
        lowered = segment.program
        if lowered is None or lowered.outputs != goal:
            known = frozenset(slot for step in way[:-1] for slot in step.kept)
            equal = {slot: other for step in way for slot, other in step.segment.equal.items()}
            lowered = lower(node.path(), goal, known, equal)
            if look is not None:  # what follows may be unknown, and Variables then are to be what they were
                lowered.program = replace(lowered.program, donations=())
            segment.program = lowered
        self.executable: Executable = lowered.executable or lowered.compile()
        self.ran = lowered, *segment.provenance
        pool: list[int] = []
        for step in way:
            pool += step.taken
            if step is not self:
                pool += step.place
        at = {slot: k for k, slot in enumerate(pool)}
        for step in way:
            at.update((slot, at[old]) for slot, old in step.passed)
        inputs = {i.attributes[0]: slot for slot, i in enumerate(node.recorded()) if i.op is INPUT}
        slots = [*(inputs[k] for k in lowered.arrays), *lowered.known]
        self.sources = [at[slot] for slot in slots]
        """Which of the pool each of the program's arrays is."""
        self.choose_arrays: Callable[[Sequence[Any]], tuple[Buffer, ...]] = chooser(self.sources)
        self.words = self.executable.choose(range(self.executable.row_words))
        """For each result the word of a binding's row that says where it is, or is it."""
        self._chosen_numbers = lowered.scalars
        self.place = place = {slot: k for k, slot in enumerate(goal)}
        self.assigned: list[tuple[Variable, int]] = []
        self.packed: list[tuple[Pack, list[int]]] = []
        if look is None:
            news = {id(v): (v, slot) for step in way for v, slot, _ in step.segment.assigned}
            self.assigned = [(v, place[slot]) for v, slot in news.values()]
            parts = {id(pack): (pack, slots) for step in way for pack, slots in step.segment.packed}
            self.packed = [(pack, [place[slot] for slot in slots]) for pack, slots in parts.values()]
        # Which Variables a program may change in place: their handles have to be their own, too.
        read = {slot: s for step in way for slot, s in step.segment.sources if isinstance(s, Variable)}
        members = {s: (p, k) for step in way for p, slots in step.packs for k, s in enumerate(slots)}
        donated = self.executable.donated
        self.donated = [(k, read[slots[k]]) for k in donated if slots[k] in read]
        self.changed = [variable for _, variable in self.donated]
        self.donated_parts = [(k, *members[slots[k]]) for k in donated if slots[k] in members]
        self.is_compiled = True

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
        step = self
        if self.look is None:
            arrays, scalars = self.gather(tensors)
        else:
            last = self._arrive(tensors)
            if last is None:
                return UNKNOWN
            step, arrays, scalars = last
        executable = step.executable
        binding, found = executable.prepare(arrays, scalars)
        COUNTERS.memory_hits += 1
        RAN[0] = step.ran
        try:
            executable.entry(binding.header_address)
        finally:
            # An interrupt shows up behind the native call, when what is changed in place has changed.
            for variable, k in step.assigned:
                if variable._value._data is not found[k]:
                    variable._value = Tensor(variable._type, found[k])
                    EPOCH[0] += 1
            for pack, places in step.packed:
                buffers = [found[k] for k in places]
                EPOCH[0] += buffers != pack.buffers  # these compare by identity
                pack.buffers = buffers
        executable.idle.append(binding)
        result = step.result
        if type(result) is Output:
            return step._give(found, tensors, result)
        # Not a function within this one: a cycle of references would keep the buffers.
        return nest.map_structure(partial(step._give, found, tensors), result)

    def _arrive(self, tensors: Sequence[Tensor]) -> tuple[Direct, list[Buffer], list[Any]] | None:
        """Go from look to look: the last segment with its inputs, or None where something new is seen. Nothing of that
        can be seen from outside but what was drawn, which is put back unless there is a last."""
        pool: list[Buffer] = []
        numbers: list[Any] = []
        drawn: list[Callable[[], None]] = []
        heard, DRAWS.heard = DRAWS.heard, []
        draws = DRAWS.heard
        way = [self]
        last = None
        try:
            while True:
                step = way[-1]
                if not step.is_compiled:
                    step.compile(way)
                if step.look is None:
                    last = step, *step.gather(tensors, False, pool, numbers, drawn)
                    break
                first = len(pool) + len(step.taken)
                # Whatever had a name here would not be changed in place.
                pool += step.executable(*step.gather(tensors, False, pool, numbers, drawn))
                COUNTERS.memory_hits += 1
                following = step.following.get(step.look.view(pool[first].array))
                if following is None:
                    break
                way.append(following)
        finally:
            DRAWS.heard = heard
            if last is None:
                STREAMS.put_back(draws)
                for put_back in reversed(drawn):
                    put_back()
            elif heard is not None:
                heard += draws
        if last is not None:
            for step in way:
                step.segment.count += 1
        return last

    def gather(
        self,
        tensors: Sequence[Tensor],
        bound: bool = False,
        known: list[Any] | None = None,
        numbers: list[Any] | None = None,
        drawn: list[Callable[[], None]] | None = None,
    ) -> tuple[list[Buffer], list[Any]]:
        """The inputs of a call, arrays and numbers; what is changed in place and somebody else holds is a copy.

        So is an array that the function captured, unless the inputs are to be bound. `known` and `numbers` are what
        earlier segments had, and get what this one has; `drawn` gets what puts back the arrays that were made.
        """
        handles = [*map(_value_of, self.variables)]
        pool: list[Any] = [tensors[k]._data for k in self.arguments]
        pool += map(_data_of, handles)
        for c in self.captured:
            if isinstance(c, Drawn):
                array, put_back = c.draw()
                pool.append(from_numpy(array)._data)
                if drawn is not None:
                    drawn.append(put_back)
            else:
                pool.append(c._data if isinstance(c, Tensor) else (bound and c.buffer) or c.tensor()._data)
        for pack, slots in self.packs:
            pack.wait()
            pool += pack.buffers[: len(slots)]
        if None in pool:
            pool = self._waited(tensors, handles, pool)
        if known is not None:
            known += pool
            pool = known
        arrays = [*self.choose_arrays(pool)]
        donated = self.executable.donated
        if donated:
            pool.clear()
            handles = [*map(_value_of, self.changed)]
            counts = [*map(getrefcount, arrays)]
            holders = [*map(getrefcount, handles)]
            for n, (k, _) in enumerate(self.donated):
                if holders[n] != _HELD_ONCE or handles[n]._data is not arrays[k]:
                    counts[k] = 0
            for k in donated:
                if counts[k] != _HELD_ONCE:
                    arrays[k] = arrays[k].copy()
        return arrays, self.numbers(numbers)

    def numbers(self, before: list[Any] | None = None) -> list[Any]:
        """The Python numbers of a call; `before` are those of earlier segments, and get these."""
        numbers = [x for given in self._numbers for x in (given() if callable(given) else given)]
        if before is not None:
            before += numbers
            numbers = before
        return numbers if self._chosen_numbers is None else [numbers[k] for k in self._chosen_numbers]

    def keep(self, arrays: Sequence[Buffer]) -> None:
        """Make the inputs that a program changes in place the values of Variables and packs, copies included."""
        for k, variable in self.donated:
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
