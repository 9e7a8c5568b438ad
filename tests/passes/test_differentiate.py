"""Backward instructions as text, and which sources get a cotangent at all."""

from __future__ import annotations

from textwrap import dedent

import pytest

import numtape.ops  # noqa: F401  fills the registry
from numtape.ir.op import REGISTRY, Gradient, Kind, Op
from numtape.ir.program import Builder, Instruction, Program
from numtape.ir.text import read, write
from numtape.passes.differentiate import differentiate


def backward(text: str, sources: list[int], watched: dict[int, int] | None = None) -> tuple[str, list[int | None]]:
    """The instructions that come after those of a program, and the values that are the sources' cotangents."""
    program = read(text)
    builder = Builder(program.instructions)
    end = len(program.instructions)
    known = dict.fromkeys(sources, 0) if watched is None else watched
    found = differentiate(builder, program.outputs, [[s] for s in sources], [None], [(0, end)], known)
    lines = write(Program(tuple(builder.instructions), ())).splitlines()[end:-1]
    return "\n".join(lines), [None if v is None else v.index for v in found]


def test_a_cotangent_is_summed_over_what_was_repeated():
    text, found = backward(
        """
        %0 = input() {index=0} : f32[2,3]
        %1 = input() {index=1} : f32[3]
        %2 = add(%0, %1) : f32[2,3]
        return %2
        """,
        [0, 1],
    )
    assert text == dedent("""\
        %3 = constant() {value=1.0, dtype=f32, shape=(2, 3)} : f32[2,3]
        %4 = sum(%3) {axes=(0,)} : f32[1,3]
        %5 = reshape(%4) {shape=(3,)} : f32[3]""")
    assert found == [3, 5]


def test_cotangents_of_one_value_add_up():
    text, found = backward(
        """
        %0 = input() {index=0} : f32[]
        %1 = exp(%0) : f32[]
        %2 = multiply(%1, %0) : f32[]
        return %2
        """,
        [0],
    )
    assert text == dedent("""\
        %3 = constant() {value=1.0, dtype=f32, shape=()} : f32[]
        %4 = multiply(%3, %0) : f32[]
        %5 = multiply(%3, %1) : f32[]
        %6 = multiply(%4, %1) : f32[]
        %7 = add(%5, %6) : f32[]""")
    assert found == [7]


def test_what_is_stopped_has_no_cotangent():
    text, found = backward(
        """
        %0 = input() {index=0} : f32[]
        %1 = input() {index=1} : f32[]
        %2 = stop_gradient(%0) : f32[]
        %3 = exp(%1) : f32[]
        %4 = multiply(%2, %3) : f32[]
        return %4
        """,
        [0, 1],
    )
    assert text == dedent("""\
        %5 = constant() {value=1.0, dtype=f32, shape=()} : f32[]
        %6 = multiply(%5, %3) : f32[]
        %7 = multiply(%5, %2) : f32[]
        %8 = multiply(%7, %3) : f32[]""")
    assert found == [None, 8]


def test_a_source_that_is_watched_too_late_is_not_connected():
    program = """
        %0 = input() {index=0} : f32[]
        %1 = exp(%0) : f32[]
        %2 = negative(%0) : f32[]
        %3 = add(%1, %2) : f32[]
        return %3
    """
    assert backward(program, [0], {0: 2})[0].count("negative") == 1
    assert "exp" not in backward(program, [0], {0: 2})[0]
    assert backward(program, [0], {0: 4})[1] == [None]


def test_a_target_that_is_the_source():
    text, found = backward("%0 = input() {index=0} : f32[2]\nreturn %0", [0])
    assert text == "%1 = constant() {value=1.0, dtype=f32, shape=(2,)} : f32[2]"
    assert found == [1]


def test_a_missing_rule_is_an_error_where_something_is_watched(monkeypatch):
    exp = REGISTRY["exp"]
    op = Op("odd", Kind.MAP, ("x",), (), exp.infer, exp.reference, Gradient.MISSING, "x")
    monkeypatch.setitem(REGISTRY, "odd", op)
    builder = Builder()
    x, y = (builder.input(read("%0 = input() {index=0} : f32[2]\nreturn %0").type(0), k) for k in range(2))
    z = builder.append(Instruction(op, (x.index,), (), x.type))
    total = z + y
    end = len(builder.instructions)
    (found,) = differentiate(builder, [total.index], [[y.index]], [None], [(0, end)], {y.index: 0})
    assert found is not None
    with pytest.raises(LookupError, match="gradient registry has no entry for: odd"):
        differentiate(builder, [total.index], [[y.index]], [None], [(0, end)], {x.index: 0, y.index: 0})
