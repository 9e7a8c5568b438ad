"""Loops as instructions: a body that is a program of its own, and the number of its turns.

`loop` has for operands the first values of what is carried from turn to turn, then what is the same in all turns, then
sequences, of which each turn sees one element along the first axis. The body's inputs are the same in this order, its
outputs what is carried on. The result of a loop is no array but stands for everything that its turns compute:
`final` is a value of the body as it is in the last turn, `stacked` all that it was, turn by turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from numtape.dtypes import TensorType, bool_, tensor_type
from numtape.ir.op import Gradient, Kind, Op, register
from numtape.ir.program import Builder, Instruction, Program, Value

_TURNS = tensor_type(bool_, ())


def _infer_loop(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    body, count, windows = attributes
    carried, same, _ = parts(len(types), body, windows)
    wanted = [*types[: carried + same], *(tensor_type(t.dtype, t.shape[1:]) for t in types[carried + same :])]
    given = [body.type(k) for k in body.inputs]
    if wanted != given or [body.type(k) for k in body.outputs] != given[:carried]:
        raise TypeError(f"loop: a body of inputs {given} does not fit operands {list(types)}")
    if count < 1:
        raise ValueError(f"loop: {count} turns; there has to be one")
    for (start, step), t in zip(windows, types[carried + same :], strict=True):
        if not all(0 <= k < t.shape[0] for k in (start, start + step * (count - 1))):
            raise ValueError(f"loop: {count} turns from {start} by {step} are not within {t}")
    return _TURNS


def _infer_part(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    return tensor_type(*attributes[1:])


LOOP = register(
    Op(
        "loop", Kind.LOOP, ("*values",), ("body", "count", "windows"), infer=_infer_loop,
        gradient=Gradient.BY_PASS, at_once=True,
        doc="What all turns of a loop compute; for each sequence a window says where it starts, and its step.",
    )
)  # fmt: skip
FINAL = register(
    Op(
        "final", Kind.PART, ("turns",), ("value", "dtype", "shape"), infer=_infer_part, gradient=Gradient.BY_PASS,
        doc="A value of a loop's body, as it is in the last turn.",
    )
)  # fmt: skip
STACKED = register(
    Op(
        "stacked", Kind.PART, ("turns",), ("value", "dtype", "shape"), infer=_infer_part, gradient=Gradient.BY_PASS,
        doc="A value of a loop's body in all turns, along a new first axis.",
    )
)  # fmt: skip


def parts(operands: int, body: Program, windows: Sequence[Any]) -> tuple[int, int, int]:
    """How many of a loop's operands are carried, are the same in all turns, and are sequences."""
    carried, sequences = len(body.outputs), len(windows)
    return carried, operands - carried - sequences, sequences


def needed(body: Program, wanted: Iterable[int]) -> set[int]:
    """What of a loop's body these values need in the course of all turns."""
    instructions = body.instructions
    carried = dict(zip(body.inputs, body.outputs, strict=False))
    found, waiting = set[int](), list(wanted)
    while waiting:
        value = waiting.pop()
        if value not in found:
            found.add(value)
            waiting += instructions[value].operands
            if value in carried:
                waiting.append(carried[value])
    return found


def final(turns: Value, value: int) -> Value:
    """A value of the body as it is in the last turn."""
    kind = turns.builder.instructions[turns.index].attributes[0].type(value)
    return turns.builder.append(Instruction(FINAL, (turns.index,), (value, kind.dtype, kind.shape), kind))


def stacked(turns: Value, value: int) -> Value:
    """A value of the body in all turns."""
    body, count, _ = turns.builder.instructions[turns.index].attributes
    kind = tensor_type(body.type(value).dtype, (count, *body.type(value).shape))
    return turns.builder.append(Instruction(STACKED, (turns.index,), (value, kind.dtype, kind.shape), kind))


@dataclass(frozen=True, slots=True)
class Body:
    """A body in the making: its own builder, and for each input the operand in the builder around.

    Carried inputs come first, then those that are the same in all turns, then sequences with their windows.
    """

    around: Builder
    inside: Builder
    carried: Sequence[Value]
    same: Sequence[Value]
    sequences: Sequence[tuple[Value, int, int]]

    def inputs(self) -> tuple[list[Value], list[Value], list[Value]]:
        """Write the inputs."""
        kinds = [x.type for x in (*self.carried, *self.same)]
        kinds += [tensor_type(x.dtype, x.shape[1:]) for x, _, _ in self.sequences]
        made = [self.inside.input(kind, k) for k, kind in enumerate(kinds)]
        first, last = len(self.carried), len(self.carried) + len(self.same)
        return made[:first], made[first:last], made[last:]

    def close(self, carried: Sequence[Value], count: int) -> Value:
        """The loop, whose body carries these values on."""
        body = Program(tuple(self.inside.instructions), tuple(x.index for x in carried), (), tuple(self.inside.origins))
        operands = [*self.carried, *self.same, *(x for x, _, _ in self.sequences)]
        windows = tuple((start, step) for _, start, step in self.sequences)
        return self.around.emit(LOOP, operands, (body, count, windows))
