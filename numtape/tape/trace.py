"""Recording: user calls become a path through a trie of everything recorded before.

A `Node` stands for "the trace so far". Its edges are keyed by op, attributes and operands, so a loop that repeats
itself costs one look-up an op: shapes are inferred, composites expanded and gradients derived once for each distinct
path, and the node where a trace is run keeps the programs made for it. Python numbers are not part of a key; they are
given to the program at run time.

A thread records on one `Trace` at a time. Values are numbered along the path; a number is a *slot*. Tensors from
elsewhere are admitted as inputs when they are first used. `materialize` runs what is pending and hands every living
tensor its elements. A trace then starts afresh, unless a tape holds its record.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from sys import _getframe, getrefcount
from typing import TYPE_CHECKING, Any
from weakref import ref

from numpy import ndarray

from numtape.backends.buffer import ALONE, Buffer, shared
from numtape.cache import FORGET
from numtape.cache.statistics import COUNTERS
from numtape.config import NEW_LOOP_MEMORY, Settings
from numtape.dtypes import TensorType
from numtape.ir.op import Op
from numtape.ir.program import Builder, Instruction, Value
from numtape.ops.core import dtype_groups, install_recorder
from numtape.ops.movement import same, stop
from numtape.tape.lower import Lowered, lower
from numtape.tape.operands import (
    CAPTURED,
    VARIABLES,
    Foreign,
    Word,
    convert,
    dtype_beside,
    is_foreign,
    number_class,
    operand_values,
)
from numtape.tape.pack import Pack
from numtape.tape.tensor import EPOCH, Tensor, View, buffer_of, copied, on_iteration, on_look
from numtape.tape.tiers import ASSIGNED, interprets

if TYPE_CHECKING:
    from types import CodeType, FrameType

    import numpy.typing as npt

    from numtape.backends.native import Executable

LENGTH = 128
"""After so many instructions outside of tapes a trace runs although nobody looked: where the loop seems to begin again,
or at twice the length."""
HELD_BYTES = 1 << 28
"""Outside of tapes a trace that keeps so much of its users' data alive runs, too."""
MAX_WEIGHT = 1 << 18
"""Instructions in nodes and programs, some 800 bytes each with what is made of them, after which the trie starts
afresh: unless one path is a good part of that by itself."""
MAX_PROGRAMS = 8
"""Programs of one node that differ in which results are alive; then one that computes all of them serves."""

class Node:
    """A trace so far, and what is known about it."""

    __slots__ = (
        "donations", "edges", "extra", "input_count", "instructions", "length", "of_function", "op", "origins",
        "parent", "programs", "results", "scalar_count",
    )  # fmt: skip

    def __init__(
        self,
        parent: Node | None,
        op: Op | None = None,
        instructions: tuple[Instruction, ...] = (),
        results: Any = None,
        input_count: int = 0,
        scalar_count: int = 0,
    ) -> None:
        self.parent = parent
        self.op = op
        self.instructions = instructions
        self.origins: tuple[int | None, ...] = ()
        """For each instruction the slot that it is a derivative of; empty if there is none."""
        self.results = results
        """(slot, type) of an op's result; a list of those, None among them, for several. Or whatever else a dict that
        its kind of entry keeps."""
        self.length: int = (parent.length if parent else 0) + len(instructions)
        self.input_count = input_count
        self.scalar_count = scalar_count
        self.donations: tuple[tuple[int, int], ...] = ()
        """(slot of a Variable's new value, slot of the old one)."""
        self.extra: tuple[Any, ...] = ()
        """What else its kind of entry keeps: of an assignment the slots of the new values in a pack."""
        self.of_function = False
        """Whether it is a part of what an `nt.function` does."""
        self.edges: dict[Any, Node] = {}
        self.programs: dict[tuple[int, ...], Lowered] = {}

    def path(self) -> Iterator[Node]:
        """The nodes from the first to this one."""
        nodes = []
        node: Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        return reversed(nodes)

    def recorded(self) -> list[Instruction]:
        """All instructions so far."""
        return [i for node in self.path() for i in node.instructions]


