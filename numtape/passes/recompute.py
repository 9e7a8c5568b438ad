"""Stretches that are computed again: what the walk back reads there, instead of what was kept.

In comes a list of instructions with marked stretches (see `numtape.ops.recompute`). When a cotangent reaches a stretch,
what the rules may read of it is appended once more, on operands that are held back for the cotangents. A stretch
within is copied from the copies, once cotangents get there in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from numtape.ir.op import Kind
from numtape.ir.program import CONSTANT, INPUT, Builder, Instruction, Program, Value
from numtape.ops.recompute import CHECKPOINT, held, kept, recomputed
from numtape.passes.simplify import without_dead_code


class Copies:
    """For values of marked stretches those that take their place on the way back."""

    def __init__(self, builder: Builder, instructions: Sequence[Instruction]) -> None:
        self.builder, self.instructions = builder, instructions
        self.new: dict[int, int] = {}
        ends: dict[int, int] = {}
        for index in [k for k, i in enumerate(instructions) if i.op is recomputed.op]:
            begin = instructions[index].operands[1]
            if instructions[begin].op is CHECKPOINT:
                ends[begin] = index
        self.waiting = sorted((end, begin) for begin, end in ends.items())
        """Stretches that the walk back has not reached, those that end last at the end."""

    def of(self, index: int) -> int:
        """The value to read in place of this one."""
        return self.new.get(index, index)

    def reach(self, index: int, cotangents: Mapping[int, Value]) -> None:
        """The walk back is at this instruction, and these values have cotangents: write what it comes into."""
        while self.waiting and self.waiting[-1][0] >= index:
            end, begin = self.waiting.pop()
            own = {k: g for k, g in cotangents.items() if begin < k <= end}
            awaited = {g.index for g in own.values() if self.builder.instructions[g.index].op is not CONSTANT}
            if awaited:
                self.write(begin, end, own, tuple(sorted(awaited)))

    def write(self, begin: int, end: int, wanted: Mapping[int, Value], awaited: tuple[int, ...]) -> None:
        """Copy a stretch, as far as these values need it."""
        instructions, builder = self.instructions, self.builder

        def is_given(index: int) -> bool:
            i = instructions[index]
            if i.op.kind is Kind.PART:  # of a loop that came before, maybe
                index = i.operands[0]
            return index <= begin or i.op is INPUT or i.op is kept.op

        needed = {instructions[k].operands[0] if is_result(instructions[k], begin) else k for k in wanted}
        for index in range(end, begin, -1):
            if index in needed and not is_given(index):
                needed.update(instructions[index].operands)
        made: dict[int, int] = {}
        for index in sorted(needed):
            i = instructions[index]
            builder.origin = index
            if i.op is CONSTANT:
                made[index] = index
            elif is_given(index):
                operands = self.of(index), *awaited
                made[index] = builder.append(Instruction(held.op, operands, (), i.type)).index
            else:
                operands = tuple([made[k] for k in i.operands])
                made[index] = builder.append(Instruction(i.op, operands, i.attributes, i.type)).index
        self.new.update((k, copy) for k, copy in made.items() if k > begin)


def is_result(i: Instruction, begin: int) -> bool:
    """Whether this is a result of the stretch that begins there."""
    return i.op is recomputed.op and i.operands[1] == begin


def without_marks(program: Program) -> Program:
    """The same program without the marks of stretches, which mean nothing once gradients have been taken."""
    if all(i.op is not recomputed.op for i in program.instructions):
        return program
    renamed: list[int] = []
    kept: list[int] = []
    for index, i in enumerate(program.instructions):
        if i.op is recomputed.op:
            renamed.append(renamed[i.operands[0]])
        else:
            renamed.append(len(kept))
            kept.append(index)
    made = [program.instructions[k] for k in kept]
    return without_dead_code(Program(
        tuple(Instruction(i.op, tuple([renamed[k] for k in i.operands]), i.attributes, i.type) for i in made),
        tuple(renamed[k] for k in program.outputs), program.donations, tuple(program.origin(k) for k in kept),
    ))  # fmt: skip


def awaiting_what_is_read(program: Program) -> Program:
    """The same program, in which nothing is computed for no other reason than that something waits for it.

    What waits for a value that nobody reads waits for what this would have been computed from.
    """
    instructions = program.instructions
    if all(i.op is not held.op for i in instructions):
        return program
    read = set(program.outputs)
    for index in range(len(instructions) - 1, -1, -1):
        if index in read:
            i = instructions[index]
            read.update(i.operands[:1] if i.op is held.op else i.operands)

    made: list[Instruction] = []
    instead: list[dict[int, None]] = []
    """For each value what to wait for in its place."""
    for index, i in enumerate(instructions):
        instead.append({index: None} if index in read else {k: None for at in i.operands for k in instead[at]})
        if i.op is held.op:
            awaited = dict.fromkeys(k for at in i.operands[1:] for k in instead[at])
            made.append(Instruction(i.op, (i.operands[0], *awaited), i.attributes, i.type))
        else:
            made.append(i)
    return without_dead_code(Program(tuple(made), program.outputs, program.donations, program.origins))
