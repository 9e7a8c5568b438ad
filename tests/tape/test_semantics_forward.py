"""Forward mode: rows J10 to J15 of the semantics, and the forward twin of H03."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import numtape as nt
from numtape.ir.op import REGISTRY, Gradient, Kind, Op
from numtape.ops.core import apply
from numtape.tape.trace import STATE
from tests.tape.checks import same
from tests.tape.test_random_tapes import interpreted  # noqa: F401  a fixture

Accumulator = nt.autodiff.ForwardAccumulator
ONE = np.float64(1.0)


def scalar(x: float = 2.0) -> nt.Tensor:
    return nt.constant(np.float64(x))


# ---- J10: what has a tangent -----------------------------------------------------------------------------------------


def test_J10_a_product_of_functions() -> None:
    x = nt.constant(np.array([0.3, -1.2]))
    d = np.array([2.0, 0.5])
    with Accumulator(x, d) as acc:
        y = nt.sin(x) * x
    same(acc.jvp(y), (np.cos([0.3, -1.2]) * [0.3, -1.2] + np.sin([0.3, -1.2])) * d, 1e-12)


def test_J10_unknown_tensors_and_what_ran_elsewhere_have_none() -> None:
    x = scalar()
    before = x * x
    with Accumulator(x, ONE) as acc:
        y = before * 3.0
        z = nt.constant(3.0)
        whole = [nt.stop_gradient(x), nt.round(x), x > 1.0, nt.cast(x, nt.int32), nt.zeros_like(x)]
    after = x * x
    same(acc.jvp([before, y, z, after, nt.Variable(1.0)]), [None] * 5)
    same(acc.jvp(whole), [None] * 5)


def test_J10_the_example_of_linear_regression() -> None:
    x = nt.constant([[2.0, 3.0], [1.0, 4.0]])
    targets = nt.constant([[1.0], [-1.0]])
    dense = nt.keras.layers.Dense(1)
    dense.build([None, 2])

    def loss_fn() -> nt.Tensor:
        return nt.reduce_sum((dense(x) - targets) ** 2.0)

    kernel_fprop = []
    with Accumulator(dense.kernel, nt.constant([[1.0], [0.0]])) as acc:
        kernel_fprop.append(acc.jvp(loss_fn()))
    with Accumulator(dense.kernel, nt.constant([[0.0], [1.0]])) as acc:
        kernel_fprop.append(acc.jvp(loss_fn()))
    with Accumulator(dense.bias, nt.constant([1.0])) as acc:
        bias_fprop = acc.jvp(loss_fn())
    with nt.GradientTape() as tape:
        loss = loss_fn()
    kernel_grad, bias_grad = tape.gradient(loss, (dense.kernel, dense.bias))
    np.testing.assert_allclose(kernel_grad, nt.stack(kernel_fprop)[:, nt.newaxis], rtol=1e-5)
    np.testing.assert_allclose(bias_grad, bias_fprop[nt.newaxis], rtol=1e-5)


def test_J10_structures() -> None:
    x, v = nt.constant(2.0), nt.Variable([1.0, 3.0])
    with Accumulator({"v": v, "x": [x]}, {"v": nt.constant([1.0, 0.0]), "x": [1.0]}) as acc:
        y = v * x
    found = acc.jvp({"y": [y], "rest": (x, v)})
    same(found["y"][0], [2.0 + 1.0, 3.0])
    same(found["rest"], (1.0, [1.0, 0.0]))
    assert acc.jvp([]) == []


def test_J10_lookups_compute_nothing_and_repeat() -> None:
    x = scalar()
    with Accumulator(x, ONE) as acc:
        y = x * x
        first = acc.jvp(y)
        z = first * y  # the own tangents have none
    same([first, acc.jvp(y), acc.jvp(z)], [4.0, 4.0, 16.0])
    length = STATE.trace.node.length
    acc.jvp([x, y, z])
    assert STATE.trace.node.length == length


def test_J10_a_primal_that_is_its_own_tangent() -> None:
    x = scalar()
    with Accumulator(x, x) as acc:
        z = acc.jvp(x) * x * x
        w = acc.jvp(nt.identity(x)) * x
    same([acc.jvp(z), acc.jvp(w)], [24.0, 4.0])


def test_J10_a_result_that_is_a_primal_has_its_tangent() -> None:
    x, weight = scalar(), scalar(7.0)
    with Accumulator([x, weight], [ONE, ONE]) as acc:
        with nt.GradientTape() as tape:
            tape.watch(x)
            y = nt.identity(x)
        g = tape.gradient(y, x, output_gradients=weight)
    same([g, acc.jvp(g)], [7.0, 1.0])


@pytest.mark.parametrize("looks", [False, True])
def test_J10_python_decides_and_repeats(looks: bool) -> None:
    x = scalar(1.5)
    with Accumulator(x, ONE) as acc:
        y = x
        for _ in range(4):
            y = nt.where(y > 3.0, y / 2.0, y * x)
            if looks and y > 3.0:
                y = y - x
    value, tangent = 1.5, 1.0
    for _ in range(4):
        value, tangent = (value / 2, tangent / 2) if value > 3 else (value * 1.5, tangent * 1.5 + value)
        if looks and value > 3:
            value, tangent = value - 1.5, tangent - 1.0
    same([y, acc.jvp(y)], [value, tangent], 1e-12)


def test_J10_a_long_block() -> None:
    x = scalar(1.0)
    with Accumulator(x, ONE) as acc:
        y = x
        for _ in range(400):
            y = y * 1.01
    same(acc.jvp(y), 1.01**400, 1e-12)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0)])
def test_J10_scalars_and_empty_tensors(shape: tuple[int, ...]) -> None:
    x = nt.zeros(shape)
    with Accumulator(x, nt.ones(shape)) as acc:
        y = nt.exp(x)
        total = nt.reduce_sum(x)
    same(acc.jvp(y), np.ones(shape))
    same(acc.jvp(total), 1.0 if shape == () else 0.0)


def test_J10_variables_have_their_tangent_at_each_read() -> None:
    v, other = nt.Variable(2.0), nt.Variable(0.0)
    with Accumulator(v, 1.0) as acc:
        y = v * v
        v.assign(5.0)
        z = v * v
        v.assign(3.0 * v)
        w = v * 1.0
        v.assign_add(v)
        q = v * 1.0
        other.assign(y)
        r = other * other
    same([y, z, w, q], [4.0, 25.0, 15.0, 30.0])
    same(acc.jvp([y, z, w, q, r]), [4.0, 10.0, 1.0, 1.0, None])
    same(acc.jvp([v, other, v.value()]), [1.0, None, None])


def test_J10_variables_that_are_not_trainable() -> None:
    v = nt.Variable([1.0, 2.0], trainable=False)
    with Accumulator(v, [1.0, 0.0] * nt.ones(2)) as acc:
        y, z = v[0] * v[1], nt.reduce_sum(v**2)
    same(acc.jvp([y, z]), [2.0, 2.0])


def test_J10_an_optimizer_in_the_block() -> None:
    v = nt.Variable([1.0, 2.0])
    optimizer = nt.keras.optimizers.Adam(0.1)
    for _ in range(2):
        before = v.numpy()
        with Accumulator(v, nt.constant([1.0, 0.0])) as acc:
            with nt.GradientTape() as tape:
                y = nt.reduce_sum(v * v * v)
            gradient = tape.gradient(y, v)
            optimizer.apply_gradients([(gradient, v)])
            z = nt.reduce_sum(v)
        same(acc.jvp([y, gradient, z]), [3 * before[0] ** 2, [6 * before[0], 0.0], 1.0], 1e-5)


def test_J10_a_nonlinear_loss_in_every_direction() -> None:
    """The tangents along the axes are the gradient."""
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(3, 2)), nt.constant(rng.normal(size=(5, 3)))

    def loss(w: Any) -> nt.Tensor:
        h = nt.nn.softmax(nt.tanh(x @ w))
        return -nt.reduce_mean(nt.math.log(h[:, 0]))

    v = nt.Variable(w)
    with nt.GradientTape() as tape:
        y = loss(v)
    gradient = tape.gradient(y, v).numpy()
    for at in np.ndindex(w.shape):
        direction = np.zeros_like(w)
        direction[at] = 1.0
        with Accumulator(v, direction) as acc:
            y = loss(v)
        same(acc.jvp(y), gradient[at], 1e-10)


def test_J10_a_repeated_step_derives_nothing_anew() -> None:
    v = nt.Variable(1.0)

    def step(k: int) -> float:
        with Accumulator(v, 1.0) as outer, Accumulator(v, 1.0) as inner:
            y = nt.sin(v) * (0.5 * k)
            z = inner.jvp(y) * v
        v.assign_add(0.125)
        return float(outer.jvp(z))

    for k in range(3):
        step(k)
    derived = nt.cache.stats()
    weight = _weight()
    for k in range(5):
        x, found = float(v), step(k)
        np.testing.assert_allclose(found, 0.5 * k * (np.cos(x) - np.sin(x) * x), rtol=1e-5)
    assert nt.cache.stats().programs == derived.programs and _weight() == weight


def _weight() -> int:
    from numtape.tape import trace

    return trace._weight


# ---- J11, J12: errors and blocks -------------------------------------------------------------------------------------


def test_J11_the_same_primal_twice() -> None:
    x = nt.constant(2.0)
    with pytest.raises(ValueError, match="twice"):
        Accumulator([x, x], [1.0, 1.0])
    with pytest.raises(ValueError, match="twice"):
        Accumulator({"a": x, "b": (x,)}, {"a": 1.0, "b": (1.0,)})


@pytest.mark.parametrize(
    ("primals", "tangents", "error", "text"),
    [
        (3.0, 1.0, TypeError, "float"),
        (np.float32(3.0), 1.0, TypeError, "float32"),
        (nt.constant(2.0), None, ValueError, "None"),
        (nt.constant(2.0), nt.constant([1.0, 2.0]), ValueError, "float32.2"),
        (nt.constant([1.0, 2.0]), nt.constant(1.0), ValueError, "float32"),
        (nt.constant(2.0), nt.constant(1.0, nt.float64), ValueError, "float64"),
        (nt.constant([1.0, 2.0]), [1.0, 2.0], ValueError, "structures differ"),
        ([nt.constant(2.0)], [1.0, 1.0], ValueError, "structures differ"),
        ([nt.constant(2.0)], 1.0, ValueError, "structures differ"),
        ([nt.constant(2.0)], (1.0,), TypeError, "structures differ"),
    ],
)
def test_J11_primals_and_tangents_that_do_not_match(primals: Any, tangents: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        Accumulator(primals, tangents)


def test_J11_what_tangents_are_made_of() -> None:
    x, v = nt.constant([1.0, 2.0]), nt.Variable([3.0, 4.0])
    for tangent in (np.array([3.0, 4.0]), np.array([3, 4]), v, nt.constant([3.0, 4.0])):
        with Accumulator(x, tangent) as acc:
            y = x * x
        same(acc.jvp(y), [6.0, 16.0])
    with Accumulator(nt.constant(2.0), 3) as acc:
        pass
    same(acc.jvp(nt.constant(2.0)), None)


def test_J11_lookups_of_what_is_no_tensor() -> None:
    acc = Accumulator(nt.constant(1.0), 1.0)
    for x in (3.0, None, np.ones(2), [nt.constant(1.0), "x"]):
        with pytest.raises(TypeError, match="tensor or Variable"):
            acc.jvp(x)
    with pytest.raises(ValueError, match="unconnected"):
        acc.jvp(nt.constant(1.0), unconnected_gradients="bad")


def test_J12_blocks() -> None:
    x = scalar()
    acc = Accumulator(x, ONE)
    same(acc.jvp(x), 1.0)
    with acc:
        y = x * x
        with pytest.raises(ValueError, match="recording already"), acc:
            pass
    z = y * x
    with acc:
        w = y * x
    same(acc.jvp([y, z, w]), [4.0, None, 12.0])


def test_J12_exceptions_leave_nothing_behind() -> None:
    x = scalar()
    acc = Accumulator(x, ONE)
    with pytest.raises(KeyError), acc:
        y = x * x
        raise KeyError
    assert not STATE.tapes
    same(acc.jvp(y), 4.0)
    with acc:
        z = y * x
        with pytest.raises(ValueError, match="broadcast"):
            nt.zeros([2]) + nt.zeros([3])
        w = z * x
    same(acc.jvp([z, w]), [12.0, 32.0])


def test_J12_reads_of_a_call_that_failed_do_not_count() -> None:
    v, w = nt.Variable([1.0, 2.0]), nt.Variable(3.0)
    with Accumulator([v, w], [nt.constant([1.0, 1.0]), 1.0]) as acc:
        with pytest.raises(ValueError, match="broadcast"):
            v + nt.zeros([3])
        c = nt.exp(nt.constant([5.0, 5.0]))
        y = c * w
    same(acc.jvp([c, y]), [None, np.exp([5.0, 5.0])])


def test_J12_later_steps() -> None:
    """Lookups go on when the thread records elsewhere, and within later tapes."""
    x = scalar()
    with Accumulator(x, ONE) as acc:
        y = x * x
    with nt.GradientTape() as tape:
        tape.watch(x)
        z = acc.jvp(y) * x
    same([acc.jvp(y), tape.gradient(z, x)], [4.0, 4.0])
    x.numpy(), z.numpy()
    same(acc.jvp(y), 4.0)


def test_J12_accumulators_let_go_of_what_they_held() -> None:
    x = scalar()
    with Accumulator(x, ONE) as acc:
        y = x * x
    found = acc.jvp(y)
    trace = STATE.trace
    assert trace.holders == 1
    del acc
    gc.collect()
    assert trace.holders == 0
    same([found, y], [4.0, 4.0])


def test_J12_another_thread() -> None:
    x = scalar()
    found: list[Any] = []

    def inside() -> None:
        y = x * x
        try:
            found.append(acc.jvp(y))
            found.append(acc.jvp(z))
        except RuntimeError as error:
            found.append(error)

    def run(work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    with Accumulator(x, ONE) as acc:
        z = x * x * x
        run(inside)
    assert "not here" in str(found[0])
    run(inside)
    same(found[1:], [None, 12.0])


def test_J12_recording_in_several_threads() -> None:
    found: dict[int, float] = {}

    def work(k: int) -> None:
        for _ in range(20):
            x = scalar(float(k))
            with Accumulator(x, ONE) as acc:
                y = x * x * x
            found[k] = float(acc.jvp(y))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {k: 3.0 * k * k for k in range(4)}


# ---- J13: nothing connected ------------------------------------------------------------------------------------------


def test_J13_zeros_where_nothing_is_connected() -> None:
    x, other = nt.constant([1.0, 2.0]), nt.constant([3.0, 4.0])
    with Accumulator(x, nt.constant([1.0, 1.0])) as acc:
        y, z = x * other, other * other
        whole = nt.constant([1, 2])
    for option in (nt.UnconnectedGradients.ZERO, "zero"):
        same(acc.jvp([y, z, whole], unconnected_gradients=option), [[3.0, 4.0], [0.0, 0.0], [0, 0]])
    assert acc.jvp(whole, unconnected_gradients="zero").dtype is nt.int32
    same(acc.jvp([z, whole]), [None, None])


def test_J13_integer_primals(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    from numtape.tape import gradient_tape

    monkeypatch.setattr(gradient_tape, "_warnings_left", 5)
    i = nt.constant(3)
    with Accumulator(i, 1) as acc:
        y, z = i * i, nt.cast(i, nt.float32)
    assert "must be floating" in caplog.text
    same(acc.jvp([i, y, z]), [1, None, None])


def test_J13_no_primals() -> None:
    x = scalar()
    with Accumulator([], []) as acc:
        y = x * x
    same(acc.jvp([x, y]), [None, None])


# ---- J14: accumulators within accumulators ---------------------------------------------------------------------------


def test_J14_the_documented_second_derivative() -> None:
    primal = nt.constant(1.1)
    with Accumulator(primal, nt.constant(1.0)) as outer, Accumulator(primal, nt.constant(1.0)) as inner:
        primal_out = primal ** nt.constant(3.5)
    inner_jvp = inner.jvp(primal_out)
    same(inner_jvp, 3.5 * 1.1**2.5, 1e-5)
    same(outer.jvp(inner_jvp), 3.5 * 2.5 * 1.1**1.5, 1e-5)
    assert inner.jvp(outer.jvp(primal_out)) is None


@pytest.mark.parametrize("order", range(1, 5))
def test_J14_any_order(order: int) -> None:
    x = scalar(0.7)
    accumulators = [Accumulator(x, ONE) for _ in range(order)]
    with ExitStack() as stack:
        for acc in accumulators:
            stack.enter_context(acc)
        y = nt.exp(2.0 * x)
    for acc in reversed(accumulators):
        y = acc.jvp(y)
    same(y, 2.0**order * np.exp(1.4), 1e-12)


def test_J14_inside_the_blocks() -> None:
    x = scalar()
    with Accumulator(x, ONE) as o, Accumulator(x, ONE) as i:
        y = x * x * x
        di = i.jvp(y)
        do = o.jvp(y)
        z = do * x
        same([o.jvp(di), i.jvp(do), i.jvp(z), o.jvp(z)], [12.0, None, 12.0, 12.0])


def test_J14_the_order_is_that_of_entering() -> None:
    x = scalar()
    first, second = Accumulator(x, ONE), Accumulator(x, ONE)
    with second, first:
        y = x * x * x
    same([first.jvp(second.jvp(y)), second.jvp(first.jvp(y))], [None, 12.0])


def test_J14_the_outer_one_ends_first() -> None:
    x = scalar()
    outer, inner = Accumulator(x, ONE), Accumulator(x, ONE)
    outer.__enter__()
    inner.__enter__()
    y = x * x * x
    outer.__exit__(None, None, None)
    z = x * x * x
    inner.__exit__(None, None, None)
    same([outer.jvp(inner.jvp(y)), outer.jvp(inner.jvp(z)), inner.jvp(outer.jvp(y))], [12.0, None, None])
    same(inner.jvp([y, z]), [12.0, 12.0])


def test_J14_tangents_of_tangents_are_at_rest_rather_than_missing() -> None:
    x = scalar()
    functions = [nt.negative, nt.identity, nt.abs, nt.nn.relu, lambda x: 3.0 * x, lambda x: nt.maximum(x, 1.0)]
    for f in functions:
        with Accumulator(x, ONE) as outer, Accumulator(x, ONE) as inner:
            y = f(x)
            z = inner.jvp(y) * x
        same(outer.jvp([inner.jvp(y), z]), [0.0, inner.jvp(y).numpy()])
        same(inner.jvp([z]), [inner.jvp(y).numpy()])


def test_J14_different_primals() -> None:
    x, w = scalar(), scalar(3.0)
    with Accumulator(w, ONE) as outer, Accumulator(x, ONE) as inner:
        y = x * x * w * w
    same([inner.jvp(y), outer.jvp(y), outer.jvp(inner.jvp(y))], [36.0, 24.0, 24.0])


def test_J14_tangents_may_depend_on_the_outer_primal() -> None:
    x = scalar()
    with Accumulator(x, ONE) as outer:
        direction = x * x
        with Accumulator(x, direction) as inner:
            y = x * x * x
    same([inner.jvp(y), outer.jvp(inner.jvp(y))], [48.0, 96.0])  # 3x⁴ and 12x³


def test_J14_a_second_block() -> None:
    x = scalar()
    outer, inner = Accumulator(x, ONE), Accumulator(x, ONE)
    with outer, inner:
        y = x * x
    with outer, inner:
        z = y * x
        d = inner.jvp(z)
    same([d, outer.jvp(z), outer.jvp(d)], [12.0, 12.0, 12.0])


# ---- H03 and J15: with tapes -----------------------------------------------------------------------------------------


def test_H03_a_tangent_computed_outside_of_a_tape_is_no_part_of_it() -> None:
    x = scalar()
    acc, tape = Accumulator(x, ONE), nt.GradientTape(persistent=True)
    acc.__enter__()
    y = x * x * x
    with tape:
        tape.watch(x)
        z = x * x * x
    acc.__exit__(None, None, None)
    same(acc.jvp([y, z]), [12.0, 12.0])
    assert tape.gradient(acc.jvp(y), x) is None and tape.gradient(acc.jvp(z), x) is None


def test_H03_a_tape_that_ends_first_has_the_tangents_up_to_there() -> None:
    x = scalar()
    acc, tape = Accumulator(x, ONE), nt.GradientTape(persistent=True)
    tape.__enter__()
    tape.watch(x)
    acc.__enter__()
    y = x * x * x
    tape.__exit__(None, None, None)
    z = x * x * x
    acc.__exit__(None, None, None)
    same([tape.gradient(acc.jvp(y), x), tape.gradient(acc.jvp(z), x), acc.jvp(z)], [12.0, None, 12.0])


def test_J15_reverse_over_forward() -> None:
    x = nt.constant(np.array([1.0, 2.0]))
    with nt.GradientTape() as tape:
        tape.watch(x)
        with Accumulator(x, np.array([1.0, 10.0])) as acc:
            y = nt.reduce_sum(x**3)
    same(acc.jvp(y), 3.0 + 120.0)
    same(tape.gradient(acc.jvp(y), x), [6.0, 120.0])


def test_J15_the_documented_hessian_vector_product() -> None:
    v = nt.Variable([1.0, 2.0])
    with Accumulator(v, nt.constant([1.0, 0.0])) as acc:
        with nt.GradientTape() as tape:
            y = nt.reduce_sum(v**3.0)
        backward = tape.gradient(y, v)
    same(backward, [3.0, 12.0])
    same(acc.jvp(backward), [6.0, 0.0])


def _network(weights: list[Any], x: Any) -> nt.Tensor:
    for w in weights[:-1]:
        x = nt.tanh(x @ w)
    return nt.reduce_mean(
        nt.nn.softmax_cross_entropy_with_logits(nt.constant(np.eye(3)[[0, 2, 1, 1]]), x @ weights[-1])
    )


def test_J15_three_ways_to_a_hessian_vector_product() -> None:
    rng = np.random.default_rng(1)
    shapes = [(2, 5), (5, 4), (4, 3)]
    weights = [nt.Variable(rng.normal(size=s)) for s in shapes]
    vectors = [rng.normal(size=s) for s in shapes]
    x = nt.constant(rng.normal(size=(4, 2)))

    with Accumulator(weights, vectors) as acc:
        with nt.GradientTape() as tape:
            loss = _network(weights, x)
        gradients = tape.gradient(loss, weights)
    forward_over_reverse = acc.jvp(gradients)

    with nt.GradientTape() as tape, Accumulator(weights, vectors) as acc:
        loss = _network(weights, x)
    reverse_over_forward = tape.gradient(acc.jvp(loss), weights)

    with nt.GradientTape() as outer:
        with nt.GradientTape() as tape:
            loss = _network(weights, x)
        gradients = tape.gradient(loss, weights)
        product = nt.add_n([nt.reduce_sum(g * v) for g, v in zip(gradients, vectors, strict=True)])
    right = [g.numpy() for g in outer.gradient(product, weights)]
    same(forward_over_reverse, right, 1e-9, 1e-12)
    same(reverse_over_forward, right, 1e-9, 1e-12)


def test_J15_a_gradient_within_the_tape() -> None:
    x = scalar()
    with Accumulator(x, ONE) as acc:
        acc.jvp(x)
        with nt.GradientTape() as tape:
            tape.watch(x)
            y = x**3
            g = tape.gradient(y, x)
        h = g * x
    same(acc.jvp([g, h]), [12.0, 36.0])


def test_J15_tapes_within_do_not_see_tangents() -> None:
    x = scalar()
    with Accumulator(x, ONE) as acc, nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x * x
        d = acc.jvp(y)
        z = d * d
        w = y * x
    same([tape.gradient(d, x), tape.gradient(z, x), acc.jvp(z), acc.jvp(d)], [None] * 4)
    same([tape.gradient(w, x), acc.jvp(w)], [32.0, 32.0])


def test_J15_a_tape_that_ends_with_its_gradient() -> None:
    x = scalar()
    with nt.GradientTape() as tape:
        tape.watch(x)
        with Accumulator(x, ONE) as acc:
            y = x * x * x
            g = tape.gradient(y, x)
            h = g * x
    same(acc.jvp([g, h, y]), [12.0, 36.0, 12.0])


def test_J15_a_persistent_tape_around() -> None:
    x = scalar()
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        with Accumulator(x, ONE) as acc:
            y = x * x * x
            d = acc.jvp(y)
            second = tape.gradient(d, x)
            third = tape.gradient(second, x)
    same([d, second, third], [12.0, 12.0, 6.0])
    same(tape.gradient(acc.jvp(y), x), 12.0)


def test_J15_a_pause_in_recording() -> None:
    """A tape that goes on after a pause has been entered last, so that it stands within."""
    x = scalar()
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        with Accumulator(x, ONE) as acc:
            a = x * x * x
            with tape.stop_recording():
                b = x * x * x
            c = x * x * x
    same([tape.gradient(acc.jvp(y), x) for y in (a, b, c)], [12.0, None, None])
    same([tape.gradient(y, x) for y in (a, b, c)], [12.0, None, 12.0])
    same(acc.jvp([a, b, c]), [12.0, 12.0, 12.0])


def test_J15_watching_later_and_starting_again() -> None:
    x = scalar()
    with nt.GradientTape(persistent=True) as tape, Accumulator(x, ONE) as acc:
        a = x * x * x
        tape.watch(x)
        b = x * x * x
    same([tape.gradient(acc.jvp(y), x) for y in (a, b)], [None, 12.0])
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        with Accumulator(x, ONE) as acc:
            a = x * x * x
            tape.reset()
            tape.watch(x)
            b = x * x * x
    same([tape.gradient(acc.jvp(y), x) for y in (a, b)], [None, None])
    same([tape.gradient(y, x) for y in (a, b)], [None, 12.0])


def test_J15_the_derivative_by_the_tangent() -> None:
    x, t = scalar(), scalar(3.0)
    with nt.GradientTape() as tape:
        tape.watch(t)
        with Accumulator(x, t) as acc:
            y = x * x * x
    same(tape.gradient(acc.jvp(y), t), 12.0)


def test_J15_a_gradient_of_gathered_rows() -> None:
    table = nt.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    direction = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]], np.float32)
    with Accumulator(table, direction) as acc:
        with nt.GradientTape() as tape:
            y = nt.reduce_sum(nt.gather(table, [0, 2, 0]) ** 3.0)
        g = tape.gradient(y, table)
    found = acc.jvp(g)
    assert isinstance(found, nt.IndexedSlices)
    same(nt.convert_to_tensor(found), 6.0 * table.numpy() * direction * [[2.0], [0.0], [1.0]])
    same(acc.jvp(nt.IndexedSlices(nt.ones([1, 2]), [0], [3, 2])), None)
    zeros = acc.jvp(nt.IndexedSlices(nt.ones([1, 2]), [0], [3, 2]), unconnected_gradients="zero")
    same(nt.convert_to_tensor(zeros), np.zeros((3, 2)))


def test_J15_third_derivatives() -> None:
    x = scalar(0.7)
    with Accumulator(x, ONE) as a3, Accumulator(x, ONE) as a2:
        with nt.GradientTape() as tape:
            tape.watch(x)
            y = nt.sin(x * x)
        g = tape.gradient(y, x)
    mixed = a3.jvp(a2.jvp(g))
    with Accumulator(x, ONE) as a3, Accumulator(x, ONE) as a2, Accumulator(x, ONE) as a1:
        y = nt.sin(x * x)
    right = -12 * 0.7 * np.sin(0.49) - 8 * 0.343 * np.cos(0.49)
    same([mixed, a3.jvp(a2.jvp(a1.jvp(y)))], [right, right], 1e-12)


# ---- functions with rules of their own -------------------------------------------------------------------------------


@nt.custom_gradient
def _loud(x: Any) -> Any:
    return x * x, lambda g: 100.0 * g * x


def test_custom_gradients_are_followed_through_their_operations() -> None:
    x = scalar()
    with Accumulator(x, ONE) as outer, Accumulator(x, ONE) as inner:
        y = _loud(x)
    same([inner.jvp(y), outer.jvp(inner.jvp(y)), outer.jvp(y)], [4.0, 2.0, 4.0])
    with Accumulator(x, ONE) as acc:
        with nt.GradientTape() as tape:
            tape.watch(x)
            y = _loud(x) * x
        g = tape.gradient(y, x)
    same([g, acc.jvp(y), acc.jvp(g)], [404.0, 12.0, 404.0])
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        with Accumulator(x, ONE) as acc:
            y = _loud(x)
            z = y * x
    same([tape.gradient(acc.jvp(y), x), tape.gradient(acc.jvp(z), x), acc.jvp(z)], [2.0, 208.0, 12.0])


def test_a_function_called_with_arrays_is_an_error_for_who_asks() -> None:
    @nt.primitive(gradient=lambda g, x: g * 2.0 * x)
    def squared(x: Any) -> Any:
        return x * x

    x = scalar()
    with nt.GradientTape() as tape:
        tape.watch(x)
        with Accumulator(x, ONE) as acc:
            y = squared(x)
            z = y * 3.0
            w = squared(scalar(5.0))
            v = x * x
    same(acc.jvp([v, w]), [4.0, None])
    for t in (y, z):
        with pytest.raises(LookupError, match="squared"):
            acc.jvp(t)
    same(tape.gradient(z, x), 12.0)


def test_an_op_without_a_rule_is_an_error_for_who_asks() -> None:
    op = Op(
        "ruleless", Kind.MAP, ("x",), infer=lambda types, _: types[0], kernel="x + x", reference=lambda x: x + x,
        gradient=Gradient.MISSING, groups=("T",),
    )  # fmt: skip
    assert op.name not in REGISTRY
    x = scalar()

    def run() -> Any:
        with Accumulator(x, ONE) as acc:
            y = apply(op, (x,))
            z = y * x
            w = x * x
        same(acc.jvp(w), 4.0)
        return acc.jvp(z)

    for _ in range(2):
        with pytest.raises(LookupError, match="no entry for: ruleless"):
            run()
    object.__setattr__(op, "gradient", lambda g: g + g)
    object.__setattr__(op, "rule_needs", ("g",))
    same(run(), 8.0)


def test_nothing_of_an_init_scope() -> None:
    x = scalar()
    with Accumulator(x, ONE) as acc:
        w = x * x
        with nt.init_scope():
            y = x * x
            with pytest.raises(RuntimeError, match="not here"):
                acc.jvp(w)
        z = x * x
    same(acc.jvp([y, z]), [None, 4.0])


# ---- random programs -------------------------------------------------------------------------------------------------

_steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "subtract", "multiply", "tanh", "sin", "sum", "stop", "look", "v", "assign", "jvp"]),
        st.integers(0, 5),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=10,
)


def _random(steps: list[tuple[str, int, int]], x: Any, v: Any, acc: Any = None) -> nt.Tensor:
    values = [x, x + 0.5, v * x]
    for op, a, b in steps:
        p, q = values[a % len(values)], values[b % len(values)]
        if op in ("add", "subtract", "multiply"):
            values.append(getattr(nt, op)(p, q))
        elif op in ("tanh", "sin"):
            values.append(getattr(nt, op)(p))
        elif op == "sum":
            values.append(nt.reduce_sum(p) * q)
        elif op == "stop":
            values.append(nt.stop_gradient(p))
        elif op == "look":
            values.append(p if float(nt.reduce_sum(p)) > 0 else -p)
        elif op == "v":
            values.append(p * v)
        elif op == "assign":
            v.assign(nt.tanh(p))
        elif acc:
            acc.jvp(p)
    return nt.reduce_sum(values[-1] * values[len(values) // 2] + x * v)


@pytest.mark.usefixtures("interpreted")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(_steps, st.integers(0, 3))
def test_random_programs(steps: list[tuple[str, int, int]], seed: int) -> None:
    """Forward against reverse, and both orders of the two against reverse over reverse."""
    rng = np.random.default_rng(seed)
    start, direction, along = rng.normal(size=(2, 2)), rng.normal(size=2), rng.normal(size=2)
    x, v = nt.constant(start[0]), nt.Variable(start[1])

    def close(found: Any, right: Any) -> None:
        np.testing.assert_allclose(0.0 if found is None else found, right, rtol=1e-8, atol=1e-9)

    with nt.GradientTape() as outer:
        outer.watch(x)
        with nt.GradientTape() as tape:
            tape.watch(x)
            y = _random(steps, x, v)
        gx, gv = tape.gradient(y, [x, v], unconnected_gradients="zero")
        product = nt.reduce_sum(gx * direction + gv * along)
    hx, hv = (g.numpy() for g in outer.gradient(product, [x, v], unconnected_gradients="zero"))
    slope = product.numpy()

    v.assign(start[1])
    with Accumulator([x, v], [direction, along]) as acc:
        with nt.GradientTape() as tape:
            tape.watch(x)
            y = _random(steps, x, v, acc)
        gradients = tape.gradient(y, [x, v], unconnected_gradients="zero")
    close(acc.jvp(y), slope)
    close(acc.jvp(gradients[0]), hx)
    close(acc.jvp(gradients[1]), hv)

    v.assign(start[1])
    with nt.GradientTape() as tape:
        tape.watch(x)
        with Accumulator([x, v], [direction, along]) as acc:
            y = _random(steps, x, v, acc)
    for found, right in zip(tape.gradient(acc.jvp(y), [x, v]), (hx, hv), strict=True):
        close(found, right)

    v.assign(start[1])
    with Accumulator([x, v], [direction, along]) as outer_acc, Accumulator([x, v], [direction, along]) as acc:
        y = _random(steps, x, v, acc)
    close(outer_acc.jvp(acc.jvp(y)), np.sum(hx * direction + hv * along))
