"""Replaying a recording: each segment is one entry on the caller's trace, whatever that records on.

Its inputs are read as of the call; its instructions are copied once for each distinct path of the trie, so that a
repeated call looks up one key. Tapes of the caller see the copies, and differentiate them like everything else.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from numtape import nest
from numtape.functions.recording import Argument, Output, OutputRows, Segment, Source
from numtape.ir.program import Builder, Instruction, Value
from numtape.ops.movement import same
from numtape.ops.random import DRAWS, STREAMS
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.pack import Pack
from numtape.tape.tensor import Tensor, buffer_of, from_numpy
from numtape.tape.trace import LENGTH, STATE, Node, Trace
from numtape.tape.variable import Variable


class _Call:
    """Stands in keys, and in errors, where an op would."""

    name = "function"
    groups = ("T",)


_CALL: Any = _Call()


class Replay:
    """One call under way."""

    def __init__(self, arguments: Sequence[Any]) -> None:
        self.arguments = arguments
        state = STATE
        trace = state.trace
        if not state.tapes and (trace.assigned or trace.packs or trace.holders or trace.node.length >= LENGTH):
            trace = state.step_boundary()
        self.trace: Trace = trace
        self.before: list[tuple[Variable, Tensor]] = []
        self.packs_before: list[tuple[Pack, Any]] = []
        self.draws: list[Any] = []
        self.where: dict[int, int] = {}
        """Slots of the recording to those of the trace."""
        self.last: Node | None = None

    def run(self, segment: Segment) -> tuple[Segment | None, Any]:
        """Go on from a segment to the end of a known way: None and the result; else where the way is not known, and
        what is seen there."""
        self.enter(segment)
        if segment.look is None:
            return None, nest.map_structure(self._given, segment.result)
        trace = self.trace
        trace.holders += 1  # what is computed for a look is kept for what follows
        try:
            while segment.look is not None:
                seen = self._look(segment)
                following = segment.following.get(seen)
                if following is None:
                    return segment, seen
                segment = following
                self.enter(segment)
            return None, nest.map_structure(self._given, segment.result)
        finally:
            trace.holders -= 1

    def enter(self, segment: Segment) -> None:
        """Record a segment."""
        state, trace = STATE, self.trace
        given = self._numbers(segment)  # may run what is pending, so it comes first
        try:
            operands = [self._resolve(source) for _, source in segment.sources]
            words = trace.key(_CALL, operands, [], state.tapes)
            packs = [pack.word(trace) for pack, _ in segment.packs]
            trace.scalars += given
            trace.next_slot += len(given)
            key = (segment, self.last, words, *packs)
            node = trace.node.edges.get(key)
            if node is None:
                node = self._extend(segment, key, [*words, *(word for pack in packs for word in pack)])
            news = [(v, trace.result((node.extra[0][slot], kind))) for v, slot, kind in segment.assigned]
        except BaseException:
            trace.retract()
            raise
        trace.node = node
        trace.next_slot = node.length
        if state.tapes:
            trace.tape_end = node.length
        self.where = node.extra[0]
        self.last = node
        if trace.recorder is not None:
            trace.recorder.note_assign([v for v, _ in news], None)
        trace.assigned += [new for _, new in news]
        for variable, new in news:
            self.before.append((variable, variable._value))
            variable._value = new
        for pack, slots in segment.packed:
            if trace.recorder is not None:
                trace.recorder.note_assign((), pack)
            self.packs_before.append((pack, pack.state()))
            pack.take_over(trace, tuple([self.where[slot] for slot in slots]))

    def undo(self) -> None:
        """Put back what the call has assigned and drawn so far."""
        for variable, old in reversed(self.before):
            variable._value = old
        for pack, state in reversed(self.packs_before):
            pack.restore(state)
        STREAMS.put_back(self.draws)

    def _numbers(self, segment: Segment) -> list[Any]:
        """The Python numbers of a segment, for this call."""
        heard, DRAWS.heard = DRAWS.heard, []
        try:
            given = [x for numbers in segment.fresh for x in (numbers() if callable(numbers) else numbers)]
            self.draws += DRAWS.heard
            if heard is not None:
                heard += DRAWS.heard
        finally:
            DRAWS.heard = heard
        return given

    def _extend(self, segment: Segment, key: Any, words: Sequence[Any]) -> Node:
        trace = self.trace
        where = dict(self.where)

        def grow(builder: Builder, values: list[Value]) -> list[Value]:
            slots = [slot for slot, _ in segment.sources] + [slot for _, own in segment.packs for slot in own]
            where.update((slot, value.index) for slot, value in zip(slots, values, strict=True))
            for number, (slot, kind) in enumerate(segment.numbers, trace.node.scalar_count):
                where[slot] = builder.input(kind, ~number).index
            for slot, i in segment.instructions:
                copied = Instruction(i.op, tuple([where[k] for k in i.operands]), i.attributes, i.type)
                where[slot] = builder.append(copied).index
            for output in segment.outputs:
                # A result is a value of its own, even where the function gives back what it got.
                if output.slot in slots:
                    where[output.slot] = same(builder.value(where[output.slot])).index
            return []

        def finish(node: Node) -> None:
            node.extra = (where,)
            node.donations = tuple((where[new], where[old]) for new, old in segment.donations)

        return trace.extend(key, None, words, [f"operand{k}" for k in range(len(words))], grow, finish)

    def _resolve(self, source: Source) -> Any:
        if isinstance(source, Argument):
            return self.arguments[source.number]
        if isinstance(source, Tensor | Variable):
            return source
        tensor = from_numpy(source)
        if self.trace.recorder is not None:
            self.trace.recorder.note_array(tensor, source)
        return tensor

    def _look(self, segment: Segment) -> Any:
        look = segment.look
        assert look is not None
        trace = self.trace
        at = self.where[look.slot]
        tensor = Tensor(trace.node.recorded()[at].type, None, trace, at)
        trace.live.append(weakref.ref(tensor))
        if trace.recorder is not None:
            trace.recorder.look(tensor, look.view, look.code, look.lasti)
        return look.view(buffer_of(tensor).array)

    def _given(self, leaf: Any) -> Any:
        if type(leaf) is OutputRows:
            return IndexedSlices(self._given(leaf.values), self._given(leaf.indices), leaf.shape)
        if type(leaf) is not Output:
            return leaf
        if leaf.given is not None:
            return self._resolve(leaf.given)
        return self.trace.result((self.where[leaf.slot], leaf.type))
