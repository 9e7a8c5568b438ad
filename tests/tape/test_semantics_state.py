"""Control flow, state and dtypes: rows C, V and D of the semantics."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import numtape as nt
from tests.tape.checks import difference, gradient, same

# ---- C -------------------------------------------------------------------------------------------------------------


def test_C01_only_the_taken_branch() -> None:
    def f(x: nt.Tensor) -> nt.Tensor:
        return x * x if x > 0 else -3.0 * x

    for value, slope in ((2.0, 4.0), (-2.0, -3.0), (3.0, 6.0), (-1.0, -3.0)):
        same(gradient(f, value), slope)


def test_C02_while_with_a_tensor_condition() -> None:
    x = nt.constant(np.float64(7.0))
    with nt.GradientTape() as t:
        t.watch(x)
        y = x / 2.0
        steps = 0
        while nt.abs(y * y - x) > 1e-12:
            y = (y + x / y) / 2.0
            steps += 1
    same(t.gradient(y, x), 1 / (2 * np.sqrt(7.0)))
    assert 3 < steps < 20


def test_C03_different_trip_counts() -> None:
    x = nt.Variable(2.0)
    for n in (3, 1, 5, 3, 2):
        with nt.GradientTape() as t:
            y = nt.constant(1.0)
            for _ in range(n):
                y = y * x
        same(t.gradient(y, x), n * 2.0 ** (n - 1))


def test_C04_python_reads_scalars() -> None:
    x = nt.constant(-2.5)
    assert (float(x), int(x), bool(x), abs(x).numpy(), round(float(x))) == (-2.5, -2, True, 2.5, -2)
    assert max([nt.constant(1.0), nt.constant(3.0), nt.constant(2.0)]).numpy() == 3.0
    assert list(range(nt.constant(3))) == [0, 1, 2]
    assert [10, 20, 30][nt.constant(1)] == 20
    assert f"{x:.1f}" == "-2.5"
    with pytest.raises(TypeError, match="index"):
        [1, 2][x]
    with pytest.raises(ValueError, match="ambiguous"):
        bool(nt.constant([1.0, 2.0]))
    with pytest.raises(ValueError, match="single"):
        float(nt.constant([1.0, 2.0]))


def test_C05_python_numbers_belong_to_one_recording() -> None:
    x = nt.Variable(3.0)
    before = nt.cache.stats().programs
    for c in (1.0, 2.0, -4.5, 0.0, float("inf"), 1e-30):
        with nt.GradientTape() as t:
            y = c * x
        same(t.gradient(y, x), np.float32(c))
    assert nt.cache.stats().programs - before <= 1


def test_C05_integers_of_any_size() -> None:
    x = nt.Variable(3.0)
    for c in (0, 1, -1, 127, 128, -128, -129, 1000, 2**31, 2**63, 2**64, -(2**70), 10**30):
        with nt.GradientTape() as t:
            y = c * x
        same(t.gradient(y, x), np.float32(c))


def test_C06_one_variable_at_many_steps() -> None:
    rng = np.random.default_rng(0)
    w, h, xs = rng.normal(size=(3, 3)) / 3, rng.normal(size=(3,)), rng.normal(size=(5, 3))

    def f(m: object, w: object, h: object) -> object:
        for x in xs:
            h = m.tanh(x + m.reduce_sum(w * h, axis=1) if m is nt else x + (w * h).sum(axis=1))  # type: ignore[attr-defined]
        return m.reduce_sum(h * h) if m is nt else (h * h).sum()  # type: ignore[attr-defined]

    found = gradient(lambda w, h: f(nt, w, h), w, h)
    same(found, difference(lambda w, h: f(np, w, h), w, h), 1e-6, 1e-9)


def test_C07_linear_in_ops_not_in_paths() -> None:
    x = nt.Variable(1.0)
    with nt.GradientTape() as t:
        y = x * 1.0
        for _ in range(40):
            y = y + y
    same(t.gradient(y, x), 2.0**40)


def test_C08_depth_is_not_bounded_by_recursion() -> None:
    x = nt.Variable(np.float64(1.0))
    with nt.GradientTape() as t:
        y = x * 1.0
        for _ in range(1500):
            y = y * 1.001
    same(t.gradient(y, x), 1.001**1500, rtol=1e-12)


def test_C09_predicates_are_invisible() -> None:
    x = nt.constant(3.0)
    v = nt.Variable(2.0)
    with nt.GradientTape() as t:
        t.watch(x)
        y = v * 2.0 if x > 0 else v * 3.0
    same(t.gradient(y, [x, v]), [None, 2.0])


def test_C10_any_python() -> None:
    x = nt.Variable(2.0)

    def powers(n: int) -> object:
        y = x * 1.0
        for _ in range(n):
            yield y
            y = y * x

    with nt.GradientTape() as t:
        states = dict(enumerate(powers(4)))
        try:
            raise ValueError
        except ValueError:
            total = sum(states.values())
        total = (lambda: total * states[0])()
    # (x + x^2 + x^3 + x^4) x
    same(t.gradient(total, x), 2 * 2 + 3 * 4 + 4 * 8 + 5 * 16)


def test_C11_a_tape_in_a_loop() -> None:
    v = nt.Variable(3.0)
    assert (v * v).numpy() == 9.0
    for _ in range(3):
        with nt.GradientTape() as t:
            y = v * v
        same(t.gradient(y, v), 6.0)


UNSELECTED = {
    # f, its derivative at 4, and the gradient at 0 where f is not selected: the slope is infinite there
    "sqrt": (nt.sqrt, 0.25, 0.0),
    "rsqrt": (nt.math.rsqrt, -1 / 16, 0.0),
    "reciprocal": (nt.math.reciprocal, -1 / 16, 0.0),
    "log": (nt.math.log, 0.25, np.nan),
    "division": (lambda x: 1 / x, -1 / 16, np.nan),
}


@pytest.mark.parametrize("name", UNSELECTED)
def test_C12_where_runs_both_branches(name: str) -> None:
    f, slope, unselected = UNSELECTED[name]
    x = nt.Variable([0.0, 4.0])
    with nt.GradientTape(persistent=True) as t:
        naive = nt.where(x > 0, f(x), 0.0)
        guarded = nt.where(x > 0, f(nt.where(x > 0, x, 1.0)), 0.0)
    same(t.gradient(naive, x), [unselected, slope])
    same(t.gradient(guarded, x), [0.0, slope])


@pytest.mark.parametrize("name", ["sqrt", "rsqrt", "reciprocal"])
def test_C12_a_gradient_of_zero_stays_linear_in_its_weights(name: str) -> None:
    f, slope, _ = UNSELECTED[name]
    x, weights = nt.constant(4.0), nt.constant([0.0, 2.0])
    with nt.GradientTape() as outer:
        outer.watch(weights)
        with nt.GradientTape() as inner:
            inner.watch(x)
            y = f(x) * nt.ones(2)
        g = inner.gradient(y, x, output_gradients=weights)
    same(g, 2 * slope)
    same(outer.gradient(g, weights), [slope, slope])


def test_C13_rows_of_a_tensor() -> None:
    x = nt.constant([[1.0, 2.0], [3.0, 4.0]])
    with nt.GradientTape() as t:
        t.watch(x)
        a, b = x
        y = nt.reduce_sum(a * b)
    same(t.gradient(y, x), [[3.0, 4.0], [1.0, 2.0]])


# ---- V -------------------------------------------------------------------------------------------------------------


def test_V01_only_the_current_state_counts() -> None:
    straight, detour = nt.Variable([2.0, 3.0]), nt.Variable([0.0, 0.0])
    with nt.GradientTape(persistent=True) as t:
        detour.assign([5.0, 5.0])
        detour.assign_sub(detour * 0.5)
        detour.assign_add([-0.5, 0.5])
        y = [nt.reduce_sum(v**3) for v in (straight, detour)]
    same(detour, straight.numpy())
    same(t.gradient(y[0], straight), [12.0, 27.0])
    same(t.gradient(y[1], detour), [12.0, 27.0])


def test_N04_V02_replaced_by_a_tensor() -> None:
    x = nt.Variable(2.0)
    found = []
    for _ in range(2):
        with nt.GradientTape() as t:
            y = x + 1
        found.append(t.gradient(y, x))
        x = x + 1
    same(found, [1.0, None])


def test_V03_operators_in_place_are_refused() -> None:
    v = nt.Variable(2.0)
    for operator in ("+", "-", "*", "/", "//", "%", "**", "@"):
        with pytest.raises(RuntimeError, match="assign_add"):
            exec(f"v {operator}= 1.0", {"v": v})
    same(v, 2.0)


def test_V04_a_snapshot() -> None:
    v = nt.Variable([1.0, 2.0])
    taken = [nt.convert_to_tensor(v), v.read_value(), v.value(), nt.identity(v), nt.reshape(v, (2,)), v + 0.0]
    rows = nt.reshape(v, (2, 1))
    v.assign_add([10.0, 10.0])
    v.assign_sub([1.0, 1.0])
    for snapshot in taken:
        same(snapshot, [1.0, 2.0])
    same(rows, [[1.0], [2.0]])
    same(v, [10.0, 11.0])


def test_V05_assigning_cuts_history() -> None:
    x, v = nt.Variable(3.0), nt.Variable(1.0)
    with nt.GradientTape() as t:
        v.assign(x * 2.0)
        y = v * v
    same(t.gradient(y, [x, v]), [None, 12.0])


def test_V06_assigning_after_a_read_changes_nothing_recorded() -> None:
    v = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = v * v
        v.assign(100.0)
    same(t.gradient(y, v), 6.0)
    same(y, 9.0)
    same(v, 100.0)


@pytest.mark.parametrize("look", ["before", "between", "after"])
@pytest.mark.parametrize("size", [1, 1000])
def test_V07_updates_in_place_never_touch_what_a_record_needs(look: str, size: int) -> None:
    v = nt.Variable(np.arange(float(size)))
    with nt.GradientTape(persistent=True) as t:
        y = v * v
        if look == "before":
            y.numpy()
        v.assign_add(np.full(size, 5.0))
        if look == "between":
            v.numpy()
        v.assign_add(np.full(size, 5.0))
        if look == "after":
            v.numpy()
        z = v * v
    same(t.gradient(y, v), 2 * np.arange(float(size)))
    v.assign_add(np.full(size, 5.0))
    v.numpy()
    same(t.gradient(z, v), 2 * (np.arange(float(size)) + 10))
    same(t.gradient([y, z], v), 4 * np.arange(float(size)) + 20)
    same(v, np.arange(float(size)) + 15)


def test_V07_two_losses_on_one_tape_with_a_step_between() -> None:
    v = nt.Variable([1.0, 2.0, 3.0])
    optimizer = nt.keras.optimizers.SGD(0.5, momentum=0.9)
    with nt.GradientTape(persistent=True) as t:
        y, z = v * v, v * v * v
    g = t.gradient(y, v)
    for _ in range(3):
        optimizer.apply_gradients([(g, v)])
        v.numpy()
        same(t.gradient(z, v), [3.0, 12.0, 27.0])
        same(t.gradient(y, v), [2.0, 4.0, 6.0])
    same(g, [2.0, 4.0, 6.0])


def test_V08_assigned_from_itself() -> None:
    v, x = nt.Variable(3.0), nt.Variable(2.0)
    with nt.GradientTape() as t:
        v.assign(v * x)
        y = v * v
    same(t.gradient(y, [v, x]), [12.0, None])


def test_V09_assign_add_stops_the_gradient() -> None:
    x0, x1 = nt.Variable(3.0), nt.Variable(0.0)
    with nt.GradientTape() as t:
        x1.assign_add(x0)
        y = x1**2
    same(t.gradient(y, [x0, x1]), [None, 6.0])


def test_V10_assigning_keeps_dtype_and_shape() -> None:
    v = nt.Variable([0.0, 0.0])
    for value in ([1, 2], (1, 2), np.array([1, 2]), np.array([1.0, 2.0]), [1.0, 2], [nt.constant(1.0), 2.0]):
        found = v.assign(value)
        assert found is v
        assert v.dtype is nt.float32
        same(v, [1.0, 2.0])
    same(v.assign_add([1, 1]), [2.0, 3.0])
    same(v.assign_sub(np.array([1.0, 1.0])), [1.0, 2.0])
    same(v.assign_add(nt.constant([1.0, 1.0])) * 2.0, [4.0, 6.0])
    n = nt.Variable(1)
    same(n.assign_add(2), 3)
    assert n.dtype is nt.int32
    with pytest.raises(TypeError):
        n.assign(1.5)
    with pytest.raises(TypeError):
        n.assign_add(1.5)
    same(n, 3)


def test_V11_variables_share_nothing() -> None:
    array = np.array([1.0, 2.0])
    a = nt.Variable(array)
    b = nt.Variable(a)
    c = nt.Variable(a.value())
    array[:] = 100.0
    a.numpy()[:] = 100.0
    a.assign_add([5.0, 5.0])
    b.assign_add([7.0, 7.0])
    same([a, b, c], [[6.0, 7.0], [8.0, 9.0], [1.0, 2.0]])
    c.assign(a)
    a.assign_add([1.0, 1.0])
    same([a, c], [[7.0, 8.0], [6.0, 7.0]])


def test_V11_swapped() -> None:
    a, b = nt.Variable([1.0, 2.0]), nt.Variable([3.0, 4.0])
    for _ in range(3):
        old = a.value()
        a.assign(b)
        b.assign(old)
    same([a, b], [[3.0, 4.0], [1.0, 2.0]])


def test_V12_tensors_never_change() -> None:
    array = np.array([1.0, 2.0], np.float32)
    x = nt.constant(array)
    y = nt.constant(1.0) + array
    z = x * array
    array[:] = 100.0
    x.numpy()[:] = 100.0
    np.asarray(x)[:] = 100.0
    same([x, y, z], [[1.0, 2.0], [2.0, 3.0], [1.0, 4.0]])
    with pytest.raises(TypeError, match="never change"):
        x[0] = 3.0
    with pytest.raises(TypeError, match="assign"):
        nt.Variable([1.0])[0] = 3.0


def test_V12_an_array_refilled_in_a_loop() -> None:
    batch = np.zeros(3, np.float32)
    v = nt.Variable(np.zeros(3, np.float32))
    kept = []
    for k in range(6):
        batch[:] = k
        v.assign_add(batch)
        kept.append(nt.constant(batch) * 2.0)
        batch[:] = -1000.0
    same(v, [15.0] * 3)
    same(kept, [[2.0 * k] * 3 for k in range(6)])


def test_V13_a_manual_loop_like_numpy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 4)), rng.normal(size=20)
    w = nt.Variable(np.zeros(4))
    right = np.zeros(4)
    for _ in range(50):
        with nt.GradientTape() as t:
            loss = nt.reduce_mean((nt.constant(a) @ nt.reshape(w, (4, 1)) - b[:, None]) ** 2)
        w.assign_sub(0.1 * t.gradient(loss, w))
        right -= 0.1 * (2 / 20) * a.T @ (a @ right - b)
    same(w, right, 1e-11)


def test_V14_what_assign_returns_is_read() -> None:
    v = nt.Variable(1.0)
    with nt.GradientTape() as t:
        y = v.assign(4.0) * 3.0
    same(y, 12.0)
    same(t.gradient(y, v), 3.0)


def test_V15_reads_before_and_after() -> None:
    v = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = v * v
        v.assign(5.0)
        z = y + v
    same(z, 14.0)
    same(t.gradient(z, v), 7.0)


def test_V16_names() -> None:
    a, b = nt.Variable(1.0, name="Mark"), nt.Variable(2.0, name="Mark")
    assert a.name == b.name == "Mark:0"
    assert nt.Variable(1.0).name == "Variable:0"
    with pytest.raises(ValueError, match="name"):
        nt.Variable(1.0, name="not a name")


def test_V17_comparison_is_elementwise() -> None:
    v, w = nt.Variable([1.0, 2.0]), nt.Variable([1.0, 3.0])
    same(v == w, [True, False])
    same(v != w, [False, True])
    same(nt.constant([1.0, 2.0]) == v, [True, True])
    for thing in (v, nt.constant(1.0)):
        with pytest.raises(TypeError, match="unhashable"):
            {thing: 1}
    assert {v.ref(): 1}[v.ref()] == 1
    assert v.ref().deref() is v
    assert v.ref() != w.ref()


def test_V18_integer_variables() -> None:
    n, v = nt.Variable(2), nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = nt.cast(n * n, nt.float32) * v
    assert [w.ref() for w in t.watched_variables()] == [n.ref(), v.ref()]
    same(t.gradient(y, [n, v]), [None, 4.0])


PARTS = {
    "slice": (np.s_[1:], [[9.0, 8.0, 7.0]]),
    "column, repeated": (np.s_[:, -1], 5.0),
    "element": ((1, 0), 4),
    "row of another dtype": (0, np.arange(3)),
    "backwards": (np.s_[::-1, ::2], [[1.0, 2.0], [3.0, 4.0]]),
    "new axis": (np.s_[None, 0], [[1.0, 2.0, 3.0]]),
    "everything": (..., 0.5),
    "nothing": (np.s_[2:], 0.5),
    "mask": (np.array([[True, False, True], [False, False, True]]), [1.0, 2.0, 3.0]),
    "index array": ([1, 0], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
}


@pytest.mark.parametrize("name", PARTS)
def test_V19_assigning_to_a_part(name: str) -> None:
    key, value = PARTS[name]
    start = np.array([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]], np.float32)
    right = start.copy()
    right[key] = value
    v = nt.Variable(start)
    before = v.value()
    assert v[key].assign(value) is v
    same(v, right)
    same(before, start)


def test_V19_a_part_is_state_and_has_no_gradient() -> None:
    v, x, scalar = nt.Variable([1.0, 2.0, 3.0]), nt.Variable(2.0), nt.Variable(1.0)
    with nt.GradientTape(persistent=True) as t:
        a = v * v
        v[1:].assign([x * 1, x * 2])
        y = v[nt.constant(2)].assign(x * 3) * v
    same(v, [1.0, 2.0, 6.0])
    same(t.gradient(a, v), [2.0, 4.0, 6.0])
    same(t.gradient(y, [v, x]), [[2.0, 4.0, 12.0], None])
    same(scalar[...].assign(3.0), 3.0)


def test_V19_parts_that_do_not_fit() -> None:
    v, n = nt.Variable([1.0, 2.0, 3.0]), nt.Variable([1, 2])
    for call, error in (
        (lambda: v[1:].assign([1.0, 2.0, 3.0]), ValueError),
        (lambda: v[5].assign(1.0), IndexError),
        (lambda: v[:2].assign(nt.constant([1, 2])), TypeError),
        (lambda: n[:1].assign([1.5]), TypeError),
        (lambda: v[1:][0].assign(1.0), AttributeError),
        (lambda: v.value().assign(1.0), AttributeError),
    ):
        with pytest.raises(error):
            call()
    same(v, [1.0, 2.0, 3.0])


def test_V_copies() -> None:
    v = nt.Variable([1.0, 2.0], trainable=False, name="v")
    for twin in (copy.deepcopy(v), pickle.loads(pickle.dumps(v))):
        assert (twin.trainable, twin.name, twin.dtype) == (False, "v:0", nt.float32)
        twin.assign_add([1.0, 1.0])
        same(v, [1.0, 2.0])
    x = nt.constant(2.0) * 3.0
    assert copy.deepcopy(x) is copy.copy(x) is x
    same(pickle.loads(pickle.dumps(x)), 6.0)
    same(pickle.loads(pickle.dumps(nt.constant([1, 2]))), [1, 2])


def test_V_initial_values() -> None:
    same(nt.Variable(lambda: nt.ones(2)), [1.0, 1.0])
    same(nt.Variable([nt.constant(1.0), 2.0]), [1.0, 2.0])
    assert nt.Variable(1, dtype=nt.float64).dtype is nt.float64
    with pytest.raises(ValueError, match="cast"):
        nt.Variable(nt.constant(1.0), dtype=nt.float64)
    with pytest.raises(TypeError):
        nt.Variable("text")


# ---- D -------------------------------------------------------------------------------------------------------------


def test_D01_python_numbers() -> None:
    assert [nt.constant(x).dtype for x in (1.0, 1, True)] == [nt.float32, nt.int32, nt.bool]
    assert [nt.constant(x).dtype for x in ([1.0, 2], [[1], [2]], [True, False], [])] == [
        nt.float32, nt.int32, nt.bool, nt.float32,
    ]  # fmt: skip


def test_D02_arrays_keep_theirs() -> None:
    for kind in ("float64", "float32", "int64", "int8", "uint16", "bool"):
        assert nt.constant(np.ones(2, kind)).dtype.name == kind
    assert nt.constant(np.float64(1)).dtype is nt.float64


def test_D03_numbers_and_lists_adopt_the_dtype_they_meet() -> None:
    x = nt.constant(np.array([1.0, 2.0]))
    found = [2.0 * x, x * 2, x + [1.0, 2.0], [1, 2] - x, x**2, 1 / x, x + np.float32(1), nt.maximum(x, 0.0), x > 1]
    assert [y.dtype for y in found[:-1]] == [nt.float64] * (len(found) - 1)
    assert found[-1].dtype is nt.bool
    assert (nt.constant([1.0]) + np.array([1.0])).dtype is nt.float32
    assert (nt.constant([1], dtype="int8") + 1).dtype is nt.int8
    assert nt.stack([nt.constant(np.float64(1)), 2.0]).dtype is nt.float64
    assert nt.constant([nt.constant(np.float64(1)), 2.0]).dtype is nt.float64
    assert nt.reduce_sum([nt.Variable(np.float64(1)), 2.0]).dtype is nt.float64
    assert nt.reduce_sum([[nt.Variable(np.float64(1)), 2.0], [3.0, 4.0]]).dtype is nt.float64


def test_D03_numbers_that_do_not_fit() -> None:
    with pytest.raises(TypeError, match="2.5"):
        nt.constant([1]) * 2.5
    for _ in range(2):
        for number in (300, -129, 128):
            with pytest.raises(OverflowError, match=str(number)):
                nt.constant([1], dtype="int8") + number
        same(nt.constant([1], dtype="int8") + -128, [-127])
        same(nt.constant([1], dtype="int8") + 126, [127])
    with pytest.raises(OverflowError):
        nt.constant([1], dtype="uint8") + -1
    with pytest.raises(OverflowError, match="bits"):
        nt.constant(1.0) * 10**400


def test_D03_floats_beyond_float32_are_infinite() -> None:
    same(nt.constant(1.0) * 1e300, np.inf)
    same(nt.constant(1.0) * -1e300 * 10**40, -np.inf)
    same(nt.constant([1.0, 2.0]) * 1e300 * 1e-30, [np.inf, np.inf])
    same(nt.constant(1e300), np.inf)
    same(nt.constant(np.float64(1.0)) * 1e300, 1e300)


def test_D04_dtypes_do_not_mix() -> None:
    a, b = nt.constant([1.0, 2.0]), nt.constant(np.array([1.0, 2.0]))
    with pytest.raises(TypeError) as error:
        a * b
    for part in ("multiply", "float32", "float64", "[2]", "nt.cast"):
        assert part in str(error.value)
    with pytest.raises(TypeError, match="cast"):
        nt.Variable(1.0).assign(b[0])
    with pytest.raises(TypeError, match="cast"):
        nt.Variable(1.0).assign_add(b[0])


def test_D05_paths_through_integers_end() -> None:
    x = nt.Variable(2.75)
    with nt.GradientTape(persistent=True) as t:
        n = nt.cast(x, nt.int32)
        y = nt.cast(n, nt.float32) * x
        z = nt.cast(n, nt.float32) * 2.0
    same(t.gradient(y, x), 2.0)
    same(t.gradient(z, x), None)


def test_D06_casts() -> None:
    x = nt.Variable(2.75)
    with nt.GradientTape() as t:
        y = nt.cast(x, nt.float64) ** 2
    found = t.gradient(y, x)
    assert found.dtype is nt.float32
    same(found, 5.5)


def test_D07_the_gradient_has_the_source_s_dtype() -> None:
    a, b = nt.Variable([1.0, 2.0]), nt.Variable(np.array([3.0, 4.0]))
    with nt.GradientTape() as t:
        loss = nt.reduce_sum(nt.cast(a, nt.float64) * b)
    found = t.gradient(loss, [a, b])
    assert [g.dtype for g in found] == [nt.float32, nt.float64]
    same(found, [[3.0, 4.0], [1.0, 2.0]])


@pytest.mark.parametrize("dtype", [nt.float32, nt.float64], ids=str)
def test_D08_floats_differentiate(dtype: nt.DType) -> None:
    x = nt.Variable([2.0, 3.0], dtype=dtype)
    with nt.GradientTape() as t:
        y = x * x
    found = t.gradient(y, x)
    assert found.dtype is dtype
    same(found, [4.0, 6.0])


@pytest.mark.parametrize("value", [1 + 2j, np.ones(2, np.complex64), np.ones(2, np.float16)], ids=str)
def test_D08_D09_other_kinds_are_refused_and_named(value: object) -> None:
    with pytest.raises(TypeError, match="complex|float16"):
        nt.constant(value)


def test_D11_conversion_to_another_dtype() -> None:
    with pytest.raises(ValueError, match="cast"):
        nt.convert_to_tensor(nt.constant(np.ones(2)), dtype=nt.float32)
    with pytest.raises(ValueError, match="cast"):
        nt.convert_to_tensor(nt.Variable(1.0), dtype="float64")
    assert nt.convert_to_tensor(np.ones(2), dtype=nt.float32).dtype is nt.float32
    assert nt.convert_to_tensor([1, 2], dtype_hint=nt.float64).dtype is nt.float64
    assert nt.convert_to_tensor([1.5, 2], dtype_hint=nt.int32).dtype is nt.float32


def test_D12_true_division_of_integers() -> None:
    found = nt.constant(1) / nt.constant(2)
    assert found.dtype is nt.float64
    same(found, 0.5)


def test_a_subclass_of_variable_is_read_and_watched() -> None:
    class Weight(nt.Variable):
        pass

    w = Weight(3.0)
    with nt.GradientTape() as t:
        y = w * w
    assert float(t.gradient(y, w)) == 6.0
    with pytest.raises(TypeError, match="no subclasses"):
        type("Own", (nt.Tensor,), {})
