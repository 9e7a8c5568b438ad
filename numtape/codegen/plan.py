"""A simplified program as kernel calls with their memory.

In comes a program; out comes a `Plan`: steps in order, a place for each value, and what becomes of each output. Values
between steps share one arena by liveness. An output may take over the memory of the input that it is the successor of
(a Variable's old value), when the step that writes it is the last to read the old one, element for element.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from numtape.codegen import blas
from numtape.codegen.emit import emit
from numtape.ir.kernel import Pointer, Scratch, Step
from numtape.ir.op import Kind
from numtape.ir.program import INPUT, Program
from numtape.passes.expand import expand
from numtape.passes.fuse import Group, fuse
from numtape.passes.layout import Level, root
from numtape.passes.legalize import legalize
from numtape.passes.simplify import simplify

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps and memory for a program.

    `offsets` places values in an arena of `arena` bytes; `scratch` is where its shared scratch memory starts. For
    each output, `results` says where its elements are: ("new", value), ("donated", input index) or ("input", index).
    """

    program: Program
    steps: tuple[Step, ...]
    offsets: dict[int, int]
    scratch: int
    arena: int
    results: tuple[tuple[str, int], ...]


def plan(program: Program) -> Plan:
    """Optimize a program and lay out its execution."""
    program = simplify(legalize(simplify(expand(program))))
    schedule = fuse(program)
    readers = _readers(program, schedule.groups)
    outputs = {root(program, k) for k in program.outputs}
    shared = _donations(program, schedule.groups, readers, outputs)
    steps: list[Step] = []
    for number, group in enumerate(schedule.groups):
        if group.layout is None:
            steps += _calls(program, group.members[0])
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
    offsets, scratch, arena = _arena(program, steps, outputs)
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


def _calls(program: Program, index: int) -> list[Step]:
    """The steps of a routine: one, or several that each write a part of the result from some of the operands."""
    i = program.instructions[index]
    step = blas.step(program, index)
    if step is not None:
        return [step]
    made = i.op.kernel(i.type, [program.type(k) for k in i.operands], *i.attributes)
    everything = range(len(i.operands))
    calls = made if isinstance(made, list) else [(made[0], everything, made[1])]
    return [
        Step(kernel, (Pointer(index), *(Pointer(root(program, i.operands[k])) for k in which), *extra), (index,))
        for kernel, which, extra in calls
    ]


def _donations(
    program: Program, groups: Iterable[Group], readers: dict[int, list[int]], outputs: set[int]
) -> dict[int, int]:
    """Which output's value can be written over which input's."""
    found: dict[int, int] = {}
    inputs = program.inputs
    by_index = {program.instructions[k].attributes[0]: k for k in inputs}
    place = {m: (number, group) for number, group in enumerate(groups) for m in group.members}
    for position, index in program.donations:
        value, old = root(program, program.outputs[position]), by_index[index]
        if value not in place or old in outputs or value in found or old in found.values():
            continue
        number, group = place[value]
        if program.type(value) != program.type(old) or group.layout is None:
            continue
        if readers.get(old, [number])[-1] > number:
            continue
        stages = {m.stage for m in group.layout.members if m.space is Level.FULL}
        levels = {
            level
            for m in group.layout.members
            for k, level in zip(program.instructions[m.index].operands, m.operands, strict=True)
            if root(program, k) == old
        }
        written = next(m for m in group.layout.members if m.index == value)
        is_map = program.instructions[value].op.kind is Kind.MAP
        if is_map and written.level is Level.FULL and levels <= {Level.FULL} and len(stages) == 1:
            found[value] = old
    return found


def _arena(program: Program, steps: list[Step], outputs: set[int]) -> tuple[dict[int, int], int, int]:
    """First fit by liveness; scratch of all steps shares one region at the end."""
    born: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, step in enumerate(steps):
        for value in step.writes:
            born.setdefault(value, number)
        for a in step.arguments:
            if isinstance(a, Pointer):
                last[a.value] = number
    free: list[tuple[int, int]] = []
    offsets: dict[int, int] = {}
    top = 0
    dying: dict[int, list[int]] = {}
    for number, step in enumerate(steps):
        for value in step.writes:
            if value in outputs or born[value] != number or value not in last:
                continue
            need = _aligned(program.type(value).nbytes)
            fit = min((f for f in free if f[1] >= need), key=lambda f: f[1], default=None)
            if fit is None:
                offsets[value], top = top, top + need
            else:
                free.remove(fit)
                offsets[value] = fit[0]
                if fit[1] > need:
                    free.append((fit[0] + need, fit[1] - need))
            dying.setdefault(last[value], []).append(value)
        for value in dying.pop(number, ()):
            free.append((offsets[value], _aligned(program.type(value).nbytes)))
    scratch = max(
        (sum(_aligned(a.nbytes) for a in s.arguments if isinstance(a, Scratch)) for s in steps), default=0
    )
    return offsets, top, top + scratch


def _aligned(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
