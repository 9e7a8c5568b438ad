"""Gradients that users bring: rows K of the semantics, E10 and E11."""

from __future__ import annotations

import gc
import weakref
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numtape as nt
from tests.tape.checks import same


@nt.custom_gradient
def tenfold(x: Any) -> Any:
    return x * x, lambda dy: dy * 10.0


def test_K01_the_rule_replaces_the_derivative() -> None:
    v = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y = 5.0 * tenfold(2.0 * v)
    same(y, 180.0)
    same(tape.gradient(y, v), 5.0 * 10.0 * 2.0)


def test_K02_a_variable_among_the_arguments_is_read_inside() -> None:
    @nt.custom_gradient
    def f(v: Any) -> Any:
        x = v.read_value()
        return x * x, lambda dy: 2.0 * dy * x + 1.0

    v = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y = f(v)
    same(tape.gradient(y, v), 7.0)
    assert [w is v for w in tape.watched_variables()] == [True]


def test_K03_none_for_one_argument() -> None:
    @nt.custom_gradient
    def f(x: Any, y: Any) -> Any:
        return x * y, lambda dy: [10.0 * dy, None]

    x, y = nt.constant(2.0), nt.constant(3.0)
    with nt.GradientTape(persistent=True) as tape:
        tape.watch([x, y])
        z = f(x, y)
    same(tape.gradient(z, [x, y]), [10.0, None])
    same(tape.gradient(z, [x, y], unconnected_gradients="zero"), [10.0, 0.0])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_K04_E10_another_number_of_gradients(count: int) -> None:
    @nt.custom_gradient
    def f(x: Any, y: Any) -> Any:
        return x * y, lambda dy: [dy] * count

    x = nt.Variable(2.0)
    with nt.GradientTape() as tape:
        z = f(x, x * 2.0)
    with pytest.raises(ValueError, match=f"returned {count} gradients for 2 arguments"):
        tape.gradient(z, x)


def test_a_gradient_of_another_shape() -> None:
    @nt.custom_gradient
    def f(x: Any) -> Any:
        return nt.reduce_sum(x), lambda dy: dy

    x = nt.Variable([1.0, 2.0])
    with nt.GradientTape() as tape:
        z = f(x)
    with pytest.raises(ValueError, match=r"float32\[\].*float32\[2\]"):
        tape.gradient(z, x)


@nt.custom_gradient
def both(a: Any, b: Any) -> Any:
    return (a * b, a + b), lambda d1, d2: (d1 * b + d2, d1 * a + d2)


def test_K05_outputs_that_are_not_used_get_zeros() -> None:
    seen = []

    @nt.custom_gradient
    def f(x: Any) -> Any:
        def rule(d1: Any, d2: Any) -> Any:
            seen.append((float(d1), d2.numpy().tolist()))
            return d1 * 2.0

        return (x * 2.0, nt.stack([x, x])), rule

    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y, _ = f(x)
        z = y * y
    same(tape.gradient(z, x), 24.0)
    assert seen == [(12.0, [0.0, 0.0])]


def test_the_rule_is_not_called_where_no_path_leads() -> None:
    @nt.custom_gradient
    def f(x: Any) -> Any:
        def rule(dy: Any) -> Any:
            raise AssertionError

        return x * 2.0, rule

    x, v = nt.Variable(3.0), nt.Variable(1.0)
    with nt.GradientTape() as tape:
        f(x)
        z = v * v
    same(tape.gradient(z, [x, v]), [None, 2.0])


def test_K06_E11_captured_variables_demand_the_keyword_at_the_call() -> None:
    w = nt.Variable(2.0, name="w")

    @nt.custom_gradient
    def f(x: Any) -> Any:
        return x * w, lambda dy: dy

    with nt.GradientTape() as tape, pytest.raises(TypeError, match=r"f reads w:0.*variables="):
        f(nt.constant(1.0))
    with tape:
        y = w * w
    same(tape.gradient(y, w), 4.0)


