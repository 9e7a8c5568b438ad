"""Every op, by its record: against NumPy, its derivatives, its text, and the three ways to run it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import numtape.ops  # noqa: F401  fills the registry
from numtape.dtypes import bool_, float32, float64, int32
from numtape.ir.op import REGISTRY, Gradient, Kind, Op
from numtape.ir.program import Program
from numtape.ir.text import read, write
from numtape.ops.core import dtype_groups
from tests.programs import (
    TOLERANCE,
    WAYS,
    agree,
    attributes,
    check_gradient,
    connected,
    gradient_of,
    operands,
    program_of,
)

CASES = [(op, k) for op in REGISTRY.values() for k in range(len(op.examples))]
WITHOUT_EXAMPLES = {"input", "constant", "loop", "final", "stacked"}
"""Ops whose operands or types come from elsewhere; the tests of programs use them all the time."""

cases = pytest.mark.parametrize(("op", "example"), CASES, ids=[f"{op.name}-{k}" for op, k in CASES])


def dtypes_of(op: Op, k: int) -> list:
    """The element types that the example is tried with."""
    found = []
    for dtype in (float32, float64, int32, bool_):
        try:
            program_of(op, operands(op, op.examples[k], dtype), attributes(op, op.examples[k]))
        except TypeError:
            continue
        found.append(dtype)
    return found


def test_every_op_has_an_example():
    missing = {op.name for op in REGISTRY.values() if not op.examples} - WITHOUT_EXAMPLES
    assert not missing


def test_every_op_is_documented():
    assert not [op.name for op in REGISTRY.values() if not op.doc]


def test_instructions_are_complete():
    for op in REGISTRY.values():
        if op.kind is Kind.COMPOSITE:
            assert op.expand, op.name
        elif op.kind not in (Kind.LOOP, Kind.PART) and op.name != "input":
            assert op.infer and op.reference, op.name


@cases
def test_runs_alike_in_every_way(op, example):
    tried = dtypes_of(op, example)
    assert tried, "the example suits no dtype"
    for dtype in tried:
        arrays = operands(op, op.examples[example], dtype)
        given = attributes(op, op.examples[example])
        program = program_of(op, arrays, given)
        expected = WAYS["reference"](program, arrays)
        for way in ("plain", "native"):
            agree(WAYS[way](program, arrays), expected, f"{op.name} of {dtype}, {way}")
        if op.kind is Kind.COMPOSITE and op.reference:
            named = dict(zip(op.attributes, given, strict=True))
            listed = len(dtype_groups(op, len(arrays))) != len(op.groups)
            split = len(arrays) - len(op.groups) + 1
            with np.errstate(all="ignore"):
                right = op.reference(*([arrays[:split], *arrays[split:]] if listed else arrays), **named)
            agree(expected, right if isinstance(right, list | tuple) else [right], f"{op.name} of {dtype}, NumPy")


SPECIAL = (
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.7, -3.7, 1e-4, -1e-4, 1e-10, -1e-10, 1e-37, -1e-37, 20.0, -20.0,
    90.0, -90.0, 720.0, -720.0, 1e6, -1e6, 2.0**28, 1e12, -1e18, 1e30, -1e30, np.inf, -np.inf, np.nan,
)  # fmt: skip
MAPS = [(op, k) for op, k in CASES if op.kind is Kind.MAP and {*op.groups} == {"T"} and "shape" not in op.attributes]


@pytest.mark.parametrize(("op", "example"), MAPS, ids=[f"{op.name}-{k}" for op, k in MAPS])
def test_special_numbers_give_the_same_on_both_tiers(op, example):
    """Small results count, too: nothing is lost beside 1."""
    for dtype in {float32, float64}.intersection(dtypes_of(op, example)):
        some = SPECIAL if len(op.groups) < 3 else SPECIAL[::3]
        arrays = [*np.array([*itertools.product(some, repeat=len(op.groups))], dtype.dtype).T.copy()]
        program = program_of(op, arrays, attributes(op, op.examples[example]))
        (native,), (reference,) = (WAYS[way](program, arrays) for way in ("native", "reference"))
        if native.dtype.kind == "f":
            tiny = 4 * np.finfo(native.dtype).smallest_subnormal
            np.testing.assert_allclose(native, reference, rtol=TOLERANCE[native.dtype.itemsize], atol=tiny)
        else:
            np.testing.assert_array_equal(native, reference)


@cases
def test_gradient_against_differences(op, example):
    if float64 not in dtypes_of(op, example):
        return
    arrays = operands(op, op.examples[example], float64)
    check_gradient(program_of(op, arrays, attributes(op, op.examples[example])), arrays)


@cases
def test_gradient_runs_alike_in_every_way(op, example):
    for dtype in (float32, float64):
        if dtype not in dtypes_of(op, example):
            continue
        arrays = operands(op, op.examples[example], dtype)
        program = program_of(op, arrays, attributes(op, op.examples[example]))
        floats = tuple(k for k in program.outputs if program.type(k).dtype.is_floating)
        program = Program(program.instructions, floats)
        if not connected(program):
            continue
        rng = np.random.default_rng(5)
        types = [program.type(k) for k in program.outputs]
        seeds = [rng.uniform(0.5, 1, t.shape).astype(t.dtype.dtype) for t in types]
        gradient = gradient_of(program)
        expected = WAYS["reference"](gradient, [*arrays, *seeds])
        for way in ("plain", "native"):
            agree(WAYS[way](gradient, [*arrays, *seeds]), expected, f"gradient of {op.name}, {dtype}, {way}")


@cases
def test_text_reads_back(op, example):
    dtype = dtypes_of(op, example)[0]
    program = program_of(op, operands(op, op.examples[example], dtype), attributes(op, op.examples[example]))
    assert read(write(program)) == program


def test_rules_ask_for_what_there_is():
    for op in REGISTRY.values():
        if not isinstance(op.gradient, Gradient):
            operands = {p.removeprefix("*") for p in op.parameters}
            assert set(op.rule_needs) <= {"g", "out", *operands, *op.attributes}
