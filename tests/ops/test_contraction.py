"""What the registry's tests cannot see of products: which products they become, errors, operators, large batches."""

from __future__ import annotations

import numpy as np
import pytest

import numtape as nt
from numtape.dtypes import float32, int8, tensor_type
from numtape.ir.program import Builder, Program
from numtape.passes.simplify import simplify
from tests.programs import WAYS, agree, gradient_of


def program(function, *shapes, dtype=float32):
    builder = Builder()
    out = function(*(builder.input(tensor_type(dtype, shape), k) for k, shape in enumerate(shapes)))
    return simplify(Program(tuple(builder.instructions), (out.index,)))


def products(made):
    """The types of operands of each matrix product in a program."""
    return [[str(made.type(k)) for k in i.operands] for i in made.instructions if i.op.name == "matmul"]


def names(made):
    return [i.op.name for i in made.instructions if i.op.name != "input"]


# ---- matmul -----------------------------------------------------------------------------------------------------


def test_batch_times_one_matrix_is_one_product():
    made = program(nt.matmul, (2, 3, 4, 5), (5, 6))
    assert products(made) == [["f32[24,5]", "f32[5,6]"]]
    assert all(len(x) == 2 and x[0].count(",") == x[1].count(",") == 1 for x in products(gradient_of(made)))


def test_batch_beside_the_rows_joins_them():
    made = program(nt.matmul, (2, 3, 4, 5), (2, 1, 5, 6))
    assert products(made) == [["f32[2,12,5]", "f32[2,5,6]"]]


def test_one_matrix_times_a_batch_copies_nothing():
    made = program(lambda a, b: nt.matmul(a, b, transpose_a=True), (5, 4), (2, 3, 5, 6))
    assert products(made) == [["f32[1,5,4]", "f32[6,5,6]"]]
    assert "broadcast" not in names(made)


def test_batches_that_cross_are_written_out():
    made = program(nt.matmul, (2, 1, 4, 5), (1, 3, 5, 6))
    assert products(made) == [["f32[6,4,5]", "f32[6,5,6]"]]


def test_transposed_operands_become_flags():
    made = program(lambda a, b: nt.transpose(a) @ nt.transpose(b), (3, 2), (4, 3))
    assert names(made) == ["matmul"]
    assert made.instructions[-1].attributes == (True, True)


def test_a_layer_and_its_gradient_move_nothing():
    made = simplify(gradient_of(program(nt.matmul, (32, 64), (64, 10))))
    assert names(made) == ["matmul", "matmul"]


def test_large_batches_broadcast_in_every_way():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 12, 11)).astype("f4"), rng.normal(size=(12, 13)).astype("f4")
    made = program(lambda a, b: nt.matmul(a, b, transpose_a=True), a.shape, b.shape)
    for p in (made, gradient_of(made)):
        arrays = [a, b, *([np.ones((7, 11, 13), "f4")] if p is not made else [])]
        expected = WAYS["reference"](p, arrays)
        for way in ("plain", "native"):
            agree(WAYS[way](p, arrays), expected, way)


def test_operator():
    x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    t, v = nt.constant(x), nt.Variable(x)
    for product in (t @ t, t @ v, v @ t, x @ t, t @ x, x.tolist() @ t, t @ x.tolist()):
        np.testing.assert_array_equal(product.numpy(), x @ x)


def test_broadcast_batches_on_the_tape():
    a, b = nt.constant(np.ones((2, 3, 5))), nt.constant(np.arange(15.0).reshape(5, 3))
    with nt.GradientTape() as tape:
        tape.watch([a, b])
        y = a @ b
    da, db = tape.gradient(y, [a, b])
    np.testing.assert_array_equal(da.numpy(), np.broadcast_to(b.numpy().sum(1), (2, 3, 5)))
    np.testing.assert_array_equal(db.numpy(), np.full((5, 3), 6.0))


@pytest.mark.parametrize(
    ("a", "b", "options", "error", "text"),
    [
        ((2, 3), (4, 5), {}, ValueError, r"matmul: float32\[2, 3\], float32\[4, 5\]: the inner sizes 3 and 4 differ"),
        ((2, 3), (3, 5), {"transpose_a": True}, ValueError, "with transpose_a=True, transpose_b=False: .* 2 and 3"),
        ((2, 3), (3,), {}, ValueError, r"rank 2 or more. Write nt.linalg.matvec\(a, b\)"),
        ((3,), (3,), {}, ValueError, "nt.tensordot"),
        ((2, 2, 3), (3, 3, 5), {}, ValueError, r"leading axes: shapes \(2,\) and \(3,\) do not broadcast"),
        ((2, 3), (3, 5), {"transpose_b": 1.5}, TypeError, "transpose_a and transpose_b are True or False, got 1.5"),
    ],
)
def test_matmul_refuses(a, b, options, error, text):
    with pytest.raises(error, match=text):
        nt.matmul(np.ones(a, "f4"), np.ones(b, "f4"), **options)


