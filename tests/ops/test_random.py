"""Random numbers: the published bits, the right distributions, and what a seed determines."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import numtape as nt
from numtape.codegen.plan import plan
from numtape.codegen.threefry import threefry
from numtape.dtypes import float32, float64, tensor_type, type_of, uint64
from numtape.ir.program import Builder, Program
from numtape.ops import random
from tests.programs import WAYS

FULL = (1 << 64) - 1
COUNT = 200_000
dtypes = pytest.mark.parametrize("dtype", [nt.float32, nt.float64], ids=["float32", "float64"])


def run(function, *arrays, way="native"):
    """What a function of values gives."""
    builder = Builder()
    arrays = [np.asarray(a) for a in arrays]
    values = [builder.input(type_of(a), k) for k, a in enumerate(arrays)]
    result = function(*values)
    (found,) = WAYS[way](Program(tuple(builder.instructions), (result.index,)), arrays)
    return found


# ---- bits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_the_published_answers(key, counter, expected):
    """From `kat_vectors` of Random123, the library of the paper's authors."""
    words = [np.array([w], np.uint32) for w in (*key, *counter)]
    assert tuple(int(w[0]) for w in threefry(tuple(words[:2]), tuple(words[2:]))) == expected


@pytest.mark.parametrize("way", ["plain", "native"])
def test_bits_of_large_numbers(way):
    rng = np.random.default_rng(0)
    operands = [rng.integers(0, FULL, 50, np.uint64, endpoint=True) for _ in range(3)]
    operands[2][:4] = 0, FULL, 1 << 32, (1 << 32) - 1
    expected = run(random.random_bits, *operands, way="reference")
    np.testing.assert_array_equal(run(random.random_bits, *operands, way=way), expected)


def test_every_operand_changes_half_of_the_bits():
    start = np.uint64(12345)
    for flipped in itertools.product(range(3), range(64)):
        operands = [start] * 3
        operands[flipped[0]] = start ^ np.uint64(1 << flipped[1])
        changed = run(random.random_bits, *operands, way="reference") ^ run(
            random.random_bits, start, start, start, way="reference"
        )
        assert 12 <= int(changed).bit_count() <= 52


@dtypes
def test_numbers_from_extreme_bits(dtype):
    bits = np.array([0, 1, FULL, 1 << 63], np.uint64)
    one = np.asarray(1, dtype.dtype)
    fractions = run(lambda b: random.fraction(b, dtype), bits)
    np.testing.assert_array_equal(fractions, [0, 0, one - np.finfo(dtype.dtype).eps / 2, 0.5])
    positive = run(lambda b: random.positive_fraction(b, dtype), bits)
    assert 0 < positive[0] < 1e-9
    assert positive[2] == 1
    for way in WAYS:
        radius = run(lambda b: random.sqrt(-2.0 * random.log(random.positive_fraction(b, dtype))), bits, way=way)
        assert np.isfinite(radius).all()


@given(st.integers(0, FULL), st.integers(0, FULL))
def test_upper_half_of_a_product(x, y):
    found = run(random._high_product, np.uint64(x), np.uint64(y), way="reference")
    assert int(found) == x * y >> 64


# ---- distributions -------------------------------------------------------------------------------------------------


@dtypes
def test_normal(dtype):
    found = nt.random.normal([COUNT], dtype=dtype, seed=1).numpy()
    assert found.dtype == dtype.dtype
    assert stats.kstest(found, "norm").pvalue > 0.01
    neighbours = np.corrcoef(found[:-1], found[1:])[0, 1]
    assert abs(neighbours) < 4 / COUNT**0.5


@dtypes
def test_tails_of_normal(dtype):
    found = np.abs(nt.random.normal([2_000_000], dtype=dtype, seed=2).numpy())
    for limit in (3.0, 4.0, 4.5):
        expected = 2_000_000 * 2 * stats.norm.sf(limit)
        assert abs((found > limit).sum() - expected) < 4 * expected**0.5


@dtypes
def test_truncated_normal(dtype):
    found = nt.random.truncated_normal([COUNT], dtype=dtype, seed=3).numpy()
    assert np.abs(found).max() <= 2
    assert stats.kstest(found, stats.truncnorm(-2, 2).cdf).pvalue > 0.01
    moved = nt.random.truncated_normal([COUNT], 3.0, 0.5, dtype=dtype, seed=4).numpy()
    assert moved.min() >= 2
    assert moved.max() <= 4


