"""What a tape watches: rows W of the semantics."""

from __future__ import annotations

import logging
import threading

import numpy as np
import pytest

import numtape as nt
from tests.tape.checks import same


def test_W01_only_what_is_watched_is_recorded() -> None:
    c = nt.constant(3.0)
    with nt.GradientTape() as t:
        y = c * c
    same(t.gradient(y, c), None)


def test_W01_only_inside_the_context() -> None:
    x = nt.constant(3.0)
    before = x * x
    with nt.GradientTape(persistent=True) as t:
        t.watch(x)
        inside = x * x
    after = x * x
    same([t.gradient(y, x) for y in (before, inside, after)], [None, 6.0, None])


def test_W02_a_trainable_variable_at_its_first_read() -> None:
    v, u = nt.Variable(3.0), nt.Variable(3.0, trainable=False)
    with nt.GradientTape() as t:
        y = v * v + u * u
    same(t.gradient(y, [v, u]), [6.0, None])
    assert [w is v for w in t.watched_variables()] == [True]


def test_W03_watch_is_not_retroactive() -> None:
    x = nt.constant(3.0)
    with nt.GradientTape(persistent=True) as t:
        a = x * x
        t.watch(x)
        b = a * x
    same(t.gradient(a, x), None)
    same(t.gradient(b, x), 9.0)


def test_W04_watch_takes_any_nest() -> None:
    x, y, u = nt.constant(2.0), nt.constant(3.0), nt.Variable(5.0, trainable=False)
    with nt.GradientTape() as t:
        t.watch([x, {"k": (y, u)}])
        z = x * y * u
    same(t.gradient(z, [x, y, u]), [15.0, 10.0, 6.0])


def test_W05_identity_not_value() -> None:
    a, b = nt.constant(3.0), nt.constant(3.0)
    with nt.GradientTape() as t:
        t.watch([a, b])
        y = a + b
    same(t.gradient(y, [a, b]), [1.0, 1.0])


def test_W05_results_of_equal_calls_are_different_sources() -> None:
    x = nt.constant(3.0)
    with nt.GradientTape() as t:
        t.watch(x)
        a, b = x * x, x * x
        y = a * b
    same(t.gradient(y, [a, b, x]), [9.0, 9.0, 108.0])


@pytest.mark.parametrize(
    "thing", [np.array(1.0), 1.0, "text", None, lambda: None], ids=["ndarray", "float", "str", "NoneType", "function"]
)
def test_W06_only_tensors_and_variables(thing: object, request: pytest.FixtureRequest) -> None:
    x = nt.constant(2.0)
    with nt.GradientTape() as t:
        with pytest.raises(ValueError, match=type(thing).__name__):
            t.watch([x, thing])
        y = x * x
    same(t.gradient(y, x), None)  # nothing of a refused nest is watched


def test_W07_variable_plus_number_is_a_tensor() -> None:
    x2 = nt.Variable(2.0) + 1.0
    assert type(x2) is nt.Tensor
    with nt.GradientTape() as t:
        y = x2 * x2
    same(t.gradient(y, x2), None)


def test_W08_watch_accessed_variables_false() -> None:
    x0, x1 = nt.Variable(0.0), nt.Variable(10.0)
    with nt.GradientTape(watch_accessed_variables=False) as t:
        early = x1 * x1
        t.watch(x1)
        y = nt.sin(x0) + nt.nn.softplus(x1) + early
    same(t.gradient(y, [x0, x1]), [None, 1 / (1 + np.exp(-10.0))])
    assert len(t.watched_variables()) == 1


def test_W09_watched_variables_in_order_of_construction() -> None:
    v0, v1, v2 = nt.Variable(0.0), nt.Variable(1.0), nt.Variable(2.0)
    with nt.GradientTape() as t:
        _ = v2 * v0 * v1 * v0
    found = t.watched_variables()
    assert isinstance(found, tuple)
    assert [v.ref() for v in found] == [v0.ref(), v1.ref(), v2.ref()]


def test_W10_watched_variables_after_the_gradient() -> None:
    v = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = v * v
    t.gradient(y, v)
    assert [w.ref() for w in t.watched_variables()] == [v.ref()]


def test_W11_any_read_counts() -> None:
    idle, v = nt.Variable(3.0), nt.Variable(2.0)
    with nt.GradientTape() as t:
        _ = idle * 3.0
        y = v * v
    assert [w.ref() for w in t.watched_variables()] == [idle.ref(), v.ref()]
    same(t.gradient(y, [idle, v]), [None, 4.0])


