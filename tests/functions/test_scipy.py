"""Functions as SciPy's optimizers take them: values, derivatives, and what the optimizers find with them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der, rosen_hess, rosen_hess_prod
from sklearn.linear_model import LogisticRegression

import numtape as nt

RNG = np.random.default_rng(0)


@nt.function
def rosenbrock(x):
    return nt.reduce_sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def plainly(x):
    """The same, with a look at a value on the way."""
    total = nt.reduce_sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    return total if total > 1e300 else total * 1.0


@pytest.mark.parametrize("function", [rosenbrock, nt.function(plainly)], ids=["bound", "looks"])
def test_values_and_derivatives(function):
    f = function.scipy()
    for n in (2, 5, 2):  # once for each size
        for _ in range(2):
            x, p = RNG.normal(size=n), RNG.normal(size=n)
            value, gradient = f(x)
            assert type(value) is float and gradient.dtype == np.float64
            np.testing.assert_allclose(value, rosen(x), rtol=1e-12)
            np.testing.assert_allclose(gradient, rosen_der(x), rtol=1e-10)
            np.testing.assert_allclose(f.hess(x), rosen_hess(x), rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(f.hessp(x, p), rosen_hess_prod(x, p), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("function", [rosenbrock, nt.function(plainly)], ids=["bound", "looks"])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("BFGS", {}),
        ("L-BFGS-B", {"ftol": 1e-15, "gtol": 1e-10}),
        ("trust-constr", {"gtol": 1e-10}),
        ("trust-exact", {"gtol": 1e-10}),
        ("Newton-CG", {"xtol": 1e-12}),
        ("trust-ncg", {"gtol": 1e-10}),
    ],
)
def test_rosenbrock(function, method, options):
    f = function.scipy()
    extra = {}
    if method in ("trust-constr", "trust-exact"):
        extra = {"hess": f.hess}
    elif method in ("Newton-CG", "trust-ncg"):
        extra = {"hessp": f.hessp}
    found = minimize(f, np.array([-1.2, 1.0, 0.5]), jac=True, method=method, options=options, **extra)
    np.testing.assert_allclose(found.x, 1, atol=1e-6)
    assert found.fun < 1e-8


def test_results_are_new_and_x_is_left_alone():
    f = rosenbrock.scipy()
    x, y = np.zeros(3), np.ones(3)
    _, first = f(x)
    _, second = f(y)
    np.testing.assert_array_equal(first, rosen_der(x))
    np.testing.assert_array_equal(second, rosen_der(y))
    first[:] = np.nan
    np.testing.assert_array_equal(f([0, 0, 0])[1], rosen_der(x))  # whatever NumPy makes an array of
    np.testing.assert_array_equal(x, np.zeros(3))


def test_logistic_regression():
    x = RNG.normal(size=(80, 3))
    y = (x @ [1.0, -2.0, 0.5] + RNG.normal(size=80) > 0).astype(np.float64)

    @nt.function
    def loss(w, x, y, penalty):
        logits = nt.linalg.matvec(x, w[:-1]) + w[-1]
        return nt.reduce_sum(nt.nn.softplus(logits) - y * logits) + penalty / 2 * nt.reduce_sum(w[:-1] ** 2)

    f = loss.scipy()
    expected = LogisticRegression(C=0.5, tol=1e-12, max_iter=1000).fit(x, y)
    weights = np.append(expected.coef_, expected.intercept_)
    for data in (x, np.asfortranarray(x)):
        found = minimize(f, np.zeros(4), args=(data, y, 2.0), jac=True, method="BFGS", options={"gtol": 1e-8})
        np.testing.assert_allclose(found.x, weights, atol=1e-6)
        found = minimize(
            f, np.zeros(4), args=(data, y, 2.0), jac=True, hessp=f.hessp, method="trust-ncg", options={"gtol": 1e-9}
        )
        np.testing.assert_allclose(found.x, weights, atol=1e-6)


def test_other_arguments():
    f = nt.function(lambda x, a, k, b=None: nt.reduce_sum(a * x**k) + (0 if b is None else b[0])).scipy()
    x, a = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    for scale in (1.0, 2.0):  # the same array, with other elements
        a *= scale
        assert f(x, a, 2)[0] == 19 * scale
    assert f(x, a, 3)[0] == 70
    assert f(x, np.float64(1), 1)[0] == 3
    assert f(x, nt.constant(a), 2)[0] == 38
    numbers = [5.0]
    assert f(x, a, 2, numbers)[0] == 43
    numbers[0] = 6.0
    assert f(x, a, 2, numbers)[0] == 44
    assert f(x, a[::-1], 2)[0] == 32
    wide = np.array([[6.0, 0.0], [8.0, 0.0]])
    assert f(x, wide[:, 0], 2)[0] == 38
    wide[0] = 0
    assert f(x, wide[:, 0], 2)[0] == 32
    np.testing.assert_array_equal(f.hess(x, a, 2), np.diag(2 * a))
    np.testing.assert_array_equal(f.hessp(x, [1, 0], a, 2), [12, 0])


def test_captured_arrays_and_variables_are_live():
    data, v = np.array([1.0, 2.0]), nt.Variable(np.array([1.0, 1.0]))
    f = nt.function(lambda x: nt.reduce_sum(v * (x - data) ** 2)).scipy()
    assert f(np.zeros(2))[0] == 5
    data[:] = 3
    assert f(np.zeros(2))[0] == 18
    v.assign([2.0, 0.0])
    assert f(np.zeros(2))[0] == 18
    np.testing.assert_array_equal(f(np.zeros(2))[1], [-12, 0])


def test_float32_functions():
    w = nt.Variable([1.0, 2.0])
    f = nt.function(lambda x: nt.reduce_sum((x - w) ** 2), input_signature=[nt.TensorSpec([2])])
    for objective in (f.scipy(), nt.function(f.python_function).scipy(nt.float32)):
        value, gradient = objective(np.zeros(2))
        assert type(value) is float and gradient.dtype == np.float64
        found = minimize(objective, np.zeros(2), jac=True, hess=objective.hess, method="trust-exact")
        np.testing.assert_allclose(found.x, [1, 2], atol=1e-4)


def test_shapes_of_x():
    f = nt.function(lambda x: nt.reduce_sum(x**3)).scipy()
    value, gradient = f(2.0)
    assert value == 8 and gradient.shape == () and gradient == 12
    assert f.hess(np.ones((2, 1))).shape == (2, 1, 2, 1)
    value, gradient = f(np.zeros(0))
    assert value == 0 and gradient.shape == (0,)


def test_second_derivatives_that_are_zero():
    f = nt.function(lambda x: nt.reduce_sum(x)).scipy()
    np.testing.assert_array_equal(f.hess(np.ones(3)), np.zeros((3, 3)))
    np.testing.assert_array_equal(f.hessp(np.ones(3), np.ones(3)), np.zeros(3))


def test_functions_that_give_no_gradient():
    with pytest.raises(ValueError, match=r"only a single float has a gradient, and the function returned float64\[2\]"):
        nt.function(lambda x: x * 2).scipy()(np.zeros(2))
    with pytest.raises(ValueError, match="no path leads"):
        nt.function(lambda x: nt.constant(np.sum(x.numpy() ** 2))).scipy()(np.zeros(2))
    with pytest.raises(TypeError):
        rosenbrock.scipy()(np.zeros(2, complex))
    with pytest.raises(ZeroDivisionError):
        nt.function(lambda x: nt.reduce_sum(x) / (1 // 0)).scipy()(np.zeros(2))


def test_threads_share_an_objective():
    f = rosenbrock.scipy()
    points = RNG.normal(size=(400, 50))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(f, points))
    np.testing.assert_allclose([value for value, _ in found], [*map(rosen, points)])
    np.testing.assert_allclose([gradient for _, gradient in found], [*map(rosen_der, points)])
