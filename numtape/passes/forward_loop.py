"""Tangents through a loop: a loop whose body computes with each value its tangent.

In comes a `loop` instruction and the tangents of its operands; out come those of its parts, as parts of a new loop. In
this the values themselves are computed again, so that none has to be kept for all turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numtape.ir.loop import FINAL, Body, final, parts, stacked
from numtape.ir.op import Op
from numtape.ir.program import INPUT, Builder, Instruction, Value
from numtape.passes.forward import Tangent, push_forward


class Turns:
    """A loop, and what moves in it, given the tangents of those operands that have one, by number."""

    def __init__(self, builder: Builder, index: int, moving: Mapping[int, Tangent]) -> None:
        self.builder = builder
        i = builder.instructions[index]
        self.operands = [builder.value(k) for k in i.operands]
        self.body, self.count, self.windows = i.attributes
        self.moving = dict(moving)
        for _ in range(self.count):
            self.push()
            outputs = {k: self.known[out] for k, out in enumerate(self.body.outputs) if out in self.known}
            more = {
                k: t for k, t in outputs.items()
                if k not in self.moving or isinstance(t, LookupError) > isinstance(self.moving[k], LookupError)
            }  # fmt: skip
            if not more:
                break
            self.moving |= {
                k: t if isinstance(t, LookupError) else builder.constant(0.0, t.dtype, t.shape) for k, t in more.items()
            }
        self.turns, self.new = self.loop()

    def push(self) -> None:
        """Write the tangents of one turn."""
        inputs = self.body.inputs
        self.paper = Builder(self.body.instructions)
        self.entering = {
            k: t if isinstance(t, LookupError) else self.paper.input(self.body.type(inputs[k]), -1)
            for k, t in self.moving.items()
        }
        given = {inputs[k]: t for k, t in self.entering.items()}
        self.known = given | push_forward(self.paper, [(0, len(self.body.instructions))], given)

    def part(self, op: Op, value: int) -> Tangent | None:
        """The tangent of a part."""
        tangent = self.known.get(value)
        if isinstance(tangent, Value):
            return (final if op is FINAL else stacked)(self.turns, self.new[tangent.index])
        return tangent

    def loop(self) -> tuple[Value, dict[int, int]]:
        """The loop, and for values on the paper those of its body."""
        carried, same, _ = parts(len(self.operands), self.body, self.windows)
        inputs = self.body.inputs
        groups: list[list[int]] = [[], [], []]
        """What enters by number, and as ~k its tangent: what is carried, what stays the same, and sequences."""
        for k in range(len(inputs)):
            groups[(k >= carried) + (k >= carried + same)].append(k)
        outside = dict(enumerate(self.operands))
        places = dict(enumerate(inputs))
        for k, tangent in self.entering.items():
            start = self.moving[k]
            if isinstance(tangent, Value) and isinstance(start, Value):
                outside[~k], places[~k] = start, tangent.index
        groups = [group + [~k for k in group if ~k in places] for group in groups]
        states, constant, rows = ([outside[k] for k in group] for group in groups)
        windows = [self.windows[max(k, ~k) - carried - same] for k in groups[2]]
        sequences = [(x, *window) for x, window in zip(rows, windows, strict=True)]
        body = Body(self.builder, Builder(), states, constant, sequences)
        made = [x.index for values in body.inputs() for x in values]
        new = dict(zip((places[k] for group in groups for k in group), made, strict=True))
        inside = body.inside
        for index, i in enumerate(self.paper.instructions):
            if i.op is not INPUT:
                origin = index if index < len(self.body.instructions) else self.paper.origins[index]
                inside.origin = None if origin is None else self.body.origin(origin)
                new[index] = inside.append(
                    Instruction(i.op, tuple(new[k] for k in i.operands), i.attributes, i.type)
                ).index
        following = []
        for k in groups[0]:
            out = self.body.outputs[max(k, ~k)]
            moved: Any = self.known.get(out)
            if k >= 0:
                following.append(inside.value(new[out]))
            elif isinstance(moved, Value):
                following.append(inside.value(new[moved.index]))
            else:  # comes to rest
                following.append(inside.constant(0.0, self.body.type(out).dtype, self.body.type(out).shape))
        return body.close(following, self.count), new