def test_quantiles_of_truncated_normal():
    """A uniform number of 53 bits gives its quantile, to what the polynomial promises."""
    bits = (np.linspace(0, 1, 1001)[:-1] * 2.0**64).astype(np.uint64)
    uniform = (bits >> np.uint64(11)) * 2.0**-53
    found = run(lambda b: random._two_sided(random.fraction(b, float64)), bits)
    np.testing.assert_allclose(found, stats.truncnorm(-2, 2).ppf(uniform), rtol=1e-10, atol=1e-10)


@dtypes
@pytest.mark.parametrize("bounds", [(0, None), (-3, 5), (2.5, 2.75), (100, 101)])
def test_uniform(dtype, bounds):
    found = nt.random.uniform([COUNT], *bounds, dtype=dtype, seed=5).numpy()
    low, high = bounds[0], bounds[1] or 1
    assert found.dtype == dtype.dtype
    assert found.min() >= low
    assert found.max() < high
    assert stats.kstest(found, stats.uniform(low, high - low).cdf).pvalue > 0.01


def test_rounding_does_not_reach_the_upper_bound():
    standard = np.array([0, 1 - 2.0**-24], np.float32)
    low, high = np.float32(3), np.float32(4)
    assert low + standard[1] * (high - low) == high  # as it comes
    for way in WAYS:
        found = run(lambda *operands: random.BETWEEN.expand(operands, ()), standard, low, high, way=way)
        assert found[0] == 3
        assert 3 <= found[1] < 4


@pytest.mark.parametrize("dtype", [nt.int8, nt.uint8, nt.int16, nt.uint32, nt.int32, nt.int64, nt.uint64])
def test_uniform_integers(dtype):
    found = nt.random.uniform([60_000], 3, 9, dtype=dtype, seed=6).numpy()
    assert found.dtype == dtype.dtype
    values, counts = np.unique(found, return_counts=True)
    np.testing.assert_array_equal(values, [3, 4, 5, 6, 7, 8])
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("dtype", [nt.int8, nt.int32, nt.uint32, nt.int64, nt.uint64])
def test_integers_over_the_whole_dtype(dtype):
    low, high = int(dtype.min), int(dtype.max) + 1
    if dtype.itemsize == 8:
        high -= 1  # one more would not fit 64 bits
    found = nt.random.uniform([COUNT], low, high, dtype=dtype, seed=7).numpy()
    parts = ((found.astype(object) - low) * 16 // (high - low)).astype(int)
    assert stats.chisquare(np.bincount(parts, minlength=16)).pvalue > 0.01


def test_a_span_that_is_no_power_of_two_is_even():
    """Of 3 * 2**30 integers, 32 bits would give every third twice as often."""
    found = nt.random.uniform([COUNT], 0, 3 << 30, dtype=nt.uint32, seed=8).numpy()
    assert stats.chisquare(np.bincount(found % 3)).pvalue > 0.01


def test_bounds_may_be_tensors():
    low, high = nt.constant([0, 10]), nt.constant([5, 12])
    found = nt.random.uniform([1000, 2], low, high, dtype=nt.int32, seed=9).numpy()
    np.testing.assert_array_equal(np.unique(found[:, 0]), range(5))
    np.testing.assert_array_equal(np.unique(found[:, 1]), [10, 11])
    negative = nt.random.uniform([1000], nt.constant(-3), 0, dtype=nt.int32, seed=9).numpy()
    np.testing.assert_array_equal(np.unique(negative), [-3, -2, -1])
    floats = nt.random.uniform([1000, 2], [0.0, 10.0], nt.constant([1.0, 20.0]), seed=9).numpy()
    assert floats[:, 0].max() < 1
    assert floats[:, 1].min() >= 10


def test_gradients_of_location_and_scale():
    mean, stddev = nt.Variable([1.0, 2.0]), nt.Variable(3.0)
    with nt.GradientTape() as tape:
        x = nt.random.normal([4, 2], mean, stddev, seed=10)
        total = nt.reduce_sum(x)
    d_mean, d_stddev = tape.gradient(total, [mean, stddev])
    standard = (x.numpy() - [1, 2]) / 3
    np.testing.assert_array_equal(d_mean.numpy(), [4, 4])
    np.testing.assert_allclose(d_stddev.numpy(), standard.sum(), rtol=1e-4)
    low, high = nt.Variable(1.0), nt.Variable(3.0)
    with nt.GradientTape() as tape:
        x = nt.random.uniform([5], low, high, seed=10)
    d_low, d_high = tape.gradient(x, [low, high])
    np.testing.assert_allclose(d_low.numpy() + d_high.numpy(), 5, rtol=1e-6)
    np.testing.assert_allclose(d_high.numpy(), ((x.numpy() - 1) / 2).sum(), rtol=1e-5)


def test_shuffle():
    x = np.arange(12).reshape(6, 2)
    found = nt.random.shuffle(x, seed=11).numpy()
    assert (found != x).any()
    np.testing.assert_array_equal(found[np.argsort(found[:, 0])], x)
    nt.random.set_seed(0)
    counts = dict.fromkeys(itertools.permutations(range(3)), 0)
    for _ in range(1200):
        counts[tuple(nt.random.shuffle([0, 1, 2]).numpy().tolist())] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_the_gradient_of_shuffle_goes_back():
    x = nt.Variable([1.0, 2.0, 3.0, 4.0])
    with nt.GradientTape() as tape:
        shuffled = nt.random.shuffle(x, seed=12)
        total = nt.reduce_sum(shuffled * [10.0, 20.0, 30.0, 40.0])
    expected = np.empty(4)
    expected[shuffled.numpy().astype(int) - 1] = [10, 20, 30, 40]
    np.testing.assert_array_equal(tape.gradient(total, x).numpy(), expected)


@dtypes
def test_categorical(dtype):
    probabilities = np.array([[0.1, 0.2, 0.0, 0.7], [0.25, 0.25, 0.25, 0.25]])
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities).astype(dtype.dtype)
    found = nt.random.categorical(logits, 20_000, seed=13)
    assert found.shape == (2, 20_000)
    assert found.dtype is nt.int64
    counts = np.stack([np.bincount(row, minlength=4) for row in found.numpy()])
    assert counts[0, 2] == 0
    assert stats.chisquare(counts[0, [0, 1, 3]], 20_000 * probabilities[0, [0, 1, 3]]).pvalue > 0.01
    assert stats.chisquare(counts[1]).pvalue > 0.01


