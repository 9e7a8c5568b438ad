"""Loops that were written out, rolled up again: the same numbers, bit for bit, in the interpreter, and natively."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from numtape.backends import native
from numtape.backends.reference import interpret
from numtape.dtypes import float64, tensor_type
from numtape.ir.loop import LOOP
from numtape.ir.op import REGISTRY
from numtape.ir.program import Builder, Program
from numtape.ir.text import read
from numtape.ir.verify import verify
from numtape.ops.movement import reshape_to, slice_of
from numtape.passes.differentiate import differentiate
from numtape.passes.reroll import reroll

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
