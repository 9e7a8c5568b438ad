"""Typical groups and the kernels they become: a change of the emitter shows here, word for word."""

from __future__ import annotations

from textwrap import dedent

import pytest

import numtape.ops  # noqa: F401  fills the registry
from numtape.codegen.emit import CHEAP
from numtape.codegen.plan import plan
from numtape.ir.kernel import Argument, Pointer, Scratch
from numtape.ir.text import read

KERNELS = {
    "a bias and tanh": (
        """
        %0 = input() {index=0} : f32[32,20]
        %1 = input() {index=1} : f32[20]
        %2 = add(%0, %1) : f32[32,20]
        %3 = tanh(%2) : f32[32,20]
        return %3
        """,
        """
        def kernel(p0, p1, p2, rows, columns):
            for i in range(rows):
                base = i * columns
                for j in range(columns):
                    x0 = p0[base + j]
                    x1 = p1[j]
                    v0 = x0 + x1
                    v1 = tanh(v0)
                    p2[base + j] = v1
        """,
        "f32* f32* f32* i64 i64",
        "%0 %1 %3 32 20",
    ),
    "softmax cross entropy with its gradient": (
        """
        %0 = input() {index=0} : f32[32,20]
        %1 = input() {index=1} : f32[32,20]
        %2 = max(%0) {axes=(1,)} : f32[32,1]
        %3 = subtract(%0, %2) : f32[32,20]
        %4 = exp(%3) : f32[32,20]
        %5 = sum(%4) {axes=(1,)} : f32[32,1]
        %6 = log(%5) : f32[32,1]
        %7 = multiply(%1, %3) : f32[32,20]
        %8 = sum(%7) {axes=(1,)} : f32[32,1]
        %9 = subtract(%6, %8) : f32[32,1]
        %10 = sum(%9) {axes=(0,)} : f32[1,1]
        %11 = reshape(%10) {shape=()} : f32[]
        %12 = constant() {value=32.0, dtype=f32, shape=()} : f32[]
        %13 = divide(%11, %12) : f32[]
        %14 = divide(%4, %5) : f32[32,20]
        %15 = subtract(%14, %1) : f32[32,20]
        %16 = divide(%15, %12) : f32[32,20]
        return %13, %16
        """,
        """
        c0 = f32(-inf)
        c1 = f32(0.0)
        c2 = f64(0.0)
        def kernel(p0, p1, p2, p3, w0, a0, rows, columns):
            t0 = c2
            for i in range(rows):
                base = i * columns
                v0 = c0
                for j in range(columns):
                    x0 = p0[base + j]
                    v0 = maximum(v0, x0)
                v3 = c1
                v5 = c1
                for j in range(columns):
                    x1 = p0[base + j]
                    x2 = p1[base + j]
                    v1 = x1 - v0
                    v2 = exp(v1)
                    v3 = add_reassoc(v3, v2)
                    v4 = x2 * v1
                    v5 = add_reassoc(v5, v4)
                    w0[j] = v2
                v6 = log(v3)
                v7 = v6 - v5
                t0 = t0 + f64(v7)
                for j in range(columns):
                    x3 = w0[j]
                    x4 = p1[base + j]
                    v9 = x3 / v3
                    v10 = v9 - x4
                    v11 = v10 / a0
                    p2[base + j] = v11
            v8 = f32(t0)
            v12 = v8 / a0
            p3[0] = v12
        """,
        "f32* f32* f32* f32* f32* f32 i64 i64",
        "%0 %1 %16 %13 scratch[80] 32 32 20",
    ),
    "an update of Adam, in place": (
        """
        %0 = input() {index=0} : f32[64,32]
        %1 = input() {index=1} : f32[64,32]
        %2 = input() {index=2} : f32[64,32]
        %3 = input() {index=3} : f32[64,32]
        %4 = input() {index=4} : f32[]
        %5 = constant() {value=0.9, dtype=f32, shape=()} : f32[]
        %6 = constant() {value=0.1, dtype=f32, shape=()} : f32[]
        %7 = multiply(%2, %5) : f32[64,32]
        %8 = multiply(%1, %6) : f32[64,32]
        %9 = add(%7, %8) : f32[64,32]
        %10 = constant() {value=0.999, dtype=f32, shape=()} : f32[]
        %11 = constant() {value=0.001, dtype=f32, shape=()} : f32[]
        %12 = multiply(%3, %10) : f32[64,32]
        %13 = square(%1) : f32[64,32]
        %14 = multiply(%13, %11) : f32[64,32]
        %15 = add(%12, %14) : f32[64,32]
        %16 = sqrt(%15) : f32[64,32]
        %17 = constant() {value=1e-07, dtype=f32, shape=()} : f32[]
        %18 = add(%16, %17) : f32[64,32]
        %19 = multiply(%4, %9) : f32[64,32]
        %20 = divide(%19, %18) : f32[64,32]
        %21 = subtract(%0, %20) : f32[64,32]
        return %21 <- 0, %9 <- 2, %15 <- 3
        """,
        """
        def kernel(p0, p1, p2, p3, p4, a0, a1, a2, a3, a4, n):
            x3 = p3[0]
            for k in range(n):
                x0 = p0[k]
                x1 = p1[k]
                x2 = p2[k]
                x4 = p4[k]
                v0 = x0 * a0
                v1 = x1 * a1
                v2 = v0 + v1
                v3 = x2 * a2
                v4 = x1 * x1
                v5 = v4 * a3
                v6 = v3 + v5
                v7 = sqrt(v6)
                v8 = v7 + a4
                v9 = x3 * v2
                v10 = v9 / v8
                v11 = x4 - v10
                p0[k] = v2
                p2[k] = v6
                p4[k] = v11
        """,
        "f32* f32* f32* f32* f32* f32 f32 f32 f32 f32 i64",
        "%2 %1 %3 %4 %0 0.9 0.1 0.999 0.001 1e-07 2048",
    ),
    "the gradients of relu and a bias": (
        """
        %0 = input() {index=0} : f32[32,20]
        %1 = input() {index=1} : f32[32,20]
        %2 = constant() {value=0.0, dtype=f32, shape=()} : f32[]
        %3 = greater(%0, %2) : b1[32,20]
        %4 = where(%3, %1, %2) : f32[32,20]
        %5 = sum(%4) {axes=(0,)} : f32[1,20]
        %6 = reshape(%5) {shape=(20,)} : f32[20]
        return %4, %6
        """,
        """
        c0 = f32(0.0)
        def kernel(p0, p1, p2, p3, rows, columns):
            for j in range(columns):
                p3[j] = c0
            for i in range(rows):
                base = i * columns
                for j in range(columns):
                    x0 = p0[base + j]
                    x1 = p1[base + j]
                    v0 = x0 > c0
                    v1 = select(v0, x1, c0)
                    p2[base + j] = v1
                    p3[j] = p3[j] + v1
        """,
        "f32* f32* f32* f32* i64 i64",
        "%0 %1 %4 %5 32 20",
    ),
    "a long sum runs in blocks": (
        """
        %0 = input() {index=0} : f32[100000]
        %1 = sum(%0) {axes=(0,)} : f32[1]
        return %1
        """,
        """
        c0 = f64(0.0)
        c1 = f32(0.0)
        def kernel(p0, p1, n):
            t0 = c0
            for start in range(0, n, 512):
                v0 = c1
                for k in range(start, minimum(start + 512, n)):
                    x0 = p0[k]
                    v0 = add_reassoc(v0, x0)
                t0 = t0 + f64(v0)
            v0 = f32(t0)
            p1[0] = v0
        """,
        "f32* f32* i64",
        "%0 %1 100000",
    ),
    "so does a sum over many rows": (
        """
        %0 = input() {index=0} : f32[5000,30]
        %1 = sum(%0) {axes=(0,)} : f32[1,30]
        return %1
        """,
        """
        c0 = f32(0.0)
        c1 = f64(0.0)
        def kernel(p0, p1, t0, rows, columns):
            for j in range(columns):
                p1[j] = c0
            for j in range(columns):
                t0[j] = c1
            for i in range(rows):
                base = i * columns
                for j in range(columns):
                    x0 = p0[base + j]
                    p1[j] = p1[j] + x0
                if i % 64 == 63 or i == rows - 1:
                    for j in range(columns):
                        t0[j] = t0[j] + f64(p1[j])
                        p1[j] = c0
                if i == rows - 1:
                    for j in range(columns):
                        p1[j] = f32(t0[j])
                        t0[j] = c1
        """,
        "f32* f32* f64* i64 i64",
        "%0 %1 scratch[240] 5000 30",
    ),
    "bools are bytes in memory, and integers keep their width": (
        """
        %0 = input() {index=0} : i8[5,19]
        %1 = input() {index=1} : i8[19]
        %2 = less(%0, %1) : b1[5,19]
        %3 = any(%2) {axes=(1,)} : b1[5,1]
        %4 = cast(%3) {dtype=i8} : i8[5,1]
        %5 = multiply(%0, %4) : i8[5,19]
        %6 = sum(%5) {axes=(0, 1)} : i8[1,1]
        return %2, %3, %6
        """,
        """
        c0 = i8(0)
        def kernel(p0, p1, p2, p3, p4, rows, columns):
            v4 = c0
            for i in range(rows):
                base = i * columns
                v1 = False
                for j in range(columns):
                    x0 = p0[base + j]
                    x1 = p1[j]
                    v0 = x0 < x1
                    v1 = v1 | v0
                    p2[base + j] = u8(v0)
                v2 = i8(v1)
                for j in range(columns):
                    x2 = p0[base + j]
                    v3 = i8(x2 * v2)
                    v4 = i8(v4 + v3)
                p3[i] = u8(v1)
            p4[0] = v4
        """,
        "i8* i8* u8* u8* i8* i64 i64",
        "%0 %1 %2 %3 %6 5 19",
    ),
    "rows in succession": (
        """
        %0 = input() {index=0} : f32[2,3,19]
        %1 = input() {index=1} : f32[3,1]
        %2 = multiply(%0, %1) : f32[2,3,19]
        %3 = max(%2) {axes=(1,)} : f32[2,1,19]
        return %3
        """,
        """
        c0 = f32(-inf)
        def kernel(p0, p1, p2, rows, columns, n0):
            for j in range(rows // n0 * columns):
                p2[j] = c0
            for i in range(rows):
                base = i * columns
                r0 = i % n0
                x1 = p1[r0]
                r1 = i // n0 * columns
                for j in range(columns):
                    x0 = p0[base + j]
                    v0 = x0 * x1
                    p2[r1 + j] = maximum(v0, p2[r1 + j])
        """,
        "f32* f32* f32* i64 i64 i64",
        "%0 %1 %3 6 19 3",
    ),
    "ramps are counted, not loaded": (
        """
        %0 = input() {index=0} : i32[5,1]
        %1 = iota() {dtype=i32, length=19} : i32[19]
        %2 = equal(%0, %1) : b1[5,19]
        %3 = input() {index=1} : f32[5,19]
        %4 = max(%3) {axes=(1,)} : f32[5,1]
        %5 = constant() {value=2.0, dtype=f32, shape=()} : f32[]
        %6 = where(%2, %4, %5) : f32[5,19]
        return %6
        """,
        """
        c0 = f32(-inf)
        def kernel(p0, p1, p2, a0, rows, columns):
            for i in range(rows):
                base = i * columns
                x1 = p1[i]
                v0 = c0
                for j in range(columns):
                    x0 = p0[base + j]
                    v0 = maximum(v0, x0)
                for j in range(columns):
                    v1 = x1 == i32(j)
                    v2 = select(v1, v0, a0)
                    p2[base + j] = v2
        """,
        "f32* i32* f32* f32 i64 i64",
        "%3 %0 %6 2 5 19",
    ),
    "the length of short rows is in the text": (
        """
        %0 = input() {index=0} : f32[1000,3]
        %1 = square(%0) : f32[1000,3]
        %2 = sum(%1) {axes=(1,)} : f32[1000,1]
        %3 = sqrt(%2) : f32[1000,1]
        %4 = divide(%0, %3) : f32[1000,3]
        return %4
        """,
        """
        c0 = f32(0.0)
        def kernel(p0, p1, rows):
            for i in range(rows):
                base = i * 3
                v1 = c0
                for j in range(3):
                    x0 = p0[base + j]
                    v0 = x0 * x0
                    v1 = add_reassoc(v1, v0)
                v2 = sqrt(v1)
                for j in range(3):
                    x1 = p0[base + j]
                    v3 = x1 / v2
                    p1[base + j] = v3
        """,
        "f32* f32* i64",
        "%0 %4 1000",
    ),
}
"""For each case a program, its kernel, the kernel's parameters and what it is given."""


