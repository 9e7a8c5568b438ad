"""What the registry's tests cannot see of reductions and scans: ties, nan, nothing, zeros, long sums, errors."""

from __future__ import annotations

import numpy as np
import pytest

import numtape as nt
from numtape.codegen.plan import plan
from numtape.dtypes import float32, tensor_type, type_of
from numtape.ir.program import Builder, Program
from tests.programs import WAYS, agree, check_gradient, gradient_of

NAN, INF = float("nan"), float("inf")


def program(function, *arrays):
    builder = Builder()
    out = function(*(builder.input(type_of(np.asarray(a)), k) for k, a in enumerate(arrays)))
    return Program(tuple(builder.instructions), (out.index,))


def outputs(made, arrays):
    arrays = [np.asarray(a) for a in arrays]
    expected = WAYS["reference"](made, arrays)
    for way in ("plain", "native"):
        agree(WAYS[way](made, arrays), expected, way)
    return expected


def value(function, *arrays):
    """The result, the same in every way to run it."""
    return outputs(program(function, *arrays), arrays)[0]


def gradient(function, *arrays):
    """The gradient of the result's sum by the first operand, the same in every way to run it."""
    made = program(function, *arrays)
    ones = np.ones(made.type(made.outputs[0]).shape, made.type(made.outputs[0]).dtype.dtype)
    return outputs(gradient_of(made), [*arrays, ones])[0]


def kernels(function, *shapes):
    """How many kernels a function of float32 takes."""
    builder = Builder()
    out = function(*(builder.input(tensor_type(float32, shape), k) for k, shape in enumerate(shapes)))
    return len(plan(Program(tuple(builder.instructions), (out.index,))).steps)


def same(got, expected):
    np.testing.assert_array_equal(got, np.asarray(expected))


# ---- extrema ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ties_share_evenly_in_each_group(sign):
    fold = nt.reduce_max if sign > 0 else nt.reduce_min
    x = sign * np.array([[3.0, 3, 1], [0, 2, 1], [5, 5, 5], [0, -0.0, -1]])
    same(gradient(lambda x: fold(x, axis=1), x), [[0.5, 0.5, 0], [0, 1, 0], [1 / 3] * 3, [0.5, 0.5, 0]])
    same(gradient(fold, np.array([[3.0, 1], [1, 3]]) * sign), [[0.5, 0], [0, 0.5]])
    same(gradient(lambda x: fold(x, axis=(0, 2)), sign * np.array([[[1.0, 2], [4, 4]], [[2, 0], [4, 1]]])),
         [[[0, 0.5], [1 / 3, 1 / 3]], [[0.5, 0], [1 / 3, 0]]])  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [3, 40])
def test_nan_wins(dtype, length):
    x = np.zeros((3, length), dtype)
    x[1, -1] = x[2, 0] = NAN
    x[2, 1] = INF
    for fold in (nt.reduce_max, nt.reduce_min):
        same(value(lambda x, f=fold: f(x, axis=1), x), np.array([0, NAN, NAN], dtype))
        same(value(lambda x, f=fold: f(x, axis=0), x.T.copy()), np.array([0, NAN, NAN], dtype))
        same(value(fold, x), np.array(NAN, dtype))


def test_extrema_of_whole_ranges():
    for dtype in (np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64):
        info = np.iinfo(dtype)
        x = np.array([[info.min, info.max], [info.max, info.max], [info.min, info.min]], dtype)
        same(value(lambda x: nt.reduce_max(x, axis=1), x), [info.max, info.max, info.min])
        same(value(lambda x: nt.reduce_min(x, axis=1), x), [info.min, info.max, info.min])
    same(value(nt.reduce_max, np.array([-INF, -INF])), -INF)
    same(value(nt.reduce_min, np.array([INF, INF])), INF)


