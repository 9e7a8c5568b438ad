"""Functions bound to arrays, or called from nopython code, leave Variables in their memory, whatever they assign."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numtape as nt

A = np.array([[0.5, -1.0, 0.0], [0.25, 0.5, 1.0], [0.0, 0.5, -0.5]], np.float32)


def routine(a, b, c, x):
    a.assign(nt.linalg.matvec(A, a))


def other(a, b, c, x):
    a.assign(x)
    b.assign(nt.concat([x[1:], x[:1]], 0))


def metric(a, b, c, x):
    a.assign_add(x)
    c.assign(a)
    return c.read_value()


def exchange(a, b, c, x):
    old = a.read_value()
    a.assign(b)
    b.assign(old)


def kept(a, b, c, x):
    old = a.read_value()
    a.assign_add(x)
    b.assign(old)
    return old


def constants(a, b, c, x):
    a.assign([1.0, 2.0, 3.0])
    for row in nt.reshape(x, [3]):
        a.assign_add(nt.fill([3], row))


def reduced(a, b, c, x):
    a.assign(nt.fill([3], nt.reduce_sum(a * x)))
    b.assign(nt.nn.softmax(b) + a)


def both(function, calls):
    """What a bound function and plain Python leave behind after each call, and what they return."""
    found = []
    for bind in (True, False):
        variables = [nt.Variable(np.linspace(k, k + 1, 3, dtype=np.float32)) for k in range(3)]
        x = np.array([0.5, -0.25, 1.0], np.float32)

        def call(x, variables=variables):
            return function(*variables, x)

        step = nt.function(call).bind(x) if bind else lambda call=call, x=x: call(nt.constant(x))
        states = []
        for _ in range(calls):
            result = step()
            states += [np.array(v) for v in (*variables, *([] if result is None else [result]))]
            x += 1
        found.append(states)
    return zip(*found, strict=True)


FUNCTIONS = [routine, other, metric, exchange, kept, constants, reduced]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_bound_as_in_python(function):
    for found, expected in both(function, 3):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_called_from_nopython_code(function):
    expected, variables = ([nt.Variable(np.linspace(k, k + 1, 3, dtype=np.float32)) for k in range(3)] for _ in "ab")
    x = np.array([0.5, -0.25, 1.0], np.float32)

    def call(x):
        function(*variables, x)
        return variables[0].read_value()

    native = nt.function(call).njit(x)

    @numba.njit
    def twice(x):
        return native(x), native(x)

    _, last = twice(x)
    np.testing.assert_array_equal(last, variables[0])
    for _ in range(2):
        function(*expected, nt.constant(x))
    for a, b in zip(variables, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_nopython_code_calls_what_returns_nothing():
    v = nt.Variable(0.0)
    step = nt.function(lambda x: (v.assign_add(x), None)[1]).njit(np.float32(0))

    @numba.njit
    def count(n):
        for _ in range(n):
            step(1.0)
        return step(1.0)

    assert count(3) is None
    assert float(v) == 4


def test_a_bound_function_takes_no_arguments():
    x = np.ones(3, np.float32)
    with pytest.raises(TypeError, match=r"double is bound to arrays: write into these"):
        nt.function(double).bind(x)(x)


def double(x):
    return x * 2.0


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(0, 5)), max_size=6))
def test_random_assignments(lines):
    def function(a, b, c, x):
        variables, results = [a, b, c], [x]
        for to, first, second, how in lines:
            target, p, q = variables[to], variables[first].read_value(), variables[second]
            if how == 0:
                target.assign(p)
            elif how == 1:
                target.assign_add(p * 0.5)
            elif how == 2:
                target.assign(nt.linalg.matvec(A, p))
            elif how == 3:
                target.assign(nt.tanh(p) - q)
            elif how == 4:
                results.append(p)
            else:
                results.append(nt.reverse(p + q, [0]))
        return nt.stack(results) if len(results) > 2 else results[-1]

    for found, expected in both(function, 2):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
