"""Functions with looks outside of tapes: native calls from look to look do what plain Python does, or nothing."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numtape as nt
from numtape.backends.native import Executable
from numtape.functions.replay import Replay
from numtape.tape.trace import STATE
from tests.tape.checks import same
from tests.threads import in_threads


@contextmanager
def eagerly(eager: bool) -> Iterator[None]:
    nt.config.run_functions_eagerly(eager)
    try:
        yield
    finally:
        nt.config.run_functions_eagerly(False)


@pytest.fixture
def no_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is recorded at a call."""
    monkeypatch.setattr(Replay, "run", lambda *_: pytest.fail("a call was replayed"))


# ---- trees ---------------------------------------------------------------------------------------------------------

# A statement is (name, which of two Variables, number); a branch is (kind of look, bound, then, else).
STATEMENTS = st.tuples(
    st.sampled_from(
        ["scale", "add", "sub", "assign", "read", "draw", "array", "gradient", "number", "optimizer", "steps", "mix"]
    ),
    st.integers(0, 1), st.sampled_from([-1.5, -0.5, 0.25, 0.75, 1.25]),
)  # fmt: skip
LOOKED_AT = st.sampled_from(["value", "variable", "argument", "array", "early", "float", "draw"])
TREES = st.recursive(
    st.lists(STATEMENTS, max_size=3),
    lambda trees: st.tuples(
        st.lists(STATEMENTS, max_size=3), LOOKED_AT, st.sampled_from([-2.0, -0.6, 0.3, 0.9, 2.5]), trees, trees
    ),
    max_leaves=6,
)


