"""What a plan says about memory: who takes over what, and that nothing overlaps while it is needed."""

from __future__ import annotations

import numpy as np
import pytest

import numtape.ops  # noqa: F401  fills the registry
from numtape.codegen.plan import plan
from numtape.ir.kernel import ALIGNMENT, Pointer, Scratch
from numtape.ir.text import read
from tests.models import pendulum, recurrent, training_step
from tests.programs import WAYS, agree


def results(text: str) -> list[tuple[str, int]]:
    return list(plan(read(text)).results)


def test_a_training_step():
    made = plan(training_step())
    assert len(made.steps) == 13
    assert len({step.kernel.key for step in made.steps}) == 6, "products, and equal updates, share a kernel"
    assert [kind for kind, _ in made.results] == ["new"] + ["donated"] * 12


def test_another_batch_and_other_layers_need_no_other_kernel():
    keys = {step.kernel.key for step in plan(training_step(32, (64, 32, 10))).steps}
    assert {step.kernel.key for step in plan(training_step(48, (20, 30, 40, 10))).steps} <= keys


def test_an_output_that_is_an_input_is_not_copied():
    assert results("""
        %0 = input() {index=0} : f32[2,3]
        %1 = reshape(%0) {shape=(6,)} : f32[6]
        return %1, %0
    """) == [("input", 0), ("input", 0)]


def test_equal_outputs_share_memory():
    (first, second), *_ = [results("""
        %0 = input() {index=0} : f32[3]
        %1 = exp(%0) : f32[3]
        %2 = exp(%0) : f32[3]
        return %1, %2
    """)]
    assert first == second
    assert first[0] == "new"


DONATION = """
    %0 = input() {{index=0}} : f32[3,4]
    %1 = input() {{index=1}} : f32[3,4]
    %2 = multiply(%0, %1) : f32[3,4]
    {more}
"""

DONATIONS = {
    "element by element": ("return %2 <- 0", True),
    "read by others in the same loop": ("%3 = subtract(%2, %0) : f32[3,4]\nreturn %2 <- 0, %3", True),
    "two in one loop": ("%3 = add(%0, %1) : f32[3,4]\nreturn %2 <- 0, %3 <- 1", True),
    "seen under another shape": (
        "%3 = reshape(%2) {shape=(2, 6)} : f32[2,6]\n%4 = reshape(%3) {shape=(3, 4)} : f32[3,4]\nreturn %4 <- 0",
        True,
    ),
    "not computed element by element": (
        "%3 = transpose(%2) {perm=(1, 0)} : f32[4,3]\n%4 = reshape(%3) {shape=(3, 4)} : f32[3,4]\nreturn %4 <- 0",
        False,
    ),
    "read by a later step": (
        "%3 = transpose(%0) {perm=(1, 0)} : f32[4,3]\n%4 = exp(%3) : f32[4,3]\nreturn %2 <- 0, %4",
        False,
    ),
    "read by a later loop of the row": (
        "%3 = max(%2) {axes=(1,)} : f32[3,1]\n%4 = subtract(%0, %3) : f32[3,4]\nreturn %2 <- 0, %4",
        False,
    ),
    "the old value goes out too": ("return %2 <- 0, %0", False),
}


@pytest.mark.parametrize("case", DONATIONS)
def test_donations(case):
    more, granted = DONATIONS[case]
    found = results(DONATION.format(more=more))
    assert found[0] == ("donated", 0) if granted else found[0] != ("donated", 0)


UPDATE = """
    %0 = input() {{index=0}} : f32[5,2]
    %1 = input() {{index=1}} : i64[3]
    %2 = input() {{index=2}} : f32[3,2]
    {more}
"""

