"""What the registry's tests cannot see of linear algebra: symmetric matrices, singular ones, larger ones, errors."""

from __future__ import annotations

import numpy as np
import pytest

import numtape as nt
from numtape.dtypes import type_of
from numtape.ir.program import Builder, Program
from tests.programs import WAYS, agree, check_gradient, gradient_of

RNG = np.random.default_rng(0)


def program(function, *arrays):
    builder = Builder()
    out = function(*(builder.input(type_of(a), k) for k, a in enumerate(arrays)))
    return Program(tuple(builder.instructions), (out.index,))


def value(function, *arrays):
    """The result, the same in every way to run it."""
    made = program(function, *arrays)
    expected = WAYS["reference"](made, arrays)
    for way in ("plain", "native"):
        agree(WAYS[way](made, arrays), expected, way)
    return expected[0]


def positive(*shape):
    """Symmetric positive definite matrices."""
    x = RNG.normal(size=shape)
    return x @ x.swapaxes(-1, -2) + np.eye(shape[-1])


def symmetric(x):
    return nt.matmul(x, x, transpose_b=True)


# ---- Cholesky ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 3), (1, 1)])
def test_cholesky_and_its_derivatives(shape):
    x = positive(*shape)
    np.testing.assert_allclose(value(nt.linalg.cholesky, x), np.linalg.cholesky(x), rtol=1e-12)
    made = program(lambda x: nt.linalg.cholesky(symmetric(x)), x)
    check_gradient(made, [x])
    check_gradient(program(lambda x: nt.linalg.logdet(symmetric(x)), x), [x])
    seeds = [RNG.normal(size=shape)]
    expected = WAYS["reference"](gradient_of(made), [x, *seeds])
    for way in ("plain", "native"):
        agree(WAYS[way](gradient_of(made), [x, *seeds]), expected, way)


def test_cholesky_reads_the_lower_triangle_and_its_gradient_is_symmetric():
    full = positive(3, 3)
    gradients = []
    for x in (full, np.tril(full), np.tril(full) + np.triu(np.full((3, 3), np.nan), 1)):
        t = nt.constant(x)
        with nt.GradientTape() as tape:
            tape.watch(t)
            y = nt.linalg.cholesky(t)
        np.testing.assert_allclose(y.numpy(), np.linalg.cholesky(full), rtol=1e-12)
        gradients.append(tape.gradient(y, t).numpy())
    np.testing.assert_array_equal(gradients[0], gradients[0].T)
    for g in gradients[1:]:
        np.testing.assert_array_equal(g, gradients[0])


@pytest.mark.parametrize("bad", [[[1.0, 2.0], [2.0, 1.0]], [[-1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])
def test_cholesky_of_what_is_not_positive_definite_is_nan(bad):
    x = np.stack([np.eye(2), np.array(bad), 4 * np.eye(2)])
    found = value(nt.linalg.cholesky, x)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[[0, 2]], [np.eye(2), 2 * np.eye(2)])


def test_cholesky_solve():
    a, b = positive(2, 4, 4), RNG.normal(size=(4, 3))
    np.testing.assert_allclose(
        value(lambda a, b: nt.linalg.cholesky_solve(nt.linalg.cholesky(a), b), a, b),
        np.linalg.solve(a, np.broadcast_to(b, (2, 4, 3))),
        rtol=1e-9,
    )


# ---- systems ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adjoint", [False, True])
def test_larger_systems(adjoint):
    a, b = RNG.normal(size=(2, 30, 30)), RNG.normal(size=(2, 30, 5))
    expected = np.linalg.solve(a.swapaxes(1, 2) if adjoint else a, b)
    np.testing.assert_allclose(nt.linalg.solve(a, b, adjoint=adjoint).numpy(), expected, rtol=1e-9, atol=1e-9)
    inverse = np.linalg.inv(a.swapaxes(1, 2) if adjoint else a)
    np.testing.assert_allclose(nt.linalg.inv(a, adjoint=adjoint).numpy(), inverse, rtol=1e-9, atol=1e-9)


def test_zero_pivots_are_swapped_away():
    a = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0], [4.0, 0.0, 0.0]])
    np.testing.assert_array_equal(value(nt.linalg.inv, a), np.linalg.inv(a))
    assert nt.linalg.det(a).numpy() == 8


def test_a_singular_matrix_spoils_no_other():
    a = np.stack([np.eye(2), np.zeros((2, 2)), np.ones((2, 2)), 2 * np.eye(2)])
    for found in (nt.linalg.inv(a).numpy(), nt.linalg.solve(a, np.broadcast_to(np.eye(2), a.shape)).numpy()):
        np.testing.assert_array_equal(found[[0, 3]], [np.eye(2), np.eye(2) / 2])
        assert not np.isfinite(found[1]).any()
        assert not np.isfinite(found[2]).all()


