"""The kernels of a training step compute on vectors: looked up in their optimized LLVM text."""

from __future__ import annotations

import re

import pytest

from numtape.codegen.compile import optimized
from numtape.codegen.plan import plan
from numtape.ir.text import read
from tests.models import training_step

KERNELS = {
    step.kernel.key: step.kernel
    for step in plan(training_step(32, (64, 32, 40))).steps
    if not step.kernel.name.startswith("gemm") and "pow" not in step.kernel.name
}
"""All but the products, which are calls, and the learning rate, which is one number."""


SHORT = """
    %0 = input() {index=0} : f32[1000,3]
    %1 = softmax(%0) {axis=1} : f32[1000,3]
    return %1
"""


def test_there_are_four():
    assert len(KERNELS) == 4


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=[k.name for k in KERNELS.values()])
def test_runs_on_vectors(kernel):
    text = str(optimized(kernel))
    widths = {int(n) for n in re.findall(r"<(\d+) x float>", text)}
    assert max(widths, default=1) >= 4, f"no vectors of 128 bits:\n{kernel.source}\n{text}"
    vectors = len(re.findall(r"= f(?:add|sub|mul|div|cmp)\b[^\n]*<\d+ x float>", text))
    assert vectors, text
    # What is called is an instruction of the machine: neither libm nor anything of Python.
    assert not set(re.findall(r"call [^\n]*?@([\w.]+)\(", text)) - set(re.findall(r"@(llvm\.[\w.]+)\(", text))


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=[k.name for k in KERNELS.values()])
def test_every_inner_loop_is_vectorized(kernel):
    """LLVM marks its vector loops, and what is left over after one; an inner loop without the mark it gave up on."""
    check_inner_loops(str(optimized(kernel)), 2)


def test_short_rows_run_on_vectors_of_rows():
    (step,) = plan(read(SHORT)).steps
    text = str(optimized(step.kernel))
    check_inner_loops(text, 1)
    assert re.search(r"fdiv [^\n]*<\d+ x float>", text)


def check_inner_loops(text: str, least: int) -> None:
    (mark,) = re.findall(r'(![0-9]+) = !\{!"llvm.loop.isvectorized", i32 1\}', text)
    loops = re.findall(r"(![0-9]+) = distinct !\{([^}]*)\}", text)
    marked = {loop for loop, parts in loops if mark in parts.split(", ")}
    inner = re.findall(r"\n([\w.]+):(?:(?!\n[\w.]+:)[\s\S])*?br i1 [^\n]*label %\1(?![\w.])([^\n]*)", text)
    assert len(inner) >= least
    for block, rest in inner:
        assert set(re.findall(r"!llvm\.loop (![0-9]+)", rest)) <= marked and "!llvm.loop" in rest, f"{block}\n{text}"