def show(argument: Argument) -> str:
    if isinstance(argument, Pointer):
        return f"%{argument.value}"
    if isinstance(argument, float):
        return f"{argument:.4g}"
    return f"scratch[{argument.nbytes}]" if isinstance(argument, Scratch) else str(argument)


@pytest.mark.parametrize("case", KERNELS)
def test_kernels(case):
    program, source, parameters, arguments = KERNELS[case]
    (step,) = plan(read(program)).steps
    assert step.kernel.source == dedent(source).lstrip("\n")
    assert " ".join(step.kernel.parameters) == parameters
    assert " ".join(map(show, step.arguments)) == arguments


def source_of(text: str) -> str:
    (step,) = plan(read(text)).steps
    return step.kernel.source


def test_equal_work_has_equal_text_whatever_its_size():
    text = KERNELS["softmax cross entropy with its gradient"][0]
    larger = text.replace("[32,20]", "[7,200]").replace("[32,1]", "[7,1]")
    assert source_of(text) == source_of(larger)


def test_literals_are_in_no_kernel():
    """But 0, 1 and -1 are, with which a compiler can do something."""
    text = """
        %0 = input() {index=0} : f32[9]
        %1 = constant() {value=VALUE, dtype=f32, shape=()} : f32[]
        %2 = multiply(%0, %1) : f32[9]
        %3 = add(%2, %1) : f32[9]
        return %3
    """
    assert source_of(text.replace("VALUE", "0.1")) == source_of(text.replace("VALUE", "32.0"))
    assert "c0 = f32(-1.0)" in source_of(text.replace("VALUE", "-1.0"))


