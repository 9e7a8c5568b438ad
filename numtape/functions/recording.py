"""Recording a function: it runs once, on a trace of its own, and what it did becomes segments.

The run is a rehearsal: whatever it assigned is put back, and the call itself is the first replay. A segment ends where
Python looks at a value, in a branch or to compute with it; what was seen there decides which segment follows, so that
the recordings of one signature form a tree.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import CodeType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numtape import nest
from numtape.backends.buffer import Buffer
from numtape.dtypes import TensorType
from numtape.functions.turns import Turns
from numtape.ir.loop import LOOP
from numtape.ir.program import CONSTANT, INPUT, Instruction
from numtape.ops.core import PUBLIC
from numtape.ops.random import DRAWS, STREAMS
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.lower import Lowered
from numtape.tape.operands import as_tensor
from numtape.tape.pack import Pack
from numtape.tape.tensor import EPOCH, Tensor, buffer_of, from_numpy, to_array
from numtape.tape.trace import STATE, Node, Trace, forsake
from numtape.tape.variable import PackedVariable, Variable


@dataclass(frozen=True, slots=True, eq=False)
class Argument:
    """A tensor among the arguments, by its number."""

    number: int


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """An array that the function captured, and what it becomes as an operand."""

    array: npt.NDArray[Any]
    type: TensorType

    @property
    def buffer(self) -> Buffer | None:
        """The array itself, for a program to read where it is; None if it is not laid out like a tensor."""
        array = self.array
        fits = array.dtype == self.type.dtype.dtype and array.shape == self.type.shape and array.flags.c_contiguous
        return Buffer(array.reshape(-1)) if fits else None

    def tensor(self) -> Tensor:
        """The elements as they are now; ValueError if the array has got another shape."""
        tensor = from_numpy(to_array(self.array, self.type.dtype))
        if tensor._type is not self.type:
            raise ValueError(f"nt.function: an array had shape {self.type.shape} before, and now {tensor.shape}")
        return tensor


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """An array that is made anew at each call, such as the order of a dataset; with it comes what takes that back."""

    owner: Any
    """What it is the order of."""
    draw: Callable[[], tuple[npt.NDArray[Any], Callable[[], None]]]
    type: TensorType
    buffer = None


Source = Argument | Variable | Tensor | Array | Drawn
"""Where an input comes from at each call: an argument; a Variable, at its value; a tensor, or an array as it is by
then, that the function captured; or an array that is made then."""


Numbers = tuple[Any, ...] | Callable[[], Sequence[Any]]
"""Python numbers of a recording, or what gives them anew at each call."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Python looked at a value: which, as what, what it saw, and where in the user's code."""

    slot: int
    type: TensorType
    view: Callable[[Any], Any]
    seen: Any
    code: CodeType
    lasti: int


class Provenance(NamedTuple):
    """Where the instructions of a recording come from: its last node, places in the user's code, and names of inputs by
    their slots. For people who ask; it holds no values."""

    node: Node
    sites: list[tuple[int, CodeType, int]]
    names: dict[int, str]


@dataclass(slots=True, eq=False)
class Segment:
    """What is recorded between two looks."""

    token: object = field(default_factory=object)
    """What it is known by where it should not be kept alive."""
    provenance: Provenance | None = None
    count: int = 0
    """How often it was replayed."""
    sources: list[tuple[int, Source]] = field(default_factory=list)
    """Slots that come from outside."""
    numbers: list[tuple[int, TensorType]] = field(default_factory=list)
    """Slots of Python numbers, and `fresh` the numbers in their order."""
    fresh: list[Numbers] = field(default_factory=list)
    equal: dict[int, int] = field(default_factory=dict)
    """Slots of numbers that are the same at each call as that of another."""
    packs: list[tuple[Pack, tuple[int, ...]]] = field(default_factory=list)
    instructions: list[tuple[int, Instruction]] = field(default_factory=list)
    donations: list[tuple[int, int]] = field(default_factory=list)
    reads: list[tuple[Variable, int]] = field(default_factory=list)
    """Variables that tapes see read, and the slots that this gave."""
    assigned: list[tuple[Variable, int, TensorType]] = field(default_factory=list)
    packed: list[tuple[Pack, tuple[int, ...]]] = field(default_factory=list)
    look: Look | None = None
    following: dict[Any, Segment] = field(default_factory=dict)
    """The next segment by what the look sees."""
    kept: set[int] = field(default_factory=set)
    """Slots that are computed up to the look, and that what follows needs."""
    program: Lowered | None = None
    """What was compiled of it for calls that record nothing."""
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


