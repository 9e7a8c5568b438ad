"""Forward-mode differentiation over the instruction list.

In comes a builder that holds what was recorded, which of it to go through, and the tangents of some values; tangent
instructions are appended to the same builder, so that they can be differentiated again. Out comes the tangent of every
result that has one. There are no rules for tangents: the cotangent of an operand is linear in that of the result, so
the derivative of the former by the latter, with the operand's tangent for a seed, is the operand's part in the
result's tangent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from numtape.ir.op import Gradient, Kind
from numtape.ir.program import Builder, Instruction, Program, Value
from numtape.passes.differentiate import apply_rule, differentiate, fit, missing_rule
from numtape.passes.simplify import reachable

Tangent: TypeAlias = Value | LookupError
"""The error is for whoever asks for a tangent that an op without a rule stands in the way of."""


def push_forward(
    builder: Builder,
    ranges: Sequence[tuple[int, int]],
    tangents: Mapping[int, Tangent],
    detours: Mapping[int, tuple[Sequence[int], str]] = {},
    tangent_of: Mapping[int, int] = {},
) -> dict[int, Tangent]:
    """Tangents of the results of half-open ranges of instructions, given those of other values.

    A result has one if a cotangent passes from it to an operand that has one: decided from the instructions alone,
    never from numbers. A tangent that is given stands, whatever its value comes from. `detours` are results that were
    computed from other values out of sight, by what has the name given. `tangent_of` says whose tangents results are:
    such a one is at rest, with zeros for a tangent, rather than without one, where what it belongs to moves.
    """
    known = dict(tangents)
    found: dict[int, Tangent] = {}
    loops: dict[int, Any] = {}
    for start, stop in ranges:
        for index in range(start, stop):
            i = builder.instructions[index]
            if index in known or not (i.op.differentiable and i.type.dtype.is_floating):
                continue
            builder.origin = index
            operands, hidden = detours.get(index, (i.operands, ""))
            moving = [known.get(k) for k in operands]
            tangent: Tangent | None = None
            if i.op.kind is Kind.PART:
                tangent = _push_part(builder, i, known, loops)
            elif any(moving) and hidden:
                tangent = LookupError(f"no tangent passes through {hidden}, which is called with arrays")
            elif any(moving):
                tangent = _push(builder, index, moving)
            if tangent is None and tangent_of.get(index) in known:
                tangent = builder.constant(0.0, i.type.dtype, i.type.shape)
            if tangent is not None:
                known[index] = found[index] = tangent
    builder.origin = None
    return found


def _push_part(builder: Builder, i: Instruction, known: Mapping[int, Tangent], loops: dict[int, Any]) -> Tangent | None:
    """The tangent of a loop's part, given those of values, and of what else there are loops for."""
    from numtape.passes.forward_loop import Turns  # which pushes tangents through its body

    (index,) = i.operands
    operands = builder.instructions[index].operands
    moving = {k: known[operand] for k, operand in enumerate(operands) if operand in known}
    if not moving:
        return None
    if index not in loops:
        loops[index] = Turns(builder, index, moving)
    found: Tangent | None = loops[index].part(i.op, i.attributes[0])
    return found


def _push(builder: Builder, index: int, moving: Sequence[Tangent | None]) -> Tangent | None:
    """The tangent of one result, given those of its operands."""
    i = builder.instructions[index]
    for tangent in moving:
        if isinstance(tangent, LookupError):
            return tangent
    if i.op.gradient is Gradient.MISSING:
        return missing_rule(i.op)
    # The cotangents are written on a paper of their own, from which what the tangent takes is copied.
    paper = Builder()
    given = [paper.input(builder.instructions[k].type, k) for k in i.operands]
    out = paper.append(Instruction(i.op, tuple(v.index for v in given), i.attributes, i.type))
    copied = dict(zip([*(v.index for v in given), out.index], [*i.operands, index], strict=True))
    g = paper.constant(1.0, i.type.dtype, i.type.shape)  # what is linear in it has a derivative without it
    targets, seeds = [], []
    for operand, cotangent, tangent in zip(given, apply_rule(paper, out.index, g), moving, strict=True):
        if isinstance(tangent, Value) and cotangent is not None:
            seed = paper.input(operand.type, tangent.index)
            copied[seed.index] = tangent.index
            seeds.append(seed)
            targets.append(fit(i, cotangent, operand.shape).index)
    try:
        (found,) = differentiate(paper, targets, [[g.index]], seeds, [(0, len(paper.instructions))], {g.index: 0})
    except LookupError as error:
        return error.with_traceback(None)
    if found is None:
        return None
    for k in sorted(reachable(Program(tuple(paper.instructions), (found.index,)))):
        if k not in copied:
            part = paper.instructions[k]
            operands = tuple(copied[o] for o in part.operands)
            copied[k] = builder.append(Instruction(part.op, operands, part.attributes, part.type)).index
    return builder.value(copied[found.index])
