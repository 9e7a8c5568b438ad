"""Find the loops that Python wrote out, and make them loops again.

In comes a program in which stretches of instructions repeat; out comes one with `loop` instructions for them. A stretch
repeats if it does the same in each turn, and if each operand either is of the same turn, or of a turn before, or the
same in all turns, or moves evenly: over the elements of an array, over inputs, over what an earlier loop computed. What
differs in the first or the last turns, they are left as they are. Inner loops are found before the loops around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape.dtypes import Shape, TensorType
from numtape.ir.loop import Body, final, stacked
from numtape.ir.op import Kind
from numtape.ir.program import CONSTANT, INPUT, Builder, Instruction, Program, Value
from numtape.ops.movement import concat_along, permute, reshape_to, slice_of
from numtape.passes.simplify import exact

MIN_TURNS = 8
"""Fewer turns stay as they are."""
MIN_GAIN = 40
"""So many instructions have to go."""
MAX_GATHERED = 4096
"""Bytes of what each turn reads at a place of its own; more of them take longer to copy than a loop saves."""
TRIED = 4
"""How many of the latest places that look alike are tried as a loop's start."""
WINDOW = 4
"""How many instructions look alike before anything else is compared."""

ROW = 1 << 40
"""How many numbers there are for what is given of one kind."""

Rows = npt.NDArray[np.int64]


def reroll(program: Program) -> Program:
    """The same outputs, with loops for what repeats."""
    while len(program.instructions) > MIN_GAIN:
        shorter = Rolling(program).run()
        if shorter is None or len(shorter.instructions) >= len(program.instructions):
            break
        program = shorter
    return program


@dataclass(slots=True)
class Loop:
    """A stretch that repeats: `count` turns of `period` instructions from `start` on, by dense numbers."""

    start: int
    period: int
    count: int
    first: Rows
    """The operands of the first turn,"""
    second: Rows
    """of the second, and how they grow from there."""
    strides: Rows
    entering: dict[int, int]
    """For columns that read what enters the turns of an earlier loop, what entered its first turn."""
    places: list[list[Any]] = field(default_factory=list)
    """What the operands in each place of a turn are: a kind and a key,"""
    keys: dict[str, dict[Any, None]] = field(default_factory=dict)
    """and all keys of each kind."""
    fixed: set[int] = field(default_factory=set)
    """Places of what is the same in all turns."""
    turns: Value | None = None
    values: dict[Any, int] = field(default_factory=dict)
    """For the place of an instruction in a turn its value in the body, and for what enters a turn,"""
    hoisted: dict[int, Value] = field(default_factory=dict)
    """or the value outside that it is in every turn."""
    stacks: dict[Any, Value] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.start + self.period * self.count


