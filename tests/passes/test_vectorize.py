"""Vectorizing: every op, and its gradient, for a batch of operands at once, against the reference row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import numtape.ops  # noqa: F401  fills the registry
from numtape.dtypes import float64, tensor_type
from numtape.ir.op import Gradient, Kind, Op
from numtape.ir.program import INPUT, Builder, Instruction, Program
from numtape.ir.verify import verify
from numtape.ops.activation import relu
from numtape.ops.contraction import matmul
from numtape.ops.creation import range_
from numtape.ops.elementwise import square
from numtape.ops.nn import softmax_
from numtape.ops.reduction import sum_
from numtape.ops.scan import cumsum_
from numtape.ops.transcendental import exp
from numtape.passes.vectorize import vectorize
from tests.ops.test_registry import cases, dtypes_of
from tests.programs import WAYS, agree, attributes, gradient_of, operands, program_of

COUNT = 3


def vectorized(program: Program, which: Sequence[int], count: int) -> Program:
    """The program with batches in place of these inputs, given after the others."""
    builder = Builder(program.instructions)
    batched = {}
    for k in program.inputs:
        i = program.instructions[k]
        if i.attributes[0] in which:
            type = tensor_type(i.type.dtype, (count, *i.type.shape))
            batched[k] = builder.append(Instruction(INPUT, (), (len(program.inputs) + i.attributes[0],), type))
    found = vectorize(builder, batched, program.outputs)
    # What was written for one row is left out, and the inputs that it reads are numbered again.
    renamed: dict[int, int] = {}
    left: list[Instruction] = []
    numbers = sorted(i.attributes[0] for k, i in enumerate(builder.instructions) if i.op is INPUT and k not in batched)
    for k, i in enumerate(builder.instructions):
        if k in batched or any(operand not in renamed for operand in i.operands):
            continue
        renamed[k] = len(left)
        given = (numbers.index(i.attributes[0]),) if i.op is INPUT else i.attributes
        left.append(Instruction(i.op, tuple(renamed[operand] for operand in i.operands), given, i.type))
    return verify(Program(tuple(left), tuple(renamed[v.index] for v in found)))


def batches(arrays: Sequence[Any], rows: Sequence[Sequence[Any]], which: Sequence[int]) -> list[Any]:
    """What `vectorized` takes: the common arrays, then the batches."""
    return [*(a for k, a in enumerate(arrays) if k not in which), *(np.stack([r[k] for r in rows]) for k in which)]


def check(program: Program, rows: Sequence[Sequence[Any]], what: str, ways: Sequence[str] = ("reference",)) -> None:
    """Each operand batched alone, and all of them: what the reference gives row by row."""
    arrays = rows[0]
    numbers = range(len(arrays))
    for which in dict.fromkeys([*((k,) for k in numbers), tuple(numbers)]):
        mixed = [[row[k] if k in which else arrays[k] for k in numbers] for row in rows]
        each = [WAYS["reference"](program, row) for row in mixed]
        made = vectorized(program, which, len(rows))
        for way in ways:
            found = WAYS[way](made, batches(arrays, rows, which))
            agree(found, [np.stack(parts) for parts in zip(*each, strict=True)], f"{what}, {which} batched, {way}")


@cases
def test_every_op(op: Op, example: int) -> None:
    if not op.examples[example].shapes:
        return
    tried = dtypes_of(op, example)
    for dtype in {tried[0], tried[-1]}:
        rows = [operands(op, op.examples[example], dtype, seed) for seed in range(COUNT)]
        program = program_of(op, rows[0], attributes(op, op.examples[example]))
        check(program, rows, f"{op.name} of {dtype}")
        nothing = vectorized(program, range(len(rows[0])), 0)
        empty = WAYS["reference"](nothing, [np.zeros((0, *a.shape), a.dtype) for a in rows[0]])
        assert [e.shape for e in empty] == [(0, *program.type(k).shape) for k in program.outputs]


@cases
def test_gradient_of_every_op(op: Op, example: int) -> None:
    """By the cotangent alone, which is what a jacobian needs, and by all at once."""
    if op.gradient is Gradient.MISSING or float64 not in dtypes_of(op, example):
        return
    rows = [operands(op, op.examples[example], float64, seed) for seed in range(COUNT)]
    program = program_of(op, rows[0], attributes(op, op.examples[example]))
    program = Program(program.instructions, tuple(k for k in program.outputs if program.type(k).dtype.is_floating))
    if not program.outputs:
        return
    gradient = gradient_of(program)
    if not gradient.outputs:
        return
    rng = np.random.default_rng(1)
    rows = [[*row, *(rng.uniform(-1, 1, program.type(k).shape) for k in program.outputs)] for row in rows]
    check(gradient, rows, f"gradient of {op.name}")


def lines(program: Program) -> list[str]:
    return [f"{i.op.name}{list(i.type.shape)}" for i in program.instructions if i.op.kind.value not in ("alias", "map")]


def test_one_product_for_all_rows() -> None:
    builder = Builder()
    x, w = builder.input(tensor_type(float64, (4, 3)), 0), builder.input(tensor_type(float64, (3, 2)), 1)
    y = matmul(relu(matmul(x, w)), w, transpose_b=True)
    program = Program(tuple(builder.instructions), (y.index,))
    assert lines(vectorized(program, (0,), 5)) == ["matmul[20, 2]", "matmul[20, 3]"]


def test_an_op_without_a_rule() -> None:
    """Row by row, along whatever else it has."""
    turned = Op(
        "turned", Kind.CALL, ("x", "y"), ("by",), infer=lambda types, attributes: types[0],
        reference=lambda x, y, by: np.roll(x, by) * y.sum(),
    )  # fmt: skip
    builder = Builder()
    x, y = builder.input(tensor_type(float64, (2, 3)), 0), builder.input(tensor_type(float64, (4,)), 1)
    z = builder.emit(turned, [x, y], (2,))
    program = Program(tuple(builder.instructions), (z.index,))
    rows = [[np.arange(6.0).reshape(2, 3) + k, np.arange(4.0) ** k] for k in range(COUNT)]
    check(program, rows, "turned")


def test_what_does_not_depend_is_used_as_it_is() -> None:
    builder = Builder()
    x, y = (builder.input(tensor_type(float64, (3,)), k) for k in range(2))
    squares = square(y)
    unused = exp(x)
    total = x + squares
    batch = builder.input(tensor_type(float64, (2, 3)), 2)
    start = len(builder.instructions)
    found = vectorize(builder, {x.index: batch}, [total.index, squares.index, x.index])
    added = [i.op.name for i in builder.instructions[start:]]
    assert added == ["add", "broadcast"], added
    assert found[2] is batch and unused.shape == (3,)
    assert [v.shape for v in found] == [(2, 3)] * 3


def test_a_batch_of_batches() -> None:
    builder = Builder()
    x, w = builder.input(tensor_type(float64, (2, 3)), 0), builder.input(tensor_type(float64, (3, 4)), 1)
    y = softmax_(matmul(x, w), 1)
    program = Program(tuple(builder.instructions), (y.index,))
    once = vectorized(program, (0,), 5)  # takes w, then the batch of x
    twice = vectorized(once, (0,), 6)  # takes the batch of x, then the batch of w
    rng = np.random.default_rng(0)
    xs, ws = rng.normal(size=(5, 2, 3)), rng.normal(size=(6, 3, 4))
    expected = [[WAYS["reference"](program, [x, w])[0] for x in xs] for w in ws]
    agree(WAYS["reference"](twice, [xs, ws]), [np.array(expected)], "twice")


def test_runs_natively() -> None:
    builder = Builder()
    x, w = builder.input(tensor_type(float64, (2, 4, 3)), 0), builder.input(tensor_type(float64, (2, 3, 2)), 1)
    y = cumsum_(matmul(x, w), 1, False, True)
    total = sum_(y * range_(y, 2), (0, 2))
    program = Program(tuple(builder.instructions), (y.index, total.index))
    rng = np.random.default_rng(0)
    rows = [[rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 3, 2))] for _ in range(COUNT)]
    check(program, rows, "program", ("reference", "plain", "native"))
