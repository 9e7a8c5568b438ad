"""Random programs under nested tapes, against the same programs computed with infinitesimals.

A program reads and assigns Variables, branches on values, loops, looks at results in the middle, opens tapes within
tapes, and computes on with the gradients. Most run by the NumPy interpreter instead of compiled kernels, which takes
nothing from the tape layer and lets hundreds of programs be tried; a few run natively.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import numtape as nt
from numtape.backends import reference
from numtape.backends.buffer import ALONE_IN_MAP, Buffer, allocate
from numtape.backends.native import chooser
from numtape.dtypes import TensorType
from numtape.ir.program import Program
from numtape.tape import lower
from tests.tape.jets import NONE, SIN, TANH, Jet, jet

SHAPES = ((), (2,), (2,))
START = (0.7, (0.4, -0.9), (-0.3, 1.1))

# ---- programs ------------------------------------------------------------------------------------------------------


@dataclass
class Compute:
    """A local is the result of an op; operands are "v0", a local's name or a number."""

    to: str
    op: str
    operands: tuple[Any, ...]


@dataclass
class Assign:
    variable: int
    how: str
    operand: Any


@dataclass
class Look:
    local: str


@dataclass
class If:
    local: str
    above: float
    then: list[Any]
    other: list[Any]


@dataclass
class Loop:
    count: int
    body: list[Any]


@dataclass
class Tape:
    """Gradients of a local with respect to a Variable or a watched local, each kept as a local."""

    body: list[Any]
    target: str
    sources: list[str]
    to: list[str]
    watch: str | None
    persistent: bool
    gap: list[Any]
    """What runs after the block, before the gradient."""


LOCALS = ("a", "b", "c", "d")
UNARY, BINARY = ("sin", "tanh", "negative", "sum", "stop"), ("add", "subtract", "multiply")


VARIABLES = ("v0", "v1", "v2")
_local = st.sampled_from(LOCALS)
_tensor = st.sampled_from((*VARIABLES, *VARIABLES, *LOCALS))
_operand = st.one_of(_tensor, st.sampled_from((0.5, -1.25, 2)))


@st.composite
def computations(draw: Any, to: Any = _local, first: Any = _tensor, second: Any = _operand) -> Compute:
    op = draw(st.sampled_from(UNARY + BINARY * 2))
    return Compute(draw(to), op, (draw(first), draw(second)) if op in BINARY else (draw(first),))


@st.composite
def plain(draw: Any, size: int = 3, nested: bool = True) -> list[Any]:
    """A few statements without tapes."""
    assign = st.builds(Assign, st.integers(1, 2), st.sampled_from(("assign", "add", "sub")), _local)
    kinds = [computations(), computations(), assign, st.builds(Look, _local)]
    if nested:
        inner = plain(2, False)
        kinds += [
            st.builds(If, _local, st.sampled_from((-0.5, 0.0, 0.5)), inner, inner),
            st.builds(Loop, st.integers(0, 3), inner),
        ]
    return draw(st.lists(st.one_of(kinds), max_size=size))  # type: ignore[no-any-return]


@st.composite
def tapes(draw: Any, depth: int) -> Tape:
    """A tape whose target comes from its sources, by way of another tape's gradients where there is one."""
    sources = draw(st.lists(st.sampled_from(VARIABLES), min_size=1, max_size=2, unique=True))
    watch = draw(st.none() | _local)
    if watch:
        sources.append(watch)
    x, target, source = draw(_local), draw(_local), st.sampled_from(sources)
    body = [Compute(x, draw(st.sampled_from(BINARY)), (draw(source), draw(_operand))), *draw(plain())]
    middle = x
    if depth > 1:
        inner = draw(tapes(depth - 1))
        body += [inner, *draw(plain(2))]
        middle = draw(st.sampled_from(inner.to))
    body += [Compute(target, draw(st.sampled_from(BINARY)), (middle, draw(st.sampled_from((x, *sources)))))]
    if draw(st.booleans()):
        body.append(draw(computations(st.just(target), st.just(target))))
    body += draw(plain(1))
    return Tape(body, target, sources, [draw(_local) for _ in sources], watch, draw(st.booleans()), draw(plain(2)))


@st.composite
def programs(draw: Any, depth: int = 3, count: int = 3) -> list[Any]:
    program: list[Any] = []
    for _ in range(draw(st.integers(1, count))):
        program += draw(plain())
        program.append(draw(tapes(draw(st.integers(1, depth)))))
    return program + draw(plain())  # type: ignore[no-any-return]