class Rolling:
    """One round over a program.

    What needs nothing but inputs (inputs, literals, slices of inputs) is *given*: it may stand before any loop. All
    else has dense numbers, in order. What is given has negative numbers: equal ones the same, and those of one kind in
    a row of their own, so that they move evenly where a loop takes one after another; row 0 stays empty, so that they
    do not go on from what is dense.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        instructions = program.instructions
        self.dense: list[int] = []
        self.given: dict[int, int] = {}
        """By number, which instruction it is."""
        kinds: dict[Any, list[int]] = {}
        """For each kind of what is given the start of its row, and how many there are."""
        self.number: list[int] = []
        known: dict[Any, int] = {}
        codes: dict[Any, int] = {}
        code: list[int] = []
        flat: list[int] = []
        self.offsets = [0]
        for index, i in enumerate(instructions):
            operands = [self.number[k] for k in i.operands]
            if i.op is INPUT or i.op is CONSTANT or (i.op.name in GIVEN and all(k < 0 for k in operands)):
                key = (i.op, i.type, exact(i.attributes), *operands)
                if key not in known:
                    kind = i.op, i.type, *(k // ROW for k in operands)
                    row = kinds.setdefault(kind, [-1 - ROW * (len(kinds) + 1), 0])
                    known[key] = row[0] - row[1]
                    row[1] += 1
                    self.given[known[key]] = index
                self.number.append(known[key])
                continue
            self.number.append(len(self.dense))
            self.dense.append(index)
            key = (i.op, i.type, len(operands), exact(i.attributes))
            code.append(codes.setdefault(key, len(codes)))
            flat += operands
            self.offsets.append(len(flat))
        self.code = np.array(code, np.int64)
        self.flat = np.array(flat, np.int64)
        self.loops: list[Loop] = []
        self.barred: dict[int, int] = {}
        """For lengths of turns up to where they cannot be a loop, wherever it is cut into turns."""
        self.builder = Builder()
        self.new: dict[int, Value] = {}
        """What has been written, by number."""

    # ---- what repeats ----------------------------------------------------------------------------------------------

    def run(self) -> Program | None:
        """The program with its innermost loops; None if there are none."""
        at, seen = 0, dict[bytes, list[int]]()
        count = len(self.dense)
        while at + WINDOW <= count:
            key = self.code[at : at + WINDOW].tobytes()
            before = seen.setdefault(key, [])
            tried = (self.repeats(start, at - start) for start in reversed(before[-TRIED:]))
            loop = next((found for found in tried if found), None)
            if loop is None:
                before.append(at)
                at += 1
            else:
                self.loops.append(loop)
                at, seen = loop.end, {}
        return self.rewrite() if self.loops else None

    def repeats(self, start: int, period: int) -> Loop | None:
        """The longest run of turns of this period that are alike, from about `start` on."""
        code = self.code
        if start < self.barred.get(period, 0):
            return None
        if not np.array_equal(code[start : start + period], code[start + period : start + 2 * period]):
            return None
        same = code[start + period :] == code[start:-period]
        stop = int(np.argmin(same)) if not same.all() else len(same)
        count = (stop + period) // period
        width = self.offsets[start + period] - self.offsets[start]
        if count < MIN_TURNS or (count - 2) * period < MIN_GAIN or not width:
            return None
        rows = self.flat[self.offsets[start] : self.offsets[start] + width * count].reshape(count, width)
        moves = rows[1:] - rows[:-1]
        alike = (moves[1:] == moves[:-1]).all(1)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], alike, [0]))))
        if not len(edges):
            return None
        lengths = edges[1::2] - edges[::2]
        longest = int(np.argmax(lengths))
        first, turns = int(edges[2 * longest]), int(lengths[longest]) + 2
        strides = moves[first]
        if first and self.begins(rows[first - 1], rows[first], strides, start + (first - 1) * period, period):
            first, turns = first - 1, turns + 1
        if turns < MIN_TURNS or (turns - 2) * period < MIN_GAIN:
            return None
        entering: dict[int, int] = {}
        if first + turns < count:
            entering = self.ends(rows[first], rows[first + turns - 1] + strides, rows[first + turns], strides) or {}
            turns += bool(entering)
        loop = Loop(start + first * period, period, turns, rows[first], rows[first + 1], strides, entering)
        return loop if self.describe(loop) else None

    def ends(self, start: Rows, expected: Rows, row: Rows, strides: Rows) -> dict[int, int] | None:
        """Columns in which a turn differs from those from `start` on, if it would be the last that reads what an
        earlier loop carried in its turns, and here is what that was at first: for each column this value."""
        found = {}
        for column in np.flatnonzero(expected != row).tolist():
            number, first = int(expected[column]), int(row[column])
            earlier = self.loop_at(number + abs(int(strides[column])))
            if earlier is None or earlier is not self.loop_at(int(start[column]) + earlier.period):
                return None
            if abs(int(strides[column])) != earlier.period or number >= earlier.start:
                return None
            place = number + earlier.period - earlier.start
            if (place, 1, (first,)) not in earlier.keys[Carried]:
                return None
            found[column] = first
        return found

    def begins(self, row: Rows, following: Rows, strides: Rows, start: int, period: int) -> bool:
        """Whether a turn is like those that follow it but for the first values of what is carried."""
        differ = following - row != strides
        carried = (strides == period) & (following < start + period) & (following >= start)
        if not (carried[differ] & (row[differ] < start)).all():
            return False
        pairs = zip(row[differ].tolist(), following[differ].tolist(), strict=True)
        return all(self.kind(first) is self.kind(later) for first, later in pairs)

    # ---- writing loops ---------------------------------------------------------------------------------------------

    def rewrite(self) -> Program:
        for number, index in self.given.items():
            if self.program.instructions[index].op is INPUT:
                self.value(number)
        at = 0
        for loop in self.loops:
            for k in range(at, loop.start):
                self.write(k)
            self.roll(loop)
            at = loop.end
        for k in range(at, len(self.dense)):
            self.write(k)
        outputs = tuple(self.value(self.number[k]).index for k in self.program.outputs)
        made = self.builder
        return beside(Program(tuple(made.instructions), outputs, self.program.donations, tuple(made.origins)))

    def write(self, number: int) -> None:
        self.new[number] = self.again(self.dense[number])

    def value(self, number: int) -> Value:
        """A value by its number, written when it is first asked for if it is given, or of a turn of a loop."""
        found = self.new.get(number)
        if found is None:
            found = self.new[number] = self.again(self.given[number]) if number < 0 else self.picked(number)
        return found

    def again(self, index: int) -> Value:
        """An instruction as it was, on what its operands have become."""
        i = self.program.instructions[index]
        operands = tuple([self.value(self.number[k]).index for k in i.operands])
        self.builder.origin = self.program.origin(index)
        return self.builder.append(Instruction(i.op, operands, i.attributes, i.type))

    def loop_at(self, number: int) -> Loop | None:
        return next((loop for loop in self.loops if loop.start <= number < loop.end), None)

    def picked(self, number: int) -> Value:
        """One turn's value of a loop that is written."""
        loop = self.loop_at(number)
        assert loop is not None
        assert loop.turns is not None
        turn, place = divmod(number - loop.start, loop.period)
        if place in loop.hoisted:
            return loop.hoisted[place]
        if turn == loop.count - 1:
            return final(loop.turns, loop.values[place])
        if turn == loop.count - 2:  # it enters the last turn
            for at, back, (first, *_) in loop.keys[Carried]:
                if back == 1 and at == place:
                    return final(loop.turns, loop.values[place, first])
        whole = self.whole(loop, place)
        row: Value = slice_of(whole, (turn,) + (0,) * (whole.rank - 1), (1, *whole.shape[1:]), (1,) * whole.rank)
        return reshape_to(row, whole.shape[1:])  # type: ignore[no-any-return]

    def whole(self, loop: Loop, key: Any) -> Value:
        """All turns' values: of a place, or of what enters a turn, by its place and first value."""
        if key not in loop.stacks:
            assert loop.turns is not None
            loop.stacks[key] = stacked(loop.turns, loop.values[key])
        return loop.stacks[key]

    def roll(self, loop: Loop) -> None:
        """Write a stretch as a loop."""
        places, keys = loop.places, loop.keys
        instructions = [self.program.instructions[k] for k in self.dense[loop.start : loop.start + loop.period]]
        for place in sorted(loop.fixed):
            loop.hoisted[place] = self.once(loop, place, places[place])
        sequences = {key: self.sequence(loop, *key) for key in keys[Sequence_]}
        same = {(Same, at): self.value(at) for at in keys[Same]}
        for place, own in enumerate(places):
            if place not in loop.hoisted:
                same |= {(kind, at): loop.hoisted[at] for kind, at in own if kind is Local and at in loop.hoisted}
        same |= {(Local, at): loop.hoisted[at] for at, back, _ in keys[Carried] if back == 1 and at in loop.hoisted}
        inside = Builder()
        body = Body(
            self.builder, inside, [self.value(firsts[0]) for _, _, firsts in keys[Carried]], [*same.values()],
            [*sequences.values()],
        )  # fmt: skip
        carried, same_inputs, rows = body.inputs()
        known: dict[Any, Value] = {(Carried, key): value for key, value in zip(keys[Carried], carried, strict=True)}
        known |= zip(same, same_inputs, strict=True)
        for key, row in zip(sequences, rows, strict=True):
            shape = self.kind(key[0]).shape
            known[Sequence_, key] = row if row.shape == shape else reshape_to(row, shape)
        for place, (i, own) in enumerate(zip(instructions, places, strict=True)):
            if place in loop.hoisted:
                continue
            inside.origin = self.program.origin(self.dense[loop.start + place])
            operands = tuple([known[key].index for key in own])
            known[Local, place] = inside.append(Instruction(i.op, operands, i.attributes, i.type))
            loop.values[place] = known[Local, place].index
        following = [
            known[(Local, place) if back == 1 else (Carried, (place, back - 1, firsts[1:]))]
            for place, back, firsts in keys[Carried]
        ]
        self.builder.origin = self.program.origin(self.dense[loop.start])
        loop.turns = body.close(following, loop.count)
        for (place, back, firsts), value in zip(keys[Carried], carried, strict=True):
            if back == 1:
                loop.values[place, firsts[0]] = value.index

    def describe(self, loop: Loop) -> bool:
        """Say what the operands of a turn are; False if one is nothing that a loop can have."""
        keys = loop.keys = {kind: {} for kind in (Local, Carried, Same, Sequence_)}
        at = 0
        for place in range(loop.period):
            own: list[Any] = []
            for _ in self.program.instructions[self.dense[loop.start + place]].operands:
                key = self.key(loop, at)
                if key is None:
                    return False
                own.append(key)
                kind, entry = key
                keys[kind][entry] = None
                while kind is Carried and entry[1] > 1:  # what is from further back is handed on from turn to turn
                    entry = (entry[0], entry[1] - 1, entry[2][1:])
                    keys[kind][entry] = None
                at += 1
            loop.places.append(own)
            kind = self.program.instructions[self.dense[loop.start + place]].op.kind
            if kind is Kind.PART and own[0][0] is not Local:
                return False  # cut between a loop and its parts
            if all(kind is Same or (kind is Local and place_ in loop.fixed) for kind, place_ in own):
                loop.fixed.add(place)
        return len(loop.fixed) < loop.period

    def key(self, loop: Loop, column: int) -> Any:
        """What the operands in a column are."""
        first, second, stride = (int(row[column]) for row in (loop.first, loop.second, loop.strides))
        last = second + stride * (loop.count - 2)
        if column in loop.entering:
            return Sequence_, (first, stride, loop.entering[column])
        if stride == 0 and first == second:
            return Same, first
        if stride == loop.period and last >= loop.start:
            if first >= loop.start:
                return Local, first - loop.start
            back = 1 if second >= loop.start else 1 + -(-(loop.start - second) // stride)
            firsts = (first, *(second + stride * k for k in range(back - 1)))
            last = second + stride * (back - 1)
            if any(self.kind(k) is not self.kind(last) for k in firsts):
                return None
            return Carried, (last - loop.start, back, firsts)
        if max(first, last) >= loop.start:
            return None
        earlier = self.earlier(first, last, stride)
        if earlier is not None and (first - earlier.start) % earlier.period in earlier.fixed:
            return Same, first
        numbers = range(first, first + stride * loop.count, stride)
        if earlier is None and (len({self.kind(k) for k in numbers}) > 1 or not self.gathers(numbers)):
            self.barred[loop.period] = loop.end
            return None
        return Sequence_, (first, stride, None)

    def gathers(self, numbers: Sequence[int]) -> bool:
        """Whether values of no earlier loop may be put into an array, one for each turn, or are in one."""
        rows = [self.program.instructions[self.given[n]] for n in numbers if n in self.given]
        if len(rows) == len(numbers) and self.boxes(rows):
            return True
        inputs = {i.attributes[0] for i in rows if i.op is INPUT}
        changed = any(k in inputs for _, k in self.program.donations)  # what is changed in place stays where it is
        return not changed and self.kind(numbers[0]).nbytes <= MAX_GATHERED

    def earlier(self, first: int, last: int, stride: int) -> Loop | None:
        """The loop in whose turns numbers from first to last are, all in one place."""
        found = self.loop_at(first)
        whole = found is not None and found is self.loop_at(last) and stride % found.period == 0
        return found if whole else None

    def kind(self, number: int) -> TensorType:
        """The type of a value by its number."""
        return self.program.type(self.given[number] if number < 0 else self.dense[number])

    def once(self, loop: Loop, place: int, own: Sequence[Any]) -> Value:
        """What is the same in all turns, before them."""
        index = self.dense[loop.start + place]
        i = self.program.instructions[index]
        operands = tuple([(self.value(at) if kind is Same else loop.hoisted[at]).index for kind, at in own])
        self.builder.origin = self.program.origin(index)
        return self.builder.append(Instruction(i.op, operands, i.attributes, i.type))

    # ---- sequences ---------------------------------------------------------------------------------------------

    def sequence(self, loop: Loop, first: int, stride: int, entered: int | None) -> tuple[Value, int, int]:
        """What moves evenly, as an array with the turns along its first axis, where it starts, and its step."""
        numbers = range(first, first + stride * loop.count, stride)
        if entered is not None:  # in its turn an earlier loop sees what the turn before has computed
            earlier = self.loop_at(first)
            assert earlier is not None
            turn, place = divmod(first - earlier.start, earlier.period)
            return self.whole(earlier, (place, entered)), turn + 1, stride // earlier.period
        if numbers[0] in self.given and numbers[-1] in self.given:
            found = self.windows([self.program.instructions[self.given[n]] for n in numbers])
            if found is not None:
                return found
        earlier = self.earlier(numbers[0], numbers[-1], stride)
        if earlier is not None:
            turn, place = divmod(first - earlier.start, earlier.period)
            return self.whole(earlier, place), turn, stride // earlier.period
        rows = [self.value(n) for n in numbers]
        return concat_along([reshape_to(row, (1, *row.shape)) for row in rows], 0), 0, 1

    def windows(self, rows: Sequence[Instruction]) -> tuple[Value, int, int] | None:
        """Slices of one array, one after another: the array, seen in rows."""
        found = self.boxes(rows)
        if found is None:
            return None
        first, axis, move = found
        begin, size, _ = first.attributes
        return window(self.value(self.number[first.operands[0]]), begin, size, axis, move, len(rows))

    def boxes(self, rows: Sequence[Instruction]) -> tuple[Instruction, int, int] | None:
        """If these are slices of one array, one after another: the first, along which axis they move, and how far."""
        instructions = self.program.instructions
        while all(i.op.name == "reshape" for i in rows):
            rows = [instructions[i.operands[0]] for i in rows]
        first = rows[0]
        if first.op.name != "slice":
            return None
        whole, size, step = self.number[first.operands[0]], *first.attributes[1:]
        key = first.op, whole, size, step
        if any((i.op, self.number[i.operands[0]], *i.attributes[1:]) != key for i in rows):
            return None
        begins = np.array([i.attributes[0] for i in rows])
        moves = begins[1] - begins[0]
        (axes,) = np.nonzero(moves)
        if len(axes) != 1 or any(s != 1 for s in step) or (np.diff(begins, axis=0) != moves).any():
            return None
        axis, move = int(axes[0]), int(moves[axes[0]])
        return (first, axis, move) if is_window(size[axis], axis, move) else None


def is_window(width: int, axis: int, move: int) -> bool:
    """Whether boxes that move along an axis, where they are so wide, can be seen in rows."""
    return width == 1 or (axis == 0 and abs(move) == width)


def window(x: Value, begin: Shape, size: Shape, axis: int, move: int, count: int) -> tuple[Value, int, int]:
    """Boxes of an array that move along an axis and can be seen in rows: the rows, where they start, and their step."""
    width, step = size[axis], (1,) * len(size)
    if width > 1:
        low = min(begin[0], begin[0] + move * (count - 1))
        box = slice_of(x, (low, *begin[1:]), (count * width, *size[1:]), step)
        return reshape_to(box, (count, width, *size[1:])), 0 if move > 0 else count - 1, move // width
    whole = [n if a == axis else s for a, (n, s) in enumerate(zip(x.shape, size, strict=True))]
    box = slice_of(x, tuple(b * (a != axis) for a, b in enumerate(begin)), tuple(whole), step)
    if axis:
        box = permute(box, (axis, *(a for a in range(x.rank) if a != axis)))
    return box, begin[axis], move


def beside(program: Program) -> Program:
    """The same program with the parts of each loop right behind it: so they are of one turn in a loop around."""
    following: dict[int, list[int]] = {}
    order: list[int] = []
    for index, i in enumerate(program.instructions):
        if i.op.kind is Kind.PART:
            following.setdefault(i.operands[0], []).append(index)
    for index, i in enumerate(program.instructions):
        if i.op.kind is not Kind.PART:
            order += [index, *following.get(index, ())]
    new = {index: k for k, index in enumerate(order)}
    made = [program.instructions[index] for index in order]
    return Program(
        tuple(Instruction(i.op, tuple([new[k] for k in i.operands]), i.attributes, i.type) for i in made),
        tuple(new[k] for k in program.outputs), program.donations, tuple(program.origin(index) for index in order),
    )  # fmt: skip


Local, Carried, Same, Sequence_ = "local", "carried", "same", "sequence"
"""What an operand of a turn is: of the same turn, of turns before, the same in all, or moving."""
GIVEN = {"slice", "reshape"}