_root = Node(None)
_weight = _longest = 0

RAN: list[Any] = [None]
"""What ran last, in whatever thread, for people who ask: a program, then what `numtape.explaining.Places` takes."""
WATCHES: list[Any] = []
"""Who looks at what programs are given and give: usually nobody. While there is one, all sites are noted."""


def forget() -> None:
    """Drop every recorded path and its programs; a trace under way keeps its own path, and nothing beside it."""
    global _weight, _longest
    _weight = _longest = 0
    RAN[0] = None
    waiting = [_root]
    while waiting:  # a node that a trace holds, an idle thread's perhaps, is not to keep its neighbours
        node = waiting.pop()
        edges, node.edges = node.edges, {}
        waiting += edges.values()


FORGET.append(forget)
NEW_LOOP_MEMORY.append(forget)


def _weigh(count: int, length: int) -> None:
    """So many instructions more are kept, for a path of this length."""
    global _weight, _longest
    _weight += count
    _longest = max(_longest, length)
    if _weight > MAX_WEIGHT + 8 * _longest:
        forget()


class Trace:
    """What one thread has recorded and not yet run."""

    __slots__ = (
        "__weakref__", "admitted", "assigned", "builder", "builder_node", "exits", "holders", "input_bytes", "inputs",
        "kept", "known", "live", "lock", "next_slot", "node", "owner", "packs", "recorder", "scalars", "sites",
        "tape_end", "users_code",
    )  # fmt: skip

    def __init__(self) -> None:
        self.owner = threading.get_ident()
        self.lock = threading.RLock()
        self.holders = 0
        """How many tapes need the record."""
        self.recorder: Any = None
        """What is told of everything that a replay would have to do again, while a function is recorded."""
        self.builder: Builder | None = None
        self.builder_node: Node | None = None
        self.users_code: CodeType | None = None
        """Where `record` was last called from: known not to be the library's own."""
        self.begin()

    def begin(self) -> None:
        """Start with nothing recorded."""
        self.node = _root
        self.next_slot = 0
        """The slot of the next input; after each call the node's length."""
        self.inputs: list[Buffer] = []
        self.admitted: dict[int, int] = {}
        """Identity of an input tensor to its slot; `kept` keeps it alive."""
        self.kept: list[Tensor] = []
        self.input_bytes = 0
        self.scalars: list[Any] = []
        self.known: dict[int, Buffer] = {}
        """Results of earlier runs of a trace that is held."""
        self.live: list[ref[Tensor]] = []
        self.assigned: list[Tensor] = []
        """New values of Variables, and `packs` those of many at once."""
        self.packs: list[Pack] = []
        self.sites: list[tuple[int, CodeType, int]] = []
        """Where in users' code tapes saw something recorded: the length behind it, and the place of the call."""
        self.exits: list[tuple[int | ref[Any], int, CodeType, int]] = []
        """Slots, and Variables, that Python looked at within a tape's block, the length by then, and the place."""
        self.tape_end = 0
        """Where a tape last recorded: up to there a step is not to be cut."""

    def fork(self) -> Trace:
        """The same record for the thread that calls; results of the two traces are not shared."""
        with self.lock:
            twin = Trace()
            twin.node = node = self.node  # the first, since its own thread may go on meanwhile
            twin.next_slot, twin.known = node.length, dict(self.known)
            twin.inputs, twin.scalars = self.inputs[: node.input_count], self.scalars[: node.scalar_count]
            own = [t for r in list(self.live) if (t := r()) is not None] + self.assigned
            slots = dict(self.admitted) | {id(t): t._slot for t in own if t._trace is self}
            twin.admitted = {key: slot for key, slot in slots.items() if slot < node.length}
            twin.kept = self.kept + own
            twin.sites, twin.exits = list(self.sites), list(self.exits)
            return twin

    def let_go(self) -> None:
        """A tape is gone: if nobody needs the record and nothing is pending, start afresh."""
        if self.holders or self.packs or self.owner != threading.get_ident():
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:  # the garbage collector may have come in the middle of a call
            if frame.f_globals is globals():
                return
            frame = frame.f_back
        living = [t for r in self.live if (t := r()) is not None] + self.assigned
        if all(t._data is not None for t in living):
            self._settle((), [], living, [])

    # ---- recording ---------------------------------------------------------------------------------------------

    def slot(self, tensor: Tensor) -> int | None:
        """The tensor's slot, if this trace knows it."""
        return tensor._slot if tensor._trace is self else self.admitted.get(id(tensor))

    def admit(self, tensor: Tensor) -> TensorType:
        """Make a tensor an input, and return what stands for it in a key."""
        slot = self.next_slot
        self.inputs.append(tensor._data or buffer_of(tensor))
        EPOCH[0] += 1
        self.kept.append(tensor)
        self.admitted[id(tensor)] = slot
        self.next_slot = slot + 1
        type_ = tensor._type
        self.input_bytes += type_.nbytes
        return type_

    def word(self, operand: Any, op: Op, operands: Sequence[Any]) -> Word:
        """What stands for a number, or for an array or the like that becomes a new input."""
        kind = type(operand)
        if kind is ndarray and self.recorder is None:
            dtype = dtype_beside(op, operands, operand)
            if dtype is None or dtype.dtype == operand.dtype:
                type_, buffer = copied(operand)
                self.inputs.append(buffer)
                self.input_bytes += type_.nbytes
                self.next_slot += 1
                return type_
        if kind is bool or kind is int:
            x = operand
        elif is_foreign(operand):
            raise Foreign
        else:
            x = convert(op, operands, operand)
        if type(x) is Tensor:
            if self.recorder is not None:
                self.recorder.note_array(x, operand)
            return self.admit(x)
        self.scalars.append(x)
        self.next_slot += 1
        return number_class(x)

    def key(self, op: Op, operands: Sequence[Any], first: list[Any], tapes: Sequence[Any]) -> tuple[Any, ...]:
        """`first`, then a word for each operand."""
        # The hottest loop of all: what usual steps are made of is done in place, the rest by `word`.
        append = first.append
        try:
            for x in operands:
                kind = type(x)
                if kind is Tensor:
                    if x._trace is self:
                        append(x._slot)
                    elif (slot := self.admitted.get(id(x))) is not None:
                        append(slot)
                    else:
                        append(self.admit(x))
                    continue
                if kind is float:
                    self.scalars.append(x)
                    self.next_slot += 1
                    append(float)
                    continue
                if kind not in VARIABLES:
                    append(self.word(x, op, operands))
                    continue
                value = x._value
                if value._trace is self:
                    slot = value._slot
                    append(slot)
                elif (slot := self.admitted.get(id(value))) is not None:
                    append(slot)
                else:
                    slot = self.next_slot
                    append(self.admit(value))
                for tape in tapes:
                    tape._note_read(x, slot, self.node.length)
        except Foreign:
            # To convert a list may record ops and compute values, so it comes before anything is admitted.
            self.retract()
            del first[len(first) - [*map(id, operands)].index(id(x)) :]
            return self.key(op, _converted(op, operands), first, tapes)
        return tuple(first)

    def retract(self) -> None:
        """Undo what a call that failed, or was interrupted, has admitted."""
        node = self.node
        self.next_slot = node.length
        self.admitted = {key: slot for key, slot in self.admitted.items() if slot < node.length}
        del self.inputs[node.input_count :]
        del self.scalars[node.scalar_count :]
        for tape in STATE.tapes:
            tape._forget_reads(node.length)

    def rewind(self, node: Node, known: dict[int, Buffer]) -> None:
        """Go back to an earlier node, by which time this was known; tensors from after it are of no use any more."""
        self.node, self.known = node, known
        length = node.length
        forsake(t for r in self.live if (t := r()) is not None and t._slot >= length)
        self.live = [r for r in self.live if (t := r()) is not None and t._trace is self]
        self.assigned = [t for t in self.assigned if t._slot < length]
        self.sites = [site for site in self.sites if site[0] <= length]
        self.exits = [look for look in self.exits if look[1] <= length]
        self.retract()

    def extend(
        self,
        key: Any,
        op: Op | None,
        words: Sequence[Word],
        groups: Sequence[str],
        grow: Callable[[Builder, list[Value]], Any],
        finish: Callable[[Node], None] | None = None,
    ) -> Node:
        """A new node: inputs for what the words admit, then whatever `grow` writes with the operands.

        `finish` says what else the node keeps, before other threads see it.
        """
        node = self.node
        builder = self.builder
        if builder is None or self.builder_node is not node or len(builder.instructions) != node.length:
            builder = Builder(node.recorded())
        builder.origin = None  # a call before this one may have failed
        operands = operand_values(builder, words, groups, node.input_count, node.scalar_count, self.scalars)
        grown = grow(builder, operands)
        if isinstance(grown, Value):
            results: Any = (grown.index, grown.type)
        elif isinstance(grown, dict):
            results = grown
        else:
            results = [None if v is None else (v.index, v.type) for v in grown]
        added = tuple(builder.instructions[node.length :])
        child = Node(node, op, added, results, len(self.inputs), len(self.scalars))
        origins = builder.origins[node.length :]
        if origins.count(None) < len(origins):
            child.origins = tuple(origins)
        if finish is not None:
            finish(child)
        node.edges[key] = child
        self.builder, self.builder_node = builder, child
        _weigh(1 + len(added), child.length)
        return child

    def result(self, at: tuple[int, TensorType]) -> Tensor:
        """A handle on a pending value."""
        tensor = Tensor(at[1], None, self, at[0])
        self.live.append(ref(tensor))
        return tensor

    def handles(self, results: Sequence[tuple[int, TensorType]]) -> list[Tensor]:
        """Tensors for pending values; it is for the caller to say that they are alive."""
        tensors = []
        for at in results:
            tensor = _blank(Tensor)  # as in `record`
            tensor._slot, tensor._type = at
            tensor._data = None
            tensor._trace = self
            tensors.append(tensor)
        return tensors

    # ---- running -----------------------------------------------------------------------------------------------

    def materialize(self, tensor: Tensor | None = None) -> None:
        """Run what is pending; every living tensor of the trace gets its elements."""
        with self.lock:
            if self.owner == threading.get_ident():
                self._run()
            elif tensor is not None and tensor._data is None:
                self._run_aside(tensor)

    def _run(self) -> None:
        living = [t for r in self.live if (t := r()) is not None]
        if self.assigned:
            # A Variable holds its value: one that only this list holds has been assigned again.
            living += shared(self.assigned)
        pending = [t for t in living if t._data is None] if self.known else living
        slots = [t._slot for t in pending]
        packs = []
        # While a function is recorded they stay what they are on its trace, as each replay computes them there.
        for pack in self.packs if self.recorder is None else ():
            if pack.trace is self:  # and not taken over by another thread
                packs.append(pack)
                slots += pack.slots
        self.packs = packs
        if slots:
            wanted = tuple(slots)
            lowered = self.node.programs.get(wanted)
            if lowered is None:
                lowered = self._lowered(self.node, wanted)
            else:
                COUNTERS.memory_hits += 1
            ran = RAN[0] = lowered, self.node, self.sites
            end: Any = None
            for watch in WATCHES:
                end = watch.begin(ran, *self._given(lowered))
            binding: Any = None
            if self._interprets(lowered):
                found = lowered.interpret(*self._given(lowered))
            else:
                executable, binding, found = self._ready(lowered)
            results = found
            if lowered.outputs != wanted:
                by_slot = dict(zip(lowered.outputs, found, strict=True))
                results = [*map(by_slot.__getitem__, wanted)]
            try:
                if binding is not None:
                    executable.entry(binding.header_address)
                self._settle(wanted, results, living, pending)
            except BaseException:
                # An interrupt shows up behind the native call, not in it: old values of Variables are gone.
                self._settle(wanted, results, living, pending)
                raise
            if binding is not None:
                executable.idle.append(binding)
            if end is not None:
                end(found)
        else:
            self._settle((), [], living, [])

    def _interprets(self, lowered: Lowered) -> bool:
        """Whether to run a program on the interpreter."""
        if lowered.executable is not None and Settings.tier != "reference":
            return False
        return interprets(lowered, self.node, self.recorder is not None)

    def _given(self, lowered: Lowered) -> tuple[list[Buffer], list[Any]]:
        """What a program is about to get; who holds it keeps it from being changed."""
        arrays = [self.inputs[k] for k in lowered.arrays] + [self.known[slot] for slot in lowered.known]
        return arrays, self.scalars if lowered.scalars is None else [self.scalars[k] for k in lowered.scalars]

    def _settle(
        self, wanted: tuple[int, ...], found: list[Buffer], living: list[Tensor], pending: list[Tensor]
    ) -> None:
        """Hand out results, and start afresh unless a tape holds the record."""
        for t, buffer in zip(pending, found):  # noqa: B905  the packs' follow
            t._data = buffer
        at = len(pending)
        for pack in self.packs:
            at = pack.settle(found, at)
        if not self.holders:
            for t in living:
                t._trace = None
            self.begin()
        elif wanted:
            self.known.update(zip(wanted, found, strict=True))
            self._go_on(wanted)
            self.live = [ref(t) for t in living]
            self.assigned, self.packs = [], []

    def _lowered(self, node: Node, wanted: tuple[int, ...]) -> Lowered:
        """A program for these slots: a new one, or one for more of them where there are many."""
        programs = node.programs
        if len(programs) >= MAX_PROGRAMS:
            made = list(programs.items())  # at once: another thread may add to it
            wider = [p for slots, p in made if set(slots) >= set(wanted)]
            if wider:
                COUNTERS.memory_hits += 1
                return min(wider, key=lambda p: len(p.outputs))
            wanted = tuple(sorted({s for slots, _ in made for s in slots} | set(wanted)))
        lowered = programs[wanted] = lower(node.path(), wanted, frozenset(self.known))
        COUNTERS.programs += 1
        _weigh(len(lowered.program.instructions), node.length)
        return lowered

    def _ready(self, lowered: Lowered) -> tuple[Executable, Any, list[Buffer]]:
        """A program with its arguments, all but started, and the results to be."""
        arrays = inputs = self.inputs
        alone = ALONE
        if not lowered.takes_all or len(inputs) != len(lowered.arrays):
            arrays = [*map(inputs.__getitem__, lowered.arrays), *map(self.known.__getitem__, lowered.known)]
            alone += 1
        scalars = self.scalars
        if lowered.scalars is not None:
            scalars = [*map(scalars.__getitem__, lowered.scalars)]
        executable = lowered.executable or lowered.compile()
        if executable.donated:
            if self.holders:
                # A tape may need the old values: they stay.
                arrays = list(arrays)
                alone = 0
            else:
                # From here on an input that a Variable has given up is ours alone.
                self.kept = []
                self.admitted = {}
            for k in executable.donated:
                if getrefcount(arrays[k]) != alone:
                    arrays[k] = arrays[k].copy()
        binding, found = executable.prepare(arrays, scalars)
        return executable, binding, found

    def _go_on(self, wanted: tuple[int, ...]) -> None:
        """After a run within a tape: a node that knows what has been computed."""
        key = ("ran", wanted)
        node = self.node.edges.get(key)
        if node is None:
            counts = len(self.inputs), len(self.scalars)
            node = self.node.edges[key] = Node(self.node, None, (), None, *counts)
        if self.builder_node is self.node:
            self.builder_node = node
        self.node = node

    def _run_aside(self, tensor: Tensor) -> None:
        """Compute one tensor for another thread, without touching what this trace's own thread records."""
        node, wanted = self.node, (tensor._slot,)
        lowered = node.programs.get(wanted) or self._lowered(node, wanted)
        arrays = [self.inputs[k] for k in lowered.arrays] + [self.known[slot] for slot in lowered.known]
        numbers = range(node.scalar_count) if lowered.scalars is None else lowered.scalars
        scalars = [self.scalars[k] for k in numbers]
        if self._interprets(lowered):
            found = lowered.interpret(arrays, scalars)
        else:
            executable = lowered.executable or lowered.compile()
            for k in executable.donated:
                arrays[k] = arrays[k].copy()
            found = executable(arrays, scalars)
        tensor._data = found[lowered.outputs.index(tensor._slot)]


