"""Write out the ops that are formulas, with the instructions that they stand for.

Gradients have been taken before, by the formulas' own rules; from here on what a formula and its gradient have in
common is one and the same, and fuses with everything around it.
"""

from __future__ import annotations

from numtape.ir.op import Kind
from numtape.ir.program import Builder, Instruction, Program


def expand(program: Program) -> Program:
    """The same program without formulas."""
    builder = Builder()
    renamed: list[int] = []
    for index, i in enumerate(program.instructions):
        builder.origin = program.origin(index)
        operands = tuple(renamed[k] for k in i.operands)
        if i.op.kind is Kind.FORMULA:
            value = i.op.kernel(*map(builder.value, operands), *i.attributes)
            assert value.type is i.type, f"{i.op} was written out as {value}, not {i.type}"
        else:
            value = builder.append(Instruction(i.op, operands, i.attributes, i.type))
        renamed.append(value.index)
    outputs = tuple(renamed[k] for k in program.outputs)
    return Program(tuple(builder.instructions), outputs, program.donations, tuple(builder.origins))