class GaveUp(BaseException):
    """Recording a function was given up: it does what only Python can repeat, or what is not to be seen now."""

    def __init__(self, for_good: bool) -> None:
        super().__init__(for_good)
        self.for_good = for_good


class Recorder:
    """Stands among the tapes while a function is recorded, and notes what a replay has to do again."""

    _detours: tuple[Any, ...] = ()
    _start = 0

    def __init__(self, arguments: Sequence[Tensor], creates: bool, looks: bool = True) -> None:
        self.numbers = {id(tensor): number for number, tensor in enumerate(arguments)}
        self.creates = creates
        """Whether the function may create Variables."""
        self.may_look = looks
        """Whether there are values to look at."""
        self.created: list[tuple[Variable, Tensor]] = []
        """Variables with their first values."""
        self.draws: list[Any] = []
        self.trace = Trace()
        self.trace.holders = 1
        self.trace.recorder = self
        self.reads: dict[int, tuple[Variable, int]] = {}
        """For each slot that a read gave: the Variable, and the length by then."""
        self.before: dict[int, tuple[Variable, Tensor]] = {}
        self.packs_before: dict[int, tuple[Pack, Any]] = {}
        self.arrays: dict[int, tuple[Tensor, npt.NDArray[Any]]] = {}
        self.drawn: dict[int, tuple[Tensor, Drawn]] = {}
        self.packs: list[tuple[int, Pack, int]] = []
        """The length at which a pack was taken in, and the number of its first input."""
        self.live: dict[int, tuple[int, Callable[[], Sequence[Any]]]] = {}
        """Numbers that are asked for anew at each call: from which on, how many, and how."""
        self.looks: list[tuple[int, Look, dict[int, int], list[tuple[Pack, tuple[int, ...]]]]] = []
        """Each look with the length, and the slots of assigned Variables and packs by then."""
        self.loops: weakref.WeakSet[Turns] = weakref.WeakSet()
        """Loops over tensors that are under way."""
        self.unrolled: dict[tuple[str, int], str] = {}
        """Loops over tensors that were recorded turn by turn, by file and line, and why."""
        self.hides_reads = False
        """Whether a tape around would miss that Variables are read, in turns of a loop that assign them."""
        self.quiet = False
        self.around: Recorder | None = STATE.trace.recorder
        self.reason: GaveUp | None = None
        """Why recording was given up, in case that somebody catches everything."""

    # ---- what is told ----------------------------------------------------------------------------------------------

    def _note_read(self, variable: Variable, slot: int, now: int) -> None:
        self.reads.setdefault(slot, (variable, now))

    def _forget_reads(self, end: int) -> None:
        self.reads = {slot: read for slot, read in self.reads.items() if slot < end}
        self.packs = [entry for entry in self.packs if entry[0] < end]

    def note_array(self, tensor: Tensor, given: Any) -> None:
        """A tensor was made of something that may be an array, whose elements may differ at the next call."""
        if isinstance(given, np.ndarray):
            self.arrays[id(tensor)] = tensor, given

    def note_drawn(self, tensor: Tensor, owner: Any, draw: Any) -> None:
        """A tensor is of an array that is made anew at each call."""
        self.drawn[id(tensor)] = tensor, Drawn(owner, draw, tensor._type)

    def note_pack(self, pack: Pack) -> None:
        """A pack's values become inputs."""
        self.packs.append((self.trace.next_slot, pack, len(self.trace.inputs)))

    def note_assign(
        self,
        variables: Sequence[Variable],
        olds: Sequence[Tensor],
        pack: Pack | None,
        live: Callable[[], Sequence[Any]] | None = None,
    ) -> None:
        """Variables, and a pack, are about to get new values; `live` gives the last Python numbers anew."""
        for variable, old in zip(variables, olds, strict=True):
            if isinstance(variable, PackedVariable):
                self.give_up()
            self.before.setdefault(id(variable), (variable, old))
        if pack is not None:
            self.packs_before.setdefault(id(pack), (pack, pack.state()))
        if live is not None:
            start = self.trace.node.scalar_count
            self.live[start] = len(self.trace.scalars) - start, live

    def note_numbers(self, fresh: Sequence[Numbers], given: Sequence[Sequence[Any]]) -> None:
        """A replay has given Python numbers: how to ask for each run of them anew, and what they were."""
        start = self.trace.node.scalar_count
        for numbers, found in zip(fresh, given, strict=True):
            if callable(numbers):
                self.live[start] = len(found), numbers
            start += len(found)

    def is_argument(self, tensor: Tensor) -> bool:
        """Whether this is one of the tensors that the function was called with."""
        return id(tensor) in self.numbers

    def _owns(self, tensor: Tensor) -> bool:
        """Whether a tensor is of this function, or of one around that is recorded, and so may differ at each call."""
        own = id(tensor) in self.numbers or id(tensor) in self.arrays or self.trace.slot(tensor) is not None
        return own or (self.around is not None and self.around._owns(tensor))

    def note_created(self, variable: Variable) -> None:
        if not self.creates:
            raise ValueError(
                "nt.function: a Variable is created here at a call that is not the first. Create it once, outside of "
                "the function, or keep it: `if self.v is None: self.v = nt.Variable(...)`; for an optimizer, call its "
                "`build` with the Variables"
            )
        self.created.append((variable, variable._value))

    def give_up(self, for_good: bool = True) -> None:
        """Leave the function to Python, for good or at this call."""
        self.reason = GaveUp(for_good)
        raise self.reason

    def look(self, tensor: Tensor, view: Callable[[Any], Any], code: CodeType, lasti: int) -> None:
        if self.trace.slot(tensor) is None and self._owns(tensor):
            PUBLIC["identity"](tensor)  # takes it in
        slot = self.trace.slot(tensor)
        if slot is None:
            return
        if self.quiet:
            if not (self.before or self.packs_before):
                return
            view = nothing  # numbers are asked for where a segment begins, and this has to be by then what it is now
        if not self.may_look:
            self.give_up()
        seen = view(buffer_of(tensor).array)
        look = Look(slot, tensor._type, view, seen, code, lasti)
        self.looks.append((self.trace.node.length, look, *self._assigned()))

    def _assigned(self) -> tuple[dict[int, int], list[tuple[Pack, tuple[int, ...]]]]:
        news = {key: v._value._slot for key, (v, _) in self.before.items()}
        return news, [(pack, pack.slots) for pack, _ in self.packs_before.values()]

    def turns(
        self, count: int, element: Callable[[int], Any], rest: Sequence[Callable[[], Any]] = ()
    ) -> Iterator[Any]:
        """The elements of a loop, which are asked for as far as it takes to know the others; then those of `rest`."""
        return Turns(self, count, element, rest)

    def mark(self) -> Any:
        """What is known of looks and assignments, for `rewind`."""
        return len(self.looks), dict(self.before), dict(self.packs_before)

    def rewind(self, mark: Any) -> None:
        """Forget what came since, which was undone."""
        count, self.before, self.packs_before = mark
        del self.looks[count:]
        self.live = {start: entry for start, entry in self.live.items() if start < self.trace.node.scalar_count}

    # ---- running ---------------------------------------------------------------------------------------------------

    def rehearse(self, call: Callable[[], Any]) -> list[Segment]:
        """Run the function and undo what it did; the segments of the way it went."""
        state = STATE
        outer = state.trace, state.tapes
        state.trace, state.tapes = self.trace, [self]
        heard, DRAWS.heard = DRAWS.heard, self.draws
        try:
            result = nest.map_structure(self._recorded, as_result(call()))
            if self.reason is not None:
                raise self.reason
            segments = self._segments(result)
        finally:
            DRAWS.heard = heard
            state.trace, state.tapes = outer
            self.trace.recorder = None
            self._undo()
            self.trace.holders -= 1
        forsake(t for r in self.trace.live if (t := r()) is not None and t._trace is self.trace)
        return segments

    def _undo(self) -> None:
        for variable, old in self.before.values():
            variable._value = old
            EPOCH[0] += 1
        for pack, kept in self.packs_before.values():
            pack.restore(kept)
        STREAMS.put_back(self.draws[self._draws_of_created() :])
        for variable, first in self.created:
            buffer_of(first)
            first._trace = None
            if isinstance(variable, PackedVariable) and variable._number == len(variable._pack.buffers):
                variable._pack.buffers.append(buffer_of(first))

    def _draws_of_created(self) -> int:
        """Up to which of the draws first values of Variables depend on them: these are not drawn again."""
        trace = self.trace
        slots = {first._slot for _, first in self.created if first._trace is trace}
        if not (slots and self.draws):
            return 0
        numbers = set()
        for slot, i in reversed([*enumerate(trace.node.recorded())]):
            if slot in slots:
                slots.update(i.operands)
                if i.op is INPUT:
                    numbers.add(~i.attributes[0])
        used = {tuple(trace.scalars[k : k + 2]) for k in numbers if k >= 0}
        return max((k for k, (_, pair) in enumerate(self.draws, 1) if pair in used), default=0)

    def _segments(self, result: Any) -> list[Segment]:
        trace = self.trace
        end = (trace.node.length, None, *self._assigned())
        instructions = trace.node.recorded()
        sources = self._sources()
        fresh = self._fresh()
        reads = [(now, variable, slot) for slot, (variable, now) in self.reads.items()]
        donations = [d for node in trace.node.path() for d in node.donations]
        segments = []
        start = 0
        before: dict[int, int] = {}
        packs_before: dict[int, tuple[int, ...]] = {}
        for stop, look, news, packs in [*self.looks, end]:
            segment = Segment(look=look)
            constants: dict[Any, int] = {}
            for slot in range(start, stop):
                i = instructions[slot]
                if i.op is not INPUT:
                    segment.instructions.append((slot, i))
                elif i.attributes[0] < 0:
                    number = ~i.attributes[0]
                    segment.numbers.append((slot, i.type))
                    if number in fresh:
                        segment.fresh.append(fresh[number])
                        if not callable(fresh[number]):
                            first = constants.setdefault((i.type, repr(fresh[number])), slot)
                            if first != slot:
                                segment.equal[slot] = first
                elif slot in sources:
                    segment.sources.append((slot, sources[slot]))
            for slot, pack, _ in self.packs:
                if start <= slot < stop:
                    segment.packs.append((pack, tuple(range(slot, slot + len(pack.types)))))
            segment.reads = [(v, slot) for now, v, slot in reads if start <= now < stop or (now == stop and not look)]
            segment.donations = [(new, old) for new, old in donations if start <= new < stop]
            for key, slot in news.items():
                if before.get(key) != slot:
                    segment.assigned.append((self.before[key][0], slot, instructions[slot].type))
            segment.packed = [(pack, slots) for pack, slots in packs if packs_before.get(id(pack)) != slots]
            before, packs_before = news, {id(pack): slots for pack, slots in packs}
            start = stop
            segments.append(segment)
        names = {slot: _name(source) for slot, source in sources.items()}
        provenance = Provenance(trace.node, trace.sites, names)
        for segment in segments:
            segment.provenance = provenance
        segments[-1].result = nest.map_structure(lambda x: self._output(x, instructions), result)
        for leaf in nest.flatten(segments[-1].result):
            parts = [leaf.values, leaf.indices] if isinstance(leaf, OutputRows) else [leaf]
            segments[-1].outputs += [part for part in parts if isinstance(part, Output)]
        _keep(segments, instructions)
        return segments

    def _sources(self) -> dict[int, Source]:
        """Where each input comes from, by its slot; those of packs are not among them."""
        olds = {id(old): variable for variable, old in self.before.values()}
        reads = {slot: variable for slot, (variable, _) in self.reads.items()}
        changed = {id(given) for tensor, given in self.arrays.values() if not _has_elements(tensor, given)}
        sources: dict[int, Source] = {}
        for tensor in self.trace.kept:
            slot = self.trace.admitted.get(id(tensor))
            if slot is None:  # what took it in has failed
                continue
            if id(tensor) in self.numbers:
                sources[slot] = Argument(self.numbers[id(tensor)])
            elif id(tensor) in self.drawn:
                sources[slot] = self.drawn[id(tensor)][1]
            elif slot in reads:
                sources[slot] = reads[slot]
            elif id(tensor) in olds:
                sources[slot] = olds[id(tensor)]
            elif id(tensor) in self.arrays and id(given := self.arrays[id(tensor)][1]) not in changed:
                sources[slot] = Array(given, tensor._type)
            else:
                sources[slot] = tensor
        return sources

    def _fresh(self) -> dict[int, Numbers]:
        """Runs of Python numbers, by the number of the first."""
        scalars = self.trace.scalars
        seeds = {numbers: seed for seed, numbers in self.draws}
        found: dict[int, Numbers] = {}
        k = 0
        while k < len(scalars):
            if k in self.live:
                count, numbers = self.live[k]
                found[k] = numbers
                k += count
            elif seeds and (pair := tuple(scalars[k : k + 2])) in seeds:
                found[k] = partial(STREAMS.draw, seeds[pair])
                k += 2
            else:
                found[k] = (scalars[k],)
                k += 1
        return found

    def _recorded(self, x: Any) -> Any:
        """A result that was made of an array alone, as a value of the trace."""
        if isinstance(x, IndexedSlices):
            return IndexedSlices(self._recorded(x.values), self._recorded(x.indices), x.shape)
        is_array = id(x) in self.arrays and self.trace.slot(x) is None
        return PUBLIC["identity"](x) if is_array else x

    def _output(self, x: Any, instructions: list[Instruction]) -> Any:
        if isinstance(x, IndexedSlices):
            values, indices = (self._output(part, instructions) for part in (x.values, x.indices))
            return OutputRows(values, indices, x.shape)
        if not isinstance(x, Tensor):
            return x
        slot = self.trace.slot(x)
        if slot is not None:
            return Output(slot, instructions[slot].type)
        number = self.numbers.get(id(x))
        return Output(-1, x._type, x if number is None else Argument(number))