def test_positions():
    x = np.array([[1, 3, 3], [3, 3, 1], [2, NAN, NAN], [NAN, INF, -INF], [-INF, -INF, -INF]], np.float32)
    same(value(lambda x: nt.argmax(x, axis=1), x), [1, 0, 1, 0, 0])
    same(value(lambda x: nt.argmin(x, axis=1), x), [0, 2, 1, 0, 0])
    same(value(nt.argmax, x), np.argmax(x, 0))
    same(value(lambda x: nt.argmin(x, axis=1), x.reshape(5, 3, 1)), np.argmin(x, 1)[:, None])
    ones = np.ones((2, 2), np.uint8)
    same(value(lambda x: nt.argmax(x, 1, output_type=nt.uint16), ones), np.zeros(2, np.uint16))
    with pytest.raises(ValueError, match=r"argmax: axis 1 of .* has no elements"):
        program(lambda x: nt.argmax(x, 1), np.zeros((2, 0), np.float32))
    with pytest.raises(TypeError, match=r"argmin: output_type is an integer dtype, got nt.float32"):
        program(lambda x: nt.argmin(x, 1, output_type="float32"), np.zeros((2, 2)))


# ---- nothing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "floats", "integers"),
    [
        ("sum", 0, 0), ("prod", 1, 1), ("max", -INF, -128), ("min", INF, 127), ("mean", NAN, 0),
        ("variance", NAN, None), ("std", NAN, None), ("euclidean_norm", 0, 0), ("logsumexp", -INF, None),
    ],
)  # fmt: skip
def test_of_nothing(name, floats, integers):
    fold = getattr(nt, f"reduce_{name}")
    for shape, axis in (((0,), None), ((2, 0), 1), ((0, 3), 0), ((2, 0, 3), 1), ((2, 0, 3), None)):
        for dtype, expected in ((np.float32, floats), (np.int8, integers)):
            if expected is not None:
                found = value(lambda x, axis=axis: fold(x, axis), np.zeros(shape, dtype))
                same(found, np.full_like(found, expected))
        assert gradient(lambda x, axis=axis: fold(x, axis), np.zeros(shape)).shape == shape
    same(value(nt.reduce_any, np.zeros(0, bool)), False)
    same(value(nt.reduce_all, np.zeros(0, bool)), True)
    same(value(nt.count_nonzero, np.zeros(0)), 0)
    for scan in (nt.cumsum, nt.cumprod, nt.math.cumulative_logsumexp):
        assert value(lambda x, scan=scan: scan(x, 1), np.zeros((3, 0))).shape == (3, 0)
        assert gradient(lambda x, scan=scan: scan(x, 1), np.zeros((3, 0))).shape == (3, 0)


# ---- products ---------------------------------------------------------------------------------------------------


def test_products_of_zeros():
    same(gradient(nt.reduce_prod, np.array([0.0, 2, 3])), [6, 0, 0])
    same(gradient(nt.reduce_prod, np.array([0.0, 2, 0])), [0, 0, 0])
    same(gradient(lambda x: nt.reduce_prod(x, 1), np.array([[0.0, 2], [3, 4]])), [[2, 0], [4, 3]])
    same(gradient(lambda x: nt.reduce_prod(x, (0, 2)), np.array([[[0.0, 2], [3, 4]], [[5, 6], [7, 0]]])),
         [[[60, 0], [0, 0]], [[0, 0], [0, 84]]])  # fmt: skip
    same(gradient(nt.cumprod, np.array([2.0, 0, 3, 4])), [1, 32, 0, 0])


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_derivatives_of_products_up_to_third_order(zeros):
    x = np.array([1.5, -0.7, 0.9, 1.2, -1.1])
    x[[1, 3, 0][:zeros]] = 0
    rows = np.stack([x, x[::-1], np.roll(x, 1)])
    for made in (
        program(nt.reduce_prod, x),
        program(lambda x: nt.reduce_prod(x, 1), rows),
        program(lambda x: nt.reduce_prod(x, 0), rows.T.copy()),
        *(
            program(lambda x, e=exclusive, r=reverse: nt.cumprod(x, 0, e, r), x)
            for exclusive in (False, True)
            for reverse in (False, True)
        ),
    ):
        shape = made.type(made.inputs[0]).shape
        check_gradient(made, [(rows.T.copy() if shape == (5, 3) else rows if shape == (3, 5) else x)], order=3)


