"""Indexed slices: which gradients are rows, that they are what the dense gradient is, and what they cost."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numtape as nt
from numtape.backends import native
from numtape.codegen.plan import Plan, plan

TABLE = np.arange(1.0, 13.0).reshape(4, 3)


def rows(gradient: Any) -> tuple[list[Any], list[int]]:
    assert type(gradient) is nt.IndexedSlices
    return gradient.values.numpy().tolist(), gradient.indices.numpy().tolist()


def of(f: Callable[[Any], Any], source: Any = None, **options: Any) -> Any:
    """The gradient of a function of a Variable, or of the tensor or Variable given."""
    source = nt.Variable(TABLE) if source is None else source
    with nt.GradientTape() as tape:
        tape.watch(source)
        y = f(source)
    return tape.gradient(y, source, **options)


def picked(params: Any, indices: Any) -> Any:
    """A gather whose gradient is dense: along the second axis of (1, length, ...)."""
    return nt.gather(params[None], indices, axis=1)[0]


# ---- which gradients are rows --------------------------------------------------------------------------------------


def test_G23_rows_of_one_index_stay_apart() -> None:
    gradient = of(lambda v: 2.0 * nt.gather(v, [1, 1, 2]))
    assert rows(gradient) == ([[2, 2, 2]] * 3, [1, 1, 2])
    assert (gradient.shape, gradient.dtype, gradient.indices.dtype) == ((4, 3), nt.float64, nt.int32)
    assert gradient.dense_shape.dtype is nt.int32
    np.testing.assert_array_equal(gradient.dense_shape, [4, 3])
    np.testing.assert_array_equal(nt.convert_to_tensor(gradient), [[0] * 3, [4] * 3, [2] * 3, [0] * 3])


@pytest.mark.parametrize(
    ("f", "indices"),
    {
        "a tensor of indices": (lambda v: nt.gather(v, [[3], [0]]), [3, 0]),
        "one index": (lambda v: nt.gather(v, 2), [2]),
        "none": (lambda v: nt.gather(v, nt.constant([], nt.int32)), []),
        "int64": (lambda v: nt.gather(v, nt.constant([1], nt.int64)), [1]),
        "an axis from the end": (lambda v: nt.gather(v, [1], axis=-2), [1]),
        "embeddings": (lambda v: nt.nn.embedding_lookup(v, [1, 0]), [1, 0]),
        "embeddings of a list": (lambda v: nt.nn.embedding_lookup([v], [1, 0], max_norm=2.0), [1, 0]),
        "index vectors": (lambda v: nt.gather_nd(v, [[1], [0]]), [1, 0]),
        "methods": (lambda v: v.sparse_read([1]) * v.gather_nd([[0]]), [1, 0]),
        "a copy": (lambda v: nt.gather(nt.identity(v), [1]), [1]),
        "a read": (lambda v: nt.gather(v.value(), [1]), [1]),
        "several, in their order": (lambda v: nt.gather(v, [3]) * nt.gather(v, [0]) + nt.gather(v, [2]), [3, 0, 2]),
        "several dtypes of indices": (lambda v: nt.gather(v, [3]) * nt.gather(v, nt.constant([0], nt.int64)), [3, 0]),
        "a constant use beside": (lambda v: nt.gather(v, [3]) * nt.reduce_sum(nt.stop_gradient(v)), [3]),
        "several targets": (lambda v: [nt.gather(v, [3]), {"a": nt.gather(v, [1, 1])}], [3, 1, 1]),
    }.values(),
)
def test_G23_a_gradient_of_rows(f: Any, indices: list[int]) -> None:
    assert rows(of(f))[1] == indices


DENSE = {
    "another axis": lambda v: nt.gather(v, [1], axis=1),
    "a batch": lambda v: nt.gather(v, [[1], [0], [2], [2]], batch_dims=1),
    "longer index vectors": lambda v: nt.gather_nd(v, [[1, 0]]),
    "a tensor of index vectors": lambda v: nt.gather_nd(v, [[[1]], [[0]]]),
    "a key": lambda v: v[1],
    "a mask": lambda v: nt.boolean_mask(v, [True, False, True, False]),
    "a reshape": lambda v: nt.gather(nt.reshape(v, (4, 3)), [1]),
    "computed": lambda v: nt.gather(2.0 * v, [1]),
    "in a sum": lambda v: nt.gather(v + nt.constant(TABLE), [1]) * nt.gather(v, [1]),
    "by axis": lambda v: nt.take_along_axis(v, nt.constant([[1, 1, 0]]), 0),
    "sorted": lambda v: nt.sort(v[:, 0]),
    "G24 a dense use beside": lambda v: nt.reduce_sum(nt.gather(v, [1])) + nt.reduce_sum(v),
    "O09 the same, the other way around": lambda v: nt.reduce_sum(v) + nt.reduce_sum(nt.gather(v, [1])),
    "the target itself": lambda v: [nt.gather(v, [1]), v],
}


@pytest.mark.parametrize("case", DENSE)
def test_a_dense_gradient(case: str) -> None:
    gradient = of(DENSE[case])
    assert type(gradient) is nt.Tensor
    assert gradient.shape == (4, 3)


def test_G24_dense_and_rows_add_up() -> None:
    gradient = of(lambda v: nt.reduce_sum(nt.gather(v, [1, 1])) + nt.reduce_sum(v) + nt.reduce_sum(nt.gather(v, [3])))
    np.testing.assert_array_equal(gradient, [[1] * 3, [3] * 3, [1] * 3, [2] * 3])


def test_unconnected_and_several_sources() -> None:
    v, w = nt.Variable(TABLE), nt.Variable(TABLE)
    with nt.GradientTape(persistent=True) as tape:
        y = nt.gather(v, [1]) * nt.reduce_sum(nt.gather(w, [1, 2]))
    found = tape.gradient(y, {"a": w, "b": [v, v, nt.Variable(1.0)]})
    assert rows(found["a"])[1] == [1, 2]
    assert [rows(g)[1] for g in found["b"][:2]] == [[1], [1]]
    assert found["b"][2] is None
    zeros = tape.gradient(nt.constant(1.0), v, unconnected_gradients="zero")
    assert type(zeros) is nt.Tensor
    np.testing.assert_array_equal(zeros, np.zeros((4, 3)))


def test_of_a_value_in_the_middle_and_of_a_tensor() -> None:
    x = nt.constant(TABLE)
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        z = nt.gather(y, [2, 2])
    assert rows(tape.gradient(z, y))[1] == [2, 2]
    assert rows(of(lambda t: nt.gather(t, [2, 2]), x))[1] == [2, 2]
    np.testing.assert_array_equal(tape.gradient(z, x), [[0] * 3, [0] * 3, 4 * TABLE[2], [0] * 3])


def test_reads_before_and_after_an_assignment() -> None:
    v = nt.Variable(TABLE)
    with nt.GradientTape() as tape:
        y = nt.gather(v, [1])
        v.assign_add(TABLE)
        y += 2.0 * nt.gather(v, [2])
    assert rows(tape.gradient(y, v)) == ([[1] * 3, [2] * 3], [1, 2])


def test_beside_a_custom_gradient() -> None:
    @nt.custom_gradient
    def doubled(x: Any) -> Any:
        return x, lambda g: 2.0 * g

    assert rows(of(lambda v: doubled(nt.gather(v, [1, 0])))) == ([[2] * 3] * 2, [1, 0])
    mixed = of(lambda v: doubled(nt.gather(v, [1, 0])) + nt.gather(v, [0, 0]))
    np.testing.assert_array_equal(mixed, [[4] * 3, [2] * 3, [0] * 3, [0] * 3])


# ---- the same as dense ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 3), (1, 4)])
def test_the_rows_make_up_the_dense_gradient(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(len(shape))
    table = nt.constant(rng.standard_normal(shape).astype(dtype))
    for counts in ((7,), (0,), (2, 3), (4, 4), (3, 0, 5)):
        at = [rng.integers(-1, shape[0] + 1, n) for n in counts]
        weights = [rng.standard_normal((n, *shape[1:])).astype(dtype) for n in counts]

        def loss(t: Any, take: Any, at: Any = at, weights: Any = weights) -> Any:
            return sum(nt.reduce_sum(nt.sin(take(t, nt.constant(a))) * w) for a, w in zip(at, weights, strict=True))

        found = of(lambda t: loss(t, nt.gather), table)
        assert type(found) is nt.IndexedSlices
        assert rows(found)[1] == np.concatenate(at).tolist()
        assert found.values.dtype.dtype == dtype
        dense = of(lambda t: loss(t, picked), table)
        assert type(dense) is nt.Tensor
        np.testing.assert_allclose(found, dense, rtol=1e-5 if dtype is np.float32 else 1e-12)
        both = of(lambda t: loss(t, nt.gather) + nt.reduce_sum(t), table)
        np.testing.assert_allclose(both, dense.numpy() + 1, rtol=1e-5 if dtype is np.float32 else 1e-12)


USES = {
    "itself": lambda g: g,
    "in a list": lambda g: [g],
    "as an operand": lambda g: nt.reduce_sum(nt.multiply(g, nt.constant(TABLE))),
    "as a tensor": lambda g: nt.reduce_sum(nt.convert_to_tensor(g) ** 2),
    "gathered again": lambda g: nt.reduce_sum(nt.gather(g, [1, 1]) ** 3),
}


@pytest.mark.parametrize("use", USES)
def test_second_order_is_that_of_the_dense_gradient(use: str) -> None:
    found = []
    for take in (nt.gather, picked):
        v = nt.Variable(TABLE)
        with nt.GradientTape() as outer:
            with nt.GradientTape() as inner:
                y = nt.reduce_sum(take(v, nt.constant([1, 1, 2])) ** 3)
            z = USES[use](inner.gradient(y, v))
        found.append(np.asarray(nt.convert_to_tensor(outer.gradient(z, v))))
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_second_order_through_the_values() -> None:
    v = nt.Variable(TABLE)
    with nt.GradientTape() as outer:
        with nt.GradientTape() as inner:
            y = nt.gather(v, [1, 1, 2]) ** 2
        z = nt.reduce_sum(inner.gradient(y, v).values ** 2)
    assert rows(outer.gradient(z, v)) == ((8 * TABLE[[1, 1, 2]]).tolist(), [1, 1, 2])


def test_J16_a_jacobian_is_dense() -> None:
    v = nt.Variable(TABLE)
    with nt.GradientTape() as tape:
        y = nt.gather(v, [2, 0])
    found = tape.jacobian(y, v)
    assert type(found) is nt.Tensor
    np.testing.assert_array_equal(found, np.eye(12).reshape(4, 3, 4, 3)[[2, 0]])


# ---- as an operand -------------------------------------------------------------------------------------------------


def slices(values: Any = ((1.0,) * 3, (2.0,) * 3, (4.0,) * 3), indices: Any = (1, 1, 2), shape: Any = (4, 3)) -> Any:
    return nt.IndexedSlices(nt.constant(values, nt.float64), indices, shape)


SUM = np.array([[0.0] * 3, [3.0] * 3, [4.0] * 3, [0.0] * 3])


def test_it_stands_for_the_dense_tensor() -> None:
    g, t = slices(), nt.constant(TABLE)
    np.testing.assert_array_equal(g + t, SUM + TABLE)
    np.testing.assert_array_equal(t + g, SUM + TABLE)
    np.testing.assert_array_equal(nt.multiply(g, 2.0), 2 * SUM)
    np.testing.assert_array_equal(nt.stack([g, t]), [SUM, TABLE])
    assert float(nt.reduce_sum(g)) == SUM.sum()
    np.testing.assert_allclose(nt.clip_by_norm(g, 1.0), SUM / np.linalg.norm(SUM))
    assert rows(-g) == ([[-1] * 3, [-2] * 3, [-4] * 3], [1, 1, 2])
    np.testing.assert_array_equal(np.asarray(g, np.float32), SUM)
    v = nt.Variable(TABLE)
    v.assign_add(g)
    np.testing.assert_array_equal(v, TABLE + SUM)


def test_it_is_one_leaf() -> None:
    g = slices()
    assert nt.nest.flatten({"a": [g]})[0] is g
    for twin in (pickle.loads(pickle.dumps(g)), copy.deepcopy(g)):
        assert rows(twin) == rows(g)
        assert twin.shape == g.shape
    assert repr(slices([[1.0]], [0], [2, 1])) == (
        "<nt.IndexedSlices: shape=(2, 1), dtype=float64, indices=array([0], dtype=int32), values=array([[1.]])>"
    )


def test_W17_its_values_are_watched() -> None:
    g = slices()
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(g)
        y = nt.reduce_sum(nt.convert_to_tensor(g) ** 2)
    for source in (g, g.values):
        np.testing.assert_array_equal(tape.gradient(y, source), 2 * SUM[[1, 1, 2]])


def test_as_output_gradients() -> None:
    v = nt.Variable(TABLE)
    with nt.GradientTape(persistent=True) as tape:
        y = v * 2.0
        z = nt.identity(v)
    for given in (slices(), [slices()]):
        np.testing.assert_array_equal(tape.gradient(y, v, output_gradients=given), 2 * SUM)
        same = tape.gradient(z, v, output_gradients=given)
        assert type(same) is nt.Tensor
        np.testing.assert_array_equal(same, SUM)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: nt.convert_to_tensor(slices(shape=None)), ValueError, "dense_shape"),
        (lambda: nt.convert_to_tensor(slices(shape=(4, 2))), ValueError, r"values need shape \(3, 2\)"),
        (lambda: nt.convert_to_tensor(slices(shape=())), ValueError, "do not make up"),
        (lambda: nt.convert_to_tensor(slices(), nt.float32), ValueError, "nt.cast"),
        (lambda: slices(indices=[1.0]), TypeError, "integers"),
        (lambda: slices(shape="ab"), TypeError, "dense_shape"),
        (lambda: slices(shape=[4.0, 3.0]), TypeError, "dense_shape"),
        (lambda: slices(shape=[-4, 3]), ValueError, "negative"),
        (lambda: slices() * np.ones((4, 3)), TypeError, "support"),
        (lambda: nt.gather(nt.Variable(TABLE), [0.5]), TypeError, "integer"),
        (lambda: nt.nn.embedding_lookup(1.0, [0]), ValueError, "no rows"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


# ---- updates of rows -----------------------------------------------------------------------------------------------

UFUNCS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


@pytest.mark.parametrize("how", [*UFUNCS, "update"])
def test_V19_rows_of_a_variable_change(how: str) -> None:
    v = nt.Variable(TABLE)
    expected = TABLE.copy()
    at, values = np.array([2, 0, 2]), np.arange(1.0, 10.0).reshape(3, 3) * [1, 9, 1]
    if how == "update":
        expected[at] = values
    else:
        UFUNCS[how].at(expected, at, values)
    assert getattr(v, f"scatter_{how}")(nt.IndexedSlices(values, [2, 0, 2])) is v
    np.testing.assert_allclose(v, expected)
    getattr(v, f"scatter_{how}")(nt.IndexedSlices(np.float64(2.0), [[1], [3]]))
    if how == "update":
        expected[[1, 3]] = 2.0
    else:
        UFUNCS[how].at(expected, [1, 3], 2.0)
    np.testing.assert_allclose(v, expected)
    getattr(v, f"scatter_{how}")(nt.IndexedSlices(values[:2], [-1, 4]))
    np.testing.assert_allclose(v, expected)


@pytest.mark.parametrize("how", ["add", "sub", "max", "min", "update"])
def test_V19_elements_of_a_variable_change(how: str) -> None:
    v = nt.Variable(TABLE)
    expected = TABLE.copy()
    at, values = np.array([[2, 1], [0, 0], [2, 1]]), np.array([5.0, 60.0, 7.0])
    if how == "update":
        expected[at[:, 0], at[:, 1]] = values
    else:
        UFUNCS[how].at(expected, (at[:, 0], at[:, 1]), values)
    getattr(v, f"scatter_nd_{how}")(at, [5.0, 60.0, 7.0])
    np.testing.assert_array_equal(v, expected)


def test_V19_no_gradient_to_the_rows() -> None:
    v, u = nt.Variable(TABLE), nt.Variable(np.ones((1, 3)))
    with nt.GradientTape() as tape:
        before = v * 2.0
        v.scatter_update(nt.IndexedSlices(u * 2.0, [1]))
        after = v * 3.0
    found = tape.gradient([before, after], [v, u])
    np.testing.assert_array_equal(found[0], np.full((4, 3), 5.0))
    assert found[1] is None
    np.testing.assert_array_equal(before, 2 * TABLE)


def test_V19_wants_indexed_slices_that_fit() -> None:
    v = nt.Variable(TABLE)
    for wrong, error in [
        (np.ones((4, 3)), TypeError),
        (nt.IndexedSlices(np.ones((1, 3), np.float32), [0]), TypeError),
        (nt.IndexedSlices(np.ones(3), [0]), ValueError),
        (nt.IndexedSlices(np.ones((2, 3)), [0]), ValueError),
    ]:
        with pytest.raises(error):
            v.scatter_add(wrong)
    np.testing.assert_array_equal(v, TABLE)


def test_rows_of_bools_and_integers() -> None:
    flags = nt.Variable([[True], [False], [False]])
    flags.scatter_update(nt.IndexedSlices([[True]], [2]))
    np.testing.assert_array_equal(flags, [[True], [False], [True]])
    counts = nt.Variable(np.zeros(3, np.int8))
    counts.scatter_add(nt.IndexedSlices(np.array([100, 100], np.int8), [1, 1]))
    np.testing.assert_array_equal(counts, np.array([0, -56, 0], np.int8))


# ---- what it costs -------------------------------------------------------------------------------------------------


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """What is planned during a test."""
    made: list[Plan] = []

    def noted(program: Any) -> Plan:
        made.append(plan(program))
        return made[-1]

    monkeypatch.setattr(native, "plan", noted)
    return made


def test_a_gradient_and_updates_touch_rows_alone(plans: list[Plan]) -> None:
    length = 1009
    v, w = nt.Variable(np.ones((length, 7), np.float32)), nt.Variable(np.ones((length, 7), np.float32))
    with nt.GradientTape() as tape:
        loss = nt.reduce_sum(nt.gather(v, [3, 3, 5]) ** 2)
    gradient = tape.gradient(loss, v)
    v.scatter_sub(nt.IndexedSlices(0.5 * gradient.values, gradient.indices))
    v.scatter_add(nt.IndexedSlices(gradient.values, gradient.indices))
    w.scatter_update(nt.IndexedSlices(gradient.values, gradient.indices))
    assert float(loss) == 21.0
    (made,) = plans
    assert [kind for kind, _ in made.results] == ["new", "new", "input", "donated", "donated"]
    assert not [step.kernel.name for step in made.steps if 7 * length in step.arguments]
    assert made.arena < 4 * 7 * length
    expected = np.ones((length, 7))
    expected[[3, 5]] = [[3.0], [2.0]]
    np.testing.assert_array_equal(v, expected)


def test_an_old_value_that_somebody_holds_stays(plans: list[Plan]) -> None:
    v = nt.Variable(np.zeros((1013, 2)))
    old = v.value()
    v.scatter_add(nt.IndexedSlices(np.array([[1.0, 2.0]]), [1012]))
    middle = v.value()
    v.scatter_update(nt.IndexedSlices(np.array([[5.0, 6.0]]), [1012]))
    np.testing.assert_array_equal(v[1012], [5, 6])
    np.testing.assert_array_equal(middle[1012], [1, 2])
    np.testing.assert_array_equal(old[1012], [0, 0])
    assert "donated" not in [kind for kind, _ in plans[0].results]
