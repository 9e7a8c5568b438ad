"""Reverse-mode differentiation over the instruction list.

In comes a builder that holds what was recorded, and what to differentiate; the backward instructions are appended to
the same builder, so that they can be differentiated again. Out comes one cotangent for each source, or None where no
path leads from the source to a target. Whether there is a path is decided from the instructions alone, never from
numbers. The rules stand in the op records; broadcasting, accumulation and activity are done here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numtape.dtypes import Shape, int64
from numtape.ir.loop import LOOP
from numtape.ir.op import Gradient, Kind, Op
from numtape.ir.program import CONSTANT, Builder, Instruction, Value
from numtape.ops.elementwise import add, convert
from numtape.ops.gather import look_up, spread
from numtape.ops.movement import broadcast, concat_along, reshape_to, same
from numtape.ops.reduction import sum_
from numtape.passes.recompute import Copies

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
    wanted = {value for group in sources for value in group}
    activity = Activity(builder.instructions, wanted, recorded, watched)
    totals, _ = pull_back(builder, activity, targets, seeds)
    found = [[totals[value] for value in group if value in totals] for group in sources]
    return [total(group) for group in found]


def pull_back(
    builder: Builder, activity: Activity, targets: Sequence[int], seeds: Sequence[Value | None], floor: int = 0
) -> tuple[dict[int, Value], dict[int, Value]]:
    """Cotangents of all values from `floor` on that the targets reach, and of those below, as far as known by then.

    Those of the parts of a loop that stands below are not known before the loop itself is reached.
    """
    _reached(activity, targets)
    _check_turns(activity, targets)
    instructions = activity.instructions
    copies = Copies(builder, instructions)
    turns: dict[int, dict[Any, Value]] = {}
    """For each loop the cotangents of its parts, by op and value of the body."""
    totals: dict[int, Value] = {}
    rest: dict[int, Value] = {}
    for target, seed in zip(targets, seeds, strict=True):
        type = instructions[target].type
        if type.dtype.is_floating and (target in activity.depends or target in activity.wanted):
            _add(rest, target, seed or builder.constant(1.0, type.dtype, type.shape))
    for index in range(max(rest, default=-1), floor - 1, -1):
        if not rest and not turns:
            break
        instruction = instructions[index]
        copies.reach(index, rest)
        builder.origin = index
        if index in turns:
            from numtape.passes.differentiate_loop import pull_back_loop  # which pulls back its body

            inside = activity.turns[index]
            cotangents: Sequence[Any] = pull_back_loop(builder, inside, copies.of(index), turns.pop(index))
        elif index not in rest or (instruction.op.kind is Kind.PART and instruction.operands[0] < floor):
            continue
        else:
            totals[index] = g = rest.pop(index)
            if index not in activity.depends:
                continue
            if instruction.op.kind is Kind.PART:
                parts = turns.setdefault(instruction.operands[0], {})
                _add(parts, (instruction.op, instruction.attributes[0]), g)
                continue
            cotangents = apply_rule(builder, copies.of(index), g)
            if is_zero(g):  # nothing has to be computed
                cotangents = [None if c is None else g for c in cotangents]
        for operand, cotangent in zip(instruction.operands, cotangents, strict=True):
            if cotangent is not None and activity.leads(operand, index):
                type = instructions[operand].type
                if is_zero(cotangent):
                    part = builder.constant(0.0, type.dtype, type.shape)
                else:
                    part = fit(instruction, cotangent, type.shape)
                _add(rest, operand, part)
    builder.origin = None
    return totals, rest


def _check_turns(activity: Activity, targets: Sequence[int]) -> None:
    """LookupError if targets come from a wanted value by way of what else a loop has computed in its turn."""
    instructions = activity.instructions
    for wanted in activity.wanted:
        i = instructions[wanted]
        if i.op.kind is not Kind.PART or i.operands[0] not in activity.turns:
            continue
        loop, own, descended = i.operands[0], i.attributes[0], set[int]()
        for k, inner in enumerate(instructions[loop].attributes[0].instructions):
            if own in inner.operands or not descended.isdisjoint(inner.operands):
                descended.add(k)
        reached = set(targets)
        for index in range(max(targets), loop, -1):
            if index in reached and index in activity.active:
                i = instructions[index]
                if i.op.kind is Kind.PART and i.operands[0] == loop:
                    if index not in activity.wanted and i.attributes[0] in descended:
                        raise LookupError(
                            "a source was computed in a turn of a loop over a tensor, and the target comes from it by "
                            "way of what else that turn computed, of which no record is kept: take the gradient within "
                            "the turn, or loop over a Python range"
                        )
                else:
                    reached.update(i.operands)


class Activity:
    """What is on the tape, and which of it a source reaches.

    `active` are the recorded results that descend from something watched; `depends` those among them that descend
    from a wanted value which the tape knows at that point. A detour is a value that stands on the tape for what was
    computed from others off it, with a rule that is called from outside.
    """

    def __init__(
        self,
        instructions: Sequence[Instruction],
        wanted: set[int],
        recorded: Sequence[tuple[int, int]],
        watched: Mapping[int, int],
        detours: Mapping[int, Sequence[int]] = {},
    ) -> None:
        self.instructions = instructions = list(instructions)
        self.wanted, self.watched, self.detours = wanted, watched, detours
        self.active: set[int] = set()
        self.depends: set[int] = set()
        self.turns: dict[int, Activity] = {}
        """The same of the body of each loop that something watched enters."""
        for start, stop in sorted(recorded):
            for index in range(start, min(stop, len(instructions))):
                i = instructions[index]
                operands = self.operands(index)
                if i.op is LOOP:
                    self._follow(index)
                elif i.op.kind is Kind.PART:
                    inside, (value, *_) = self.turns.get(operands[0]), i.attributes
                    if inside is not None and i.type.dtype.is_floating:
                        if inside.known(value, 0):
                            self.active.add(index)
                        if inside.leads(value, 0):
                            self.depends.add(index)
                elif operands and i.op.differentiable and i.type.dtype.is_floating:
                    if any(self.known(operand, index) for operand in operands):
                        self.active.add(index)
                    if any(self.leads(operand, index) for operand in operands):
                        self.depends.add(index)

    def _follow(self, index: int) -> None:
        """A loop descends from what enters its turns, at first or from the turn before."""
        i = self.instructions[index]
        body, count, _ = i.attributes
        inputs = body.inputs
        entering = [*zip(inputs, i.operands, strict=True)]
        known = {value for value, operand in entering if self.known(operand, index)}
        leading = {value for value, operand in entering if self.leads(operand, index)}
        for _ in range(count if known else 0):
            inside = Activity(body.instructions, leading, [(0, len(body.instructions))], dict.fromkeys(known, 0))
            self.turns[index] = inside
            following = [*zip(inputs, body.outputs)]  # noqa: B905  what is carried comes first
            more = [value for value, out in following if inside.known(out, 0)]
            lead = [value for value, out in following if inside.leads(out, 0)]
            if known.issuperset(more) and leading.issuperset(lead):
                break
            known, leading = known.union(more), leading.union(lead)
        if index in self.turns:
            self.active.add(index)
            if leading:
                self.depends.add(index)

    def operands(self, index: int) -> Sequence[int]:
        """What a value descends from, as the tape sees it."""
        return self.detours[index] if index in self.detours else self.instructions[index].operands

    def known(self, operand: int, index: int) -> bool:
        """Whether the tape follows this operand of instruction `index`."""
        return operand in self.active or self.watched.get(operand, NEVER) <= index

    def leads(self, operand: int, index: int) -> bool:
        """Whether a cotangent of this operand of instruction `index` is on the way to a source."""
        return operand in self.depends or (operand in self.wanted and self.known(operand, index))


def _reached(activity: Activity, targets: Iterable[int]) -> set[int]:
    """What lies between the targets and anything watched; LookupError if an op there has no rule, on the way to a
    source or not."""
    reached = set(targets)
    parts: dict[int, set[int]] = {}
    for index in range(max(reached, default=-1), -1, -1):
        if index in reached and index in activity.active:
            i = activity.instructions[index]
            if i.op is LOOP:
                body, count, _ = i.attributes
                inputs, inside, wanted = body.inputs, set[int](), parts[index]
                for _ in range(count):
                    inside = _reached(activity.turns[index], wanted)
                    following = {out for value, out in zip(inputs, body.outputs) if value in inside}  # noqa: B905
                    if wanted.issuperset(following):
                        break
                    wanted |= following
                reached.update(operand for value, operand in zip(inputs, i.operands, strict=True) if value in inside)
                continue
            if i.op.kind is Kind.PART:
                parts.setdefault(i.operands[0], set()).add(i.attributes[0])
            elif i.op.gradient is Gradient.MISSING:
                raise missing_rule(i.op)
            reached.update(activity.operands(index))
    return reached


def missing_rule(op: Op) -> LookupError:
    """The error for an op through which no cotangent passes because nobody wrote its rule."""
    return LookupError(f"gradient registry has no entry for: {op.name}")


def apply_rule(builder: Builder, index: int, g: Value) -> Sequence[Any]:
    """The cotangents of an instruction's operands, given that of its result; `fit` brings them to their shapes."""
    instruction = builder.instructions[index]
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


