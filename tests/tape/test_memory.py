"""Nothing grows, nothing stays: memory of long loops, of tapes and of tensors."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
import weakref
from contextlib import suppress

import numpy as np
import pytest

import numtape as nt
from numtape.backends.native import Executable
from numtape.tape import trace as traces
from numtape.tape.trace import LENGTH, STATE
from tests.tape.checks import same


def grown(step: object, warm: int, more: int) -> int:
    """Bytes of Python objects that are left of the later steps."""
    for _ in range(warm):
        step()  # type: ignore[operator]
    gc.collect()
    tracemalloc.start()
    try:
        step()  # type: ignore[operator]
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(more):
            step()  # type: ignore[operator]
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def resident() -> int:
    """Bytes of memory that the process occupies."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells")
def test_100000_steps() -> None:
    rng = np.random.default_rng(0)
    x, y = nt.constant(rng.normal(size=(8, 4))), nt.constant(rng.normal(size=(8, 1)))
    w = nt.Variable(np.zeros((4, 1)))

    def step() -> None:
        with nt.GradientTape() as t:
            loss = nt.reduce_mean((x @ w - y) ** 2)
        w.assign_sub(0.05 * t.gradient(loss, w))

    for _ in range(2000):
        step()
    gc.collect()
    before = resident()
    for _ in range(98_000):
        step()
    gc.collect()
    assert resident() - before < 4 << 20
    best, *_ = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)
    same(w, best, 1e-9)


def training() -> object:
    rng = np.random.default_rng(0)
    w, b = nt.Variable(rng.normal(size=(4, 3)).astype(np.float32)), nt.Variable(np.zeros(3, np.float32))
    optimizer = nt.keras.optimizers.Adam(0.01)

    def step() -> None:
        batch = rng.normal(size=(5, 4)).astype(np.float32)
        with nt.GradientTape() as t:
            loss = nt.reduce_mean((nt.tanh(batch @ w + b) - 1.0) ** 2)
            if loss > 100.0:
                raise AssertionError
        optimizer.apply_gradients(zip(t.gradient(loss, [w, b]), [w, b], strict=True))

    return step


def persistent() -> object:
    v = nt.Variable(np.ones(100))
    kept: list[object] = []

    def step() -> None:
        with nt.GradientTape(persistent=True) as t:
            y, z = v * v, v * 3.0
        kept[:] = [t, t.gradient(y, v), t.gradient(z, v)]
        v.assign_sub(kept[1] * 1e-3)  # type: ignore[operator]

    return step


def without_tapes() -> object:
    v = nt.Variable(np.ones(100))

    def step() -> None:
        v.assign(v * 0.5 + 1.0)

    return step


def failing() -> object:
    v = nt.Variable(np.ones(100))

    def step() -> None:
        with nt.GradientTape() as t:
            y = v * 2.0
            with suppress(ValueError):
                y @ v
        v.assign_sub(t.gradient(y, v) * 1e-3)

    return step


@pytest.mark.parametrize("make", [training, persistent, without_tapes, failing])
def test_a_loop_leaves_nothing_behind(make: object) -> None:
    assert grown(make(), 300, 600) < 40_000  # type: ignore[operator]


def test_new_programs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MAX_WEIGHT", 2000)
    v = nt.Variable(2.0)
    for n in range(60):
        with nt.GradientTape() as t:
            y = v * 1.0
            for _ in range(n):
                y = y + v
        t.gradient(y, v)
    assert traces._weight <= 2000 + 8 * 200
    with nt.GradientTape() as t:
        y = v * 1.0
        for _ in range(5):
            y = y + v
    same(t.gradient(y, v), 6.0)


@pytest.mark.usefixtures("natively")
def test_structures_that_differ_in_every_step_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MAX_WEIGHT", 3000)
    rng = np.random.default_rng(0)
    v = nt.Variable(np.full(3, 0.5))
    waiting, over = threading.Barrier(2), threading.Event()

    def tree(count: int) -> nt.Tensor:
        if count == 1:
            return v * 1.0
        left = int(rng.integers(1, count))
        return tree(left) * tree(count - left) + v

    def idle() -> None:
        tree(9).numpy()
        waiting.wait()
        over.wait()

    thread = threading.Thread(target=idle)  # its trace is still there, and holds nothing
    thread.start()
    waiting.wait()
    try:
        made: list[weakref.ref[Executable]] = []
        for k in range(60):
            with nt.GradientTape() as t:
                y = tree(9)
            t.gradient(y, v)
            y.numpy()
            lowered = traces.RAN[0][0]
            made.append(weakref.ref(lowered.executable))
            del lowered
            with nt.GradientTape() as t:  # a loop beside it goes on
                y = v * v
            same(t.gradient(y, v), 2 * v.numpy())
            assert traces._weight <= 3000 + 8 * 300, k
        alive = sum(r() is not None for r in made)
        assert alive <= 25
    finally:
        over.set()
        thread.join()


def test_a_path_longer_than_the_limit_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MAX_WEIGHT", 10)
    traces.forget()
    v = nt.Variable(2.0)
    for k in range(4):
        with nt.GradientTape() as t:
            y = v * 1.0
            for _ in range(60):
                y = y + v
        same(t.gradient(y, v), 61.0)
        if k == 1:
            programs = nt.cache.stats().programs
    assert nt.cache.stats().programs == programs