@pytest.mark.parametrize("spelling", ["positional", "keyword", "any"])
def test_K07_gradients_of_captured_variables(spelling: str) -> None:
    w = nt.Variable(2.0)

    @nt.custom_gradient
    def f(x: Any, v: Any) -> Any:
        y = x * w * v

        def given(dy: Any, variables: Any) -> Any:
            assert len(variables) == 1
            assert variables[0] is w
            return [dy * 3.0, dy * 5.0], [dy * 7.0]

        def keyword(dy: Any, *, variables: Any) -> Any:
            return given(dy, variables)

        def any_(dy: Any, **options: Any) -> Any:
            return given(dy, **options)

        return y, {"positional": given, "keyword": keyword, "any": any_}[spelling]

    x, v = nt.Variable(1.0), nt.Variable(1.0)
    with nt.GradientTape() as tape:
        y = 2.0 * f(x, v)
    same(tape.gradient(y, [x, v, w]), [6.0, 10.0, 14.0])


def test_another_number_of_gradients_for_variables() -> None:
    w = nt.Variable(2.0)

    @nt.custom_gradient
    def f(x: Any) -> Any:
        return x * w, lambda dy, variables: (dy, [])

    with nt.GradientTape() as tape:
        y = f(nt.constant(1.0))
    with pytest.raises(ValueError, match="returned 0 gradients for 1 Variables"):
        tape.gradient(y, w)


def test_K08_second_order_is_that_of_the_rule() -> None:
    @nt.custom_gradient
    def f(x: Any) -> Any:
        return x * 3.0, lambda dy: dy * x**3

    x = nt.constant(2.0)
    with nt.GradientTape() as outer:
        outer.watch(x)
        with nt.GradientTape() as inner:
            inner.watch(x)
            y = f(x)
        first = inner.gradient(y, x)
    same([first, outer.gradient(first, x)], [8.0, 12.0])


def test_K09_an_exception_in_the_rule_surfaces_and_the_tape_goes_on() -> None:
    fails = [True]

    @nt.custom_gradient
    def f(x: Any) -> Any:
        def rule(dy: Any) -> Any:
            if fails:
                raise ZeroDivisionError("mine")
            return dy * 4.0

        return x * 3.0, rule

    x = nt.Variable(2.0)
    with nt.GradientTape(persistent=True) as tape:
        y = f(x) * x
    with pytest.raises(ZeroDivisionError, match="mine"):
        tape.gradient(y, x)
    fails.clear()
    same(tape.gradient(y, x), 6.0 + 8.0)


def test_K10_nested_on_the_rule() -> None:
    @nt.custom_gradient
    def f(x: Any) -> Any:
        def first(dy: Any) -> Any:
            @nt.custom_gradient
            def slope(inner: Any) -> Any:
                return 2.0 * inner, lambda ddy: 100.0 * ddy

            return dy * slope(x)

        return x * x, first

    x = nt.constant(3.0)
    with nt.GradientTape() as outer:
        outer.watch(x)
        with nt.GradientTape() as inner:
            inner.watch(x)
            y = f(x)
        first = inner.gradient(y, x)
    same([first, outer.gradient(first, x)], [6.0, 100.0])


def test_one_within_the_other() -> None:
    w = nt.Variable(2.0)

    @nt.custom_gradient
    def inner(x: Any) -> Any:
        return x * w, lambda dy, variables: (dy * 7.0, [dy * 11.0])

    @nt.custom_gradient
    def outer(x: Any) -> Any:
        y = inner(x)
        return y * y, lambda dy, variables: (dy * y, [dy * 5.0])

    x = nt.Variable(3.0)
    with nt.GradientTape() as t2:
        with nt.GradientTape() as t1:
            z = outer(x)
        g = t1.gradient(z, [x, w])
    same(g, [6.0, 5.0])
    same(t2.gradient(g[0], [x, w]), [7.0, 11.0])


def test_K12_as_a_method() -> None:
    class Scaled:
        factor = 3.0

        @nt.custom_gradient
        def __call__(self, x: Any) -> Any:
            """Scaled."""
            return x * self.factor, lambda dy: dy * 100.0

        @nt.custom_gradient
        def product(self, x: Any, y: Any) -> Any:
            return self.factor * x * y, lambda dy: (dy * 10.0, None)

        @staticmethod
        @nt.custom_gradient
        def double(x: Any) -> Any:
            return x * 2.0, lambda dy: dy * 5.0

    assert Scaled.__call__.__doc__ == "Scaled."
    x, v = nt.Variable(1.0), nt.Variable(2.0)
    with nt.GradientTape(persistent=True) as tape:
        y, z, w = Scaled()(x), Scaled().product(x, v), Scaled.double(v)
    same([y, z, w], [3.0, 6.0, 4.0])
    same([tape.gradient(t, [x, v]) for t in (y, z, w)], [[100.0, None], [10.0, None], [None, 5.0]])


