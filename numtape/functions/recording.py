"""Recording a function: it runs once, on a trace of its own, and what it did becomes segments.

The run is a rehearsal: whatever it assigned is put back, and the call itself is the first replay. A segment ends where
Python looks at a value, in a branch or to compute with it; what was seen there decides which segment follows, so that
the recordings of one signature form a tree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import CodeType
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape import nest
from numtape.dtypes import TensorType
from numtape.ir.program import INPUT, Instruction
from numtape.ops.random import DRAWS, STREAMS
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.operands import as_tensor
from numtape.tape.pack import Pack
from numtape.tape.tensor import Tensor, buffer_of
from numtape.tape.trace import STATE, Trace
from numtape.tape.variable import Variable


@dataclass(frozen=True, slots=True, eq=False)
class Argument:
    """A tensor among the arguments, by its number."""

    number: int


Source = Argument | Variable | Tensor | npt.NDArray[Any]
"""Where an input comes from at each call: an argument; a Variable, at its value; a tensor, or an array as it is by
then, that the function captured."""


Numbers = tuple[Any, ...] | Callable[[], Sequence[Any]]
"""Python numbers of a recording, or what gives them anew at each call."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Python looked at a value: which, as what, what it saw, and where in the user's code."""

    slot: int
    view: Callable[[Any], Any]
    seen: Any
    code: CodeType
    lasti: int


@dataclass(slots=True, eq=False)
class Segment:
    """What is recorded between two looks."""

    sources: list[tuple[int, Source]] = field(default_factory=list)
    """Slots that come from outside."""
    numbers: list[tuple[int, TensorType]] = field(default_factory=list)
    """Slots of Python numbers, and `fresh` the numbers in their order."""
    fresh: list[Numbers] = field(default_factory=list)
    packs: list[tuple[Pack, tuple[int, ...]]] = field(default_factory=list)
    instructions: list[tuple[int, Instruction]] = field(default_factory=list)
    donations: list[tuple[int, int]] = field(default_factory=list)
    assigned: list[tuple[Variable, int, TensorType]] = field(default_factory=list)
    packed: list[tuple[Pack, tuple[int, ...]]] = field(default_factory=list)
    look: Look | None = None
    following: dict[Any, Segment] = field(default_factory=dict)
    """The next segment by what the look sees."""
    result: Any = None
    """At the end: what the function returned, with an `Output` for each tensor,"""
    outputs: list[Output] = field(default_factory=list)
    """and these in a row."""


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """A tensor in a function's result: a slot of the recording, or what is given as it is."""

    slot: int
    type: TensorType
    given: Source | None = None


@dataclass(frozen=True, slots=True, eq=False)
class OutputRows:
    """An `IndexedSlices` in a function's result."""

    values: Output
    indices: Output
    shape: Any


