"""Persistence and lifetime of tapes: rows P of the semantics."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numtape as nt
from numtape.dtypes import parse_type
from numtape.ir.op import REGISTRY
from numtape.ir.program import Builder
from numtape.passes.differentiate import differentiate
from tests.tape.checks import same


def test_P01_one_gradient() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = x * x
    same(t.gradient(y, x), 6.0)
    with pytest.raises(RuntimeError, match="persistent"):
        t.gradient(y, x)


def test_P01_a_failed_query_does_not_use_it_up() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = x * x
    with pytest.raises(TypeError):
        t.gradient(y, 5.0)
    with pytest.raises(ValueError, match="shape|type"):
        t.gradient(y, x, output_gradients=nt.ones(7))
    with pytest.raises(ValueError, match="nonsense"):
        t.gradient(y, x, unconnected_gradients="nonsense")
    same(t.gradient(y, x), 6.0)


def test_P03_any_number_in_any_order() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape(persistent=True) as t:
        y = x * x
        z = y * y
    for _ in range(3):
        same(t.gradient(z, x), 108.0)
        same(t.gradient(y, x), 6.0)
        same(t.gradient(z, y), 18.0)


def test_P04_and_P13_resources_go_with_the_tape() -> None:
    x = nt.constant(np.ones(1000))
    with nt.GradientTape(persistent=True) as t:
        t.watch(x)
        y = x * x
        z = y * y
    same(t.gradient(z, x), np.full(1000, 4.0))
    held = [weakref.ref(o) for o in (x, y, t)]
    del t, x, y, z
    assert [r() for r in held] == [None, None, None]


def test_P05_gradient_inside_ends_the_recording() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = x * x
        same(t.gradient(y, x), 6.0)
        z = y * x
    assert z.numpy() == 27.0
    with pytest.raises(RuntimeError, match="persistent"):
        t.gradient(z, x)


def test_P06_after_the_block() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape(persistent=True) as t:
        y = x * x
    z = y * 2.0
    same(t.gradient(z, x), None)
    same(t.gradient(y, x), 6.0)


def test_P07_an_exception_leaves_cleanly() -> None:
    x = nt.Variable(3.0)
    t = nt.GradientTape()
    with pytest.raises(KeyError), t:
        y = x * x
        raise KeyError
    z = y * x
    with nt.GradientTape() as u:
        w = x * x * x
    same(t.gradient([y, z], x), 6.0)
    same(u.gradient(w, x), 27.0)


def test_P08_reset_forgets_ops_and_watches() -> None:
    v, x = nt.Variable(3.0), nt.constant(2.0)
    with nt.GradientTape() as t:
        t.watch(x)
        a = v * v * x
        t.reset()
        assert t.watched_variables() == ()
        y = a + v**3 + x
    same(t.gradient(y, [v, x]), [27.0, None])


def test_P09_stop_recording() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape(persistent=True) as t:
        a = x * x
        with t.stop_recording():
            b = a * x
        y = a + b
        with pytest.raises(KeyError), t.stop_recording():
            raise KeyError
        z = y * x
    same(t.gradient(y, x), 6.0)
    same(t.gradient(z, x), 18.0 + 36.0)


def test_P09_gradients_of_a_persistent_tape_while_it_is_stopped() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape(persistent=True) as t:
        y = x * x * x
        with t.stop_recording():
            g = t.gradient(y, x)
        z = g * x
    same(g, 27.0)
    same(t.gradient(z, x), 27.0)


def test_P09_gradient_of_a_plain_tape_while_it_is_stopped() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = x * x
        with t.stop_recording():
            same(t.gradient(y, x), 6.0)
        z = x * x * x  # recorded afresh, like a consumed tape that is entered again
    same(t.gradient(z, x), 27.0)


def test_P10_tapes_are_a_set() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as outer, nt.GradientTape() as inner:
        with outer.stop_recording():
            y = x * x
        z = x * x * x
    same(inner.gradient(y, x), 6.0)
    same(outer.gradient([y, z], x), 27.0)


def test_P10_left_in_any_order() -> None:
    x = nt.Variable(3.0)
    a, b = nt.GradientTape(), nt.GradientTape()
    a.__enter__()
    y = x * x
    b.__enter__()
    z = y * x
    a.__exit__(None, None, None)
    w = z * x
    b.__exit__(None, None, None)
    same(a.gradient([z, w], x), 27.0)
    same(b.gradient(w, x), 9.0 * 3.0 + 27.0)


def test_P11_entered_again() -> None:
    x = nt.Variable(3.0)
    t = nt.GradientTape()
    with t:
        y = x * x
    gap = y * x
    with t:
        z = y * x + gap
    same(t.gradient(z, x), 27.0 + 0.0)


def test_P11_entered_again_after_other_work_was_looked_at() -> None:
    x = nt.Variable(3.0)
    t = nt.GradientTape(persistent=True)
    with t:
        y = x * x
    assert float(y * 2.0) == 18.0
    with nt.GradientTape() as other:
        w = x * y
    same(other.gradient(w, x), 9.0)
    with t:
        z = y * x
        assert z.numpy() == 27.0
    same(t.gradient(z, x), 27.0)
    same(t.gradient(y, x), 6.0)


def test_P11_entering_an_active_one() -> None:
    t = nt.GradientTape()
    with t, pytest.raises(ValueError, match="recording"), t:
        pass
    with t:  # left properly
        pass


def test_P11_an_earlier_tape_within_a_later_one_is_right_or_refused() -> None:
    x = nt.constant(3.0)
    with nt.GradientTape(persistent=True) as first:
        first.watch(x)
        y = x * x
        z = y * y
    with nt.GradientTape() as second:
        second.watch(x)
        q = x * x * x
        with pytest.raises(ValueError, match="earlier"):
            first.gradient(z, x)
        with pytest.raises(ValueError, match="earlier"):
            first.__enter__()
        w = q * z
    same(second.gradient(w, x), 27.0 * 81.0)
    same(first.gradient(z, x), 108.0)


def test_P12_each_record_keeps_its_own_values() -> None:
    records = []
    for k in (2.0, 3.0, 5.0):
        x = nt.Variable(k)
        with nt.GradientTape() as t:
            y = x * x * k
        records.append((t, y, x, k))
    for t, y, x, k in reversed(records):
        same(t.gradient(y, x), 2 * k * k)


def test_P12_one_variable_at_several_values() -> None:
    x = nt.Variable([2.0, 1.0])
    records = []
    for k in (2.0, 3.0, 5.0):
        x.assign([k, 1.0])
        with nt.GradientTape() as t:
            y = x * x * x
        records.append((t, y, k))
    x.assign([100.0, 100.0])
    for t, y, k in reversed(records):
        same(t.gradient(y, x), [3 * k * k, 3.0])


def test_P14_gradients_are_never_overwritten() -> None:
    x = nt.Variable([1.0, 2.0])
    kept = []
    for k in range(5):
        with nt.GradientTape(persistent=True) as t:
            y = x * x * float(k)
        kept.append((t.gradient(y, x), t.gradient(y, x)))
        kept[-1][0].numpy()
        x.assign_add([1.0, 1.0])
    for k, (a, b) in enumerate(kept):
        expected = 2.0 * k * (np.array([1.0, 2.0]) + k)
        same([a, b], [expected, expected])


def test_P14_arrays_given_away_stay() -> None:
    x = nt.Variable([1.0, 2.0])
    given = []
    for _ in range(4):
        x.assign_add([1.0, 1.0])
        given.append(x.numpy())
    np.testing.assert_array_equal(given, [[2, 3], [3, 4], [4, 5], [5, 6]])
    given[-1][:] = 0
    same(x.value(), [5.0, 6.0])


def test_P15_gradients_within_a_persistent_tape_are_recorded() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape(persistent=True) as t:
        y = x * x * x
        g = t.gradient(y, x)
        h = t.gradient(g, x)
    same([g, h], [27.0, 18.0])
    same(t.gradient(h, x), 6.0)


def test_P16_temporaries_die_while_recording() -> None:
    v = nt.Variable(1.0)
    with nt.GradientTape() as t:
        temporary = v * nt.ones(10)
        dead = weakref.ref(temporary)
        del temporary
        y = v * v
    assert dead() is None
    same(t.gradient(y, v), 2.0)


@pytest.mark.parametrize(
    ("f", "keeps"),
    [
        (nt.nn.relu, False), (nt.tanh, False), (nt.sigmoid, False), (nt.exp, False), (nt.sqrt, False),
        (nt.reduce_sum, False), (nt.sin, True), (nt.square, True), (nt.math.log, True),
    ],
    ids=lambda f: getattr(f, "__name__", ""),
)  # fmt: skip
def test_P17_what_a_rule_does_not_need_is_not_kept(f: Callable[..., Any], keeps: bool) -> None:
    # A matrix product gives what `f` is applied to, since its own gradient reads its operands alone.
    builder = Builder()
    x, w = (builder.input(parse_type("f32[8,8]"), k) for k in range(2))
    before = builder.emit(REGISTRY["matmul"], (x, w), (False, False))
    after = f(before)
    forward = len(builder.instructions)
    differentiate(builder, [after.index], [[w.index]], [None], [(0, forward)], {w.index: 0})
    assert (before.index in {k for i in builder.instructions[forward:] for k in i.operands}) is keeps


def test_P18_a_used_tape_entered_again() -> None:
    x = nt.Variable(3.0)
    t = nt.GradientTape()
    for k in (1.0, 2.0, 3.0):
        with t:
            y = x * x * k
        same(t.gradient(y, x), 6.0 * k)
        with pytest.raises(RuntimeError):
            t.gradient(y, x)


def test_P18_nothing_is_left_of_the_first_recording() -> None:
    x, v = nt.constant(3.0), nt.Variable(2.0)
    t = nt.GradientTape()
    with t:
        t.watch(x)
        y = x * x * v
    same(t.gradient(y, x), 12.0)
    with t:
        z = x * y
    assert t.watched_variables() == ()
    same(t.gradient(z, [x, v]), [None, None])


def test_P19_several_tapes_in_one_with() -> None:
    x0, x1 = nt.constant(0.5), nt.constant(0.25)
    with nt.GradientTape() as tape0, nt.GradientTape() as tape1:
        tape0.watch(x0)
        tape1.watch(x1)
        y0, y1 = nt.sin(x0), nt.sigmoid(x1)
        y = y0 + y1
        ys = nt.reduce_sum(y)
    s = 1 / (1 + np.exp(-0.25))
    same(tape0.gradient(ys, x0), np.cos(0.5))
    same(tape1.gradient(ys, x1), s * (1 - s))


@pytest.mark.usefixtures("natively")
def test_no_cycles() -> None:
    v = nt.Variable([1.0, 2.0])
    optimizer = nt.keras.optimizers.SGD(0.1, momentum=0.5)

    def step(persistent: bool) -> None:
        with nt.GradientTape(persistent) as t:
            y = nt.reduce_sum(v * v)
            if y > 1e9:
                raise AssertionError
        optimizer.apply_gradients([(t.gradient(y, v), v)])
        with nt.GradientTape() as outer:
            with nt.GradientTape() as inner:
                z = nt.reduce_sum(v**3)
            g = inner.gradient(z, v)
        outer.gradient(g, v)

    for persistent in (False, True):
        step(persistent)
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                step(persistent)
            assert gc.collect() == 0
        finally:
            gc.enable()
