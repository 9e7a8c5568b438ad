"""Softmax, losses, normalization and dropout: large inputs, masks, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import numtape as nt
from numtape.codegen.plan import plan
from numtape.dtypes import float32, int32, tensor_type
from numtape.ir.program import Builder, Program
from numtape.ops import nn
from numtape.ops.contraction import dot
from numtape.ops.reduction import mean_
from numtape.passes.differentiate import differentiate

INF, NAN = float("inf"), float("nan")


def gradients(function, *arrays):
    """The value of a function of Variables, and the gradient of the sum of its elements."""
    variables = [nt.Variable(a) for a in arrays]
    with nt.GradientTape() as tape:
        result = function(*variables)
    return result.numpy(), *(g.numpy() for g in tape.gradient(result, variables))


def close(found, expected, rtol=1e-6, atol=0.0):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


# ---- softmax -------------------------------------------------------------------------------------------------------

ROWS = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4], [0, 0, 0], [3e38, 3e38, -3e38]], np.float32)
WEIGHTS = np.array([[1, 0, 0], [1 / 3] * 3, [1 / 3] * 3, [1 / 3] * 3, [0.5, 0.5, 0]])


def test_softmax_of_large_and_equal_logits():
    close(nt.nn.softmax(ROWS).numpy(), WEIGHTS)
    close(nt.nn.softmax(ROWS.T, axis=0).numpy(), WEIGHTS.T)
    found = nt.nn.log_softmax(ROWS[:4]).numpy()
    close(found, [[0, -2e4, -1e4], *[[-np.log(3)] * 3] * 3])
    _, gradient = gradients(lambda x: nt.nn.softmax(x) * [1.0, 2.0, 4.0], ROWS)
    assert np.isfinite(gradient).all()
    close(gradient[1], (WEIGHTS[1] * ([1, 2, 4] - (WEIGHTS[1] * [1, 2, 4]).sum())), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masked_logits_have_no_weight_and_no_gradient(dtype):
    logits = np.array([[1, -INF, 3], [-INF, -INF, 0]], dtype)
    kept = np.exp([1 - 3, 0]) / np.exp([1 - 3, 0]).sum()
    value, gradient = gradients(lambda x: nt.nn.softmax(x) * np.array([1, 2, 3], dtype), logits)
    close(value, [[kept[0], 0, 3 * kept[1]], [0, 0, 3]])
    assert np.isfinite(gradient).all()
    assert (gradient[logits == -INF] == 0).all()
    close(gradient[0, [0, 2]], [-2 * kept[0] * kept[1], 2 * kept[0] * kept[1]], rtol=1e-5)
    value, gradient = gradients(lambda x: nt.where(x == -INF, 0.0, nt.nn.log_softmax(x)), logits)
    close(value[0], [np.log(kept[0]), 0, np.log(kept[1])])
    assert np.isfinite(gradient).all()


def test_a_row_with_nothing_but_masks_is_nan():
    assert np.isnan(nt.nn.softmax([[-INF, -INF]]).numpy()).all()


def test_axes_of_softmax():
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    for axis in (0, 1, 2, -1, -2, None):
        weights = np.exp(x) / np.exp(x).sum(-1 if axis is None else axis, keepdims=True)
        close(nt.nn.softmax(x, axis).numpy(), weights, rtol=1e-5)
        close(nt.math.log_softmax(x, axis).numpy(), np.log(weights), rtol=1e-4, atol=1e-6)
    assert nt.nn.softmax is nt.math.softmax
    assert nt.nn.softmax(np.zeros((2, 0), np.float32)).numpy().shape == (2, 0)
    for call in (nt.nn.softmax, nt.nn.log_softmax):
        with pytest.raises(ValueError, match="axis 3"):
            call(x, axis=3)
        with pytest.raises(ValueError, match="axis -1"):
            call(1.0)
        with pytest.raises(TypeError, match="floating"):
            call([1, 2])


# ---- cross entropies -----------------------------------------------------------------------------------------------


def test_cross_entropy_of_large_and_equal_logits():
    labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    close(nt.nn.softmax_cross_entropy_with_logits(labels, ROWS[:4]).numpy(), [0, *[np.log(3)] * 3])
    wrong = np.eye(3, dtype=np.float32)[[1]]
    value, gradient = gradients(lambda x: nt.nn.softmax_cross_entropy_with_logits(wrong, x), ROWS[:1])
    assert value[0] == 2e4
    close(gradient, [[1, -1, 0]])


def test_cross_entropy_ignores_masked_classes_without_label():
    labels, logits = np.array([[0, 1, 0]], np.float32), np.array([[1, 2, -INF]], np.float32)
    value, gradient = gradients(lambda x: nt.nn.softmax_cross_entropy_with_logits(labels, x), logits)
    expected = np.log(1 + np.exp(-1))
    close(value, [expected])
    close(gradient, [[1 - np.exp(-expected), np.exp(-expected) - 1, 0]], rtol=1e-5)


def test_gradients_of_cross_entropy():
    rng = np.random.default_rng(1)
    labels, logits = rng.random((4, 5)), rng.standard_normal((4, 5))
    value, d_labels, d_logits = gradients(nt.nn.softmax_cross_entropy_with_logits, labels, logits)
    weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    close(value, -(labels * np.log(weights)).sum(1))
    close(d_labels, -np.log(weights))
    close(d_logits, weights * labels.sum(1, keepdims=True) - labels)  # these labels do not add up to 1
    found = nt.nn.softmax_cross_entropy_with_logits(labels.T, logits.T, axis=0)
    close(found.numpy(), value)


INTEGERS = [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_sparse_cross_entropy(dtype):
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((6, 300)).astype(np.float32)
    labels = np.array([0, 1, 44, 100, 127, 127]).astype(dtype)  # in 8 bits 256 + 44 would be 44
    value, gradient = gradients(lambda x: nt.nn.sparse_softmax_cross_entropy_with_logits(labels, x), logits)
    shifted = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    close(value, -shifted[range(6), labels.astype(int)], rtol=1e-5)
    close(gradient, np.exp(shifted) - np.eye(300)[labels.astype(int)], rtol=1e-4, atol=1e-6)
    one_hot = np.eye(300, dtype=np.float32)[labels.astype(int)]
    close(nt.nn.softmax_cross_entropy_with_logits(one_hot, logits).numpy(), value, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "label"),
    [(np.int32, -1), (np.int32, 3), (np.int64, 1 << 32), (np.int64, -(1 << 32)), (np.uint64, (1 << 32) + 1),
     (np.uint32, (1 << 32) - 1), (np.int8, -1), (np.uint8, 255)],
)  # fmt: skip
def test_a_label_out_of_range_gives_nan(dtype, label):
    labels = np.array([1, label], dtype)
    logits = np.array([[0, 0, 0], [1, 2, 3]], np.float32)
    value, gradient = gradients(lambda x: nt.nn.sparse_softmax_cross_entropy_with_logits(labels, x), logits)
    close(value, [np.log(3), NAN])
    close(gradient, [[1 / 3, -2 / 3, 1 / 3], [NAN] * 3])


def test_sparse_cross_entropy_of_large_logits():
    labels = np.array([0, 1, 2, 1])
    value, gradient = gradients(lambda x: nt.nn.sparse_softmax_cross_entropy_with_logits(labels, x), ROWS[:4])
    close(value, [0, *[np.log(3)] * 3])
    close(gradient, WEIGHTS[:4] - np.eye(3)[labels], atol=1e-7)
    masked = nt.nn.sparse_softmax_cross_entropy_with_logits([0, 1], [[0.0, -INF], [0.0, -INF]])
    close(masked.numpy(), [0, INF])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)])
def test_shapes_of_sparse_cross_entropy(shape):
    found = nt.nn.sparse_softmax_cross_entropy_with_logits(np.zeros(shape, np.int32), np.zeros((*shape, 4), np.float32))
    close(found.numpy(), np.full(shape, np.log(4)))


@pytest.mark.parametrize(
    ("labels", "logits", "error", "match"),
    [
        ([0.0], [[1.0, 2.0]], TypeError, "labels"),
        ([0], [[1, 2]], TypeError, "logits"),
        ([0, 1], [[1.0, 2.0]], ValueError, "without classes"),
        ([0], 1.0, ValueError, "without classes"),
    ],
)
def test_sparse_cross_entropy_refuses(labels, logits, error, match):
    with pytest.raises(error, match=match):
        nt.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def test_losses_refuse_other_shapes_and_dtypes():
    losses = (
        nt.nn.softmax_cross_entropy_with_logits, nt.nn.sigmoid_cross_entropy_with_logits,
        lambda labels, logits: nt.nn.weighted_cross_entropy_with_logits(labels, logits, 2),
    )  # fmt: skip
    for loss in losses:
        with pytest.raises(ValueError, match="shape of logits"):
            loss([[1.0, 0.0]], [1.0, 2.0])
        with pytest.raises(TypeError, match="float64"):
            loss(np.zeros((1, 2)), np.zeros((1, 2), np.float32))
        with pytest.raises(TypeError, match="floating"):
            loss([[1, 0]], [[1, 2]])


def step(loss):
    """The kernels of a linear layer with a loss and its gradients."""
    b = Builder()
    types = [(int32, (32,)), (float32, (32, 64)), (float32, (64, 10)), (float32, (10,))]
    labels, x, w, bias = (b.input(tensor_type(*t), k) for k, t in enumerate(types))
    total = mean_(loss(labels, dot(x, w, False, False) + bias), (0,))
    recorded = [(0, len(b.instructions))]
    wanted = [w.index, bias.index]
    found = differentiate(b, [total.index], [[k] for k in wanted], [None], recorded, dict.fromkeys(wanted, 0))
    outputs = [total.index, *(v.index for v in found if v is not None)]
    return [s.kernel.name for s in plan(Program(tuple(b.instructions), tuple(outputs))).steps]


def test_a_loss_and_its_gradient_are_one_kernel():
    def sparse(labels, logits):
        return nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

    def dense(labels, logits):
        return nn.softmax_cross_entropy_with_logits(nt.one_hot(labels, 10), logits)

    for loss in (sparse, dense):
        names = step(loss)
        assert len(names) == 3
        assert [n.startswith("gemm") for n in names] == [True, False, True]


def test_sigmoid_cross_entropy():
    logits = np.array([0, 20, -20, 1e4, -1e4, 20, -20, 1e4, -1e4], np.float32)
    labels = np.array([0.25, 1, 0, 1, 0, 0, 1, 0, 1], np.float32)
    value, d_labels, d_logits = gradients(nt.nn.sigmoid_cross_entropy_with_logits, labels, logits)
    tiny = np.log1p(np.exp(-20.0))
    close(value, [np.log(2), tiny, tiny, 0, 0, 20, 20, 1e4, 1e4])
    close(d_labels, -logits)
    close(d_logits, [0.25, -tiny, tiny, 0, 0, 1, -1, 1, -1], rtol=1e-5, atol=1e-7)


def test_weighted_cross_entropy():
    logits = np.array([0, 20, -20, 1e4, -1e4, 20, -20], np.float32)
    labels = np.array([0.25, 1, 0, 1, 0, 0, 1], np.float32)
    tiny = np.log1p(np.exp(-20.0))
    found = nt.nn.weighted_cross_entropy_with_logits(labels, logits, 3.0).numpy()
    close(found, [1.5 * np.log(2), 3 * tiny, tiny, 0, 0, 20, 60])
    alone = nt.nn.weighted_cross_entropy_with_logits(labels, logits, 1.0).numpy()
    close(alone, nt.nn.sigmoid_cross_entropy_with_logits(labels, logits).numpy())


# ---- normalization -------------------------------------------------------------------------------------------------


def test_l2_loss():
    value, gradient = gradients(nt.nn.l2_loss, np.array([[3, -4]], np.float32))
    assert value == 12.5
    close(gradient, [[3, -4]])
    with pytest.raises(TypeError, match="floating"):
        nt.nn.l2_loss([1, 2])


def test_l2_normalize():
    x = np.array([[3, 4], [0, 0]], np.float32)
    value, gradient = gradients(lambda x: nt.nn.l2_normalize(x, -1), x)
    close(value, [[0.6, 0.8], [0, 0]])
    assert np.isfinite(gradient).all()
    close(nt.math.l2_normalize(x).numpy(), x / 5)
    close(nt.nn.l2_normalize(x, 0, epsilon=100).numpy(), x / 10)
    with pytest.raises(ValueError, match="axis 2"):
        nt.nn.l2_normalize(x, 2)


def test_moments():
    x = np.random.default_rng(3).standard_normal((3, 4, 5)) + 100
    for axes in ([0], [1], 2, [0, 2], (0, 1, 2), [-1]):
        over = tuple(axes) if isinstance(axes, list) else axes
        for keepdims in (False, True):
            mean, variance = nt.nn.moments(x, axes, keepdims=keepdims)
            close(mean.numpy(), x.mean(over, keepdims=keepdims))
            close(variance.numpy(), x.var(over, keepdims=keepdims))


def test_the_variance_differentiates_twice():
    """Its second derivative has a part that passes through the mean."""
    x = nt.Variable([1.0, 2.0, 6.0])
    with nt.GradientTape() as outer:
        with nt.GradientTape() as inner:
            _, variance = nt.nn.moments(x, [0])
        slope = inner.gradient(variance, x)[0]
    close(outer.gradient(slope, x).numpy(), np.array([2, -1, -1]) * 2 / 9, rtol=1e-5)


def test_bias_add():
    x, bias = np.zeros((2, 3, 3, 3), np.float32), np.array([1, 2, 3], np.float32)
    close(nt.nn.bias_add(x, bias).numpy(), x + bias)
    close(nt.nn.bias_add(x, bias, data_format="NHWC").numpy(), x + bias)
    close(nt.nn.bias_add(x, bias, data_format="NCHW").numpy(), x + bias[:, None, None])
    _, d_value, d_bias = gradients(lambda x, b: nt.nn.bias_add(x, b, "NCHW"), x, bias)
    close(d_value, np.ones_like(x))
    close(d_bias, [18] * 3)
    refused = ((x, [1.0, 2.0]), "3 channels"), ((x, bias, "CHWN"), "data_format"), ((bias, bias), "axes")
    for arguments, match in refused:
        with pytest.raises(ValueError, match=match):
            nt.nn.bias_add(*arguments)


# ---- dropout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout(rate, dtype):
    found = nt.nn.dropout(np.ones(100_000, dtype), rate, seed=1).numpy()
    assert found.dtype == dtype
    kept = found != 0
    assert abs(kept.mean() - (1 - rate)) < 4 * (rate * (1 - rate) / 100_000) ** 0.5
    close(found[kept], 1 / (1 - rate))


def test_dropout_of_nothing_keeps_everything():
    x = np.array([1, NAN, INF, -0.0, 1e-45], np.float32)
    np.testing.assert_array_equal(nt.nn.dropout(x, 0).numpy(), x)


def test_the_gradient_of_dropout_passes_what_was_kept():
    value, gradient = gradients(lambda x: nt.nn.dropout(x, 0.5, seed=2), np.arange(1, 101, dtype=np.float32))
    np.testing.assert_array_equal(gradient, np.where(value != 0, 2, 0))
    assert 30 < (gradient == 0).sum() < 70


def test_dropped_elements_are_zero_whatever_they_were():
    x = np.full(100, NAN, np.float32)
    value, gradient = gradients(lambda x: nt.nn.dropout(x, 0.5, seed=3), x)
    dropped = ~np.isnan(value)
    assert 30 < dropped.sum() < 70
    assert (gradient[dropped] == 0).all()


def test_elements_may_share_their_fate():
    found = nt.nn.dropout(np.ones((50, 4, 3), np.float32), 0.5, noise_shape=[None, 1, 3], seed=4).numpy()
    assert (found == found[:, :1]).all()
    assert len(np.unique(found[:, 0])) == 2
    again = nt.nn.dropout(np.ones((50, 4, 3), np.float32), 0.5, noise_shape=(50, 1, 3), seed=4)
    assert again.shape == (50, 4, 3)
    shorter = nt.nn.dropout(np.ones((50, 4), np.float32), 0.5, noise_shape=[4], seed=5).numpy()
    assert (shorter == shorter[:1]).all()
    whole = nt.nn.dropout(np.ones((50, 4), np.float32), 0.5, noise_shape=nt.constant([1, 1]), seed=5).numpy()
    assert len(np.unique(whole)) == 1


def test_a_rate_may_be_a_tensor():
    rate = nt.Variable(0.5)
    with nt.GradientTape() as tape:
        total = nt.reduce_sum(nt.nn.dropout(np.ones(100, np.float32), rate, seed=6))
    # Where an element is kept does not count; how much it is scaled does.
    close(tape.gradient(total, rate).numpy(), 2 * total.numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("x", "options", "error", "match"),
    [
        ([1.0], {"rate": 1}, ValueError, "rate 1"),
        ([1.0], {"rate": -0.1}, ValueError, "rate"),
        ([1.0], {"rate": NAN}, ValueError, "rate"),
        ([1.0], {"rate": np.float64(1.5)}, ValueError, "rate"),
        ([1.0], {"rate": [0.5, 0.5]}, ValueError, "single number"),
        ([1], {"rate": 0}, TypeError, "floating"),
        ([1.0, 2.0], {"rate": 0.5, "noise_shape": [3]}, ValueError, "noise_shape"),
        ([1.0, 2.0], {"rate": 0.5, "noise_shape": [1, 2]}, ValueError, "noise_shape"),
        ([[1.0, 2.0]], {"rate": 0.5, "noise_shape": [2, 2]}, ValueError, "noise_shape"),
        ([1.0], {"rate": 0.5, "seed": "x"}, TypeError, "seed"),
    ],
)
def test_dropout_refuses(x, options, error, match):
    with pytest.raises(error, match=match):
        nt.nn.dropout(x, **options)


def test_a_loop_with_dropout_compiles_once():
    x = nt.Variable(np.ones((4, 5), np.float32))

    def step():
        with nt.GradientTape() as tape:
            loss = nt.reduce_sum(nt.nn.dropout(x, 0.5) ** 2)
        return tape.gradient(loss, x).numpy()

    for _ in range(2):
        step()
    before = nt.cache.stats()
    found = {step().tobytes() for _ in range(200)}
    after = nt.cache.stats()
    assert len(found) > 190
    assert (after.programs, after.compilations) == (before.programs, before.compilations)