def test_dtypes_are_not_mixed():
    x = nt.constant(np.ones((2, 2), np.float64))
    for product in (
        nt.matmul,
        nt.linalg.matvec,
        lambda a, b: nt.tensordot(a, b, 1),
        lambda a, b: nt.einsum("ij,jk", a, b),
    ):
        with pytest.raises(TypeError, match=r"float32\[2, 2\], float64\[2, 2\].*write nt.cast"):
            product(nt.constant(np.ones((2, 2), np.float32)), x)
    with pytest.raises(TypeError, match="numeric"):
        nt.matmul([[True]], [[True]])


def test_integers_wrap_around():
    x = nt.constant(np.full((2, 2), 100, np.int8))
    np.testing.assert_array_equal((x @ x).numpy(), np.full((2, 2), 20000 % 256, np.int8))
    assert (x @ x).dtype == int8


# ---- matvec -----------------------------------------------------------------------------------------------------


def test_several_vectors_are_one_product():
    assert products(program(nt.linalg.matvec, (4, 5), (2, 3, 5))) == [["f32[6,5]", "f32[4,5]"]]


def test_matvec_refuses():
    with pytest.raises(ValueError, match="needs a matrix and a vector"):
        nt.linalg.matvec([1.0], [1.0])
    with pytest.raises(ValueError, match=r"matvec: .* inner sizes 2 and 3 differ"):
        nt.linalg.matvec([[1.0, 2.0]], [1.0, 2.0, 3.0])


# ---- tensordot --------------------------------------------------------------------------------------------------


def test_tensordot_moves_no_axes_that_lie_well():
    made = program(lambda a, b: nt.tensordot(a, b, [[0, 1], [0, 1]]), (3, 4, 2), (3, 4, 5))
    assert names(made) == ["reshape", "reshape", "matmul"]
    made = program(lambda a, b: nt.tensordot(a, b, [[2], [1]]), (2, 3, 4), (5, 4))
    assert "transpose" not in names(made)


@pytest.mark.parametrize("axes", [0, 1, 2, [[0], [1]], ([0, 1], [1, 0]), np.array([[0, 1], [1, 0]])])
def test_tensordot_takes_axes_as_numpy_does(axes):
    a = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(nt.tensordot(a, a, axes).numpy(), np.tensordot(a, a, axes))


@pytest.mark.parametrize(
    ("axes", "error", "text"),
    [
        (3, ValueError, "do not share 3 axes; give 0 to 2"),
        (-1, ValueError, "do not share -1 axes"),
        (1, ValueError, r"axes \[1\] of the first and \[0\] of the second do not pair up"),
        ([[0, 1], [0]], ValueError, "do not pair up"),
        ([[0, 0], [0, 0]], ValueError, "do not pair up"),
        ([[2], [0]], ValueError, "axis 2 is out of range"),
        ("ij", TypeError, "axes is a number of axes, or two lists"),
        (1.0, TypeError, "axes is a number of axes, or two lists"),
        (True, TypeError, "axes is a number of axes, or two lists"),
    ],
)
def test_tensordot_refuses(axes, error, text):
    with pytest.raises(error, match=text):
        nt.tensordot(np.ones((2, 3), "f4"), np.ones((2, 4), "f4"), axes)


# ---- einsum -----------------------------------------------------------------------------------------------------


def einsum(equation, *shapes):
    return program(lambda *inputs: nt.einsum(equation, *inputs), *shapes)


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)], ["matmul"]),
        ("ij,jk->ki", [(2, 3), (3, 4)], ["matmul"]),
        ("ji,kj->ik", [(3, 2), (4, 3)], ["matmul"]),
        ("bij,bkj->bik", [(2, 3, 4), (2, 5, 4)], ["matmul"]),
        ("i,i->i", [(3,), (3,)], ["multiply"]),
        ("ij,ij->i", [(2, 3), (2, 3)], ["multiply", "sum", "reshape"]),
        ("i,j->ij", [(2,), (3,)], ["reshape", "reshape", "multiply"]),
        ("ij->ji", [(2, 3)], ["transpose"]),
    ],
)
def test_einsum_becomes(equation, shapes, expected):
    assert names(einsum(equation, *shapes)) == expected