def test_K13_keyword_arguments_do_not_count() -> None:
    @nt.custom_gradient
    def f(x: Any, scale: Any = 1.0) -> Any:
        return x * scale, lambda dy: dy * 2.0

    x = nt.Variable(1.0)
    with nt.GradientTape(persistent=True) as tape:
        y, z = f(x, scale=5.0), f(x)
    same([y, z, *tape.gradient([y, z], [x])], [5.0, 1.0, 4.0])
    with nt.GradientTape(), pytest.raises(TypeError, match="variables="):
        f(x, scale=nt.Variable(5.0))


def test_K14_clipping_what_flows_back() -> None:
    @nt.custom_gradient
    def clip(y: Any) -> Any:
        return nt.identity(y), lambda dy: nt.clip_by_norm(dy, 0.5)

    v = nt.Variable(2.0)
    with nt.GradientTape() as tape:
        y = clip(v * v)
    same(tape.gradient(y, v), 2.0)


def test_K16_nested_arguments_and_results() -> None:
    Pair = namedtuple("Pair", "left right")

    @nt.custom_gradient
    def f(pair: Any, table: Any) -> Any:
        result = {"sum": pair.left + pair.right, "list": [table["k"] * 2.0]}
        # Dicts are flattened by sorted key: "list" before "sum".
        return result, lambda d_list, d_sum: ((d_sum * 2.0, d_sum * 3.0), {"k": d_list * 5.0})

    a, b, c = nt.Variable(1.0), nt.Variable(2.0), nt.Variable(3.0)
    with nt.GradientTape() as tape:
        found = f(Pair(a, b), {"k": c})
        y = found["sum"] + 10.0 * found["list"][0]
    same(y, 63.0)
    same(tape.gradient(y, [a, b, c]), [2.0, 3.0, 50.0])


def test_K18_the_ops_inside_are_hidden_behind_the_rule() -> None:
    inside = []

    @nt.custom_gradient
    def f(x: Any) -> Any:
        inside.append(x * x)
        inside.append(nt.exp(inside[0]))
        return inside[1], lambda dy: dy * 2.0

    x = nt.Variable(1.0)
    with nt.GradientTape(persistent=True) as tape:
        y = f(x)
        z = inside[0] * 3.0
    same([tape.gradient(y, x), tape.gradient(y, inside[0])], [2.0, None])
    same(tape.gradient(z, x), 6.0)  # what left it is recorded like everything else
    same(tape.gradient(inside[1], x), 2.0 * np.e)


def test_a_rule_differentiates_through_what_the_function_computed() -> None:
    @nt.custom_gradient
    def log1pexp(x: Any) -> Any:
        e = nt.exp(x)
        return nt.math.log(1.0 + e), lambda upstream: upstream * (1.0 - 1.0 / (1.0 + e))

    nt.testing.check_gradient(log1pexp, [0.3, -1.0], order=3)


def test_a_function_that_returns_its_argument() -> None:
    @nt.custom_gradient
    def f(x: Any) -> Any:
        return x, lambda dy: dy * 5.0

    v = nt.Variable(1.0)
    with nt.GradientTape() as tape:
        y = f(v) + v
    same(tape.gradient(y, v), 6.0)


def test_K19_a_rule_sees_the_values_of_its_own_call() -> None:
    w = nt.Variable(2.0)
    calls = []

    @nt.custom_gradient
    def f(x: Any) -> Any:
        calls.append(x)
        kept = w.value()
        return x * kept, lambda dy, variables: (dy * kept, [dy * x])

    x = nt.Variable(1.0)
    with nt.GradientTape(persistent=True) as tape:
        y = f(x)
        w.assign(5.0)
        z = f(x)
    w.assign(100.0)
    same(tape.gradient(y, [x, w]), [2.0, 1.0])
    same(tape.gradient(z, [x, w]), [5.0, 1.0])
    assert len(calls) == 2


def test_without_a_tape_the_results_are_those_of_the_function() -> None:
    same(tenfold(nt.constant(3.0)), 9.0)
    same(list(both(nt.constant(3.0), 2.0)), [6.0, 5.0])


def test_what_is_no_custom_gradient() -> None:
    @nt.custom_gradient
    def f(x: Any) -> Any:
        return x

    with pytest.raises(TypeError, match="gradient function"):
        f(nt.constant(1.0))


