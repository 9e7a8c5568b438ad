"""Stretches that are computed again: the same cotangents, wherever the stretches are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from numtape.backends import native
from numtape.backends.reference import interpret
from numtape.codegen.plan import optimize
from numtape.dtypes import float64, tensor_type
from numtape.ir.loop import LOOP
from numtape.ir.op import Kind
from numtape.ir.program import INPUT, Builder, Instruction, Program
from numtape.ir.verify import verify
from numtape.ops.core import PUBLIC
from numtape.ops.recompute import CHECKPOINT, held, recomputed
from numtape.passes.fuse import fuse
from numtape.passes.layout import awaited, root
from numtape.passes.recompute import awaiting_what_is_read, without_marks
from numtape.passes.reroll import reroll
from numtape.passes.simplify import simplify
from tests.passes.test_differentiate_loop import check_batches, check_tangents, gradients
from tests.passes.test_reroll import recordings

exp, matmul, sin = PUBLIC["exp"], PUBLIC["matmul"], PUBLIC["sin"]


def marked(program, begin, end):
    """The program with instructions from begin to before end as a stretch."""
    instructions = program.instructions
    while end < len(instructions) and instructions[end].op.kind is Kind.PART:
        end += 1  # not between a loop and its parts
    builder, new = Builder(), {}
    mark = None
    for index, i in enumerate(instructions):
        if index == begin:
            mark = builder.emit(CHECKPOINT, [])
        if index == end:
            for k in range(begin, end):
                if instructions[k].op not in (INPUT, LOOP, CHECKPOINT):
                    new[k] = recomputed([builder.value(new[k]), mark]).index
        new[index] = builder.append(Instruction(i.op, tuple(new[k] for k in i.operands), i.attributes, i.type)).index
    return verify(Program(tuple(builder.instructions), tuple(new[k] for k in program.outputs)))


def stretches(program, draw):
    """The program with a few stretches in it, beside or within one another."""
    for _ in range(draw(st.integers(1, 3))):
        size = len(program.instructions)
        begin = draw(st.integers(0, size - 1))
        marks = [k for k, i in enumerate(program.instructions) if i.op is CHECKPOINT]
        last = {m: max(k for k, i in enumerate(program.instructions) if k == m or m in i.operands[1:]) for m in marks}
        end = draw(st.integers(begin + 1, size))
        if all((begin <= m and last[m] < end) or last[m] < begin or end <= m for m in marks):
            program = marked(program, begin, end)
    return program


@settings(max_examples=40)
@given(st.data(), recordings(gradient=False), st.booleans(), st.integers(1, 2))
def test_the_same_cotangents(data, case, rolled, order):
    program, inputs = case
    program = reroll(program) if rolled else program
    ours, have = gradients(stretches(program, data.draw), order)
    theirs, should_have = gradients(program, order)
    assert have == should_have
    for x, y in zip(interpret(ours, inputs), interpret(theirs, inputs), strict=True):
        if order == 1:
            np.testing.assert_array_equal(x, y)
        else:  # the parts of a cotangent are added up in another order
            np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-11)


@settings(max_examples=15)
@given(st.data(), recordings(gradient=False), st.booleans())
def test_natively(data, case, rolled):
    program, inputs = case
    ours, _ = gradients(stretches(reroll(program) if rolled else program, data.draw))
    for x, y in zip(native.run(ours, inputs), interpret(ours, inputs), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-11)
    for x, y in zip(interpret(optimize(ours), inputs), interpret(ours, inputs), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-11)


@settings(max_examples=15)
@given(st.data(), recordings(gradient=False), st.booleans())
def test_batches_and_tangents(data, case, rolled):
    program, inputs = case
    program = stretches(reroll(program) if rolled else program, data.draw)
    backward, _ = gradients(program)
    chosen = data.draw(st.sets(st.integers(0, len(inputs) - 1), min_size=1, max_size=2))
    for made in (program, backward):
        check_batches(made, inputs, sorted(chosen))
        if not rolled:
            check_tangents(made, inputs)


def test_what_is_computed_again_waits_for_the_cotangents():
    builder = Builder()
    x, w = (builder.input(tensor_type(float64, (4, 4)), k) for k in range(2))
    mark = builder.emit(CHECKPOINT, [])
    y = recomputed([sin(matmul(exp(x), w)), mark])
    loss = exp(y)
    program = optimize(gradients(Program(tuple(builder.instructions), (loss.index,)))[0])
    names = [i.op.name for i in program.instructions]
    assert names.count("matmul") == 4  # forward, again, and two backward
    assert {"checkpoint", "recomputed"}.isdisjoint(names)
    again = names.index("matmul", names.index("matmul") + 1)
    (cotangent,) = {k for operand in program.instructions[again].operands for k in awaited(program, operand)}
    assert names[cotangent] == "exp"
    groups = [set(group.members) for group in fuse(program).groups]
    order = {k: number for number, members in enumerate(groups) for k in members}
    assert order[cotangent] < order[again]


def test_nothing_is_computed_to_be_waited_for():
    builder = Builder()
    x, y = (builder.input(tensor_type(float64, (4,)), k) for k in range(2))
    z = sin(y)
    out = sin(held([x, exp(z)]))
    program = Program(tuple(builder.instructions), (out.index,))
    assert [i.op.name for i in awaiting_what_is_read(program).instructions] == ["input", "input", "held", "sin"]
    program = Program(tuple(builder.instructions), (out.index, z.index))
    made = awaiting_what_is_read(program)
    assert [i.op.name for i in made.instructions] == ["input", "input", "sin", "held", "sin"]
    assert made.instructions[3].operands == (0, 2)


def test_what_is_there_is_not_waited_for():
    builder = Builder()
    x, y = (builder.input(tensor_type(float64, (4,)), k) for k in range(2))
    one = builder.constant(1.0, float64)
    out = sin(held([x, y, one]))
    program = simplify(Program(tuple(builder.instructions), (out.index,)))
    assert [i.op.name for i in program.instructions] == ["input", "input", "sin"]


def test_aliases_of_what_waits_wait():
    builder = Builder()
    x, y = (builder.input(tensor_type(float64, (4,)), k) for k in range(2))
    z = sin(y)
    value = PUBLIC["reshape"](held([held([x, z]), exp(y)]), (2, 2))
    program = Program(tuple(builder.instructions), (value.index,))
    assert root(program, value.index) == x.index
    assert set(awaited(program, value.index)) == {z.index, z.index + 2}


def test_marks_go():
    builder = Builder()
    x = builder.input(tensor_type(float64, (4,)), 0)
    mark = builder.emit(CHECKPOINT, [])
    out = exp(recomputed([sin(x), mark, x]))
    program = without_marks(Program(tuple(builder.instructions), (out.index,)))
    assert [i.op.name for i in program.instructions] == ["input", "sin", "exp"]
