"""Formulas are written out once gradients are taken, and what they have in common becomes one."""

from __future__ import annotations

from numtape.ir.op import REGISTRY, Kind
from numtape.ir.text import read, write
from numtape.ir.verify import verify
from numtape.passes.expand import expand
from numtape.passes.simplify import simplify
from tests.programs import gradient_of

SOFTMAX = read("""
    %0 = input() {index=0} : f32[2,3]
    %1 = softmax(%0) {axis=1} : f32[2,3]
    return %1
""")


def test_a_formula_is_written_out():
    assert write(expand(SOFTMAX)).splitlines() == [
        "%0 = input() {index=0} : f32[2,3]",
        "%1 = max(%0) {axes=(1,)} : f32[2,1]",
        "%2 = subtract(%0, %1) : f32[2,3]",
        "%3 = exp(%2) : f32[2,3]",
        "%4 = sum(%3) {axes=(1,)} : f32[2,1]",
        "%5 = divide(%3, %4) : f32[2,3]",
        "return %5",
    ]


def test_its_gradient_comes_from_its_rule():
    gradient = gradient_of(SOFTMAX)
    assert [i.op.name for i in gradient.instructions].count("softmax") == 1
    assert "exp" not in write(gradient)
    expanded = verify(simplify(expand(gradient)))
    assert write(expanded).count("exp") == 1


def test_nothing_else_changes():
    program = read("""
        %0 = input() {index=0} : f32[3]
        %1 = log_softmax(%0) {axis=0} : f32[3]
        %2 = add(%0, %1) : f32[3]
        return %2 <- 0, %0
    """)
    expanded = expand(program)
    assert expanded.donations == program.donations
    assert expanded.instructions[expanded.outputs[0]].op.name == "add"
    assert expanded.instructions[expanded.outputs[1]] == program.instructions[0]
    assert expand(expanded) == expanded


def test_no_formula_hides_another():
    for op in REGISTRY.values():
        if op.kind is Kind.FORMULA:
            assert callable(op.kernel)
            assert op.examples
