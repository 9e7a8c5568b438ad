"""Loops that were written out, rolled up again: the same numbers, bit for bit, in the interpreter, and natively."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numtape.backends import native
from numtape.backends.native import all_steps
from numtape.backends.reference import interpret
from numtape.codegen.plan import optimize, plan
from numtape.dtypes import float64, tensor_type
from numtape.ir.loop import LOOP
from numtape.ir.op import REGISTRY
from numtape.ir.program import INPUT, Builder, Program
from numtape.ir.text import read
from numtape.ir.verify import verify
from numtape.ops.core import PUBLIC
from numtape.ops.movement import concat_along, reshape_to, slice_of
from numtape.passes.differentiate import differentiate
from numtape.passes.layout import root
from numtape.passes.reroll import MIN_GAIN, Rolling, reroll
from numtape.passes.unrolled import why_not_rolled
from tests.models import Inputs, gradients, matmul, pendulum, recurrent, training_step

sin, tanh = PUBLIC["sin"], PUBLIC["tanh"]

BINARY = ("add", "subtract", "multiply", "maximum")
UNARY = ("sin", "tanh", "negative", "exp")


class Recording:
    """A loop as Python writes it out, and its gradient, if there is one to take."""

    def __init__(self, draw, shape, turns):
        self.draw, self.builder, self.turns = draw, Builder(), turns
        self.shape = shape
        self.inputs = []
        self.kind = tensor_type(float64, shape)

    def input(self, shape):
        value = self.builder.input(tensor_type(float64, shape), len(self.inputs))
        self.inputs.append(np.random.default_rng(len(self.inputs)).uniform(-1, 1, shape))
        return value

    def emit(self, name, *operands):
        return self.builder.emit(REGISTRY[name], operands)

    def bounded(self, x):
        return self.emit("tanh", x)


@st.composite
def recordings(draw, gradient=True):
    shape = draw(st.sampled_from([(), (3,), (2, 3)]))
    turns = draw(st.integers(8, 14))
    made = Recording(draw, shape, turns)
    carried = [made.input(shape) for _ in range(draw(st.integers(1, 3)))]
    same = [made.input(shape) for _ in range(draw(st.integers(0, 2)))]
    axis = draw(st.integers(0, len(shape)))
    rows = made.input((*shape[:axis], 2 * turns + 1, *shape[axis:]))
    moves = draw(st.sampled_from([None, (0, 1), (turns, -1), (1, 2), (2 * turns, -2)]))
    several = [made.input(shape) for _ in range(turns)] if draw(st.booleans()) else None
    depth = draw(st.integers(1, 3))
    step = st.tuples(st.sampled_from(BINARY + UNARY), st.integers(0, 99), st.integers(0, 99))
    steps = draw(st.lists(step, min_size=5, max_size=9))
    odd = draw(st.sampled_from([None, 0, turns - 1, turns // 2]))
    history = [list(carried)] * depth
    collected = []
    for turn in range(turns):
        pool = [*history[-1], *history[-depth], *same]
        if moves:
            begin = moves[0] + moves[1] * turn
            at = tuple(begin if a == axis else 0 for a in range(len(shape) + 1))
            box = slice_of(rows, at, (*shape[:axis], 1, *shape[axis:]), (1,) * (len(shape) + 1))
            pool.append(reshape_to(box, shape))
        if several:
            pool.append(several[turn])
        for name, a, b in steps:
            x, y = pool[a % len(pool)], pool[b % len(pool)]
            pool.append(made.emit(name, x, y) if name in BINARY else made.emit(name, x))
        if turn == odd:
            pool.append(made.emit("abs", pool[-1]))
        new = [made.bounded(pool[-1 - k]) for k in range(len(carried))]
        if len(new) > 1 and steps[0][1] % 2:
            new[0] = history[-1][1]  # changes places
        history = [*history, new]
        collected.append(new[0])
    results = [*history[-1]]
    if draw(st.booleans()):
        total = collected[0]
        for value in collected[1:]:
            total = made.emit("add", total, value)
        results.append(total)
    results += [collected[k] for k in draw(st.lists(st.integers(0, turns - 1), max_size=2))]
    if gradient:
        targets = [x.index for x in results]
        sources = [*carried, *same, rows]
        found = differentiate(
            made.builder, targets, [[x.index] for x in sources], [None] * len(targets),
            [(0, len(made.builder.instructions))], {x.index: 0 for x in sources},
        )  # fmt: skip
        results += [x for x in found if x is not None]
    program = Program(tuple(made.builder.instructions), tuple(x.index for x in results))
    return program, made.inputs


def loops(program):
    return [i for i in program.instructions if i.op is LOOP]


@given(recordings())
def test_rolled_loops_mean_the_same(case):
    program, inputs = case
    rolled = verify(reroll(program))
    for x, y in zip(interpret(program, inputs), interpret(rolled, inputs), strict=True):
        np.testing.assert_array_equal(x, y, strict=True)


@given(recordings())
def test_rolled_loops_read_back_from_text(case):
    rolled = reroll(case[0])
    assert read(str(rolled)) == rolled


@given(recordings())
def test_rolled_loops_run_natively(case):
    program, inputs = case
    for x, y in zip(interpret(program, inputs), native.run(program, inputs), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-11)


# ---- what becomes a loop -----------------------------------------------------------------------------------------


def written(make):
    """A program that a function of inputs writes, whose inputs it draws."""
    new = Inputs()
    outputs = make(new)
    return verify(Program(tuple(new.builder.instructions), tuple(x.index for x in outputs)))


def check(program, tolerance=1e-5):
    """The rolled program, which has to mean the same, in the interpreter and natively."""
    draw = np.random.default_rng(0)
    inputs = [draw.uniform(-1, 1, program.type(k).shape).astype(program.type(k).dtype.dtype) for k in program.inputs]
    rolled = verify(reroll(program))
    wanted = interpret(program, inputs)
    for x, y, z in zip(wanted, interpret(rolled, inputs), native.run(program, inputs), strict=True):
        np.testing.assert_array_equal(x, y, strict=True)
        np.testing.assert_allclose(z, x, rtol=tolerance, atol=tolerance)
    return rolled


def keys(program):
    """The kernels of a program, those within loops, too."""
    return {step.kernel.key for step in all_steps(plan(program).steps)}


def windows(program):
    return [i.attribute("windows") for i in loops(program)]


def row(x, k, axis=0):
    begin = tuple(k * (a == axis) for a in range(x.rank))
    size = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
    rest = tuple(n for a, n in enumerate(x.shape) if a != axis)
    return reshape_to(slice_of(x, begin, size, (1,) * x.rank), rest)


def test_loops_in_loops_become_loops_in_loops():
    def nested(new):
        x, step = new(), new()
        for _ in range(12):
            y = sin(x)
            for _ in range(10):
                y = y + step * tanh(y * x) - sin(y)
                y = y * step
            x = tanh(x + y) * step + sin(y)
        return [x]

    rolled = check(written(nested))
    (outer,) = loops(rolled)
    (inner,) = loops(outer.attribute("body"))
    assert (outer.attribute("count"), inner.attribute("count")) == (12, 10)
    assert len(rolled.instructions) < 10


def test_a_recurrent_net_is_one_loop_forward_and_one_backward():
    final = optimize(recurrent(64))
    assert len(loops(final)) == 2
    assert len(final.instructions) < 80
    assert all(i.attribute("count") >= 62 for i in loops(final))
    check(recurrent(64, 2, 3))


@pytest.mark.parametrize("make", [pendulum, lambda steps: pendulum(steps, 30), recurrent])
def test_more_turns_compile_no_kernel(make):
    assert keys(make(50)) == keys(make(500))


def test_numbers_and_inputs_of_each_turn_are_a_sequence():
    def run(new):
        x = new(3)
        for _ in range(20):
            x = tanh(x * new() + new(3)) - sin(x)
        return [x]

    rolled = check(written(run))
    (loop,) = loops(rolled)
    assert loop.attribute("count") == 20
    assert loop.attribute("windows") == ((0, 1), (0, 1))
    assert sum(i.op.name == "concat" for i in rolled.instructions) == 2


@pytest.mark.parametrize("depth", [2, 3])
def test_what_is_from_turns_further_back_is_handed_on(depth):
    def run(new):
        history = [new(3) for _ in range(depth)]
        for _ in range(30):
            history.append(tanh(history[-1] * history[-depth] + 0.5) - sin(history[-depth]))
        return history[-depth:]

    (loop,) = loops(check(written(run)))
    assert loop.attribute("count") == 30 - depth
    assert len(loop.attribute("body").outputs) == depth


@pytest.mark.parametrize("odd", [0, 29])
def test_a_first_or_last_turn_that_differs_stays_as_it_is(odd):
    def run(new):
        x, step = new(3), new()
        for k in range(30):
            x = tanh(x * step + 0.5) - sin(x)
            if k == odd:
                x = x * x
        return [x]

    (loop,) = loops(check(written(run)))
    assert 28 <= loop.attribute("count") <= 30


def test_batches_of_one_array_are_seen_in_place():
    def run(new):
        data, w = new(640, 4), new(4, 1)
        for k in range(20):
            x = slice_of(data, (32 * k, 0), (32, 4), (1, 1))
            w = w - 0.01 * matmul(x, tanh(matmul(x, w)), transpose_a=True)
        return [w]

    program = written(run)
    (loop,) = loops(check(program))
    assert loop.attribute("windows") == ((0, 1),)
    made = plan(program)
    assert not [step.kernel.name for step in made.steps if step.kernel.name.startswith(("copy", "transpose"))]
    (loop,) = loops(made.program)
    assert made.program.instructions[root(made.program, loop.operands[-1])].op is INPUT


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_sequences_along_any_axis(axis, backwards):
    def run(new):
        x = new(*[(25, 4, 3), (4, 25, 3)][axis])
        h = new(4, 3)
        for k in reversed(range(25)) if backwards else range(25):
            h = tanh(h * 0.5 + row(x, k, axis)) - sin(h)
        return [h]

    rolled = check(written(run))
    assert windows(rolled) == [((24, -1) if backwards else (0, 1),)]
    assert sum(i.op.name == "transpose" for i in rolled.instructions) == axis
    assert not any(i.op.name == "concat" for i in rolled.instructions)


def test_programs_without_loops_are_left_alone(monkeypatch):
    program = training_step(32, (64, 32, 16, 10))
    assert reroll(program) is program
    assert len(pendulum(6).instructions) > MIN_GAIN
    short = pendulum(6)
    assert reroll(short) is short
    monkeypatch.setattr(Rolling, "__init__", None)
    few = pendulum(2)
    assert reroll(few) is few, "programs of few instructions are not even looked at"


# ---- what does not -----------------------------------------------------------------------------------------------


def reasons(make, **more):
    """Why what a function writes is no loop, and the ops that stand in the way."""
    program = written(make)
    found = why_not_rolled(program)
    return [(x.count, x.period, program.instructions[x.origin].op.name, x.reason) for x in found]


def test_turns_whose_shapes_change_say_so():
    def run(new):
        x = new(1, 3)
        for _ in range(12):
            x = concat_along([tanh(sin(x)), sin(x) * x], 0)
        return [x]

    ((count, period, op, reason),) = reasons(run)
    assert (count, period) == (12, 5)
    assert op == reason.split()[0]
    assert "gives f32[1,3] in one turn and f32[2,3] in the next" in reason


def test_turns_whose_attributes_change_say_so():
    def run(new):
        x = new(12, 3)
        for k in range(12):
            x = PUBLIC["roll"](tanh(x) * x, k + 1, 0) + sin(x)
        return [x]

    assert any("in one turn" in reason for *_, reason in reasons(run))


def test_short_loops_say_so():
    def run(new):
        x, step = new(3), new()
        for _ in range(9):
            x = tanh(x * step) - sin(x)
        return [x]

    ((count, period, _, reason),) = reasons(run)
    assert (count, period) == (9, 4)
    assert reason == "it is short: 9 turns alike of 4 instructions, and a loop has to save 40"


def test_operands_that_move_unevenly_say_so():
    def run(new):
        history = [new(3), new(3)]
        for k in range(24):
            history.append(tanh(history[k // 2 + 1] * history[-1]) - sin(history[-1]))
        return [history[-1]]

    ((count, period, op, reason),) = reasons(run)
    assert (count, period) == (24, 4)
    assert op == "multiply"
    assert reason.startswith("what multiply reads, subtract of f32[3], does not move evenly from turn to turn")


def layers(shape, assigned=False):
    """A stretch of 16 turns, each with an input of its own of this shape; a training step changes them."""
    builder = Builder()
    x, *own = (builder.input(tensor_type(float64, shape), k) for k in range(17))
    for w in own:
        x = tanh(sin(x * w) + w * 0.5)
    outputs, donations = [x.index], []
    if assigned:
        outputs += [(w * 0.5).index for w in own]
        donations = [(k, k) for k in range(1, 17)]
    return Program(tuple(builder.instructions), tuple(outputs), tuple(donations))


def test_large_inputs_of_each_turn_are_not_copied_together():
    assert any(i.op is LOOP for i in reroll(layers((16,))).instructions)
    program = layers((600,))
    assert reroll(program) == program
    [found] = why_not_rolled(program)
    assert found.reason == (
        "what multiply reads, input of f64[600], is another one in each turn, and too large to be gathered"
    )


def test_inputs_that_are_changed_in_place_stay_there():
    program = layers((), assigned=True)
    assert reroll(program) == program
    assert {kind for kind, _ in plan(program).results[1:]} == {"donated"}
    assert "is changed in place" in why_not_rolled(program)[0].reason


def test_what_is_rolled_or_does_not_repeat_has_no_reason():
    assert why_not_rolled(pendulum(100)) == []
    assert why_not_rolled(recurrent(64)) == []
    assert why_not_rolled(training_step(32, (64, 32, 10))) == []


@pytest.mark.parametrize("odd", [0, 1, 15, 28, 29])
def test_a_backward_loop_reads_from_a_forward_loop_and_turns_beside_it(odd):
    new = Inputs()
    h, w, c = new(3), new(3), new(3)
    start = h
    for k in range(30):
        inner = tanh(h * w) * sin(h)
        h = inner - c if k == odd else inner + c  # the gradients by inner are alike
    found = gradients(new.builder, PUBLIC["reduce_sum"](h), [start, w])
    check(Program(tuple(new.builder.instructions), tuple(x.index for x in (h, *found))))
