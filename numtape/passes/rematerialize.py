"""Loops whose turns take too much memory on the way back: run in stretches, which are computed again.

A loop that is differentiated stacks what the loop back reads, for all turns. Where that is more than a limit, only what
enters every k-th turn is kept, and the loop back, before it goes back through k turns, runs these once more. So of n
turns about 2 sqrt(n) are in memory, instead of all.

In comes a program; out comes one in which such a loop, and those that go back through it, are loops over stretches
around loops over the turns of a stretch. Turns at the ends that are left over, or are read one by one, are
loops of their own, as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import NamedTuple

from numtape.dtypes import tensor_type
from numtape.ir.loop import FINAL, LOOP, STACKED, Body, final, needed, parts, stacked
from numtape.ir.op import Kind, Op
from numtape.ir.program import INPUT, Builder, Instruction, Program, Value
from numtape.ops.movement import concat_along, reshape_to, slice_of

MIN_TURNS = 4
"""Fewer turns stay as they are."""
CANDIDATES = 1000
"""So many lengths are compared."""
ENDS = 8
"""How many turns at each end may be read one by one."""


def rematerialize(program: Program, limit: int | None) -> Program:
    """The same outputs, of loops that stack no more than so many bytes for the way back; None is no limit."""
    if limit is None or all(i.op is not STACKED for i in program.instructions):
        return program
    chosen = _Search(program, limit).chosen
    return _Writing(program, chosen).write() if chosen else program


class Window(NamedTuple):
    """How a loop goes over a sequence: where it starts, and its step."""

    start: int
    step: int

    def later(self, turns: int) -> Window:
        """The window of the turns from there on."""
        return Window(self.start + self.step * turns, self.step)

    def back(self, count: int) -> Window:
        """The window of so many turns from the last to the first."""
        return Window(self.start + self.step * (count - 1), -self.step)


@dataclass(slots=True)
class Back:
    """A loop that goes back through the turns of another: from which on, and what it reads of them.

    `reads` says for the number of a sequence, among the loop's operands, of which value of the other's body it is.
    """

    first: int
    reads: dict[int, int]


@dataclass(slots=True)
class Cut:
    """A loop to be run in `count` stretches of `length` turns, from turn `begin` on."""

    begin: int
    count: int
    length: int
    dropped: set[int]
    """Values of its body that are stacked for all turns no more."""
    backs: dict[int, Back]

    @property
    def again(self) -> set[int]:
        """Values of its body that are computed again."""
        return {value for back in self.backs.values() for value in back.reads.values()}

    @property
    def end(self) -> int:
        return self.begin + self.count * self.length


# ---- which loops ---------------------------------------------------------------------------------------------------


class _Search:
    """Which loops are run in stretches: by the index of each, how."""

    def __init__(self, program: Program, limit: int) -> None:
        self.program, self.limit = program, limit
        self.readers: dict[int, list[tuple[int, int]]] = {}
        """For each value the instructions that read it, and as which operand."""
        self.chosen: dict[int, Cut] = {}
        for index, i in enumerate(program.instructions):
            for at, k in enumerate(i.operands):
                self.readers.setdefault(k, []).append((index, at))
        taken = set[int]()
        for index, i in enumerate(program.instructions):
            if i.op is LOOP and index not in taken:
                cut = self.examine(index, taken)
                if cut is not None:
                    self.chosen[index] = cut
                    taken |= {index, *cut.backs}

    def examine(self, index: int, taken: set[int]) -> Cut | None:
        """How to cut a loop; None if it stays as it is."""
        program = self.program
        i = program.instructions[index]
        body, count, _ = i.attributes
        whole = set[int]()
        """Values that are wanted for all turns."""
        values = set[int]()
        backs: dict[int, list[tuple[int, int, int]]] = {}
        """For each loop back the number of a sequence, the value, and in which turn it starts."""
        begin, end = 0, count
        for part, _ in self.readers.get(index, ()):
            p = program.instructions[part]
            if p.op is not STACKED:
                continue
            value = p.attributes[0]
            values.add(value)
            if part in program.outputs:
                whole.add(value)
            for reader, at in self.readers.get(part, ()):
                window = self.window(reader, at)
                rows = self.rows(reader)
                if window is not None and window.step == -1 and reader not in taken:
                    backs.setdefault(reader, []).append((at, value, window.start))
                elif rows is not None and rows[1] <= ENDS:
                    begin = max(begin, rows[1])
                elif rows is not None and rows[0] >= count - ENDS:
                    end = min(end, rows[0])
                else:
                    whole.add(value)
        firsts = {}
        for reader in sorted(backs):
            found = self.first(body, count, program.instructions[reader].attributes[1],
                               [(value, start) for _, value, start in backs[reader] if value not in whole])  # fmt: skip
            if found is None:
                whole.update(value for _, value, _ in backs[reader])
            else:
                firsts[reader] = found
        made: dict[int, Back] = {}
        for reader, first in firsts.items():
            reads = [(at, same_in(body, value, start - first)) for at, value, start in backs[reader]
                     if value not in whole]  # fmt: skip
            if reads:
                made[reader] = Back(first, {at: value for at, value in reads if value is not None})
                turns = program.instructions[reader].attributes[1]
                begin, end = max(begin, first - turns + 1), min(end, first + 1)
        if not made or end - begin < MIN_TURNS:
            return None
        return self.cheapest(index, whole, Cut(begin, 1, end - begin, values - whole, made))

    def cheapest(self, index: int, whole: set[int], all_turns: Cut) -> Cut | None:
        """How to cut these turns of a loop; None if that does not pay, or need not be. `whole` is stacked as it was."""
        body, count, _ = self.program.instructions[index].attributes
        begin, end = all_turns.begin, all_turns.end
        saved = nbytes(body, all_turns.dropped) * count
        again = nbytes(body, all_turns.again)
        at_hand = needed(body, all_turns.again)
        entering = nbytes(body, (k for k in body.inputs[: len(body.outputs)] if k in at_hand))
        if saved <= self.limit or not again:
            return None

        def cost(cut: Cut) -> int:
            """Bytes: of what enters the stretches, of one of them, of the turns that are in none, and copies."""
            left = count - cut.count * cut.length
            return int(cut.count * entering + (cut.length + left) * again + self.copied(index, cut, whole))

        cuts = [
            replace(all_turns, begin=first, count=(end - first) // length, length=length)
            for length in lengths(end - begin, entering, again) for first in self.firsts(index, begin, length)
            if end - first >= 2 * length
        ]  # fmt: skip
        cut = min(cuts, key=cost)
        return cut if cost(cut) < saved else None

    def firsts(self, index: int, begin: int, length: int) -> set[int]:
        """Turns to begin with: this one, and those from which on sequences need not be copied to be cut."""
        windows = self.program.instructions[index].attributes[2]
        return {begin, *(begin + -(start + begin) % length for start, step in windows if step == 1)}

    def window(self, reader: int, at: int) -> Window | None:
        """How a loop goes over an operand; None if it does not."""
        i = self.program.instructions[reader]
        if i.op is not LOOP:
            return None
        k = at - (len(i.operands) - len(i.attributes[2]))
        return Window(*i.attributes[2][k]) if k >= 0 else None

    def rows(self, reader: int) -> tuple[int, int] | None:
        """From where to where along the first axis an instruction takes a slice; None for others."""
        i = self.program.instructions[reader]
        if i.op.name != "slice" or not i.type.size:
            return None
        (begin, *_), (size, *_), (step, *_) = i.attributes
        last = begin + step * (size - 1)
        return min(begin, last), max(begin, last) + 1

    def first(self, body: Program, count: int, turns: int, reads: Sequence[tuple[int, int]]) -> int | None:
        """The turn from which on a loop back reads all these values, given where it starts to read the stack of each.

        What was handed on from turn to turn counts as of the one or the other.
        """
        if not reads or turns < 2:
            return None
        fitting = [
            first for first in range(reads[0][1] - 1, reads[0][1] + 2)
            if turns <= first + 1 <= count and all(same_in(body, x, start - first) is not None for x, start in reads)
        ]  # fmt: skip
        return max(fitting, default=None)

    def copied(self, index: int, cut: Cut, whole: set[int]) -> int:
        """About how many bytes are copied in order to cut sequences, and to join what is stacked."""
        program, turns = self.program, cut.count * cut.length
        total = 0
        for loop in (index, *cut.backs):
            i = program.instructions[loop]
            _, count, windows = i.attributes
            back = cut.backs.get(loop)
            begin = cut.begin if back is None else back.first + 1 - cut.end
            for at, window in enumerate(windows, len(i.operands) - len(windows)):
                x = program.instructions[i.operands[at]]
                length, *shape = x.type.shape
                is_read = back is not None and at in back.reads
                is_slice = x.op.name == "slice" and len(self.readers[i.operands[at]]) == 1  # and gives way to another
                if not (is_read or is_slice or stays(length, Window(*window).later(begin), cut)):
                    total += turns * tensor_type(x.type.dtype, tuple(shape)).nbytes
            for part, _ in self.readers[loop] if count != turns else ():
                p = program.instructions[part]
                readers = [program.instructions[k] for k, _ in self.readers.get(part, ())]
                is_joined = len(readers) == 1 and readers[0].op.name == "concat"  # with others, and not on its own
                if p.op is STACKED and not is_joined and (back is not None or p.attributes[0] in whole):
                    total += p.type.nbytes
        return total


def nbytes(body: Program, values: Iterable[int]) -> int:
    """How many bytes these values of a turn are."""
    return sum(body.type(value).nbytes for value in values)


def lengths(turns: int, entering: int, again: int) -> range:
    """How long stretches of so many turns may be, if so many bytes enter one, and so many are computed again a turn."""
    best = min(max(isqrt(turns * entering // again), isqrt(turns) // 4, 2), turns // 2)
    low, high = max(best // 2, 2), min(2 * best, turns // 2)
    return range(low, high + 1, -(-(high + 1 - low) // CANDIDATES))


def stays(rows: int, window: Window, cut: Cut) -> bool:
    """Whether a sequence, seen through a window, is cut in stretches where it is: they fit into all of its rows."""
    start, step = window
    first = min(start, start + step * (cut.count * cut.length - 1))
    return step == 0 or (abs(step) == 1 and rows % cut.length == first % cut.length == 0)


def same_in(body: Program, value: int, later: int) -> int | None:
    """The value of a turn's body that is this one so many turns later; None if there is none."""
    if later == 0:
        return value
    if later == -1 and value in body.outputs:
        return body.inputs[body.outputs.index(value)]
    if later == 1 and value in body.inputs[: len(body.outputs)]:
        return body.outputs[body.inputs.index(value)]
    return None


