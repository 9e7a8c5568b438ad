"""Nothing runs before somebody looks, and nobody can tell: order of reads and assignments, errors, bounds, threads.
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numtape as nt
from numtape.tape.trace import LENGTH, STATE
from tests.tape.checks import same
from tests.threads import in_threads

SIZES = (1, 3, 1000)


# ---- reads and assignments in every order --------------------------------------------------------------------------

STEPS = ("read", "reshape", "double", "add", "assign", "array", "swap", "copy", "look", "drop", "new")


@settings(max_examples=20)
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=14), st.sampled_from((1, 300)), st.booleans())
def test_reads_and_assignments(steps: list[str], size: int, within_tape: bool) -> None:
    start = np.arange(size, dtype=np.float32)
    a, b = nt.Variable(start), nt.Variable(start + 0.5)
    x, y = start.copy(), start + np.float32(0.5)
    seen: list[tuple[object, np.ndarray]] = []
    with nt.GradientTape(persistent=True) if within_tape else nullcontext():
        for k, step in enumerate(steps):
            if step == "read":
                seen.append((a.read_value(), x.copy()))
            elif step == "reshape":
                seen.append((nt.reshape(a, (size, 1)), x.reshape(size, 1).copy()))
            elif step == "double":
                seen.append((a * 2.0 + b, x * 2 + y))
            elif step == "add":
                a.assign_add(b)
                x = x + y
            elif step == "assign":
                a.assign(a * 0.5 + b)
                x = x * np.float32(0.5) + y
            elif step == "array":
                fresh = start + np.float32(k)
                a.assign(fresh)
                x = fresh.copy()
                fresh[:] = -1
            elif step == "swap":
                old = a.value()
                a.assign(b)
                b.assign(old)
                x, y = y, x
            elif step == "copy":
                b = nt.Variable(a)
                y = x.copy()
            elif step == "look":
                np.testing.assert_array_equal(a.numpy(), x)
            elif step == "drop":
                seen = seen[1:]
            else:
                a = nt.Variable(a + 1.0)
                x = x + np.float32(1)
    for tensor, right in reversed(seen):
        np.testing.assert_array_equal(tensor.numpy(), right)  # type: ignore[attr-defined]
    np.testing.assert_array_equal([a.numpy(), b.numpy()], [x, y])


@pytest.mark.parametrize("order", list(itertools.permutations(["old", "new", "sum"])))
@pytest.mark.parametrize("size", SIZES)
def test_old_and_new_values_looked_at_in_any_order(order: tuple[str, ...], size: int) -> None:
    v = nt.Variable(np.full(size, 3.0))
    v.assign_add(np.full(size, 1.0))
    found = {"old": v.read_value()}
    v.assign_add(found["old"] * 2.0)
    found["new"] = v.read_value()
    found["sum"] = found["old"] + v
    v.assign_sub(np.full(size, 5.0))
    right = {"old": 4.0, "new": 12.0, "sum": 16.0}
    for name in order:
        same(found[name], np.full(size, right[name]))
    same(v, np.full(size, 7.0))


def test_values_of_variables_that_nobody_looked_at() -> None:
    vs = [nt.Variable(np.full(5, float(k))) for k in range(4)]
    for _ in range(10):
        for v, w in itertools.pairwise(vs):
            v.assign(v * 0.5 + w)
    right = [np.full(5, float(k)) for k in range(4)]
    for _ in range(10):
        for k in range(3):
            right[k] = right[k] * 0.5 + right[k + 1]
    same(vs, right, 1e-14)


def test_a_value_used_by_two_variables() -> None:
    x = nt.constant(np.arange(100.0)) * 1.0
    a, b = nt.Variable(x), nt.Variable(x)
    c = nt.Variable(np.zeros(100))
    c.assign(x)
    for v in (a, b, c):
        v.assign_add(np.ones(100))
    a.assign_add(np.ones(100))
    same([a, b, c, x], [np.arange(100.0) + k for k in (2, 1, 1, 0)])


# ---- errors and interrupts -----------------------------------------------------------------------------------------


def test_an_exception_in_a_step_changes_no_variable() -> None:
    v, w = nt.Variable([1.0, 2.0]), nt.Variable([3.0, 4.0])
    optimizer = nt.keras.optimizers.Adam(0.1)

    def step(broken: bool) -> None:
        with nt.GradientTape() as t:
            y = nt.reduce_sum(v * w)
            if broken:
                y = y + nt.ones((2, 3)) @ nt.ones((2, 3))
        optimizer.apply_gradients(zip(t.gradient(y, [v, w]), [v, w], strict=True))

    twins = nt.Variable([1.0, 2.0]), nt.Variable([3.0, 4.0])
    other = nt.keras.optimizers.Adam(0.1)
    for k in range(6):
        if k % 2:
            before = v.numpy(), w.numpy()
            with pytest.raises(ValueError, match="matmul"):
                step(True)
            np.testing.assert_array_equal(before, (v.numpy(), w.numpy()))
        step(False)
        with nt.GradientTape() as t:
            y = nt.reduce_sum(twins[0] * twins[1])
        other.apply_gradients(zip(t.gradient(y, twins), twins, strict=True))
    np.testing.assert_array_equal([v.numpy(), w.numpy()], [twins[0].numpy(), twins[1].numpy()])
    assert not STATE.tapes


def test_a_run_that_fails_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    from numtape.backends.native import Executable

    v = nt.Variable(np.arange(3.0))
    x = nt.constant(np.ones(3))

    def fail(*_: object) -> None:
        raise MemoryError

    v.assign_add(x)
    same(v, [1.0, 2.0, 3.0])
    v.assign_add(x * 2.0)
    y = v * x
    prepare = Executable.prepare
    for _ in range(2):
        monkeypatch.setattr(Executable, "prepare", fail)
        with pytest.raises(MemoryError):
            v.numpy()
        monkeypatch.setattr(Executable, "prepare", prepare)
        z = y + x
    v.assign_add(x)
    same([z, y, v], [[4.0, 5.0, 6.0], [3.0, 4.0, 5.0], [4.0, 5.0, 6.0]])


def test_an_interrupt_behind_the_native_call_does_not_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    v = nt.Variable(np.arange(3.0))
    for _ in range(3):  # from the third on it is in place
        v.assign_add(np.ones(3))
        v.numpy()
    v.assign_add(np.ones(3))
    lowered = None

    class Interrupted:
        """The native call, and Ctrl-C meanwhile: Python looks at the signal behind the call."""

        def __init__(self, entry: object) -> None:
            self.entry = entry

        def __call__(self, address: int) -> None:
            self.entry(address)  # type: ignore[operator]
            raise KeyboardInterrupt

    from numtape.backends.native import Executable

    prepare = Executable.prepare

    def prepared(self: Executable, *arguments: object) -> object:
        nonlocal lowered
        if lowered is None:
            lowered = self
            self.entry = Interrupted(self.entry)
        return prepare(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Executable, "prepare", prepared)
    with pytest.raises(KeyboardInterrupt):
        v.numpy()
    lowered.entry = lowered.entry.entry  # type: ignore[attr-defined]
    same(v, np.arange(3.0) + 4)
    v.assign_add(np.ones(3))
    same(v, np.arange(3.0) + 5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # within `__del__`
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the platform has no timers")
def test_ctrl_c_anywhere() -> None:
    """Variables that change in one step are from one step each, and work goes on as if nothing had been."""
    v, w = nt.Variable(np.zeros(2)), nt.Variable(np.zeros(2))
    optimizer = nt.keras.optimizers.SGD(1.0)
    done = 0

    def step() -> None:
        nonlocal done
        with nt.GradientTape() as t:
            y = nt.reduce_sum(v + 2.0 * w)
        optimizer.apply_gradients(zip(t.gradient(y, [v, w]), [v, w], strict=True))
        done += 1

    for _ in range(5):
        step()
    v.numpy()
    old = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    interrupted = 0
    delays = np.random.default_rng(0).uniform(1e-5, 3e-3, 100)
    try:
        for delay in delays:
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                for _ in range(1000):
                    step()
                    float(v.value()[0])
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            STATE.tapes.clear()  # an interrupt at the very first instruction of `__exit__` nobody can catch
            a, b, n = v.numpy(), w.numpy(), int(optimizer.iterations)
            assert a[0] == a[1]
            assert b[0] == b[1]
            np.testing.assert_array_equal([a[0], b[0]], [-n, -2 * n])
            assert 0 <= n - done <= interrupted
    finally:
        signal.signal(signal.SIGALRM, old)
    assert interrupted > 50


def test_a_chain_of_5000_ops() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        x = nt.Variable(np.float64(1.0))
        with nt.GradientTape() as t:
            y = x * 1.0
            for k in range(5000):
                y = y * 1.0001 if k % 2 else y + 0.0001
        (g,) = t.gradient(y, [x])
        same(g, 1.0001**2500, 1e-10)
        z = nt.constant(np.ones(7))
        for _ in range(5000):
            z = nt.square(z - 1.0)
        same(z, np.ones(7))
    finally:
        sys.setrecursionlimit(limit)


# ---- bounds --------------------------------------------------------------------------------------------------------


def test_what_is_pending_is_bounded_outside_of_tapes() -> None:
    v = nt.Variable(np.zeros(10))
    longest = 0
    for k in range(3 * LENGTH):
        v.assign_add(np.full(10, float(k)))
        _ = nt.exp(v) * 2.0
        longest = max(longest, STATE.trace.node.length)
    assert longest <= 2 * LENGTH + 10
    same(v, np.full(10, 3 * LENGTH * (3 * LENGTH - 1) / 2))


def test_what_users_data_it_keeps_is_bounded() -> None:
    total = nt.Variable(np.float32(0))
    held = 0
    for _ in range(12):
        total.assign_add(nt.reduce_sum(nt.constant(np.ones(1 << 24, np.float32))))
        held = max(held, STATE.trace.input_bytes)
    assert held < 600 << 20
    same(total, np.float32(12 << 24))


def test_programs_of_a_loop_that_nobody_looks_at() -> None:
    v = nt.Variable(np.zeros(3))
    counts = []
    for _ in range(6):
        for _ in range(60):
            x = v * 2.0
            x = x + 1.0
            v.assign(x - v)
        counts.append(nt.cache.stats().programs)
    assert counts[-1] == counts[2], counts
    same(v, np.full(3, 360.0))


# ---- tapes in loops ------------------------------------------------------------------------------------------------


def programs_of(step: object, warm: int = 6, more: int = 50) -> tuple[int, int]:
    """How many programs the first steps made, and the steps after them."""
    start = nt.cache.stats().programs
    for _ in range(warm):
        step()  # type: ignore[operator]
    middle = nt.cache.stats().programs
    for _ in range(more):
        step()  # type: ignore[operator]
    return middle - start, nt.cache.stats().programs - middle


def persistent_kept() -> Iterator[None]:
    v = nt.Variable([1.0, 2.0])
    kept: list[object] = []
    optimizer = nt.keras.optimizers.Adam(0.01)
    while True:
        with nt.GradientTape(persistent=True) as t:
            y = nt.reduce_sum(v * v)
            z = nt.reduce_sum(v**3)
        g = t.gradient(y, v)
        h = t.gradient(z, v)
        optimizer.apply_gradients([(g + h, v)])
        kept[:] = [*kept[-2:], (t, y, z, g, h)]
        yield


def looking_within() -> Iterator[None]:
    v = nt.Variable([1.0, 2.0])
    optimizer = nt.keras.optimizers.SGD(0.01)
    while True:
        with nt.GradientTape() as t:
            loss = nt.reduce_sum(v * v)
            if loss > 1e-3:
                loss = loss * 2.0
            loss = loss + nt.reduce_sum(v)
            float(loss)
            loss = loss * 1.5
        optimizer.apply_gradients([(t.gradient(loss, v), v)])
        yield


def entered_again() -> Iterator[None]:
    v = nt.Variable([1.0, 2.0])
    t = nt.GradientTape()
    while True:
        with t:
            y = v * v
        with t:
            z = nt.reduce_sum(y * v)
        v.assign_sub(0.01 * t.gradient(z, v))
        yield


def dropped_midway() -> Iterator[None]:
    v = nt.Variable([1.0, 2.0])
    while True:
        with nt.GradientTape() as t:
            _ = v * v
        with nt.GradientTape() as u:
            y = nt.reduce_sum(v * v)
            del t
        v.assign_sub(0.01 * u.gradient(y, v))
        yield


def nested() -> Iterator[None]:
    v = nt.Variable([1.0, 2.0])
    while True:
        with nt.GradientTape() as outer:
            with nt.GradientTape() as inner:
                y = nt.reduce_sum(v**4)
            g = inner.gradient(y, v)
            z = nt.reduce_sum(g * g)
        v.assign_sub(1e-4 * outer.gradient(z, v))
        yield


def reading_metrics() -> Iterator[None]:
    v, total = nt.Variable([1.0, 2.0]), nt.Variable(0.0, trainable=False)
    step = 0
    while True:
        with nt.GradientTape() as t:
            y = nt.reduce_sum(v * v)
        v.assign_sub(0.01 * t.gradient(y, v))
        total.assign_add(y)
        step += 1
        if step % 2 == 0:
            float(total)
        yield


LOOPS = {
    f.__name__: f for f in (persistent_kept, looking_within, entered_again, dropped_midway, nested, reading_metrics)
}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_finds_its_programs_again(name: str) -> None:
    loop = LOOPS[name]()
    first, later = programs_of(lambda: next(loop))
    assert first > 0
    assert later == 0


def test_varying_lengths_find_their_programs_again() -> None:
    v = nt.Variable(2.0)

    def step(n: int) -> None:
        with nt.GradientTape() as t:
            y = v * 1.0
            for _ in range(n):
                y = y * v
        same(t.gradient(y, v), (n + 1) * 2.0**n)

    for n in range(5):
        step(n)
    before = nt.cache.stats().programs
    for n in (4, 0, 2, 3, 1, 2):
        step(n)
    assert nt.cache.stats().programs == before


def test_clearing_the_cache_in_the_middle() -> None:
    v = nt.Variable([1.0, 2.0])
    with nt.GradientTape() as t:
        y = v * v
        nt.cache.clear()
        z = nt.reduce_sum(y * v)
    nt.cache.clear()
    g = t.gradient(z, v)
    nt.cache.clear()
    v.assign_sub(g)
    nt.cache.clear()
    same(v, [1.0 - 3.0, 2.0 - 12.0])


# ---- threads -------------------------------------------------------------------------------------------------------


def test_threads_with_tapes_of_their_own() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def work(k: int) -> None:
        v = nt.Variable(np.full(3, float(k + 1)))
        right = np.full(3, float(k + 1))
        for n in range(150):
            with nt.GradientTape() as t:
                y = nt.reduce_sum(v * v * (1.0 + n % 3))
            v.assign_sub(0.001 * t.gradient(y, v))
            right = right - 0.001 * 2 * right * (1.0 + n % 3)
            if n % 7 == 0:
                same(v, right, 1e-12)
        same(v, right, 1e-12)

    try:
        in_threads(work, 4)
    finally:
        sys.setswitchinterval(interval)


def test_assignments_of_several_threads_all_count() -> None:
    v, w = nt.Variable(0.0), nt.Variable([0.0, 0.0])
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def work(k: int) -> None:
        for _ in range(30):
            v.assign_add(1.0)
            w.assign_sub([1.0, 2.0])
            if k == 0:
                v.numpy()

    try:
        in_threads(work, 4)
    finally:
        sys.setswitchinterval(interval)
    same([v, w], [120.0, [-120.0, -240.0]])


def test_tensors_of_a_thread_that_goes_on_recording() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    box: list[tuple[nt.Tensor, float]] = []
    ready, over = threading.Event(), threading.Event()
    v = nt.Variable(np.ones(3))

    def make() -> None:
        k = 0.0
        deadline = time.monotonic() + 20
        while not over.is_set() and time.monotonic() < deadline:
            k += 1
            x = nt.constant(np.full(3, k)) * 2.0 + v * (k * 0.5)
            if len(box) < 3:
                box.append((x, 2.5 * k))
            ready.set()
            if k % 50 == 0:
                x.numpy()

    thread = threading.Thread(target=make)
    thread.start()
    ready.wait()
    try:
        for n in range(300):
            while not box:
                time.sleep(1e-5)
            x, right = box.pop(0)
            if n % 2:
                same(x, np.full(3, right))
            else:
                same(x * 3.0 + 1.0, np.full(3, 3 * right + 1))
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)


def test_a_tensor_of_a_thread_that_has_ended() -> None:
    found = []

    def make() -> None:
        with nt.GradientTape() as t:
            x = nt.Variable(3.0)
            y = x * x
        found.extend([t, x, y, y * 5.0])

    in_threads(lambda _: make(), 1)
    t, x, y, z = found
    same(z, 45.0)
    same(t.gradient(y, x), 6.0)


def test_the_gradient_of_another_thread_s_tape() -> None:
    w, x = nt.Variable(2.0), nt.constant(5.0)
    with nt.GradientTape(persistent=True) as t:
        t.watch(x)
        y = w * w * x
        z = y * y
        if float(y) > 1:
            z = z + y
    results = {}

    def ask(k: int) -> None:
        results[k] = t.gradient(z, [w, x, y])
        same(results[k], [41 * 20.0, 41 * 4.0, 41.0])

    in_threads(ask, 3)
    same(t.gradient(z, [w, x, y]), [41 * 20.0, 41 * 4.0, 41.0])
    for k in range(3):
        same(results[k][0] * 1.0, 820.0)


def test_a_tape_entered_again_in_another_thread() -> None:
    w = nt.Variable(2.0)
    t = nt.GradientTape()
    with t:
        y = w * w
    found = []

    def go_on(_: int) -> None:
        with t:
            z = y * w
        found.append(t.gradient(z, w))

    in_threads(go_on, 1)
    same(found[0], 12.0)


def test_one_variable_changed_by_several_threads_in_turn() -> None:
    v = nt.Variable(np.zeros(100))
    lock = threading.Lock()

    def work(_: int) -> None:
        for _ in range(100):
            with lock:
                v.assign_add(np.ones(100))

    in_threads(work, 4)
    same(v, np.full(100, 400.0))


def test_reading_while_another_thread_assigns() -> None:
    v = nt.Variable(np.zeros(1000))
    over = threading.Event()

    def write(_: int) -> None:
        for k in range(1, 400):
            v.assign(v + 1.0) if k % 2 else v.assign_add(np.ones(1000))
            if k % 5 == 0:
                v.numpy()
        over.set()

    def read(_: int) -> None:
        last = 0.0
        while not over.is_set():
            array = (v * 1.0).numpy()
            assert (array == array[0]).all()
            assert array[0] >= last
            last = array[0]

    in_threads(lambda k: write(k) if k == 0 else read(k), 3)
    same(v, np.full(1000, 399.0))


def test_a_long_step_is_one_program() -> None:
    weights = [nt.Variable(np.full((4, 4), 0.1, np.float32)) for _ in range(12)]
    optimizer = nt.keras.optimizers.Adam(0.01)
    x = np.ones((2, 4), np.float32)

    def step() -> None:
        with nt.GradientTape() as tape:
            h = x
            for w in weights:
                h = nt.tanh(h @ w)
            loss = nt.reduce_sum(h)
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        assert STATE.trace.node.length > 2 * LENGTH

    for _ in range(3):
        step()
    before = nt.cache.stats()
    for _ in range(5):
        step()
    after = nt.cache.stats()
    assert after.programs == before.programs
    assert after.memory_hits - before.memory_hits == 5


@pytest.mark.parametrize("make", [nt.constant, nt.Variable])
def test_numpys_functions_take_tensors_and_give_arrays(make) -> None:
    x = make([3.0, 5.0])
    array = np.float32([3, 5])
    for function in (np.sum, np.max, np.sin, lambda x: np.add(x, x), lambda x: np.concatenate([x, array])):
        found, right = function(x), function(array)
        assert type(found) is type(right)
        np.testing.assert_array_equal(found, right)
    for mixed in (array * x, np.float32(2) * x, array < x, x - array):
        assert isinstance(mixed, nt.Tensor)