_blank = Tensor.__new__


def _converted(op: Op, operands: Sequence[Any]) -> list[Any]:
    return [convert(op, operands, x) if is_foreign(x) else x for x in operands]


class _Nowhere:
    """Stands for the trace of tensors that outlived what they were computed for."""

    recorder = None

    def materialize(self, tensor: Tensor | None = None) -> None:
        raise TypeError(
            "this tensor was made while an nt.function was recorded, and is out of scope: return it from the function, "
            "or keep it in an nt.Variable"
        )


_NOWHERE: Any = _Nowhere()


def forsake(tensors: Iterable[Tensor]) -> None:
    """Let nobody use these tensors any more: a TypeError for whoever does."""
    for tensor in tensors:
        tensor._trace, tensor._data = _NOWHERE, None


class State(threading.local):
    """What a thread is doing."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.tapes: list[Any] = []
        """The tapes that are recording, outermost first."""

    def resume(self, trace: Trace) -> None:
        """Record on this trace from now on."""
        if self.trace is not trace:
            self.trace.materialize()
            self.trace = trace

    def step_boundary(self) -> Trace:
        """Before an outermost tape: compute what was assigned, and leave a trace that another tape holds."""
        self.trace.materialize()
        if self.trace.holders:
            self.trace = Trace()
        return self.trace


STATE = State()


def note_array(tensor: Tensor, array: npt.NDArray[Any]) -> None:
    """A tensor was made of an array: a function that is recorded has to read the array at each call."""
    recorder = STATE.trace.recorder
    if recorder is not None:
        recorder.note_array(tensor, array)


CAPTURED.append(note_array)


class _Own(dict[str, bool]):
    """Whether a source file, by its name, is the library's own."""

    def __missing__(self, name: str) -> bool:
        self[name] = found = name.startswith((_PACKAGE, "<public function>"))
        return found


