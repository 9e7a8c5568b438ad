"""Replaying a recording: each segment is one entry on the caller's trace, whatever that records on.

Its inputs are read as of the call; its instructions are copied once for each distinct path of the trie, so that a
repeated call looks up one key. Tapes of the caller see the copies, and differentiate them like everything else.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from sys import _getframe
from typing import Any

from numtape import nest
from numtape.backends.buffer import Buffer
from numtape.functions.recording import UNKNOWN, Argument, Array, Output, OutputRows, Segment, Source
from numtape.ir.program import Builder, Instruction, Value
from numtape.ops.movement import same
from numtape.ops.random import DRAWS, STREAMS
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.pack import Pack
from numtape.tape.tensor import EPOCH, Tensor, buffer_of, from_numpy
from numtape.tape.trace import ASSIGNING, LENGTH, STATE, Node, Trace, caller
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
        self.drawn: list[Callable[[], None]] = []
        """What puts back the arrays that were made for the call."""
        self.where: dict[int, int] = {}
        """Slots of the recording to those of the trace."""
        self.last: Node | None = None
        self.start: tuple[Node, dict[int, Buffer]] | None = None
        """Where the trace was, and what was known, before the first segment."""
        self.mark = None if trace.recorder is None else trace.recorder.mark()

    def run(self, segment: Segment) -> Any:
        """Go from a segment on, to the result or `UNKNOWN`. Whatever fails leaves nothing done."""
        trace = self.trace
        looks = segment.look is not None
        if looks:
            trace.holders += 1  # what is computed for a look is kept for what follows
        try:
            self.enter(segment)
            while segment.look is not None:
                following = segment.following.get(self._look(segment))
                if following is None:
                    self._undo()
                    return UNKNOWN
                segment = following
                self.enter(segment)
            return nest.map_structure(self._given, segment.result)
        except BaseException:
            self._undo()
            raise
        finally:
            if looks:
                trace.holders -= 1
                trace.let_go()

    def enter(self, segment: Segment) -> None:
        """Record a segment."""
        numbers = self._numbers(segment)  # may run what is pending, so it comes first
        if segment.assigned or segment.packed:
            with ASSIGNING:
                self._enter(segment, numbers)
        else:
            self._enter(segment, numbers)

    def _enter(self, segment: Segment, numbers: Sequence[Sequence[Any]]) -> None:
        state, trace = STATE, self.trace
        given = [x for part in numbers for x in part]
        if self.start is None:
            self.start = trace.node, dict(trace.known)
        start = trace.node.length
        try:
            operands = [self._resolve(source) for _, source in segment.sources]
            words = trace.key(_CALL, operands, [], ())
            packs = [pack.word(trace) for pack, _ in segment.packs]
            trace.scalars += given
            trace.next_slot += len(given)
            key = (segment.token, self.last, words, *packs)
            node = trace.node.edges.get(key)
            if node is None:
                node = self._extend(segment, key, [*words, *(word for pack in packs for word in pack)])
            where = node.extra[0]
            # As for other assignments: a value is only alive as long as its Variable, or somebody else, holds it.
            values = trace.handles([(where[slot], kind) for _, slot, kind in segment.assigned])
            news = [(v, value) for (v, _, _), value in zip(segment.assigned, values, strict=True)]
        except BaseException:
            trace.retract()
            raise
        recorder = trace.recorder
        if recorder is not None:
            recorder.note_numbers(segment.fresh, numbers)
            recorder.note_assign([v for v, _ in news], [v._value for v, _ in news], None)
            for pack, _ in segment.packed:
                recorder.note_assign((), (), pack)
        trace.node = node
        trace.next_slot = node.length
        self.where = where
        self.last = node
        segment.count += 1
        if state.tapes:
            trace.tape_end = node.length
            frame = caller(_getframe(1))
            trace.sites.append((node.length, frame.f_code, frame.f_lasti))
            for variable, slot in segment.reads:
                for tape in state.tapes:
                    tape._note_read(variable, where[slot], start)
        trace.assigned += [new for _, new in news]
        for variable, new in news:
            self.before.append((variable, variable._value))
            variable._value = new
            EPOCH[0] += 1
        for pack, slots in segment.packed:
            self.packs_before.append((pack, pack.state()))
            pack.take_over(trace, tuple([where[slot] for slot in slots]))

    def _undo(self) -> None:
        """Put back what the call has assigned, drawn and recorded so far."""
        for variable, old in reversed(self.before):
            variable._value = old
            EPOCH[0] += 1
        for pack, state in reversed(self.packs_before):
            pack.restore(state)
        STREAMS.put_back(self.draws)
        for put_back in reversed(self.drawn):
            put_back()
        if self.start is not None:
            self.trace.rewind(*self.start)
        if self.trace.recorder is not None:
            self.trace.recorder.rewind(self.mark)

    def _numbers(self, segment: Segment) -> list[Sequence[Any]]:
        """The Python numbers of a segment, for this call."""
        heard, DRAWS.heard = DRAWS.heard, []
        try:
            return [numbers() if callable(numbers) else numbers for numbers in segment.fresh]
        finally:
            self.draws += DRAWS.heard
            if heard is not None:
                heard += DRAWS.heard
            DRAWS.heard = heard

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
            node.extra = where, segment.provenance
            node.of_function = True
            node.donations = tuple((where[new], where[old]) for new, old in segment.donations)

        return trace.extend(key, None, words, [f"operand{k}" for k in range(len(words))], grow, finish)

    def _resolve(self, source: Source) -> Any:
        if isinstance(source, Argument):
            return self.arguments[source.number]
        if isinstance(source, Variable):
            return source._value
        if isinstance(source, Tensor):
            return source
        recorder = self.trace.recorder
        if isinstance(source, Array):
            tensor = source.tensor()
            if recorder is not None:
                recorder.note_array(tensor, source.array)
        else:
            array, put_back = source.draw()
            self.drawn.append(put_back)
            tensor = from_numpy(array)
            if recorder is not None:
                recorder.note_drawn(tensor, source.owner, source.draw)
        return tensor

    def _look(self, segment: Segment) -> Any:
        look = segment.look
        assert look is not None
        trace = self.trace
        at = self.where[look.slot]
        tensor = Tensor(look.type, None, trace, at)
        trace.live.append(weakref.ref(tensor))
        if STATE.tapes:
            trace.exits.append((at, trace.node.length, look.code, look.lasti))
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
