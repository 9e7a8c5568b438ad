"""`x[...]`, gathers and scatters: every form of a key against NumPy, duplicates, indices out of range, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import numtape as nt

INT = (np.int8, np.int32, np.int64, np.uint8, np.uint64)


# ---- keys -------------------------------------------------------------------------------------------------------


@st.composite
def keyed(draw):
    """A shape and a key for it."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4).map(tuple))
    arrays_shape = draw(st.sampled_from([(), (1,), (3,), (2, 3), (0,)]))
    parts = []
    for n in shape[: draw(st.integers(0, len(shape)))]:
        kind = draw(st.sampled_from(["slice", "slice", "integer", "array"]))
        bound = st.none() | st.integers(-6, 6)
        if kind == "slice" or n == 0:
            parts.append(slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, -1, 2, -2, 3, -5]))))
        elif kind == "integer":
            parts.append(draw(st.integers(-n, n - 1)))
        else:
            kept = draw(st.integers(0, len(arrays_shape)))
            own = tuple(draw(st.sampled_from([k, 1])) for k in arrays_shape[kept:])
            numbers = draw(st.lists(st.integers(-n, n - 1), min_size=math.prod(own), max_size=math.prod(own)))
            parts.append(np.array(numbers, np.int64).reshape(own))
    if draw(st.booleans()):
        used = len(parts)
        # The axes behind `...` are the last ones: only parts that fit any axis may move there.
        parts.insert(draw(st.integers(0, used)) if used == len(shape) else used, Ellipsis)
    for _ in range(draw(st.integers(0, 2))):
        parts.insert(draw(st.integers(0, len(parts))), None)
    return shape, tuple(parts)


@given(keyed(), st.booleans())
@example(((4, 3, 3), (slice(None), np.array([0, 1]), Ellipsis, np.array([0, 1]))), False)
@example(((2, 3, 4), (np.array([1]), None, 0)), True)
@example(((2, 3, 4), (0, slice(None), np.array([[0, 1, 3]]))), True)
@example(((3,), (np.zeros(0, np.int64),)), True)
def test_keys_as_in_numpy(case, as_tensors):
    shape, key = case
    array = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    right = array[key]
    given = tuple(nt.constant(p) if as_tensors and isinstance(p, np.ndarray) else p for p in key)
    x = nt.constant(array)
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = x[given]
        weights = np.arange(1, right.size + 1, dtype=np.float64).reshape(right.shape)
        total = nt.reduce_sum(y * weights)
    np.testing.assert_array_equal(y.numpy(), right)
    assert y.shape == right.shape
    expected = np.zeros(shape)
    np.add.at(expected, key, weights)
    np.testing.assert_array_equal(tape.gradient(total, x).numpy(), expected)


@pytest.mark.parametrize("dtype", INT)
def test_index_arrays_of_every_integer_dtype(dtype):
    x = np.arange(200.0)
    at = np.array([0, 5, 100, 5], dtype)
    np.testing.assert_array_equal(nt.constant(x)[at], x[at])
    np.testing.assert_array_equal(nt.constant(x)[nt.constant(at)], x[at])
    np.testing.assert_array_equal(nt.gather(x, nt.constant(at)), x[at])
    np.testing.assert_array_equal(nt.constant(x.reshape(2, 100))[np.ones(4, dtype), at % 100], x[100:][at % 100])


def test_negative_indices_count_from_the_end_in_a_large_axis_too():
    x = np.arange(300.0)
    np.testing.assert_array_equal(nt.constant(x)[np.array([-1, -100], np.int8)], x[[-1, -100]])


