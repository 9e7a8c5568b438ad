"""Whether a program is well formed: what every stage may rely on, checked between stages in the tests."""

from __future__ import annotations

from numtape.ir.op import Kind
from numtape.ir.program import INPUT, Program


def verify(program: Program) -> Program:
    """Return the program, or raise AssertionError with the instruction that is wrong."""
    indices: set[int] = set()
    for k, i in enumerate(program.instructions):
        where = f"%{k} = {i.op.name}"
        assert i.op.kind is not Kind.COMPOSITE, f"{where}: a composite stands in a program"
        assert all(0 <= o < k for o in i.operands), f"{where}: operands {i.operands} do not come before it"
        assert len(i.attributes) == len(i.op.attributes), f"{where}: attributes {i.attributes}, not {i.op.attributes}"
        if i.op is INPUT:
            assert i.attributes[0] not in indices, f"{where}: input {i.attributes[0]} is there twice"
            indices.add(i.attributes[0])
            continue
        assert i.op.infer is not None, f"{where}: an instruction without a rule for its type"
        inferred = i.op.infer([program.type(o) for o in i.operands], i.attributes)
        assert inferred is i.type, f"{where}: its type is {i.type}, and should be {inferred}"
    count = len(program.instructions)
    assert all(0 <= o < count for o in program.outputs), f"outputs {program.outputs} of {count} instructions"
    for position, index in program.donations:
        assert 0 <= position < len(program.outputs), f"a donation to output {position} of {len(program.outputs)}"
        assert index in indices, f"a donation of input {index}, which is not there"
    return program