# ---- seeds ---------------------------------------------------------------------------------------------------------


def drawn(seed=None):
    return nt.random.uniform([4], seed=seed).numpy().tolist()


def test_without_a_seed_every_call_is_new():
    random.STREAMS.restart(None)
    first = [drawn(), drawn()]
    random.STREAMS.restart(None)
    assert len({tuple(x) for x in [*first, drawn(), drawn()]}) == 4


def test_a_global_seed_repeats_everything():
    nt.random.set_seed(1)
    first = [drawn(), drawn(), drawn(seed=5), drawn(seed=5)]
    nt.random.set_seed(1)
    assert [drawn(), drawn(), drawn(seed=5), drawn(seed=5)] == first
    nt.random.set_seed(2)
    other = [drawn(), drawn(), drawn(seed=5), drawn(seed=5)]
    assert len({tuple(x) for x in first + other}) == 8


def test_a_seed_counts_its_own_calls():
    random.STREAMS.restart(None)
    first = [drawn(seed=7), drawn(seed=7), drawn(seed=8)]
    random.STREAMS.restart(None)
    again = [drawn(seed=7), drawn(), drawn(seed=8), drawn(seed=7)]
    assert [again[0], again[3], again[2]] == first
    assert len({tuple(x) for x in first}) == 3


@pytest.mark.parametrize("seed", [0, -1, 1 << 63, (1 << 64) - 1, np.int32(3), np.uint64(1 << 63)])
def test_seeds_are_integers(seed):
    nt.random.set_seed(seed)
    first = [drawn(), drawn(seed=seed)]
    nt.random.set_seed(seed)
    assert [drawn(), drawn(seed=seed)] == first


@pytest.mark.parametrize("seed", [1.5, "1", True])
def test_other_seeds_are_refused(seed):
    with pytest.raises(TypeError, match="seed"):
        nt.random.set_seed(seed)
    with pytest.raises(TypeError, match=r"random\.normal: seed"):
        nt.random.normal([2], seed=seed)