def test_lists_tuples_and_numpy_integers_in_a_key():
    x = np.arange(12).reshape(3, 4)
    t = nt.constant(x)
    np.testing.assert_array_equal(t[[2, 0]], x[[2, 0]])
    np.testing.assert_array_equal(t[(0, 1), :], x[(0, 1), :])
    np.testing.assert_array_equal(t[[]], x[[]])
    np.testing.assert_array_equal(t[np.int64(1)], x[1])
    np.testing.assert_array_equal(t[np.array(1), np.uint8(3)], x[1, 3])
    np.testing.assert_array_equal(t[nt.constant(2)], x[2])
    np.testing.assert_array_equal(t[nt.constant(1) : nt.constant(3)], x[1:3])
    np.testing.assert_array_equal(t[t[0, 1:3], [1, 1]], x[x[0, 1:3], [1, 1]])


@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        (3, IndexError, "index 3 is out of range for axis 0 of shape"),
        (-4, IndexError, "index -4"),
        ((0, 4), IndexError, "index 4 is out of range for axis 1"),
        ((0, 0, 0), IndexError, "3 indices for a tensor of rank 2"),
        ((Ellipsis, Ellipsis), IndexError, "at most one"),
        ([0, 3], IndexError, "index 3 is out of range for axis 0"),
        ((Ellipsis, np.array([-5])), IndexError, "index -5 is out of range for axis 1"),
        ((None, [0], [4]), IndexError, "index 4 is out of range for axis 1"),
        (([0, 1], [0, 1, 2]), IndexError, "do not broadcast"),
        (True, TypeError, "nt.boolean_mask"),
        ((0, [True, False, True, True]), TypeError, "nt.boolean_mask"),
        ([True, False], ValueError, r"a mask of shape \(2,\) does not fit shape \(3, 4\)"),
        (1.0, TypeError, "integers, slices"),
        ("a", TypeError, "integers, slices"),
        (np.array([1.0]), TypeError, "astype"),
        (nt.constant([1.0]), TypeError, "float32"),
        (slice(0, 1.5), TypeError, "bounds"),
        (slice(None, None, 0), ValueError, "zero"),
    ],
)
def test_keys_that_are_none(key, error, text):
    x = nt.constant(np.zeros((3, 4), np.float32))
    with pytest.raises(error, match=text):
        x[key]
    np.testing.assert_array_equal(x[0], np.zeros(4))


@pytest.mark.usefixtures("natively")
def test_a_new_integer_each_time_compiles_nothing():
    x = nt.constant(np.arange(100.0).reshape(20, 5))
    x[1].numpy(), x[2, 3].numpy()
    before = nt.cache.stats().compilations
    for k in range(-20, 20):
        np.testing.assert_array_equal(x[k], np.arange(100.0).reshape(20, 5)[k])
        assert float(x[k, 2]) == k % 20 * 5 + 2
    assert nt.cache.stats().compilations == before


def test_rows_of_an_iteration_scatter_back():
    x = nt.constant([[1.0, 2.0], [3.0, 4.0]])
    with nt.GradientTape() as tape:
        tape.watch(x)
        a, b = x
        y = nt.reduce_sum(a * a * b)
    np.testing.assert_array_equal(tape.gradient(y, x), [[6, 16], [1, 4]])


# ---- gather and scatter -----------------------------------------------------------------------------------------


def test_duplicates_add_up():
    v = nt.Variable([[1.0, 2.0], [3.0, 4.0]])
    with nt.GradientTape() as tape:
        y = nt.gather(v, [1, 1, 0, 1])
    np.testing.assert_array_equal(tape.gradient(y, v), [[1, 1], [3, 3]])