UPDATES = {
    "rows replaced": ("%3 = replace_rows(%0, %1, %2) : f32[5,2]\nreturn %3 <- 0", True),
    "read before": (
        "%3 = look_up(%0, %1) : f32[3,2]\n%4 = increase_rows(%0, %1, %3) : f32[5,2]\nreturn %4 <- 0, %3",
        True,
    ),
    "seen under another shape": (
        "%3 = reshape(%0) {shape=(10,)} : f32[10]\n%4 = reshape(%3) {shape=(5, 2)} : f32[5,2]\n"
        "%5 = replace_rows(%4, %1, %2) : f32[5,2]\n%6 = reshape(%5) {shape=(5, 2)} : f32[5,2]\nreturn %6 <- 0",
        True,
    ),
    "several times": (
        "%3 = replace_rows(%0, %1, %2) : f32[5,2]\n%4 = look_up(%3, %1) : f32[3,2]\n"
        "%5 = increase_rows(%3, %1, %4) : f32[5,2]\n%6 = exp(%5) : f32[5,2]\nreturn %5 <- 0, %6",
        True,
    ),
    "after all elements": (
        "%3 = exp(%0) : f32[5,2]\n%4 = replace_rows(%3, %1, %2) : f32[5,2]\nreturn %4 <- 0", True
    ),
    "all elements read before": (
        "%3 = exp(%0) : f32[5,2]\n%4 = replace_rows(%0, %1, %2) : f32[5,2]\nreturn %4 <- 0, %3", True
    ),
    "the old value read later": (
        "%3 = replace_rows(%0, %1, %2) : f32[5,2]\n%4 = look_up(%3, %1) : f32[3,2]\n"
        "%5 = sum(%4) {axes=(0,)} : f32[1,2]\n%6 = multiply(%0, %5) : f32[5,2]\nreturn %3 <- 0, %6",
        False,
    ),
    "what is between read later": (
        "%3 = replace_rows(%0, %1, %2) : f32[5,2]\n%4 = increase_rows(%3, %1, %2) : f32[5,2]\n"
        "%5 = look_up(%4, %1) : f32[3,2]\n%6 = sum(%5) {axes=(0,)} : f32[1,2]\n%7 = multiply(%3, %6) : f32[5,2]\n"
        "return %4 <- 0, %7",
        False,
    ),
    "what is between goes out": (
        "%3 = replace_rows(%0, %1, %2) : f32[5,2]\n%4 = increase_rows(%3, %1, %2) : f32[5,2]\nreturn %4 <- 0, %3",
        False,
    ),
    "the old value goes out": ("%3 = replace_rows(%0, %1, %2) : f32[5,2]\nreturn %3 <- 0, %0", False),
    "by its own rows": (
        "%3 = slice(%0) {begin=(0, 0), size=(3, 2), step=(1, 1)} : f32[3,2]\n"
        "%4 = replace_rows(%0, %1, %3) : f32[5,2]\nreturn %4 <- 0",
        True,
    ),
    "another value": (
        "%3 = input() {index=3} : f32[5,2]\n%4 = replace_rows(%3, %1, %2) : f32[5,2]\nreturn %4 <- 0", False
    ),
}


@pytest.mark.parametrize("case", UPDATES)
def test_updates(case):
    more, granted = UPDATES[case]
    program = read(UPDATE.format(more=more))
    made = plan(program)
    assert (made.results[0] == ("donated", 0)) is granted
    copies = [step for step in made.steps if step.kernel.name.startswith("copy") and 10 in step.arguments]
    assert not (granted and copies)
    table, rows = np.arange(10, dtype=np.float32).reshape(5, 2) / 8, np.ones((3, 2), np.float32)
    arrays = [table, np.array([4, 1, 4]), rows, -table][: len(program.inputs)]
    expected = WAYS["reference"](program, arrays)
    for way in ("plain", "native"):
        agree(WAYS[way](program, arrays), expected, way)


def test_an_update_by_the_value_that_it_changes():
    program = read("""
        %0 = input() {index=0} : f32[3,2]
        %1 = input() {index=1} : i64[3]
        %2 = replace_rows(%0, %1, %0) : f32[3,2]
        return %2 <- 0
    """)
    assert plan(program).results == (("new", 2),)
    arrays = [np.arange(6, dtype=np.float32).reshape(3, 2), np.array([1, 2, 0])]
    agree(WAYS["native"](program, arrays), WAYS["reference"](program, arrays), "native")


def test_a_donated_input_that_all_read():
    """Each element of the output needs all rows of the input."""
    found = results("""
        %0 = input() {index=0} : f32[3]
        %1 = input() {index=1} : f32[3,1]
        %2 = multiply(%0, %1) : f32[3,3]
        %3 = exp(%0) : f32[3]
        %4 = input() {index=2} : f32[3,3]
        %5 = multiply(%4, %3) : f32[3,3]
        return %3 <- 0, %2, %5 <- 2
    """)
    assert found[2] == ("donated", 2)
    assert found[0][0] == "new" or found[0] == ("donated", 0)


@pytest.mark.parametrize(("model", "sizes"), [(training_step, ()), (pendulum, (20, 7)), (recurrent, (9,))])
def test_values_that_are_needed_at_once_do_not_overlap(model, sizes):
    made = plan(model(*sizes))
    written = {v: n for n, step in reversed(list(enumerate(made.steps))) for v in step.writes}
    last = {a.value: n for n, step in enumerate(made.steps) for a in step.arguments if isinstance(a, Pointer)}
    spans = [(start, start + made.program.type(v).nbytes, written[v], last[v]) for v, start in made.offsets.items()]
    for k, (start, stop, born, dies) in enumerate(spans):
        assert start % ALIGNMENT == 0
        assert stop <= made.scratch
        for other_start, other_stop, other_born, other_dies in spans[:k]:
            assert stop <= other_start or other_stop <= start or dies < other_born or other_dies < born
    for step in made.steps:
        assert made.scratch + sum(a.nbytes for a in step.arguments if isinstance(a, Scratch)) <= made.arena


def test_memory_is_used_again():
    """A chain through products needs two places, not one for each of its values."""
    flags = "{transpose_a=False, transpose_b=False}"
    chain = [f"%{k + 1} = matmul(%{k}, %{k}) {flags} : f32[8,8]" for k in range(20)]
    made = plan(read("\n".join(["%0 = input() {index=0} : f32[8,8]", *chain, "return %20"])))
    assert made.arena == 2 * 8 * 8 * 4
