"""A simplified program as kernel calls with their memory.

In comes a program; out comes a `Plan`: steps in order, a place for each value, and what becomes of each output. Values
between steps share one arena by liveness. An output may take over the memory of the input that it is the successor of
(a Variable's old value), when the step that writes it is the last to read the old one, element for element, or only
changes it in places. So does what is between the two, if one changes the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from numtape.codegen import matmul
from numtape.codegen.emit import emit
from numtape.codegen.turns import LoopStep, carried_from, loop_step
from numtape.config import Settings
from numtape.ir.kernel import Pointer, Scratch, Step, aligned
from numtape.ir.loop import FINAL
from numtape.ir.op import Kind
from numtape.ir.program import INPUT, Program
from numtape.ops.movement import copy
from numtape.passes.expand import expand
from numtape.passes.fuse import Group, fuse
from numtape.passes.layout import Level, root
from numtape.passes.legalize import legalize
from numtape.passes.recompute import awaiting_what_is_read, without_marks
from numtape.passes.rematerialize import rematerialize
from numtape.passes.reroll import reroll
from numtape.passes.simplify import simplify


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps and memory for a program.

    `offsets` places values in an arena of `arena` bytes; `scratch` is where its shared scratch memory starts. For
    each output, `results` says where its elements are: ("new", value), ("donated", input index) or ("input", index).
    """

    program: Program
    steps: tuple[Step | LoopStep, ...]
    offsets: dict[int, int]
    scratch: int
    arena: int
    results: tuple[tuple[str, int], ...]


def all_steps(steps: Iterable[Step | LoopStep]) -> Iterator[Step | LoopStep]:
    """Steps, and those within loops."""
    for step in steps:
        yield step
        if isinstance(step, LoopStep):
            yield from all_steps(step.steps)


def plan(program: Program) -> Plan:
    """Optimize a program and lay out its execution."""
    return lay_down(optimize(program))


def optimize(program: Program) -> Program:
    """The same in fewer instructions, and in those that fusion knows."""
    rolled = simplify(expand(reroll(without_marks(program))))
    return awaiting_what_is_read(simplify(legalize(rematerialize(rolled, Settings.loop_memory))))


def lay_down(program: Program) -> Plan:
    """Steps and memory for an optimized program."""
    schedule = fuse(program)
    readers = _readers(program, schedule.groups)
    outputs = {root(program, k) for k in program.outputs}
    shared = _donations(program, schedule.groups, readers, outputs)
    steps: list[Step | LoopStep] = []
    for number, group in enumerate(schedule.groups):
        if program.instructions[group.members[0]].op.kind is Kind.LOOP:
            steps.append(loop_step(program, group.members, shared, optimize, lay_down))
        elif group.layout is None:
            steps += _calls(program, group.members[0], shared)
        else:
            stored = {m for m in group.members if m in outputs or any(r != number for r in readers.get(m, ()))}
            steps.append(emit(program, group.layout, stored, shared))
    results = []
    for k in program.outputs:
        value = root(program, k)
        i = program.instructions[value]
        if i.op is INPUT:
            results.append(("input", i.attributes[0]))
        elif value in shared:
            results.append(("donated", program.instructions[shared[value]].attributes[0]))
        else:
            results.append(("new", value))
    offsets, scratch, arena = _arena(program, steps, outputs | shared.keys())
    return Plan(program, tuple(steps), offsets, scratch, arena, tuple(results))


def _readers(program: Program, groups: Iterable[Group]) -> dict[int, list[int]]:
    """For each value, the groups that read it, in order."""
    found: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        for m in group.members:
            for k in program.instructions[m].operands:
                readers = found.setdefault(root(program, k), [])
                if not readers or readers[-1] != number:
                    readers.append(number)
    return found


def _calls(program: Program, index: int, shared: dict[int, int]) -> list[Step]:
    """The steps of a routine: one, or several that each write a part of the result from some of the operands."""
    i = program.instructions[index]
    to = shared.get(index, index)

    def place(operand: int) -> Pointer:
        value = root(program, i.operands[operand])
        return Pointer(shared.get(value, value))

    step = matmul.step(program, index)
    if step is not None:
        return [step]
    made = i.op.kernel(i.type, [program.type(k) for k in i.operands], *i.attributes)
    count = len(i.operands)
    calls = made if isinstance(made, list) else [(made[0], range(i.op.kind is Kind.UPDATE, count), made[1])]
    if i.op.kind is Kind.UPDATE and place(0).value != to:
        kernel, extents = copy(i.type.dtype, (i.type.size,), (1,), (1,))
        calls = [(kernel, (0,), extents), *calls]
    return [Step(kernel, (Pointer(to), *map(place, which), *extra), (index,)) for kernel, which, extra in calls]