# ---- with infinitesimals -------------------------------------------------------------------------------------------

_tags = itertools.count(1)


class Ideal:
    """Runs a program on jets. A tape's block runs once for each element of a source, which moves it a little."""

    def __init__(self) -> None:
        self.state = [np.array(x) for x in START]
        self.locals: dict[str, Jet] = {name: jet(0.25) for name in LOCALS}
        self.seeds: list[tuple[int, Jet]] = []
        """Of tapes that are recording: a Variable, and what is added to it when it is read."""

    def get(self, x: Any) -> Jet:
        if not isinstance(x, str):
            return jet(float(x))
        if x in self.locals:
            return self.locals[x]
        k = int(x[1])
        found = jet(self.state[k])
        for variable, seed in self.seeds:
            if variable == k:
                found = found + seed
        return found

    def run(self, block: list[Any]) -> None:
        for s in block:
            if isinstance(s, Compute):
                self.locals[s.to] = self.compute(s.op, *map(self.get, s.operands))
            elif isinstance(s, Assign):
                self.assign(s)
            elif isinstance(s, If):
                self.run(s.then if self.get(s.local).value.sum() > s.above else s.other)
            elif isinstance(s, Loop):
                for _ in range(s.count):
                    self.run(s.body)
            elif isinstance(s, Tape):
                self.tape(s)

    def compute(self, op: str, x: Jet, y: Any = None) -> Jet:
        if op == "add":
            return x + y
        if op == "subtract":
            return x - y
        if op == "multiply":
            return x * y
        if op == "sin":
            return x.map(SIN)
        if op == "tanh":
            return x.map(TANH)
        if op == "negative":
            return -x
        return x.total() if op == "sum" else jet(x.value)

    def assign(self, s: Assign) -> None:
        new = np.tanh(self.get(s.operand).value)
        new = np.broadcast_to(new, (2,))
        if s.how == "assign":
            self.state[s.variable] = np.array(new)
        else:
            self.state[s.variable] = self.state[s.variable] + (new if s.how == "add" else -new)

    def tape(self, s: Tape) -> None:
        before = list(self.state), dict(self.locals), list(self.seeds)
        gradients = []
        for source in s.sources:
            self.state, self.locals, self.seeds = list(before[0]), dict(before[1]), list(before[2])
            primal = self.get(source)
            rows = []
            for at in np.ndindex(primal.value.shape):
                self.state, self.locals, self.seeds = list(before[0]), dict(before[1]), list(before[2])
                tag = next(_tags)
                moved = np.zeros(primal.value.shape)
                moved[at] = 1.0
                seed = Jet({NONE: np.zeros_like(moved), frozenset({tag}): moved})
                if source in self.locals:
                    self.locals[source] = self.locals[source] + seed
                    mark = self.locals[source]
                else:
                    self.seeds.append((int(source[1]), seed))
                    mark = None
                self.run(s.body)
                if mark is None:
                    self.seeds.remove(self.seeds[-1])
                target = self.locals[s.target]
                rows.append(target.part(tag).total())
            gradients.append((primal.value.shape, rows))
        # Once more as it is, for what comes after.
        self.state, self.locals, self.seeds = list(before[0]), dict(before[1]), list(before[2])
        self.run(s.body)
        self.run(s.gap)
        for to, (shape, rows) in zip(s.to, gradients, strict=True):
            every = {tags for row in rows for tags in row.parts}
            self.locals[to] = Jet(
                {tags: np.array([row.parts.get(tags, 0.0) for row in rows]).reshape(shape) for tags in every | {NONE}}
            )


# ---- with tapes ----------------------------------------------------------------------------------------------------


