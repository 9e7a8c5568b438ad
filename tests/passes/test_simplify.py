"""Text before, text after."""

from __future__ import annotations

import numpy as np
import pytest

import numtape.ops  # noqa: F401  fills the registry
from numtape.backends.reference import interpret
from numtape.ir.text import read, write
from numtape.ir.verify import verify
from numtape.passes.simplify import simplify

REWRITES = {
    "what nothing depends on goes": (
        """
        %0 = input() {index=0} : f32[3]
        %1 = exp(%0) : f32[3]
        %2 = negative(%0) : f32[3]
        return %2
        """,
        """
        %0 = input() {index=0} : f32[3]
        %1 = negative(%0) : f32[3]
        return %1
        """,
    ),
    "an input that is not needed stays, and a donation with it": (
        """
        %0 = input() {index=0} : f32[3]
        %1 = input() {index=1} : f32[3]
        %2 = negative(%0) : f32[3]
        return %2 <- 1
        """,
        """
        %0 = input() {index=0} : f32[3]
        %1 = input() {index=1} : f32[3]
        %2 = negative(%0) : f32[3]
        return %2 <- 1
        """,
    ),
    "equal instructions become one, whatever the order of a sum": (
        """
        %0 = input() {index=0} : f32[3]
        %1 = input() {index=1} : f32[3]
        %2 = add(%0, %1) : f32[3]
        %3 = add(%1, %0) : f32[3]
        %4 = multiply(%2, %3) : f32[3]
        return %4, %3
        """,
        """
        %0 = input() {index=0} : f32[3]
        %1 = input() {index=1} : f32[3]
        %2 = add(%0, %1) : f32[3]
        %3 = multiply(%2, %2) : f32[3]
        return %3, %2
        """,
    ),
    "0.0 and -0.0 are two constants": (
        """
        %0 = constant() {value=0.0, dtype=f32, shape=(2,)} : f32[2]
        %1 = constant() {value=-0.0, dtype=f32, shape=(2,)} : f32[2]
        return %0, %1
        """,
        """
        %0 = constant() {value=0.0, dtype=f32, shape=(2,)} : f32[2]
        %1 = constant() {value=-0.0, dtype=f32, shape=(2,)} : f32[2]
        return %0, %1
        """,
    ),
    "literals fold in the precision of their dtype": (
        """
        %0 = constant() {value=0.1, dtype=f32, shape=(2,)} : f32[2]
        %1 = constant() {value=3.0, dtype=f32, shape=()} : f32[]
        %2 = multiply(%0, %1) : f32[2]
        return %2
        """,
        """
        %0 = constant() {value=0.30000001192092896, dtype=f32, shape=(2,)} : f32[2]
        return %0
        """,
    ),
    "neutral literals go, if the other operand has the whole shape": (
        """
        %0 = input() {index=0} : f32[3]
        %1 = constant() {value=1.0, dtype=f32, shape=(3,)} : f32[3]
        %2 = multiply(%0, %1) : f32[3]
        %3 = constant() {value=0.0, dtype=f32, shape=(2, 3)} : f32[2,3]
        %4 = add(%3, %2) : f32[2,3]
        return %2, %4
        """,
        """
        %0 = input() {index=0} : f32[3]
        %1 = broadcast(%0) {shape=(2, 3)} : f32[2,3]
        return %0, %1
        """,
    ),
    "what is repeated is computed once": (
        """
        %0 = input() {index=0} : f32[3]
        %1 = broadcast(%0) {shape=(2, 3)} : f32[2,3]
        %2 = exp(%1) : f32[2,3]
        %3 = input() {index=1} : f32[2,1]
        %4 = broadcast(%3) {shape=(2, 3)} : f32[2,3]
        %5 = multiply(%2, %4) : f32[2,3]
        return %5, %2
        """,
        """
        %0 = input() {index=0} : f32[3]
        %1 = exp(%0) : f32[3]
        %2 = broadcast(%1) {shape=(2, 3)} : f32[2,3]
        %3 = input() {index=1} : f32[2,1]
        %4 = multiply(%1, %3) : f32[2,3]
        return %4, %2
        """,
    ),
    "a sum of what is repeated is a multiple": (
        """
        %0 = input() {index=0} : f32[3]
        %1 = broadcast(%0) {shape=(2, 4, 3)} : f32[2,4,3]
        %2 = sum(%1) {axes=(1, 2)} : f32[2,1,1]
        %3 = max(%1) {axes=(0,)} : f32[1,4,3]
        return %2, %3
        """,
        """
        %0 = input() {index=0} : f32[3]
        %1 = reshape(%0) {shape=(1, 1, 3)} : f32[1,1,3]
        %2 = sum(%1) {axes=(1, 2)} : f32[1,1,1]
        %3 = constant() {value=4, dtype=f32, shape=()} : f32[]
        %4 = multiply(%2, %3) : f32[1,1,1]
        %5 = broadcast(%4) {shape=(2, 1, 1)} : f32[2,1,1]
        %6 = broadcast(%1) {shape=(1, 4, 3)} : f32[1,4,3]
        return %5, %6
        """,
    ),
    "a sum that repeats too often for its dtype stays": (
        """
        %0 = input() {index=0} : i8[]
        %1 = broadcast(%0) {shape=(200,)} : i8[200]
        %2 = sum(%1) {axes=(0,)} : i8[1]
        return %2
        """,
        """
        %0 = input() {index=0} : i8[]
        %1 = broadcast(%0) {shape=(200,)} : i8[200]
        %2 = sum(%1) {axes=(0,)} : i8[1]
        return %2
        """,
    ),
    "a fold over axes of length 1 is no fold": (
        """
        %0 = input() {index=0} : f32[3,1]
        %1 = max(%0) {axes=(1,)} : f32[3,1]
        return %1
        """,
        """
        %0 = input() {index=0} : f32[3,1]
        return %0
        """,
    ),
    "signs": (
        """
        %0 = input() {index=0} : f32[3]
        %1 = input() {index=1} : f32[3]
        %2 = negative(%1) : f32[3]
        %3 = add(%0, %2) : f32[3]
        %4 = add(%2, %0) : f32[3]
        %5 = subtract(%0, %2) : f32[3]
        %6 = negative(%2) : f32[3]
        return %3, %4, %5, %6
        """,
        """
        %0 = input() {index=0} : f32[3]
        %1 = input() {index=1} : f32[3]
        %2 = subtract(%0, %1) : f32[3]
        %3 = add(%0, %1) : f32[3]
        return %2, %2, %3, %1
        """,
    ),
    "a choice that is known": (
        """
        %0 = input() {index=0} : f32[3]
        %1 = input() {index=1} : f32[1]
        %2 = constant() {value=False, dtype=b1, shape=(3,)} : b1[3]
        %3 = where(%2, %0, %1) : f32[3]
        %4 = input() {index=2} : b1[2,1]
        %5 = where(%4, %0, %0) : f32[2,3]
        return %3, %5
        """,
        """
        %0 = input() {index=0} : f32[3]
        %1 = input() {index=1} : f32[1]
        %2 = broadcast(%1) {shape=(3,)} : f32[3]
        %3 = input() {index=2} : b1[2,1]
        %4 = broadcast(%0) {shape=(2, 3)} : f32[2,3]
        return %2, %4
        """,
    ),
    "reshapes and transposes in a row": (
        """
        %0 = input() {index=0} : f32[2,3,1]
        %1 = transpose(%0) {perm=(1, 0, 2)} : f32[3,2,1]
        %2 = transpose(%1) {perm=(1, 2, 0)} : f32[2,1,3]
        %3 = reshape(%2) {shape=(6,)} : f32[6]
        %4 = reshape(%3) {shape=(3, 2)} : f32[3,2]
        return %4
        """,
        """
        %0 = input() {index=0} : f32[2,3,1]
        %1 = reshape(%0) {shape=(3, 2)} : f32[3,2]
        return %1
        """,
    ),
    "a product takes the transposition of its operands": (
        """
        %0 = input() {index=0} : f32[4,2]
        %1 = input() {index=1} : f32[3,4]
        %2 = transpose(%0) {perm=(1, 0)} : f32[2,4]
        %3 = transpose(%1) {perm=(1, 0)} : f32[4,3]
        %4 = matmul(%2, %3) {transpose_a=False, transpose_b=False} : f32[2,3]
        %5 = matmul(%0, %3) {transpose_a=True, transpose_b=False} : f32[2,3]
        return %4, %5
        """,
        """
        %0 = input() {index=0} : f32[4,2]
        %1 = input() {index=1} : f32[3,4]
        %2 = matmul(%0, %1) {transpose_a=True, transpose_b=True} : f32[2,3]
        return %2, %2
        """,
    ),
    "a product that is only used transposed is computed transposed": (
        """
        %0 = input() {index=0} : f32[5,2,4]
        %1 = input() {index=1} : f32[5,3,4]
        %2 = matmul(%0, %1) {transpose_a=False, transpose_b=True} : f32[5,2,3]
        %3 = transpose(%2) {perm=(0, 2, 1)} : f32[5,3,2]
        %4 = matmul(%1, %0) {transpose_a=False, transpose_b=True} : f32[5,3,2]
        %5 = transpose(%4) {perm=(0, 2, 1)} : f32[5,2,3]
        return %3, %5, %4
        """,
        """
        %0 = input() {index=0} : f32[5,2,4]
        %1 = input() {index=1} : f32[5,3,4]
        %2 = matmul(%1, %0) {transpose_a=False, transpose_b=True} : f32[5,3,2]
        %3 = transpose(%2) {perm=(0, 2, 1)} : f32[5,2,3]
        return %2, %3, %2
        """,
    ),
    "what only connects is gone": (
        """
        %0 = input() {index=0} : f32[2]
        %1 = stop_gradient(%0) : f32[2]
        %2 = cast(%1) {dtype=f32} : f32[2]
        %3 = reshape(%2) {shape=(2,)} : f32[2]
        return %3, %0
        """,
        """
        %0 = input() {index=0} : f32[2]
        return %0, %0
        """,
    ),
}


@pytest.mark.parametrize("case", REWRITES)
def test_rewrites(case):
    before, after = (read(text) for text in REWRITES[case])
    verify(before)
    simplified = verify(simplify(before))
    assert write(simplified) == write(after)
    assert simplify(simplified) == simplified
    rng = np.random.default_rng(0)
    types = [before.type(k) for k in before.inputs]
    arrays = [np.asarray(rng.integers(0, 2, t.shape)).astype(t.dtype.dtype) for t in types]
    for got, right in zip(interpret(simplified, arrays), interpret(before, arrays), strict=True):
        assert got.dtype == right.dtype
        np.testing.assert_array_equal(got, right)