_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
OWN = _Own()


def caller(frame: FrameType) -> FrameType:
    """The frame from where the library was called; the outermost if there is no other."""
    while OWN[frame.f_code.co_filename] and frame.f_back is not None:
        frame = frame.f_back
    return frame


def record(op: Op, operands: Sequence[Any], attributes: tuple[Any, ...] = (), depth: int = 2) -> Any:
    """Record one op on this thread's trace; a tensor, or a list of them, whose values are pending.

    `depth` is how many calls above this one the user's line is, usually.
    """
    state = STATE
    trace = state.trace
    tapes = state.tapes
    if not tapes and (trace.node.length - trace.tape_end >= LENGTH or trace.input_bytes >= HELD_BYTES):
        trace = _bounded(state, op)
    try:
        key = trace.key(op, operands, [op, attributes], tapes)
        child = trace.node.edges.get(key)
        if child is None:
            child = _first_time(trace, key, op, attributes)
    except BaseException:
        trace.retract()
        raise
    trace.node = child
    trace.next_slot = child.length
    if tapes or WATCHES:
        frame = _getframe(depth)
        code = frame.f_code
        if code is not trace.users_code:
            if OWN[code.co_filename]:
                frame = caller(frame)
                code = frame.f_code
            else:
                trace.users_code = code
        trace.sites.append((child.length, code, frame.f_lasti))
    results = child.results
    if type(results) is tuple:
        tensor = _blank(Tensor)  # in place of a call of Tensor: the constructor is a good part of recording an op
        tensor._slot, tensor._type = results
        tensor._data = None
        tensor._trace = trace
        trace.live.append(ref(tensor))
        return tensor
    return [*map(trace.result, results)]


