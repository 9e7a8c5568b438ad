"""Functions and recording: rows F of the semantics."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import Any

import numpy as np
import pytest

import numtape as nt
from tests.tape.checks import same


@pytest.fixture
def count() -> list[Any]:
    """What a function appends to while it is recorded."""
    return []


def test_F01_one_recording_for_a_signature(count: list[Any]) -> None:
    @nt.function
    def f(x: Any) -> Any:
        count.append(x.shape)
        return x * x

    for value in (2.0, 5.0, -3.0):
        same(f(nt.constant(value)), np.float32(value * value))
    assert len(count) == f.experimental_get_tracing_count() == 1


def test_F02_python_values_are_keyed_by_value(count: list[Any]) -> None:
    @nt.function
    def f(x: Any, k: Any) -> Any:
        count.append(k)
        return x * k if not isinstance(k, str) else x

    x = nt.constant(2.0)
    for k in (3, 4, 3, "a", "b", "a", 4):
        same(f(x, k), np.float32(2.0 if isinstance(k, str) else 2.0 * k))
    assert count == [3, 4, "a", "b"]


def test_F02_values_that_are_equal_but_not_the_same(count: list[Any]) -> None:
    @nt.function
    def f(k: Any) -> Any:
        count.append(k)
        return nt.constant(1.0) / k if isinstance(k, float) else nt.constant(k)

    for _ in range(2):
        assert f(0.0).numpy() == np.inf
        assert f(-0.0).numpy() == -np.inf
    for k, dtype in ((1, nt.int32), (True, nt.bool), (1.0, nt.float32)):
        assert f(k).dtype == dtype
        assert f(k).dtype == dtype
    assert np.isnan(f(float("nan")).numpy())
    assert np.isnan(f(float("nan")).numpy())
    assert len(count) == 6


def test_F02_another_number_compiles_nothing() -> None:
    f = nt.function(lambda x, k: nt.sin(x) * k + k)
    x = nt.constant([1.0, 2.0])
    f(x, 0.5).numpy()
    before = nt.cache.stats().compilations
    for k in (0.25, 3.5, -2.5):
        same(f(x, k), np.sin([1.0, 2.0]) * k + k, 1e-5)
    assert nt.cache.stats().compilations == before


def test_F03_dtype_and_shape(count: list[Any]) -> None:
    @nt.function
    def f(x: Any) -> Any:
        count.append(x.dtype)
        return x + x

    for x in (1.0, [1.0, 2.0], 3.0, [1.0, 2.0, 3.0], [4.0, 5.0], 1.0):
        same(f(nt.constant(x)), np.float32(x) * 2)
    assert len(count) == 3
    f(nt.constant(1.0, nt.float64))
    assert count[-1] == nt.float64


KNOB = 1.0


def test_F04_globals_closures_and_attributes_are_read_while_recording() -> None:
    global KNOB

    class Thing:
        bias = 1.0

    thing, inner = Thing(), 1.0
    f = nt.function(lambda x: x * KNOB + thing.bias + inner)
    same(f(nt.constant(2.0)), np.float32(4.0))
    KNOB, thing.bias, inner = 5.0, 5.0, 5.0
    same(f(nt.constant(2.0)), np.float32(4.0))
    KNOB = 1.0


def test_F05_several_live_calls() -> None:
    f = nt.function(lambda x: x * x)
    xs = [nt.constant(float(k)) for k in (1, 2, 3)]
    with nt.GradientTape(persistent=True) as t:
        t.watch(xs)
        ys = [f(x) for x in xs]
        y = nt.add_n(ys)
    same([t.gradient(y, x) for x, y in zip(xs, ys, strict=True)], [2.0, 4.0, 6.0])
    same(t.gradient(y, xs), [2.0, 4.0, 6.0])
    assert t.gradient(ys[0], xs[1]) is None


def test_F06_captured_variables() -> None:
    v = nt.Variable(2.0)
    f = nt.function(lambda x: x * v)
    for value in (2.0, 5.0):
        v.assign(value)
        with nt.GradientTape() as t:
            y = f(nt.constant(3.0))
        same([y, t.gradient(y, v)], [np.float32(3 * value), 3.0])
        assert t.watched_variables() == (v,)
    with nt.GradientTape(watch_accessed_variables=False) as t:
        y = f(nt.constant(3.0))
    assert t.gradient(y, v) is None


def test_F07_reads_and_assignments_in_order() -> None:
    v = nt.Variable(1.0)

    @nt.function
    def f(x: Any) -> Any:
        a = v * 10.0
        v.assign_add(x)
        b = v * 10.0
        v.assign(v * 2.0)
        return a, b, v

    same(f(nt.constant(1.0)), [10.0, 20.0, 4.0])
    first = f(nt.constant(2.0))
    second = f(nt.constant(0.0))
    same([*first, *second, v], [40.0, 60.0, 12.0, 120.0, 120.0, 24.0, 24.0])


def test_F07_what_is_read_behind_an_assignment_belongs_to_the_variable() -> None:
    v = nt.Variable(1.0)

    def f(x: Any) -> Any:
        v.assign_add(x)
        return v * v

    for call in (f, nt.function(f)) * 2:
        v.assign(1.0)
        with nt.GradientTape() as t:
            y = call(nt.constant(2.0))
        same(t.gradient(y, v), 6.0)
    silent = nt.function(lambda x: v.assign_add(x) and None)
    with nt.GradientTape() as t:
        silent(1.0)
    assert t.watched_variables() in ((), (v,))


def test_F08_tapes_within() -> None:
    @nt.function
    def f(x: Any) -> Any:
        with nt.GradientTape(persistent=True) as t:
            t.watch(x)
            y = x**3
        return t.gradient(y, x), t.jacobian(y, x)

    same(f(nt.constant(2.0)), [12.0, 12.0])
    same(f(nt.constant(3.0)), [27.0, 27.0])


def test_F09_functions_nest_and_tapes_see_through() -> None:
    inner = nt.function(lambda x: x * x)
    f = nt.function(lambda x: inner(x) * x)
    for value in (2.0, 3.0):
        x = nt.constant(value)
        with nt.GradientTape() as third:
            third.watch(x)
            with nt.GradientTape() as second:
                second.watch(x)
                with nt.GradientTape() as first:
                    first.watch(x)
                    y = f(x)
                d = first.gradient(y, x)
            e = second.gradient(d, x)
        same([d, e, third.gradient(e, x)], [np.float32(3 * value**2), np.float32(6 * value), 6.0])


def test_F10_variables_made_at_the_first_call() -> None:
    kept: list[nt.Variable] = []

    @nt.function
    def f(x: Any) -> Any:
        if not kept:
            kept.append(nt.Variable(3.0))
        return x * kept[0]

    same([f(nt.constant(2.0)), f(nt.constant(4.0)), f(nt.constant([1.0]))], [6.0, 12.0, [3.0]])
    kept.clear()
    with pytest.raises(ValueError, match="Variable is created"):
        f(nt.constant(1))
    kept.append(nt.Variable(2))
    same(f(nt.constant(3)), 6)


def test_F10_a_variable_at_each_call() -> None:
    f = nt.function(lambda x: x * nt.Variable(2.0))
    with pytest.raises(ValueError, match="Variable is created"):
        f(nt.constant(1.0))


def test_F11_branches_go_by_the_values_of_the_call(count: list[Any]) -> None:
    @nt.function
    def f(x: Any) -> Any:
        count.append("recorded")
        if x > 0:
            return x * x
        return -3.0 * x

    for _ in range(3):
        for value, right, slope in ((2.0, 4.0, 4.0), (-2.0, 6.0, -3.0), (3.0, 9.0, 6.0), (0.0, 0.0, -3.0)):
            x = nt.constant(value)
            with nt.GradientTape() as t:
                t.watch(x)
                y = f(x)
            same([y, t.gradient(y, x), f(x)], [right, slope, right])
    assert len(count) == 2


def test_F11_loops_go_by_the_values_of_the_call() -> None:
    @nt.function
    def f(x: Any) -> Any:
        steps = nt.constant(0)
        while x < 100.0:
            x = x * 2.0
            steps = steps + 1
        return x, steps

    for value, right in ((1.0, (128.0, 7)), (60.0, (120.0, 1)), (100.0, (100.0, 0)), (3.0, (192.0, 6))) * 2:
        same(f(nt.constant(value)), right)


def test_F12_nested_results() -> None:
    f = nt.function(lambda x: {"q": (x * 2.0, None), "p": [x * x], "n": 3, "s": "text"})
    x = nt.constant(3.0)
    with nt.GradientTape() as t:
        t.watch(x)
        found = f(x)
        y = found["p"][0] + found["q"][0]
    assert found["q"][1] is None
    assert found["s"] == "text"
    assert isinstance(found["q"], tuple)
    assert isinstance(found["n"], nt.Tensor)
    same([y, t.gradient(y, x)], [15.0, 8.0])


def test_F13_an_input_signature_refuses_what_does_not_fit() -> None:
    f = nt.function(lambda x: x + 1, input_signature=[nt.TensorSpec([None], nt.int32)])
    same([f(nt.constant([1, 2])), f([1, 2, 3]), f(x=[4])], [[2, 3], [2, 3, 4], [5]])
    for wrong in (nt.constant([1.5]), nt.constant(1), [1.5], nt.constant([[1]])):
        with pytest.raises(TypeError):
            f(wrong)
    with pytest.raises(TypeError, match="1 arguments"):
        f(nt.constant([1]), nt.constant([2]))


def test_F14_a_length_of_none_takes_all_sizes() -> None:
    f = nt.function(lambda x: nt.reduce_sum(x), input_signature=[nt.TensorSpec([None, 2], nt.float32)])
    for n in (1, 3, 2, 3):
        same(f(np.ones((n, 2), np.float32)), np.float32(2 * n))


def test_F15_concrete_functions() -> None:
    f = nt.function(lambda a, b: a * b)
    g = f.get_concrete_function(nt.TensorSpec([], nt.float32), 2.0)
    x = nt.constant(3.0)
    same([g(x), g(x, 2.0)], [6.0, 6.0])
    for wrong in ((x, 3.0), (3.0,), (nt.constant([3.0]),), (nt.constant(3),), (x, 2.0, 1.0), ()):
        with pytest.raises(TypeError):
            g(*wrong)
    assert f.experimental_get_tracing_count() == 1


def test_F16_side_effects_happen_while_recording(count: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    @nt.function
    def f(x: Any) -> Any:
        count.append(1)
        print("recording")
        return x

    for _ in range(3):
        f(nt.constant(1.0))
    assert count == [1]
    assert capsys.readouterr().out == "recording\n"


def test_F17_tensors_that_leave_by_the_back_door(count: list[Any]) -> None:
    @nt.function
    def f(x: Any) -> Any:
        count.append(x * 2.0)
        return x * 3.0

    same([f(nt.constant(1.0)), f(nt.constant(2.0))], [3.0, 6.0])
    for use in (lambda: count[0] + 1.0, lambda: count[0].numpy(), lambda: nt.function(lambda: count[0] + 1.0)()):
        with pytest.raises(TypeError, match="out of scope"):
            use()


def test_F18_variables_as_arguments(count: list[Any]) -> None:
    @nt.function
    def f(a: Any, b: Any) -> Any:
        count.append(1)
        a.assign_add(1.0)
        return a + b

    v, w = nt.Variable(1.0), nt.Variable(10.0)
    same([f(v, v), f(v, w), f(w, v), f(v, v)], [4.0, 13.0, 14.0, 8.0])
    assert len(count) == 3


def test_F19_dicts_in_any_order(count: list[Any]) -> None:
    @nt.function
    def f(d: Any) -> Any:
        count.append(1)
        return d[1] - d[3]

    one, three = nt.constant(1.0), nt.constant(3.0)
    same([f({1: one, 3: three}), f({3: three, 1: one}), f({1: one, 3: three})], [-2.0, -2.0, -2.0])
    assert len(count) == 2  # Python may go by their order
    g = nt.function(lambda xs: xs[0] - xs[1])
    same([g([one, three]), g([three, one]), g((one, three))], [-2.0, 2.0, -2.0])


def test_F20_objects_are_known_by_identity_and_not_kept(count: list[Any]) -> None:
    class Thing:
        def __init__(self, bias: float) -> None:
            self.bias = bias

    @nt.function
    def f(thing: Any, x: Any) -> Any:
        count.append(1)
        return x + thing.bias

    a, b, x = Thing(1.0), Thing(2.0), nt.constant(0.0)
    same([f(a, x), f(b, x), f(a, x)], [1.0, 2.0, 1.0])
    a.bias = 5.0
    same(f(a, x), 1.0)
    assert len(count) == 2
    gone = weakref.ref(a)
    del a
    gc.collect()
    assert gone() is None
    for k in range(3):
        same(f(Thing(float(k)), x), np.float32(k))


def test_F21_two_wrappers(count: list[Any]) -> None:
    def f(x: Any) -> Any:
        count.append(1)
        return x

    for g in (nt.function(f), nt.function(f)):
        g(nt.constant(1.0))
        g(nt.constant(2.0))
    assert len(count) == 2


def test_F22_recursion() -> None:
    @nt.function
    def forever(x: Any) -> Any:
        return forever(x) + 1.0

    with pytest.raises(RecursionError):
        forever(nt.constant(1.0))

    @nt.function
    def power(x: Any, n: int) -> Any:
        return x * power(x, n - 1) if n else nt.ones_like(x)

    @nt.function
    def factorial(n: Any) -> Any:
        return n * factorial(n - 1) if n > 1 else nt.ones_like(n)

    same([power(nt.constant(2.0), 5), power(nt.constant(3.0), 5)], [32.0, 243.0])
    same([factorial(nt.constant(k)) for k in (3, 1, 5, 3)], [6, 1, 120, 6])


def test_F23_loops() -> None:
    @nt.function
    def f(x: Any, n: Any) -> Any:
        total = x * 0.0
        for row in x:
            total = total + row
        for _ in range(n):
            total = total * 2.0
        for k in nt.range(n):
            total = total + nt.cast(k, nt.float32)
        return total

    x = nt.constant([1.0, 2.0])
    for n in (0, 3, 1, 3):
        right = np.float32(3.0 * 2.0**n + n * (n - 1) / 2)
        same([f(x, n), f(x, nt.constant(n))], [[right] * 2] * 2)


def test_F24_paths_may_differ_in_dtype_shape_and_structure() -> None:
    """TensorFlow needs equal ones; here each path is recorded by itself."""

    @nt.function
    def f(x: Any) -> Any:
        if x > 0:
            return [x, x]
        return nt.constant([1, 2])

    same([f(nt.constant(1.0)), f(nt.constant(-1.0)), f(nt.constant(2.0))], [[1.0, 1.0], [1, 2], [2.0, 2.0]])

    @nt.function
    def g(x: Any) -> Any:
        if x > 0:
            y = x
        return y

    same(g(nt.constant(1.0)), 1.0)
    with pytest.raises(UnboundLocalError):
        g(nt.constant(-1.0))
    same(g(nt.constant(2.0)), 2.0)


def test_F25_iterators_are_used_while_recording() -> None:
    items = iter([1.0, 2.0, 3.0])
    f = nt.function(lambda x: x + next(items))
    same([f(nt.constant(0.0)), f(nt.constant(0.0))], [1.0, 1.0])


def test_F26_methods_belong_to_their_instance(count: list[Any]) -> None:
    class Model:
        def __init__(self, scale: float) -> None:
            self.scale = scale
            self.v: Any = None

        @nt.function
        def step(self, x: Any) -> Any:
            count.append(self.scale)
            if self.v is None:
                self.v = nt.Variable(0.0)
            self.v.assign_add(x)
            return self.v * self.scale

    a, b = Model(1.0), Model(2.0)
    same([a.step(nt.constant(1.0)), b.step(nt.constant(1.0)), a.step(nt.constant(2.0))], [1.0, 2.0, 3.0])
    assert (a.step.experimental_get_tracing_count(), b.step.experimental_get_tracing_count()) == (1, 1)
    same(Model(5.0).step(nt.constant(1.0)), 5.0)
    bound = Model(7.0).step
    same([bound(nt.constant(1.0)), bound(nt.constant(1.0))], [7.0, 14.0])
    gone, variable = weakref.ref(a), weakref.ref(a.v)
    del a
    gc.collect()
    assert gone() is None
    assert variable() is None


def test_F27_running_eagerly(count: list[Any]) -> None:
    f = nt.function(lambda x: count.append(1) or x * 2.0)
    nt.config.run_functions_eagerly(True)
    try:
        assert nt.config.functions_run_eagerly()
        same([f(nt.constant(1.0)), f(nt.constant(2.0))], [2.0, 4.0])
        assert len(count) == 2
    finally:
        nt.config.run_functions_eagerly(False)
    f(nt.constant(1.0))
    f(nt.constant(1.0))
    assert len(count) == 3


def test_F28_a_warning_about_recording_all_the_time() -> None:
    f = nt.function(lambda x, k: x * k)
    x = nt.constant(1.0)
    for k in range(9):
        f(x, k)
    with pytest.warns(UserWarning, match="each of the last 10 calls of <lambda> was recorded anew.*8.*9.*as tensors"):
        f(x, 9)
    h = nt.function(lambda x, scale: x * scale)
    for k in range(9):
        h(x, scale=k / 2)
    with pytest.warns(UserWarning, match="kind: argument 'scale' was 4.0, and is now 4.5. Give"):
        h(x, scale=4.5)
    g = nt.function(lambda x, k: x * k)
    for k in range(24):
        g(x, k // 2)


def test_F29_a_call_that_fails_spoils_nothing() -> None:
    v = nt.Variable(1.0)
    kept: list[nt.Variable] = []

    @nt.function
    def f(x: Any, fails: bool) -> Any:
        v.assign_add(x)
        if fails:
            raise KeyError("on purpose")
        if not kept:
            kept.append(nt.Variable(2.0))
        return v * kept[0]

    x = nt.constant(1.0)
    with pytest.raises(KeyError):
        f(x, True)
    same(v, 1.0)
    same(f(x, False), 4.0)
    with pytest.raises(KeyError):
        f(x, True)
    same([f(x, False), v], [6.0, 3.0])


def test_F30_no_reference_cycles() -> None:
    v = nt.Variable([1.0])

    def make() -> Any:
        f = nt.function(lambda x: x * v if nt.reduce_sum(x) > 0 else x)
        for value in (1.0, -1.0):
            x = nt.constant([value])
            with nt.GradientTape() as t:
                y = f(x)
            t.gradient(y, v)
            f(x).numpy()
        return f

    gc.collect()
    gc.disable()
    try:
        f = make()
        gone = weakref.ref(f)
        del f
        assert gone() is None
    finally:
        gc.enable()


def test_F31_partial_and_defaults() -> None:
    def f(x: Any, y: Any = 2.0, *, z: Any = 1.0) -> Any:
        return x * y + z

    x = nt.constant(3.0)
    g = nt.function(partial(f, y=5.0))
    same([g(x), g(x, z=nt.constant(2.0)), g(x)], [16.0, 17.0, 16.0])
    h = nt.function(f)
    same([h(x), h(x, 3.0), h(x, y=nt.constant(4.0)), h(x=x), h(x, z=0.0)], [7.0, 10.0, 13.0, 7.0, 6.0])


def test_F32_random_numbers() -> None:
    f = nt.function(lambda: (nt.random.normal([3]), np.random.default_rng().normal(size=3)))
    (a, frozen), (b, again) = f(), f()
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(frozen, again)


def test_F33_another_optimizer_makes_variables() -> None:
    v = nt.Variable(1.0)

    @nt.function
    def step(optimizer: Any) -> None:
        with nt.GradientTape() as t:
            y = v * v
        optimizer.apply_gradients([(t.gradient(y, v), v)])

    first, second = nt.keras.optimizers.Adam(0.1), nt.keras.optimizers.Adam(0.1)
    step(first)
    step(first)
    with pytest.raises(ValueError, match="Variable is created"):
        step(second)
    before = v.numpy()
    step(first)
    assert v.numpy() < before