def test_an_exception_in_the_function_leaves_the_tapes_recording() -> None:
    @nt.custom_gradient
    def f(x: Any) -> Any:
        raise KeyError("mine")

    x = nt.Variable(3.0)
    with nt.GradientTape() as outer:
        with nt.GradientTape() as inner:
            with pytest.raises(KeyError, match="mine"):
                f(x)
            y = x * x
        g = inner.gradient(y, x)
    same([g, outer.gradient(g, x)], [6.0, 2.0])


def test_sources_on_both_sides_of_a_detour() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        a = x * x
        b = tenfold(a)
        c = b * x + a
    # c depends on b, a and x directly, and on a through the rule.
    same(tape.gradient(c, [x, a, b, c]), [(3 * 10 + 1) * 6 + 81.0, 31.0, 3.0, 1.0])


def test_watched_after_the_call() -> None:
    x = nt.constant(3.0)
    with nt.GradientTape() as tape:
        y = tenfold(x)
        tape.watch(x)
        z = y * x
    same(tape.gradient(z, x), 9.0)


def test_an_outer_tape_sees_the_rule_and_the_function() -> None:
    x = nt.Variable(2.0)
    with nt.GradientTape(persistent=True) as outer:
        with nt.GradientTape() as inner:
            y = tenfold(x) * x
        g = inner.gradient(y, x)  # 10 x + x**2
        z = g * y  # with dy = 10 x + x**2, and dg = 10 + 10, since x**2 is tenfold(x) again
    same(g, 24.0)
    same(outer.gradient(g, x), 20.0)
    same(outer.gradient(z, x), 20.0 * 8.0 + 24.0 * 24.0)


def test_a_tape_lets_go_of_its_rules() -> None:
    class Held:
        slope = 3.0

    held = Held()
    gone = weakref.ref(held)

    def step(held: Held) -> Any:
        @nt.custom_gradient
        def f(x: Any) -> Any:
            return x * 2.0, lambda dy: dy * held.slope

        x = nt.Variable(1.0)
        with nt.GradientTape() as tape:
            y = f(x)
        return tape.gradient(y, x)

    gc.collect()
    gc.disable()
    try:
        same(step(held), 3.0)
        del held
        assert gone() is None
    finally:
        gc.enable()


def test_a_loop_records_each_stretch_once() -> None:
    x, w = nt.Variable([1.0, 2.0]), nt.Variable([0.5, 0.5])

    def step() -> Any:
        with nt.GradientTape() as tape:
            y = nt.reduce_sum(tenfold(x * w) * tenfold(w))
        return tape.gradient(y, [x, w])

    for _ in range(2):
        first = [g.numpy() for g in step()]
    before = nt.cache.stats()
    for _ in range(3):
        same(step(), first)
    after = nt.cache.stats()
    assert after.programs == before.programs
    assert after.compilations == before.compilations


@settings(max_examples=15)
@given(st.lists(st.sampled_from("sctm"), min_size=1, max_size=6), st.sampled_from([1, 2, 3]))
def test_true_rules_change_nothing(chain: list[str], order: int) -> None:
    """Any chain of functions, some behind a detour with the true derivative: all orders stay as they are."""
    plain = {"s": nt.sin, "c": nt.cos, "t": nt.tanh, "m": lambda x: x * x}
    slopes = {"s": nt.cos, "c": lambda x: -nt.sin(x), "t": lambda x: 1.0 - nt.tanh(x) ** 2, "m": lambda x: 2.0 * x}

    def behind(k: str) -> Any:
        return nt.custom_gradient(lambda x: (plain[k](x), lambda dy: dy * slopes_of[k](x)))

    detours = {k: behind(k) for k in plain}
    # The rules use detours themselves, so that higher orders go around them, too.
    slopes_of = {
        "s": lambda x: detours["c"](x), "c": lambda x: -detours["s"](x), "t": slopes["t"], "m": slopes["m"],
    }  # fmt: skip

    def derivative(functions: dict[str, Any]) -> Any:
        x = nt.constant(np.array([0.3, -0.7]))
        tapes = [nt.GradientTape() for _ in range(order)]
        for tape in tapes:
            tape.__enter__()
            tape.watch(x)
        y = x
        for k in chain:
            y = functions[k](y) + 0.1 * x
        for tape in reversed(tapes):
            tape.__exit__(None, None, None)
            y = tape.gradient(y, x)
        return y

    right = derivative(plain)
    same(derivative(detours), None if right is None else right.numpy(), 1e-9, 1e-9)
