"""A loop for a batch of rows at once: its body, written again for all of them.

In comes a `loop` instruction, and batches that take the place of some of its operands; out come those of its parts, as
parts of a new loop. What is carried on is batched if it is so in any turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numtape.dtypes import tensor_type
from numtape.ir.loop import FINAL, LOOP, Body, final, parts, stacked
from numtape.ir.op import Op
from numtape.ir.program import INPUT, Builder, Instruction, Program, Value
from numtape.ops.movement import broadcast, permute
from numtape.passes.vectorize import vectorize


class Turns:
    """A loop, given its operands, batches of `rows` rows for some of them, those with these numbers."""

    def __init__(self, builder: Builder, index: int, given: Sequence[Value], moving: Sequence[int], rows: int) -> None:
        self.rows = rows
        i = builder.instructions[index]
        body, count, windows = i.attributes
        inputs = body.inputs
        carried, same, _ = parts(len(i.operands), body, windows)
        batched = set(moving)
        while True:
            self.depend = _descendants(body, {inputs[k] for k in batched})
            more = {k for k, out in enumerate(body.outputs) if out in self.depend} - batched
            if not more:
                break
            batched |= more
        # The body, and what stands in it for the whole batch, on a paper from which what is needed is copied.
        paper = Builder(body.instructions)
        own = {inputs[k]: self.batch(paper, inputs[k]) for k in sorted(batched)}
        wanted = [k for k in sorted(self.depend | set(body.outputs)) if body.instructions[k].op is not LOOP]
        found = dict(zip(wanted, vectorize(paper, own, wanted), strict=True))
        outside: list[Any] = list(given)
        for k in batched:
            x = outside[k] if k in moving else broadcast(outside[k], (rows, *outside[k].shape))
            outside[k] = x if k < carried + same else permute(x, (1, 0, *range(2, x.rank)))
        sequences = [(x, *window) for x, window in zip(outside[carried + same :], windows, strict=True)]
        made = Body(builder, Builder(), outside[:carried], outside[carried : carried + same], sequences)
        entering = [own[value].index if value in own else value for value in inputs]
        new = dict(zip(entering, [x.index for values in made.inputs() for x in values], strict=True))
        for k, part in enumerate(paper.instructions):
            if part.op is not INPUT and k not in self.depend:
                origin = k if k < len(body.instructions) else paper.origins[k]
                made.inside.origin = None if origin is None else body.origin(origin)
                operands = tuple(new[operand] for operand in part.operands)
                new[k] = made.inside.append(Instruction(part.op, operands, part.attributes, part.type)).index
        following = [found[out].index if k in batched else out for k, out in enumerate(body.outputs)]
        self.turns = made.close([made.inside.value(new[k]) for k in following], count)
        self.new = new | {k: new[x.index] for k, x in found.items() if k in self.depend}

    def batch(self, paper: Builder, value: int) -> Value:
        """An input of the paper for a batch of an input of the body."""
        kind = paper.instructions[value].type
        return paper.input(tensor_type(kind.dtype, (self.rows, *kind.shape)), -1)

    def part(self, op: Op, value: int) -> Any:
        """A part, for the whole batch."""
        x: Any = (final if op is FINAL else stacked)(self.turns, self.new[value])
        if value not in self.depend:
            return broadcast(x, (self.rows, *x.shape))
        return x if op is FINAL else permute(x, (1, 0, *range(2, x.rank)))


def _descendants(body: Program, values: set[int]) -> set[int]:
    """These values of a body, and what is computed from them in one turn."""
    found = set(values)
    for k, i in enumerate(body.instructions):
        if not found.isdisjoint(i.operands):
            found.add(k)
    return found