# ---- writing them --------------------------------------------------------------------------------------------------

Rows = tuple[Value, Window]


@dataclass(slots=True)
class Turns:
    """A loop to be written: its body, as far as it is needed, and what that is given."""

    body: Program
    values: Mapping[int, int]
    """For values of the body as it was those of this one."""
    numbers: list[int]
    """What is carried, of that which was."""
    carried: list[Value]
    same: list[Value]
    sequences: list[Rows]
    reads: list[int]
    """Values of another loop's body: their stacks are the last sequences."""

    def write(
        self, builder: Builder, begin: int, count: int, carried: Sequence[Value], read: Iterable[Rows] = ()
    ) -> Value:
        """So many of the turns, from `begin` on, which these values enter."""
        rows = [*((x, window.later(begin)) for x, window in self.sequences), *read]
        operands = [*carried, *self.same, *(x for x, _ in rows)]
        windows = tuple((window.start, window.step) for _, window in rows)
        return builder.emit(LOOP, operands, (self.body, count, windows))


@dataclass(slots=True)
class Written:
    """A loop in pieces: turns before the stretches, if there are any, the stretches, and turns behind them."""

    turns: Turns
    before: Value | None
    middle: Value
    behind: Value | None
    entering: Mapping[int, int]
    """In the body of the stretches: what is carried into one, by its number,"""
    finals: Mapping[int, int]
    """values of its last turn,"""
    stacks: Mapping[int, int]
    """and of all its turns."""

    def final(self, value: int) -> Value:
        """A value in the last turn."""
        if self.behind is not None:
            return final(self.behind, self.turns.values[value])
        return final(self.middle, self.finals[value])

    def rows(self, piece: Value | None, value: int) -> Value:
        """A value in all turns of the piece before the stretches, or behind them."""
        assert piece is not None
        return stacked(piece, self.turns.values[value])

    def whole(self, value: int) -> Value:
        """A value in all turns."""
        rows = stacked(self.middle, self.stacks[value])
        pieces: list[Value] = [reshape_to(rows, (rows.shape[0] * rows.shape[1], *rows.shape[2:]))]
        if self.before is not None:
            pieces.insert(0, self.rows(self.before, value))
        if self.behind is not None:
            pieces.append(self.rows(self.behind, value))
        return concat_along(pieces, 0)  # type: ignore[no-any-return]


