"""`Program`: a linear list of instructions in SSA form, and the builder that writes one.

Values are numbered in order: value k is the result of instruction k, and inputs are instructions too (op `input`), so
an operand always has a smaller number than the instruction that uses it. A program is an immutable value; passes read
one and return another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numtape.dtypes import DType, Shape, TensorType, tensor_type
from numtape.ir.op import Gradient, Kind, Op, register


def _infer_input(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    raise TypeError("an input's type is given, not inferred")


INPUT = register(
    Op("input", Kind.ALIAS, (), ("index",), infer=_infer_input, gradient=Gradient.NONE, doc="What a program is given.")
)
CONSTANT = register(
    Op(
        "constant", Kind.MAP, (), ("value", "dtype", "shape"), gradient=Gradient.NONE,
        infer=lambda types, attributes: tensor_type(*attributes[1:]),
        reference=lambda value, dtype, shape: np.full(shape, value, dtype.dtype), doc="One number in every element.",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Instruction:
    """One op applied to earlier values."""

    op: Op
    operands: tuple[int, ...]
    attributes: tuple[Any, ...]
    type: TensorType

    def attribute(self, name: str) -> Any:
        return self.attributes[self.op.attributes.index(name)]


def literal(value: Any, type: TensorType) -> Instruction:
    """The instruction for one number in every element."""
    return Instruction(CONSTANT, (), (value, type.dtype, type.shape), type)


@dataclass(frozen=True, slots=True)
class Program:
    """Instructions and which of their values go out.

    `donations` pairs an output's position with the input whose buffer it may take over: the old and the new value of
    a Variable. `origins` is for people who ask where instructions come from, and no part of what a program is.
    """

    instructions: tuple[Instruction, ...]
    outputs: tuple[int, ...]
    donations: tuple[tuple[int, int], ...] = ()
    origins: tuple[int | None, ...] = field(default=(), compare=False, repr=False)
    """For each instruction the value of the recording that it was written for; none if a program is its own."""

    @property
    def inputs(self) -> tuple[int, ...]:
        """The values that are given from outside, in the order of their index."""
        found = [(i.attributes[0], k) for k, i in enumerate(self.instructions) if i.op is INPUT]
        return tuple(k for _, k in sorted(found))

    def type(self, value: int) -> TensorType:
        return self.instructions[value].type

    def origin(self, value: int) -> int | None:
        return self.origins[value] if self.origins else value

    def __str__(self) -> str:
        from numtape.ir.text import write

        return write(self)


class Value:
    """A result in a builder, with the operators of a tensor: what gradient rules and composites compute with."""

    __slots__ = ("builder", "index", "type")
    __hash__ = object.__hash__

    def __init__(self, builder: Builder, index: int, type: TensorType) -> None:
        self.builder = builder
        self.index = index
        self.type = type

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def rank(self) -> int:
        return self.type.rank

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    def __repr__(self) -> str:
        return f"%{self.index}: {self.type}"


class Builder:
    """Appends instructions; infers the type of each, and notes on whose behalf it is written."""

    __slots__ = ("instructions", "origin", "origins")

    def __init__(self, instructions: Iterable[Instruction] = ()) -> None:
        self.instructions: list[Instruction] = list(instructions)
        self.origin: int | None = None
        """What is being rewritten, or differentiated; None for what stands for itself."""
        self.origins: list[int | None] = [None] * len(self.instructions)

    def append(self, instruction: Instruction) -> Value:
        self.instructions.append(instruction)
        self.origins.append(self.origin)
        return Value(self, len(self.instructions) - 1, instruction.type)

    def input(self, type: TensorType, index: int) -> Value:
        return self.append(Instruction(INPUT, (), (index,), type))

    def value(self, index: int) -> Value:
        return Value(self, index, self.instructions[index].type)

    def emit(self, op: Op, operands: Sequence[Value], attributes: tuple[Any, ...] = ()) -> Value:
        assert op.infer is not None, f"{op} is no instruction"
        type = op.infer([x.type for x in operands], attributes)
        return self.append(Instruction(op, tuple(x.index for x in operands), attributes, type))

    def constant(self, value: Any, dtype: DType, shape: Shape = ()) -> Value:
        """A literal, the same for every element."""
        return self.append(literal(value, tensor_type(dtype, shape)))
