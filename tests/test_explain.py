"""nt.explain says what was compiled, why, from which lines, and what it costs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import numtape as nt
from numtape.backends.measure import measure
from numtape.backends.native import Executable
from numtape.cache import FORGET, kernels
from numtape.codegen.plan import plan
from numtape.explaining.report import amount, seconds
from numtape.ir.program import INPUT
from numtape.ir.text import read
from numtape.passes.apart import why_apart
from numtape.passes.fuse import fuse
from numtape.passes.simplify import simplify
from tests.models import pendulum, recurrent, training_step

HERE = Path(__file__)


def line_of(mark):
    """The number of the line in this file that ends with a comment."""
    (found,) = [n for n, text in enumerate(HERE.read_text().splitlines(), 1) if text.endswith(f"# {mark}")]
    return found


def dense_layer():
    w = nt.Variable(np.full((6, 4), 0.1, np.float32), name="w")
    optimizer = nt.keras.optimizers.SGD(0.1)

    def step(x):
        with nt.GradientTape() as tape:
            y = nt.nn.relu(x @ w)  # the layer
            loss = nt.reduce_mean(y * y)  # the loss
        gradient = tape.gradient(loss, w)
        optimizer.apply_gradients([(gradient, w)])  # the update
        return loss

    return step, w


def lines(program, op):
    """Role and line of the instructions of an op, in order."""
    found = [item for kernel in program.kernels for item in kernel.instructions]
    return [(place.role, place.line) for text, place in found if f" = {op}(" in text]


# ---- lines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [training_step, lambda: pendulum(4), lambda: recurrent(3)])
def test_every_instruction_keeps_an_origin_that_is_in_the_program(make):
    program = make()
    final = plan(program).program
    assert len(final.origins) == len(final.instructions)
    for i, origin in zip(final.instructions, final.origins, strict=True):
        assert 0 <= origin < len(program.instructions)
        if i.op is INPUT:
            assert program.instructions[origin].op is INPUT
            assert program.instructions[origin].attributes == i.attributes
    again = simplify(final)
    assert {again.origin(k) for k in range(len(again.instructions))} <= set(final.origins)


def test_a_function_leads_to_its_lines_forward_and_backward():
    step, _ = dense_layer()
    (program,) = nt.explain(nt.function(step), np.ones((32, 6), np.float32)).signatures[0].programs
    layer, loss, update = map(line_of, ("the layer", "the loss", "the update"))
    assert lines(program, "matmul") == [("forward", layer), ("backward", layer)]
    assert lines(program, "relu") == [("forward", layer)]
    assert lines(program, "sum") == [("forward", loss)]
    assert ("forward", update) in lines(program, "subtract")
    found = {(place.role, place.line) for place, _ in program.lines()}
    assert found == {(role, line) for role in ("forward", "backward") for line in (layer, loss)} | {("forward", update)}
    assert all(place.filename == str(HERE) for place, _ in program.lines())
    assert next(place for place, _ in program.lines() if place.line == loss).code.startswith("loss = nt.reduce_mean")


def test_a_plain_loop_leads_to_its_lines_within_the_tape():
    step, _ = dense_layer()
    for _ in range(2):
        loss = step(nt.constant(np.ones((32, 6), np.float32)))
    float(loss)
    (signature,) = nt.explain().signatures
    (program,) = signature.programs
    assert lines(program, "matmul") == [("forward", line_of("the layer")), ("backward", line_of("the layer"))]
    names = {place.op for kernel in program.kernels for _, place in kernel.instructions if not place.filename}
    assert names == {"SGD"}  # outside of the tape only the name is known


def test_a_function_within_a_tape_keeps_its_lines():
    v = nt.Variable(np.ones(300, np.float32))

    @nt.function
    def squares(x):
        return nt.reduce_sum(nt.exp(x))  # within

    with nt.GradientTape() as tape:
        y = squares(v * 2.0)
    tape.gradient(y, v).numpy()
    (signature,) = nt.explain(squares).signatures
    found = [place for program in signature.programs for place, _ in program.lines()]
    assert ("forward", line_of("within")) in {(place.role, place.line) for place in found}
    v.assign([*range(300)])
    with nt.GradientTape() as tape:
        y = squares(v * 2.0)
        z = nt.reduce_sum(y * v)
    tape.gradient(z, v).numpy()
    found = [place for program in nt.explain(squares).signatures[0].programs for place, _ in program.lines()]
    assert ("backward", line_of("within")) in {(place.role, place.line) for place in found}


def test_tangents_and_jacobians_lead_to_lines():
    x = nt.constant(np.linspace(1, 2, 5))
    with nt.autodiff.ForwardAccumulator(x, x) as forward, nt.GradientTape() as tape:
        tape.watch(x)
        y = nt.exp(x)  # curved
    forward.jvp(y).numpy()
    places = [place for kernel in nt.explain().signatures[0].programs[0].kernels for _, place in kernel.instructions]
    assert ("tangent", line_of("curved")) in {(place.role, place.line) for place in places}
    tape.jacobian(y, x).numpy()
    places = [place for kernel in nt.explain().signatures[0].programs[0].kernels for _, place in kernel.instructions]
    assert ("backward", line_of("curved")) in {(place.role, place.line) for place in places}


# ---- kernels -----------------------------------------------------------------------------------------------------


def test_bytes_and_flops_of_a_layer():
    @nt.function
    def layer(x, w, b):
        return nt.nn.relu(x @ w + b)

    shapes = (64, 32), (32, 16), (16,)
    (program,) = nt.explain(layer, *(np.ones(s, np.float32) for s in shapes)).signatures[0].programs
    gemm, rest = program.kernels
    assert (gemm.loop, gemm.flops) == ("routine", 2 * 64 * 32 * 16)
    assert (gemm.bytes_read, gemm.bytes_written) == (4 * (64 * 32 + 32 * 16), 4 * 64 * 16)
    assert (rest.loop, rest.flops) == ("rows 64 x 16", 2 * 64 * 16)
    assert (rest.bytes_read, rest.bytes_written) == (4 * (64 * 16 + 16), 4 * 64 * 16)
    assert rest.apart == ("kernel 1: matmul is a routine of its own",)
    assert sum(kernel.share for kernel in program.kernels) == pytest.approx(1.0)
    assert all(kernel.seconds > 0 for kernel in program.kernels)
    assert sum(took for _, took in program.lines()) == pytest.approx(gemm.seconds + rest.seconds)


def test_routines_without_a_count_say_so():
    f = nt.function(lambda x: nt.sort(x))
    (program,) = nt.explain(f, np.ones(300, np.float32)).signatures[0].programs
    assert any(kernel.flops is None for kernel in program.kernels)
    assert "flops not counted" in str(nt.explain(f))


def test_measuring_changes_nothing_that_anybody_holds():
    step, w = dense_layer()
    f = nt.function(step)
    x = np.ones((32, 6), np.float32)
    f(x)
    f(x)
    before = w.numpy().copy()
    nt.explain(f)
    assert w.numpy().tobytes() == before.tobytes()
    other, v = dense_layer()
    g = nt.function(other)
    for _ in range(3):
        g(x)
    f(x)
    assert w.numpy().tobytes() == v.numpy().tobytes()


def test_times_grow_with_the_work():
    text = "%0 = input() {{index=0}} : f32[{n}]\n%1 = exp(%0) : f32[{n}]\nreturn %1 <- 0"
    small, large = (measure(Executable(read(text.format(n=n)))) for n in (1000, 100_000))
    assert len(small[0]) == len(large[0]) == 1
    assert small[0][0].seconds * 10 < large[0][0].seconds
    nothing = measure(Executable(read("%0 = input() {index=0} : f32[3]\nreturn %0")))
    assert nothing == ((), 0.0)


APART = {
    "is a routine of its own": """
        %0 = input() {index=0} : f32[64,64]
        %1 = exp(%0) : f32[64,64]
        %2 = matmul(%1, %1) {transpose_a=False, transpose_b=False} : f32[64,64]
        return %2
        """,
    "no loop nest holds both: rows 64 x 8 and flat 64": """
        %0 = input() {index=0} : f32[64,8]
        %1 = sum(%0) {axes=(1,)} : f32[64,1]
        %2 = sum(%1) {axes=(0, 1)} : f32[1,1]
        %3 = add(%1, %2) : f32[64,1]
        %4 = matmul(%3, %3) {transpose_a=False, transpose_b=True} : f32[64,64]
        %5 = sum(%4) {axes=(1,)} : f32[64,1]
        %6 = add(%3, %5) : f32[64,1]
        return %6
        """,
    "matmul, in a kernel between them, needs the one and is needed by the other": """
        %0 = input() {index=0} : f32[64,64]
        %1 = exp(%0) : f32[64,64]
        %2 = matmul(%1, %1) {transpose_a=False, transpose_b=False} : f32[64,64]
        %3 = add(%1, %2) : f32[64,64]
        return %3
        """,
}


@pytest.mark.parametrize("reason", APART)
def test_why_kernels_are_apart(reason):
    schedule = fuse(simplify(read(APART[reason])))
    producers = {m: n for n, group in enumerate(schedule.groups) for m in group.members}
    found = set()
    for second, group in enumerate(schedule.groups):
        for k in {k for m in group.members for k in schedule.program.instructions[m].operands}:
            if producers.get(k, second) != second:
                found.add(why_apart(schedule, producers[k], second))
    assert any(reason in text for text in found), found


def test_long_chains_are_cut_and_say_so():
    text = ["%0 = input() {index=0} : f32[1000]"]
    text += [f"%{k} = exp(%{k - 1}) : f32[1000]" for k in range(1, 200)]
    schedule = fuse(read("\n".join([*text, "return %199"])))
    assert len(schedule.groups) == 2
    assert "together they have 199 instructions, and a kernel has at most 120" in why_apart(schedule, 0, 1)


# ---- loops -------------------------------------------------------------------------------------------------------


def swinging(steps):
    @nt.function
    def swing(start):
        with nt.GradientTape() as tape:
            tape.watch(start)
            angle, speed = start, nt.constant(0.0)
            for _ in range(steps):
                speed = speed - 0.01 * nt.sin(angle)  # the speed
                angle = angle + 0.01 * speed  # the angle
        return angle, tape.gradient(angle, start)

    return swing


def recurring(x):
    w = nt.Variable(np.full((8, 8), 0.1, np.float32))

    @nt.function
    def recur(x):
        with nt.GradientTape() as tape:
            h = nt.zeros((4, 8))
            for k in range(16):
                h = nt.tanh(x[k] + h @ w)  # the state
            loss = nt.reduce_sum(h * h)
        return tape.gradient(loss, w)

    return nt.explain(recur, x)


def test_a_loop_of_numbers_shows_its_turn():
    report = nt.explain(swinging(100), nt.constant(1.0))
    (program,) = report.signatures[0].programs
    forward, backward = (kernel for kernel in program.kernels if kernel.loop.startswith("loop of"))
    assert forward.loop == "loop of 100 turns"
    assert [(place.role, place.line) for _, place in forward.instructions] == [
        *[("forward", line_of("the speed"))] * 3, *[("forward", line_of("the angle"))] * 2,
    ]  # fmt: skip
    assert forward.flops == 100 * 5
    assert {place.role for _, place in backward.instructions} == {"backward"}
    assert {kernel.keys[0] for kernel in program.kernels} == {x.key for x in program.loadings}
    assert not program.unrolled
    text = str(report)
    assert "loop of 100 turns\n" in text
    assert "{body=..., count=100" in text


def test_a_loop_of_arrays_shows_the_kernels_within():
    report = recurring(np.ones((16, 4, 8), np.float32))
    (program,) = report.signatures[0].programs
    forward, _ = (kernel for kernel in program.kernels if kernel.loop.startswith("loop of"))
    assert (forward.loop, forward.instructions) == ("loop of 16 turns", ())
    product, rest, *copies = forward.inside
    assert product.flops == 16 * 2 * 4 * 8 * 8
    assert (product.bytes_read, product.bytes_written) == (16 * 4 * (32 + 64), 16 * 4 * 32)
    assert rest.apart == (f"kernel {program.kernels.index(forward) + 1}.1: matmul is a routine of its own",)
    assert rest.flops == 16 * 2 * 32
    assert all(copy.bytes_read == copy.bytes_written == 16 * 4 * 32 and copy.flops == 0 for copy in copies)
    assert forward.flops == product.flops + rest.flops
    assert all(kernel.seconds > 0 for kernel in forward.inside)
    assert {key for kernel in forward.inside for key in kernel.keys} <= {x.key for x in program.loadings}
    found = {(place.role, place.line): took for place, took in program.lines()}
    assert found["forward", line_of("the state")] >= forward.seconds * (1 - 1e-9)  # shares, added up
    assert sum(found.values()) == pytest.approx(sum(kernel.seconds for kernel in program.kernels))
    shown = "".join(ET.fromstring(report.to_html().removeprefix("<!DOCTYPE html>\n")).itertext())
    for text in (str(report), shown):
        assert "loop of 16 turns" in text
        assert "add_tanh" in text
        assert "%3 = matmul(%0, %1)" in text


def test_a_loop_over_a_tensor_leads_to_its_lines():
    @nt.function
    def running(rows):
        state = nt.zeros(3)
        for row in rows:
            state = nt.tanh(state * 0.5 + row)  # over rows
        return state

    def wrapped(rows):
        return nt.reduce_sum(running(rows) * 2.0)

    rows = np.ones((50, 3), np.float32)
    for f in (running, nt.function(wrapped)):
        program = nt.explain(f, rows).signatures[0].programs[0]
        (loop,) = (kernel for kernel in program.kernels if kernel.loop.startswith("loop of"))
        places = {place.line for kernel in loop.inside for _, place in kernel.instructions}
        assert places == {line_of("over rows")}


def test_loops_within_loops_are_measured():
    text = """
        %0 = input() {index=0} : f32[100]
        %1 = loop(%0) {body=..., count=3, windows=()} : b1[]
          %0 = input() {index=0} : f32[100]
          %1 = loop(%0) {body=..., count=500, windows=()} : b1[]
            %0 = input() {index=0} : f32[100]
            %1 = exp(%0) : f32[100]
            return %1
          %2 = final(%1) {value=1, dtype=f32, shape=(100,)} : f32[100]
          %3 = negative(%2) : f32[100]
          return %3
        %2 = final(%1) {value=3, dtype=f32, shape=(100,)} : f32[100]
        return %2
        """
    ((outer,), whole) = measure(Executable(read(text)))
    inner, negative, *_ = outer.inside
    assert inner.inside[0].seconds > 20 * negative.seconds > 0
    assert outer.seconds > inner.inside[0].seconds / 2
    assert whole > 0


def test_what_is_no_loop_says_so_at_its_line():
    @nt.function
    def grow(x):
        for _ in range(12):
            x = nt.concat([nt.tanh(nt.sin(x)), nt.sin(x) * x], 0)  # grows
        return x

    report = nt.explain(grow, np.ones((1, 3), np.float32))
    (program,) = report.signatures[0].programs
    ((reason, place),) = program.unrolled
    assert place.line == line_of("grows")
    assert "gives f32[1,3] in one turn and f32[2,3] in the next" in reason
    shown = "".join(ET.fromstring(report.to_html().removeprefix("<!DOCTYPE html>\n")).itertext())
    assert reason in str(report)
    assert reason in shown


# ---- causes ------------------------------------------------------------------------------------------------------


def causes(*calls):
    f = nt.function(lambda *args, **kwargs: nt.constant(1.0) * 2.0)
    for args, kwargs in calls:
        f(*args, **kwargs)
    return [signature.cause for signature in nt.explain(f).signatures]


@pytest.mark.parametrize(
    ("first", "second", "cause"),
    [
        (np.ones((32, 64)), np.ones((16, 64)), "argument 0: shape (32, 64) -> (16, 64)"),
        (np.float32(1), np.float64(1), "argument 0: dtype float32 -> float64"),
        (3, 4, "argument 0: 3 -> 4"),
        (3.0, 3, "argument 0: 3.0 -> 3"),
        ({"a": [1, 2.5]}, {"a": [1, 3.5]}, "argument 0['a'][1]: 2.5 -> 3.5"),
        ([1], [1, 2], "the number of arguments: 1 -> 2"),
        ([1, 2], (1, 2), "the identity of an object, or the kind of a container"),
        ({"a": 1}, {"b": 1}, "the arguments' structure: argument 0['a'] -> argument 0['b']"),
        (None, "text", "argument 0: None -> 'text'"),
        (nt.constant(1.0), 1.0, "argument 0: f32[] -> 1.0"),
        (nt.Variable(1.0, name="u"), nt.Variable(1.0, name="v"), "argument 0: Variable u:0 -> Variable v:0"),
    ],
)
def test_a_new_signature_says_where_it_differs(first, second, cause):
    assert causes(((first,), {}), ((second,), {})) == ["the first signature", f"differs from the last one in {cause}"]


def test_a_keyword_is_an_argument_by_its_name():
    found = causes(((), {"scale": 2}), ((), {"scale": 3}))
    assert found[1] == "differs from the last one in argument 'scale': 2 -> 3"


def test_a_plain_loop_says_what_is_new():
    def run(n):
        return nt.reduce_sum(nt.math.erf(nt.constant(np.ones(n, np.float32))) * 7.0).numpy()

    run(30)
    assert nt.explain().signatures[0].programs[0].cause != ""
    run(31)
    cause = nt.explain().signatures[0].programs[0].cause
    assert cause == "differs from an earlier program in the type of %0, an input: f32[30] -> f32[31]"


def test_ways_tell_what_was_seen_and_how_often():
    @nt.function
    def f(x):
        if nt.reduce_sum(x) > 0:  # a look
            return x * 2.0
        return x - 1.0

    for number in (1.0, 2.0, -1.0, 3.0):
        f(nt.constant([number])).numpy()
    report = nt.explain(f)
    (signature,) = report.signatures
    assert signature.count == 2
    assert signature.state == "recorded twice; outside of tapes a call is one native call for each look, and one more"
    assert [len(program.kernels) for program in signature.programs] == [1, 1, 1]
    assert f"{HERE}:{line_of('a look')}" in signature.ways[0]
    assert signature.ways[1:] == ("  saw True: 3 times", "  saw False: once")
    assert "saw True: 3 times" in str(report)
    assert {kernel.name for program in signature.programs for kernel in program.kernels} >= {"multiply", "subtract"}


def test_kernels_say_whether_they_were_compiled_or_found():
    def fresh():
        f = nt.function(lambda x: nt.math.erf(nt.abs(x) + 2.0) * nt.tan(x))
        return [x.source for x in nt.explain(f, np.ones(77, np.float32)).signatures[0].programs[0].loadings]

    assert fresh() == ["compiled"]
    assert fresh() == ["memory"]
    kernels._addresses.clear()
    assert fresh() == ["disk"]


# ---- texts -------------------------------------------------------------------------------------------------------


def reports():
    step, _ = dense_layer()
    x = np.ones((32, 6), np.float32)
    f = nt.function(step)
    f(x[:8])
    yield nt.explain(f, x)
    g = nt.function(lambda x, n: x * len(n) if nt.reduce_sum(x) < 1 else x)  # <b> & "quotes"
    yield nt.explain(g, nt.constant([0.0]), "<i>&")
    yield nt.explain(nt.function(lambda x: x), nt.constant([1.0]))
    float(nt.constant(1.0) + 1.0)
    yield nt.explain()


def test_text_and_page_of_all_kinds_of_reports(tmp_path):
    for n, report in enumerate(reports()):
        text = str(report)
        assert repr(report) == text
        assert "Times: each kernel alone" in text
        page = report.to_html(tmp_path / f"{n}.html")
        assert (tmp_path / f"{n}.html").read_text(encoding="utf-8") == page
        body = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
        for alien in ("http", "<script", "src=", "url(", "@import"):
            assert alien not in page
        bars = [e for e in body.iter("span") if e.get("class") == "bar"]
        programs = [p for s in report.signatures for p in s.programs]
        assert len(bars) == sum(len(p.kernels) for p in programs)
        shown = "".join(body.itertext())
        for program in programs:
            assert program.text in shown
            assert all(kernel.name in shown for kernel in program.kernels)
        if programs and any(place.filename for p in programs for place, _ in p.lines()):
            assert str(HERE) in shown


def test_words():
    assert [seconds(x) for x in (2.5, 0.0125, 3e-6, 4.2e-8)] == ["2.5 s", "12.5 ms", "3 µs", "42 ns"]
    assert [amount(x, "B", 1024) for x in (0, 1023, 1536, 1 << 20)] == ["0 B", "1.02e+03 B", "1.5 KiB", "1 MiB"]
    assert [amount(x, "flops") for x in (12, 1200, 5_000_000)] == ["12 flops", "1.2 Kflops", "5 Mflops"]


# ---- who asks for what -------------------------------------------------------------------------------------------


def test_what_cannot_be_explained():
    with pytest.raises(TypeError, match=r"nt\.function"):
        nt.explain(lambda x: x)
    with pytest.raises(ValueError, match="was not called yet"):
        nt.explain(nt.function(lambda x: x))


def test_nothing_has_run():
    float(nt.constant(1.0) * 2.0)
    for forget in FORGET:
        forget()
    with pytest.raises(ValueError, match="nothing has run"):
        nt.explain()


def test_a_concrete_function_is_explained_by_its_function():
    f = nt.function(lambda x: x * 2.0)
    concrete = f.get_concrete_function(nt.TensorSpec([3]))
    concrete(nt.constant([1.0, 2.0, 3.0]))
    assert nt.explain(concrete).title == nt.explain(f).title


def test_methods_and_functions_left_to_python():
    class Model:
        def __init__(self):
            self.v = nt.Variable(2.0)

        @nt.function
        def scaled(self, x):
            return x * self.v

    model = Model()
    model.scaled(nt.constant(3.0))
    assert "scaled" in nt.explain(model.scaled).title
    assert len(nt.explain(model.scaled).signatures) == 1