class _Writing:
    """The program once more, with loops in stretches."""

    def __init__(self, program: Program, chosen: dict[int, Cut]) -> None:
        self.program, self.chosen = program, chosen
        self.builder = Builder()
        self.new: dict[int, Value] = {}
        self.written: dict[int, Written] = {}
        self.forward = {back: index for index, cut in chosen.items() for back in cut.backs}
        """For each loop back the one that it goes back through."""
        self.wanted: dict[tuple[int, Op], list[int]] = {}
        """Of which values of a loop finals, or stacks, are asked for."""
        for i in program.instructions:
            if i.op.kind is Kind.PART:
                self.wanted.setdefault((i.operands[0], i.op), []).append(i.attributes[0])

    def write(self) -> Program:
        program, builder = self.program, self.builder
        for index, i in enumerate(program.instructions):
            builder.origin = program.origin(index)
            if index in self.chosen:
                self.written[index] = self.loop(index)
            elif index in self.forward:
                self.written[index] = self.loop_back(index)
            elif i.op.kind is Kind.PART and i.operands[0] in self.written:
                if i.op is FINAL:
                    self.new[index] = self.written[i.operands[0]].final(i.attributes[0])
                elif not self.is_dropped(index):
                    self.new[index] = self.written[i.operands[0]].whole(i.attributes[0])
            elif i.operands and self.is_dropped(i.operands[0]):
                self.new[index] = self.slice(i)
            else:
                operands = tuple([self.new[k].index for k in i.operands])
                self.new[index] = builder.append(Instruction(i.op, operands, i.attributes, i.type))
        outputs = tuple(self.new[k].index for k in program.outputs)
        return Program(tuple(builder.instructions), outputs, program.donations, tuple(builder.origins))

    def is_dropped(self, index: int) -> bool:
        """Whether this is a stack that is there no more."""
        i = self.program.instructions[index]
        if i.op is not STACKED or i.operands[0] not in self.chosen:
            return False
        return i.attributes[0] in self.chosen[i.operands[0]].dropped

    def slice(self, i: Instruction) -> Value:
        """A slice of a stack that is there no more: of the turns before the stretches, or behind them."""
        part = self.program.instructions[i.operands[0]]
        written, cut = self.written[part.operands[0]], self.chosen[part.operands[0]]
        (first, *others), size, step = i.attributes
        piece = written.before
        if first >= cut.end:
            piece, first = written.behind, first - cut.end
        found: Value = slice_of(written.rows(piece, part.attributes[0]), (first, *others), size, step)
        return found

    # ---- a loop in pieces ------------------------------------------------------------------------------------------

    def loop(self, index: int) -> Written:
        """Write a loop, and keep what enters each stretch."""
        cut, builder = self.chosen[index], self.builder
        count = self.program.instructions[index].attributes[1]
        stacks = [value for value in self.wanted[index, STACKED] if value not in cut.dropped]
        finals = self.wanted.get((index, FINAL), [])
        turns = self.turns(index, {*finals, *stacks, *cut.dropped, *cut.again})
        before = behind = None
        carried = turns.carried
        if cut.begin:
            before = turns.write(builder, 0, cut.begin, carried)
            carried = ends(before)
        own = [chunks(*row, cut.begin, cut) for row in turns.sequences]
        body = Body(builder, Builder(), carried, turns.same, [(x, *way) for x, way, _ in own])
        inside = body.inside
        inside.origin = builder.origin
        carried, same, rows = body.inputs()
        inner = replace(turns, same=same, sequences=within(rows, own)).write(inside, 0, cut.length, carried)
        finals_of = {value: final(inner, turns.values[value]).index for value in finals}
        stacks_of = {value: stacked(inner, turns.values[value]).index for value in stacks}
        entering = {k: x.index for k, x in zip(turns.numbers, carried, strict=True)}
        middle = body.close(ends(inner), cut.count)
        if cut.end < count:
            behind = turns.write(builder, cut.end, count - cut.end, ends(middle))
        return Written(turns, before, middle, behind, entering, finals_of, stacks_of)

    def loop_back(self, index: int) -> Written:
        """Write a loop back: before each stretch of it, that of the other loop is run again."""
        builder, forward, cut = self.builder, self.written[self.forward[index]], self.chosen[self.forward[index]]
        back, count = cut.backs[index], self.program.instructions[index].attributes[1]
        finals, stacks = (self.wanted.get((index, op), []) for op in (FINAL, STACKED))
        turns, again = self.turns(index, {*finals, *stacks}, back.reads), self.turns(self.forward[index], cut.again)
        begin = back.first + 1 - cut.end
        end = begin + cut.count * cut.length
        before = behind = None
        carried = turns.carried
        if begin:
            read = [(forward.rows(forward.behind, k), Window(begin - 1, -1)) for k in turns.reads]
            before = turns.write(builder, 0, begin, carried, read)
            carried = ends(before)
        own = [chunks(*row, begin, cut) for row in turns.sequences]
        others = [chunks(*row, cut.begin, cut) for row in again.sequences]
        kept = [(stacked(forward.middle, forward.entering[k]), cut.count - 1, -1) for k in again.numbers]
        body = Body(
            builder, Builder(), carried, [*turns.same, *again.same],
            [*((x, *way) for x, way, _ in own), *((x, *way.back(cut.count)) for x, way, _ in others), *kept],
        )  # fmt: skip
        inside = body.inside
        inside.origin = builder.origin
        carried, same, rows = body.inputs()
        ours, theirs = len(turns.same), len(own) + len(others)
        once_more = replace(again, same=same[ours:], sequences=within(rows[len(own) : theirs], others)).write(
            inside, 0, cut.length, rows[theirs:]
        )
        read = [(stacked(once_more, again.values[k]), Window(cut.length - 1, -1)) for k in turns.reads]
        inner = replace(turns, same=same[:ours], sequences=within(rows[: len(own)], own)).write(
            inside, 0, cut.length, carried, read
        )
        finals_of = {value: final(inner, turns.values[value]).index for value in finals}
        stacks_of = {value: stacked(inner, turns.values[value]).index for value in stacks}
        middle = body.close(ends(inner), cut.count)
        if end < count:
            read = [(forward.rows(forward.before, k), Window(cut.begin - 1, -1)) for k in turns.reads]
            behind = turns.write(builder, end, count - end, ends(middle), read)
        return Written(turns, before, middle, behind, {}, finals_of, stacks_of)

    def turns(self, index: int, wanted: Iterable[int], reads: Mapping[int, int] = {}) -> Turns:
        """A loop as far as it computes these values of its body; `reads` says what it reads of another's turns."""
        i = self.program.instructions[index]
        body, _, windows = i.attributes
        carried, same, _ = parts(len(i.operands), body, windows)
        at_hand = needed(body, wanted)
        kept = sorted((k for k, value in enumerate(body.inputs) if value in at_hand), key=lambda k: k in reads)
        inside = Builder()
        values: dict[int, int] = {}
        for value in sorted(at_hand):
            b = body.instructions[value]
            inside.origin = body.origin(value)
            attributes = (kept.index(b.attributes[0]),) if b.op is INPUT else b.attributes
            operands = tuple(values[k] for k in b.operands)
            values[value] = inside.append(Instruction(b.op, operands, attributes, b.type)).index
        numbers = [k for k in kept if k < carried]
        outputs = tuple(values[body.outputs[k]] for k in numbers)
        sequences = [k for k in kept if k >= carried + same]
        return Turns(
            Program(tuple(inside.instructions), outputs, (), tuple(inside.origins)), values, numbers,
            [self.new[i.operands[k]] for k in numbers],
            [self.new[i.operands[k]] for k in kept if carried <= k < carried + same],
            [(self.new[i.operands[k]], Window(*windows[k - carried - same])) for k in sequences if k not in reads],
            [reads[k] for k in sequences if k in reads],
        )  # fmt: skip