def test_numbers_stay_the_same_from_version_to_version():
    random.STREAMS.restart(None)
    integers = nt.random.uniform([4], 0, 1000, dtype=nt.int32, seed=1)
    np.testing.assert_array_equal(integers.numpy(), [278, 963, 634, 989])
    normal = nt.random.normal([3], seed=1)
    np.testing.assert_allclose(normal.numpy(), [0.33377138, -0.33046016, -0.013325104], rtol=1e-5)
    np.testing.assert_array_equal(nt.random.shuffle(nt.range(6), seed=1).numpy(), [3, 5, 0, 4, 1, 2])


def test_numbers_do_not_depend_on_what_is_computed_with_them():
    nt.random.set_seed(3)
    alone = nt.random.normal([5, 7]).numpy()
    nt.random.set_seed(3)
    x = nt.random.normal([5, 7])
    total = nt.reduce_sum(x * x, axis=1)
    np.testing.assert_allclose(total.numpy(), (alone * alone).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(x.numpy(), alone)


def test_threads_draw_different_numbers():
    nt.random.set_seed(4)
    found: list[tuple[float, ...]] = []

    def work():
        for _ in range(50):
            found.append(tuple(drawn()))  # noqa: PERF401  the threads take turns

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 200
    nt.random.set_seed(4)
    assert {tuple(drawn()) for _ in range(200)} == set(found)


def test_a_loop_that_draws_records_and_compiles_once():
    w = nt.Variable([1.0, 2.0, 3.0])

    def step():
        with nt.GradientTape() as tape:
            noisy = w + nt.random.normal([3], stddev=0.1)
            loss = nt.reduce_sum(noisy * nt.random.uniform([3], 0.5, 1.5))
        return tape.gradient(loss, w).numpy()

    for _ in range(3):
        step()
    before = nt.cache.stats()
    found = {tuple(step().tolist()) for _ in range(300)}
    after = nt.cache.stats()
    assert len(found) == 300
    assert after.programs == before.programs
    assert after.compilations == before.compilations


def test_one_kernel_draws_and_uses():
    builder = Builder()
    operands = [builder.input(tensor_type(uint64, ()), k) for k in range(2)]
    z = random.STANDARD_NORMAL.expand(operands, ((5, 7), float32))
    result = random.multiply(z, z)
    assert len(plan(Program(tuple(builder.instructions), (result.index,))).steps) == 1


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: nt.random.normal([2], dtype=nt.int32), TypeError, "floating"),
        (lambda: nt.random.normal([-1]), ValueError, "negative"),
        (lambda: nt.random.normal([2], mean=nt.constant(1.0, nt.float64)), TypeError, "float64"),
        (lambda: nt.random.uniform([2], dtype=nt.int32), ValueError, "maxval"),
        (lambda: nt.random.uniform([2], 3, 3, dtype=nt.int32), ValueError, "not below"),
        (lambda: nt.random.uniform([2], 3.0, 2.0), ValueError, "not below"),
        (lambda: nt.random.uniform([2], 0, 300, dtype=nt.int8), OverflowError, "out of range"),
        (lambda: nt.random.uniform([2], 0, 2.5, dtype=nt.int8), TypeError, "bounds"),
        (lambda: nt.random.uniform([2], nt.constant(0, nt.int64), 2, dtype=nt.int32), TypeError, "bounds"),
        (lambda: nt.random.uniform([2], dtype=nt.bool), TypeError, "floating"),
        (lambda: nt.random.shuffle(1.0), ValueError, "no axis"),
        (lambda: nt.random.categorical([1.0], 2), ValueError, "batch"),
        (lambda: nt.random.categorical([[1, 2]], 2), TypeError, "floating"),
        (lambda: nt.random.categorical([[1.0]], -1), ValueError, "negative"),
    ],
)
def test_refusals(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("shape", [[], [0], [3, 0, 2], 5, nt.constant([2, 3])])
def test_shapes(shape):
    expected = tuple(np.atleast_1d(np.asarray(shape)).tolist())
    assert nt.random.normal(shape).numpy().shape == expected
    assert nt.random.uniform(shape, 0, 9, nt.int64).numpy().shape == expected
    assert nt.random.truncated_normal(shape, dtype="float64").numpy().shape == expected
