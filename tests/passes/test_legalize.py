"""Text before, text after: only what no loop nest can hold is moved, and as little of it as will do."""

from __future__ import annotations

import numpy as np
import pytest

import numtape.ops  # noqa: F401  fills the registry
from numtape.backends.reference import interpret
from numtape.ir.text import read, write
from numtape.ir.verify import verify
from numtape.passes.legalize import legalize

REWRITES = {
    "an operand with short rows is written out as far as needed": (
        """
        %0 = input() {index=0} : f32[2,3,4]
        %1 = input() {index=1} : f32[3,1]
        %2 = multiply(%0, %1) : f32[2,3,4]
        return %2
        """,
        """
        %0 = input() {index=0} : f32[2,3,4]
        %1 = input() {index=1} : f32[3,1]
        %2 = expand(%1) {shape=(2, 3, 1)} : f32[2,3,1]
        %3 = multiply(%0, %2) : f32[2,3,4]
        return %3
        """,
    ),
    "rows and columns that go together stay, and so do long rows": (
        """
        %0 = input() {index=0} : f32[5,1]
        %1 = input() {index=1} : f32[9]
        %2 = multiply(%0, %1) : f32[5,9]
        %3 = input() {index=2} : f32[2,5,9]
        %4 = add(%3, %0) : f32[2,5,9]
        return %2, %4
        """,
        """
        %0 = input() {index=0} : f32[5,1]
        %1 = input() {index=1} : f32[9]
        %2 = multiply(%0, %1) : f32[5,9]
        %3 = input() {index=2} : f32[2,5,9]
        %4 = add(%3, %0) : f32[2,5,9]
        return %2, %4
        """,
    ),
    "of two operands that want rows of different lengths the larger stays": (
        """
        %0 = input() {index=0} : f32[2,1,1]
        %1 = input() {index=1} : f32[3,4]
        %2 = input() {index=2} : b1[4]
        %3 = where(%2, %1, %0) : f32[2,3,4]
        return %3
        """,
        """
        %0 = input() {index=0} : f32[2,1,1]
        %1 = input() {index=1} : f32[3,4]
        %2 = input() {index=2} : b1[4]
        %3 = expand(%2) {shape=(1, 3, 4)} : b1[1,3,4]
        %4 = where(%3, %1, %0) : f32[2,3,4]
        return %4
        """,
    ),
    "literals fit everywhere": (
        """
        %0 = input() {index=0} : f32[2,3,4]
        %1 = constant() {value=2.0, dtype=f32, shape=(3, 1)} : f32[3,1]
        %2 = multiply(%0, %1) : f32[2,3,4]
        return %2
        """,
        """
        %0 = input() {index=0} : f32[2,3,4]
        %1 = constant() {value=2.0, dtype=f32, shape=(3, 1)} : f32[3,1]
        %2 = multiply(%0, %1) : f32[2,3,4]
        return %2
        """,
    ),
    "a fold over axes on both sides takes one side after the other": (
        """
        %0 = input() {index=0} : f32[2,3,4]
        %1 = sum(%0) {axes=(0, 2)} : f32[1,3,1]
        return %1
        """,
        """
        %0 = input() {index=0} : f32[2,3,4]
        %1 = sum(%0) {axes=(2,)} : f32[2,3,1]
        %2 = sum(%1) {axes=(0,)} : f32[1,3,1]
        return %2
        """,
    ),
    "a fold in the middle of short rows moves its axes to the end": (
        """
        %0 = input() {index=0} : f32[2,3,4]
        %1 = max(%0) {axes=(1,)} : f32[2,1,4]
        return %1
        """,
        """
        %0 = input() {index=0} : f32[2,3,4]
        %1 = transpose(%0) {perm=(0, 2, 1)} : f32[2,4,3]
        %2 = max(%1) {axes=(2,)} : f32[2,4,1]
        %3 = reshape(%2) {shape=(2, 1, 4)} : f32[2,1,4]
        return %3
        """,
    ),
    "nothing is computed from no elements": (
        """
        %0 = input() {index=0} : f32[0,3]
        %1 = input() {index=1} : f32[4,0]
        %2 = product(%0) {axes=(0,)} : f32[1,3]
        %3 = matmul(%1, %0) {transpose_a=False, transpose_b=False} : f32[4,3]
        %4 = exp(%0) : f32[0,3]
        %5 = input() {index=2} : f32[2,3]
        %6 = concat(%4, %5) {axis=0} : f32[2,3]
        return %2, %3, %6
        """,
        """
        %0 = input() {index=0} : f32[0,3]
        %1 = input() {index=1} : f32[4,0]
        %2 = constant() {value=1.0, dtype=f32, shape=(1, 3)} : f32[1,3]
        %3 = constant() {value=0.0, dtype=f32, shape=(4, 3)} : f32[4,3]
        %4 = constant() {value=0, dtype=f32, shape=(0, 3)} : f32[0,3]
        %5 = input() {index=2} : f32[2,3]
        %6 = concat(%4, %5) {axis=0} : f32[2,3]
        return %2, %3, %6
        """,
    ),
}


@pytest.mark.parametrize("case", REWRITES)
def test_rewrites(case):
    before, after = (read(text) for text in REWRITES[case])
    verify(before)
    legal = verify(legalize(before))
    assert write(legal) == write(after)
    rng = np.random.default_rng(0)
    types = [before.type(k) for k in before.inputs]
    arrays = [np.asarray(rng.integers(0, 2, t.shape)).astype(t.dtype.dtype) for t in types]
    for got, right in zip(interpret(legal, arrays), interpret(before, arrays), strict=True):
        assert got.dtype == right.dtype
        np.testing.assert_array_equal(got, right)