def test_numbering_does_not_depend_on_the_rest_of_the_program():
    text = KERNELS["a bias and tanh"][0]
    lines = [line.strip() for line in text.strip().splitlines()]
    shifted = ["%0 = input() {index=2} : f32[5]", *lines]
    for k in range(3, -1, -1):
        shifted[1:] = [line.replace(f"%{k}", f"%{k + 1}") for line in shifted[1:]]
    assert source_of("\n".join(shifted)) == source_of(text)


CROSSING = """
    %0 = input() {{index=0}} : f32[5,9]
    %1 = input() {{index=1}} : f32[5,9]
    {before}
    %3 = max(%2) {{axes=(1,)}} : f32[5,1]
    %4 = subtract(%2, %3) : f32[5,9]
    return %4
"""


def test_what_is_cheap_is_computed_again():
    source = source_of(CROSSING.format(before="%2 = multiply(%0, %1) : f32[5,9]"))
    assert CHEAP == 3, "two loads and a product"
    assert source.count("v0 = x0 * x1") + source.count("v0 = x2 * x3") == 2
    assert "w0" not in source


def test_what_is_dear_is_kept():
    source = source_of(CROSSING.format(before="%2 = atan2(%0, %1) : f32[5,9]"))
    assert source.count("atan2") == 1
    assert "w0[j] = v0" in source
    assert "= w0[j]" in source


def test_what_goes_out_is_read_back():
    source = source_of(CROSSING.format(before="%2 = atan2(%0, %1) : f32[5,9]").replace("return", "return %2,"))
    assert source.count("atan2") == 1
    assert "w0" not in source


def test_stores_come_after_loads():
    """The sum takes the memory of what the difference still reads."""
    source = source_of("""
        %0 = input() {index=0} : f32[5]
        %1 = input() {index=1} : f32[5]
        %2 = exp(%1) : f32[5]
        %3 = subtract(%0, %2) : f32[5]
        return %2 <- 0, %3
    """)
    lines = [line.strip() for line in source.splitlines()]
    assert max(k for k, line in enumerate(lines) if line.startswith("x")) < min(
        k for k, line in enumerate(lines) if line.startswith("p")
    )