def test_triangular_solve_reads_one_triangle():
    a = np.array([[2.0, np.nan], [1.0, 4.0]])
    b = np.array([[2.0], [9.0]])
    t = nt.constant(a)
    with nt.GradientTape() as tape:
        tape.watch(t)
        x = nt.linalg.triangular_solve(t, b)
    np.testing.assert_array_equal(x.numpy(), [[1.0], [2.0]])
    assert tape.gradient(x, t).numpy()[0, 1] == 0


# ---- determinants -----------------------------------------------------------------------------------------------


SINGULAR = [
    np.array([[1.0, 2.0], [2.0, 4.0]]),
    np.array([[0.0, 0.0], [0.0, 3.0]]),
    np.array([[0.0, 0.0], [0.0, 0.0]]),
    np.array([[0.0]]),
    np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [5.0, 7.0, 9.0]]),
    np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0]]),
    np.diag([0.0, 2.0, 3.0, 4.0]),
    np.diag([1.0, 0.0, 3.0, 0.0]),
    np.diag([1.0, 0.0, 0.0, 0.0]),
    np.zeros((3, 3)),
]


@pytest.mark.parametrize("a", SINGULAR)
def test_determinants_of_singular_matrices(a):
    np.testing.assert_allclose(value(nt.linalg.det, a), 0, atol=1e-14)
    sign, logarithm = nt.linalg.slogdet(a)
    if len(a) != 3 or not a.any():  # where elimination is exact
        assert (sign.numpy(), logarithm.numpy()) == (0, -np.inf)
    check_gradient(program(nt.linalg.det, a), [a], order=1)


def test_gradients_of_determinants_are_right_in_every_way():
    for a in SINGULAR:
        made = gradient_of(program(nt.linalg.det, a))
        expected = WAYS["reference"](made, [a, np.ones(())])
        for way in ("plain", "native"):
            np.testing.assert_allclose(WAYS[way](made, [a, np.ones(())]), expected, rtol=1e-9, atol=1e-9)


def test_logarithms_of_huge_determinants():
    a = np.diag(np.full(50, -1e30)).astype(np.float32)
    sign, logarithm = nt.linalg.slogdet(a)
    assert sign.numpy() == 1
    np.testing.assert_allclose(logarithm.numpy(), 50 * 30 * np.log(10), rtol=1e-6)


def test_the_sign_of_a_determinant_has_gradient_zero():
    x = nt.constant([[2.0, 1.0], [0.0, 3.0]])
    with nt.GradientTape() as tape:
        tape.watch(x)
        sign, _ = nt.linalg.slogdet(x)
    np.testing.assert_array_equal(tape.gradient(sign, x).numpy(), np.zeros((2, 2)))


# ---- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cholesky", "inv", "det", "slogdet", "logdet"])
def test_matrices_are_square_and_floating(name):
    function = getattr(nt.linalg, name)
    with pytest.raises(ValueError, match=r"float32\[2, 3\]: the matrices in the last two axes have to be square"):
        function(np.ones((2, 3), "f4"))
    with pytest.raises(ValueError, match="needs rank 2 or more"):
        function(np.ones(3, "f4"))
    with pytest.raises(TypeError, match="needs floating elements"):
        function(np.ones((2, 2), "i4"))


@pytest.mark.parametrize("name", ["solve", "triangular_solve", "cholesky_solve"])
def test_systems_refuse(name):
    function, a = getattr(nt.linalg, name), np.eye(3, dtype="f4")
    with pytest.raises(ValueError, match=rf"{name}: float32\[3, 3\], float32\[3\]: .* a single vector needs an axis"):
        function(a, np.ones(3, "f4"))
    with pytest.raises(ValueError, match=r"columns of a matrix \(\.\.\., 3, count\)"):
        function(a, np.ones((2, 3), "f4"))
    with pytest.raises(ValueError, match=r"leading axes: shapes \(2,\) and \(4,\) do not broadcast"):
        function(np.ones((2, 3, 3), "f4"), np.ones((4, 3, 1), "f4"))
    with pytest.raises(TypeError, match="different dtypes"):
        function(nt.constant(a), nt.constant(np.ones((3, 1))))


def test_flags_are_bools():
    a = np.eye(2, dtype="f4")
    for call in (
        lambda: nt.linalg.solve(a, a, adjoint=2),
        lambda: nt.linalg.inv(a, adjoint="yes"),
        lambda: nt.linalg.triangular_solve(a, a, lower=None),
    ):
        with pytest.raises(TypeError, match="is True or False"):
            call()


def test_cross_refuses():
    with pytest.raises(ValueError, match="vectors of three elements"):
        nt.linalg.cross([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="vectors of three elements"):
        nt.linalg.cross([[1.0], [2.0]], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"cross: shapes \(2, 3\) and \(4, 3\) do not broadcast"):
        nt.linalg.cross(np.ones((2, 3)), np.ones((4, 3)))
