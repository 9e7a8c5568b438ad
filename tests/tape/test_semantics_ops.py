"""Conventions of gradients: rows O of the semantics."""

from __future__ import annotations

import numpy as np
import pytest

import numtape as nt
from tests.tape.checks import difference, gradient, same

rng = np.random.default_rng(3)


def test_O01_ties_share() -> None:
    same(gradient(nt.reduce_max, [3.0, 3.0, 1.0]), [0.5, 0.5, 0.0])
    same(gradient(lambda x: nt.reduce_min(x, axis=1), [[1.0, 1.0], [2.0, 3.0]]), [[0.5, 0.5], [1.0, 0.0]])


def test_O02_relu_at_zero() -> None:
    same(gradient(nt.nn.relu, [0.0, -0.0, 1.0, -1.0]), [0.0, 0.0, 1.0, 0.0])


def test_O03_finite_far_out() -> None:
    far = [-1000.0, 1000.0]
    same(gradient(nt.nn.softplus, far), [0.0, 1.0])
    same(gradient(nt.sigmoid, far), [0.0, 0.0])
    x = nt.Variable(np.array(far))
    with nt.GradientTape() as outer, nt.GradientTape() as inner:
        y = nt.nn.softplus(x) + nt.sigmoid(x)
        g = inner.gradient(y, x)
    same(outer.gradient(g, x), [0.0, 0.0])


def test_O04_the_double_where() -> None:
    def guarded(x: nt.Tensor) -> nt.Tensor:
        positive = x > 0
        return nt.where(positive, nt.sqrt(nt.where(positive, x, nt.ones_like(x))), nt.zeros_like(x))

    same(gradient(guarded, [-1.0, 0.0, 4.0]), [0.0, 0.0, 0.25])


def test_O05_where_with_broadcast_branches() -> None:
    c = np.array([True, True, False, True])
    same(gradient(lambda a, b: nt.where(c, a, b), 2.0, [1.0, 2.0, 3.0, 4.0]), [3.0, [0.0, 0.0, 1.0, 0.0]])


def test_O06_pow() -> None:
    same(gradient(lambda x, y: x**y, [0.0, 2.0], [2.0, 3.0]), [[0.0, 12.0], [0.0, 8 * np.log(2.0)]])
    same(gradient(lambda x: x**1, 0.0), 1.0)
    same(gradient(lambda x: x**2, 0.0), 0.0)
    same(gradient(lambda y: nt.constant(np.float64(0.0)) ** y, 3.0), 0.0)
    same(gradient(lambda x: 2.0**x, 3.0), 8 * np.log(2.0))


def test_O07_reflected_operators() -> None:
    same(gradient(lambda x: 1 / x, 2.0), -0.25)
    w = rng.normal(size=(3, 2))
    expected = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    same(gradient(lambda w: [[1.0, 2.0, 3.0]] @ w, w), expected)
    same(gradient(lambda w: np.array([[1.0, 2.0, 3.0]]) @ w, w), expected)
    x = np.array([2.0, 3.0])
    for f in (
        lambda x: [1.0, 2.0] - x, lambda x: [1.0, 2.0] * x, lambda x: np.array([1.0, 2.0]) / x,
        lambda x: 2.0**x, lambda x: np.array([1.0, 2.0]) + x, lambda x: 7.5 % x, lambda x: 1 - x,
    ):  # fmt: skip
        same(gradient(f, x), difference(lambda x, f=f: np.sum(f(np.asarray(x))), x)[0], 1e-6)


def test_O08_and_O09_gather() -> None:
    table = rng.normal(size=(4, 2))
    at = [1, 3, 1, 1]
    same(nt.convert_to_tensor(gradient(lambda t: nt.gather(t, at), table)), [[0, 0], [3, 3], [0, 0], [1, 1]])
    same(gradient(lambda t: nt.gather(t, [0, 0], axis=1), table), [[2, 0]] * 4)
    both = gradient(lambda t: nt.reduce_sum(nt.gather(t, at)) + nt.reduce_sum(t), table)
    same(both, [[1, 1], [4, 4], [1, 1], [2, 2]])


