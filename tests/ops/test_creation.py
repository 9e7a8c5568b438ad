"""Tensors out of nothing: what TensorFlow gives, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import numtape as nt


def is_array(tensor, expected, dtype):
    array = tensor.numpy()
    assert tensor.dtype is dtype
    assert array.dtype == dtype.dtype
    np.testing.assert_array_equal(array, expected)


# ---- one number everywhere -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [[2, 3], (2, 3), np.array([2, 3]), [np.int64(2), 3], 3, np.int32(3), [], (0, 2)])
def test_shapes_are_whatever_holds_integers(shape):
    expected = np.zeros(np.asarray(shape).tolist())
    is_array(nt.zeros(shape), expected, nt.float32)
    is_array(nt.ones(shape), expected + 1, nt.float32)
    is_array(nt.fill(shape, 7), expected + 7, nt.int32)


def test_a_tensor_is_a_shape():
    is_array(nt.zeros(nt.constant([2, 1])), [[0], [0]], nt.float32)
    is_array(nt.ones(nt.shape([1.0, 2.0])), [1, 1], nt.float32)
    is_array(nt.fill([nt.constant(2), 1], 3.0), [[3], [3]], nt.float32)


@pytest.mark.parametrize("dtype", [nt.float64, nt.int8, nt.uint64, nt.bool, "int32", np.float32, np.dtype("int16")])
def test_dtypes_are_whatever_names_one(dtype):
    kind = nt.as_dtype(dtype)
    is_array(nt.zeros(2, dtype), [0, 0], kind)
    is_array(nt.ones(2, dtype=dtype), [1, 1], kind)
    is_array(nt.zeros_like([1.0, 2.0], dtype), [0, 0], kind)
    is_array(nt.ones_like(nt.Variable([1.0, 2.0]), dtype), [1, 1], kind)


@pytest.mark.parametrize("function", [nt.zeros, nt.ones, lambda shape: nt.fill(shape, 1), lambda shape: nt.eye(*shape)])
def test_shapes_that_are_none(function):
    with pytest.raises(ValueError, match="negative"):
        function([2, -1])
    with pytest.raises(TypeError, match="integer"):
        function([2, 1.5])


def test_fill_keeps_the_dtype_of_its_value_and_its_gradient():
    is_array(nt.fill([2], np.float64(0.1)), [0.1, 0.1], nt.float64)
    is_array(nt.fill([2], True), [True, True], nt.bool)
    value = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        total = nt.reduce_sum(nt.fill([2, 3], value) ** 2)
    assert tape.gradient(total, value).numpy() == 36
    with pytest.raises(ValueError, match="single number"):
        nt.fill([2], [1.0, 2.0])


def test_nothing_flows_to_what_zeros_and_ones_are_like():
    x = nt.Variable([1.0, 2.0])
    with nt.GradientTape(persistent=True) as tape:
        zeros, ones = nt.zeros_like(x), nt.ones_like(x)
    assert tape.gradient(zeros, x) is None
    assert tape.gradient(ones, x) is None


# ---- range ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected", "dtype"),
    [
        ((5,), [0, 1, 2, 3, 4], nt.int32),
        ((3, 18, 3), [3, 6, 9, 12, 15], nt.int32),
        ((3, 1, -0.5), [3, 2.5, 2, 1.5], nt.float32),
        ((0,), [], nt.int32),
        ((4, 4), [], nt.int32),
        ((10, 0, -3), [10, 7, 4, 1], nt.int32),
        ((2.0,), [0, 1], nt.float32),
        ((np.int64(1), 4), [1, 2, 3], nt.int64),
        ((np.float64(0), 2), [0, 1], nt.float64),
        ((np.float32(0), np.int64(2)), [0, 1], nt.float32),
    ],
)
def test_range(arguments, expected, dtype):
    is_array(nt.range(*arguments), expected, dtype)


def test_range_of_tensors():
    is_array(nt.range(nt.constant(1), nt.constant(4)), [1, 2, 3], nt.int32)
    is_array(nt.range(nt.Variable(3)), [0, 1, 2], nt.int32)


@pytest.mark.parametrize("dtype", [nt.int8, nt.uint8, nt.int16, nt.uint16, nt.int64, nt.uint64, nt.float32, nt.float64])
def test_range_of_any_dtype(dtype):
    is_array(nt.range(3, 9, 2, dtype=dtype), [3, 5, 7], dtype)


def test_a_range_over_all_of_a_narrow_dtype():
    is_array(nt.range(-128, 127, dtype=nt.int8), np.arange(-128, 127), nt.int8)
    is_array(nt.range(100, -101, -50, dtype=nt.int8), [100, 50, 0, -50, -100], nt.int8)


def test_a_range_of_floats_counts_in_its_own_arithmetic():
    # In float64 (1.3 - 1) / 0.1 is a little above 3, and np.arange(1, 1.3, 0.1) has 4 elements.
    np.testing.assert_allclose(nt.range(1, 1.3, 0.1).numpy(), [1, 1.1, 1.2], rtol=1e-6)
    assert nt.range(1, 1.3, 0.1, dtype=nt.float64).shape == (4,)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((1, 5, 0), {}, ValueError, "delta is 0"),
        ((5, 1), {}, ValueError, "away from"),
        ((1, 5, -1), {}, ValueError, "away from"),
        ((float("nan"),), {}, ValueError, "finite"),
        ((0.0, float("inf")), {}, ValueError, "finite"),
        ((2.5,), {"dtype": nt.int32}, TypeError, "no integer"),
        ((300,), {"dtype": nt.int8}, OverflowError, "out of range"),
        ((1 << 40,), {}, OverflowError, "out of range"),
        ((True,), {}, TypeError, "dtype"),
        (([1, 2],), {"dtype": nt.int32}, TypeError, "single numbers"),
        ((2,), {"dtype": nt.bool}, TypeError, "bools"),
        ((np.int8(3),), {}, TypeError, "say it with dtype="),
    ],
)
def test_ranges_that_are_none(arguments, options, error, match):
    with pytest.raises(error, match=match):
        nt.range(*arguments, **options)


# ---- linspace ------------------------------------------------------------------------------------------------------


def test_linspace_ends_where_it_should():
    found = nt.linspace(-10.0, 10.0, 201).numpy()
    assert found.dtype == np.float32
    assert (found[0], found[100], found[200]) == (-10, 0, 10)
    np.testing.assert_array_equal(found, np.linspace(-10, 10, 201, dtype=np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num", [2, 3, 7, 50, 1000])
@pytest.mark.parametrize(("start", "stop"), [(0.1, 0.7), (1e-3, 1e3), (-5, -7), (3, 3), (-1e30, 1e30), (1e30, 1e-30)])
def test_both_ends_are_exact(start, stop, num, dtype):
    start, stop = dtype(start), dtype(stop)
    found = nt.linspace(start, stop, num).numpy()
    assert found.dtype == dtype
    assert found[0] == start
    assert found[-1] == stop
    eps = 2 * np.finfo(dtype).eps
    np.testing.assert_allclose(found, np.linspace(start, stop, num), rtol=eps, atol=eps * max(abs(start), abs(stop)))


def test_linspace_between_integers_is_of_float64():
    is_array(nt.linspace(0, 10, 5), [0, 2.5, 5, 7.5, 10], nt.float64)


def test_linspace_of_one_and_none():
    is_array(nt.linspace(1.0, 2.0, 1), [1], nt.float32)
    is_array(nt.linspace(1.0, 2.0, np.int64(0)), [], nt.float32)
    with pytest.raises(ValueError, match="negative"):
        nt.linspace(1.0, 2.0, -1)
    with pytest.raises(TypeError, match="integer"):
        nt.linspace(1.0, 2.0, 2.5)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_linspace_between_tensors(axis):
    start, stop = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([7, 8, 9], np.float32)
    found = nt.linspace(start, stop, 4, axis=axis).numpy()
    np.testing.assert_allclose(found, np.linspace(start, stop, 4, axis=axis), rtol=1e-6)
    with pytest.raises(ValueError, match="axis 3"):
        nt.linspace(start, stop, 4, axis=3)
    with pytest.raises(ValueError, match="broadcast"):
        nt.linspace(start, np.zeros(2, np.float32), 4)
    with pytest.raises(TypeError, match="float64"):
        nt.linspace(start, np.zeros(3), 4)


def test_gradients_of_linspace():
    start, stop = nt.Variable(1.0), nt.Variable(3.0)
    with nt.GradientTape() as tape:
        total = nt.reduce_sum(nt.linspace(start, stop, 5) * nt.range(5.0))
    d_start, d_stop = tape.gradient(total, [start, stop])
    weights = np.linspace(0, 1, 5)
    np.testing.assert_allclose(d_start.numpy(), ((1 - weights) * np.arange(5)).sum(), rtol=1e-6)
    np.testing.assert_allclose(d_stop.numpy(), (weights * np.arange(5)).sum(), rtol=1e-6)


# ---- eye -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(3,), (2, 3), (3, 2), (1, 1), (0, 2), (np.int64(2), nt.constant(3))])
def test_eye(sizes):
    is_array(nt.eye(*sizes), np.eye(*[int(n) for n in sizes]), nt.float32)


def test_several_eyes():
    is_array(nt.eye(2, batch_shape=[3, 1], dtype=nt.int32), np.broadcast_to(np.eye(2), (3, 1, 2, 2)), nt.int32)
    is_array(nt.eye(2, dtype=nt.bool), np.eye(2, dtype=bool), nt.bool)


def test_other_numbers_compile_nothing_new():
    def created(n):
        return [nt.fill([n], 0.5 * n), nt.range(n, 5 * n, n), nt.linspace(0.25 * n, 1.0 * n, n), nt.eye(n, n + 1)]

    for tensor in created(24):  # beyond the rows of few columns, whose length is in the kernel
        tensor.numpy()
    before = nt.cache.stats().compilations
    for tensor in created(40):
        tensor.numpy()
    assert nt.cache.stats().compilations == before
