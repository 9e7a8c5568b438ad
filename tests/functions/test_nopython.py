"""Functions called from nopython code and from C: the same results, at every call, in every thread."""

from __future__ import annotations

import ctypes
import gc
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from numba import prange
from numba.core.errors import NumbaWarning, TypingError

import numtape as nt

RNG = np.random.default_rng(0)


@nt.function
def weighted(x, w):
    return nt.reduce_sum(w * x**3)


def test_values_and_gradients_from_nopython_code():
    x, w = RNG.normal(size=(3, 2)), RNG.normal(size=2)
    g = weighted.njit(x, w)
    both = g.value_and_gradient

    @numba.njit
    def run(x, w):
        return g(x, w), both(x, w)

    value, (again, (by_x, by_w)) = run(x, w)
    assert type(value) is float and value == again
    np.testing.assert_allclose(value, np.sum(w * x**3))
    np.testing.assert_allclose(by_x, 3 * w * x**2)
    np.testing.assert_allclose(by_w, np.sum(x**3, 0))
    assert g(x, w) == value  # Python may call, too
    assert g.value_and_gradient is both


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("float32", ()),
        ("float64", (0,)),
        ("int8", (2, 3, 1)),
        ("int64", ()),
        ("uint16", (2, 0, 3)),
        ("bool", ()),
        ("bool", (3,)),
    ],
)
def test_every_kind_goes_in_and_comes_out(dtype, shape):
    x = RNG.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
    g = nt.function(lambda x: (nt.identity(x), nt.stack([x, x]))).njit(x)
    one, two = numba.njit(lambda x: g(x))(x)
    assert np.shape(one) == shape and two.shape == (2, *shape) and two.dtype == dtype
    np.testing.assert_array_equal(one, x)
    np.testing.assert_array_equal(two, np.stack([x, x]))


def test_numbers_are_arguments_of_rank_0():
    f = nt.function(lambda x, k, b: nt.where(b, x * nt.cast(k, nt.float32), 0.0))
    g = f.njit(np.float32(0), np.int8(0), np.bool_(0))
    assert numba.njit(lambda: g(1.5, 3, True))() == 4.5
    assert g(np.float32(1.5), np.int8(3), False) == 0.0
    assert g(1, True, True) == 1.0
    assert g.value_and_gradient(1.5, 3, True) == (4.5, 3.0)
    with pytest.raises(ValueError, match="argument 1 is out of range for int8"):
        g(1.5, 300, True)
    with pytest.raises(TypingError, match="argument 1 has to be int8 of shape"):
        g(1.5, 3.0, True)


def test_results_are_nested_and_new():
    x, v = np.array([1.0, 2.0]), nt.Variable(np.array([5.0, 6.0]))

    @nt.function
    def f(x):
        y = x * 2
        return {"b": [y, y], "a": (x, v), "c": 3.0}

    g = f.njit(x)
    found = numba.njit(lambda x: g(x))(x)
    (b0, b1), (a0, a1), c = found
    np.testing.assert_array_equal([b0, b1, a0, a1], [[2, 4], [2, 4], [1, 2], [5, 6]])
    assert c == 3.0
    for array in (b0, b1, a0, a1):
        array[:] = -1  # nobody else's
    np.testing.assert_array_equal(x, [1, 2])
    np.testing.assert_array_equal(v.numpy(), [5, 6])
    np.testing.assert_array_equal(g(x)[0][1], [2, 4])
    np.testing.assert_array_equal(b0, [-1, -1])


def test_without_arguments_or_results():
    v = nt.Variable(0)
    g = nt.function(lambda: nt.constant(7)).njit()
    assert g() == 7

    @nt.function
    def count():
        v.assign_add(1)
        return ()

    g = count.njit()
    assert numba.njit(lambda: g())() == ()
    assert int(v) == 1


def test_kinds_from_tensors_specs_and_signatures():
    f = nt.function(lambda x: x + 1, input_signature=[nt.TensorSpec([2])])
    for g in (f.njit(), f.njit(nt.zeros([2])), f.njit(nt.TensorSpec([2])), f.njit(np.zeros(2, np.float32))):
        np.testing.assert_array_equal(g(np.zeros(2, np.float32)), [1, 1])
    for bad in ([1.0, 2.0], 3.0, nt.TensorSpec([None])):
        with pytest.raises(TypeError, match="njit takes arrays"):
            nt.function(lambda x: x).njit(bad)
    with pytest.raises(TypeError, match="njit takes an example of each argument; missing a required argument: 'x'"):
        nt.function(lambda x: x).njit()