def test_O10_rearranging() -> None:
    a, b, weights = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.normal(size=(3, 2, 4))

    def f(m: object, a: object, b: object) -> object:
        both = m.concat([a, b], 0)  # type: ignore[attr-defined]
        cube = m.transpose(m.stack([both, both * both]), [2, 0, 1])  # type: ignore[attr-defined]
        return m.reduce_sum(cube * weights)  # type: ignore[attr-defined]

    class N:
        concat, stack, transpose, reduce_sum = np.concatenate, np.stack, np.transpose, np.sum

    same(gradient(lambda a, b: f(nt, a, b), a, b), difference(lambda a, b: f(N, a, b), a, b), 1e-6, 1e-9)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x[1:] * x[:-1], lambda x: x[-1] * x[0], lambda x: x[::-1] * x, lambda x: x[:, -1] * x[:, 0],
        lambda x: x[1, 2] * x, lambda x: x[..., None] * x[1:2, None], lambda x: x[::2, 1:] * 3.0 + x[1, 0],
    ],
)  # fmt: skip
def test_O11_slices(f: object) -> None:
    x = rng.normal(size=(4, 3))
    same(gradient(f, x), difference(lambda x: np.sum(f(x)), x)[0], 1e-6, 1e-9)  # type: ignore[arg-type, operator]


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3, 5), (5, 3)), ((3, 5), (2, 5, 4)), ((1, 3, 5), (2, 5, 2)), ((2, 2), (2, 2))]
)
def test_O12_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = rng.normal(size=a), rng.normal(size=b)
    expected = difference(lambda x, y: np.sum(np.sin(x @ y)), x, y)
    same(gradient(lambda x, y: nt.sin(x @ y), x, y), expected, 1e-5, 1e-8)
    swapped = gradient(
        lambda x, y: nt.sin(nt.matmul(x, y, transpose_a=True, transpose_b=True)), np.swapaxes(x, -1, -2),
        np.swapaxes(y, -1, -2),
    )  # fmt: skip
    same(swapped, [np.swapaxes(e, -1, -2) for e in expected], 1e-5, 1e-8)


@pytest.mark.parametrize("axis", [None, 0, -1, [0, 2], (0, 1, 2), []])
@pytest.mark.parametrize("keepdims", [False, True])
def test_O13_reductions(axis: object, keepdims: bool) -> None:
    x = rng.normal(size=(2, 3, 4))
    plain = tuple(axis) if isinstance(axis, list) else axis
    for f, g in ((nt.reduce_mean, np.mean), (nt.reduce_sum, np.sum), (nt.reduce_max, np.max)):
        found = gradient(lambda x, f=f: nt.sin(f(x, axis=axis, keepdims=keepdims)), x)
        right = difference(lambda x, g=g: np.sum(np.sin(g(x, axis=plain, keepdims=keepdims))), x)[0]
        same(found, right, 1e-5, 1e-8)


def test_O14_maximum_on_a_tie() -> None:
    same(gradient(nt.maximum, 2.0, 2.0), [1.0, 0.0])
    same(gradient(nt.minimum, 2.0, 2.0), [1.0, 0.0])


def test_O15_abs_at_zero() -> None:
    same(gradient(nt.abs, [0.0, -2.0]), [0.0, -1.0])


def test_O16_floormod() -> None:
    same(gradient(lambda x, y: x % y, [7.5, -7.5], [2.0, 2.0]), [[1.0, 1.0], [-3.0, 4.0]])


def test_O17_products_with_zeros() -> None:
    same(gradient(nt.reduce_prod, [0.0, 2.0, 3.0]), [6.0, 0.0, 0.0])
    same(gradient(nt.reduce_prod, [0.0, 0.0, 3.0]), [0.0, 0.0, 0.0])


def test_O19_division_without_nan() -> None:
    same(gradient(nt.math.divide_no_nan, [1.0, 1.0], [0.0, 2.0]), [[0.0, 0.5], [0.0, -0.25]])


def test_O18_where_a_quotient_has_no_value() -> None:
    same(gradient(nt.norm, [0.0, 0.0]), [0.0, 0.0])
    same(gradient(nt.math.reduce_std, [2.0, 2.0]), [0.0, 0.0])
    products = gradient(lambda x: nt.math.cumprod(x), [2.0, 0.0, 3.0])
    same(products, difference(lambda x: np.sum(np.cumprod(x)), np.array([2.0, 0.0, 3.0]))[0], 1e-6, 1e-9)


def test_O20_bounds_of_ranges() -> None:
    v = nt.Variable(1.0)
    with nt.GradientTape(persistent=True) as t:
        spaced, counted = nt.linspace(v, 2.0, 3), nt.range(v, 3.0, 1.0)
    same([spaced, counted], [[1.0, 1.5, 2.0], [1.0, 2.0]])
    same([t.gradient(y, v) for y in (spaced, counted)], [1.0 + 0.5 + 0.0, None])
