"""`nt.recompute_grad`: the same gradients as without, by what is computed again, in less memory."""

from __future__ import annotations

import numpy as np
import pytest

import numtape as nt
from numtape.tape.trace import RAN

X = np.linspace(-1, 1.5, 6).reshape(2, 3)
W = np.linspace(0.2, -0.5, 9).reshape(3, 3)


def as_it_is(f):
    return f


def dense(x, w):
    return nt.tanh(x @ w)


def deep(x, w):
    for _ in range(3):
        x = nt.sin(x @ w) + nt.nn.softmax(x)
    return x


def branched(x, w):
    a, b = dense(x, w), nt.nn.relu(x)
    return a * b + nt.exp(b) @ w


def looped(x, w):
    for _ in range(12):
        x = nt.sin(x) * x + nt.tanh(x @ w) - 0.1 * x
    return x


def with_gradient_within(x, w):
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = nt.reduce_sum(nt.sin(x @ w))
    return tape.gradient(y, x) * x


@nt.custom_gradient
def own(x):
    return x * x, lambda g: 3.0 * g * nt.exp(x)


def with_own_gradient(x, w):
    return nt.sin(own(nt.sin(x @ w)))


def of_rows(x, w):
    return nt.stack([nt.reduce_sum(nt.gather(w, [0, 2]), 0), x[1] * w[1]])


FUNCTIONS = [dense, deep, branched, looped, with_gradient_within, with_own_gradient, of_rows]
functions = pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)


def chain(wrap, f, x, w):
    """The function twice, from its own result, and something before, between and behind."""
    g = wrap(f)
    return nt.reduce_sum(nt.sin(g(0.5 * nt.cos(g(x * x, w)), w)) * x)


def gradients(wrap, f, x, w):
    with nt.GradientTape() as tape:
        tape.watch([x, w])
        y = chain(wrap, f, x, w)
    return [y, *map(nt.convert_to_tensor, tape.gradient(y, [x, w]))]


def seconds(wrap, f, x, w):
    with nt.GradientTape() as outer:
        outer.watch([x, w])
        _, a, b = gradients(wrap, f, x, w)
        slope = nt.reduce_sum(a * a) + nt.reduce_sum(b)
    return outer.gradient(slope, [x, w])


def jacobians(wrap, f, x, w):
    with nt.GradientTape() as tape:
        tape.watch([x, w])
        y = nt.sin(wrap(f)(nt.cos(x), w))
    return tape.jacobian(y, [x, w])


def tangents(wrap, f, x, w):
    with nt.autodiff.ForwardAccumulator(x, nt.ones_like(x)) as acc:
        found = gradients(wrap, f, x, w) if f is not with_own_gradient else [chain(wrap, f, x, w)]
    return [acc.jvp(k) for k in found]


def hessians(wrap, f, x, w):
    with nt.GradientTape() as outer:
        outer.watch(x)
        _, a, _ = gradients(wrap, f, x, w)
    return [outer.jacobian(a, x)]


ASKED = [gradients, seconds, jacobians, tangents, hessians]


