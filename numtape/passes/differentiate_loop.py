"""Cotangents through a loop: one more loop, which goes through the turns of the first from the last to the first.

In comes a `loop` instruction and the cotangents of its parts; out come those of its operands. The body of the new loop
is the body of the first pulled back. What it reads of a turn comes in as a sequence: it is stacked by the first loop,
unless it is at hand, or cheap to compute from what is. So the result is a loop like any other, and can be
differentiated again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numtape.dtypes import TensorType
from numtape.ir.loop import FINAL, LOOP, Body, final, parts, stacked
from numtape.ir.op import Kind, Op
from numtape.ir.program import INPUT, Builder, Instruction, Value
from numtape.ops.movement import broadcast, embed, slice_of
from numtape.ops.reduction import sum_
from numtape.passes.differentiate import Activity, is_zero, pull_back


def pull_back_loop(
    builder: Builder, activity: Activity, index: int, given: Mapping[tuple[Op, int], Value]
) -> list[Value | None]:
    """The cotangents of a loop's operands for those of its parts, which are named by op and value of the body.

    `activity` is that of the body.
    """
    return _Backward(builder, activity, index, given).cotangents()


class _Backward:
    """One loop.

    `paper` holds the body, and the instructions of one turn back. Each cotangent that comes into that turn is an input
    of the paper, or 0: of what is carried on, from the following turn; of what has a cotangent in the last turn alone;
    and of what is stacked.
    """

    def __init__(self, builder: Builder, activity: Activity, index: int, given: Mapping[tuple[Op, int], Value]) -> None:
        self.builder, self.activity, self.index = builder, activity, index
        i = builder.instructions[index]
        self.operands = [builder.value(k) for k in i.operands]
        self.body, self.count, self.windows = i.attributes
        self.carried, self.same, _ = parts(len(self.operands), self.body, self.windows)
        self.inputs = self.body.inputs
        self.first: dict[int, Value] = {}
        """Cotangents before the first turn back, by the number of what is carried,"""
        self.last: dict[int, Value] = {}
        """of values in the last turn alone,"""
        self.rows: dict[int, Value] = {}
        """and of values in each turn."""
        for (op, value), g in given.items():
            if op is not FINAL:
                self.rows[value] = g
            elif value in self.body.outputs:
                self.first[self.body.outputs.index(value)] = g
            else:
                self.last[value] = g
        self.paper = Builder()
        self.entering: dict[tuple[str, int], Value] = {}
        """For each of these its place on the paper."""

    def pull(self, moving: Mapping[int, bool]) -> dict[int, Value]:
        """Write one turn back, given what has a cotangent in the following turn, and whether it is other than 0.

        Gives the cotangents of the body's inputs, by number.
        """
        self.paper = Builder(self.body.instructions)
        wanted = {("carried", k): (self.body.outputs[k], other) for k, other in moving.items()}
        wanted |= {("last", value): (value, not is_zero(g)) for value, g in self.last.items()}
        wanted |= {("rows", value): (value, not is_zero(g)) for value, g in self.rows.items()}
        self.entering = {key: self.entry(self.body.type(value), other) for key, (value, other) in wanted.items()}
        targets = [value for value, _ in wanted.values()]
        totals, _ = pull_back(self.paper, self.activity, targets, [*self.entering.values()])
        return {k: totals[value] for k, value in enumerate(self.inputs) if value in totals}

    def entry(self, kind: TensorType, other: bool) -> Value:
        return self.paper.input(kind, -1) if other else self.zeros(kind, self.paper)

    def zeros(self, kind: TensorType, builder: Builder | None = None) -> Value:
        return (builder or self.builder).constant(0.0, kind.dtype, kind.shape)

    def turn_back(self) -> dict[int, Value]:
        """The cotangents of the body's inputs, once it is known what has some in the turns: no more than are reached
        in so many turns."""
        moving = {k: not is_zero(g) for k, g in self.first.items()}
        for _ in range(self.count - 1):
            found = self.pull(moving)
            more = {k: not is_zero(g) or moving.get(k, False) for k, g in found.items() if k < self.carried}
            if moving | more == moving:
                return found
            moving |= more
        return self.pull(moving)

    def cotangents(self) -> list[Value | None]:
        found = self.turn_back()
        alive = {k: g for k, g in found.items() if not is_zero(g)}
        result = [self.zeros(x.type) if k in found else None for k, x in enumerate(self.operands)]
        if not alive:
            return result
        carried: list[tuple[Value, Value, Value]] = []
        """What is carried on in the new loop: before the first turn, at its begin on the paper, and at its end."""
        rows: dict[int, tuple[Value, int, int]] = {}
        for (role, key), entering in self.entering.items():
            if is_zero(entering):
                continue
            if role == "rows":
                rows[entering.index] = self.rows[key], self.count - 1, -1
            elif role == "last":
                carried.append((self.last[key], entering, self.zeros(entering.type, self.paper)))
            else:
                start = self.first.get(key) or self.zeros(entering.type)
                carried.append((start, entering, found.get(key) or self.zeros(entering.type, self.paper)))
        for k in range(self.carried, self.carried + self.same):
            if k in alive:
                total = self.paper.input(alive[k].type, -1)
                alive[k] = total + alive[k]  # type: ignore[operator]
                carried.append((self.zeros(total.type), total, alive[k]))
        turns, new = self.loop(carried, rows, [g.index for g in alive.values()])
        for k, g in alive.items():
            if k < self.carried + self.same:
                result[k] = final(turns, new[g.index])
            else:
                window = self.windows[k - self.carried - self.same]
                result[k] = self.placed(stacked(turns, new[g.index]), self.operands[k].type, *window)
        return result

    def placed(self, rows: Value, kind: TensorType, start: int, step: int) -> Any:
        """The cotangent of a sequence, for those of the elements that the turns back saw."""
        if step == 0:
            rows, step = sum_(rows, (0,)), 1
        start, step = start + step * (rows.shape[0] - 1), -step
        rest = kind.rank - 1
        if rows.shape == kind.shape and abs(step) == 1:  # a reversal undoes itself
            return slice_of(rows, (start, *(0,) * rest), kind.shape, (step, *(1,) * rest))
        return embed(rows, kind.shape, (start, *(0,) * rest), (step, *(1,) * rest), 0)

    # ---- what a turn back reads -------------------------------------------------------------------------------------

    def loop(
        self, carried: Sequence[tuple[Value, Value, Value]], rows: dict[int, tuple[Value, int, int]], wanted: list[int]
    ) -> tuple[Value, dict[int, int]]:
        """The loop whose body is the turn that stands on the paper, and for values there those of its body."""
        size = len(self.body.instructions)
        entering = [begin.index for _, begin, _ in carried]
        written, read = self.needed([*wanted, *(end.index for _, _, end in carried)])
        fixed, _ = self.at_hand()
        same: dict[int, Value] = {}
        for value in read:
            if value >= size:
                continue  # a cotangent that enters
            k = self.inputs.index(value) if value in self.inputs else -1
            if value in fixed:
                same[value] = self.operands[k] if k >= 0 else final(self.builder.value(self.index), value)
            elif k >= self.carried:
                start, step = self.windows[k - self.carried - self.same]
                rows[value] = self.operands[k], start + step * (self.count - 1), -step
            else:
                rows[value] = stacked(self.builder.value(self.index), value), self.count - 1, -1
        rows = {value: row for value, row in rows.items() if value in read}
        body = Body(self.builder, Builder(), [start for start, _, _ in carried], [*same.values()], [*rows.values()])
        made = [x.index for values in body.inputs() for x in values]
        new = dict(zip([*entering, *same, *rows], made, strict=True))
        for index in written:
            i, origin = self.paper.instructions[index], self.paper.origins[index]
            own = index if index < size else origin
            body.inside.origin = None if own is None else self.body.origin(own)
            new[index] = body.inside.append(
                Instruction(i.op, tuple(new[k] for k in i.operands), i.attributes, i.type)
            ).index
        return body.close([body.inside.value(new[end.index]) for _, _, end in carried], self.count), new

    def needed(self, wanted: Sequence[int]) -> tuple[list[int], list[int]]:
        """What of the paper stands in the new body, and what this takes from outside."""
        size, instructions = len(self.body.instructions), self.paper.instructions
        fixed, cheap = self.at_hand()
        needed = set(wanted)
        written: list[int] = []
        read: list[int] = []

        def again(index: int) -> bool:
            """Whether a value of the first loop's body is computed again."""
            i = instructions[index]
            if i.op is LOOP:  # its parts are written on the paper, and nowhere else
                return True
            if i.op.kind is Kind.PART and i.operands[0] in needed:
                return True
            if index in fixed:
                return not i.operands
            return index in cheap or i.op.kind is Kind.ALIAS or i.op is broadcast.op

        for index in range(len(instructions) - 1, -1, -1):
            if index in needed:
                if instructions[index].op is not INPUT and (index >= size or again(index)):
                    written.append(index)
                    needed.update(instructions[index].operands)
                else:
                    read.append(index)
        return written[::-1], read[::-1]

    def at_hand(self) -> tuple[set[int], set[int]]:
        """Values of the body that are the same in all turns, and those that elementwise ops make of such and of
        sequences."""
        fixed, cheap = set[int](), set[int]()
        for value, i in enumerate(self.body.instructions):
            if i.op is INPUT:
                (k,) = i.attributes
                if k >= self.carried + self.same:
                    cheap.add(value)
                elif k >= self.carried or self.body.outputs[k] == value:
                    fixed.add(value)
            elif fixed.issuperset(i.operands):
                fixed.add(value)
            elif i.op.kind in (Kind.MAP, Kind.ALIAS) and all(k in fixed or k in cheap for k in i.operands):
                cheap.add(value)
        return fixed, cheap