def test_wrong_arguments():
    g = weighted.njit(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(ValueError, match=r"argument 0 has another shape than \(3, 2\)"):
        numba.njit(lambda x, w: g(x, w))(np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(TypingError, match=r"argument 1 has to be float64 of shape \(2,\), not array\(float32"):
        g(np.zeros((3, 2)), np.zeros(2, np.float32))
    with pytest.raises(TypingError, match="argument 0 has to be"):
        g(np.zeros(6), np.zeros(2))
    with pytest.raises(TypeError):
        g(np.zeros((3, 2)))


def test_arrays_of_any_layout():
    x, w = RNG.normal(size=(3, 2)), RNG.normal(size=4)
    g = weighted.njit(x, w[:2])
    for given in (np.asfortranarray(x), np.repeat(x, 2, 0)[::2], x[::-1]):
        np.testing.assert_allclose(g(given, w[::2]), np.sum(w[::2] * given**3))
    x.flags.writeable = False
    np.testing.assert_allclose(g(x, w[2:]), np.sum(w[2:] * x**3))


def test_what_cannot_be_bound_or_has_no_gradient():
    with pytest.raises(ValueError, match=r"looks at a value at .*test_nopython.py:\d+"):
        nt.function(lambda x: x if x > 0 else -x).njit(np.float64(1))
    with pytest.raises(ValueError, match=r"only a single float has a gradient, and the function returned float64\[2\]"):
        nt.function(lambda x: x * 2).njit(np.zeros(2)).value_and_gradient
    with pytest.raises(ValueError, match="no path leads"):
        nt.function(lambda x: nt.constant(1.0)).njit(np.zeros(2)).value_and_gradient
    with pytest.raises(ValueError, match="no path leads"):
        nt.function(lambda k: nt.cast(k, nt.float32)).njit(np.int32(2)).value_and_gradient


def test_gradients_are_zeros_where_an_argument_does_not_matter_and_dense_where_rows_are_gathered():
    x, y = RNG.normal(size=(4, 2)), np.zeros(3, np.float32)
    f = nt.function(lambda x, y, k: nt.reduce_sum(nt.gather(x, k) ** 2))
    k = np.array([2, 2])
    _, (by_x, by_y) = f.njit(x, y, k).value_and_gradient(x, y, k)
    np.testing.assert_allclose(by_x, [[0, 0], [0, 0], 4 * x[2], [0, 0]])
    np.testing.assert_array_equal(by_y, [0, 0, 0])
    assert by_y.dtype == np.float32


def test_passed_as_an_argument_or_called_through_a_method():
    class Model:
        def __init__(self):
            self.w = nt.Variable([2.0, 3.0])

        @nt.function
        def score(self, x):
            return nt.reduce_sum(self.w * x)

    model = Model()
    g = model.score.njit(np.zeros(2, np.float32))
    assert numba.njit(lambda f, x: f(x))(g, np.ones(2, np.float32)) == 5.0


# ---- what a function captures --------------------------------------------------------------------------------------


def test_variables_are_read_at_each_call():
    v = nt.Variable(np.array([1.0, 2.0]))
    g = nt.function(lambda x: nt.reduce_sum(v * x)).njit(np.zeros(2))
    total = numba.njit(lambda x: g(x))
    x = np.ones(2)
    assert total(x) == 3.0
    v.assign([10.0, 20.0])
    assert total(x) == 30.0
    v.assign(v * 2)  # pending
    assert total(x) == 60.0
    with nt.GradientTape() as tape:
        y = v * v
        v.assign(v + 1)
        assert total(x) == 62.0
        v.assign(nt.zeros([2], nt.float64))
        assert total(x) == 0.0
        v.assign_add([1.0, 2.0])
        assert total(x) == 3.0
    np.testing.assert_array_equal(tape.gradient(y, v), [40, 80])
    v[:1].assign([5.0])
    assert total(x) == 7.0


def test_variables_assigned_in_the_middle_of_nopython_code():
    v = nt.Variable(1.0)
    g = nt.function(lambda: v * 1.0).njit()

    @numba.njit
    def run(n):
        found = np.empty(n)
        for k in range(n):
            found[k] = g()
            with numba.objmode():
                if k % 2:
                    v.assign_add(1.0)
                else:
                    v.assign(10.0 * k)
        return found

    np.testing.assert_array_equal(run(5), [1, 0, 1, 20, 21])


def test_variables_assigned_by_a_replayed_function_and_by_another_thread():
    v, x = nt.Variable(1.0), nt.Variable(1.0)

    @nt.function
    def put(value):
        if value > 0:
            v.assign(nt.cast(3.0, nt.float32))
        return value

    g = nt.function(lambda: v * 1.0).njit()
    assert g() == 1.0
    put(nt.constant(1.0))
    assert g() == 3.0
    x * v  # something that this thread has taken in already
    assert g() == 3.0
    thread = threading.Thread(target=lambda: v.assign(x * 5.0))
    thread.start()
    thread.join()
    assert g() == 5.0


def test_variables_are_changed_in_place_and_values_that_somebody_holds_are_not():
    v = nt.Variable(np.zeros(2))

    @nt.function
    def step(x):
        v.assign_add(x)
        return nt.reduce_sum(v), v.value()

    g, x = step.njit(np.zeros(2)), np.array([1.0, 2.0])
    loop = numba.njit(lambda x, n: [g(x)[0] for _ in range(n)])
    assert loop(x, 3) == [3.0, 6.0, 9.0]
    held = v.value()
    pending = v * 2
    assert loop(x, 1) == [12.0]
    np.testing.assert_array_equal(held, [3, 6])
    np.testing.assert_array_equal(pending, [6, 12])
    bound = step.bind(x)
    for k in range(5, 25, 5):  # all ways to call it see each other's changes
        total, value = g(x)
        assert total == 3 * k
        np.testing.assert_array_equal(value, [k, 2 * k])
        total, value = bound()
        assert total == 3 * (k + 1)
        np.testing.assert_array_equal(value, [k + 1, 2 * (k + 1)])
        assert float(step(x)[0]) == 3 * (k + 2)
        v.assign_add(x)
        kept = v.value()
        assert g(x)[0] == 3 * (k + 4)
        np.testing.assert_array_equal(kept, [k + 3, 2 * (k + 3)])
        np.testing.assert_array_equal(v.numpy(), [k + 4, 2 * (k + 4)])


def test_a_tape_that_is_recording_sees_nothing_of_changes():
    v = nt.Variable(2.0)

    @nt.function
    def step():
        v.assign_add(1.0)
        return v * 1.0

    g = step.njit()
    with nt.GradientTape() as tape:
        y = v * v
        assert [g(), g()] == [3.0, 4.0]
        z = v * v
        assert g() == 5.0
    assert (float(y), float(z), float(v)) == (4.0, 16.0, 5.0)
    assert float(tape.gradient([y, z], v)) == 12.0


def test_an_optimizer_in_nopython_code_trains_as_in_python():
    x, y = RNG.normal(size=(16, 3)).astype(np.float32), RNG.normal(size=(16, 1)).astype(np.float32)

    def make():
        w = nt.Variable(np.zeros((3, 1), np.float32))
        optimizer = nt.keras.optimizers.Adam(0.1)

        @nt.function
        def step(x, y):
            with nt.GradientTape() as tape:
                loss = nt.reduce_mean((x @ w - y) ** 2)
            optimizer.apply_gradients(zip(tape.gradient(loss, [w]), [w], strict=True))
            return loss

        return step, w

    step, w = make()
    expected = [float(step(x, y)) for _ in range(20)]
    other, u = make()
    g = other.njit(x, y)

    @numba.njit
    def train(x, y, n):
        return [g(x, y) for _ in range(n)]

    losses = train(x, y, 7)
    losses += [float(other(x, y)) for _ in range(6)]
    losses += train(x, y, 7)
    np.testing.assert_array_equal(np.float32(losses), np.float32(expected))
    np.testing.assert_array_equal(u.numpy(), w.numpy())


def test_captured_arrays_are_read_as_they_are():
    whole = np.arange(8.0)
    x = np.ones(4, np.float32)

    def check(captured):
        f = nt.function(lambda x: nt.reduce_sum(nt.cast(x, nt.float32) * captured))
        g, bound = f.njit(x), f.bind(x)
        for k in range(3):
            captured[:] = [k, 1, 2, 3]
            assert g(x) == bound() == k + 6

    check(np.zeros(4, np.float32))
    check(whole[:4])  # converted each time
    check(whole.astype(np.float32)[::2])


def test_random_numbers_are_drawn_at_each_call():
    f = nt.function(lambda: nt.random.uniform([3]))
    g = f.njit()
    nt.random.set_seed(1)
    expected = [f().numpy() for _ in range(3)]
    nt.random.set_seed(1)
    found = numba.njit(lambda: [g(), g(), g()])()
    np.testing.assert_array_equal(found, expected)


# ---- threads -------------------------------------------------------------------------------------------------------


def test_parallel_loops():
    x = RNG.normal(size=(200, 5))
    scale = nt.Variable(np.ones(5))
    g = nt.function(lambda x: nt.reduce_sum(nt.exp(scale * x))).njit(x[0]).value_and_gradient

    @numba.njit(parallel=True)
    def run(x):
        values, gradients = np.empty(len(x)), np.empty_like(x)
        for k in prange(len(x)):
            values[k], gradients[k] = g(x[k])
        return values, gradients

    for k in (1.0, 2.0):
        scale.assign(np.full(5, k))
        values, gradients = run(x)
        np.testing.assert_allclose(values, np.exp(k * x).sum(1))
        np.testing.assert_allclose(gradients, k * np.exp(k * x))


@pytest.mark.parametrize("nogil", [False, True])
def test_threads_that_change_a_variable_wait_for_each_other(nogil):
    v, noise = nt.Variable(0), nt.Variable(0.0)

    @nt.function
    def count(k):
        v.assign_add(k)
        return v + 0

    g = count.njit(np.int32(1))

    @numba.njit(nogil=nogil)
    def run(n):
        last = 0
        for _ in range(n):
            now = g(1)
            if now <= last:
                raise ValueError("a call that began later ended earlier")
            last = now

    run(1)

    def work():
        for _ in range(20):
            noise.assign(noise * 0.5)  # has the next call ask Python
            run(100)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    assert int(v) == 8001


# ---- addresses -----------------------------------------------------------------------------------------------------


def test_a_pointer_for_c():
    x, w = RNG.normal(size=(3, 2)), RNG.normal(size=2)
    g = weighted.njit(x, w).value_and_gradient
    value, by_x, by_w = np.empty(()), np.empty((3, 2)), np.empty(2)
    arguments = (ctypes.c_void_p * 2)(x.ctypes.data, w.ctypes.data)
    results = (ctypes.c_void_p * 3)(value.ctypes.data, by_x.ctypes.data, by_w.ctypes.data)
    assert g.ctypes(arguments, results) == 0
    np.testing.assert_allclose(value, np.sum(w * x**3))
    np.testing.assert_allclose(by_x, 3 * w * x**2)
    np.testing.assert_allclose(by_w, np.sum(x**3, 0))
    assert ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)(g.address)(arguments, results) == 0


def test_code_that_was_compiled_outlives_the_function():
    def compiled():
        v = nt.Variable([1.0, 2.0])
        g = nt.function(lambda: nt.reduce_sum(v)).njit()
        return g.ctypes

    pointer, value = compiled(), ctypes.c_float()
    gc.collect()
    assert pointer(None, (ctypes.c_void_p * 1)(ctypes.addressof(value))) == 0
    assert value.value == 3.0


def test_code_with_addresses_is_not_cached(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    names = {"g": nt.function(lambda x: x + 1).njit(np.float64(0)), "numba": numba}
    (tmp_path / "run.py").write_text("@numba.njit(cache=True)\ndef run(x): return g(x)")
    exec(compile((tmp_path / "run.py").read_text(), tmp_path / "run.py", "exec"), names)
    with pytest.warns(NumbaWarning, match="Cannot cache"):
        assert names["run"](1.0) == 2.0
    with pytest.raises(TypeError, match="an address in this process"):
        pickle.dumps(names["g"])


def test_long_loops():
    f = nt.function(lambda x: [x := nt.sin(x[::-1]) * 0.9 for _ in range(30)][-1])
    x = np.array([1.0, 0.5, 0.2])
    np.testing.assert_allclose(f.njit(x)(x), f(x).numpy(), rtol=1e-12)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_error_in_python_ends_the_call():

    captured = np.ones((2, 2))[:, 0]
    g = nt.function(lambda: nt.reduce_sum(captured)).njit()
    assert g() == 2.0
    captured.shape = (2, 1)
    with pytest.raises(RuntimeError, match="could not be read"):
        g()
    captured.shape = (2,)
    assert g() == 2.0  # and the slot is free again