@pytest.mark.parametrize("ask", ASKED, ids=lambda f: f.__name__)
@functions
def test_the_same_derivatives(f, ask):
    given = nt.constant(X), nt.constant(W)
    wanted = ask(as_it_is, f, *given)
    nested = lambda f: nt.recompute_grad(lambda x, w: nt.recompute_grad(f)(nt.sin(x), w) + x)
    plain = lambda f: lambda x, w: f(nt.sin(x), w) + x
    recorded = nt.function(lambda x, w: ask(nt.recompute_grad, f, x, w))
    for found, right in (
        (ask(nt.recompute_grad, f, *given), wanted),
        (ask(nested, f, *given), ask(plain, f, *given)),
        (recorded(*given), wanted),
    ):
        for a, b in zip(found, right, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@functions
def test_a_loop_around_in_a_recorded_function(f):
    def run(wrap):
        @nt.function
        def function(x, w, rows):
            with nt.GradientTape() as tape:
                tape.watch([x, w])
                y = x
                for row in rows:
                    y = wrap(f)(y, w) * 0.5 + row
                y = nt.reduce_sum(y)
            return [y, *map(nt.convert_to_tensor, tape.gradient(y, [x, w]))]

        return function(nt.constant(X), nt.constant(W), nt.constant(np.linspace(0, 1, 40 * 3).reshape(40, 3)))

    for a, b in zip(run(nt.recompute_grad), run(as_it_is), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_what_tensorflow_gives():
    calls = []
    v, u = nt.Variable(3.0), nt.Variable(2.0)

    def f(x, y, z=1.0, option=None):
        """Documented."""
        calls.append(option)
        u.read_value()
        return nt.sin(x) * v * z

    g = nt.recompute_grad(f)
    assert g.__wrapped__ is f
    assert (g.__name__, g.__doc__) == ("f", "Documented.")
    x, y = nt.constant(2.0), nt.constant(1.0)
    with nt.GradientTape(persistent=True) as tape:
        tape.watch([x, y])
        r = g(x, y, z=nt.constant(4.0), option="some")
    assert calls == ["some"]
    for _ in range(2):
        found = tape.gradient(r, [x, y, v, u])
        np.testing.assert_allclose(found, [-4.993762, 0, 3.6371896, 0], rtol=1e-6)


def test_keyword_arguments_and_tensors_from_outside_have_gradients():
    c, z = nt.constant(5.0), nt.constant(4.0)
    with nt.GradientTape() as tape:
        tape.watch([c, z])
        r = nt.recompute_grad(lambda x, z: x * c * z)(2.0, z=z)
    assert [float(g) for g in tape.gradient(r, [c, z])] == [8, 10]


def test_several_results_of_any_kind():
    x = nt.Variable(2.0)
    with nt.GradientTape(persistent=True) as tape:
        found = nt.recompute_grad(lambda x: {"a": x * x, "b": [nt.cast(x, nt.int32), 3.0, x]})(x)
    assert {type(k) for k in nt.nest.flatten(found)} == {nt.Tensor}
    assert [float(k) for k in nt.nest.flatten(found)] == [4, 2, 3, 2]
    assert float(tape.gradient(found["a"], x)) == 4
    assert float(tape.gradient(found["b"][2], x)) == 1
    assert float(tape.gradient(found["b"][1], x)) == 0
    with pytest.raises(TypeError, match="None"):
        nt.recompute_grad(lambda: None)()


def test_methods():
    class Layer:
        @nt.recompute_grad
        def __call__(self, x):
            return nt.sin(x) * self.w

        w = nt.Variable(2.0)

    layer, x = Layer(), nt.Variable(0.5)
    with nt.GradientTape() as tape:
        y = layer(x)
    np.testing.assert_allclose(tape.gradient(y, [x, layer.w]), [2 * np.cos(0.5), np.sin(0.5)], rtol=1e-6)


def test_variables_as_they_were():
    v = nt.Variable(2.0)
    with nt.GradientTape() as tape:
        y = nt.recompute_grad(lambda: nt.sin(v) * v)()
        v.assign(100.0)
        y = y * y
    np.testing.assert_allclose(tape.gradient(y, v), 2 * np.sin(2) * 2 * (np.cos(2) * 2 + np.sin(2)), rtol=1e-5)


def test_assigned_once():
    count, v = nt.Variable(0), nt.Variable(2.0)

    @nt.recompute_grad
    def f():
        count.assign_add(1)
        return nt.sin(v) * nt.cast(count, nt.float32)

    for _ in range(2):
        with nt.GradientTape() as tape:
            y = f() ** 2
        tape.gradient(y, v).numpy()
    assert int(count) == 2


@pytest.mark.parametrize("recorded", [False, True])
def test_the_same_random_numbers(recorded):
    x = nt.Variable(np.ones(50))

    @nt.recompute_grad
    def dropped(x):
        return nt.nn.dropout(nt.sin(x), 0.5) * x

    def step():
        with nt.GradientTape() as tape:
            y = dropped(x)
            loss = nt.reduce_sum(y * y)
        return y, tape.gradient(loss, x)

    run = nt.function(step) if recorded else step
    for _ in range(3):
        y, g = run()
        kept = np.asarray(y) != 0
        assert 0 < kept.sum() < 50
        np.testing.assert_allclose(g, np.where(kept, 8 * (np.sin(1) ** 2 + np.sin(1) * np.cos(1)), 0))


def test_what_leaves_the_function_by_other_ways():
    kept = []

    @nt.recompute_grad
    def f(x):
        kept.append(nt.sin(x))
        return kept[-1] * 3.0

    x = nt.Variable(0.5)
    with nt.GradientTape() as tape:
        y = f(x) * kept[0]
    np.testing.assert_allclose(tape.gradient(y, x), 6 * np.sin(0.5) * np.cos(0.5), rtol=1e-6)


def test_sources_within():
    kept = []
    with nt.GradientTape() as tape:

        @nt.recompute_grad
        def f(x):
            kept.append(nt.sin(x))
            tape.watch(kept[-1])
            return kept[-1] ** 2

        y = f(nt.constant(0.5)) ** 2
    np.testing.assert_allclose(tape.gradient(y, kept[0]), 4 * np.sin(0.5) ** 3, rtol=1e-6)


def test_python_may_look_within():
    @nt.recompute_grad
    def f(x):
        y = nt.sin(x)
        return y * y if y > 0 else y

    def step(x):
        with nt.GradientTape() as tape:
            tape.watch(x)
            z = nt.exp(f(x))
        return tape.gradient(z, x)

    recorded = nt.function(step)
    for number in (0.5, -0.5, 0.7):
        s, c = np.sin(number), np.cos(number)
        right = np.exp(s * s) * 2 * s * c if number > 0 else np.exp(s) * c
        for way in (step, recorded):
            np.testing.assert_allclose(way(nt.constant(number)), right, rtol=1e-5)
    assert float(f(nt.constant(0.5))) == pytest.approx(np.sin(0.5) ** 2)  # without a tape


def test_an_error_within_leaves_no_trace():
    x = nt.Variable(0.5)
    with nt.GradientTape() as tape:
        with pytest.raises(ValueError, match="axis"):
            nt.recompute_grad(lambda x: nt.reduce_sum(x, axis=3))(x)
        y = nt.recompute_grad(nt.sin)(x) ** 2
    np.testing.assert_allclose(tape.gradient(y, x), 2 * np.sin(0.5) * np.cos(0.5), rtol=1e-6)


def test_rows_of_a_table():
    table = nt.Variable(np.ones((100, 4)))
    with nt.GradientTape() as tape:
        y = nt.recompute_grad(lambda rows: nt.sin(nt.gather(table, rows)))(nt.constant([3, 5, 3]))
        loss = nt.reduce_sum(y * y)
    found = tape.gradient(loss, table)
    assert isinstance(found, nt.IndexedSlices)
    right = np.zeros((100, 4))
    right[[3, 5]] = np.sin(2) * np.array([[2], [1]])
    np.testing.assert_allclose(nt.convert_to_tensor(found), right)


# ---- memory -----------------------------------------------------------------------------------------------------


def arena_of(wrap, alike):
    """What a step of 10 blocks takes beside its results, in arrays of an activation, and the gradient of its input."""
    x = nt.Variable(np.linspace(-1, 1, 64 * 64).reshape(64, 64))
    weights = [nt.Variable(np.linspace(-0.1, 0.1, 64 * 64).reshape(64, 64)) for _ in range(4)]
    kinds = [nt.tanh, nt.sigmoid, nt.math.softplus, nt.nn.elu]
    rng = np.random.default_rng(3)  # what repeats would become a loop

    def block(x, order):
        for w, k in zip(weights, order, strict=True):
            x = kinds[k](x @ w)
        return x

    with nt.GradientTape() as tape:
        y = x
        for _ in range(10):
            order = range(4) if alike else rng.integers(0, 4, 4)
            y = wrap(lambda x, order=order: block(x, order))(y)
        loss = nt.reduce_sum(y * y)
    found = tape.gradient(loss, x).numpy()
    return RAN[0][0].executable.plan.arena / found.nbytes, found


@pytest.mark.parametrize("alike", [False, True])
def test_memory(alike):
    kept, right = arena_of(as_it_is, alike)
    made, found = arena_of(nt.recompute_grad, alike)
    np.testing.assert_allclose(found, right, rtol=1e-12)
    assert kept > 38  # a product or a result of each layer
    assert made < 20  # what enters the blocks, and the layers of one


@pytest.mark.usefixtures("natively")
def test_what_ends_the_forward_pass_is_computed_once():
    x = nt.Variable(np.ones((64, 64)))
    with nt.GradientTape() as tape:
        loss = nt.reduce_sum(nt.recompute_grad(lambda x: nt.sin(nt.exp(x) @ x))(x))
    tape.gradient(loss, x).numpy()
    program = RAN[0][0].executable.plan.program
    assert sum(i.op.name == "matmul" for i in program.instructions) == 3
