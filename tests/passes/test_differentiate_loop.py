"""Gradients of loops against those of the same loops written out: numbers, of first and second order, and None."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numtape.backends import native
from numtape.backends.reference import interpret
from numtape.dtypes import float64, int64, tensor_type
from numtape.ir.loop import FINAL, LOOP, STACKED, Body, final, stacked
from numtape.ir.op import REGISTRY, Gradient, Kind, Op
from numtape.ir.program import Builder, Instruction, Program, Value
from numtape.ir.verify import verify
from numtape.ops.movement import concat_along, reshape_to, slice_of
from numtape.passes.differentiate import Activity, differentiate, pull_back
from numtape.passes.forward import push_forward
from numtape.passes.reroll import reroll
from numtape.passes.vectorize import vectorize
from tests.passes.test_reroll import recordings


def test_what_a_turn_computes_from_the_source_is_not_passed_over():
    builder = Builder()
    x = builder.input(tensor_type(float64, (3,)), 0)
    body = Body(builder, Builder(), [x], [], [])
    ((entering,), _, _) = body.inputs()
    middle = body.inside.emit(REGISTRY["sin"], [entering])
    after = body.inside.emit(REGISTRY["cos"], [middle])
    done = body.close([after], 5)
    source, target = final(done, middle.index), final(done, after.index)
    recorded = [(0, len(builder.instructions))]
    with pytest.raises(LookupError, match="computed in a turn of a loop"):
        differentiate(builder, [target.index], [[source.index]], [None], recorded, {x.index: 0})


def unrolled(program):
    """The same program with every turn of its loops written out."""
    builder = Builder()
    new = {}
    for index, i in enumerate(program.instructions):
        if i.op is LOOP:
            new[index] = turns_of(builder, i, [new[k] for k in i.operands])
        elif i.op is FINAL:
            new[index] = new[i.operands[0]][-1][i.attributes[0]]
        elif i.op is STACKED:
            rows = [turn[i.attributes[0]] for turn in new[i.operands[0]]]
            new[index] = concat_along([reshape_to(x, (1, *x.shape)) for x in rows], 0)
        else:
            operands = tuple(new[k].index for k in i.operands)
            new[index] = builder.append(Instruction(i.op, operands, i.attributes, i.type))
    return Program(tuple(builder.instructions), tuple(new[k].index for k in program.outputs))


def turns_of(builder, loop, operands):
    body, count, windows = loop.attributes
    carried, sequences = len(body.outputs), len(windows)
    state, same = operands[:carried], operands[carried : len(operands) - sequences]
    turns = []
    for turn in range(count):
        rows = []
        for x, (start, step) in zip(operands[len(operands) - sequences :], windows, strict=True):
            at = (start + step * turn, *(0,) * (x.rank - 1))
            rows.append(reshape_to(slice_of(x, at, (1, *x.shape[1:]), (1,) * x.rank), x.shape[1:]))
        given, new = [*state, *same, *rows], {}
        for index, i in enumerate(body.instructions):
            if i.op.name == "input":
                new[index] = given[i.attributes[0]]
            elif i.op is LOOP:
                new[index] = turns_of(builder, i, [new[k] for k in i.operands])
            elif i.op is FINAL:
                new[index] = new[i.operands[0]][-1][i.attributes[0]]
            elif i.op is STACKED:
                parts = [turn[i.attributes[0]] for turn in new[i.operands[0]]]
                new[index] = concat_along([reshape_to(x, (1, *x.shape)) for x in parts], 0)
            else:
                made = tuple(new[k].index for k in i.operands)
                new[index] = builder.append(Instruction(i.op, made, i.attributes, i.type))
        turns.append(new)
        state = [new[k] for k in body.outputs]
    return turns


def gradients(program, order=1, sources=None):
    """The cotangents of the inputs, or of those in `sources`: a program, and which of these have one."""
    builder = Builder(program.instructions)
    inputs = program.inputs if sources is None else [program.inputs[k] for k in sources]
    targets, found = list(program.outputs), []
    for _ in range(order):
        end = len(builder.instructions)
        watched = dict.fromkeys(inputs, 0)
        found = differentiate(builder, targets, [[k] for k in inputs], [None] * len(targets), [(0, end)], watched)
        targets = [x.index for x in found if x is not None]
    made = Program(tuple(builder.instructions), tuple(targets))
    return verify(made), [x is not None for x in found]


def check(rolled, inputs, order=1, sources=None, natively=False):
    """The gradient of a program with loops is that of one without."""
    flat = unrolled(rolled)
    assert not loops(flat)
    ours, have = gradients(rolled, order, sources)
    theirs, should_have = gradients(flat, order, sources)
    assert have == should_have
    expected = interpret(theirs, inputs)
    for x, y in zip(interpret(ours, inputs), expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10, strict=True)
    if natively:
        for x, y in zip(native.run(ours, inputs), expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-9)
    return ours


def loops(program):
    return [i for i in program.instructions if i.op is LOOP]


def emit(name, *operands, attributes=()):
    return operands[0].builder.emit(REGISTRY[name], operands, attributes)


def array(shape, seed=0):
    return np.random.default_rng(seed).uniform(0.2, 1.0, shape)


class Loop:
    """A program in the making that holds a loop: what enters it are the program's inputs."""

    def __init__(self, carried=(), same=(), sequences=(), count=3, dtypes=None):
        self.builder, self.count = Builder(), count
        shapes = [*carried, *same, *(shape for shape, _, _ in sequences)]
        dtypes = dtypes or [float64] * len(shapes)
        pairs = [*zip(shapes, dtypes, strict=True)]
        self.arrays = [
            array(shape, k) if d is float64 else np.full(shape, 2) for k, (shape, d) in enumerate(pairs)
        ]
        given = [self.builder.input(tensor_type(d, s), k) for k, (s, d) in enumerate(pairs)]
        first, last = len(carried), len(carried) + len(same)
        windows = [(x, start, step) for x, (_, start, step) in zip(given[last:], sequences, strict=True)]
        self.body = Body(self.builder, Builder(), given[:first], given[first:last], windows)
        self.carried, self.same, self.rows = self.body.inputs()

    def program(self, following, finals=(), stacks=()):
        turns = self.body.close(following, self.count)
        results = [final(turns, x.index) for x in finals] + [stacked(turns, x.index) for x in stacks]
        return verify(Program(tuple(self.builder.instructions), tuple(x.index for x in results)))


