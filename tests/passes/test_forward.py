"""Tangents of every op against differences and cotangents, and their gradients; tangent instructions as text."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest

import numtape.ops  # noqa: F401  fills the registry
from numtape.backends import reference
from numtape.dtypes import float64
from numtape.ir.op import REGISTRY, Gradient, Kind, Op
from numtape.ir.program import Builder, Program
from numtape.ir.text import read, write
from numtape.ir.verify import verify
from numtape.ops.elementwise import square
from numtape.passes.differentiate import differentiate
from numtape.passes.forward import push_forward
from tests.programs import attributes, check_gradient, connected, gradient_of, operands, program_of, widened

CASES = [(op, k) for op in REGISTRY.values() for k in range(len(op.examples))]


def tangents_of(program: Program) -> tuple[Program, list[int]]:
    """Outputs: the tangents of the program's outputs that have one, given those of its float inputs (appended to the
    inputs); and which outputs these are."""
    builder = Builder(program.instructions)
    moving = [k for k in program.inputs if program.type(k).dtype.is_floating]
    seeds = {k: builder.input(program.type(k), len(program.inputs) + n) for n, k in enumerate(moving)}
    found = {**seeds, **push_forward(builder, [(0, len(program.instructions))], seeds)}
    tangents = {k: t for k, t in found.items() if not isinstance(t, LookupError)}
    assert all(t.type is program.type(k) for k, t in tangents.items())
    kept = [k for k in program.outputs if k in tangents]
    return verify(Program(tuple(builder.instructions), tuple(tangents[k].index for k in kept))), kept


@pytest.mark.parametrize(("op", "example"), CASES, ids=[f"{op.name}-{k}" for op, k in CASES])
def test_tangents_against_differences_and_cotangents(op, example):
    try:
        arrays = operands(op, op.examples[example], float64)
        program = program_of(op, arrays, attributes(op, op.examples[example]))
    except TypeError:
        return  # no example in float64
    program = widened(program)
    arrays = [a.astype(program.type(k).dtype.dtype) for a, k in zip(arrays, program.inputs, strict=True)]
    tangents, kept = tangents_of(program)
    if not kept:
        floats = tuple(k for k in program.outputs if program.type(k).dtype.is_floating)
        if all(i.op.gradient is not Gradient.MISSING for i in program.instructions):
            # The cotangent of `sign` is zero, whatever comes.
            assert op.name == "sign" or not connected(Program(program.instructions, floats))
        return
    program = Program(program.instructions, tuple(kept))
    rng = np.random.default_rng(3)
    moving = [k for k in program.inputs if program.type(k).dtype.is_floating]
    seeds = {k: rng.uniform(-1, 1, program.type(k).shape) for k in moving}
    found = reference.interpret(tangents, [*arrays, *seeds.values()])

    def moved(step):
        shifted = [a + step * seeds[k] if k in seeds else a for k, a in zip(program.inputs, arrays, strict=True)]
        return [np.asarray(y) for y in reference.interpret(program, shifted)]

    h = 1e-5
    for t, a, b, c, d in zip(found, moved(h), moved(-h), moved(2 * h), moved(-2 * h), strict=True):
        np.testing.assert_allclose(t, (8 * (a - b) - (c - d)) / (12 * h), rtol=1e-6, atol=1e-7)

    weights = [rng.uniform(0.5, 1, program.type(k).shape) for k in kept]
    cotangents = reference.interpret(gradient_of(program), [*arrays, *weights])
    forward = sum(np.sum(w * t) for w, t in zip(weights, found, strict=True))
    backward = sum(np.sum(c * seeds[k]) for c, k in zip(cotangents, connected(program), strict=True))
    np.testing.assert_allclose(forward, backward, rtol=1e-9, atol=1e-12)
    check_gradient(tangents, [*arrays, *seeds.values()], order=1)


def forward(text: str, moving: list[int], **options: object) -> tuple[str, dict[int, int | str]]:
    """The instructions that come after those of a program, whose last inputs are the tangents of `moving`."""
    program = read(text)
    builder = Builder(program.instructions)
    start = len(program.inputs)
    seeds = dict(zip(moving, map(builder.value, program.inputs[start - len(moving) :]), strict=True))
    end = len(program.instructions)
    found = push_forward(builder, [(start, end)], seeds, **options)  # type: ignore[arg-type]
    lines = write(Program(tuple(builder.instructions), ())).splitlines()[end:-1]
    return "\n".join(lines), {k: str(t) if isinstance(t, LookupError) else t.index for k, t in found.items()}


def test_each_operand_adds_its_part():
    text, found = forward(
        """
        %0 = input() {index=0} : f32[2,3]
        %1 = input() {index=1} : f32[2,3]
        %2 = input() {index=2} : f32[2,3]
        %3 = input() {index=3} : f32[2,3]
        %4 = multiply(%0, %1) : f32[2,3]
        return %4
        """,
        [0, 1],
    )
    assert text == dedent("""\
        %5 = multiply(%3, %0) : f32[2,3]
        %6 = multiply(%2, %1) : f32[2,3]
        %7 = add(%5, %6) : f32[2,3]""")
    assert found == {4: 7}


def test_a_tangent_is_repeated_with_its_operand():
    text, found = forward(
        """
        %0 = input() {index=0} : f32[2,3]
        %1 = input() {index=1} : f32[3]
        %2 = input() {index=2} : f32[3]
        %3 = multiply(%0, %1) : f32[2,3]
        return %3
        """,
        [1],
    )
    assert text == dedent("""\
        %4 = reshape(%2) {shape=(1, 3)} : f32[1,3]
        %5 = broadcast(%4) {shape=(2, 3)} : f32[2,3]
        %6 = multiply(%5, %0) : f32[2,3]""")
    assert found == {3: 6}


def test_a_matrix_product_takes_its_flags_along():
    text, _ = forward(
        """
        %0 = input() {index=0} : f32[4,2]
        %1 = input() {index=1} : f32[3,4]
        %2 = input() {index=2} : f32[3,4]
        %3 = matmul(%0, %1) {transpose_a=True, transpose_b=True} : f32[2,3]
        return %3
        """,
        [1],
    )
    assert text.splitlines()[-1].startswith("%4 = matmul(%0, %2) {transpose_a=True, transpose_b=True}"), text


def test_what_has_no_tangent():
    text, found = forward(
        """
        %0 = input() {index=0} : f32[3]
        %1 = input() {index=1} : f32[3]
        %2 = input() {index=2} : f32[3]
        %3 = stop_gradient(%0) : f32[3]
        %4 = greater(%0, %1) : b1[3]
        %5 = cast(%0) {dtype=i32} : i32[3]
        %6 = floor(%0) : f32[3]
        %7 = exp(%1) : f32[3]
        %8 = multiply(%3, %7) : f32[3]
        return %8
        """,
        [0],
    )
    assert (text, found) == ("", {})


def test_a_given_tangent_stands_and_other_ranges_are_not_gone_through():
    program = read(
        """
        %0 = input() {index=0} : f32[]
        %1 = input() {index=1} : f32[]
        %2 = exp(%0) : f32[]
        %3 = exp(%0) : f32[]
        %4 = exp(%3) : f32[]
        %5 = add(%2, %4) : f32[]
        return %5
        """
    )
    builder = Builder(program.instructions)
    seed = builder.value(1)
    assert set(push_forward(builder, [(2, 3), (4, 6)], {0: seed})) == {2, 5}
    assert set(push_forward(builder, [(2, 6)], {0: seed, 3: seed})) == {2, 4, 5}


@pytest.fixture
def unruly() -> Op:
    return Op(
        "unruly", Kind.MAP, ("x",), infer=lambda types, _: types[0], reference=lambda x: x, gradient=Gradient.MISSING,
        groups=("T",),
    )  # fmt: skip


def test_a_missing_rule_is_an_error_for_what_descends_from_it(unruly):
    builder = Builder()
    x = builder.input(read("%0 = input() {index=0} : f32[]\nreturn %0").type(0), 0)
    y = builder.emit(unruly, [x])
    z, w = square(y), square(x)
    found = push_forward(builder, [(0, len(builder.instructions))], {x.index: x})
    assert isinstance(found[y.index], LookupError) and isinstance(found[z.index], LookupError)
    assert str(found[z.index]) == "gradient registry has no entry for: unruly"
    assert not isinstance(found[w.index], LookupError)
    assert push_forward(builder, [(0, len(builder.instructions))], {}) == {}


def test_a_rule_whose_cotangent_does_not_come_back_is_an_error(unruly):
    """The rule of the one op is written with another that has none."""
    op = Op(
        "odd", Kind.MAP, ("x",), infer=lambda types, _: types[0], reference=lambda x: x,
        gradient=lambda g: g.builder.emit(unruly, [g]), groups=("T",), rule_needs=("g",),
    )  # fmt: skip
    builder = Builder()
    x = builder.input(read("%0 = input() {index=0} : f32[]\nreturn %0").type(0), 0)
    y = builder.emit(op, [x])
    (found,) = push_forward(builder, [(0, len(builder.instructions))], {x.index: x}).values()
    assert isinstance(found, LookupError) and "unruly" in str(found)
    assert len(builder.instructions) == y.index + 1


TWO = """
    %0 = input() {index=0} : f32[]
    %1 = input() {index=1} : f32[]
    %2 = input() {index=2} : f32[]
    %3 = exp(%1) : f32[]
    return %3
