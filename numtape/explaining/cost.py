"""What the kernels of a program are, do and cost.

In comes a program that is ready to run, and the places of its instructions; out comes a `KernelCost` for each group,
in order. Times are measured (`numtape.backends.measure`). Bytes count each array that a kernel reads or writes once,
in whole, as if nothing were left in a cache; so for a look-up in a table they are an upper bound. Flops count one for
each element of the result of an op on floats, whatever the op, and for each element that a fold of floats takes in;
2 for each product of a `matmul`; other routines are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from numtape.backends.measure import measure
from numtape.backends.native import Executable
from numtape.explaining.places import Place, Places
from numtape.ir.op import Kind
from numtape.ir.program import Instruction, Program
from numtape.ir.text import write_line
from numtape.ops.contraction import product
from numtape.passes.apart import why_apart
from numtape.passes.fuse import Group, Schedule, fuse
from numtape.passes.layout import is_inlined, root


@dataclass(frozen=True, slots=True)
class KernelCost:
    """One kernel of a program; a routine may be several, which are counted together."""

    name: str
    keys: tuple[str, ...]
    """Under which machine code is kept."""
    loop: str
    """Its loop nest: "flat 1024", "rows 32 x 64" or "routine"."""
    instructions: tuple[tuple[str, Place], ...]
    bytes_read: int
    bytes_written: int
    flops: int | None
    seconds: float
    share: float
    """Of the sum of all kernels."""
    apart: tuple[str, ...]
    """Why it was not fused with the kernels whose results it reads."""
    weights: tuple[int, ...]
    """For each instruction the elements that it goes over."""


def kernel_costs(executable: Executable, places: Places) -> tuple[list[KernelCost], float]:
    """The kernels in order, and the seconds of all in one call."""
    plan = executable.plan
    program = plan.program
    schedule = fuse(program)
    number = {m: n for n, group in enumerate(schedule.groups) for m in group.members}
    steps: list[list[int]] = [[] for _ in schedule.groups]
    for k, step in enumerate(plan.steps):
        steps[number[step.writes[0]]].append(k)
    seconds, whole = measure(executable)
    total = fsum(seconds) or 1.0
    found = []
    for n, (group, own) in enumerate(zip(schedule.groups, steps, strict=True)):
        kernels = [plan.steps[k].kernel for k in own]
        took = fsum(seconds[k] for k in own)
        reads = _reads(program, group)
        found.append(
            KernelCost(
                kernels[-1].name,
                tuple(dict.fromkeys(kernel.key for kernel in kernels)),
                "routine" if group.layout is None else " ".join(str(group.layout).split()),
                tuple((write_line(m, program.instructions[m]), places.of(program.origin(m))) for m in group.members),
                sum(program.type(k).nbytes for k in reads),
                sum(program.type(k).nbytes for k in {v for s in own for v in plan.steps[s].writes}),
                _flops(program, group),
                took,
                took / total,
                _apart(schedule, n, sorted({number[k] for k in reads if k in number})),
                tuple(_weight(program, program.instructions[m]) for m in group.members),
            )
        )
    return found, whole


def _reads(program: Program, group: Group) -> list[int]:
    """The values from outside that a group loads."""
    operands = [root(program, k) for m in group.members for k in program.instructions[m].operands]
    inlined = group.layout is not None
    return [
        k for k in dict.fromkeys(operands)
        if k not in group.members and not (inlined and is_inlined(program.instructions[k]))
    ]  # fmt: skip


def _apart(schedule: Schedule, n: int, producers: Sequence[int]) -> tuple[str, ...]:
    reasons: dict[str, list[int]] = {}
    for first in producers:
        reasons.setdefault(why_apart(schedule, first, n), []).append(first)
    return tuple(
        f"{'kernel' if len(group) == 1 else 'kernels'} {', '.join(str(k + 1) for k in group)}: {reason}"
        for reason, group in reasons.items()
    )


def _weight(program: Program, i: Instruction) -> int:
    return max([i.type.size, *(program.type(k).size for k in i.operands if i.op.kind is Kind.REDUCE)])


def _flops(program: Program, group: Group) -> int | None:
    total = 0
    for m in group.members:
        i = program.instructions[m]
        if group.layout is not None:
            total += _weight(program, i) if i.type.dtype.is_floating else 0
        elif i.op.name == "matmul":
            total += 2 * i.type.size * product(i.type, [program.type(k) for k in i.operands], *i.attributes).inner
        else:
            return None
    return total