def ends(loop: Value) -> list[Value]:
    """What is carried on at the end of a loop."""
    body = loop.builder.instructions[loop.index].attributes[0]
    return [final(loop, k) for k in body.outputs]


Chunks = tuple[Value, Window, Window]
"""A sequence in stretches, how the loop around goes over it, and the one inside over a stretch."""


def chunks(x: Value, window: Window, begin: int, cut: Cut) -> Chunks:
    """What a loop reads of a sequence from a turn on, in stretches."""
    window = window.later(begin)
    rows, *rest = x.shape
    start, step = window
    if step == 0:
        row = slice_of(x, (start, *(0,) * len(rest)), (1, *rest), (1,) * x.rank)
        return reshape_to(row, (1, *row.shape)), Window(0, 0), Window(0, 0)
    size = cut.count * cut.length
    first = min(start, start + step * (size - 1))
    if not stays(rows, window, cut):
        x = slice_of(x, (first, *(0,) * len(rest)), (size, *rest), (abs(step), *(1,) * len(rest)))
        first = 0
    around, inner = Window(first // cut.length, 1), Window(0, 1)
    if step < 0:
        around, inner = around.back(cut.count), inner.back(cut.length)
    return reshape_to(x, (x.shape[0] // cut.length, cut.length, *rest)), around, inner


def within(rows: Sequence[Value], cut_up: Sequence[Chunks]) -> list[Rows]:
    """These sequences in the loop inside."""
    return [(row, inner) for row, (_, _, inner) in zip(rows, cut_up, strict=True)]