# ---- loops that were found in what Python wrote out ---------------------------------------------------------------


@settings(max_examples=20)
@given(recordings(gradient=False), st.integers(1, 2))
def test_gradients_of_rolled_loops(case, order):
    program, inputs = case
    ours, have = gradients(reroll(program), order)
    theirs, should_have = gradients(program, order)
    found = dict(zip(np.flatnonzero(have), interpret(ours, inputs), strict=True))
    expected = dict(zip(np.flatnonzero(should_have), interpret(theirs, inputs), strict=True))
    assert found.keys() >= expected.keys()
    for k, x in found.items():  # what is joined for a loop has a cotangent as a whole
        np.testing.assert_allclose(x, expected.get(k, np.zeros_like(x)), rtol=1e-8, atol=1e-9, strict=True)


@settings(max_examples=20)
@given(recordings(gradient=False))
def test_gradients_of_rolled_loops_natively(case):
    program, inputs = case
    ours, _ = gradients(reroll(program))
    for x, y in zip(interpret(ours, inputs), native.run(ours, inputs), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-11)


# ---- sequences ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (2,), (0,)])
@pytest.mark.parametrize(
    ("length", "start", "step"),
    [(3, 0, 1), (3, 2, -1), (6, 1, 1), (6, 5, -1), (7, 1, 2), (7, 6, -3), (4, 2, 0), (1, 0, 0)],
)
@pytest.mark.parametrize("order", [1, 2])
def test_sequences(shape, length, start, step, order):
    loop = Loop([shape], [], [((length, *shape), start, step)])
    (x,), _, (row,) = loop.carried, loop.same, loop.rows
    new = emit("sin", emit("multiply", x, row))
    check(loop.program([new], [new], [emit("multiply", row, row)]), loop.arrays, order, natively=True)


def test_two_windows_of_one_sequence():
    builder = Builder()
    x0 = builder.input(tensor_type(float64, ()), 0)
    xs = builder.input(tensor_type(float64, (6,)), 1)
    body = Body(builder, Builder(), [x0], [], [(xs, 0, 1), (xs, 1, 1), (xs, 5, -1)])
    (x,), _, (a, b, c) = body.inputs()
    new = emit("sin", emit("add", x, emit("multiply", emit("multiply", a, b), c)))
    result = final(body.close([new], 5), new.index)
    program = Program(tuple(builder.instructions), (result.index,))
    for order in (1, 2):
        check(program, [array(()), array((6,))], order, natively=True)