class Recorder:
    """Stands among the tapes while a function is recorded, and notes what a replay has to do again."""

    _detours: tuple[Any, ...] = ()
    _start = 0

    def __init__(self, creates: bool) -> None:
        self.creates = creates
        """Whether the function may create Variables."""
        self.created: list[Variable] = []
        self.trace = Trace()
        self.trace.holders = 1
        self.trace.recorder = self
        self.reads: dict[int, Variable] = {}
        self.before: dict[int, tuple[Variable, Tensor]] = {}
        self.packs_before: dict[int, tuple[Pack, Any]] = {}
        self.arrays: dict[int, npt.NDArray[Any]] = {}
        self.packs: list[tuple[int, Pack, int]] = []
        """The length at which a pack was taken in, and the number of its first input."""
        self.live: dict[int, tuple[int, Callable[[], Sequence[Any]]]] = {}
        """Numbers that are asked for anew at each call: from which on, how many, and how."""
        self.looks: list[tuple[int, Look, dict[int, int], list[tuple[Pack, tuple[int, ...]]]]] = []
        """Each look with the length, and the slots of assigned Variables and packs by then."""
        self.quiet = False

    # ---- what is told ----------------------------------------------------------------------------------------------

    def _note_read(self, variable: Variable, slot: int, now: int) -> None:
        self.reads.setdefault(slot, variable)

    def _forget_reads(self, end: int) -> None:
        self.reads = {slot: variable for slot, variable in self.reads.items() if slot < end}

    def note_array(self, tensor: Tensor, given: Any) -> None:
        """A tensor was made of something that may be an array, whose elements may differ at the next call."""
        if isinstance(given, np.ndarray):
            self.arrays[id(tensor)] = given

    def note_pack(self, pack: Pack) -> None:
        """A pack's values become inputs."""
        self.packs.append((self.trace.next_slot, pack, len(self.trace.inputs)))

    def note_assign(
        self, variables: Sequence[Variable], pack: Pack | None, live: Callable[[], Sequence[Any]] | None = None
    ) -> None:
        """Variables, and a pack, are about to get new values; `live` gives the last Python numbers anew."""
        for variable in variables:
            self.before.setdefault(id(variable), (variable, variable._value))
        if pack is not None:
            self.packs_before.setdefault(id(pack), (pack, pack.state()))
        if live is not None:
            start = self.trace.node.scalar_count
            self.live[start] = len(self.trace.scalars) - start, live

    def note_created(self, variable: Variable) -> None:
        if not self.creates:
            raise ValueError(
                "nt.function: a Variable is created here at a call that is not the first. Create it once, outside of "
                "the function, or keep it: `if self.v is None: self.v = nt.Variable(...)`"
            )
        self.created.append(variable)

    def look(self, tensor: Tensor, view: Callable[[Any], Any], code: CodeType, lasti: int) -> None:
        slot = self.trace.slot(tensor)
        if slot is None or self.quiet:
            return
        seen = view(buffer_of(tensor).array)
        look = Look(slot, view, seen, code, lasti)
        self.looks.append((self.trace.node.length, look, *self._assigned()))

    def _assigned(self) -> tuple[dict[int, int], list[tuple[Pack, tuple[int, ...]]]]:
        news = {key: v._value._slot for key, (v, _) in self.before.items()}
        return news, [(pack, pack.slots) for pack, _ in self.packs_before.values()]

    # ---- running ---------------------------------------------------------------------------------------------------

    def rehearse(self, call: Callable[[], Any], arguments: Sequence[Tensor]) -> list[Segment]:
        """Run the function and undo what it did; the segments of the way it went."""
        state = STATE
        outer = state.trace, state.tapes
        draws: list[Any] = []
        state.trace, state.tapes = self.trace, [self]
        heard, DRAWS.heard = DRAWS.heard, draws
        try:
            result = call()
            end = (self.trace.node.length, None, *self._assigned())
            segments = self._segments(arguments, draws, end, result)
        finally:
            DRAWS.heard = heard
            state.trace, state.tapes = outer
            self.trace.recorder = None
            self.trace.holders -= 1
        for variable, old in self.before.values():
            variable._value = old
        for pack, kept in self.packs_before.values():
            pack.restore(kept)
        STREAMS.put_back(draws)
        return segments

    def _segments(self, arguments: Sequence[Tensor], draws: list[Any], end: Any, result: Any) -> list[Segment]:
        trace = self.trace
        instructions = trace.node.recorded()
        sources = self._sources(arguments, instructions)
        fresh = self._fresh(draws)
        donations = [d for node in trace.node.path() for d in node.donations]
        segments = []
        start = 0
        before: dict[int, int] = {}
        packs_before: dict[int, tuple[int, ...]] = {}
        for stop, look, news, packs in [*self.looks, end]:
            segment = Segment(look=look)
            for slot in range(start, stop):
                i = instructions[slot]
                if i.op is not INPUT:
                    segment.instructions.append((slot, i))
                elif i.attributes[0] < 0:
                    number = ~i.attributes[0]
                    segment.numbers.append((slot, i.type))
                    if number in fresh:
                        segment.fresh.append(fresh[number])
                elif slot in sources:
                    segment.sources.append((slot, sources[slot]))
            for slot, pack, _ in self.packs:
                if start <= slot < stop:
                    segment.packs.append((pack, tuple(range(slot, slot + len(pack.types)))))
            segment.donations = [(new, old) for new, old in donations if start <= new < stop]
            for key, slot in news.items():
                if before.get(key) != slot:
                    segment.assigned.append((self.before[key][0], slot, instructions[slot].type))
            segment.packed = [(pack, slots) for pack, slots in packs if packs_before.get(id(pack)) != slots]
            before, packs_before = news, {id(pack): slots for pack, slots in packs}
            start = stop
            segments.append(segment)
        segments[-1].result = nest.map_structure(lambda x: self._output(x, arguments, instructions), result)
        for leaf in nest.flatten(segments[-1].result):
            parts = [leaf.values, leaf.indices] if isinstance(leaf, OutputRows) else [leaf]
            segments[-1].outputs += [part for part in parts if isinstance(part, Output)]
        return segments

    def _sources(self, arguments: Sequence[Tensor], instructions: list[Instruction]) -> dict[int, Source]:
        """Where each input comes from, by its slot; those of packs are not among them."""
        numbers = {id(tensor): number for number, tensor in enumerate(arguments)}
        olds = {id(old): variable for variable, old in self.before.values()}
        sources: dict[int, Source] = {}
        for tensor in self.trace.kept:
            slot = self.trace.admitted[id(tensor)]
            if id(tensor) in numbers:
                sources[slot] = Argument(numbers[id(tensor)])
            elif id(tensor) in olds:
                sources[slot] = olds[id(tensor)]
            else:
                sources[slot] = self.arrays.get(id(tensor), tensor)
        for slot, variable in self.reads.items():
            if slot in sources:
                sources[slot] = variable
        return sources

    def _fresh(self, draws: list[Any]) -> dict[int, Numbers]:
        """Runs of Python numbers, by the number of the first."""
        scalars = self.trace.scalars
        pending = list(draws)
        found: dict[int, Numbers] = {}
        k = 0
        while k < len(scalars):
            if k in self.live:
                count, numbers = self.live[k]
                found[k] = numbers
                k += count
            elif pending and type(scalars[k]) is int and tuple(scalars[k : k + 2]) == pending[0][1]:
                found[k] = partial(STREAMS.draw, pending.pop(0)[0])
                k += 2
            else:
                found[k] = (scalars[k],)
                k += 1
        return found

    def _output(self, x: Any, arguments: Sequence[Tensor], instructions: list[Instruction]) -> Any:
        if isinstance(x, IndexedSlices):
            values, indices = (self._output(part, arguments, instructions) for part in (x.values, x.indices))
            return OutputRows(values, indices, x.shape)
        if x is None or isinstance(x, Variable):
            return x
        if isinstance(x, bool | int | float | np.ndarray | np.generic):
            x = as_tensor(x)
        if not isinstance(x, Tensor):
            return x
        slot = self.trace.slot(x)
        if slot is not None:
            return Output(slot, instructions[slot].type)
        number = next((k for k, tensor in enumerate(arguments) if tensor is x), None)
        return Output(-1, x._type, x if number is None else Argument(number))
