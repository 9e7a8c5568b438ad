"""What tests of programs share: operands for an op's examples, three ways to run a program, and derivatives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numtape.backends import native, reference
from numtape.codegen.plain import PLAIN
from numtape.codegen.plan import plan
from numtape.dtypes import BY_CODE, DType, bool_, float32, float64, int64, tensor_type, type_of
from numtape.ir.kernel import ALIGNMENT, Pointer, Scratch
from numtape.ir.op import Example, Gradient, Op
from numtape.ir.program import Builder, Instruction, Program, Value
from numtape.ir.verify import verify
from numtape.ops.core import dtype_groups, freeze
from numtape.passes.differentiate import differentiate
from numtape.passes.layout import root

WAYS: dict[str, Callable[[Program, Sequence[Any]], list[Any]]] = {}
TOLERANCE = {4: 2e-5, 8: 1e-12}


def operands(op: Op, example: Example, dtype: DType, seed: int = 0) -> list[Any]:
    """Random arrays for an example; the operands of integer and bool groups get theirs."""
    rng = np.random.default_rng(seed)
    arrays = []
    for k, (shape, group) in enumerate(zip(example.shapes, dtype_groups(op, len(example.shapes)), strict=True)):
        low, high = example.domains[min(k, len(example.domains) - 1)]
        own = example.dtypes[min(k, len(example.dtypes) - 1)]
        kind = own or {"I": int64, "B": bool_}.get(group, dtype)
        if kind.is_bool:
            arrays.append(rng.random(shape) < 0.5)
        elif kind.is_integer:
            arrays.append(rng.integers(int(low), max(int(high), int(low) + 1), shape).astype(kind.dtype))
        else:
            arrays.append(rng.uniform(low, high, shape).astype(kind.dtype))
    return [np.asarray(a) for a in arrays]


def attributes(op: Op, example: Example) -> tuple[Any, ...]:
    return tuple(freeze(example.attributes[name]) for name in op.attributes)


def call(builder: Builder, op: Op, values: list[Value], given: tuple[Any, ...]) -> list[Value]:
    """The results of an op written into the builder."""
    if op.expand is None:
        return [builder.emit(op, values, given)]
    results = op.expand(values, given)
    return list(results) if isinstance(results, list | tuple) else [results]


def program_of(op: Op, arrays: Sequence[Any], given: tuple[Any, ...]) -> Program:
    """The program of one call."""
    builder = Builder()
    values = [builder.input(type_of(a), k) for k, a in enumerate(arrays)]
    results = call(builder, op, values, given)
    return verify(Program(tuple(builder.instructions), tuple(v.index for v in results)))


def gradient_of(program: Program) -> Program:
    """Outputs: the cotangents of the float inputs that are connected, for the program's float outputs times one more
    input each (appended to the inputs)."""
    builder = Builder(program.instructions)
    index = itertools.count(len(program.inputs))
    seeds = [
        builder.input(program.type(k), next(index)) if program.type(k).dtype.is_floating else None
        for k in program.outputs
    ]
    sources = [[k] for k in program.inputs if program.type(k).dtype.is_floating]
    end = len(program.instructions)
    found = differentiate(builder, program.outputs, sources, seeds, [(0, end)], {k: 0 for [k] in sources})
    for value, [source] in zip(found, sources, strict=True):
        assert value is None or value.type is program.type(source)
    return verify(Program(tuple(builder.instructions), tuple(v.index for v in found if v is not None)))


def connected(program: Program) -> list[int]:
    """The float inputs for which `gradient_of` gives a cotangent; none if an op has no rule."""
    if any(i.op.gradient is Gradient.MISSING for i in program.instructions):
        return []
    builder = Builder(program.instructions)
    sources = [[k] for k in program.inputs if program.type(k).dtype.is_floating]
    end = len(program.instructions)
    found = differentiate(
        builder, program.outputs, sources, [None] * len(program.outputs), [(0, end)], {k: 0 for [k] in sources}
    )
    return [k for value, [k] in zip(found, sources, strict=True) if value is not None]


def widened(program: Program) -> Program:
    """The same program in float64 where it computes in float32, which has too few digits for differences."""

    def wide(x: Any) -> Any:
        return float64 if x is float32 else x

    return Program(
        tuple(
            Instruction(i.op, i.operands, tuple(map(wide, i.attributes)), tensor_type(wide(i.type.dtype), i.type.shape))
            for i in program.instructions
        ),
        program.outputs,
    )


def check_gradient(program: Program, arrays: Sequence[Any], order: int = 2, seed: int = 1) -> None:
    """The derivative in a random direction, by the program's gradient and by central differences, in float64."""
    program = widened(program)
    arrays = [a.astype(program.type(k).dtype.dtype) for a, k in zip(arrays, program.inputs, strict=True)]
    floats = [k for k in program.outputs if program.type(k).dtype.is_floating]
    program = Program(program.instructions, tuple(floats))
    rng = np.random.default_rng(seed)
    sources = connected(program)
    if not sources:
        return
    gradient = gradient_of(program)
    seeds = [rng.uniform(0.5, 1.5, program.type(k).shape) for k in program.outputs]
    direction = {k: rng.uniform(-1, 1, program.type(k).shape) for k in sources}
    inputs = program.inputs

    def moved(step: float) -> float:
        shifted = [a + step * direction[k] if k in direction else a for k, a in zip(inputs, arrays, strict=True)]
        return float(sum((s * y).sum() for s, y in zip(seeds, reference.interpret(program, shifted), strict=True)))

    h = 1e-5
    difference = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
    cotangents = reference.interpret(gradient, [*arrays, *seeds])
    exact = float(sum((g * direction[k]).sum() for g, k in zip(cotangents, sources, strict=True)))
    np.testing.assert_allclose(exact, difference, rtol=1e-6, atol=1e-7)
    if order > 1:
        check_gradient(gradient, [*arrays, *seeds], order - 1, seed + 1)