def wanted(way: Sequence[Segment]) -> list[int]:
    """The slots that a way is for: those of its result, then what Variables and packs have at its end."""
    assigned = {id(v): slot for segment in way for v, slot, _ in segment.assigned}
    packed = {id(pack): slots for segment in way for pack, slots in segment.packed}
    outputs = [output.slot for output in way[-1].outputs if output.given is None]
    return list(dict.fromkeys([*outputs, *assigned.values(), *[slot for slots in packed.values() for slot in slots]]))


def passed(segment: Segment, packed: Mapping[int, tuple[int, ...]]) -> list[tuple[int, int]]:
    """Inputs that are values of packs which the way has assigned before, with these values' slots."""
    pairs = [(slot, packed[id(v._pack)][v._number]) for slot, v in segment.sources
             if isinstance(v, PackedVariable) and id(v._pack) in packed]  # fmt: skip
    for pack, slots in segment.packs:
        pairs += zip(slots, packed.get(id(pack), ()))  # noqa: B905  none, or as many
    return pairs


def _keep(way: Sequence[Segment], instructions: Sequence[Instruction]) -> None:
    """Note what each segment has to keep. It computes what its look needs, and what the next takes from packs that are
    assigned by then; the rest is left to who needs it."""
    computed: dict[int, Segment] = {}
    packed: dict[int, tuple[int, ...]] = {}
    for segment, following in zip(way, [*way[1:], None], strict=True):
        packed.update((id(pack), slots) for pack, slots in segment.packed)
        given = [] if following is None else [old for _, old in passed(following, packed)]
        needed = [*given, *(wanted(way) if segment.look is None else [segment.look.slot])]
        before = computed.keys() & needed
        while needed:
            slot = needed.pop()
            i = instructions[slot]
            if slot in computed or i.op is INPUT or i.op is CONSTANT:
                continue
            of_loop = next((computed[k] for k in i.operands if instructions[k].op is LOOP and k in computed), segment)
            computed[slot] = of_loop
            if of_loop is not segment:  # what a loop gives is kept, the loop itself is no value
                of_loop.kept.add(slot)
                continue
            before |= {k for k in i.operands if computed.get(k, segment) is not segment}
            needed += i.operands
        for slot in before.union(given):
            computed[slot].kept.add(slot)


