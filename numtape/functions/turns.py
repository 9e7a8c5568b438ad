"""Loops over tensors and datasets within a recorded function: a few turns are recorded, the rest is one instruction.

What comes in is how many turns there are, and what gives the element of each; the user's `for` gets elements until two
turns have done the same as the turn before them. All that follow but the last become a `loop` instruction; what Python
holds of the turn that ran before, in Variables and under names in the user's code, then stands for what is there before
the last turn, which is recorded again, so that gradients lead through it. A loop whose turns differ, in which Python
looks at a value, or whose tensors are kept turn by turn, is recorded turn by turn.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from sys import _getframe
from typing import TYPE_CHECKING, Any

from numtape.functions.held import change, held
from numtape.ir.loop import Body, final, stacked
from numtape.ir.program import INPUT, Builder, Instruction, Value
from numtape.ops.core import PUBLIC
from numtape.ops.movement import reshape_to
from numtape.passes.reroll import is_window, window
from numtape.passes.simplify import exact
from numtape.tape.explain import line_of
from numtape.tape.tensor import EPOCH, Tensor, buffer_of
from numtape.tape.trace import STATE, caller

if TYPE_CHECKING:
    from types import FrameType

    from numtape.functions.recording import Recorder
    from numtape.tape.trace import Trace

RECORDED = 6
"""So many turns are recorded before a loop is given up; with fewer than twice as many it is not tried."""
WRAPPERS = (zip, enumerate, map, filter)


@dataclass(slots=True)
class _Mark:
    """Where a turn begins: the length by then, what is assigned, and what Python holds."""

    length: int
    assigned: dict[int, int]
    packs: list[Any]
    held: dict[str, Any]


class Differs(Exception):
    """Turns that are not alike, and why."""


class Turns:
    """The elements of a loop in a function that is recorded, an iterator: a few, if these stand for all."""

    def __init__(
        self, recorder: Recorder, count: int, element: Callable[[int], Any], rest: Sequence[Callable[[], Any]] = ()
    ) -> None:
        """`rest` gives elements that come after the others, and are unlike them."""
        self._recorder, self._count, self._element, self._rest = recorder, count, element, list(rest)
        self._kept: list[list[Tensor]] = []
        self._between: tuple[int, list[Tensor]] = 0, []
        """What the turns that are not recorded leave behind, stacked, and behind how many turns."""
        self._started = len(recorder.looks), len(recorder.draws)
        self._marks = [_mark(recorder)]
        self._given = 0
        self._tapes = _tapes()
        self._others = [(other, other._given) for other in recorder.loops]
        recorder.loops.add(self)

    def __iter__(self) -> Turns:
        return self

    def __next__(self) -> Any:
        k = self._given
        if 0 < k <= RECORDED <= self._count // 2:
            frame = caller(_getframe(1))
            self._marks.append(_mark(self._recorder, frame))
            if k > 3 and self._stands_for_all(frame):
                self._given = self._count - 1
        if self._given >= self._count:
            if self._rest:
                return self._rest.pop(0)()
            raise StopIteration
        self._given += 1
        return self._element(self._given - 1)

    def keep(self, tensors: list[Tensor]) -> None:
        """What this turn leaves behind, for `stacked`."""
        self._kept.append([PUBLIC["identity"](t) for t in tensors])  # as values of this turn

    def stacked(self) -> list[Tensor]:
        """What all turns have left behind, each along a new first axis."""
        count, between = self._between
        before, after = (
            [PUBLIC["stack"](list(column)) for column in zip(*part, strict=True)]
            for part in (self._kept[:count], self._kept[count:])
        )
        if not between:
            return after
        return [PUBLIC["concat"](list(parts), 0) for parts in zip(before, between, after, strict=True)]

    def _stands_for_all(self, frame: FrameType) -> bool:
        """Record the rest but for the last turn, if it is like the turns so far; the loop is in this frame."""
        recorder = self._recorder
        place = line_of(frame.f_code, frame.f_lasti)
        try:
            if recorder.trace.recorder is not recorder:
                raise Differs("the loop is left")
            if _is_wrapped(self):
                raise Differs("the loop goes over other things, too, as with zip or enumerate")
            known = {id(other) for other, _ in self._others}
            under_way = [x for x in recorder.loops if x is not self and id(x) not in known and x._given < x._count]
            if under_way or any(other._given != given for other, given in self._others):
                raise Differs("the loop takes elements of another one, too")
            if _tapes() != self._tapes:
                raise Differs("a tape around it watches, or stops, or sees a gradient of one's own")
            if (len(recorder.looks), len(recorder.draws)) != self._started:
                raise Differs("Python looks at a value, or numbers are drawn at random")
            rest = _Rest(recorder, self._marks, self._count - 1 - self._given, self._kept)
            self._between = len(self._kept), rest.write()
        except Differs as reason:
            recorder.unrolled[place] = str(reason)
            return False
        recorder.unrolled.pop(place, None)
        return True


def _is_wrapped(turns: Turns) -> bool:
    """Whether Python's loop asks something else for its elements, which asks this and others."""
    holders = gc.get_referrers(turns)
    holders += gc.get_referrers(*[x for x in holders if type(x) is tuple])  # zip has its iterators in one
    return any(isinstance(x, WRAPPERS) or type(x).__module__ == "itertools" for x in holders)