def _first_time(trace: Trace, key: tuple[Any, ...], op: Op, attributes: tuple[Any, ...]) -> Node:
    words = key[2:]
    groups = dtype_groups(op, len(words)) if words else ()
    return trace.extend(key, op, words, groups, lambda builder, values: _new(op, builder, values, attributes))


def _bounded(state: State, op: Op) -> Trace:
    """The trace to go on with: a new one, if this is long and `op` is where its loop seems to begin again."""
    trace = state.trace
    first = next((node.op for node in trace.node.path() if node.op), None)
    if op is first or trace.node.length - trace.tape_end >= 2 * LENGTH or trace.input_bytes >= HELD_BYTES:
        return state.step_boundary()
    return trace


def _call(op: Op, builder: Builder, values: list[Value], attributes: tuple[Any, ...]) -> Any:
    """Write an op on values of one builder."""
    return op.expand(values, attributes) if op.expand else builder.emit(op, values, attributes)


def _new(op: Op, builder: Builder, values: list[Value], attributes: tuple[Any, ...]) -> Any:
    """An op's results, each a value of its own even where it gives an operand back: users can tell them apart."""
    found = _call(op, builder, values, attributes)
    if isinstance(found, Value):
        return same(found) if any(found.index == v.index for v in values) else found
    taken = {v.index for v in values}
    results = []
    for value in found:
        results.append(same(value) if value.index in taken else value)
        taken.add(value.index)
    return results