# ---- what the parts are --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("order", [1, 2])
def test_parts_of_all_kinds(count, order):
    loop = Loop([(2,), (2,)], [(2,), (2,)], [((count, 2), 0, 1)], count)
    (x, y), (s, t), (row,) = loop.carried, loop.same, loop.rows
    z = emit("multiply", emit("tanh", x), s)
    new = emit("add", emit("sin", z), emit("multiply", y, row))
    aside = emit("exp", emit("multiply", z, row))
    for finals, stacks in (
        ([new], []), ([aside], []), ([x], []), ([s], []), ([row], []), ([], [x]), ([], [s]), ([], [row]),
        ([], [new]), ([aside, z], [aside]), ([new, y, s], [z, y, row]), ([t], [new]), ([new, new], [new, new]),
    ):  # fmt: skip
        program = Loop.program(fresh(loop), [new, x], finals, stacks)
        check(program, loop.arrays, order, natively=count == 5)


def fresh(loop):
    """The same loop, before it is closed."""
    copy = object.__new__(Loop)
    copy.__dict__ |= loop.__dict__
    copy.builder = Builder(loop.builder.instructions[: len(loop.arrays)])
    body = loop.body
    values = [copy.builder.value(x.index) for x in (*body.carried, *body.same)]
    first = len(body.carried)
    sequences = [(copy.builder.value(x.index), start, step) for x, start, step in body.sequences]
    copy.body = Body(copy.builder, body.inside, values[:first], values[first:], sequences)
    return copy


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_path_needs_enough_turns(count):
    """What is handed on from place to place reaches the last only after so many turns."""
    loop = Loop([(), (), (), ()], [], [], count)
    a, b, c, _ = loop.carried
    following = [emit("sin", a), emit("multiply", a, b), emit("add", b, c), emit("tanh", c)]
    program = loop.program(following, [following[3]])
    for sources in ([0], [1], [2], [3], None):
        check(program, loop.arrays, sources=sources)


def test_what_no_source_enters_has_no_cotangent():
    loop = Loop([(2,), (2,)], [(2,)])
    x, y = loop.carried
    new = emit("multiply", x, loop.same[0])
    program = loop.program([new, emit("exp", y)], [new])
    ours = check(program, loop.arrays)
    assert gradients(program)[1] == [True, False, True]
    assert gradients(program, sources=[1])[1] == [False]
    assert len(loops(gradients(program, sources=[1])[0])) == 1
    (back,) = loops(ours)[1:]
    assert not [i for i in back.attributes[0].instructions if i.op.name == "exp"]


def test_integers_are_carried_without_a_cotangent():
    loop = Loop([(), ()], [()], [], 4, [int64, float64, float64])
    n, x = loop.carried
    step = loop.body.inside.constant(1, int64)
    new = emit("multiply", emit("sin", x), emit("cast", n, attributes=(float64,)))
    new = emit("add", new, loop.same[0])
    program = loop.program([emit("add", n, step), new], [new], [n])
    for order in (1, 2):
        check(Program(program.instructions, program.outputs[:1]), loop.arrays, order, natively=True)
    assert gradients(program)[1] == [False, True, True]


def test_stopped_values():
    loop = Loop([(), ()], [])
    x, y = loop.carried
    stopped = emit("stop_gradient", emit("exp", x))
    following = [emit("sin", emit("multiply", x, y)), emit("multiply", y, stopped)]
    check(loop.program(following, following), loop.arrays)


def test_a_derivative_that_is_zero_is_no_missing_path():
    loop = Loop([(), ()], [()])
    x, y = loop.carried
    new = emit("multiply", emit("sign", x), loop.same[0])
    other = emit("sign", emit("add", x, y))
    program = loop.program([new, other], [other], [new])
    check(program, loop.arrays)
    check(Program(program.instructions, program.outputs[:1]), loop.arrays)
    ours, have = gradients(Program(program.instructions, program.outputs[:1]))
    assert all(have)
    assert len(loops(ours)) == 1


def test_a_missing_rule_is_an_error_where_something_is_watched(monkeypatch):
    exp = REGISTRY["exp"]
    op = Op("odd", Kind.MAP, ("x",), (), exp.infer, exp.reference, Gradient.MISSING, "x")
    monkeypatch.setitem(REGISTRY, "odd", op)
    loop = Loop([(), (), ()], [])
    x, y, z = loop.carried
    new = emit("sin", emit("add", x, emit("odd", y)))
    program = loop.program([new, emit("sin", y), emit("odd", z)], [new])
    with pytest.raises(LookupError, match="gradient registry has no entry for: odd"):
        gradients(program)
    with pytest.raises(LookupError, match="gradient registry has no entry for: odd"):
        gradients(program, sources=[1])
    assert gradients(program, sources=[0, 2])[1] == [True, False]