# ---- three ways to run a program ---------------------------------------------------------------------------------


def run_plain(program: Program, inputs: Sequence[Any]) -> list[Any]:
    """The kernels' sources as plain Python, over flat arrays."""
    made = plan(program)
    program = verify(made.program)
    memory: dict[int, Any] = {}
    for k in program.inputs:
        memory[k] = np.array(inputs[program.instructions[k].attributes[0]], order="C", copy=True).reshape(-1)
    for k, (kind, where) in zip(program.outputs, made.results, strict=True):
        if kind == "donated":
            memory[root(program, k)] = memory[program.inputs[where]]
    names = PLAIN | CONSTRUCTORS | PRODUCTS
    for step in made.steps:
        arguments: list[Any] = []
        for argument, parameter in zip(step.arguments, step.kernel.parameters, strict=True):
            if isinstance(argument, Pointer):
                found = memory.setdefault(argument.value, _garbage(program.type(argument.value)))
                arguments.append(found if parameter == "i64" else found.view(BY_CODE[parameter[:-1]].dtype))
            elif isinstance(argument, Scratch):
                arguments.append(np.full(argument.nbytes, 0xA5, np.uint8).view(BY_CODE[parameter[:-1]].dtype))
            else:
                arguments.append(argument if parameter == "i64" else CONSTRUCTORS[parameter](argument))
        scope = dict(names)
        exec(step.kernel.source, scope)
        with np.errstate(all="ignore"):
            scope["kernel"](*arguments)
    results = []
    for k, (kind, where) in zip(program.outputs, made.results, strict=True):
        at = where if kind == "new" else program.inputs[where]
        results.append(memory[at].view(program.type(k).dtype.dtype).reshape(program.type(k).shape))
    return results


CONSTRUCTORS = {d.code: d.dtype.type for d in BY_CODE.values() if not d.is_bool} | {
    "boolean": np.bool_, "inf": np.inf, "nan": np.nan,
}  # fmt: skip


def _garbage(type: Any) -> Any:
    """Memory that a kernel has to fill."""
    return np.full(max(type.nbytes, ALIGNMENT), 0xA5, np.uint8)[: type.nbytes].view(type.dtype.dtype)


def _product(
    c: Any, start_c: int, a: Any, start_a: int, b: Any, start_b: int, panel: Any, edge: Any,
    rows: int, columns: int, inner: int, transpose_a: int, transpose_b: int,
) -> None:  # fmt: skip
    x = a[start_a : start_a + rows * inner].reshape((inner, rows) if transpose_a else (rows, inner))
    y = b[start_b : start_b + inner * columns].reshape((columns, inner) if transpose_b else (inner, columns))
    product = (x.T if transpose_a else x) @ (y.T if transpose_b else y)
    c[start_c : start_c + rows * columns] = product.reshape(-1)


def _gemm(
    gemm: Any, transpose_a: int, transpose_b: int, rows: int, columns: int, inner: int,
    a: Any, start_a: int, b: Any, start_b: int, c: Any, start_c: int,
) -> None:  # fmt: skip
    _product(c, start_c, a, start_a, b, start_b, None, None, rows, columns, inner, transpose_a, transpose_b)


PRODUCTS = {f"product_{code}": _product for code in ("f32", "f64")} | {
    f"gemm_{code}_{bits}": _gemm for code in ("f32", "f64") for bits in (32, 64)
}

WAYS["reference"] = reference.interpret
WAYS["plain"] = run_plain
WAYS["native"] = native.run


def agree(
    results: Sequence[Any], expected: Sequence[Any], what: str, tolerance: float | None = None, scale: float = 1.0
) -> None:
    """Equal dtypes and shapes, and equal elements up to rounding: that of their dtype if no tolerance is given, of
    numbers as large as `scale`."""
    assert len(results) == len(expected)
    for got, right in zip(results, expected, strict=True):
        right = np.asarray(right)
        assert got.dtype == right.dtype, f"{what}: {got.dtype}, not {right.dtype}"
        assert got.shape == right.shape, f"{what}: {got.shape}, not {right.shape}"
        if got.dtype.kind == "f":
            limit = TOLERANCE[got.dtype.itemsize] if tolerance is None else tolerance
            np.testing.assert_allclose(got, right, rtol=limit, atol=limit * scale, err_msg=what)
        else:
            np.testing.assert_array_equal(got, right, err_msg=what)