def test_einsum_sums_first_what_one_operand_has_alone():
    made = einsum("ijk,jl->l", (2, 3, 4), (3, 5))
    assert products(made) == [["f32[1,3]", "f32[3,5]"]]


def test_einsum_contracts_the_small_ones_first():
    made = einsum("ab,bc,c->a", (20, 30), (30, 40), (40,))
    assert products(made) == [["f32[30,40]", "f32[40,1]"], ["f32[1,30]", "f32[20,30]"]]


def test_einsum_of_nothing_to_do_is_a_tensor_of_its_own():
    x = nt.constant([1.0, 2.0])
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = nt.einsum("i->i", x)
        z = y * y
    assert y is not x
    np.testing.assert_array_equal(tape.gradient(z, y).numpy(), [2.0, 4.0])


@pytest.mark.parametrize(
    ("equation", "shapes", "text"),
    [
        ("ij,jk->ik", [(2, 3)], "the equation has 2 operands, but 1 are given"),
        ("ij->i", [(2, 3, 4)], "operand 0 has 3 axes, which 'ij' does not fit"),
        ("...ijk->i", [(2, 3)], "operand 0 has 2 axes, which '...ijk' does not fit"),
        ("ij,jk->ik", [(2, 3), (4, 5)], "axis 'j' is both 3 and 4 long"),
        ("ij,jk->ik", [(2, 3), (1, 5)], "axis 'j' is both 3 and 1 long"),
        ("ii", [(2, 3)], "axis 'i' is both 2 and 3 long"),
        ("...i,...i->...", [(2, 3), (4, 3)], "an axis under '...' is both 2 and 4 long"),
        ("ij->ik", [(2, 3)], "'k' of the output is in no operand"),
        ("i->ii", [(2,)], "'i' stands twice in the output; nt.linalg.diag"),
        ("...i->i", [(2, 3)], "the axes under '...' have to stand in the output"),
        ("i1->i", [(2, 3)], "'i1' is no list of axes"),
        ("i->j->i", [(2,)], "'j->i' is no list of axes"),
        ("i..j", [(2, 3)], "'i..j' is no list of axes"),
        ("...i...->i", [(2,)], "is no list of axes"),
    ],
)
def test_einsum_refuses(equation, shapes, text):
    with pytest.raises(ValueError, match=text.replace("...", r"\.\.\.")) as caught:
        nt.einsum(equation, *(np.ones(s, "f4") for s in shapes))
    assert repr(equation) in str(caught.value)


def test_einsum_takes_the_equation_first():
    with pytest.raises(TypeError, match="the equation comes first"):
        nt.einsum(np.ones(2), "i->i")
    with pytest.raises(ValueError, match="at least one tensor"):
        nt.einsum("i->i")


def test_einsum_dots_for_no_axes():
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(nt.einsum("...ij->...ji", x).numpy(), x.T)
    np.testing.assert_array_equal(nt.einsum("...ij->ji", x).numpy(), x.T)


# ---- diagonals --------------------------------------------------------------------------------------------------


def test_diagonals_refuse():
    x = np.ones((2, 3), "f4")
    for k in (3, -2):
        with pytest.raises(ValueError, match=r"diag_part: float32\[2, 3\] has diagonals -1 to 2"):
            nt.linalg.diag_part(x, k)
    with pytest.raises(TypeError, match="diag_part: k is an integer"):
        nt.linalg.diag_part(x, 1.0)
    for function in (nt.linalg.diag_part, nt.linalg.trace, lambda x: nt.linalg.band_part(x, 0, 0)):
        with pytest.raises(ValueError, match="a matrix in the last two axes"):
            function([1.0])
    with pytest.raises(ValueError, match="needs rank 1 or more"):
        nt.linalg.diag(1.0)


def test_band_part_drops_nan_and_its_gradient():
    x = nt.constant([[1.0, np.nan], [3.0, 4.0]])
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = nt.linalg.band_part(x, -1, 0)
    np.testing.assert_array_equal(y.numpy(), [[1.0, 0.0], [3.0, 4.0]])
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), [[1.0, 0.0], [1.0, 1.0]])


def test_band_part_of_small_integers():
    x = np.ones((200, 200), np.int8)
    np.testing.assert_array_equal(nt.linalg.band_part(x, 150, 0).numpy(), np.triu(np.tril(x), -150))