ASSIGNING = threading.RLock()
"""Held from the reading of old values to the setting of new ones. Who holds it may wait for another thread's trace to
run, and nobody asks for it in a run."""


class Announced(partial[Sequence[Any]]):
    """A function that gives Python numbers; whoever changes them moves `EPOCH`."""


def assign(
    variables: Sequence[Any],
    op: Op,
    before: Sequence[Any],
    after: Sequence[Any] = (),
    attributes: tuple[Any, ...] = (),
    takes_old: bool = True,
    pack: Pack | None = None,
    live: Callable[[], Sequence[Any]] | None = None,
) -> None:
    """Assign an op's results to Variables: all of them, or none if anything is wrong.

    The op's operands are `before`, then the old values if it takes them, then `after`, then what is in the pack; its
    results are the Variables' new values, then the pack's. New values have no history; each may take over its
    predecessor's memory. `live` gives the Python numbers among the operands anew, for a replay; if it is `Announced`,
    only after `EPOCH` has moved.
    """
    state = STATE
    trace = state.trace
    tapes = state.tapes
    if (trace.node.length - trace.tape_end >= LENGTH or trace.input_bytes >= HELD_BYTES) and not tapes:
        trace = _bounded(state, op)
    with ASSIGNING:
        olds = [v._value for v in variables]
        operands = [*before, *olds, *after]
        try:
            key = trace.key(op, operands, [op, attributes, len(variables), takes_old], tapes)
            if pack is not None:
                key = (*key, pack.word(trace))
            child = trace.node.edges.get(key)
            if child is None:
                counts = len(before), len(operands)
                child = _first_assignment(trace, key, variables, op, counts, attributes, takes_old, pack is not None)
            news = trace.handles(child.results[: len(variables)])
            assignments = map(setattr, variables, _VALUE, news)
        except BaseException:
            trace.retract()
            raise
        if trace.recorder is not None:
            trace.recorder.note_assign(variables, olds, pack, live)
        # An interrupt shows up behind a call: there is none before all is assigned.
        trace.node = child
        trace.next_slot = child.length
        if tapes or WATCHES:
            frame = caller(_getframe(2))
            trace.sites.append((child.length, frame.f_code, frame.f_lasti))
        trace.assigned += news
        if pack is not None:
            pack.take_over(trace, child.extra)
        deque(assignments, 0)
        EPOCH[0] += 1