# ---- means, variances, norms ------------------------------------------------------------------------------------


def test_means_of_integers_are_truncated_and_do_not_overflow():
    same(value(lambda x: nt.reduce_mean(x, 1), np.array([[1, 2], [-1, -2], [-1, 0], [3, 3]], np.int32)), [1, -1, 0, 3])
    for dtype in (np.int8, np.uint8, np.int32, np.uint32, np.uint64):
        top = np.iinfo(dtype).max // (2 if dtype is np.uint64 else 1)
        same(value(nt.reduce_mean, np.array([top, top], dtype)), top)


def test_variance_of_a_large_mean():
    x = (1e4 + np.array([0.0, 1, 2, 3])).astype(np.float32)
    same(value(nt.reduce_variance, x), np.float32(1.25))
    same(value(lambda x: nt.reduce_variance(x, 0), np.stack([x, x], 1)), np.full(2, 1.25, np.float32))


def test_roots_at_zero():
    for shape in ((3,), (2, 3)):
        zeros, nans = np.zeros(shape), np.full(shape, NAN)
        for norm in (nt.reduce_std, nt.reduce_euclidean_norm, nt.norm, lambda x: nt.norm(x, axis=-1)):
            same(gradient(norm, zeros), zeros)
            same(value(norm, nans), value(norm, zeros) + NAN)
        made = gradient_of(program(nt.reduce_euclidean_norm, zeros))
        for second in outputs(gradient_of(made), [zeros, np.ones(()), np.ones(shape)]):
            assert np.all(np.isfinite(second))
    found = gradient(lambda x: nt.norm(x, axis=1), np.array([[0.0, 0], [3, 4]]))
    np.testing.assert_allclose(found, [[0, 0], [0.6, 0.8]])


def test_norms():
    x = np.array([[1.0, -2, 3], [-4, 5, -6]])
    for axis in (None, 0, 1, -1):
        for ord in (1, 2, np.inf, "euclidean"):
            expected = np.linalg.norm(x.ravel() if axis is None else x, 2 if ord == "euclidean" else ord, axis)
            np.testing.assert_allclose(value(lambda x, o=ord, a=axis: nt.norm(x, o, a), x), expected)
    for axes in ((0, 1), (1, 0), (-2, -1)):
        for ord in (1, np.inf, "fro"):
            expected = np.linalg.norm(x, ord, axes, keepdims=True)
            np.testing.assert_allclose(value(lambda x, o=ord, a=axes: nt.norm(x, o, a, True), x), expected)
    for ord, axis in ((3, None), (2, (0, 1)), ("fro", None), ("nuc", (0, 1)), (1, (0,))):
        with pytest.raises(ValueError, match="norm: "):
            program(lambda x, o=ord, a=axis: nt.norm(x, o, a), x)


# ---- log-sum-exp ------------------------------------------------------------------------------------------------


def test_logsumexp_at_infinity():
    x = np.array([[0, 0], [1000, 1000], [-1000, -1000], [-INF, -INF], [-INF, 1], [INF, 1], [NAN, -INF]])
    expected = [np.log(2), 1000 + np.log(2), -1000 + np.log(2), -INF, 1, INF, NAN]
    np.testing.assert_allclose(value(lambda x: nt.reduce_logsumexp(x, 1), x), expected)
    np.testing.assert_allclose(value(lambda x: nt.reduce_logsumexp(x, 0), x.T.copy()), expected)
    found = gradient(lambda x: nt.reduce_logsumexp(x, 1), x[:5])
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0, 0], [0, 1]])
    made = gradient_of(program(lambda x: nt.reduce_logsumexp(x, 1), x[:5]))
    for second in outputs(gradient_of(made), [x[:5], np.ones(5), np.ones((5, 2))]):
        assert np.all(np.isfinite(second))