def as_result(structure: Any) -> Any:
    """What a function returned, with tensors in the places of numbers, arrays and Variables.

    TypeError for other objects, which would not differ from call to call.
    """
    return nest.map_structure(_as_result, structure)


def _as_result(x: Any) -> Any:
    if x is None or isinstance(x, Tensor | IndexedSlices | str | bytes):
        return x
    if isinstance(x, Variable):
        return x.value()
    if isinstance(x, bool | int | float | np.ndarray | np.generic):
        return as_tensor(x)
    raise TypeError(
        f"nt.function: a function returns tensors and the like, in lists, tuples and dicts, not {type(x).__name__}: "
        "that would stay what it was when the function was recorded"
    )


def _name(source: Source) -> str:
    if isinstance(source, Argument):
        return f"argument {source.number}"
    if isinstance(source, Drawn):
        return "the order of a dataset"
    return source.name if isinstance(source, Variable) else "a captured array"


def _has_elements(tensor: Tensor, array: npt.NDArray[Any]) -> bool:
    """Whether a tensor that was made of this array still has its elements."""
    return array.shape == tensor.shape and bool(
        to_array(array, tensor.dtype).tobytes() == buffer_of(tensor).array.tobytes()
    )


def nothing(array: npt.NDArray[Any]) -> None:
    """What Python sees that does not decide anything."""


UNKNOWN: Any = object()
"""What a call gives that has done nothing, since something was seen that no recording has seen there."""
