"""What the kernels of a program are, do and cost.

In comes a program that is ready to run, and the places of its instructions; out comes a `KernelCost` for each group,
in order. Times are measured (`numtape.backends.measure`). Bytes count each array that a kernel reads or writes once,
in whole, as if nothing were left in a cache; so for a look-up in a table they are an upper bound. Flops count one for
each element of the result of an op on floats, whatever the op, and for each element that a fold of floats takes in;
2 for each product of a `matmul`; other routines are not counted. What is within a loop counts once for each turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import fsum

from numtape.backends.measure import Timing, measure
from numtape.backends.native import Executable
from numtape.codegen.plan import Plan, optimize
from numtape.codegen.turns import LoopStep, wanted_body
from numtape.explaining.places import Place, Places
from numtape.ir.kernel import Step
from numtape.ir.loop import LOOP
from numtape.ir.op import Kind
from numtape.ir.program import Instruction, Program
from numtape.ir.text import write_line
from numtape.ops.contraction import product
from numtape.passes.apart import why_apart
from numtape.passes.fuse import Group, Schedule, fuse
from numtape.passes.layout import is_inlined, root


@dataclass(frozen=True, slots=True)
class KernelCost:
    """One kernel of a program; a routine may be several, which are counted together, and so is a loop."""

    name: str
    keys: tuple[str, ...]
    """Under which machine code is kept."""
    loop: str
    """Its loop nest: "flat 1024", "rows 32 x 64", "routine", "loop of 1000 turns"; "copy 32" of what is handed on."""
    instructions: tuple[tuple[str, Place], ...]
    """Those of a turn, if it is a loop that is one kernel; none, if it has kernels `inside`."""
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
    inside: tuple[KernelCost, ...] = ()
    """The kernels that a loop calls in each turn; their numbers are of all turns together."""


def kernel_costs(executable: Executable, places: Places) -> tuple[tuple[KernelCost, ...], float]:
    """The kernels in order, and the seconds of all in one call."""
    timings, whole = measure(executable)
    return _costs(executable.plan, places, timings, 1, fsum(t.seconds for t in timings) or 1.0), whole


def _costs(
    plan: Plan, places: Places, timings: Sequence[Timing], turns: int, total: float, prefix: str = ""
) -> tuple[KernelCost, ...]:
    """The kernels of a plan that runs so many times; `total` are the seconds of the whole program, and their numbers
    begin with `prefix`."""
    program = plan.program
    schedule = fuse(program)
    number = {m: n for n, group in enumerate(schedule.groups) for m in group.members}
    steps: list[list[int]] = [[] for _ in schedule.groups]
    for k, step in enumerate(plan.steps):
        steps[number[step.writes[0]]].append(k)
    found = []
    for n, (group, own) in enumerate(zip(schedule.groups, steps, strict=True)):
        took = fsum(timings[k].seconds for k in own)
        reads = _reads(program, group)
        cost = KernelCost(
            plan.steps[own[-1]].kernel.name,
            tuple(dict.fromkeys(plan.steps[k].kernel.key for k in own)),
            "routine" if group.layout is None else " ".join(str(group.layout).split()),
            _listed(program, group.members, places),
            turns * sum(program.type(k).nbytes for k in reads),
            turns * sum(program.type(k).nbytes for k in {v for s in own for v in plan.steps[s].writes}),
            _flops(program, group.members, group.layout is not None, turns),
            took,
            took / total,
            _apart(schedule, n, sorted({number[k] for k in reads if k in number}), prefix),
            tuple(_weight(program, program.instructions[m]) for m in group.members),
        )
        if program.instructions[group.members[0]].op is LOOP:
            (k,) = own
            within, inside = places.within(program.origin(group.members[0])), timings[k].inside
            cost = _loop_cost(cost, program, group, plan.steps[k], within, inside, turns, total, f"{prefix}{n + 1}.")
        found.append(cost)
    return tuple(found)


def _loop_cost(
    cost: KernelCost, program: Program, group: Group, step: Step | LoopStep, places: Places,
    timings: Sequence[Timing], turns: int, total: float, prefix: str,
) -> KernelCost:  # fmt: skip
    """The cost of a loop, of which `cost` has what it shares with other kernels."""
    count = program.instructions[group.members[0]].attribute("count")
    loop = f"loop of {count} {'turn' if count == 1 else 'turns'}"
    if isinstance(step, LoopStep):
        copies = step.steps[step.once + len(step.body.steps) :]
        own = len(step.body.steps)
        inside = _costs(step.body, places, timings[:own], turns * count, total, prefix)
        for copy, timing in zip(copies, timings[own:], strict=True):
            inside += (_copy_cost(copy, timing.seconds, turns * count, total),)
        flops = [kernel.flops for kernel in inside]
        return replace(
            cost, loop=loop, instructions=(), weights=(), inside=inside,
            bytes_read=sum(kernel.bytes_read for kernel in inside),
            bytes_written=sum(kernel.bytes_written for kernel in inside),
            flops=None if None in flops else sum(n or 0 for n in flops),
        )  # fmt: skip
    body = optimize(wanted_body(program, group.members))
    members = [m for m, i in enumerate(body.instructions) if i.op.kind is Kind.MAP and not is_inlined(i)]
    return replace(
        cost, loop=loop, instructions=_listed(body, members, places), weights=(1,) * len(members),
        flops=_flops(body, members, True, turns * count),
    )  # fmt: skip


def _copy_cost(step: Step | LoopStep, seconds: float, turns: int, total: float) -> KernelCost:
    """The cost of what is only moved to where the next turn, or who comes after the loop, reads it."""
    length = [number for number in step.arguments if isinstance(number, int)][2]
    nbytes = turns * length * int(step.kernel.parameters[0][1:-1]) // 8
    return KernelCost(
        step.kernel.name, (step.kernel.key,), f"copy {length}", (), nbytes, nbytes, 0, seconds, seconds / total, (), ()
    )


def _listed(program: Program, members: Iterable[int], places: Places) -> tuple[tuple[str, Place], ...]:
    return tuple((write_line(m, program.instructions[m]), places.of(program.origin(m))) for m in members)


def _reads(program: Program, group: Group) -> list[int]:
    """The values from outside that a group loads."""
    operands = [root(program, k) for m in group.members for k in program.instructions[m].operands]
    inlined = group.layout is not None
    return [
        k for k in dict.fromkeys(operands)
        if k not in group.members and not (inlined and is_inlined(program.instructions[k]))
    ]  # fmt: skip


def _apart(schedule: Schedule, n: int, producers: Sequence[int], prefix: str) -> tuple[str, ...]:
    reasons: dict[str, list[int]] = {}
    for first in producers:
        reasons.setdefault(why_apart(schedule, first, n), []).append(first)
    return tuple(
        f"{'kernel' if len(group) == 1 else 'kernels'} {', '.join(f'{prefix}{k + 1}' for k in group)}: {reason}"
        for reason, group in reasons.items()
    )


def _weight(program: Program, i: Instruction) -> int:
    return max([i.type.size, *(program.type(k).size for k in i.operands if i.op.kind is Kind.REDUCE)])


def _flops(program: Program, members: Iterable[int], is_fused: bool, turns: int) -> int | None:
    total = 0
    for m in members:
        i = program.instructions[m]
        if is_fused:
            total += _weight(program, i) if i.type.dtype.is_floating else 0
        elif i.op.name == "matmul":
            total += 2 * i.type.size * product(i.type, [program.type(k) for k in i.operands], *i.attributes).inner
        else:
            return None
    return turns * total
