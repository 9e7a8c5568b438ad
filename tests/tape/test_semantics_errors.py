"""Errors and warnings: rows E of the semantics, and what their messages say."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import numtape as nt
from numtape.dtypes import float32
from numtape.ir.op import REGISTRY, Gradient, Kind, Op
from numtape.ops.core import apply
from tests.tape.checks import same


@pytest.fixture
def contrast() -> Iterator[object]:
    """An op on floats whose gradient nobody wrote."""
    op = Op(
        "Doubled", Kind.MAP, ("x",), infer=lambda types, attributes: types[0], kernel="x + x",
        reference=lambda x: x + x, gradient=Gradient.MISSING, groups=("T",),
    )  # fmt: skip
    yield lambda x: apply(op, (x,))
    assert op.name not in REGISTRY


def test_E01_a_plain_tape_used_twice() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = x * x
    t.gradient(y, x)
    with pytest.raises(RuntimeError, match="not persistent gives one set of gradients.*persistent=True"):
        t.gradient(y, x)


def test_E02_entering_an_active_tape() -> None:
    t = nt.GradientTape()
    with t, pytest.raises(ValueError, match="leave its block"):
        t.__enter__()


def test_E03_stop_recording_on_a_tape_that_does_not_record() -> None:
    t = nt.GradientTape()
    with pytest.raises(RuntimeError, match="not recording"), t.stop_recording():
        pass
    with t:
        pass
    with pytest.raises(RuntimeError, match="not recording"), t.stop_recording():
        pass


def test_E04_reset_outside() -> None:
    with pytest.raises(ValueError, match="within the tape's block"):
        nt.GradientTape().reset()


@pytest.mark.parametrize("target", [None, 3.0, "text", np.ones(2), [None]])
def test_E05_a_target_that_is_no_tensor(target: object) -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = x * x
    leaf = target[0] if isinstance(target, list) else target
    with pytest.raises(TypeError, match=f"target.*{type(leaf).__name__}"):
        t.gradient(target, x)
    same(t.gradient(y, x), 6.0)


@pytest.mark.parametrize("source", [None, 3.0, "text", np.ones(2), [None]])
def test_E05_a_source_that_is_no_tensor(source: object) -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = x * x
    leaf = source[0] if isinstance(source, list) else source
    with pytest.raises(TypeError, match=f"source.*{type(leaf).__name__}"):
        t.gradient(y, source)


def test_E06_no_gradient_registered(contrast: object) -> None:
    x, w = nt.Variable(3.0), nt.Variable(2.0)
    with nt.GradientTape(persistent=True) as t:
        y = contrast(x) * w  # type: ignore[operator]
        z = x * x
    same(y, 12.0)  # forward works
    for sources in (x, [x, w], w):  # even where the source is on another way
        with pytest.raises(LookupError, match="gradient registry has no entry for: Doubled"):
            t.gradient(y, sources)
    same(t.gradient(z, x), 6.0)  # harmless off the path


def test_E06_harmless_where_nothing_is_watched(contrast: object) -> None:
    c, w = nt.constant(3.0), nt.Variable(2.0)
    with nt.GradientTape(persistent=True) as t:
        y = contrast(c) * w  # type: ignore[operator]
        z = nt.stop_gradient(contrast(w)) * w  # type: ignore[operator]
    same(t.gradient(y, w), 6.0)
    same(t.gradient(z, w), 4.0)


def test_E15_one_name_registered_twice() -> None:
    from numtape.ir.op import register

    with pytest.raises(KeyError, match="add"):
        register(REGISTRY["add"])


def test_E07_unknown_option() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = x * x
    with pytest.raises(ValueError, match="'nonsense'"):
        t.gradient(y, x, unconnected_gradients="nonsense")


def test_E08_and_D10_integers_are_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numtape.tape.gradient_tape._warnings_left", 5)
    x, v = nt.constant(10), nt.Variable(2.0)
    with caplog.at_level(logging.WARNING), nt.GradientTape() as t:
        t.watch(x)
        y = nt.cast(x, nt.float32) * v
    same(t.gradient([y, x], [x, v]), [None, 10.0])
    assert [m.split()[4] for m in caplog.messages] == ["watched", "target", "source"]


@pytest.mark.parametrize("value", [[1.0, 2.0, 3.0], np.ones((2, 1), np.float32), 1.0])
def test_E09_another_shape(value: object) -> None:
    v = nt.Variable([1.0, 2.0], name="weights")
    shape = np.shape(value)  # type: ignore[arg-type]
    for given in (value, nt.constant(value), nt.constant(value) * 1.0):
        with pytest.raises(ValueError, match="weights:0") as error:
            v.assign(given)
        assert str(shape) in str(error.value)
        assert "(2,)" in str(error.value)
        same(v, [1.0, 2.0])
        for change in (v.assign_add, v.assign_sub):
            with pytest.raises(ValueError, match=r"\(2,\)"):
                change(given)
    same(v, [1.0, 2.0])


def test_E19_forward_errors_come_at_the_op() -> None:
    x = nt.Variable(np.ones((2, 3)))
    with nt.GradientTape() as t:
        y = nt.reduce_sum(x * x)
        with pytest.raises(ValueError, match="matmul") as error:
            x @ x
        assert "(2, 3)" in str(error.value) or "[2, 3]" in str(error.value)
        with pytest.raises(ValueError, match="add"):
            x + nt.constant(np.ones(5))
        with pytest.raises(TypeError, match="multiply"):
            x * nt.constant([1.0, 2.0, 3.0])
        with pytest.raises((TypeError, ValueError)):
            nt.reduce_sum(x, axis=7)
        z = y * 2.0
    same(t.gradient(z, x), np.full((2, 3), 4.0))


def test_E19_failed_calls_leave_nothing_behind() -> None:
    a, b, bad = nt.constant([1.0, 2.0]), nt.constant([3.0, 4.0]), nt.constant([1.0, 2.0, 3.0])
    y = a * 2.0
    for _ in range(3):
        with pytest.raises(ValueError, match="add"):
            b + bad
        with pytest.raises(TypeError):
            nt.add(7, nt.constant("text") if False else object())
        with pytest.raises(TypeError):
            a * nt.constant(2) * 3.0
    z = y * 5.0 + b * 7.0 + bad[0] * 11.0
    same(z, [10.0 + 21.0 + 11.0, 20.0 + 28.0 + 11.0])


def test_E19_things_that_are_no_tensors() -> None:
    x = nt.constant([1.0, 2.0])
    for thing in ("text", None, {}, object(), 1j, [1.0, "text"], [[1.0], [2.0, 3.0]]):
        with pytest.raises((TypeError, ValueError)):
            nt.add(x, thing)
    with pytest.raises(TypeError):
        x + "text"
    same(x + 1.0, [2.0, 3.0])


def test_seeds_of_another_type() -> None:
    x = nt.Variable([1.0, 2.0])
    with nt.GradientTape(persistent=True) as t:
        y = x * x
    with pytest.raises(ValueError, match="output_gradients.*3.*2"):
        t.gradient(y, x, output_gradients=nt.ones(3))
    with pytest.raises(ValueError, match="output_gradients.*float64.*float32"):
        t.gradient(y, x, output_gradients=nt.constant(np.ones(2)))
    with pytest.raises(ValueError, match="2 output_gradients were given for 3 targets"):
        t.gradient([y, y, y], x, output_gradients=[nt.ones(2), nt.ones(2)])


def test_E20_optimizers_without_gradients() -> None:
    v, w = nt.Variable(1.0, name="first"), nt.Variable(1.0, name="second")
    optimizer = nt.keras.optimizers.SGD(0.5)
    with pytest.raises(ValueError, match="no gradients provided for any variable.*first:0, second:0"):
        optimizer.apply_gradients([(None, v), (None, w)])
    with pytest.raises(ValueError, match="no gradients provided for any variable"):
        optimizer.apply_gradients([])
    same(optimizer.iterations, 0)
    with pytest.warns(UserWarning, match="second:0") as caught:
        optimizer.apply_gradients([(nt.constant(1.0), v), (None, w)])
    assert caught[0].filename == __file__
    same([v, w], [0.5, 1.0])


def test_no_warning_without_a_reason() -> None:
    v = nt.Variable([1.0, np.inf, np.nan, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with nt.GradientTape() as t:
            y = nt.reduce_sum(nt.math.log(v) / v)
        t.gradient(y, v).numpy()
        assert float32 is v.dtype


# ---- what is given as Python's or NumPy's values ---------------------------------------------------------------


@pytest.mark.parametrize("index", [-1, 2, [0, 2], np.array([[0], [-3]]), np.int64(5), [[0, 1], [1, 2]]])
def test_indices_known_at_the_call(index: Any) -> None:
    table = nt.Variable([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(IndexError, match="gather: index -?[0-9] is out of range for an axis of length 2"):
        nt.gather(table, index)
    with pytest.raises(IndexError, match="embedding_lookup: index"):
        nt.nn.embedding_lookup(table, index)
    with pytest.raises(IndexError, match="axis of length 3"):
        nt.gather([[1, 2, 3]], [3], axis=1)
    assert nt.gather(table, nt.constant(index)).numpy().min() == 0.0  # what a tensor holds is not looked at
    same(nt.gather([[1, 2, 3], [4, 5, 6]], [2, 0], axis=-1), [[3, 1], [6, 4]])


@pytest.mark.parametrize(("x", "y"), [([1.0, 2.0], [2, 1]), ([2, 1], [1.0, 2.0]), ([1, 2], 2.0)])
def test_integers_in_a_list_beside_floats(x: Any, y: Any) -> None:
    found = nt.maximum(x, y)
    assert found.dtype == nt.float32
    same(found, [2.0, 2.0])
    assert nt.maximum(np.array([1.0, 2.0]), [2, 1]).dtype == nt.float64


def test_pythons_own_types() -> None:
    assert nt.cast(1.5, int).dtype == nt.int32
    assert nt.cast(1.5, float).dtype == nt.cast(1.5, "float").dtype == nt.float32
    assert nt.zeros([1], np.dtype("float64")).dtype == nt.float64
    assert nt.zeros([1], np.dtype("int64")).dtype == nt.int64
    with pytest.raises(TypeError, match="choose int32 or int64"):
        nt.cast(1.5, "int")


def test_types_are_written_alike() -> None:
    x = nt.Variable([1.0, 2.0])
    with nt.GradientTape(persistent=True) as tape:
        y = x * x
    with pytest.raises(ValueError, match=r"float32\[3\] was given for a target of type float32\[2\]"):
        tape.gradient(y, x, output_gradients=nt.ones([3]))
    with pytest.raises(ValueError, match=r"float32\[3\], but Variable:0 is float32\[2\]"):
        nt.keras.optimizers.SGD().apply_gradients([(nt.ones([3]), x)])