def test_what_is_not_recorded_has_no_path():
    loop = Loop([()], [])
    new = emit("sin", loop.carried[0])
    program = loop.program([new], [new])
    builder = Builder(program.instructions)
    (found,) = differentiate(builder, program.outputs, [[0]], [None], [(2, 3)], {0: 0})
    assert found is None


def test_a_stretch_that_ends_between_a_loop_and_its_parts():
    loop = Loop([()], [()])
    new = emit("multiply", emit("sin", loop.carried[0]), loop.same[0])
    program = loop.program([new], [new], [new])
    builder = Builder([*program.instructions])
    first, rows = map(builder.value, program.outputs)
    target = emit("sum", emit("multiply", rows, first), attributes=((0,),))
    end, token = len(builder.instructions), first.index - 1
    activity = Activity(builder.instructions, {0, 1, first.index}, [(0, end)], {0: 0, 1: 0, first.index: 0})
    whole, _ = pull_back(builder, activity, [target.index], [None])
    later, rest = pull_back(builder, activity, [target.index], [None], token + 1)
    assert rest.keys() == {first.index, rows.index}
    assert not rest.keys() & later.keys()
    earlier, rest = pull_back(builder, activity, [*rest], [*rest.values()])
    assert not rest
    pairs = [(whole[k], earlier[k]) for k in (0, 1, first.index)]
    made = Program(tuple(builder.instructions), tuple(x.index for pair in pairs for x in pair))
    found = interpret(made, loop.arrays)
    np.testing.assert_allclose(found[::2], found[1::2], rtol=1e-12)


# ---- memory --------------------------------------------------------------------------------------------------------


def test_what_is_at_hand_is_not_stacked():
    loop = Loop([(3,)], [(3,), (3,)], [((3, 3), 0, 1)])
    (x,), (s, t), (row,) = loop.carried, loop.same, loop.rows
    factor = emit("multiply", emit("exp", row), s)  # of sequences and what is the same
    always = emit("tanh", t)
    new = emit("multiply", emit("sin", x), emit("multiply", factor, always))
    ours = check(loop.program([new], [new]), loop.arrays)
    forward = next(k for k, i in enumerate(ours.instructions) if i.op is LOOP)
    stacks = {i.attributes[0] for i in ours.instructions if i.op is STACKED and i.operands == (forward,)}
    sine = next(k for k, i in enumerate(loop.body.inside.instructions) if i.op.name == "sin")
    assert stacks == {x.index, sine}


# ---- loops in loops ------------------------------------------------------------------------------------------------


def nested(counts):
    outer, inner_count = counts
    loop = Loop([(2,), (2,)], [(2,)], [((4, inner_count, 2), 3, -1)], outer)
    (x, y), (s,), (rows,) = loop.carried, loop.same, loop.rows
    inner = Body(loop.body.inside, Builder(), [emit("sin", x), y], [emit("multiply", s, y), s], [(rows, 0, 1)])
    (a, b), (c, d), (e,) = inner.inputs()
    new = emit("tanh", emit("add", emit("multiply", a, c), emit("multiply", b, e)))
    turns = inner.close([new, emit("multiply", a, d)], inner_count)
    last, all_turns, entered = final(turns, new.index), stacked(turns, a.index), final(turns, b.index)
    folded = emit("reshape", emit("sum", all_turns, attributes=((0,),)), attributes=((2,),))
    following = [emit("add", last, emit("multiply", folded, s)), emit("cos", entered)]
    program = loop.program(following, following, [all_turns, last, x])
    return program, loop.arrays


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("counts", [(3, 2), (1, 4), (2, 1)])
def test_loops_in_loops(order, counts):
    program, inputs = nested(counts)
    check(program, inputs, order, natively=True)
    check(Program(program.instructions, program.outputs[:1]), inputs, order)


@given(st.integers(1, 4), st.integers(1, 3))
def test_three_loops_in_one_another(count, other):
    loop = Loop([()], [()], [], count)
    (x,), (s,) = loop.carried, loop.same
    middle = Body(loop.body.inside, Builder(), [x], [s], [])
    (a,), (b,), _ = middle.inputs()
    inner = Body(middle.inside, Builder(), [a], [b, a], [])
    (c,), (d, e), _ = inner.inputs()
    new = emit("sin", emit("add", emit("multiply", c, d), e))
    turns = inner.close([new], other)
    found = final(turns, new.index)
    turns = middle.close([found], 2)
    result = final(turns, found.index)
    program = loop.program([result], [result])
    for order in (1, 2):
        check(program, loop.arrays, order)


# ---- forward -------------------------------------------------------------------------------------------------------