def test_running_logsumexp():
    x = np.array([-INF, -INF, 1000, 1000, -1000, 2000])
    scan = nt.math.cumulative_logsumexp
    same(value(scan, x), [-INF, -INF, 1000, 1000 + np.log(2), 1000 + np.log(2), 2000])
    same(value(lambda x: scan(x, exclusive=True), x), [-INF, -INF, -INF, 1000, 1000 + np.log(2), 1000 + np.log(2)])
    np.testing.assert_allclose(gradient(scan, x), [0, 0, 2, 1, 0, 1])
    np.testing.assert_allclose(gradient(lambda x: scan(x, exclusive=True), x), [0, 0, 2, 1, 0, 0])
    y = np.array([[0.3, -1.0, 2.0, 0.1], [1.0, 1.0, -2.0, 0.5]])
    for reverse in (False, True):
        kept = (0, 0) if reverse else (0, 1)
        made = program(lambda x, r=reverse, k=kept: nt.slice(scan(x, 1, True, r), k, (2, 3)), y)
        check_gradient(made, [y])


def test_scans_against_numpy():
    x = np.arange(24.0).reshape(2, 3, 4) / 10 - 1
    for axis in range(3):
        same(value(lambda x, a=axis: nt.cumsum(x, a), x), np.cumsum(x, axis))
        backwards = np.flip(np.cumsum(np.flip(x, axis), axis), axis)
        same(value(lambda x, a=axis: nt.cumsum(x, a, reverse=True), x), backwards)
        same(value(lambda x, a=axis: nt.cumprod(x, a), x), np.cumprod(x, axis))
    bytes = np.array([100, 100, 100], np.int8)
    same(value(lambda x: nt.cumsum(x, exclusive=True), bytes), np.array([0, 100, -56], np.int8))


# ---- long sums --------------------------------------------------------------------------------------------------

LONG = 10**6