@pytest.mark.parametrize("bad", [-1, 4, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)])
def test_an_index_out_of_range_touches_nothing(bad):
    x = nt.constant([1.0, 2.0, 3.0, 4.0])
    at = np.array([0, bad, 3], np.int64)
    with pytest.raises(IndexError, match=f"index {bad} is out of range"):
        nt.gather(x, at)  # what is in an array is seen at the line; a tensor's elements are not looked at
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = nt.gather(x, nt.constant(at))
        z = nt.scatter_nd(at[:, None], x[:3], [4])
    np.testing.assert_array_equal(y, [1, 0, 4])
    np.testing.assert_array_equal(tape.gradient(y, x), [1, 0, 0, 1])
    np.testing.assert_array_equal(z, [1, 0, 0, 3])
    np.testing.assert_array_equal(tape.gradient(z, x), [1, 0, 1, 0])
    np.testing.assert_array_equal(nt.tensor_scatter_nd_update(x, at[:, None], [7.0, 8.0, 9.0]), [7, 2, 3, 9])
    pairs = np.array([[1, 1], [1, bad], [bad, 0]], np.int64)
    np.testing.assert_array_equal(nt.gather_nd(nt.reshape(x, (2, 2)), pairs), [4, 0, 0])


def test_an_unsigned_index_beyond_int64_is_out_of_range():
    at = nt.constant(np.array([1, 2**63, 2**64 - 1], np.uint64))
    np.testing.assert_array_equal(nt.gather([1.0, 2.0], at), [2, 0, 0])