def total(values: Sequence[Value]) -> Value | None:
    """The sum of a source's cotangents; None if it has none."""
    return _sum(values) if values else None


def rows_of(cotangent: Value, source: Sequence[int], start: int) -> tuple[Value, Value] | None:
    """Rows and their indices, if a source's cotangent is nothing but what look-ups of it give, in the order of these.

    The instructions from `start` on were derived: there the cotangent is a sum of rows that are spread over a table.
    """
    builder = cotangent.builder
    parts, waiting = [], [cotangent.index]
    while waiting:
        index = waiting.pop()
        i = builder.instructions[index]
        if index < start or i.op not in (spread.op, add.op):
            return None
        if i.op is add.op:
            waiting += i.operands
        else:
            parts.append(index)
    # The cotangent of a sum passes through as it is; but what is looked up in a sum is not the source.
    copies, found = set(source), Counter[int | None]()
    for index, i in enumerate(builder.instructions[:start]):
        if i.op is same.op and i.operands[0] in copies:
            copies.add(index)
        elif i.op is look_up.op and i.operands[0] in copies:
            found[i.operands[1]] += 1
    places = [builder.instructions[k].operands[1] for k in parts]
    if Counter(k if k < start else builder.origins[k] for k in places) - found:  # what is computed again is a copy
        return None
    # Backwards, what was looked up first comes last.
    pairs = [map(builder.value, builder.instructions[k].operands) for k in sorted(parts, reverse=True)]
    rows, indices = (list(values) for values in zip(*pairs, strict=True))
    if len(pairs) == 1:
        return rows[0], indices[0]
    if len({x.dtype for x in indices}) > 1:
        indices = [convert(x, int64) for x in indices]
    return concat_along(rows, 0), concat_along(indices, 0)


def _add(totals: dict[Any, Any], key: Any, part: Any) -> None:
    """Add to a total, at once: in a loop that was written out, each turn adds its part in the same way."""
    known = totals.get(key)
    if known is None or is_zero(known):
        totals[key] = part if known is None or not is_zero(part) else known
    elif not is_zero(part):
        totals[key] = known + part


def _sum(values: Sequence[Value]) -> Value:
    totals: dict[int, Value] = {}
    for value in values:
        _add(totals, 0, value)
    return totals[0]


def is_zero(cotangent: Value) -> bool:
    """Whether a path leads there, but the derivative is 0 everywhere: of a sign, or of where a relu is open."""
    i = cotangent.builder.instructions[cotangent.index]
    return i.op is CONSTANT and i.attributes[0] == 0


def fit(instruction: Instruction, cotangent: Any, shape: Shape) -> Any:
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
