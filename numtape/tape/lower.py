"""From a recorded path to a program: only what the wanted results need, inputs numbered anew, arrays before numbers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numtape.backends import reference
from numtape.backends.buffer import Buffer
from numtape.cache.statistics import COUNTERS
from numtape.dtypes import TensorType
from numtape.ir.program import INPUT, Instruction, Program

if TYPE_CHECKING:
    from numtape.backends.native import Executable
    from numtape.tape.trace import Node


@dataclass(slots=True)
class Lowered:
    """A program, and what of the trace it takes and gives.

    Its inputs are, in this order: `arrays`, by the number of their admission; `known` slots, computed before; and
    `scalars`, the numbers (None: all of them, in order) of the types `scalar_types`. It gives the slots `outputs`.
    """

    program: Program
    arrays: tuple[int, ...]
    known: tuple[int, ...]
    scalars: tuple[int, ...] | None
    outputs: tuple[int, ...]
    scalar_types: tuple[TensorType, ...]
    takes_all: bool
    """Whether `arrays` are the first inputs of the trace, in order, and nothing else is taken."""
    executable: Executable | None = None
    interpreted: int = 0
    """How often it ran on the interpreter."""
    made: float = field(default_factory=time.time)

    def compile(self) -> Executable:
        """The program ready to run, made at the first call."""
        from numtape.backends.native import Executable

        self.executable = Executable(self.program, self.scalar_types)
        return self.executable

    def interpret(self, arrays: Sequence[Buffer], numbers: Sequence[Any]) -> list[Buffer]:
        """What the program gives, as new buffers, without compiling anything."""
        found = reference.run(self.program, arrays, numbers)
        self.interpreted += 1
        COUNTERS.interpreted += 1
        return found


def lower(
    path: Iterable[Node], wanted: tuple[int, ...], known: frozenset[int], equal: Mapping[int, int] = {}
) -> Lowered:
    """The program that computes the wanted slots; `known` slots have been computed before and are inputs.

    `equal` maps slots of inputs to others that always hold the same: these alone are taken.
    """
    instructions: list[Instruction] = []
    older: dict[int, int] = {}
    scalar_count = 0
    for node in path:
        instructions += node.instructions
        older.update(node.donations)
        scalar_count = node.scalar_count
    needed = set(wanted)
    for index in range(len(instructions) - 1, -1, -1):
        if index in needed and index not in known:
            operands = instructions[index].operands
            needed.update([equal.get(k, k) for k in operands] if equal else operands)

    order = sorted(needed)
    arrays, computed, scalars = [], [], []
    for index in order:
        i = instructions[index]
        if index in known:
            computed.append(index)
        elif i.op is INPUT:
            if i.attributes[0] >= 0:
                arrays.append(index)
            else:
                scalars.append(index)
    position = {slot: k for k, slot in enumerate([*arrays, *computed, *scalars])}

    out: list[Instruction] = []
    renamed: dict[int, int] = {}
    for index in order:
        i = instructions[index]
        renamed[index] = len(out)
        if index in position:
            out.append(Instruction(INPUT, (), (position[index],), i.type))
        else:
            operands = tuple([equal.get(k, k) for k in i.operands]) if equal else i.operands
            out.append(Instruction(i.op, tuple([renamed[k] for k in operands]), i.attributes, i.type))

    donations = []
    for k, slot in enumerate(wanted):
        old = older.get(slot)
        while old in older:
            old = older[old]
        if old in position and old not in known:
            donations.append((k, position[old]))
    numbers = tuple(~instructions[slot].attributes[0] for slot in scalars)
    return Lowered(
        Program(tuple(out), tuple(renamed[slot] for slot in wanted), tuple(donations), tuple(order)),
        tuple(instructions[slot].attributes[0] for slot in arrays),
        tuple(computed),
        None if numbers == tuple(range(scalar_count)) else numbers,
        wanted,
        tuple(instructions[slot].type for slot in scalars),
        not computed and all(instructions[slot].attributes[0] == k for k, slot in enumerate(arrays)),
    )