"""


def test_results_computed_out_of_sight():
    error = "no tangent passes through f, which is called with arrays"
    assert forward(TWO, [0], detours={3: ((0,), "f")}) == ("", {3: error})
    assert forward(TWO, [0], detours={3: ((1,), "f")}) == ("", {})


def test_tangents_at_rest():
    text, found = forward(TWO, [0], tangent_of={3: 0})
    assert text == "%4 = constant() {value=0.0, dtype=f32, shape=()} : f32[]" and found == {3: 4}
    assert forward(TWO, [0], tangent_of={3: 1}) == ("", {})


def test_tangents_differentiate_again():
    """The tangent of x³ in direction t is 3x²t; its cotangents are 6xt and 3x²."""
    builder = Builder()
    type = read("%0 = input() {index=0} : f64[]\nreturn %0").type(0)
    x, t = builder.input(type, 0), builder.input(type, 1)
    y = square(x) * x  # type: ignore[operator]
    (tangent,) = [v for k, v in push_forward(builder, [(0, y.index + 1)], {x.index: t}).items() if k == y.index]
    end = len(builder.instructions)
    found = differentiate(
        builder, [tangent.index], [[x.index], [t.index]], [None], [(0, end)], {x.index: 0, t.index: 0}
    )
    program = Program(tuple(builder.instructions), tuple(v.index for v in [tangent, *found] if v is not None))
    np.testing.assert_allclose(reference.interpret(program, [np.array(2.0), np.array(5.0)]), [60, 60, 12])


def test_attributes_and_unused_instructions_stay_out_of_the_builder():
    """Only what the tangent takes is copied: of `divide` by a constant not the divisor's cotangent."""
    text, _ = forward(
        """
        %0 = input() {index=0} : f32[3]
        %1 = input() {index=1} : f32[3]
        %2 = input() {index=2} : f32[3]
        %3 = divide(%0, %1) : f32[3]
        return %3
        """,
        [0],
    )
    assert text == "%4 = divide(%2, %1) : f32[3]"