def test_liveness_gives_few_programs_a_node() -> None:
    v = nt.Variable([1.0, 2.0])
    rng = np.random.default_rng(0)
    start = nt.cache.stats().programs
    for _ in range(60):
        with nt.GradientTape() as t:
            xs = [v * float(k) for k in range(8)]
            kept = [x for x in xs if rng.random() < 0.5]
            y = nt.reduce_sum(xs[0] + xs[7])
            del xs
            if float(y) < -1:
                raise AssertionError
            z = y * 2.0
            for x in kept:
                z = z + nt.reduce_sum(x)
        g = t.gradient(z, v)
        right = 2.0 * 7.0 + sum(x.numpy()[0] for x in kept)
        same(g, [right, right])
    assert nt.cache.stats().programs - start < 200


# ---- freed promptly ------------------------------------------------------------------------------------------------


def test_tensors_are_freed_by_reference_count() -> None:
    x = nt.constant(np.ones(1000))
    y = x * 2.0
    y.numpy()
    held = [weakref.ref(x), weakref.ref(y)]
    gc.disable()
    try:
        del x, y
        assert [r() for r in held] == [None, None]
    finally:
        gc.enable()


def test_a_plain_tape_frees_its_record_with_the_gradient() -> None:
    x = nt.constant(np.ones(1000))
    with nt.GradientTape() as t:
        t.watch(x)
        y = x * x
    g = t.gradient(y, x)
    g.numpy()
    held = [weakref.ref(x), weakref.ref(y)]
    del x, y
    assert [r() for r in held] == [None, None]
    same(g, np.full(1000, 2.0))
    assert isinstance(t, nt.GradientTape)


def test_a_tape_that_is_never_asked() -> None:
    x = nt.constant(np.ones(1000))
    with nt.GradientTape() as t:
        t.watch(x)
        y = x * x
    y.numpy()
    held = [weakref.ref(x), weakref.ref(y), weakref.ref(t)]
    del x, y, t
    assert [r() for r in held] == [None, None, None]


def test_what_a_tape_needs_stays() -> None:
    v = nt.Variable(np.ones(1000))
    with nt.GradientTape(persistent=True) as t:
        y = nt.reduce_sum(nt.exp(v) * v)
    t.gradient(y, v).numpy()
    other = nt.GradientTape()
    del other
    v.assign_add(np.ones(1000))
    v.numpy()
    same(t.gradient(y, v), np.full(1000, 2 * np.e))


def test_a_tape_collected_in_the_middle_of_a_call() -> None:
    """The garbage collector may free a tape while another op is being recorded."""
    v = nt.Variable(np.ones(3))
    y = v * 2.0

    class Node:
        def __init__(self, tape: object) -> None:
            self.tape, self.me = tape, self

    class Strange:
        def __array__(self, dtype: object = None, copy: object = None) -> object:
            gc.collect()
            return np.full(3, 5.0)

    for _ in range(3):
        with nt.GradientTape(persistent=True) as t:
            x = v * v
        x.numpy()
        Node(t)
        del t
        z = nt.add_n([y + x, x, Strange(), x * 1.0])
        same(z, np.full(3, 2.0 + 1.0 + 1.0 + 5.0 + 1.0))


def test_variables_free_their_memory() -> None:
    v = nt.Variable(np.ones(1000))
    held = weakref.ref(v)
    with nt.GradientTape() as t:
        y = v * v
    t.gradient(y, v).numpy()
    del v, t, y
    assert held() is None


def test_nothing_of_a_step_is_left_on_the_trace() -> None:
    v = nt.Variable(np.ones(3))
    for _ in range(3):
        with nt.GradientTape() as t:
            y = v * v
        v.assign_sub(t.gradient(y, v))
        v.numpy()
    trace = STATE.trace
    assert not STATE.tapes
    assert trace.node.length == trace.holders == len(trace.inputs) == len(trace.scalars) == len(trace.live) == 0


@pytest.mark.usefixtures("natively")
def test_slices_of_a_table_make_bounded_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    from numtape.backends import native

    monkeypatch.setattr(traces, "MAX_WEIGHT", 500)
    monkeypatch.setattr(native, "IDLE_BYTES", 1 << 20)
    data = nt.constant(np.arange(6000.0).reshape(60, 100))
    for _ in range(2):
        for k in range(50):
            same(nt.reduce_sum(nt.tanh(data[k : k + 10]) * 0.0 + data[k]), 10.0 * data.numpy()[k].sum())
            assert traces._weight <= 500 + 8 * traces._longest < 500 + 16 * 2 * LENGTH
            assert native._bound_bytes <= (1 << 20) + (1 << 16)


def test_gradients_that_nobody_reads_do_not_pile_up() -> None:
    x = nt.Variable(3.0)
    longest = 0
    for _ in range(200):
        with nt.GradientTape() as t:
            y = x * x * x
        g = t.gradient(y, x)
        longest = max(longest, STATE.trace.node.length)
    assert longest < 2 * LENGTH
    assert float(g) == 27.0
