"""Random programs mean the same after each stage, and run alike in every way; so do their gradients.

Numbers are small integers and the arithmetic on them is exact, so that the order of a sum cannot matter and comparisons
of computed values are safe; a few smooth functions follow after them, whose results are compared up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import numtape.ops  # noqa: F401  fills the registry
from numtape.dtypes import DType, Shape, bool_, float32, float64, int8, int32, tensor_type, uint8
from numtape.ir.op import REGISTRY
from numtape.ir.program import Builder, Program, Value
from numtape.ir.text import read, write
from numtape.ir.verify import verify
from numtape.ops.creation import range_
from numtape.passes.expand import expand
from numtape.passes.legalize import legalize
from numtape.passes.simplify import simplify
from tests.programs import TOLERANCE, WAYS, agree, connected, gradient_of

EXACT = {float32: 2.0**22, float64: 2.0**50}
"""Up to here sums and products of integers have no rounding errors."""
LIMITS = {4: EXACT[float32], 8: EXACT[float64]}
FLOATS, INTEGERS = (float32, float64), (int32, int8, uint8)
COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
UNARY = ("negative", "square", "relu", "abs", "sign", "floor", "stop_gradient")
BINARY = ("add", "subtract", "multiply", "maximum", "minimum")
LOGICAL = ("logical_and", "logical_or", "logical_xor")
SMOOTH = ("tanh", "sin", "cos", "atan", "sigmoid")
FOLDS = ("sum", "max", "min", "product")
SHAPES: tuple[Shape, ...] = (
    (3, 4), (2, 3, 4), (5,), (2, 3, 9), (2, 1, 3), (70,), (5, 3), (2, 2, 3, 2), (70, 2), (1, 5), (3, 70), (),
    (2, 2, 2, 8), (1,), (4, 1), (2, 3, 1, 2), (3, 2, 3, 3), (1, 1), (4, 4), (0,), (3, 0), (0, 2, 1),
)  # fmt: skip
MAX_SIZE = 400


class _Writer:
    """Writes a random program, one instruction after another."""

    def __init__(self, draw: Callable) -> None:
        self.draw = draw
        self.builder = Builder()
        self.values: list[Value] = []
        self.bounds: dict[int, float] = {}
        """For each value the greatest magnitude it can have; inf where arithmetic on it rounds."""
        self.inputs: list[Value] = []
        self.new_input(self.pick(float32, float32, float64, int32), self.pick(*SHAPES))

    def pick(self, *choices: object) -> object:
        return self.draw(st.sampled_from(choices))

    def keep(self, value: Value, bound: float) -> Value:
        self.values.append(value)
        self.bounds[value.index] = bound
        return value

    def emit(self, name: str, operands: list[Value], *attributes: object, bound: float = 1.0) -> Value:
        return self.keep(self.builder.emit(REGISTRY[name], operands, attributes), bound)

    def new_input(self, dtype: DType, shape: Shape) -> Value:
        value = self.builder.input(tensor_type(dtype, shape), len(self.inputs))
        self.inputs.append(value)
        return self.keep(value, 3.0)

    def constant(self, dtype: DType, shape: Shape) -> Value:
        number = self.draw(st.integers(0, 3)) if not dtype.is_bool else self.draw(st.booleans())
        return self.keep(self.builder.constant(float(number) if dtype.is_floating else number, dtype, shape), 3.0)

    def part(self, shape: Shape) -> Shape:
        """A shape that broadcasts to this one."""
        lead = self.draw(st.integers(0, len(shape)))
        return tuple(n if self.draw(st.booleans()) else 1 for n in shape[lead:])

    def other(self, dtype: DType, shape: Shape, rounded: bool) -> Value:
        """An operand of this dtype that broadcasts with the shape: one that is there, or a new one."""

        def fits(v: Value) -> bool:
            if v.dtype is not dtype or (not rounded and self.bounds[v.index] == np.inf):
                return False
            try:
                return prod(np.broadcast_shapes(v.shape, shape)) <= MAX_SIZE
            except ValueError:
                return False

        found = [v for v in self.values if fits(v)]
        if found and self.draw(st.integers(0, 3)):
            return self.draw(st.sampled_from(found))
        part = self.part(shape)
        return self.constant(dtype, part) if self.draw(st.integers(0, 3)) == 0 else self.new_input(dtype, part)

    def chosen(self, accepts: Callable[[Value], bool]) -> Value | None:
        """A value that is there, the late ones more often."""
        found = [v for v in self.values if accepts(v)]
        if not found:
            return None
        return found[-1 - min(self.draw(st.integers(0, len(found) - 1)), self.draw(st.integers(0, len(found) - 1)))]

    def is_exact(self, v: Value) -> bool:
        return self.bounds[v.index] < np.inf

    def step(self) -> None:
        kinds = (
            self.binary, self.unary, self.fold, self.comparison, self.select, self.reshape, self.transpose,
            self.broadcast, self.matmul, self.cast, self.logic, self.smooth, self.ramp, self.around, self.around,
            self.fold, self.binary, self.slice, self.embed, self.concat, self.cumsum,
        )  # fmt: skip
        self.draw(st.sampled_from(kinds))()

    def binary(self) -> None:
        x = self.chosen(lambda v: not v.dtype.is_bool)
        if x is None:
            return
        name = self.pick(*[n for n in BINARY if n in REGISTRY])
        y = self.other(x.dtype, x.shape, rounded=name in BINARY[:3])
        if not self.is_exact(x) and name not in BINARY[:3]:
            return
        a, b = self.bounds[x.index], self.bounds[y.index]
        bound = {"multiply": a * b, "add": a + b, "subtract": a + b}.get(name, max(a, b))
        if self.allowed(x.dtype, bound):
            self.emit(name, [x, y] if self.draw(st.booleans()) else [y, x], bound=bound)

    def allowed(self, dtype: DType, bound: float) -> bool:
        return bound == np.inf or not dtype.is_floating or bound < EXACT[dtype]

    def unary(self) -> None:
        x = self.chosen(lambda v: not v.dtype.is_bool)
        if x is None:
            return
        name = self.pick(*[n for n in UNARY if n in REGISTRY and (x.dtype.is_floating or n not in ("sign", "floor"))])
        bound = self.bounds[x.index] ** (2 if name == "square" else 1)
        if self.allowed(x.dtype, bound) and (self.is_exact(x) or name in ("negative", "square")):
            self.emit(name, [x], bound=bound)

    def fold(self, x: Value | None = None) -> Value | None:
        x = x or self.chosen(lambda v: self.is_exact(v))
        if x is None:
            return None
        names = ("any", "all") if x.dtype.is_bool else FOLDS
        names = [n for n in names if n in REGISTRY]
        if not names:
            return None
        name = self.pick(*names)
        axes = tuple(a for a in range(x.rank) if self.draw(st.booleans()))
        count = prod(x.shape[a] for a in axes)
        if name in ("max", "min") and count == 0:
            return None
        bound = self.bounds[x.index]
        if name == "sum":
            bound *= max(count, 1)
        if name == "product":
            bound = bound**count if count < 30 else np.inf
        if bound == np.inf or not self.allowed(x.dtype, bound):
            return None
        folded = self.emit(name, [x], axes, bound=bound)
        if self.draw(st.booleans()):
            shape = tuple(n for a, n in enumerate(folded.shape) if a not in axes)
            self.emit("reshape", [folded], shape, bound=bound)
        return folded

    def around(self) -> None:
        """A fold, and its operand again with the result: as in a softmax."""
        x = self.chosen(lambda v: v.type.size > 1 and self.is_exact(v) and not v.dtype.is_bool)
        folded = self.fold(x) if x is not None else None
        if folded is not None:
            assert x is not None
            bound = self.bounds[x.index] + self.bounds[folded.index]
            if self.allowed(x.dtype, bound):
                self.emit(self.pick("add", "subtract"), [x, folded], bound=bound)

    def comparison(self) -> None:
        x = self.chosen(self.is_exact)
        if x is not None:
            names = COMPARISONS[:2] if x.dtype.is_bool else COMPARISONS
            self.emit(self.pick(*names), [x, self.other(x.dtype, x.shape, rounded=False)])

    def logic(self) -> None:
        names = [n for n in LOGICAL if n in REGISTRY]
        x = self.chosen(lambda v: v.dtype.is_bool)
        if x is not None and names:
            self.emit(self.pick(*names), [x, self.other(bool_, x.shape, rounded=False)])

    def select(self) -> None:
        x = self.chosen(lambda v: True)
        y = self.other(x.dtype, x.shape, rounded=True)
        shape = np.broadcast_shapes(x.shape, y.shape)
        condition = self.other(bool_, shape, rounded=True)
        if prod(np.broadcast_shapes(shape, condition.shape)) <= MAX_SIZE:
            self.emit("where", [condition, x, y], bound=max(self.bounds[x.index], self.bounds[y.index]))

    def reshape(self) -> None:
        x = self.chosen(lambda v: True)
        factors = [n for n in x.shape if n != 1]
        shapes = [(x.type.size,), (1, *x.shape), (*x.shape, 1), tuple(factors), tuple(reversed(x.shape))]
        if len(factors) > 1:
            shapes += [(factors[0] * factors[1], *factors[2:]), (*factors[:-2], factors[-2] * factors[-1])]
        self.emit("reshape", [x], self.pick(*shapes), bound=self.bounds[x.index])

    def transpose(self) -> None:
        x = self.chosen(lambda v: v.rank > 1)
        if x is not None:
            perm = tuple(self.draw(st.permutations(range(x.rank))))
            self.emit("transpose", [x], perm, bound=self.bounds[x.index])

    def broadcast(self) -> None:
        x = self.chosen(lambda v: True)
        shape = tuple(self.pick(2, 3, 0) if n == 1 and self.draw(st.booleans()) else n for n in x.shape)
        if self.draw(st.booleans()):
            shape = (self.pick(1, 2, 3), *shape)
        if prod(shape) <= MAX_SIZE and len(shape) <= 4:
            self.emit(self.pick("broadcast", "broadcast", "expand"), [x], shape, bound=self.bounds[x.index])

    def box(self, shape: Shape) -> tuple[Shape, Shape, Shape]:
        """Begin, size and step of a part of a shape."""
        begins, sizes, steps = [], [], []
        for n in shape:
            begin = self.draw(st.integers(0, min(n, 2)))
            step = self.pick(1, 1, 2)
            begins.append(begin)
            steps.append(step)
            sizes.append(self.draw(st.integers(0, (n - begin + step - 1) // step)))
        return tuple(begins), tuple(sizes), tuple(steps)

    def slice(self) -> None:
        x = self.chosen(lambda v: v.rank > 0)
        if x is not None:
            begin, size, step = self.box(x.shape)
            self.emit("slice", [x], begin, size, step, bound=self.bounds[x.index])

    def embed(self) -> None:
        x = self.chosen(lambda v: v.rank > 0 and v.type.size <= MAX_SIZE // 8)
        if x is not None:
            begin = tuple(self.draw(st.integers(0, 2)) for _ in x.shape)
            step = tuple(self.pick(1, 1, 2) for _ in x.shape)
            ends = [b + max(n - 1, 0) * s + 1 for b, n, s in zip(begin, x.shape, step, strict=True)]
            shape = tuple(n + self.draw(st.integers(0, 1)) for n in ends)
            if prod(shape) <= MAX_SIZE:
                fill = False if x.dtype.is_bool else self.pick(0, 0, 1)
                self.emit("embed", [x], shape, begin, step, fill, bound=max(self.bounds[x.index], 1.0))

    def concat(self) -> None:
        x = self.chosen(lambda v: v.rank > 0)
        if x is not None:
            axis = self.draw(st.integers(0, x.rank - 1))
            fitting = [
                v for v in self.values
                if v.rank == x.rank and v.dtype is x.dtype
                and all(n == m for a, (n, m) in enumerate(zip(v.shape, x.shape, strict=True)) if a != axis)
            ]  # fmt: skip
            parts = [x, *self.draw(st.lists(st.sampled_from(fitting), max_size=2))]
            if sum(v.type.size for v in parts) <= MAX_SIZE:
                self.emit("concat", parts, axis, bound=max(self.bounds[v.index] for v in parts))

    def cumsum(self) -> None:
        x = self.chosen(lambda v: v.rank > 0 and self.is_exact(v) and not v.dtype.is_bool)
        if x is not None:
            axis = self.draw(st.integers(0, x.rank - 1))
            bound = self.bounds[x.index] * max(x.shape[axis], 1)
            if self.allowed(x.dtype, bound):
                self.emit("cumsum", [x], axis, self.draw(st.booleans()), self.draw(st.booleans()), bound=bound)

    def matmul(self) -> None:
        x = self.chosen(lambda v: v.dtype.is_floating and self.is_exact(v) and v.rank in (2, 3))
        if x is None:
            return
        transpose_a, transpose_b = self.draw(st.booleans()), self.draw(st.booleans())
        inner, columns = x.shape[-2 if transpose_a else -1], self.pick(1, 2, 5, 0)
        y = self.new_input(x.dtype, (*x.shape[:-2], *((columns, inner) if transpose_b else (inner, columns))))
        bound = self.bounds[x.index] * self.bounds[y.index] * max(inner, 1)
        if x.type.size * columns <= 5 * MAX_SIZE and self.allowed(x.dtype, bound):
            self.emit("matmul", [x, y], transpose_a, transpose_b, bound=bound)

    def cast(self) -> None:
        x = self.chosen(lambda v: v.dtype.is_bool or v.dtype.is_integer or self.bounds[v.index] < 100)
        if x is None:
            return
        signed = (float32, float64, int32, int8, bool_)
        dtype = self.pick(*signed) if x.dtype.is_floating else self.pick(*signed, uint8)
        bound = 1.0 if x.dtype.is_bool else self.bounds[x.index] if x.dtype.is_floating else 2.0**31
        if self.allowed(dtype, bound):
            self.emit("cast", [x], dtype, bound=bound)

    def smooth(self) -> None:
        x = self.chosen(lambda v: v.dtype.is_floating)
        if x is not None:
            squashed = self.emit("tanh", [x], bound=np.inf)
            self.emit(self.pick(*[n for n in SMOOTH if n in REGISTRY]), [squashed], bound=np.inf)

    def ramp(self) -> None:
        x = self.chosen(lambda v: v.rank > 0 and not v.dtype.is_bool and v.shape[-1] < 100)
        if x is not None:
            self.keep(range_(x, x.shape[-1]), 100.0)


@st.composite
def programs(draw: Callable, most: int = 20) -> str:
    """Text of a program with several outputs, some of them inputs, repeated, or donated an input's memory."""
    writer = _Writer(draw)
    for _ in range(draw(st.integers(most // 4, most))):
        writer.step()
    values = writer.values
    others = st.integers(0, len(values) - 1)
    outputs = [values[-1 - k] for k in (0, draw(others), *draw(st.lists(others, max_size=3)))]
    donations = []
    free = dict(enumerate(v.type for v in writer.inputs))
    for position, value in enumerate(outputs):
        index = next((k for k, t in free.items() if t is value.type), None)
        if index is not None and draw(st.integers(0, 3)):
            del free[index]
            donations.append((position, index))
    return write(Program(tuple(writer.builder.instructions), tuple(v.index for v in outputs), tuple(donations)))


def arrays_for(program: Program, seed: int) -> list[np.ndarray]:
    """Small integers for every input."""
    rng = np.random.default_rng(seed)
    found = []
    for k in program.inputs:
        t = program.type(k)
        low, high = (0, 2) if t.dtype.is_bool else (0, 4) if t.dtype is uint8 else (-3, 4)
        found.append(np.asarray(rng.integers(low, high, t.shape)).astype(t.dtype.dtype))
    return found


Arrays: TypeAlias = list[np.ndarray]


def check(program: Program, arrays: Arrays, ways: tuple[str, ...], values: Arrays | None = None) -> None:
    """Every stage and every way gives what the reference gives: exactly, if all numbers on the way are whole."""
    assert read(write(verify(program))) == program
    floats = [x for x in values or everything(program, arrays) if x.dtype.kind == "f"]
    tolerance = max((TOLERANCE[x.dtype.itemsize] for x in floats if (x != np.floor(x)).any()), default=0.0)
    scale = max((float(np.abs(x).max(initial=1.0)) for x in floats), default=1.0)
    expected = WAYS["reference"](program, arrays)
    stages = {"expanded": expand(program)}
    stages["simplified"] = simplify(stages["expanded"])
    stages["legalized"] = legalize(stages["simplified"])
    stages["simplified again"] = simplify(stages["legalized"])
    for name, stage in stages.items():
        agree(WAYS["reference"](verify(stage), arrays), expected, name, tolerance, scale)
    for way in ways:
        agree(WAYS[way](program, arrays), expected, way, tolerance, scale)


def check_with_gradient(program: Program, ways: tuple[str, ...]) -> None:
    check(program, arrays_for(program, 7), ways)
    program = Program(program.instructions, tuple(k for k in program.outputs if program.type(k).dtype.is_floating))
    if connected(program):
        gradient = gradient_of(program)
        arrays = arrays_for(gradient, 8)
        values = everything(gradient, arrays)
        if all(is_safe(x) for x in values):
            check(gradient, arrays, ways, values)


def everything(program: Program, arrays: Arrays) -> Arrays:
    """The results of all instructions."""
    return WAYS["reference"](Program(program.instructions, tuple(range(len(program.instructions)))), arrays)


def is_safe(x: np.ndarray) -> bool:
    """Whether nothing is so large that it is rounded: a comparison after that could fall either way."""
    return bool(np.isfinite(x).all() and (x.dtype.kind != "f" or (np.abs(x) < LIMITS[x.dtype.itemsize]).all()))


quick = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], max_examples=200)


@quick
@given(programs())
def test_stages_and_plain_kernels_agree(text):
    check_with_gradient(read(text), ("plain",))


@settings(quick, max_examples=20)
@given(programs(most=24))
def test_native_kernels_agree(text):
    check_with_gradient(read(text), ("plain", "native"))


@pytest.mark.parametrize("shape", [(), (0,), (70,), (1, 7), (7, 1), (3, 5), (2, 3, 9), (2, 1, 3, 9), (3, 2, 2, 8)])
def test_every_pattern_of_broadcasting(shape):
    """One operand full, the other with every set of its axes."""
    for mask in range(1 << len(shape)):
        builder = Builder()
        x = builder.input(tensor_type(float32, shape), 0)
        y = builder.input(tensor_type(float32, tuple(n if mask >> a & 1 else 1 for a, n in enumerate(shape))), 1)
        z = x * y + x
        check_with_gradient(Program(tuple(builder.instructions), (z.index,)), ("plain",))


@pytest.mark.parametrize("shape", [(), (0,), (1100,), (3, 600), (200, 3), (2, 0), (2, 3, 9), (2, 140, 9), (2, 2, 3, 9)])
@pytest.mark.parametrize("fold", FOLDS)
def test_folds_over_every_set_of_axes(fold, shape):
    """A fold, and its operand with the result: long enough for sums in blocks."""
    for mask in range(1 << len(shape)):
        axes = tuple(a for a in range(len(shape)) if mask >> a & 1)
        if fold in ("max", "min") and prod(shape[a] for a in axes) == 0:
            continue
        builder = Builder()
        x = builder.input(tensor_type(float64, shape), 0)
        y = builder.emit(REGISTRY[fold], [x], (axes,))
        z = x + y
        program = Program(tuple(builder.instructions), (y.index, z.index))
        x = np.where(np.arange(prod(shape)) % 7, 1.0, -1.0).reshape(shape)
        check(program, [x] if fold == "product" else arrays_for(program, 3), ("plain",))