def _first_assignment(
    trace: Trace,
    key: tuple[Any, ...],
    variables: Sequence[Any],
    op: Op,
    counts: tuple[int, int],
    attributes: tuple[Any, ...],
    takes_old: bool,
    packed: bool,
) -> Node:
    """`counts`: how many operands stand before the old values, and how many before the pack's."""
    ASSIGNED[0] = True
    start, end = counts
    count = end if takes_old else start
    words = (*key[4:-1], *key[-1]) if packed else key[4:]
    groups = (*dtype_groups(op, count), *(f"own{k}" for k in range(len(words) - count)))
    slots: list[int] = []

    def grow(builder: Builder, values: list[Value]) -> list[Value]:
        found = _call(op, builder, values if packed else values[:count], attributes)
        results = found if isinstance(found, list | tuple) else [found]
        for result, variable in zip(results, variables):  # noqa: B905  the pack's follow
            variable._check(result.type)
        slots.extend(old.index for old in [*values[start : start + len(variables)], *values[end:]])
        return [stop(result) for result in results]

    def finish(node: Node) -> None:
        node.donations = tuple((at[0], old) for at, old in zip(node.results, slots, strict=True))
        node.extra = tuple([at[0] for at in node.results[len(variables) :]])

    return trace.extend(key, op, words, groups, grow, finish)