def tangents(program):
    """The tangents of the outputs that have one, given those of the float inputs, which follow these."""
    builder = Builder(program.instructions)
    moving = [k for k in program.inputs if program.type(k).dtype.is_floating]
    seeds = {k: builder.input(program.type(k), len(program.inputs) + n) for n, k in enumerate(moving)}
    found = {**seeds, **push_forward(builder, [(0, len(program.instructions))], seeds)}
    made = Program(tuple(builder.instructions), tuple(found[k].index for k in program.outputs if k in found))
    return verify(made), [k in found for k in program.outputs], len(moving)


def check_tangents(rolled, inputs):
    ours, have, count = tangents(rolled)
    theirs, should_have, _ = tangents(unrolled(rolled))
    assert have == should_have
    floats = [x for x in inputs if x.dtype == float]
    given = [*inputs, *(array(x.shape, 50 + k) for k, x in enumerate(floats))]
    assert count == len(floats)
    for x, y in zip(interpret(ours, given), interpret(theirs, given), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10, strict=True)
    return ours, given


@settings(max_examples=20)
@given(recordings(gradient=False))
def test_tangents_of_rolled_loops(case):
    program, inputs = case
    check_tangents(reroll(program), inputs)


def test_tangents_of_loops_in_loops_and_of_gradients():
    program, inputs = nested((3, 2))
    ours, given = check_tangents(program, inputs)
    check(ours, given)
    backward, _ = gradients(program)
    check_tangents(backward, inputs)
    for x, y in zip(interpret(ours, given), native.run(ours, given), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-9)


def test_tangents_beside_integers():
    loop = Loop([(), ()], [()], [((4,), 3, -1)], 4, [int64, float64, float64, float64])
    n, x = loop.carried
    new = emit("add", emit("multiply", emit("sin", x), emit("cast", n, attributes=(float64,))), loop.rows[0])
    check_tangents(loop.program([n, new], [new, n], [new, loop.rows[0], loop.same[0]]), loop.arrays)


def test_a_missing_rule_is_an_error_for_the_tangents_that_need_it(monkeypatch):
    exp = REGISTRY["exp"]
    op = Op("odd", Kind.MAP, ("x",), (), exp.infer, exp.reference, Gradient.MISSING, "x")
    monkeypatch.setitem(REGISTRY, "odd", op)
    loop = Loop([(), (), ()], [])
    x, y, z = loop.carried
    program = loop.program([emit("sin", x), emit("odd", x), emit("add", y, z)], [y, x, z])
    builder = Builder(program.instructions)
    seed = builder.input(program.type(0), 3)
    found = push_forward(builder, [(0, len(program.instructions))], {0: seed})
    kinds = [type(found[k]) for k in program.outputs]
    assert kinds == [LookupError, Value, LookupError]


# ---- batches -------------------------------------------------------------------------------------------------------


def check_batches(program, inputs, chosen, rows=3, natively=False):
    """Row by row, what a program gives where some of its inputs are batches."""
    builder = Builder(program.instructions)
    kinds = [program.type(k) for k in program.inputs]
    batched = {
        program.inputs[k]: builder.input(tensor_type(kinds[k].dtype, (rows, *kinds[k].shape)), len(inputs) + n)
        for n, k in enumerate(chosen)
    }
    found = vectorize(builder, batched, program.outputs)
    made = verify(Program(tuple(builder.instructions), tuple(x.index for x in found)))
    batches = [array((rows, *inputs[k].shape), 70 + k).astype(inputs[k].dtype) for k in chosen]
    ours = interpret(made, [*inputs, *batches])
    for row in range(rows):
        given = list(inputs)
        for k, batch in zip(chosen, batches, strict=True):
            given[k] = batch[row]
        for x, y in zip(ours, interpret(program, given), strict=True):
            np.testing.assert_allclose(x[row], y, rtol=1e-10, atol=1e-12)
    if natively:
        for x, y in zip(ours, native.run(made, [*inputs, *batches]), strict=True):
            np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-12)


@settings(max_examples=20)
@given(recordings(gradient=False), st.integers(0, 99), st.integers(0, 99), st.integers(0, 3))
def test_batches_of_rolled_loops(case, first, second, rows):
    program, inputs = case
    check_batches(reroll(program), inputs, sorted({first % len(inputs), second % len(inputs)}), rows)


@pytest.mark.parametrize("chosen", [[0], [1], [2], [3], [0, 1, 2, 3]])
def test_batches_of_loops_in_loops_and_of_gradients(chosen):
    program, inputs = nested((3, 2))
    check_batches(program, inputs, chosen, natively=chosen == [3])
    check_batches(gradients(program)[0], inputs, chosen)
