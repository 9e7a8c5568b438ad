"""Why a gradient is None, and at which line."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numtape as nt
from tests.tape.checks import same


def line_with(mark: str) -> int:
    """The number of the line in this file that ends with a comment."""
    lines = Path(__file__).read_text().splitlines()
    (found,) = [k for k, text in enumerate(lines, 1) if text.endswith(f"# {mark}")]
    return found


def check(why: nt.Explanation, reason: str, mark: str | None = None, text: str = "") -> None:
    assert (why.connected, why.reason) == (False, reason), why
    assert text in why.message
    if mark is None:
        assert (why.filename, why.line) == (None, None)
        assert str(why) == why.message
    else:
        assert why.filename == __file__
        assert why.line == line_with(mark)
        assert f"{__file__}:{why.line}\n" in str(why)
        assert f"# {mark}" in str(why)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_variable_replaced_by_a_tensor(persistent: bool) -> None:
    x = v = nt.Variable(2.0)
    for _ in range(2):
        with nt.GradientTape(persistent) as tape:
            y = x + 1.0  # replaced
        g = tape.gradient(y, x)
        before, x = x, x + 1.0
    assert g is None
    check(nt.explain_gradient(tape, y, before), "not watched", "replaced", "is not watched: call tape.watch")
    with nt.GradientTape(persistent) as tape:
        y = x * x
    assert tape.gradient(y, v) is None
    check(nt.explain_gradient(tape, y, v), "not read", None, "`v.assign_add(1)`")


@pytest.mark.parametrize("used", [False, True])
def test_a_calculation_in_numpy(used: bool) -> None:
    x = nt.Variable([[1.0, 2.0], [3.0, 4.0]])
    with nt.GradientTape() as tape:
        x2 = x**2
        y = np.mean(x2, axis=0)  # numpy
        z = nt.reduce_mean(y, axis=0)
    if used:
        assert tape.gradient(z, x) is None
    check(nt.explain_gradient(tape, z, x), "left to Python", "numpy", "nt's ops all the way")


def test_a_number_taken_out() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        factor = float(x * x)  # float
        z = nt.constant(2.0) * nt.constant(factor)
    assert tape.gradient(z, x) is None
    check(nt.explain_gradient(tape, z, x), "left to Python", "float")


def test_integers() -> None:
    x = nt.constant(10)
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    assert tape.gradient(y, x) is None
    check(nt.explain_gradient(tape, y, x), "not floating", None, "The target is int32")
    v = nt.Variable(2.5)
    with nt.GradientTape() as tape:
        whole = nt.cast(v * 2.0, nt.int32)  # cast
        y = nt.cast(whole + 1, nt.float32)
    assert tape.gradient(y, v) is None
    check(nt.explain_gradient(tape, y, v), "not differentiable", "cast", "its result is int32")


def test_state() -> None:
    x0, x1 = nt.Variable(3.0), nt.Variable(0.0)
    with nt.GradientTape() as tape:
        x1.assign_add(x0)  # state
        y = x1**2
    assert tape.gradient(y, x0) is None
    check(nt.explain_gradient(tape, y, x0), "assigned", "state", "begins a new history")
    with nt.GradientTape() as tape:
        x1.assign(x0 * 2.0)  # assign
        y = x1**2
    assert tape.gradient(y, x0) is None
    check(nt.explain_gradient(tape, y, x0), "assigned", "assign")


def test_not_trainable_and_not_accessed() -> None:
    v, w = nt.Variable(3.0, trainable=False), nt.Variable(1.0)
    with nt.GradientTape(watch_accessed_variables=False) as tape:
        y = v * w  # unwatched
    assert tape.gradient(y, [v, w]) == [None, None]
    of_v, of_w = nt.explain_gradient(tape, y, [v, w])
    check(of_v, "not watched", "unwatched", "is not trainable")
    check(of_w, "not watched", "unwatched", "watch_accessed_variables=False")


def test_watched_too_late() -> None:
    x = nt.constant(3.0)
    with nt.GradientTape() as tape:
        y = x * x  # late
        tape.watch(x)
        x * 2.0
    assert tape.gradient(y, x) is None
    check(nt.explain_gradient(tape, y, x), "not watched", "late", "watched only after")


def test_outside_of_the_block() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y = x * x
    z = y * 2.0
    assert tape.gradient(z, x) is None
    why = nt.explain_gradient(tape, z, x)
    check(why, "outside of the block", None, "multiply ran after the tape's block")
    with nt.GradientTape() as tape:
        y = x * x
        with tape.stop_recording():
            z = y * 2.0
        z = z * 1.0
    assert tape.gradient(z, x) is None
    check(nt.explain_gradient(tape, z, x), "outside of the block", None, "while the tape did not record")


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (nt.stop_gradient, "stop_gradient"),
        (nt.round, "round, which is not differentiable"),
        (lambda x: nt.cast(x > 0.0, nt.float32), "greater: its result is bool"),
        (lambda x: nt.cast(nt.argmax(nt.stack([x, x])), nt.float32), "its result is int64"),
    ],
)
def test_ops_that_are_not_differentiable(f: Any, text: str) -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y = nt.exp(f(x * 2.0) + 1.0)
    assert tape.gradient(y, x) is None
    why = nt.explain_gradient(tape, y, x)
    assert why.reason == "not differentiable"
    assert text in why.message
    assert why.filename == __file__


def test_the_users_line_through_a_layer() -> None:
    x = nt.Variable([[1.0, 2.0]])
    layer = nt.keras.layers.Dense(2)
    with nt.GradientTape() as tape:
        y = layer(nt.stop_gradient(x))  # layer
        z = y * 2.0
    assert tape.gradient(z, x) is None
    check(nt.explain_gradient(tape, z, x), "not differentiable", "layer")


def test_custom_gradients() -> None:
    f = nt.custom_gradient(lambda x: (x * 2.0, lambda dy: None))
    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y = f(x) * 2.0
    assert tape.gradient(y, x) is None
    check(nt.explain_gradient(tape, y, x), "custom gradient")


def test_no_path() -> None:
    x, v = nt.Variable(3.0), nt.Variable(2.0)
    with nt.GradientTape() as tape:
        x * 2.0
        y = v * v  # apart
    assert tape.gradient(y, x) is None
    check(nt.explain_gradient(tape, y, x), "no path", "apart")


def test_tensors_that_the_tape_never_saw() -> None:
    x, c = nt.Variable(3.0), nt.constant(1.0)
    y = x * x
    with nt.GradientTape(persistent=True) as tape:
        z = x * 2.0
    check(nt.explain_gradient(tape, nt.constant(2.0), x), "not on the tape", None, "The target was not computed")
    check(nt.explain_gradient(tape, z, c), "not on the tape", None, "The source was not used")
    check(nt.explain_gradient(nt.GradientTape(), y, x), "not on the tape", None, "Nothing was recorded")


def test_connected() -> None:
    x, v = nt.Variable(3.0), nt.Variable(1.0)
    with nt.GradientTape() as tape:
        y = x * x
    why = nt.explain_gradient(tape, y, {"x": x, "v": v})
    assert (why["x"].connected, why["x"].reason, why["v"].reason) == (True, "connected", "not read")
    same(tape.gradient(y, x), 6.0)
    with pytest.raises(RuntimeError, match="ask before"):
        nt.explain_gradient(tape, y, x)


def test_what_is_no_tensor() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y = x * x
    with pytest.raises(TypeError, match="target of a gradient is a tensor or Variable, not float"):
        nt.explain_gradient(tape, 3.0, x)
    with pytest.raises(TypeError, match="source of a gradient is a tensor or Variable, not ndarray"):
        nt.explain_gradient(tape, y, np.ones(2))


def test_the_same_recording_at_another_line() -> None:
    """Paths of the trie are shared, and lines are not."""

    def first(x: Any) -> Any:
        return nt.round(x * 2.0) * 3.0  # first

    def second(x: Any) -> Any:
        return nt.round(x * 2.0) * 3.0  # second

    for f, mark in ((first, "first"), (second, "second")):
        x = nt.Variable(3.0)
        with nt.GradientTape() as tape:
            y = f(x)
        assert tape.gradient(y, x) is None
        check(nt.explain_gradient(tape, y, x), "not differentiable", mark)


def test_it_keeps_no_values() -> None:
    import weakref

    v = nt.Variable(np.zeros(3))
    with nt.GradientTape() as tape:
        y = nt.round(v) * 2.0
    assert tape.gradient(y, v) is None
    gone = weakref.ref(y)
    del y
    assert gone() is None


def test_the_signature() -> None:
    assert list(inspect.signature(nt.explain_gradient).parameters) == ["tape", "target", "source"]


# ---- what first users met ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [np.sum, nt.Variable.numpy, nt.Variable.item])
@pytest.mark.parametrize("used", [False, True])
def test_a_variable_that_python_looked_at_first(look: Any, used: bool) -> None:
    x = nt.Variable([3.0])
    with nt.GradientTape() as tape:
        y = nt.constant(look(x)) * 2.0  # the first look
    if used:
        assert tape.gradient(y, x) is None
    check(nt.explain_gradient(tape, y, x), "left to Python", "the first look")


def test_a_target_of_numpy_alone() -> None:
    x = nt.Variable([3.0])
    with nt.GradientTape() as tape:
        y = nt.constant(np.sum(x))  # alone
    assert tape.gradient(y, x) is None
    check(nt.explain_gradient(tape, y, x), "left to Python", "alone")


def test_reads_while_the_tape_does_not_record() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        with tape.stop_recording():
            y = x * 2.0
        z = y + 1.0
    assert tape.gradient(z, x) is None
    check(nt.explain_gradient(tape, z, x), "outside of the block", None, "while the tape did not record")


def test_a_variable_made_of_a_tensor() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y = nt.Variable(x * 2.0) * 3.0  # made
    assert tape.gradient(y, x) is None
    check(nt.explain_gradient(tape, y, x), "assigned", "made")


def test_an_inner_gradient_outside_of_the_outer_block() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as outer, nt.GradientTape() as tape:
        y = x * x * 2.0
        z = x * 2.0
    g, h = tape.gradient(y, x), None
    assert outer.gradient(g, x) is None
    check(nt.explain_gradient(outer, g, x), "outside of the block", None, "gradient ran after the tape's block")
    with nt.GradientTape() as outer, nt.GradientTape() as tape:
        z = x * 2.0
    h = tape.gradient(z, x)
    assert outer.gradient(h, x) is None
    check(nt.explain_gradient(outer, h, x), "outside of the block", None, "outside of the tape's block")


def test_a_part_that_was_taken_afterwards() -> None:
    x = nt.Variable([1.0, 2.0])
    with nt.GradientTape() as tape:
        y = nt.reduce_sum(x * x)
    part = x[0]
    why = nt.explain_gradient(tape, y, part)
    assert why.reason == "no path" and "a new tensor, made after the target" in why.message
    assert tape.gradient(y, part) is None
    assert "a new tensor, made after the target" in nt.explain_gradient(tape, y, part).message


@pytest.mark.parametrize("f", [lambda x: 3.0 * x, lambda x: nt.maximum(x, 1.0) * 2.0, nt.reduce_max])
def test_the_second_derivative_of_what_is_linear(f: Any) -> None:
    x = nt.Variable([1.0, 2.0])
    with nt.GradientTape() as outer:
        with nt.GradientTape() as tape:
            y = f(x)
        g = tape.gradient(y, x)  # linear
    assert outer.gradient(g, x) is None
    check(nt.explain_gradient(outer, g, x), "no path", "linear", "is linear in it")


def test_several_targets() -> None:
    x, w = nt.Variable(1.0), nt.Variable(1.0)
    with nt.GradientTape(persistent=True) as tape:
        y = [x * 2.0, {"a": w * 3.0, "b": nt.cast(nt.cast(w, nt.int32), nt.float32)}]  # several
    assert nt.explain_gradient(tape, y, x).connected and nt.explain_gradient(tape, y, w).connected
    check(nt.explain_gradient(tape, [y[1]["b"], y[0]], w), "not differentiable", "several")
    assert tape.gradient([y[1]["b"], y[0]], w) is None
    with pytest.raises(ValueError, match="no target"):
        nt.explain_gradient(tape, [], w)
