"""Loops in stretches that are computed again: the same bits, in less memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import numtape as nt
from numtape.backends import native
from numtape.backends.reference import interpret
from numtape.codegen.plan import all_steps, plan
from numtape.dtypes import float64, tensor_type
from numtape.ir.loop import LOOP, Body, final, stacked
from numtape.ir.op import REGISTRY
from numtape.ir.program import Builder, Program
from numtape.ir.text import read
from numtape.ir.verify import verify
from numtape.ops.core import PUBLIC
from numtape.ops.movement import slice_of
from numtape.passes.differentiate import differentiate
from numtape.passes.expand import expand
from numtape.passes.rematerialize import rematerialize
from numtape.passes.reroll import reroll
from numtape.passes.simplify import simplify
from tests.models import gradients, recurrent
from tests.passes.test_reroll import BINARY, UNARY, recordings

sin, tanh = PUBLIC["sin"], PUBLIC["tanh"]


@pytest.fixture(autouse=True)
def _no_limit_afterwards():
    before = nt.config.get_loop_memory()
    yield
    nt.config.set_loop_memory(before)


def in_stretches(program):
    """Whether loops of a program run loops."""
    return any(i.op is LOOP and any(j.op is LOOP for j in i.attributes[0].instructions) for i in program.instructions)


@st.composite
def loops(draw):
    """A loop of a random body, what is taken of it, and the gradient of that, and maybe of that in turn."""
    builder, inputs = Builder(), []
    shape = draw(st.sampled_from([(), (3,), (2, 3)]))
    count = draw(st.integers(4, 23))

    def given_(*shape):
        inputs.append(np.random.default_rng(len(inputs)).uniform(-1, 1, shape))
        return builder.input(tensor_type(float64, shape), len(inputs) - 1)

    carried = [given_(*shape) for _ in range(draw(st.integers(0, 3)))]
    same = [given_(*shape) for _ in range(draw(st.integers(0, 2)))]
    ways = [(0, 1, 0), (count - 1, -1, 0), (1, 1, 3), (count, -1, 2), (1, 2, count), (2 * count, -2, count + 1)]
    ways.append((2, 0, 0))
    windows = draw(st.lists(st.sampled_from(ways), min_size=not (carried or same), max_size=2))
    rows = [(given_(count + more, *shape), start, step) for start, step, more in windows]
    body = Body(builder, Builder(), carried, same, rows)
    pool = [x for values in body.inputs() for x in values]
    step = st.tuples(st.sampled_from(BINARY + UNARY), st.integers(0, 99), st.integers(0, 99))
    for name, a, b in draw(st.lists(step, min_size=max(len(carried), 2), max_size=7)):
        operands = pool[a % len(pool)], pool[b % len(pool)]
        pool.append(body.inside.emit(REGISTRY[name], operands[: 1 + (name in BINARY)]))
    ends = [body.inside.emit(REGISTRY["tanh"], [pool[-1 - k]]) for k in range(len(carried))]
    if len(ends) > 1 and draw(st.booleans()):
        ends[0] = pool[1]  # handed on
    turns = body.close(ends, count)
    values = st.sampled_from([x.index for x in [*pool, *ends]])
    results = [final(turns, k) for k in draw(st.lists(values, min_size=1, max_size=2))]
    for k in draw(st.lists(values, max_size=2)):
        whole = stacked(turns, k)
        if draw(st.booleans()):
            results.append(whole)
        else:
            at = draw(st.sampled_from([0, 1, count - 1, count // 2]))
            rest = (0,) * len(shape)
            results.append(slice_of(whole, (at, *rest), (1, *shape), (1,) * (1 + len(shape))))
    sources = [*carried, *same, *(x for x, _, _ in rows)]
    for _ in range(draw(st.integers(1, 2))):
        found = differentiate(
            builder, [x.index for x in results], [[x.index] for x in sources], [None] * len(results),
            [(0, len(builder.instructions))], {x.index: 0 for x in sources},
        )  # fmt: skip
        results += [x for x in found if x is not None]
    return verify(Program(tuple(builder.instructions), tuple(x.index for x in results))), inputs


def check(program, inputs):
    """The same bits, as they are and in stretches."""
    made = verify(rematerialize(program, 0))
    for x, y in zip(interpret(program, inputs), interpret(made, inputs), strict=True):
        np.testing.assert_array_equal(x, y, strict=True)
    return made


@given(loops())
def test_stretches_mean_the_same(case):
    check(*case)


@given(loops())
def test_simplified_loops_in_stretches_mean_the_same(case):
    check(simplify(expand(case[0])), case[1])


@given(recordings())
def test_rolled_loops_in_stretches_mean_the_same(case):
    check(simplify(expand(reroll(case[0]))), case[1])


@given(loops())
def test_stretches_read_back_from_text(case):
    made = rematerialize(case[0], 0)
    assert read(str(made)) == made


@given(st.one_of(loops(), recordings()))
def test_stretches_run_natively(case):
    program, inputs = case
    nt.config.set_loop_memory(0)
    for x, y in zip(interpret(program, inputs), native.run(program, inputs), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-11)


# ---- how it comes out ---------------------------------------------------------------------------------------------


def walk(count, width=256, ends=0):
    """A walk of so many turns and its gradient, as a loop; the first and the last turns of it are written out."""
    builder = Builder()
    kind = tensor_type(float64, (width,))
    start, w = x, _ = builder.input(kind, 0), builder.input(kind, 1)

    def turn(x, w):
        return sin(x * w) * tanh(x) + w

    for _ in range(ends):
        x = turn(x, w)
    body = Body(builder, Builder(), [x], [w], [])
    (x,), (inner,), _ = body.inputs()
    y = turn(x, inner)
    x = final(body.close([y], count - 2 * ends), y.index)
    for _ in range(ends):
        x = turn(x, w)
    found = gradients(builder, PUBLIC["reduce_sum"](x), [start, w])
    return simplify(expand(Program(tuple(builder.instructions), tuple(v.index for v in (x, *found)))))


def written_out(count, width=256):
    """The same walk, as Python writes it out."""
    builder = Builder()
    kind = tensor_type(float64, (width,))
    start, w = x, _ = builder.input(kind, 0), builder.input(kind, 1)
    for _ in range(count):
        x = sin(x * w) * tanh(x) + w
    found = gradients(builder, PUBLIC["reduce_sum"](x), [start, w])
    return Program(tuple(builder.instructions), tuple(v.index for v in (x, *found)))


def arena(program, limit):
    nt.config.set_loop_memory(limit)
    return plan(program).arena


@pytest.mark.parametrize("program", [walk(2500), walk(2500, ends=4), written_out(600)], ids=["whole", "ends", "rolled"])
def test_the_memory_is_that_of_about_the_root_of_the_turns(program):
    turns = 600 if len(program.instructions) > 600 else 2500
    whole = arena(program, None)
    assert whole > 3 * turns * 256 * 8  # a state, and what two functions of it were given, of each turn
    assert arena(program, whole // 2) < 5 * turns**0.5 * 256 * 8
    assert arena(program, whole) == whole
    draw = np.random.default_rng(0)
    inputs = [draw.uniform(-1, 1, 256) for _ in program.inputs]
    check(simplify(expand(reroll(program))), inputs)


def test_a_loop_is_left_alone_up_to_the_limit():
    program = walk(100)
    stacks = sum(i.type.nbytes for i in program.instructions if i.op.name == "stacked")
    assert rematerialize(program, stacks) is program
    assert rematerialize(program, None) is program
    assert in_stretches(rematerialize(program, stacks - 1))


def test_what_others_read_stays():
    """The stack of the states is a result: what else is stacked goes."""
    builder = Builder()
    kind = tensor_type(float64, (4,))
    x, w = builder.input(kind, 0), builder.input(kind, 1)
    body = Body(builder, Builder(), [x], [w], [])
    (carried,), (inner,), _ = body.inputs()
    y = sin(carried * inner) * tanh(carried)
    states = stacked(body.close([y], 30), y.index)
    found = gradients(builder, PUBLIC["reduce_sum"](states), [x, w])
    program = Program(tuple(builder.instructions), tuple(v.index for v in (states, *found)))
    made = check(program, [np.linspace(-1, 1, 4), np.linspace(1, 2, 4)])
    assert in_stretches(made)


@pytest.mark.parametrize("ends", [0, 1, 3])
def test_turns_that_are_left_over_are_loops_of_their_own(ends):
    made = check(walk(37 + 2 * ends, ends=ends), [np.linspace(-1, 1, 256), np.linspace(1, 2, 256)])
    counts = [i.attribute("count") for i in made.instructions if i.op is LOOP]
    assert counts == [12, 1, 1, 12]


@pytest.mark.parametrize("turns", [100, 103])
@pytest.mark.parametrize("step", [1, -1])
def test_sequences_are_not_copied_where_stretches_fit_into_them(turns, step):
    """A loop leaves the first 4 of 100 rows alone: with stretches of 10, 6 turns stay before them."""
    builder = Builder()
    x, rows = builder.input(tensor_type(float64, (8,)), 0), builder.input(tensor_type(float64, (turns, 8)), 1)
    body = Body(builder, Builder(), [x], [], [(rows, 4 if step > 0 else turns - 5, step)])
    (carried,), _, (row,) = body.inputs()
    y = sin(carried + row) * tanh(carried) + sin(carried)
    last = final(body.close([y], turns - 4), y.index)
    (found,) = gradients(builder, PUBLIC["reduce_sum"](last), [x])
    program = simplify(expand(Program(tuple(builder.instructions), (last.index, found.index))))
    made = simplify(check(program, [np.linspace(-1, 1, 8), np.linspace(-1, 1, turns * 8).reshape(turns, 8)]))
    assert in_stretches(made)
    is_cut = any(i.op.name == "slice" for i in made.instructions)
    assert is_cut == (turns == 103)


def test_a_recurrent_net_is_run_in_stretches():
    program = simplify(expand(reroll(recurrent(30))))
    assert in_stretches(rematerialize(program, 0))


def test_more_turns_compile_no_kernel():
    nt.config.set_loop_memory(100_000)
    few, many = plan(walk(300)), plan(walk(900))
    assert any(step.kernel.name == "turns" for step in all_steps(few.steps))
    assert len({frozenset(step.kernel.key for step in all_steps(made.steps)) for made in (few, many)}) == 1