class Program:
    """A random function with state of its own."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self.variables = [nt.Variable([0.5, -0.25], dtype=nt.float64), nt.Variable(1.5, dtype=nt.float64)]
        self.array = np.array([0.3, -0.7])
        self.optimizer = nt.keras.optimizers.Adam(lambda: 0.1 + 0.01 * self.array[0])
        self.optimizer.build(self.variables)
        self.call = nt.function(self.run)

    def run(self, x: Any, y: Any) -> Any:
        early = nt.sin(x) * y
        value, tree = x + early * 0.1, self.tree
        while isinstance(tree, tuple):
            statements, looked, bound, then, other = tree
            for statement in statements:
                value = self.step(value, x, *statement)
            seen: Any = {
                "value": lambda v: v[0], "variable": lambda v: self.variables[1], "argument": lambda v: y,
                "array": lambda v: nt.reduce_sum(x * 0.0 + self.array), "early": lambda v: early[1],
                "float": lambda v: v[1], "draw": lambda v: nt.random.normal([], dtype=nt.float64),
            }[looked](value)  # fmt: skip
            if looked == "float":
                tree = then if round(float(seen)) > bound else other
            else:
                tree = then if seen > bound else other
        for statement in tree:
            value = self.step(value, x, *statement)
        return {"value": value, "early": early, "x": x, "state": self.variables[0]}

    def step(self, value: Any, x: Any, name: str, k: int, number: float) -> Any:
        v = self.variables[k]
        if name == "scale":
            return nt.tanh(value) * number
        if name == "add":
            v.assign_add(nt.reduce_mean(value) * number * nt.ones_like(v))
        elif name == "sub":
            v.assign_sub(v * 0.1 + number)
        elif name == "assign":
            v.assign(nt.reduce_sum(value) * nt.ones_like(v))
        elif name == "read":
            return value + v * number
        elif name == "draw":
            return value + number * nt.random.uniform([2], dtype=nt.float64)
        elif name == "array":
            return value * self.array
        elif name == "number":
            return value * (2.0 if nt.reduce_any(value > number) else 1.0)
        elif name == "steps":
            return value + nt.cast(self.optimizer.iterations, nt.float64) * number
        elif name == "mix":
            return nt.reduce_max(value) - value * x
        else:
            with nt.GradientTape() as tape:
                tape.watch(value)
                loss = nt.reduce_sum(nt.sin(value) * v) * number
            slope = tape.gradient(loss, [value, v])
            if name == "gradient":
                return slope[0]
            self.optimizer.apply_gradients([(slope[1], v)])
        return value

    def state(self) -> list[Any]:
        return [v.numpy() for v in [*self.variables, *self.optimizer.variables]]


@settings(max_examples=20)
@given(TREES, st.integers(0, 1000), st.lists(st.sampled_from(["call", "tape", "hold"]), min_size=4, max_size=9))
def test_random_trees(tree: Any, seed: int, kinds: list[str]) -> None:
    sides = [Program(tree), Program(tree)]
    rng = np.random.default_rng(seed)
    held: list[Any] = []
    for number, kind in enumerate(kinds):
        x, y, change = rng.normal(size=2), rng.normal(), rng.normal(size=2)
        found = []
        for k, side in enumerate(sides):
            side.array[:] = change
            nt.random.set_seed(1000 * seed + number)
            with eagerly(bool(k)):
                a, b = nt.constant(x), nt.constant(y, nt.float64)
                if kind == "tape":
                    with nt.GradientTape() as t:
                        t.watch(a)
                        out = side.call(a, b)
                    gradient = [t.gradient(out["value"], a)]
                else:
                    out, gradient = side.call(a, b), []
            if kind == "hold":  # what somebody holds stays what it is
                held += [(v.value(), v.numpy()) for v in side.variables]
                held += [(t, t.numpy()) for t in out.values() if isinstance(t, nt.Tensor)]
            last = nt.random.normal([1]).numpy()
            leaves = [None if t is None else np.asarray(t) for t in [*out.values(), *gradient]]
            found.append([*leaves, *side.state(), last])
        for mine, right in zip(*found, strict=True):
            assert (mine is None) == (right is None)
            if right is not None:
                np.testing.assert_allclose(mine, right, rtol=1e-8, atol=1e-10)
    for tensor, elements in held:
        np.testing.assert_array_equal(np.asarray(tensor), elements)


# ---- what is seen for the first time ---------------------------------------------------------------------------------


def test_nothing_is_recorded_at_a_call(no_replay: None) -> None:
    v = nt.Variable([1.0, 2.0])

    @nt.function
    def f(x: Any) -> Any:
        y = nt.reduce_sum(x * v)
        if y > 0:
            v.assign_add(x)
            return y
        return y * 2.0 if y < -5 else x

    node = STATE.trace.node
    for number in (1.0, -1.0, 1.0, -3.0, -0.1, 1.0):
        before = np.float32(v.numpy())
        x = nt.constant([number, number])
        y = number * before.sum()
        same(f(x), y if y > 0 else 2 * y if y < -5 else np.float32([number, number]))
        same(v, before + np.float32(number) * (y > 0))
    assert STATE.trace.node is node or not STATE.trace.inputs


@pytest.mark.parametrize("fails", [False, True])
def test_something_new_is_seen_behind_assignments(fails: bool) -> None:
    v, w = nt.Variable(0.0), nt.Variable([1.0, 1.0])
    optimizer = nt.keras.optimizers.SGD(1.0, momentum=0.5)
    optimizer.build([w])
    failing = fails

    @nt.function
    def f(x: Any) -> Any:
        v.assign_add(1.0)
        optimizer.apply_gradients([(w * 0.0 + 1.0, w)])
        noise = nt.random.normal([])
        if x > 0:
            return noise
        v.assign_add(10.0)
        if x < -1 and failing:
            raise ArithmeticError
        return noise * 2.0

    nt.random.set_seed(3)
    right = [nt.random.normal([]).numpy() for _ in range(4)]
    nt.random.set_seed(3)
    same(f(nt.constant(1.0)), right[0])
    held, elements = v.value(), w.numpy()
    if fails:
        for _ in range(2):
            with pytest.raises(ArithmeticError):
                f(nt.constant(-2.0))
            same([v, w], [1.0, elements])
            assert int(optimizer.iterations) == 1
        failing = False
    same([f(nt.constant(-2.0)), v], [2 * right[1], 12.0])
    assert int(optimizer.iterations) == 2
    same([f(nt.constant(-0.5)), v], [2 * right[2], 23.0])
    same([f(nt.constant(2.0)), v, held], [right[3], 24.0, 1.0])


def test_a_failure_on_the_way_leaves_everything() -> None:
    v, array = nt.Variable(0.0), np.ones(2, np.float32)
    rate = 1.0

    def given() -> float:
        if rate < 0:
            raise ArithmeticError
        return rate

    optimizer = nt.keras.optimizers.SGD(given)

    @nt.function
    def f(x: Any) -> Any:
        v.assign_add(1.0)
        noise = nt.random.normal([])
        if x > 0:
            noise = noise + nt.reduce_sum(x * array)
        optimizer.apply_gradients([(x, v)])
        return noise

    nt.random.set_seed(1)
    right = [nt.random.normal([]).numpy() for _ in range(3)]
    nt.random.set_seed(1)
    same([f(nt.constant(1.0)), v], [right[0] + 2, 0.0])
    array.resize(3, refcheck=False)
    with pytest.raises(ValueError, match="an array had shape"):
        f(nt.constant(1.0))
    array.resize(2, refcheck=False)
    rate = -1.0
    with pytest.raises(ArithmeticError):
        f(nt.constant(1.0))
    rate = 3.0
    same(v, 0.0)
    same([f(nt.constant(-1.0)), v], [right[1], 4.0])
    same([f(nt.constant(1.0)), v], [right[2] + 2, 2.0])


@pytest.mark.parametrize("which", [1, 2, 3])
def test_ctrl_c_behind_a_native_call(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    v, w = nt.Variable([0.0, 0.0]), nt.Variable([0.0, 0.0])

    @nt.function
    def f(x: Any) -> Any:
        v.assign_add(x)
        if nt.reduce_sum(v) > -100:
            w.assign_add(v)
        if nt.reduce_sum(w) > -100:
            w.assign_add(x)
        return v + w

    x = nt.constant([1.0, 2.0])
    for _ in range(3):
        f(x)
    before = [v.numpy(), w.numpy()]
    calls = 0
    prepare = Executable.prepare

    def prepared(self: Executable, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        binding, found = prepare(self, *arguments)
        if calls == which:
            entry = self.entry

            def interrupted(address: int) -> None:
                self.entry = entry
                entry(address)
                raise KeyboardInterrupt

            self.entry = interrupted
        return binding, found

    monkeypatch.setattr(Executable, "prepare", prepared)
    with pytest.raises(KeyboardInterrupt):
        f(x)
    monkeypatch.undo()
    if which < 3:
        same([v, w], before)
    else:  # all was done by then
        same(v, before[0] + x.numpy())
        same(w, before[1] + v.numpy() + x.numpy())
    before = [v.numpy(), w.numpy()]
    f(x)
    same(v, before[0] + x.numpy())


# ---- state ---------------------------------------------------------------------------------------------------------


def test_the_last_part_changes_variables_in_place_unless_somebody_holds_them() -> None:
    v = nt.Variable(np.zeros(1000))

    @nt.function
    def f(x: Any) -> Any:
        if nt.reduce_sum(v * x) > 0:
            v.assign_sub(x)
        else:
            v.assign_add(x)
        return x

    x = nt.constant(np.ones(1000))
    for _ in range(4):
        f(x)
    address = v._value._data.address
    f(x)
    assert v._value._data.address == address
    held, elements = v.value(), v.numpy()
    f(x)
    assert v._value._data.address != address
    same(held, elements)


def test_results_that_are_values_of_earlier_parts() -> None:
    v, w = nt.Variable([0.0, 0.0]), nt.Variable([0.0, 0.0])

    @nt.function
    def f(x: Any) -> Any:
        y = x * 2.0
        v.assign(y)
        w.assign(y)
        if nt.reduce_sum(v) > 0:
            v.assign_add(x)
        return x, y, v, w, y if bool(y[0] > 0) else x

    kept = []
    for number in (1.0, -1.0, 2.0, 3.0, -2.0):
        x = np.float32([number, number])
        kept.append((f(nt.constant(x)), [x, 2 * x, 2 * x + x * (number > 0), 2 * x, 2 * x if number > 0 else x]))
        same([v, w], kept[-1][1][2:4])
    for found, right in kept:
        same([*found], right)


def test_rates_that_depend_on_what_the_call_has_assigned() -> None:
    def make() -> Any:
        v = nt.Variable(0.0)
        optimizer = nt.keras.optimizers.SGD(lambda step: float(0.5 ** nt.cast(step, nt.float32)))
        optimizer.build([v])

        @nt.function
        def f(x: Any) -> Any:
            optimizer.apply_gradients([(x, v)])
            if x > 0:
                optimizer.apply_gradients([(x * 2.0, v)])
            return v

        return f

    recorded, plain = make(), make()
    for number in (1.0, -1.0, 2.0, 3.0, -1.0):
        found = recorded(nt.constant(number))
        with eagerly(True):
            right = plain(nt.constant(number))
        np.testing.assert_allclose(found.numpy(), right.numpy(), rtol=1e-6)


def test_packs_that_the_call_has_assigned_before() -> None:
    def make() -> Any:
        v = nt.Variable([0.5, -0.25])
        optimizer = nt.keras.optimizers.Adam(0.1)
        optimizer.build([v])

        @nt.function
        def f(x: Any) -> Any:
            for k in range(3):
                optimizer.apply_gradients([(v * x, v)])
                if x < k and optimizer.iterations % 2 == 0:
                    break
                v.assign_add(nt.cast(optimizer.iterations, nt.float32) * [0.01, 0.02])
            return v, optimizer.iterations

        return f

    recorded, plain = make(), make()
    for number in (1.5, 0.5, -0.5, 1.5, 2.5, -0.5, 0.5, 0.5):
        found = [t.numpy() for t in recorded(nt.constant(number))]
        with eagerly(True):
            right = [t.numpy() for t in plain(nt.constant(number))]
        np.testing.assert_allclose(found[0], right[0], rtol=1e-5)
        assert found[1] == right[1]


def test_an_optimizer_that_gets_more_variables() -> None:
    v, w = nt.Variable(1.0), nt.Variable(1.0)
    optimizer = nt.keras.optimizers.SGD(1.0, momentum=0.5)
    optimizer.build([v])

    @nt.function
    def f(x: Any) -> None:
        if x > 0:
            optimizer.apply_gradients([(x, v)])

    for number in (1.0, -1.0, 1.0):
        f(nt.constant(number))
    same(v, 1.0 - 1.0 - 1.5)
    optimizer.build([v, w])
    f(nt.constant(1.0))
    f(nt.constant(-1.0))
    assert int(optimizer.iterations) == 3


def test_counts_are_those_of_the_calls_that_went_there() -> None:
    @nt.function
    def f(x: Any, y: Any) -> Any:
        if x > 0:
            return y if y > 0 else -y
        return x

    for x, y in ((1, 1), (1, -1), (-1, 1), (1, 1), (1, -1), (1, 1), (-1, 1)):
        f(nt.constant(float(x)), nt.constant(float(y)))
    (signature,) = nt.explain(f).signatures
    lines = [line.strip() for line in signature.ways if "saw" in line]
    assert lines == ["saw True: 5 times", "saw True: 3 times", "saw False: twice", "saw False: twice"]
    assert len(signature.programs) == 5


# ---- threads and memory ----------------------------------------------------------------------------------------------


def test_threads_find_new_ways_and_lose_no_assignment() -> None:
    v, total = nt.Variable(np.zeros(3)), nt.Variable(0.0)

    @nt.function
    def f(x: Any, n: Any) -> Any:
        y = nt.reduce_sum(x * 2.0)
        k = int(n)
        if y > 0:
            v.assign_add(x * k)
        with suppress(ZeroDivisionError):
            total.assign_add(nt.cast(1 // k, nt.float32) * 0.0 + 1.0)
        return y * k

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        for _ in range(60):
            n, sign = int(rng.integers(1, 6)), float(rng.choice([-1.0, 1.0]))
            same(f(nt.constant(np.full(3, sign)), nt.constant(n)), 6 * sign * n)
            if sign > 0:
                sums[number] += n

    sums = [0] * 4
    in_threads(work)
    np.testing.assert_array_equal(v.numpy(), np.full(3, sum(sums)))
    assert float(total) == 240
    assert f.experimental_get_tracing_count() <= 10


def test_memory_goes_with_the_function() -> None:
    gc.disable()
    try:
        f = nt.function(lambda x: x * 2.0 if nt.reduce_sum(x) > 0 else -x)
        for number in (1.0, -1.0, 1.0):
            f(nt.constant([number]))
        direct = next(iter(f._recordings.values()))._direct
        gone = [weakref.ref(step) for step in [direct, *direct.following.values()]]
        del direct, f
        assert [r() for r in gone] == [None] * 3
    finally:
        gc.enable()