@pytest.mark.parametrize(
    ("shape", "axis"), [((LONG,), 0), ((2, LONG // 2), 1), ((LONG // 2, 2), 0), ((1000, LONG // 1000), None)]
)
@pytest.mark.parametrize("fill", ["constant", "uniform", "normal"])
def test_long_sums_keep_their_digits(shape, axis, fill):
    rng = np.random.default_rng(3)
    x = {"constant": np.full(shape, 0.1), "uniform": rng.random(shape), "normal": rng.normal(size=shape)}[fill]
    x = x.astype(np.float32)
    made = program(lambda x: nt.reduce_sum(x, axis), x)
    found = WAYS["native"](made, [x])[0]
    exact, scale = x.sum(axis, np.float64), np.abs(x).sum(axis, np.float64)
    assert np.max(np.abs(found - exact) / scale) < 1e-6
    assert found.tobytes() == WAYS["native"](made, [x])[0].tobytes()


def test_a_long_sum_of_row_values_keeps_its_digits():
    x = np.full((LONG // 4, 4), 0.025, np.float32)
    made = program(lambda x: nt.reduce_sum(nt.square(nt.reduce_sum(x, axis=1))), x)
    assert len(plan(made).steps) == 1
    np.testing.assert_allclose(WAYS["native"](made, [x])[0], LONG // 4 * 0.01, rtol=1e-6)


@pytest.mark.parametrize("n", [511, 512, 513, 1025])
def test_blocks_meet(n):
    """Sums are right where blocks of elements or rows begin and end, also beside other folds and later loops."""
    x = np.random.default_rng(n).normal(size=(3, n))
    for a in (x, x.T.copy()):
        for axis in (0, 1, None):
            value(lambda x, axis=axis: nt.reduce_sum(x, axis), a)
            value(lambda x, axis=axis: nt.reduce_variance(x, axis), a)
            value(lambda x, axis=axis: nt.reduce_sum(x, axis) * nt.reduce_max(x, axis) + nt.reduce_mean(x * x, axis), a)
        value(lambda x: nt.reduce_sum(nt.square(x - nt.reduce_mean(x, 1, True))), a)
        gradient(lambda x: nt.reduce_sum(nt.square(nt.reduce_logsumexp(x, 1))), a)


# ---- kernels ----------------------------------------------------------------------------------------------------


def softmax(x):
    e = nt.exp(x - nt.reduce_max(x, -1, True))
    return e / nt.reduce_sum(e, -1, True)


@pytest.mark.parametrize("columns", [10, 1000])
def test_patterns_along_rows_are_one_kernel(columns):
    shape = (32, columns)
    for function in (
        softmax,
        lambda x: nt.reduce_logsumexp(x, -1),
        lambda x: nt.reduce_variance(x, -1),
        lambda x: (x - nt.reduce_mean(x, -1, True)) / nt.reduce_std(x, -1, True),
        lambda x: nt.argmax(x, -1),
        lambda x: nt.norm(x, axis=-1),
        lambda x: nt.reduce_sum(nt.reduce_max(nt.square(x), -1)),
        nt.reduce_sum,
    ):
        assert kernels(function, shape) == 1


# ---- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["reduce_sum", "reduce_mean", "reduce_max", "reduce_logsumexp", "reduce_std", "count_nonzero", "norm"]
)
def test_axes_that_do_not_exist(name):
    fold = getattr(nt, name)
    x = np.zeros((2, 3))
    for axis, error, text in (
        (2, ValueError, "axis 2 is out of range for a tensor of rank 2"), (-3, ValueError, "axis -3 is out of range"),
        ((0, 2), ValueError, "axis 2"), ((0, 0), ValueError, "twice"), ((1, -1), ValueError, "twice"),
        (1.0, TypeError, "an axis is an integer"), (True, TypeError, "an axis is an integer"),
        ("x", TypeError, "an axis is an integer"),
    ):  # fmt: skip
        with pytest.raises(error, match=f"{name}: .*{text}"):
            program(lambda x, axis=axis: fold(x, axis=axis), x)
    with pytest.raises(TypeError, match=f"{name}: keepdims is True or False, got 'no'"):
        program(lambda x: fold(x, axis=0, keepdims="no"), x)


def test_dtypes_that_do_not_fit():
    for name in ("reduce_sum", "reduce_max", "reduce_mean"):
        with pytest.raises(TypeError, match=f"{name}: needs numeric elements, got bool"):
            program(getattr(nt, name), np.zeros((2, 3), bool))
    for name in ("reduce_variance", "reduce_std", "reduce_logsumexp", "norm"):
        with pytest.raises(TypeError, match=f"{name}: needs floating elements, got int64"):
            program(getattr(nt, name), np.zeros((2, 3), np.int64))
    for name in ("reduce_any", "reduce_all"):
        with pytest.raises(TypeError, match=f"{name}: needs boolean elements, got float64"):
            program(getattr(nt, name), np.zeros((2, 3)))


def test_scans_that_do_not_fit():
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match="cumsum: axis 2 is out of range"):
        program(lambda x: nt.cumsum(x, 2), x)
    with pytest.raises(ValueError, match="cumprod: axis 0 is out of range for a tensor of rank 0"):
        program(nt.cumprod, np.zeros(()))
    with pytest.raises(TypeError, match="cumsum: reverse is True or False, got 2"):
        program(lambda x: nt.cumsum(x, 0, reverse=2), x)
    with pytest.raises(TypeError, match="cumprod: needs numeric elements, got bool"):
        program(nt.cumprod, np.zeros(3, bool))


# ---- sorting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.uint8, np.int64])
@pytest.mark.parametrize("n", [7, 33, 100])
def test_sorting_against_numpy(dtype, n):
    x = np.random.default_rng(n).integers(0, 9, (3, n)).astype(dtype)
    if x.dtype.kind == "f":
        x[x == 1] = NAN
        x[x == 2], x[x == 3], x[x == 4] = INF, -INF, -0.0
    elif x.dtype.kind == "i":
        x -= 4
    same(value(nt.sort, x), np.sort(x))
    same(value(nt.argsort, x), np.argsort(x, kind="stable"))
    columns = x.T.copy()
    same(value(lambda x: nt.sort(x, 0, "DESCENDING"), columns), np.sort(columns, 0)[::-1])
    places = value(lambda x: nt.argsort(x, direction="DESCENDING"), x)
    for row, order in zip(x, places, strict=True):
        same(row[order], np.sort(row)[::-1])
        alike = (row[order[1:]] == row[order[:-1]]) | ((row != row)[order[1:]] & (row != row)[order[:-1]])
        assert np.all(np.diff(order)[alike] > 0)
    for k in (1, 5, n):
        found = program(lambda x, k=k: nt.math.top_k(x, k).indices, x)
        same(outputs(found, [x])[0], places[:, :k])
        same(value(lambda x, k=k: nt.math.top_k(x, k).values, x), np.sort(x)[:, ::-1][:, :k])


def test_gradients_of_sorting_go_back_to_where_elements_were():
    weights = np.array([1.0, 10, 100, 1000])
    x = np.array([3.0, 1, 3, 2])
    same(gradient(lambda x, w: nt.sort(x) * w, x, weights), [100, 1, 1000, 10])
    same(gradient(lambda x, w: nt.sort(x, direction="DESCENDING") * w, x, weights), [1, 1000, 10, 100])
    same(gradient(lambda x, w: nt.math.top_k(x, 2).values * w, x, weights[:2]), [1, 0, 10, 0])


def test_sorts_that_do_not_fit():
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match="sort: axis 2 is out of range"):
        program(lambda x: nt.sort(x, 2), x)
    with pytest.raises(ValueError, match="argsort: direction is 'ASCENDING' or 'DESCENDING', got 'up'"):
        program(lambda x: nt.argsort(x, direction="up"), x)
    for k in (4, -1):
        with pytest.raises(ValueError, match=f"top_k: k={k} elements need a last axis that has so many"):
            program(lambda x, k=k: nt.math.top_k(x, k).values, x)
    with pytest.raises(ValueError, match="top_k: k=1 elements"):
        program(lambda x: nt.math.top_k(x).values, np.zeros(()))
    with pytest.raises(TypeError, match=r"top_k: k is an integer, got 1\.0"):
        program(lambda x: nt.math.top_k(x, 1.0).values, x)
    with pytest.raises(TypeError, match="sort: needs numeric elements, got bool"):
        program(nt.sort, np.zeros(3, bool))


# ---- axes in the middle -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 8), (3, 70, 9), (2, 3, 2, 9), (2, 1, 3, 1, 8), (3, 2, 2, 2, 8)])
def test_every_set_of_axes(shape):
    """What is folded meets again what it came from: all patterns of folding and repeating."""
    x = np.random.default_rng(1).integers(-3, 4, shape).astype(np.float32)
    for mask in range(1 << len(shape)):
        axes = tuple(a for a in range(len(shape)) if mask >> a & 1)
        for fold in (nt.reduce_sum, nt.reduce_max):
            made = program(lambda x, f=fold, a=axes: x * f(x, a, True) + f(x, a, True), x)
            agree(WAYS["plain"](made, [x]), WAYS["reference"](made, [x]), f"{axes}")


def test_axes_in_the_middle_move_nothing():
    x = np.random.default_rng(1).normal(size=(4, 130, 10))

    def normalized(x, axes):
        mean = nt.reduce_mean(x, axes, True)
        return (x - mean) / nt.sqrt(nt.reduce_variance(x, axes, True) + 1e-3)

    for a, axes in ((x, 1), (x.reshape(4, 13, 10, 10), (0, 2, 3)), (x.reshape(4, 13, 10, 10), (1, 2))):
        made = program(lambda x, axes=axes: normalized(x, axes), a)
        moved = {"transpose", "expand"}
        assert not any(step.kernel.name.startswith(("copy", *moved)) for step in plan(made).steps)
        assert not moved & {i.op.name for i in plan(made).program.instructions}
        outputs(made, [a])
        gradient(lambda x, axes=axes: nt.square(normalized(x, axes)) * normalized(x, axes), a)
    same(value(lambda x: nt.reduce_max(x, 1), x), x.max(1))
    same(value(lambda x: nt.reduce_any(x, (1, 2)), x > 3), (x > 3).any((1, 2)))
    same(value(lambda x: nt.argmax(x, 1), x), x.argmax(1))
    long = np.full((2, 100_000, 8), 0.1, np.float32)
    found = WAYS["native"](program(lambda x: nt.reduce_sum(x, 1), long), [long])[0]
    np.testing.assert_allclose(found, 1e4, rtol=1e-6)