_VALUE = repeat("_value")


def _note_look(tensor: Tensor, view: View) -> None:
    """Remember that elements left a tape, for whoever asks why a gradient is None, and for recordings of functions."""
    state = STATE
    if state.tapes:
        trace = state.trace
        slot, recorder = trace.slot(tensor), trace.recorder
        if slot is not None or recorder is not None:
            frame = _beyond_numpy(sys._getframe(2))
            if slot is not None:
                trace.exits.append((slot, trace.node.length, frame.f_code, frame.f_lasti))
            if recorder is not None:
                recorder.look(tensor, view, frame.f_code, frame.f_lasti)


def note_look_at(variable: Any) -> None:
    """The same for a Variable, which no tape may have read: it stands in place of a slot."""
    state = STATE
    if state.tapes:
        frame = _beyond_numpy(sys._getframe(2))
        state.trace.exits.append((ref(variable), state.trace.node.length, frame.f_code, frame.f_lasti))


def elements(count: int, element: Callable[[int], Any]) -> Iterator[Any]:
    """What a loop runs over; where a function is recorded, a few turns may stand for all."""
    recorder = STATE.trace.recorder
    return map(element, range(count)) if recorder is None else recorder.turns(count, element)


def refuse_recording() -> None:
    """What follows differs from call to call, as only Python knows: a function that is recorded is not recorded."""
    if STATE.trace.recorder is not None:
        STATE.trace.recorder.give_up()


@contextmanager
def unseen() -> Iterator[None]:
    """What is looked at within does not decide how a recorded function goes on."""
    recorder = STATE.trace.recorder
    if recorder is None:
        yield
        return
    recorder.quiet, outer = True, recorder.quiet
    try:
        yield
    finally:
        recorder.quiet = outer


def _beyond_numpy(frame: FrameType) -> FrameType:
    """The frame from where the library, or NumPy, was called."""
    while frame.f_back is not None and (OWN[frame.f_code.co_filename] or _is_numpy(frame)):
        frame = frame.f_back
    return frame


def _is_numpy(frame: FrameType) -> bool:
    return bool(frame.f_globals.get("__name__", "").startswith("numpy"))


on_look[0] = _note_look
on_iteration[0] = elements
install_recorder(record)