def _tapes() -> list[Any]:
    """What the tapes that record know beside what is recorded: in a loop this has to be the same in all turns."""
    return [(id(t), len(getattr(t, "_watched", ())), t._start, len(t._detours)) for t in STATE.tapes]


def _mark(recorder: Recorder, frame: FrameType | None = None) -> _Mark:
    return _Mark(recorder.trace.node.length, *recorder._assigned(), held(frame))


@dataclass(slots=True)
class _Rest:
    """The turns of a loop that are left, when three alike have been recorded."""

    recorder: Recorder
    marks: list[_Mark]
    count: int
    kept: list[list[Tensor]]
    """What each turn leaves behind."""
    carried: dict[tuple[int, int], None] = field(default_factory=dict)
    """What is handed on: the place of an instruction in its turn, and from how many turns before."""
    same: dict[int, None] = field(default_factory=dict)
    moving: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Places of slices that move: along which axis, and how far."""
    operands: list[list[Any]] = field(default_factory=list)
    start: int = 0
    """Where the last recorded turn begins, and `period`: how long a turn is."""
    period: int = 0
    turn: list[Instruction] = field(default_factory=list)

    @property
    def trace(self) -> Trace:
        return self.recorder.trace

    def write(self) -> list[Tensor]:
        """Record the loop; what all its turns leave behind. Differs if it is none."""
        *_, first, second, third, end = self.marks
        self.start, self.period = third.length, end.length - third.length
        if not self.period:
            raise Differs("it does nothing")
        if third.length - second.length != self.period or second.length - first.length != self.period:
            raise Differs("its turns differ in what they do")
        if not first.assigned.keys() == end.assigned.keys() or len(first.packs) != len(end.packs):
            raise Differs("its turns assign different Variables")
        recorded = self.trace.node.recorded()
        self.turn = recorded[self.start :]
        before, earlier = recorded[second.length : third.length], recorded[first.length : second.length]
        for place, alike in enumerate(zip(self.turn, before, earlier, strict=True)):
            self.operands.append(self.compare(place, *alike))
        return self.record(third, end)

    # ---- what a turn is ------------------------------------------------------------------------------------------

    def compare(self, place: int, i: Instruction, before: Instruction, earlier: Instruction) -> list[Any]:
        """What the operands of an instruction are; Differs if it is not what it was in the two turns before."""
        if any((x.op, x.type, len(x.operands)) != (i.op, i.type, len(i.operands)) for x in (before, earlier)):
            raise Differs("its turns differ in what they do")
        if i.op is INPUT:
            self.compare_inputs(place, [i, before, earlier])
            return []
        found: list[Any] = []
        for now, then in zip(i.operands, before.operands, strict=True):
            at, at_then = now - self.start, then - self.start + self.period
            if now == then:
                self.same[now] = None
                found.append(("same", now))
            elif at != at_then:
                raise Differs(f"an operand of {i.op.name} moves")
            elif at >= 0:
                found.append(("local", at))
            else:
                back = -(at // self.period)
                if back > 2:
                    raise Differs(f"{i.op.name} takes something from {back} turns before")
                key = at + back * self.period, back
                self.carried |= {(key[0], k): None for k in range(1, back + 1)}
                found.append(("carried", key))
        if len({exact(x.attributes) for x in (i, before, earlier)}) > 1:
            self.moving[place] = self.move(i, before, earlier, found)
        return found

    def move(self, i: Instruction, before: Instruction, earlier: Instruction, operands: list[Any]) -> tuple[int, int]:
        """Along which axis, and how far, a slice moves from turn to turn; Differs if it does not move evenly."""
        if i.op.name == "slice" and operands[0][0] == "same":
            rests = {exact(x.attributes[1:]) for x in (i, before, earlier)}
            begins = [x.attributes[0] for x in (i, before, earlier)]
            moves = [tuple(a - b for a, b in zip(*pair, strict=True)) for pair in pairwise(begins)]
            axes = [axis for axis, move in enumerate(moves[0]) if move]
            if len(rests) == 1 and moves[0] == moves[1] and len(axes) == 1 and set(i.attributes[2]) == {1}:
                (axis,) = axes
                move, width = moves[0][axis], i.attributes[1][axis]
                last = i.attributes[0][axis] + move * self.count
                length = self.trace.node.recorded()[i.operands[0]].type.shape[axis]
                if 0 <= last <= length - width and is_window(width, axis, move):
                    return axis, move
        raise Differs(f"{i.op.name} differs from turn to turn")

    def compare_inputs(self, place: int, turns: Sequence[Instruction]) -> None:
        """Differs if an input, in the last turn and in those before, is not the same."""
        self.same[self.start + place] = None
        trace, recorder = self.trace, self.recorder
        numbers = [i.attributes[0] for i in turns]
        if all(number < 0 for number in numbers):
            given = [trace.scalars[~number] for number in numbers]
            if len({(type(x), repr(x)) for x in given}) > 1:
                raise Differs(f"a Python number is {given[1]} in one turn and {given[0]} in the next")
            return
        sources, elements = list[Any](), list[bytes]()
        for back in range(len(turns)):
            slot = self.start + place - back * self.period
            found = [t for t in trace.kept if trace.admitted.get(id(t)) == slot]
            if len(found) != 1:
                raise Differs("each turn takes in something else from outside")
            tensor, source = recorder.arrays.get(id(found[0]), (found[0], found[0]))
            sources.append(source)
            elements.append(buffer_of(tensor).array.tobytes() if tensor is not source else b"")
        if any(source is not sources[0] for source in sources) or len({*elements}) > 1:
            raise Differs("each turn takes in another tensor or array from outside")

    # ---- writing it ----------------------------------------------------------------------------------------------

    def record(self, third: _Mark, end: _Mark) -> list[Tensor]:
        trace, recorder = self.trace, self.recorder
        behind = self.kept[-1] if self.kept else []
        if any(t._trace is not trace or t._slot < self.start for t in behind):
            raise Differs("what is collected is not computed in its turn")
        collected = {id(t) for tensors in self.kept for t in tensors}
        kept = [t for r in trace.live if (t := r()) is not None and t._trace is trace]
        last = [t for t in kept if t._slot >= self.start and id(t) not in collected]
        entering = [t for t in kept if self.start - self.period <= t._slot < self.start]
        handed_on = [t for t in entering if (self.place(t), 2) in self.carried]
        variables = {id(v._value) for v, _ in recorder.before.values()}
        for tensor in kept:
            is_last = tensor._slot >= self.start or any(tensor is t for t in handed_on)
            is_first = tensor._slot < self.marks[0].length or tensor._slot in self.same
            if not (is_first or is_last or id(tensor) in variables or id(tensor) in collected):
                raise Differs("tensors of its turns are kept, in a list maybe; nt.scan and nt.map_fn collect them")
        for mark, following in pairwise(self.marks[-3:]):
            if name := change(mark.held, following.held):
                raise Differs(f"its turns change {name}, which is Python's and not recorded")
        news = [slot for slot in end.assigned.values() if slot >= self.start]
        packed = [slot for _, slots in end.packs for slot in slots if slot >= self.start]
        places = dict.fromkeys(slot - self.start for slot in [*(t._slot for t in last), *news, *packed])
        firsts = dict.fromkeys(map(self.place, handed_on))
        changed = [recorder.before[key][0] for key, slot in end.assigned.items() if slot >= self.start]
        read = {id(variable) for variable, now in recorder.reads.values() if now >= self.start}
        if read.intersection(map(id, changed)):
            # Of all that was read in the turns, a tape around the loop would know these reads alone.
            if any(tape is not recorder for tape in STATE.tapes):
                raise Differs("a tape around it sees Variables that its turns read and assign")
            recorder.hides_reads = True
        names = [*(("last", place) for place in places), *(("before", place) for place in firsts)]
        stacks = dict.fromkeys(t._slot - self.start for t in behind)
        names += [("all", place) for place in stacks]

        def grow(builder: Builder, values: list[Value]) -> list[Value]:
            return self.loop(builder, places, firsts, stacks)

        def finish(node: Any) -> None:
            at = dict(zip(names, node.results, strict=True))
            node.donations = tuple(
                (at["last", slot - self.start][0], slot) for slot in dict.fromkeys([*news, *packed])
            )

        node = trace.extend(("turns", self.period, self.count, *names), None, (), (), grow, finish)
        at = dict(zip(names, node.results, strict=True))
        trace.node, trace.next_slot = node, node.length
        assigned = [trace.result(at["last", slot - self.start]) for slot in news]
        for tensor in last:
            tensor._slot = at["last", tensor._slot - self.start][0]
        for tensor in handed_on:
            tensor._slot = at["before", self.place(tensor)][0]
        trace.assigned += assigned
        for variable, value in zip(changed, assigned, strict=True):
            variable._value = value
        EPOCH[0] += 1
        for pack, slots in end.packs:
            now = tuple(at["last", slot - self.start][0] if slot >= self.start else slot for slot in slots)
            pack.take_over(trace, now)
        return [trace.result(at["all", t._slot - self.start]) for t in behind]

    def place(self, tensor: Any) -> int:
        """The place in its turn of a tensor of the turn before the last."""
        return int(tensor._slot - self.start + self.period)

    def loop(
        self, builder: Builder, places: dict[int, None], firsts: dict[int, None], stacks: dict[int, None]
    ) -> list[Value]:
        sequences = {}
        for place, (axis, step) in self.moving.items():
            i = self.turn[place]
            begin, size, _ = i.attributes
            start = tuple(b + step * (a == axis) for a, b in enumerate(begin))
            sequences[place] = window(builder.value(i.operands[0]), start, size, axis, step, self.count)
        carried = [builder.value(self.start - (back - 1) * self.period + place) for place, back in self.carried]
        same = [builder.value(slot) for slot in self.same]
        body = Body(builder, Builder(), carried, same, list(sequences.values()))
        inputs = body.inputs()
        known: dict[Any, Value] = {("carried", key): value for key, value in zip(self.carried, inputs[0], strict=True)}
        known |= {("same", slot): value for slot, value in zip(self.same, inputs[1], strict=True)}
        rows = dict(zip(sequences, inputs[2], strict=True))
        for place, (i, operands) in enumerate(zip(self.turn, self.operands, strict=True)):
            if i.op is INPUT:
                known["local", place] = known["same", self.start + place]
            elif place in rows:
                known["local", place] = reshape_to(rows[place], i.type.shape)
            else:
                body.inside.origin = self.start + place
                copied = tuple([known[key].index for key in operands])
                known["local", place] = body.inside.append(Instruction(i.op, copied, i.attributes, i.type))
        following = [
            known[("local", place) if back == 1 else ("carried", (place, back - 1))] for place, back in self.carried
        ]
        done = body.close(following, self.count)
        return [
            *(final(done, known["local", place].index) for place in places),
            *(final(done, known["carried", (place, 1)].index) for place in firsts),
            *(stacked(done, known["local", place].index) for place in stacks),
        ]
