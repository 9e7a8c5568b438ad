"""Programs and the schedules they get, as `print` shows them."""

from __future__ import annotations

import time
from textwrap import dedent

import pytest

import numtape.ops  # noqa: F401  fills the registry
from numtape.ir.text import read
from numtape.passes.expand import expand
from numtape.passes.fuse import MAX_MEMBERS, fuse
from numtape.passes.layout import is_inlined, root
from numtape.passes.legalize import legalize
from numtape.passes.simplify import simplify
from tests.models import pendulum, recurrent, training_step

SCHEDULES = {
    "a chain over elements is one loop, whatever their shape": (
        """
        %0 = input() {index=0} : f32[2,3]
        %1 = exp(%0) : f32[2,3]
        %2 = reshape(%1) {shape=(6,)} : f32[6]
        %3 = input() {index=1} : f32[6]
        %4 = multiply(%2, %3) : f32[6]
        %5 = sum(%4) {axes=(0,)} : f32[1]
        return %1, %4, %5
        """,
        """
        flat  6
          loop 0  full %1 = exp(full %0)
          loop 0  full %4 = multiply(full %1, full %3)
          loop 0  scalar %5 = sum(full %4)
        """,
    ),
    "a softmax runs through each row three times": (
        """
        %0 = input() {index=0} : f32[8,3]
        %1 = max(%0) {axes=(1,)} : f32[8,1]
        %2 = subtract(%0, %1) : f32[8,3]
        %3 = exp(%2) : f32[8,3]
        %4 = sum(%3) {axes=(1,)} : f32[8,1]
        %5 = divide(%3, %4) : f32[8,3]
        return %5
        """,
        """
        rows  8 x 3
          loop 0  row %1 = max(full %0)
          loop 1  full %2 = subtract(full %0, row %1)
          loop 1  full %3 = exp(full %2)
          loop 1  row %4 = sum(full %3)
          loop 2  full %5 = divide(full %3, row %4)
        """,
    ),
    "one row is a row": (
        """
        %0 = input() {index=0} : f32[3]
        %1 = max(%0) {axes=(0,)} : f32[1]
        %2 = subtract(%0, %1) : f32[3]
        return %2
        """,
        """
        rows  1 x 3
          loop 0  row %1 = max(full %0)
          loop 1  full %2 = subtract(full %0, row %1)
        """,
    ),
    "a long row is read again by a loop of its own": (
        """
        %0 = input() {index=0} : f32[5000]
        %1 = max(%0) {axes=(0,)} : f32[1]
        %2 = subtract(%0, %1) : f32[5000]
        return %2
        """,
        """
        flat  5000
          loop 0  scalar %1 = max(full %0)
        flat  5000
          loop 0  full %2 = subtract(full %0, scalar %1)
        """,
    ),
    "numbers after a fold come after its loop": (
        """
        %0 = input() {index=0} : f32[8,3]
        %1 = square(%0) : f32[8,3]
        %2 = sum(%1) {axes=(1,)} : f32[8,1]
        %3 = sqrt(%2) : f32[8,1]
        %4 = sum(%3) {axes=(0,)} : f32[1,1]
        %5 = constant() {value=8.0, dtype=f32, shape=()} : f32[]
        %6 = divide(%4, %5) : f32[1,1]
        return %6
        """,
        """
        rows  8 x 3
          loop 0  full %1 = square(full %0)
          loop 0  row %2 = sum(full %1)
          then 0  row %3 = sqrt(row %2)
          then 0  scalar %4 = sum(row %3)
          after   scalar %6 = divide(scalar %4, scalar %5)
        """,
    ),
    "numbers that need no loop join each other, not their users": (
        """
        %0 = input() {index=0} : f32[]
        %1 = input() {index=1} : f32[]
        %2 = exp(%0) : f32[]
        %3 = exp(%1) : f32[]
        %4 = input() {index=2} : f32[9]
        %5 = multiply(%4, %2) : f32[9]
        %6 = multiply(%4, %3) : f32[9]
        return %5, %6
        """,
        """
        flat  1
          loop 0  full %2 = exp(full %0)
          loop 0  full %3 = exp(full %1)
        flat  9
          loop 0  full %5 = multiply(full %4, scalar %2)
          loop 0  full %6 = multiply(full %4, scalar %3)
        """,
    ),
    "columns and folds over rows share a nest": (
        """
        %0 = input() {index=0} : f32[8,3]
        %1 = input() {index=1} : f32[3]
        %2 = add(%0, %1) : f32[8,3]
        %3 = sum(%2) {axes=(0,)} : f32[1,3]
        %4 = exp(%3) : f32[1,3]
        return %2, %4
        """,
        """
        rows  8 x 3
          loop 0  full %2 = add(full %0, column %1)
          loop 0  column %3 = sum(full %2)
        flat  3
          loop 0  full %4 = exp(full %3)
        """,
    ),
    "each of some rows in succession, and a line for them": (
        """
        %0 = input() {index=0} : f32[2,3,9]
        %1 = input() {index=1} : f32[3,1]
        %2 = multiply(%0, %1) : f32[2,3,9]
        %3 = sum(%2) {axes=(1,)} : f32[2,1,9]
        return %2, %3
        """,
        """
        rows  6 x 9
          loop 0  full %2 = multiply(full %0, cycle %1)
          loop 0  segment %3 = sum(full %2)
        """,
    ),
    "what reads only what is in memory waits for its users": (
        """
        %0 = input() {index=0} : f32[4,4]
        %1 = relu(%0) : f32[4,4]
        %2 = constant() {value=0.0, dtype=f32, shape=()} : f32[]
        %3 = greater(%1, %2) : b1[4,4]
        %4 = matmul(%1, %0) {transpose_a=False, transpose_b=False} : f32[4,4]
        %5 = where(%3, %4, %2) : f32[4,4]
        return %5
        """,
        """
        flat  16
          loop 0  full %1 = relu(full %0)
        call  %4 = matmul(%1, %0)
        flat  16
          loop 0  full %3 = greater(full %1, scalar %2)
          loop 0  full %5 = where(full %3, full %4, scalar %2)
        """,
    ),
    "what waited in vain joins the producer": (
        """
        %0 = input() {index=0} : f32[9]
        %1 = exp(%0) : f32[9]
        %2 = negative(%1) : f32[9]
        return %1, %2
        """,
        """
        flat  9
          loop 0  full %1 = exp(full %0)
          loop 0  full %2 = negative(full %1)
        """,
    ),
    "no group is on both sides of a call": (
        """
        %0 = input() {index=0} : f32[4,4]
        %1 = input() {index=1} : f32[4,4]
        %2 = multiply(%0, %1) : f32[4,4]
        %3 = matmul(%2, %0) {transpose_a=False, transpose_b=False} : f32[4,4]
        %4 = multiply(%3, %2) : f32[4,4]
        %5 = multiply(%4, %1) : f32[4,4]
        return %5
        """,
        """
        flat  16
          loop 0  full %2 = multiply(full %0, full %1)
        call  %3 = matmul(%2, %0)
        flat  16
          loop 0  full %4 = multiply(full %3, full %2)
          loop 0  full %5 = multiply(full %4, full %1)
        """,
    ),
    "what joins a group holds back all that follow it": (
        """
        %0 = input() {index=0} : f32[9]
        %1 = input() {index=1} : f32[9]
        %2 = multiply(%0, %1) : f32[9]
        %3 = cumsum(%2) {axis=0, exclusive=False, reverse=False} : f32[9]
        %4 = input() {index=2} : f32[9]
        %5 = input() {index=3} : f32[9]
        %6 = multiply(%4, %5) : f32[9]
        %7 = cumsum(%6) {axis=0, exclusive=False, reverse=False} : f32[9]
        %8 = add(%2, %7) : f32[9]
        %9 = add(%3, %6) : f32[9]
        return %8, %9
        """,
        """
        flat  9
          loop 0  full %6 = multiply(full %4, full %5)
        call  %7 = cumsum(%6)
        flat  9
          loop 0  full %2 = multiply(full %0, full %1)
          loop 0  full %8 = add(full %2, full %7)
        call  %3 = cumsum(%2)
        flat  9
          loop 0  full %9 = add(full %3, full %6)
        """,
    ),
    "a constant that goes out is written; others are part of their users": (
        """
        %0 = constant() {value=1.0, dtype=f32, shape=(3,)} : f32[3]
        %1 = iota() {dtype=f32, length=3} : f32[3]
        %2 = add(%1, %0) : f32[3]
        return %0, %2
        """,
        """
        flat  3
          loop 0  full %0 = constant()
        flat  3
          loop 0  full %2 = add(full %1, scalar %0)
        """,
    ),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_schedules(case):
    text, expected = SCHEDULES[case]
    assert str(fuse(read(text))) == dedent(expected).strip("\n")


def optimized(program):
    return simplify(legalize(simplify(expand(program))))


def test_a_training_step_is_short():
    groups = fuse(optimized(training_step())).groups
    calls = [g for g in groups if g.layout is None]
    assert len(calls) == 5
    # Bias and relu; the loss, its gradient and the bias's; the gradient of relu and the bias's; the learning rate; one
    # update for each of four parameters.
    assert len(groups) - len(calls) == 8


@pytest.mark.parametrize(("model", "sizes"), [(pendulum, (300,)), (pendulum, (300, 50)), (recurrent, (150,))])
def test_long_programs_are_fused_in_no_time(model, sizes):
    program = optimized(model(*sizes))
    assert len(program.instructions) > 2000
    started = time.process_time()
    groups = fuse(program).groups
    assert time.process_time() - started < 2
    assert sum(len(g.members) for g in groups) > 2000
    assert max(len(g.members) for g in groups) <= MAX_MEMBERS
    done: set[int] = set()
    for group in groups:
        inside = {*group.members}
        for m in group.members:
            for k in program.instructions[m].operands:
                k = root(program, k)
                assert k in done or k in inside or k in program.inputs or is_inlined(program.instructions[k])
        done |= inside
