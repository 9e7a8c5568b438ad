"""Jacobians and batch jacobians: rows J, S10, P02, H12, E12, E16 and E17 of the semantics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numtape as nt
from numtape.cache.statistics import COUNTERS
from tests.tape.checks import same

RNG = np.random.default_rng(3)


def found(f: Callable[..., Any], *arrays: Any, **options: Any) -> Any:
    xs = [nt.constant(a) for a in arrays]
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(xs)
        y = f(*xs)
    return tape.jacobian(y, xs, **options)


# ---- what it is -------------------------------------------------------------------------------------------------


def test_J01_shape_and_diagonal() -> None:
    x, y = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    jx, jy = found(lambda x, y: x**2 * y, x, y)
    assert jx.shape == jy.shape == (2, 3, 2, 3)
    same(jx, np.diag((2 * x * y).ravel()).reshape(2, 3, 2, 3), 1e-12)
    same(jy, np.diag((x**2).ravel()).reshape(2, 3, 2, 3), 1e-12)


MODELS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "network": (lambda x, w, b, v: nt.nn.relu(x @ w + b) @ v, [(3, 2), (2, 4), (4,), (4, 2)]),
    "attention": (lambda q, k, v: nt.nn.softmax(q @ nt.linalg.matrix_transpose(k)) @ v, [(2, 2, 3)] * 3),
    "broadcasts": (lambda x, y, z: x * y + z / nt.reduce_sum(x, axis=1, keepdims=True), [(3, 2), (2,), (3, 1)]),
    "places": (lambda x: nt.cumsum(nt.concat([x[1:, ::-1], nt.gather(x, [2, 0, 2])], axis=0)), [(3, 2)]),
    "systems": (lambda a, b: nt.linalg.solve(a, b), [(2, 2), (2, 3)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_J01_equals_a_gradient_for_each_element(name: str) -> None:
    f, shapes = MODELS[name]
    arrays = [RNG.normal(size=shape) for shape in shapes]
    at_once = found(f, *arrays)
    for j, g in zip(at_once, found(f, *arrays, experimental_use_pfor=False), strict=True):
        same(j, g.numpy(), 1e-10, 1e-12)


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_J01_so_many_rows_at_once(rows: int) -> None:
    x, w = RNG.normal(size=(3, 2)), RNG.normal(size=(2, 3))
    expected = found(lambda x, w: nt.sin(x @ w), x, w)
    for j, e in zip(found(lambda x, w: nt.sin(x @ w), x, w, parallel_iterations=rows), expected, strict=True):
        same(j, e.numpy(), 1e-12)


def test_J02_a_scalar_source() -> None:
    d, x = nt.Variable(2.0), nt.constant(np.linspace(-1, 1, 201, dtype=np.float32))
    with nt.GradientTape() as tape:
        y = nt.sigmoid(x + d)
    j = tape.jacobian(y, d)
    s = y.numpy()
    assert j.shape == (201,)
    same(j, s * (1 - s), 1e-5)


def test_J02_S10_nested_sources() -> None:
    w, b = nt.Variable([[1.0, 2.0]]), nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y = w * b
    j = tape.jacobian(y, {"w": w, "rest": [b]})
    same(j, {"w": 3.0 * np.eye(2).reshape(1, 2, 1, 2), "rest": [[[1.0, 2.0]]]})


@pytest.mark.parametrize("target", [["y"], {"a": "y"}, 1.0, None, np.ones(2)])
def test_S10_a_single_tensor_target(target: Any) -> None:
    x = nt.Variable([1.0, 2.0])
    with nt.GradientTape() as tape:
        y = x * x
    wrong = nt.nest.map_structure(lambda leaf: y if isinstance(leaf, str) else leaf, target)
    with pytest.raises(TypeError, match="one tensor or Variable"):
        tape.jacobian(wrong, x)
    same(tape.jacobian(y, x), [[2.0, 0.0], [0.0, 4.0]])  # nothing was lost


def test_S10_sources_are_tensors() -> None:
    x = nt.Variable([1.0, 2.0])
    with nt.GradientTape() as tape:
        y = x * x
    with pytest.raises(TypeError, match="source"):
        tape.jacobian(y, [x, 1.0])


def test_J03_summed_over_the_target_it_is_the_gradient() -> None:
    w, b, x = (nt.Variable(RNG.normal(size=s)) for s in ((3, 2), (2,), (4, 3)))
    with nt.GradientTape(persistent=True) as tape:
        y = nt.nn.softplus(x @ w + b)
    for j, g in zip(tape.jacobian(y, [w, b, x]), tape.gradient(y, [w, b, x]), strict=True):
        same(nt.reduce_sum(j, axis=[0, 1]), g.numpy(), 1e-12)


def test_J04_unconnected() -> None:
    x, z = nt.Variable([1.0, 2.0]), nt.Variable(np.ones((3, 1)))
    with nt.GradientTape(persistent=True) as tape:
        y = x * x
    same(tape.jacobian(y, [x, z])[1], None)
    for option in ("zero", nt.UnconnectedGradients.ZERO):
        zeros = tape.jacobian(y, {"z": z}, unconnected_gradients=option)["z"]
        same(zeros, np.zeros((2, 3, 1)))
        assert zeros.dtype is nt.float64
    with pytest.raises(ValueError, match="unconnected"):
        tape.jacobian(y, x, unconnected_gradients="nothing")


def test_J04_integers_have_no_gradient() -> None:
    x, k = nt.constant([1.0, 2.0]), nt.constant([1, 2])
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = nt.cast(x * x, nt.int32)
        z = x * nt.cast(k, nt.float32)
    same(tape.jacobian(y, x), None)
    same(tape.jacobian(z, [x, k]), [[[1.0, 0.0], [0.0, 2.0]], None])


def test_a_variable_as_the_target() -> None:
    v = nt.Variable([[1.0, 2.0]])
    with nt.GradientTape(persistent=True) as tape:
        v * 2.0
    same(tape.jacobian(v, v), np.eye(2).reshape(1, 2, 1, 2))
    same(tape.batch_jacobian(v, v), np.eye(2).reshape(1, 2, 2))
    with nt.GradientTape(persistent=True) as empty:
        pass
    same(empty.jacobian(v, [v, v]), [np.eye(2).reshape(1, 2, 1, 2)] * 2)
    same(empty.batch_jacobian(v, v), np.eye(2).reshape(1, 2, 2))


def test_the_target_may_be_the_source() -> None:
    x = nt.constant([1.0, 2.0])
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    same(tape.jacobian(y, [y, x]), [np.eye(2), [[2.0, 0.0], [0.0, 4.0]]])


def test_J09_empty_axes() -> None:
    for shape in ((0, 3), (2, 0), (0,)):
        x = nt.Variable(np.zeros(shape))
        with nt.GradientTape(persistent=True) as tape:
            y = nt.sin(x) @ nt.ones((3, 2), nt.float64) if shape == (0, 3) else nt.sin(x)
            total = nt.reduce_sum(y)
        for at_once in (True, False):
            assert tape.jacobian(y, x, experimental_use_pfor=at_once).shape == y.shape + shape
            assert tape.jacobian(total, x, experimental_use_pfor=at_once).shape == shape
        assert tape.jacobian(y, x, parallel_iterations=2).shape == y.shape + shape


# ---- higher orders ----------------------------------------------------------------------------------------------


def test_J05_hessian_in_closed_form() -> None:
    a, b = 1.3, -0.7
    x = nt.Variable([a, b], dtype=nt.float64)
    with nt.GradientTape() as outer:
        with nt.GradientTape() as inner:
            y = x[0] ** 2 * x[1] + nt.sin(x[1])
        g = inner.gradient(y, x)
    h = outer.jacobian(g, x)
    same(h, [[2 * b, 2 * a], [2 * a, -np.sin(b)]], 1e-12)


def test_J05_hessian_of_a_network_is_symmetric() -> None:
    w, v = nt.Variable(RNG.normal(size=(3, 4))), nt.Variable(RNG.normal(size=(4, 1)))
    x = nt.constant(RNG.normal(size=(5, 3)))
    with nt.GradientTape() as outer:
        with nt.GradientTape() as inner:
            loss = nt.reduce_mean(nt.square(nt.tanh(x @ w) @ v))
        g = inner.gradient(loss, [w, v])
        flat = nt.concat([nt.reshape(part, [-1]) for part in g], axis=0)
    h = np.concatenate([j.numpy().reshape(16, -1) for j in outer.jacobian(flat, [w, v])], axis=1)
    np.testing.assert_allclose(h, h.T, rtol=1e-10, atol=1e-12)
    assert np.abs(h).max() > 0.1


def test_J05_a_jacobian_can_be_differentiated() -> None:
    """Hessian and third derivative as jacobians of jacobians, and the gradient of a penalty on a jacobian."""
    w = RNG.normal(size=(3, 3))
    x = nt.Variable(RNG.normal(size=3))
    with nt.GradientTape(persistent=True) as third:
        with nt.GradientTape() as second:
            with nt.GradientTape() as first:
                y = nt.sin(nt.linalg.matvec(nt.constant(w), x))
            j = first.jacobian(y, x)
        h = second.jacobian(j, x)
        penalty = nt.reduce_sum(nt.square(j))
    u = w @ x.numpy()
    same(j, np.cos(u)[:, None] * w, 1e-12)
    same(h, np.einsum("i,ij,ik->ijk", -np.sin(u), w, w), 1e-12)
    same(third.jacobian(h, x), np.einsum("i,ij,ik,il->ijkl", -np.cos(u), w, w, w), 1e-11)
    same(third.gradient(penalty, x), np.einsum("i,ij,ij,ik->k", -2 * np.sin(u) * np.cos(u), w, w, w), 1e-11)


def test_J05_one_persistent_tape_records_its_jacobian() -> None:
    x = nt.Variable([1.0, 2.0], dtype=nt.float64)
    with nt.GradientTape(persistent=True) as tape:
        y = x**3
        j = tape.jacobian(y, x)
    h = np.zeros((2, 2, 2))
    h[0, 0, 0], h[1, 1, 1] = 6, 12
    same(tape.jacobian(j, x), h, 1e-12)


def test_J05_batch_jacobian_of_a_batch_jacobian() -> None:
    x = nt.constant(RNG.normal(size=(4, 2)))
    with nt.GradientTape() as outer:
        outer.watch(x)
        with nt.GradientTape() as inner:
            inner.watch(x)
            y = x**3 * x[:, ::-1]
        j = inner.batch_jacobian(y, x)
    h = outer.batch_jacobian(j, x).numpy()
    assert h.shape == (4, 2, 2, 2)
    np.testing.assert_allclose(h, h.swapaxes(2, 3), rtol=1e-12)
    a, b = x.numpy().T
    np.testing.assert_allclose(h[:, 0, 0, 0], 6 * a * b, rtol=1e-12)
    np.testing.assert_allclose(h[:, 0, 0, 1], 3 * a**2, rtol=1e-12)


def test_H12_a_second_gradient_is_a_sum_of_rows() -> None:
    x = nt.Variable([1.0, 2.0, 3.0], dtype=nt.float64)
    with nt.GradientTape(persistent=True) as outer:
        with nt.GradientTape() as inner:
            y = nt.reduce_sum(x) ** 3
        g = inner.gradient(y, x)
    rows = outer.gradient(g, x)
    same(rows, outer.jacobian(g, x).numpy().sum(axis=0), 1e-12)
    same(rows, [108.0] * 3, 1e-12)


# ---- batches ----------------------------------------------------------------------------------------------------


def test_J06_the_blocks_of_the_full_jacobian() -> None:
    w = nt.constant(RNG.normal(size=(3, 2)))
    x = nt.constant(RNG.normal(size=(4, 3)))
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = nt.sigmoid(x @ w)
    full = tape.jacobian(y, x).numpy()
    blocks = full[np.arange(4), :, np.arange(4)]
    for options in ({}, {"parallel_iterations": 1}, {"experimental_use_pfor": False}):
        same(tape.batch_jacobian(y, x, **options), blocks, 1e-12)


def test_J06_several_axes() -> None:
    x = nt.constant(RNG.normal(size=(2, 3, 2)))
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = nt.cumsum(x, axis=1)[:, :2] * 2.0
    j = tape.batch_jacobian(y, x)
    assert j.shape == (2, 2, 2, 3, 2)
    full = tape.jacobian(y, x).numpy()
    same(j, np.stack([full[k, :, :, k] for k in range(2)]), 1e-12)


def test_J06_the_same_places_as_a_jacobian() -> None:
    """A batch of one has unit weights like those of a jacobian, and another shape."""
    x = nt.constant([[1.0, 2.0]])
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
    same(tape.batch_jacobian(y, x), [[[2.0, 0.0], [0.0, 4.0]]])
    same(tape.jacobian(y, x), [[[[2.0, 0.0]], [[0.0, 4.0]]]])


@pytest.mark.parametrize(
    ("shape", "f"),
    [
        ((4, 3), lambda x: x[:2]),
        ((3,), lambda x: x * x),
        ((), lambda x: x * x),
        ((3,), lambda x: nt.reshape(x, (3, 1)) * 2.0),
        ((3, 2), lambda x: nt.reduce_sum(x, axis=1)),
    ],
)
def test_J07_E12_shapes_of_batches(shape: tuple[int, ...], f: Any) -> None:
    x = nt.Variable(np.ones(shape))
    with nt.GradientTape() as tape:
        y = f(x)
    with pytest.raises(ValueError, match="batch_jacobian"):
        tape.batch_jacobian(y, x)
    tape.gradient(y, x)  # nothing was lost


def test_E12_single_tensors() -> None:
    x = nt.Variable(np.ones((2, 3)))
    with nt.GradientTape() as tape:
        y = x * x
    with pytest.raises(TypeError, match="source"):
        tape.batch_jacobian(y, [x])
    with pytest.raises(TypeError, match="target"):
        tape.batch_jacobian([y], x)


@pytest.mark.parametrize("option", ["none", "zero"])
def test_J08_unconnected_batches_are_zeros(option: str) -> None:
    x = nt.Variable(np.ones((2, 3)))
    with nt.GradientTape() as tape:
        y = nt.ones((2, 4), nt.float64) * 2.0
    same(tape.batch_jacobian(y, x, unconnected_gradients=option), np.zeros((2, 4, 3)))


def test_J08_integers_give_zeros() -> None:
    x = nt.constant([[1.0, 2.0]])
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = nt.cast(x * x, nt.int32)
    j = tape.batch_jacobian(y, x)
    same(j, np.zeros((1, 2, 2)))
    assert j.dtype is nt.int32


@pytest.mark.parametrize(("shape", "outs"), [((1, 0), 0), ((0, 3), 3), ((2, 3), 0), ((0, 0), 0)])
def test_J09_empty_axes_in_batches(shape: tuple[int, ...], outs: int) -> None:
    x = nt.Variable(np.ones(shape))
    with nt.GradientTape() as tape:
        y = (x * x)[:, :outs]
    assert tape.batch_jacobian(y, x).shape == (shape[0], outs, shape[1])


# ---- use of the tape --------------------------------------------------------------------------------------------


def test_P02_J17_a_plain_tape_gives_one() -> None:
    x = nt.Variable([[1.0, 2.0]])
    calls: list[Callable[[nt.GradientTape, Any], Any]] = [
        lambda tape, y: tape.gradient(y, x),
        lambda tape, y: tape.jacobian(y, x),
        lambda tape, y: tape.batch_jacobian(y, x),
    ]
    for first in calls:
        for second in calls:
            with nt.GradientTape() as tape:
                y = x * x
            assert first(tape, y) is not None
            with pytest.raises(RuntimeError, match="persistent"):
                second(tape, y)


@pytest.mark.parametrize("persistent", [False, True])
def test_J17_within_the_block(persistent: bool) -> None:
    x = nt.Variable([1.0, 2.0])
    with nt.GradientTape(persistent=persistent) as tape:
        y = x * x
        same(tape.jacobian(y, x), [[2.0, 0.0], [0.0, 4.0]])


def test_E16_one_by_one_needs_a_persistent_tape() -> None:
    x = nt.Variable([[1.0, 2.0]])
    with nt.GradientTape() as tape:
        y = x * x
    with pytest.raises(RuntimeError, match="persistent"):
        tape.jacobian(y, x, experimental_use_pfor=False)
    with pytest.raises(RuntimeError, match="persistent"):
        tape.batch_jacobian(y, x, experimental_use_pfor=False)
    same(tape.batch_jacobian(y, x), [[[2.0, 0.0], [0.0, 4.0]]])


@pytest.mark.parametrize(("chunk", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_parallel_iterations_is_a_number_of_rows(chunk: Any, error: Any) -> None:
    x = nt.Variable([[1.0, 2.0]])
    with nt.GradientTape() as tape:
        y = x * x
    for call in (tape.jacobian, tape.batch_jacobian):
        with pytest.raises(error, match="parallel_iterations"):
            call(y, x, parallel_iterations=chunk)


def test_J16_rows_of_an_embedding() -> None:
    table = nt.Variable(np.zeros((4, 2)))
    with nt.GradientTape() as tape:
        y = nt.gather(table, [2, 0, 2])
    expected = np.zeros((3, 2, 4, 2))
    for k, row in enumerate([2, 0, 2]):
        expected[k, :, row] = np.eye(2)
    same(tape.jacobian(y, table), expected)


def test_on_the_record_of_another_thread() -> None:
    x = nt.Variable([1.0, 2.0])
    with nt.GradientTape(persistent=True) as tape:
        y = x * x
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(tape.jacobian(y, x).numpy()))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(results[0], [[2.0, 0.0], [0.0, 4.0]])
    same(tape.jacobian(y, x), [[2.0, 0.0], [0.0, 4.0]])


def test_repeated_steps_derive_and_compile_nothing() -> None:
    x = nt.Variable(RNG.normal(size=(2, 3)))

    def step() -> Any:
        with nt.GradientTape() as tape:
            y = nt.tanh(x)
        return tape.jacobian(y, x).numpy()

    before = step()
    programs = COUNTERS.programs
    x.assign(x * 2.0)
    after = step()
    step()
    assert COUNTERS.programs == programs + 1  # that of the assignment
    assert not np.array_equal(before, after)


# ---- custom gradients -------------------------------------------------------------------------------------------


def test_a_custom_gradient_is_called_once() -> None:
    calls = []

    @nt.custom_gradient
    def doubled(x: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            calls.append(upstream.shape)
            return 2.0 * upstream * nt.cos(x)

        return nt.sin(x), gradient

    x = nt.Variable([0.5, 1.0], dtype=nt.float64)
    with nt.GradientTape() as tape:
        y = nt.cumsum(doubled(x * x))
    u = x.numpy()
    same(tape.jacobian(y, x), np.tril(np.ones((2, 2))) * 2 * np.cos(u**2) * 2 * u, 1e-12)
    assert calls == [(2,)]


def test_a_custom_gradient_right_at_the_target() -> None:
    @nt.custom_gradient
    def same_value(x: Any) -> Any:
        return x * 1.0, lambda upstream: 3.0 * upstream

    x = nt.Variable([0.5, 1.0])
    with nt.GradientTape() as outer:
        with nt.GradientTape() as tape:
            y = same_value(x)
        j = tape.jacobian(y, x)
    same(j, 3.0 * np.eye(2))
    same(outer.gradient(j, x), None)


def test_E17_a_custom_gradient_that_looks_at_elements() -> None:
    @nt.custom_gradient
    def odd(x: Any) -> Any:
        return x * 2.0, lambda upstream: upstream * (5.0 if float(upstream[0]) > 0 else 7.0)

    x = nt.Variable([0.5, 1.0])
    with nt.GradientTape(persistent=True) as tape:
        y = odd(x) * 1.0
    for call in (tape.jacobian, lambda y, x: tape.jacobian(y, {"x": x}, parallel_iterations=1)):
        with pytest.raises(ValueError, match="experimental_use_pfor=False"):
            call(y, x)
    same(tape.jacobian(y, x, experimental_use_pfor=False), [[5.0, 0.0], [0.0, 7.0]])
    with nt.GradientTape() as plain:
        y = odd(x)
    with pytest.raises(ValueError, match="experimental_use_pfor=False"):
        plain.jacobian(y, x)


def test_E17_a_custom_gradient_that_stops_an_outer_tape() -> None:
    outer = nt.GradientTape()

    @nt.custom_gradient
    def cubed(x: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            with outer.stop_recording():
                unseen = upstream * x
            return 3.0 * unseen * x

        return x**3, gradient

    x = nt.Variable([0.5, 1.0])
    with outer:
        with nt.GradientTape() as tape:
            y = cubed(x)
        with pytest.raises(ValueError, match="experimental_use_pfor=False"):
            tape.jacobian(y, x)
