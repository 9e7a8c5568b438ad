"""Rearranging: chains of it against NumPy, what simplifies, what compiles nothing new, and errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import numtape as nt
from numtape.backends import reference
from numtape.codegen.plan import plan
from numtape.dtypes import float32, tensor_type
from numtape.ir.program import Builder, Program
from numtape.ir.verify import verify
from numtape.passes.simplify import simplify
from tests.programs import gradient_of, run_plain

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def program(function, *shapes):
    builder = Builder()
    results = function(*(builder.input(tensor_type(float32, s), k) for k, s in enumerate(shapes)))
    results = results if isinstance(results, list) else [results]
    return Program(tuple(builder.instructions), tuple(v.index for v in results))


def names(p):
    return [i.op.name for i in p.instructions if i.op.name != "input"]


# ---- chains -----------------------------------------------------------------------------------------------------


KINDS = ["slice", "reverse", "pad", "concat", "transpose", "reshape", "roll", "tile", "repeat", "mirror", "part", "sum"]


def along(axis, rank, widths):
    return [widths if a == axis else [0, 0] for a in range(rank)]


@st.composite
def rearranged(draw, x, y):
    """The same random chain on a value `x` and an array `y`."""
    for _ in range(draw(st.integers(1, 5))):
        rank = y.ndim
        axis = draw(st.integers(0, rank - 1))
        n = y.shape[axis]
        kind = draw(st.sampled_from(KINDS))
        if kind == "slice":
            begin = [draw(st.integers(0, m)) for m in y.shape]
            size = [draw(st.integers(0, m - b)) for m, b in zip(y.shape, begin, strict=True)]
            x = nt.slice(x, begin, size)
            y = y[tuple(slice(b, b + s) for b, s in zip(begin, size, strict=True))]
        elif kind == "reverse":
            x, y = nt.reverse(x, [axis]), np.flip(y, axis)
        elif kind == "pad" and y.size < 200:
            widths = [[draw(st.integers(0, 2)), draw(st.integers(0, 2))] for _ in range(rank)]
            number = draw(st.sampled_from([0, 0, 1, -2.5]))
            x, y = nt.pad(x, widths, constant_values=number), np.pad(y, widths, constant_values=number)
        elif kind == "mirror" and n > 1:
            widths = along(axis, rank, [draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1))])
            mode = draw(st.sampled_from(["REFLECT", "SYMMETRIC"]))
            x, y = nt.pad(x, widths, mode), np.pad(y, widths, mode.lower())
        elif kind == "concat" and y.size < 200:
            x, y = nt.concat([x, nt.reverse(x, axis), x], axis), np.concatenate([y, np.flip(y, axis), y], axis)
        elif kind == "transpose":
            perm = draw(st.permutations(range(rank)))
            x, y = nt.transpose(x, perm), y.transpose(perm)
        elif kind == "reshape":
            x, y = nt.reshape(x, (y.size, 1)), y.reshape(y.size, 1)
        elif kind == "roll":
            shift = draw(st.integers(-5, 5))
            x, y = nt.roll(x, shift, axis), np.roll(y, shift, axis)
        elif kind == "tile" and y.size < 100:
            counts = [draw(st.integers(0, 3)) for _ in range(rank)]
            x, y = nt.tile(x, counts), np.tile(y, counts)
        elif kind == "repeat" and y.size < 100:
            x, y = nt.repeat(x, 2, axis), np.repeat(y, 2, axis)
        elif kind == "part" and n:
            parts = draw(st.permutations(range(n)))[: draw(st.integers(1, n))]
            pieces = nt.unstack(x, axis=axis)
            x, y = nt.stack([pieces[k] for k in parts], axis), np.stack([y.take(k, axis) for k in parts], axis)
        elif kind == "sum" and n > 1:
            widths = along(axis, rank, [0, 1])
            x = x + nt.pad(nt.split(x, [1, -1], axis)[1], widths)
            y = y + np.pad(np.split(y, [1], axis)[1], widths)
    return x, y


@given(st.data())
def test_chains_mean_the_same_simplified_and_not(data):
    builder = Builder()
    array = np.arange(2 * 3 * 4, dtype=np.float32).reshape(data.draw(st.sampled_from([(2, 3, 4), (4, 6), (24,)])))
    value = builder.input(tensor_type(float32, array.shape), 0)
    value, expected = data.draw(rearranged(value, array))
    made = Program(tuple(builder.instructions), (value.index,))
    np.testing.assert_array_equal(reference.interpret(made, [array])[0], expected)
    np.testing.assert_array_equal(reference.interpret(verify(simplify(made)), [array])[0], expected)
    np.testing.assert_array_equal(run_plain(made, [array])[0], expected)
    gradient = gradient_of(made)
    seed = np.arange(expected.size, dtype=np.float32).reshape(expected.shape)
    backward = reference.interpret(gradient, [array, seed])[0]
    np.testing.assert_array_equal(reference.interpret(verify(simplify(gradient)), [array, seed])[0], backward)
    np.testing.assert_array_equal(run_plain(gradient, [array, seed])[0], backward)


def test_parts_that_are_all_used_give_their_gradients_as_one_join():
    gradient = simplify(gradient_of(program(lambda x: sum(k * p for k, p in enumerate(nt.unstack(x), 2)), (5, 3))))
    assert names(gradient).count("concat") == 1
    assert "embed" not in names(gradient)
    assert "add" not in names(gradient)


@pytest.mark.parametrize("boxes", [[(0, 3), (2, 3)], [(0, 2), (3, 2)], [(3, 2), (0, 3)]])
def test_parts_that_overlap_or_leave_a_gap_are_added(boxes):
    gradient = gradient_of(program(lambda x: [nt.slice(x, [b], [n]) for b, n in boxes], (5,)))
    expected = np.zeros(5)
    for b, n in boxes:
        expected[b : b + n] += 1
    inputs = [np.zeros(5, np.float32), *(np.ones(n, np.float32) for _, n in boxes)]
    np.testing.assert_array_equal(reference.interpret(simplify(gradient), inputs)[0], expected)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: nt.reverse(nt.reverse(x, [0, 1]), [0, 1]),
        lambda x: nt.transpose(nt.transpose(x)),
        lambda x: nt.concat(nt.split(nt.identity(x), [3], axis=1), axis=1),
        lambda x: nt.slice(x, [0, 0], [-1, -1]),
        lambda x: nt.slice(nt.pad(x, [[0, 0], [0, 0]]), [0, 0], [4, 3]),
        lambda x: nt.roll(x, 3, 1),
    ],
)
def test_what_comes_to_nothing_costs_nothing(function):
    assert names(simplify(program(function, (4, 3)))) == []


def test_a_slice_of_a_slice_is_one():
    made = simplify(program(lambda x: nt.reverse(nt.slice(nt.reverse(x, [0]), [1], [3]), [0]), (9,)))
    assert [i.attributes for i in made.instructions if i.op.name == "slice"] == [((5,), (3,), (1,))]


def test_joins_write_their_parts_with_the_same_kernel():
    made = plan(program(lambda *xs: nt.concat(list(xs), 1), (4, 2), (4, 3), (4, 5)))
    assert len(made.steps) == 3
    assert len({s.kernel.key for s in made.steps}) == 1


# ---- what compiles nothing new ----------------------------------------------------------------------------------

CALLS = {
    "slice": lambda x, n: nt.slice(x, [1, n // 2], [n - 2, 2]),
    "item": lambda x, n: x[n - 2],
    "stepped": lambda x, n: x[1 : n - 1 : 2, ::-1],
    "index array": lambda x, n: x[:, np.arange(n // 2)],
    "index arrays": lambda x, n: x[np.arange(3), np.arange(3)],
    "transpose": lambda x, n: nt.transpose(x, [1, 0]),
    "concat": lambda x, n: nt.concat([x, x], 1),
    "stack": lambda x, n: nt.stack([x, x, x], 1),
    "split": lambda x, n: nt.split(x, 2, 1)[1],
    "roll": lambda x, n: nt.roll(x, n // 2, 1),
    "tile": lambda x, n: nt.tile(x, [2, n]),
    "repeat": lambda x, n: nt.repeat(x, n, 1),
    "pad": lambda x, n: nt.pad(x, [[n, 1], [1, n]], constant_values=n),
    "mirror": lambda x, n: nt.pad(x, [[1, 1], [n // 2, 2]], "REFLECT"),
    "shape": lambda x, n: nt.shape(x, nt.int64),
    "size": lambda x, n: nt.size(x, nt.int64),
    "gather": lambda x, n: nt.gather(x, np.arange(n // 2), axis=1),
    "gather_nd": lambda x, n: nt.gather_nd(x, np.ones((n, 2), np.int64)),
    "along": lambda x, n: nt.take_along_axis(x, np.ones((n, 2), np.int64), 1),
    "scatter": lambda x, n: nt.scatter_nd(np.ones((n, 1), np.int64), x, (n + 2, n + 4)),
    "update": lambda x, n: nt.tensor_scatter_nd_update(x, np.ones((n, 1), np.int64), x),
    "segments": lambda x, n: nt.math.unsorted_segment_sum(x, np.arange(n) // 2, n),
    "one_hot": lambda x, n: nt.one_hot(np.arange(n), n + 1),
}


@pytest.mark.parametrize("name", CALLS)
def test_other_lengths_and_places_compile_nothing(name):
    def run(n):
        x = nt.constant(np.ones((n, n + 4), np.float32))
        with nt.GradientTape() as tape:
            tape.watch(x)
            y = CALLS[name](x, n)
        return y.numpy(), tape.gradient(y, x, unconnected_gradients="zero").numpy()

    run(24)  # beyond the rows of few columns, whose length is in the kernel
    before = nt.cache.stats().compilations
    run(40)
    assert nt.cache.stats().compilations == before


# ---- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: nt.reshape(X, (5, -1)), ValueError, "12 elements do not fit"),
        (lambda: nt.reshape(X, (-1, -1)), ValueError, "at most one -1"),
        (lambda: nt.reshape(X, (2.0, 6)), TypeError, "integer"),
        (lambda: nt.reshape(X, (5, 5)), ValueError, "12 elements"),
        (lambda: nt.squeeze(X, 0), ValueError, "length 3, not 1"),
        (lambda: nt.expand_dims(X, 4), ValueError, "out of range"),
        (lambda: nt.broadcast_to(X, (2, 4)), ValueError, "does not broadcast"),
        (lambda: nt.transpose(X, [0, 0]), ValueError, "permute"),
        (lambda: nt.transpose(X, [0]), ValueError, "permute"),
        (lambda: nt.linalg.matrix_transpose([1.0]), ValueError, "two axes"),
        (lambda: nt.concat([X, np.zeros((2, 2), np.float32)], 0), ValueError, "equal lengths"),
        (lambda: nt.concat([X, X], 2), ValueError, "out of range"),
        (lambda: nt.concat([nt.constant(1.0), nt.constant(2.0)], 0), ValueError, "nt.stack"),
        (lambda: nt.concat([X, nt.constant([[1, 2, 3, 4]])], 0), TypeError, "nt.cast"),
        (lambda: nt.concat([], 0), ValueError, "at least one"),
        (lambda: nt.stack([X, X[0]]), ValueError, "one shape"),
        (lambda: nt.unstack(X, num=4), ValueError, "length 3, not 4"),
        (lambda: nt.split(X, 2), ValueError, "equal parts"),
        (lambda: nt.split(X, [1, 1]), ValueError, "do not make up"),
        (lambda: nt.split(X, [-1, -1, 3]), ValueError, "do not make up"),
        (lambda: nt.split(X, [5, -1]), ValueError, "do not make up"),
        (lambda: nt.slice(X, [0, 0], [4, 1]), ValueError, "reach out"),
        (lambda: nt.slice(X, [-1, 0], [1, 1]), ValueError, "reach out"),
        (lambda: nt.slice(X, [0], [1]), ValueError, "each axis"),
        (lambda: nt.tile(X, [2]), ValueError, "each axis"),
        (lambda: nt.repeat(X, [1, 2, 3], 0), TypeError, "nt.gather"),
        (lambda: nt.repeat(X, -1, 0), ValueError, "negative"),
        (lambda: nt.reverse(X, None), TypeError, "list of integers"),
        (lambda: nt.reverse(X, [2]), ValueError, "out of range"),
        (lambda: nt.roll(X, [1, 2], 0), ValueError, "2 shifts for 1 axes"),
        (lambda: nt.pad(X, [[1, 1]]), ValueError, "two numbers"),
        (lambda: nt.pad(X, [[1, 1], [-1, 0]]), ValueError, "two numbers"),
        (lambda: nt.pad(X, [[0, 3], [0, 0]], "REFLECT"), ValueError, "too short"),
        (lambda: nt.pad(X, [[4, 0], [0, 0]], "SYMMETRIC"), ValueError, "too short"),
        (lambda: nt.pad(X, [[0, 0], [0, 0]], "EDGE"), ValueError, "'EDGE'"),
        (lambda: nt.pad([1, 2], [[1, 1]], constant_values=0.5), TypeError, "int32"),
        (lambda: nt.pad(nt.constant([1], dtype=nt.uint8), [[1, 1]], constant_values=-1), ValueError, "uint8"),
        (lambda: nt.meshgrid([1, 2], [3], indexing="yx"), ValueError, "'yx'"),
        (nt.meshgrid, ValueError, "at least one"),
    ],
)  # fmt: skip
def test_errors_say_what_is_wrong(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ---- for a tape -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        nt.identity,
        lambda x: nt.reshape(x, (3, 4)),
        nt.squeeze,
        lambda x: nt.transpose(x, [0, 1]),
        lambda x: nt.broadcast_to(x, (3, 4)),
        lambda x: nt.concat([x], 0),
        lambda x: nt.reverse(x, []),
        lambda x: nt.roll(x, 0, 0),
        lambda x: nt.slice(x, [0, 0], [-1, -1]),
        lambda x: nt.tile(x, [1, 1]),
        lambda x: nt.repeat(x, 1, 0),
        lambda x: nt.pad(x, [[0, 0], [0, 0]]),
        lambda x: nt.pad(x, [[0, 0], [0, 0]], "REFLECT"),
        lambda x: nt.split(x, 1)[0],
        lambda x: x[...],
        lambda x: x[:, :],
    ],
)
def test_a_result_equal_to_the_operand_is_a_tensor_of_its_own(function):
    x = nt.constant(X)
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
        z = 2 * x + 3 * y
    assert y is not x
    gradients = tape.gradient(z, [x, y])
    np.testing.assert_array_equal(gradients[0], np.full((3, 4), 5))
    np.testing.assert_array_equal(gradients[1], np.full((3, 4), 3))


def test_padding_with_what_is_no_finite_number():
    np.testing.assert_array_equal(nt.pad([1.0], [[1, 0]], constant_values=np.inf), [np.inf, 1])
    np.testing.assert_array_equal(nt.pad([1.0], [[1, 0]], constant_values=float("nan")), [np.nan, 1])
    big = nt.constant([1], dtype=nt.uint64)
    np.testing.assert_array_equal(nt.pad(big, [[1, 0]], constant_values=2**64 - 1), np.array([2**64 - 1, 1], np.uint64))


def test_minus_zero_is_not_taken_for_zero():
    x = nt.constant([1.0])
    for number in (0.0, -0.0, 0.0):
        padded = nt.pad(x, [[1, 0]], constant_values=number).numpy()
        assert np.signbit(padded[0]) == np.signbit(number)