READS = {
    "value": lambda v: v.value(), "read_value": lambda v: v.read_value(), "convert": nt.convert_to_tensor,
    "constant": nt.constant, "identity": nt.identity, "reshape": lambda v: nt.reshape(v, (2,)),
    "index": lambda v: v[:], "unary": lambda v: -v, "reflected": lambda v: 2.0 - v,
    "list": lambda v: nt.reduce_sum([v, v], axis=0), "nested list": lambda v: nt.convert_to_tensor([[v], [v]])[0, 0],
    "stack": lambda v: nt.stack([v, v])[0], "concat": lambda v: nt.concat([v, v], 0)[:2],
    "add_n": lambda v: nt.add_n([v]), "cast": lambda v: nt.cast(v, v.dtype), "iterate": lambda v: nt.stack(list(v)),
    "beside a list": lambda v: v + [1.0, 2.0], "in a list of both": lambda v: nt.stack([v, [1.0, 1.0]])[0],
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_W11_every_way_of_reading_is_connected(name: str) -> None:
    v = nt.Variable([3.0, 5.0])
    with nt.GradientTape() as t:
        y = READS[name](v)
        z = nt.reduce_sum(y * y)
    found = t.gradient(z, v)
    assert [w.ref() for w in t.watched_variables()] == [v.ref()]
    sign = -1.0 if name in ("unary", "reflected") else 1.0
    same(found, 2 * y.numpy() * sign * (2.0 if name == "list" else 1.0))


def test_W11_assigning_from_a_variable_reads_it() -> None:
    u, v, w = nt.Variable(1.0), nt.Variable(2.0), nt.Variable(3.0)
    with nt.GradientTape() as t:
        v.assign(u)
        w.assign_add(v)
        y = w * w
    assert [x.ref() for x in t.watched_variables()] == [u.ref(), v.ref(), w.ref()]
    same(t.gradient(y, [u, v, w]), [None, None, 8.0])


def test_W12_a_value_read_before_is_a_constant() -> None:
    v = nt.Variable(3.0)
    s = v.read_value()
    with nt.GradientTape() as t:
        y = s * s
    same(t.gradient(y, v), None)


def test_W12_beside_a_read_inside() -> None:
    v = nt.Variable(3.0)
    s = v.read_value()
    with nt.GradientTape() as t:
        y = s * v
    same(t.gradient(y, [v, s]), [3.0, None])


def test_W13_a_variable_made_inside() -> None:
    x = nt.constant(2.0)
    with nt.GradientTape() as t:
        t.watch(x)
        w = nt.Variable(x * 3.0)
        y = w * w
    same(t.gradient(y, [w, x]), [12.0, None])


def test_W14_an_unwatched_operand() -> None:
    v, c = nt.Variable(3.0), nt.constant(2.0)
    with nt.GradientTape(persistent=True) as t:
        y = v * c
    same(t.gradient(y, c), None)
    same(t.gradient(y, c, unconnected_gradients="zero"), 0.0)
    same(t.gradient(y, [v, c]), [2.0, None])


def test_W15_tapes_are_per_thread() -> None:
    x = nt.constant(3.0)
    done: dict[str, object] = {}

    def elsewhere() -> None:
        done["unseen"] = x * x
        with nt.GradientTape() as own:
            own.watch(x)
            y = x * x * x
        done["own"] = own.gradient(y, x)

    with nt.GradientTape() as t:
        t.watch(x)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        y = x * x
    same(t.gradient([y, done["unseen"]], x), 6.0)
    same(done["own"], 27.0)


def test_W16_watching_a_result_keeps_its_history() -> None:
    x = nt.constant(3.0)
    with nt.GradientTape() as t:
        t.watch(x)
        y = x * x
        t.watch(y)
        z = y * y
    same(t.gradient(z, [x, y]), [108.0, 18.0])


def test_W18_integers_are_only_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numtape.tape.gradient_tape._warnings_left", 5)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            with nt.GradientTape() as t:
                t.watch(nt.constant(10))
    assert len(caplog.messages) == 5
    assert "int32" in caplog.messages[0]


NOTHING = {
    "identity": nt.identity, "x + 0": lambda x: x + 0.0, "x * 1": lambda x: x * 1.0,
    "reshape": lambda x: nt.reshape(x, (2,)), "squeeze": nt.squeeze, "transpose": nt.transpose,
    "broadcast_to": lambda x: nt.broadcast_to(x, (2,)), "tile": lambda x: nt.tile(x, [1]),
    "reduce_sum": lambda x: nt.reduce_sum(x, axis=[]), "concat": lambda x: nt.concat([x], 0),
    "x[:]": lambda x: x[:], "x[...]": lambda x: x[...], "pad": lambda x: nt.pad(x, [[0, 0]]),
    "reverse": lambda x: nt.reverse(x, []), "add_n": lambda x: nt.add_n([x]), "stack": lambda x: nt.stack([x])[0],
    "clip_by_value": lambda x: nt.clip_by_value(x, -9.0, 9.0), "roll": lambda x: nt.roll(x, 0, 0),
    "slice": lambda x: nt.slice(x, [0], [2]), "repeat": lambda x: nt.repeat(x, 1), "split": lambda x: nt.split(x, 1)[0],
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING)
def test_W19_what_does_nothing_is_still_a_tensor_of_its_own(name: str) -> None:
    x = nt.constant([1.0, 2.0])
    before = NOTHING[name](x)
    with nt.GradientTape() as t:
        t.watch([x, before])
        inside = NOTHING[name](x)
        y = 2.0 * x + 3.0 * before + 5.0 * inside
    same(t.gradient(y, [x, before, inside]), [[7.0, 7.0], [3.0, 3.0], [5.0, 5.0]])


def test_G05_and_W_watch_before_entering() -> None:
    x = nt.constant(3.0)
    t = nt.GradientTape()
    t.watch(x)
    unseen = x * x
    with t:
        y = x * x * x
    same(t.gradient([y, unseen], x), 27.0)


def test_a_variable_read_before_within_and_after() -> None:
    v = nt.Variable(3.0)
    before = v * v
    with nt.GradientTape(persistent=True) as t:
        a = before * v
        with t.stop_recording():
            gap = v * v
        b = gap * v
    after = v * v
    same([t.gradient(y, v) for y in (before, a, gap, b, after)], [None, 9.0, None, 9.0, None])


def test_a_failed_call_leaves_no_trace_in_what_is_watched() -> None:
    v, z = nt.Variable([3.0, 1.0]), nt.constant([7.0, 7.0])
    with nt.GradientTape() as t:
        t.watch(z)
        with pytest.raises(ValueError, match="add"):
            nt.add(v, nt.ones((5, 4)))
        x = z * 5.0  # takes the place that the failed call would have had
        y = nt.reduce_sum(x * v * v)
    same(t.gradient(y, [v, z]), [[210.0, 70.0], [45.0, 5.0]])