def _donations(
    program: Program, groups: Iterable[Group], readers: dict[int, list[int]], outputs: set[int]
) -> dict[int, int]:
    """Which output's value can be written over which input's."""
    found: dict[int, int] = {}
    by_index = {program.instructions[k].attributes[0]: k for k in program.inputs}
    place = {m: (number, group) for number, group in enumerate(groups) for m in group.members}
    for position, index in program.donations:
        value, old = root(program, program.outputs[position]), by_index[index]
        if old in outputs or old in found.values():
            continue
        chain: list[int] = []
        while value in place and value not in found and not (chain and value in outputs):
            chain.append(value)
            number, group = place[value]
            before = _changed(program, group, value, old)
            if before is None or readers.get(before, [number])[-1] > number:
                break
            if before == old:
                found.update(dict.fromkeys(chain, old))
                break
            value = before
    return found


def _changed(program: Program, group: Group, value: int, old: int) -> int | None:
    """The value whose elements a group may write this one's over: the old one, or the one that an update changes."""
    i = program.instructions[value]
    if i.op is FINAL:
        return carried_from(program, value)
    if i.op.kind is Kind.UPDATE:
        before, *others = (root(program, k) for k in i.operands)
        return None if before in others else before
    new_type, old_type = program.type(value), program.type(old)
    fits = new_type.dtype is old_type.dtype and new_type.size == old_type.size
    return old if fits and _replaces(program, group, value, old) else None


def _replaces(program: Program, group: Group, value: int, old: int) -> bool:
    """Whether a group is through with each element of the old value when it writes the new one's."""
    if group.layout is None or program.instructions[value].op.kind is not Kind.MAP:
        return False
    stages, levels = set(), {Level.FULL}
    for m in group.layout.members:
        if m.space is Level.FULL:
            stages.add(m.stage)
        if m.index == value:
            levels.add(m.level)
        operands = program.instructions[m.index].operands
        levels.update(level for k, level in zip(operands, m.operands, strict=True) if root(program, k) == old)
    return len(stages) == 1 and levels == {Level.FULL}


def _arena(program: Program, steps: list[Step | LoopStep], outputs: set[int]) -> tuple[dict[int, int], int, int]:
    """A place for each value from the step that writes it to the last that reads it; scratch of all steps shares one
    region at the end."""
    last = {a.value: number for number, step in enumerate(steps) for a in step.arguments if isinstance(a, Pointer)}
    memory = _Memory()
    offsets: dict[int, int] = {}
    dying: dict[int, list[int]] = {}
    for number, step in enumerate(steps):
        for value in step.writes:
            if value not in outputs and value not in offsets:
                offsets[value] = memory.take(aligned(program.type(value).nbytes))
                dying.setdefault(last[value], []).append(value)
        for value in dying.pop(number, ()):
            memory.give(offsets[value], aligned(program.type(value).nbytes))
    scratch = [sum(a.room for a in step.arguments if isinstance(a, Scratch)) for step in steps]
    return offsets, memory.top, memory.top + max(scratch, default=0)


class _Memory:
    """Blocks of memory: the smallest free one that is large enough is taken, and neighbours that are free are one."""

    def __init__(self) -> None:
        self.top = 0
        self.free: dict[int, int] = {}

    def take(self, size: int) -> int:
        start = min((s for s, n in self.free.items() if n >= size), key=self.free.__getitem__, default=None)
        if start is None:
            start = next((s for s, n in self.free.items() if s + n == self.top), self.top)
            self.free.pop(start, None)
            self.top = start + size
            return start
        left = self.free.pop(start) - size
        if left:
            self.free[start + size] = left
        return start

    def give(self, start: int, size: int) -> None:
        size += self.free.pop(start + size, 0)
        before = next((s for s, n in self.free.items() if s + n == start), None)
        if before is not None:
            start, size = before, size + self.free[before]
        self.free[start] = size
