"""Gradients of gradients: rows H of the semantics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numtape as nt
from numtape.tape import trace as traces
from tests.tape.checks import difference, same


def test_H01_three_tapes() -> None:
    x = nt.constant(2.0)
    with nt.GradientTape() as t3:
        t3.watch(x)
        with nt.GradientTape() as t2:
            t2.watch(x)
            with nt.GradientTape() as t1:
                t1.watch(x)
                y = x**4
            g1 = t1.gradient(y, x)
        g2 = t2.gradient(g1, x)
    same([g1, g2, t3.gradient(g2, x)], [32.0, 48.0, 48.0])


@pytest.mark.parametrize("order", range(1, 7))
def test_H01_any_order(order: int) -> None:
    x = nt.Variable(np.float64(0.7))
    tapes = [nt.GradientTape() for _ in range(order)]
    for tape in tapes:
        tape.__enter__()
    y = nt.exp(2.0 * x)
    for tape in reversed(tapes):
        tape.__exit__(None, None, None)
        y = tape.gradient(y, x)
    same(y, 2.0**order * np.exp(1.4), 1e-12)


@pytest.mark.parametrize("inner", [lambda x: x, lambda x: x * 2.0, lambda x: nt.nn.relu(x + 0.5)])
@pytest.mark.parametrize("f", [nt.nn.relu, nt.nn.relu6, nt.nn.leaky_relu, nt.abs])
def test_H01_what_is_linear_in_pieces_is_connected(f: Any, inner: Any) -> None:
    x = nt.Variable([1.5, -0.7, 0.2, 7.0])
    with nt.GradientTape(persistent=True) as outer:
        with nt.GradientTape() as tape:
            y = f(inner(x))
        g = tape.gradient(y, x)
        z = g * x
    same(outer.gradient(g, x), np.zeros(4))
    same(outer.gradient(z, x), g)  # and a zero adds nothing


@pytest.mark.parametrize("f", [
    lambda x: nt.maximum(x, 0.5), lambda x: nt.minimum(x, 0.5), lambda x: nt.clip_by_value(x, -1.0, 1.0), nt.reduce_max,
    nt.sort, lambda x: nt.math.top_k(x, 2)[0], lambda x: nt.where(x > 0, x, 2.0 * x), lambda x: x * 2.0,
])  # fmt: skip
def test_H01_what_tensorflow_does_not_connect(f: Any) -> None:
    x = nt.Variable([1.5, -0.7, 0.2, 7.0])
    with nt.GradientTape() as outer:
        with nt.GradientTape() as tape:
            y = f(x)
        g = tape.gradient(y, x)
    assert outer.gradient(g, x) is None


@pytest.mark.usefixtures("natively")
def test_H01_a_zero_derivative_costs_nothing() -> None:
    w = nt.Variable(np.full((4, 4), 0.1))
    x = nt.constant(np.ones((3, 4)))
    with nt.GradientTape() as outer:
        outer.watch(x)
        with nt.GradientTape() as tape:
            tape.watch(x)
            y = nt.nn.relu(nt.nn.relu(x @ w) @ w)
        g = tape.gradient(y, x)
        z = nt.reduce_sum(g * g)
    h = outer.gradient(z, [w, x])
    same(h[1], np.zeros((3, 4)))
    steps = traces.RAN[0][0].executable.plan.program
    assert str(steps).count("matmul") == 7


def test_H02_one_persistent_tape() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape(persistent=True) as t:
        y = x**3
        g = t.gradient(y, x)
        h = t.gradient(g, x)
    third = t.gradient(h, x)
    same([g, h, third], [27.0, 18.0, 6.0])


def test_H03_taken_outside_of_the_outer_context() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as outer, nt.GradientTape() as inner:
        y = x**3
    g = inner.gradient(y, x)
    same(g, 27.0)
    same(outer.gradient(g, x), None)


def test_H04_watching_belongs_to_one_tape() -> None:
    x, x2 = nt.constant(2.0), nt.constant(3.0)
    with nt.GradientTape() as outer:
        outer.watch(x)
        with nt.GradientTape() as inner:
            inner.watch(x2)
            y = x * x2 * x2
        g = inner.gradient(y, x2)  # 2 x x2
    same(g, 12.0)
    same(outer.gradient(g, [x, x2]), [6.0, None])


def test_H05_the_gradient_of_a_linear_map() -> None:
    x = nt.constant(2.0)
    with nt.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with nt.GradientTape() as inner:
            inner.watch(x)
            y = 3.0 * x
        g = inner.gradient(y, x)
    same(g, 3.0)
    same(outer.gradient(g, x), None)
    same(outer.gradient(g, x, unconnected_gradients="zero"), 0.0)


@pytest.mark.parametrize("f", [lambda x: x + 2.0, lambda x: -x, lambda x: nt.reduce_sum(x), lambda x: x[0] - x])
def test_H05_other_linear_maps(f: object) -> None:
    x = nt.Variable([2.0, 3.0])
    with nt.GradientTape() as outer:
        with nt.GradientTape() as inner:
            y = f(x)  # type: ignore[operator]
        g = inner.gradient(y, x)
    same(outer.gradient(g, x), None)


def test_H06_mixed_partials() -> None:
    x, y = nt.Variable(2.0), nt.Variable(3.0)
    with nt.GradientTape(persistent=True) as outer:
        with nt.GradientTape() as inner:
            z = x**2 * y**3
        gx, gy = inner.gradient(z, [x, y])
    same(outer.gradient(gx, [x, y]), [54.0, 108.0])
    same(outer.gradient(gy, [x, y]), [108.0, 72.0])


def test_H07_linear_in_the_seed() -> None:
    x, seed = nt.constant([1.0, 2.0]), nt.constant([10.0, 100.0])
    with nt.GradientTape() as tt:
        tt.watch(seed)
        with nt.GradientTape() as t:
            t.watch(x)
            y = x**3
        g = t.gradient(y, x, output_gradients=seed)
    same(g, [30.0, 1200.0])
    same(tt.gradient(g, seed), [3.0, 12.0])


def test_H07_a_variable_as_seed() -> None:
    x, seed = nt.constant([1.0, 2.0]), nt.Variable([10.0, 100.0])
    with nt.GradientTape() as tt:
        with nt.GradientTape() as t:
            t.watch(x)
            y = x**3
        g = t.gradient(y, x, output_gradients=seed)
    same(tt.gradient(g, seed), [3.0, 12.0])


def test_H08_inner_gradients_in_outer_computations() -> None:
    x = nt.constant(3.0)
    with nt.GradientTape() as outer:
        outer.watch(x)
        with nt.GradientTape() as inner:
            inner.watch(x)
            y = x * x
        z = y + inner.gradient(y, x) * x * x
    same(outer.gradient(z, x), 6.0 + 54.0)


def test_H09_gradient_penalty() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(4, 3)), rng.normal(size=(3, 2))

    def penalty(w: object) -> object:
        g = (1 - np.tanh(x @ w) ** 2) @ w.T  # type: ignore[operator, attr-defined]
        return np.sum(g * g)

    xs, v = nt.constant(x), nt.Variable(w)
    with nt.GradientTape() as outer:
        with nt.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(xs)
            y = nt.tanh(xs @ v)
        g = inner.gradient(y, xs)
        loss = nt.reduce_sum(g * g)
    same(outer.gradient(loss, v), difference(penalty, w)[0], 1e-6, 1e-8)


def test_H10_hessian_vector_product() -> None:
    rng = np.random.default_rng(0)
    a, v = rng.normal(size=(3, 3)), rng.normal(size=3)
    x = nt.Variable(rng.normal(size=3))
    with nt.GradientTape() as outer:
        with nt.GradientTape() as inner:
            column = nt.reshape(x, (3, 1))
            y = nt.reduce_sum(column * (nt.constant(a) @ column))
        dot = nt.reduce_sum(inner.gradient(y, x) * v)
    same(outer.gradient(dot, x), (a + a.T) @ v, 1e-12)


def test_H11_a_missing_rule_of_the_second_order() -> None:
    from numtape.ir.op import Gradient, Kind, Op
    from numtape.ops.core import apply

    def op(name: str, gradient: object) -> Op:
        return Op(
            name, Kind.MAP, ("x",), infer=lambda types, attributes: types[0], kernel="x * x",
            reference=lambda x: x * x, gradient=gradient, groups=("T",), rule_needs=("g", "x"),
        )  # fmt: skip

    last = op("BackwardOnly", Gradient.MISSING)
    first = op("Fused", lambda g, x: g * apply(last, (x,)))
    x = nt.Variable(3.0)
    with nt.GradientTape() as outer:
        with nt.GradientTape() as inner:
            y = apply(first, (x,))
        g = inner.gradient(y, x)
    same(g, 9.0)
    with pytest.raises(LookupError, match="BackwardOnly"):
        outer.gradient(g, x)


def test_H12_of_a_vector_function() -> None:
    x = nt.Variable([1.0, 2.0])
    with nt.GradientTape() as outer:
        with nt.GradientTape() as inner:
            y = x**3 * nt.reduce_sum(x)
        g = inner.gradient(y, x)
    a, b = 1.0, 2.0  # sum(y) = (a^3 + b^3)(a + b); rows of its Hessian, summed
    cross = 3 * a * a + 3 * b * b
    same(outer.gradient(g, x), [6 * a * (a + b) + 6 * a * a + cross, 6 * b * (a + b) + 6 * b * b + cross])


def test_values_looked_at_between_the_orders() -> None:
    x = nt.Variable(2.0)
    with nt.GradientTape() as outer:
        with nt.GradientTape() as inner:
            y = x**3
            assert y.numpy() == 8.0
            y = y * x
        assert float(y) == 16.0
        g = inner.gradient(y, x)
        assert float(g) == 32.0
        z = g * g
        assert float(z) == 1024.0
    same(outer.gradient(z, x), 2 * 32.0 * 48.0)


def test_meta_learning_through_an_inner_step() -> None:
    w = nt.Variable(np.float64(1.5))
    rate = nt.Variable(np.float64(0.1))

    def loss(w: object) -> object:
        return (w * w - 2.0) ** 2  # type: ignore[operator]

    def after(w: float, rate: float) -> float:
        return loss(w - rate * (2 * (w * w - 2.0) * 2 * w))  # type: ignore[return-value]

    for _ in range(2):
        with nt.GradientTape() as outer:
            with nt.GradientTape() as inner:
                first = loss(w)
            adapted = w - rate * inner.gradient(first, w)
            second = loss(adapted)
        same(outer.gradient(second, [w, rate]), difference(after, 1.5, 0.1), 1e-7)