class Real:
    """Runs a program with numtape."""

    def __init__(self) -> None:
        self.variables = [nt.Variable(np.array(x, np.float64)) for x in START]
        self.locals: dict[str, nt.Tensor] = {name: nt.constant(np.float64(0.25)) for name in LOCALS}

    def get(self, x: Any) -> Any:
        return x if not isinstance(x, str) else self.locals[x] if x in self.locals else self.variables[int(x[1])]

    def run(self, block: list[Any]) -> None:
        for s in block:
            if isinstance(s, Compute):
                self.locals[s.to] = self.compute(s.op, *map(self.get, s.operands))
            elif isinstance(s, Assign):
                self.assign(s)
            elif isinstance(s, Look):
                self.get(s.local).numpy()
            elif isinstance(s, If):
                self.run(s.then if nt.reduce_sum(self.get(s.local)) > s.above else s.other)
            elif isinstance(s, Loop):
                for _ in range(s.count):
                    self.run(s.body)
            elif isinstance(s, Tape):
                self.tape(s)

    def compute(self, op: str, x: Any, y: Any = None) -> Any:
        if op in BINARY:
            return getattr(nt, op)(x, y)
        return {
            "sin": nt.sin, "tanh": nt.tanh, "negative": nt.negative, "sum": nt.reduce_sum, "stop": nt.stop_gradient,
        }[op](x)  # fmt: skip

    def assign(self, s: Assign) -> None:
        v = self.variables[s.variable]
        new = nt.broadcast_to(nt.tanh(self.get(s.operand)), (2,))
        {"assign": v.assign, "add": v.assign_add, "sub": v.assign_sub}[s.how](new)

    def tape(self, s: Tape) -> None:
        with nt.GradientTape(s.persistent) as t:
            if s.watch:
                watched = self.locals[s.watch]
                t.watch(watched)
            self.run(s.body)
        target = self.locals[s.target]
        sources = [self.variables[int(x[1])] if x[0] == "v" else watched for x in s.sources]
        self.run(s.gap)
        if s.persistent:
            found = [t.gradient(target, source) for source in sources]
        else:
            found = t.gradient(target, sources)
        for to, g, source in zip(s.to, found, sources, strict=True):
            self.locals[to] = nt.zeros_like(source) if g is None else g


def check(program: list[Any]) -> None:
    ideal = Ideal()
    ideal.run(program)
    sizes = [np.abs(x.value).max() for x in ideal.locals.values()] + [np.abs(x).max() for x in ideal.state]
    if max(sizes) > 1e6:
        return  # rounding errors rule there
    real = Real()
    for statement in program:
        note(str(statement))
    real.run(program)
    for name in LOCALS:
        found, right = real.locals[name].numpy(), ideal.locals[name].value
        assert found.shape == right.shape, name
        np.testing.assert_allclose(found, right, rtol=1e-8, atol=1e-9, err_msg=name)
    for variable, right in zip(real.variables, ideal.state, strict=True):
        np.testing.assert_allclose(variable.numpy(), right, rtol=1e-8, atol=1e-9)


# ---- running them --------------------------------------------------------------------------------------------------


class Interpreted:
    """In place of an `Executable`: runs by the NumPy interpreter, and gives every old value's memory to the new one."""

    def __init__(self, program: Program, scalar_types: Sequence[TensorType]) -> None:
        self.program = program
        self.idle: list[Any] = []
        self.taken = {index: output for output, index in reversed(program.donations)}
        self.donated = tuple(self.taken)
        self.choose_donated = chooser(self.donated)
        self.donated_alone = (ALONE_IN_MAP,) * len(self.donated)

    def prepare(self, arrays: Sequence[Buffer], scalars: Sequence[Any]) -> tuple[Any, list[Buffer]]:
        found = [allocate(self.program.type(k)) for k in self.program.outputs]
        for index, output in self.taken.items():
            found[output] = arrays[index]
        binding = Call()
        binding.header_address = (list(arrays), list(scalars), found)
        return binding, found

    def entry(self, call: tuple[list[Buffer], list[Any], list[Buffer]]) -> None:
        arrays, scalars, found = call
        types = [self.program.type(k) for k in self.program.inputs]
        inputs = [b.array.reshape(t.shape).copy() for b, t in zip(arrays, types, strict=False)]
        inputs += [np.array(x, t.dtype.dtype) for x, t in zip(scalars, types[len(arrays) :], strict=True)]
        for buffer, result in zip(found, reference.interpret(self.program, inputs), strict=True):
            buffer.array[:] = result.reshape(-1)

    def __call__(self, arrays: Sequence[Buffer], scalars: Sequence[Any]) -> list[Buffer]:
        binding, found = self.prepare(arrays, scalars)
        self.entry(binding.header_address)
        return found


class Call:
    header_address: Any


def forget() -> None:
    for drop in nt.cache.FORGET:
        drop()


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def compile(self: lower.Lowered) -> Any:
        self.executable = Interpreted(self.program, self.scalar_types)  # type: ignore[assignment]
        return self.executable

    nt.zeros([]).numpy()
    forget()
    monkeypatch.setattr(lower.Lowered, "compile", compile)
    yield
    forget()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(programs())
def test_random_tapes(interpreted: None, program: list[Any]) -> None:
    check(program)


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(programs(2, 1))
def test_random_tapes_natively(program: list[Any]) -> None:
    check(program)