def test_a_dynamic_index_out_of_range_in_a_key_gives_zero():
    x = nt.constant([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(x[nt.constant([0, 3, -3, -4])], [1, 0, 1, 0])


def test_of_several_updates_the_last_counts_and_alone_gets_a_gradient():
    x, u = nt.constant([1.0, 1.0, 1.0]), nt.constant([10.0, 20.0, 30.0])
    with nt.GradientTape() as tape:
        tape.watch([x, u])
        y = nt.tensor_scatter_nd_update(x, [[2], [0], [2]], u)
        z = y * y
    np.testing.assert_array_equal(y, [20, 1, 30])
    dx, du = tape.gradient(z, [x, u])
    np.testing.assert_array_equal(dx, [0, 2, 0])
    np.testing.assert_array_equal(du, [0, 40, 60])


def test_an_update_of_everything_at_once():
    x = nt.constant([[1, 2], [3, 4]])
    everywhere = np.zeros((1, 0), np.int64)
    np.testing.assert_array_equal(nt.tensor_scatter_nd_update(x, everywhere, [[[5, 6], [7, 8]]]), [[5, 6], [7, 8]])
    np.testing.assert_array_equal(nt.scatter_nd(np.zeros((3, 0), np.int64), np.ones((3, 2)), [2]), [3, 3])


def test_second_order_through_a_gather():
    x = nt.constant([1.0, 2.0, 3.0])
    with nt.GradientTape() as outer:
        outer.watch(x)
        with nt.GradientTape() as inner:
            inner.watch(x)
            y = nt.reduce_sum(nt.gather(x, [2, 2, 0]) ** 3)
        g = inner.gradient(y, x)
    np.testing.assert_allclose(g, [3, 0, 54])
    np.testing.assert_allclose(outer.gradient(g, x), [6, 0, 36])


def test_scatter_wraps_small_integers_around():
    updates = nt.constant([100, 100, 100], dtype=nt.int8)
    np.testing.assert_array_equal(nt.scatter_nd(np.zeros((3, 1), np.int64), updates, [1]), np.array([44], np.int8))


def test_segments_of_everything_and_of_nothing():
    np.testing.assert_array_equal(nt.math.unsorted_segment_sum([[1.0], [2.0]], [-1, 5], 3), np.zeros((3, 1)))
    np.testing.assert_array_equal(nt.math.unsorted_segment_sum(np.zeros((0, 2)), np.zeros(0, int), 2), np.zeros((2, 2)))
    np.testing.assert_array_equal(nt.math.unsorted_segment_sum(5.0, 1, 2), [0, 5])


def test_take_along_axis_undoes_a_sort():
    x = np.random.default_rng(0).standard_normal((3, 5, 2))
    for axis in (0, 1, 2, -1):
        order = np.argsort(x, axis)
        np.testing.assert_array_equal(nt.take_along_axis(x, order, axis), np.sort(x, axis))


# ---- masks ------------------------------------------------------------------------------------------------------


def test_boolean_mask_and_its_gradient():
    x = nt.constant(np.arange(12.0).reshape(3, 4))
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = nt.boolean_mask(x, x > 6)
        z = nt.boolean_mask(x, [True, False, False, True], axis=1)
    np.testing.assert_array_equal(y, [7, 8, 9, 10, 11])
    np.testing.assert_array_equal(tape.gradient(y, x), np.arange(12).reshape(3, 4) > 6)
    np.testing.assert_array_equal(z, np.arange(12).reshape(3, 4)[:, [0, 3]])
    assert nt.boolean_mask(x, np.zeros(3, bool)).shape == (0, 4)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: nt.boolean_mask(x, [1, 0, 1]), TypeError, "boolean"),
        (lambda x: nt.boolean_mask(x, [True, False]), ValueError, "does not fit"),
        (lambda x: nt.boolean_mask(x, True), ValueError, "does not fit"),
        (lambda x: nt.gather(x, [0.5]), TypeError, "integer"),
        (lambda x: nt.gather(x, [0], axis=2), ValueError, "out of range"),
        (lambda x: nt.gather(x, [0, 1], batch_dims=1), ValueError, "differ in the first 1"),
        (lambda x: nt.gather(x, [0, 0, 0], axis=0, batch_dims=1), ValueError, "goes beyond"),
        (lambda x: nt.gather_nd(x, [[0, 0, 0]]), ValueError, "do not fit"),
        (lambda x: nt.gather_nd(x, 0), ValueError, "do not fit"),
        (lambda x: nt.take_along_axis(x, [0], 0), ValueError, "differ in rank"),
        (lambda x: nt.take_along_axis(x, np.zeros((2, 1), int), 1), ValueError, "broadcast"),
        (lambda x: nt.scatter_nd([[0]], x, [3]), ValueError, "updates need shape"),
        (lambda x: nt.scatter_nd([[0]], [True], [3]), TypeError, "numeric"),
        (lambda x: nt.tensor_scatter_nd_add(x, [[0]], nt.constant([[1, 2, 3, 4]])), TypeError, "nt.cast"),
        (lambda x: nt.tensor_scatter_nd_update(x, [[0]], nt.constant([[1, 2, 3, 4]])), TypeError, "nt.cast"),
        (lambda x: nt.tensor_scatter_nd_update(x, [[0, 0, 0]], [1.0]), ValueError, "updates need shape"),
        (lambda x: nt.math.unsorted_segment_sum(x, [0, 1], 2), ValueError, "begin with"),
        (lambda x: nt.math.unsorted_segment_sum(x, [0, 1, 2], -1), ValueError, "segments"),
        (lambda x: nt.one_hot([0.0], 2), TypeError, "integer"),
        (lambda x: nt.one_hot([0], -1), ValueError, "negative"),
        (lambda x: nt.one_hot([0], 2, on_value=0.5, dtype=nt.int32), TypeError, "int32"),
        (lambda x: nt.one_hot([0], 2, axis=2), ValueError, "out of range"),
    ],
)  # fmt: skip
def test_errors_say_what_is_wrong(call, error, text):
    with pytest.raises(error, match=text):
        call(nt.constant(np.zeros((3, 4), np.float32)))


def test_one_hot_takes_its_dtype_from_the_values():
    assert nt.one_hot([0], 2).dtype is nt.float32
    assert nt.one_hot([0], 2, on_value=3).dtype is nt.int32
    assert nt.one_hot([0], 2, on_value=True, off_value=False).dtype is nt.bool
    assert nt.one_hot([0], 2, dtype=nt.float64).dtype is nt.float64
    small = nt.constant([0, 127, -1], dtype=nt.int8)
    np.testing.assert_array_equal(nt.reduce_sum(nt.one_hot(small, 300), 1), [1, 1, 0])
