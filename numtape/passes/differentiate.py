"""Reverse-mode differentiation over the instruction list.

In comes a builder that holds what was recorded, and what to differentiate; the backward instructions are appended to
the same builder, so that they can be differentiated again. Out comes one cotangent for each source, or None where no
path leads from the source to a target. Whether there is a path is decided from the instructions alone, never from
numbers. The rules stand in the op records; broadcasting, accumulation and activity are done here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numtape.dtypes import Shape
from numtape.ir.op import Gradient, Kind
from numtape.ir.program import Builder, Instruction, Value
from numtape.ops.movement import broadcast, reshape_to
from numtape.ops.reduction import sum_

NEVER = 1 << 62


def differentiate(
    builder: Builder,
    targets: Sequence[int],
    sources: Sequence[Sequence[int]],
    seeds: Sequence[Value | None],
    recorded: Sequence[tuple[int, int]],
    watched: Mapping[int, int],
) -> list[Value | None]:
    """Cotangents of the sources for the sum of the targets, each weighted by its seed.

    A source is one or several values that stand for the same thing (the reads of a Variable). `recorded` holds
    half-open ranges of instructions that are on the tape; `watched` maps a value to the instruction from which on it
    counts as watched. LookupError if an op on a path has no gradient rule.
    """
    instructions = builder.instructions[:]
    wanted = {value for group in sources for value in group}
    activity = _Activity(instructions, wanted, recorded, watched)
    _check_rules(instructions, activity.active, targets)
    depends = activity.depends

    parts: dict[int, list[Value]] = {}
    for target, seed in zip(targets, seeds, strict=True):
        type = instructions[target].type
        if type.dtype.is_floating and (target in depends or target in wanted):
            parts.setdefault(target, []).append(seed or builder.constant(1.0, type.dtype, type.shape))
    totals: dict[int, Value] = {}
    for index in range(max(parts, default=-1), -1, -1):
        if index not in parts:
            continue
        totals[index] = g = _sum(parts.pop(index))
        if index in depends:
            instruction = instructions[index]
            cotangents = _pull_back(builder, index, instruction, g)
            for operand, cotangent in zip(instruction.operands, cotangents, strict=True):
                if cotangent is not None and activity.leads(operand, index):
                    shape = instructions[operand].type.shape
                    parts.setdefault(operand, []).append(_fit(instruction, cotangent, shape))
    found = [[totals[value] for value in group if value in totals] for group in sources]
    return [_sum(group) if group else None for group in found]


class _Activity:
    """What is on the tape, and which of it a source reaches.

    `active` are the recorded results that descend from something watched; `depends` those among them that descend
    from a wanted value which the tape knows at that point.
    """

    def __init__(
        self,
        instructions: Sequence[Instruction],
        wanted: set[int],
        recorded: Sequence[tuple[int, int]],
        watched: Mapping[int, int],
    ) -> None:
        self.wanted, self.watched = wanted, watched
        self.active: set[int] = set()
        self.depends: set[int] = set()
        for start, stop in sorted(recorded):
            for index in range(start, min(stop, len(instructions))):
                i = instructions[index]
                if i.operands and i.op.differentiable and i.type.dtype.is_floating:
                    if any(self.known(operand, index) for operand in i.operands):
                        self.active.add(index)
                    if any(self.leads(operand, index) for operand in i.operands):
                        self.depends.add(index)

    def known(self, operand: int, index: int) -> bool:
        """Whether the tape follows this operand of instruction `index`."""
        return operand in self.active or self.watched.get(operand, NEVER) <= index

    def leads(self, operand: int, index: int) -> bool:
        """Whether a cotangent of this operand of instruction `index` is on the way to a source."""
        return operand in self.depends or (operand in self.wanted and self.known(operand, index))


def _check_rules(instructions: Sequence[Instruction], active: set[int], targets: Sequence[int]) -> None:
    """LookupError if an op between a target and anything watched has no rule, on the way to a source or not."""
    reached = set(targets)
    for index in range(max(targets, default=-1), -1, -1):
        if index in reached and index in active:
            op = instructions[index].op
            if op.gradient is Gradient.MISSING:
                raise LookupError(f"gradient registry has no entry for: {op.name}")
            reached.update(instructions[index].operands)


def _pull_back(builder: Builder, index: int, instruction: Instruction, g: Value) -> Sequence[Value | None]:
    op = instruction.op
    assert not isinstance(op.gradient, Gradient)
    known: dict[str, Any] = {"g": g, "out": builder.value(index)}
    if op.parameters and op.parameters[0].startswith("*"):
        known[op.parameters[0][1:]] = [builder.value(k) for k in instruction.operands]
    else:
        known.update(zip(op.parameters, map(builder.value, instruction.operands), strict=True))
    known.update(zip(op.attributes, instruction.attributes, strict=True))
    result = op.gradient(*(known[name] for name in op.rule_needs))
    cotangents = tuple(result) if isinstance(result, tuple | list) else (result,)
    if len(cotangents) != len(instruction.operands):
        raise ValueError(
            f"the gradient of {op.name} gave {len(cotangents)} cotangents for {len(instruction.operands)} operands"
        )
    return [builder.constant(c, g.dtype) if isinstance(c, int | float) else c for c in cotangents]


def _sum(values: Sequence[Value]) -> Value:
    total: Any = values[0]
    for value in values[1:]:
        total = total + value
    return total  # type: ignore[no-any-return]


def _fit(instruction: Instruction, cotangent: Any, shape: Shape) -> Any:
    """Sum a cotangent of a broadcast operand back to the operand's own shape."""
    if instruction.op.kind is not Kind.MAP or cotangent.shape == shape:
        assert cotangent.shape == shape, f"{instruction.op} gave a cotangent {cotangent} for shape {shape}"
        return cotangent
    out = instruction.type.shape
    if cotangent.shape != out:
        cotangent = broadcast(cotangent, out)
    lead = len(out) - len(shape)
    axes = tuple(a for a, n in enumerate(out) if a < lead or (shape[a - lead] == 1 and n != 1))
    return reshape_to(sum_(cotangent, axes), shape) if axes else cotangent
