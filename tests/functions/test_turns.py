"""Loops over tensors and datasets in recorded functions: a few turns are recorded, and the results are as in Python."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
from collections import deque
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numtape as nt
from numtape import nest
from numtape.backends import by_turns

ROWS = np.linspace(-1, 1, 40, dtype=np.float32)


def loops_of(fn):
    """How many `loop` instructions there are in the recordings of a function."""
    found = 0
    for ways in fn._recordings.values():
        segments = [ways._root] if ways._root else []
        while segments:
            segment = segments.pop()
            segments += segment.following.values()
            found += sum(i.op.name == "loop" for _, i in segment.instructions)
    return found


def check(function, *args, loops=1):
    """The function, which gives the same recorded as in Python, at the first call and at another."""
    fn = nt.function(function)
    expected = nest.flatten(function(*args))
    for _ in range(2):
        for x, y in zip(expected, nest.flatten(fn(*args)), strict=True):
            np.testing.assert_allclose(np.asarray(y), np.asarray(x), rtol=1e-5, atol=1e-6)
    assert loops_of(fn) == loops
    return fn


def test_a_loop_over_a_range_is_recorded_in_part(capsys):

    def walk(x, n):
        for i in nt.range(n):
            print("recorded")
            x = nt.sin(x) * 0.9 + nt.cast(i, nt.float32) * 0.01
        return x, i

    fn = nt.function(walk)
    x, i = fn(nt.constant([1.0, 2.0]), 50)
    assert int(i) == 49
    assert capsys.readouterr().out.count("recorded") < 8
    np.testing.assert_allclose(x, walk(nt.constant([1.0, 2.0]), 50)[0], rtol=1e-5)


def test_a_loop_may_carry_values_over_two_turns():
    def walk(rows):
        a, b = nt.constant(0.0), nt.constant(1.0)
        for row in rows:
            a, b = b, a * 0.5 + b * 0.3 + row
        return a, b

    check(walk, nt.constant(ROWS))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_loop_takes_slices_by_its_index_or_its_rows(axis):
    x = nt.constant(np.arange(80, dtype=np.float32).reshape((20, 4) if axis == 0 else (4, 20)) / 80)

    def walk(x):
        total = nt.zeros(4)
        for row in x if axis == 0 else nt.transpose(x):
            total = nt.tanh(total + row)
        return total

    check(walk, x)


def test_variables_have_their_last_values():
    v = nt.Variable([1.0, 2.0])
    count = nt.Variable(0)

    def walk(rows):
        for row in rows:
            v.assign(v * 0.5 + row)
            count.assign_add(1)
        return v.read_value(), count.read_value()

    fn = nt.function(walk)
    v.assign([1.0, 2.0])
    first = [x.numpy() for x in walk(nt.constant(ROWS))]
    second = [x.numpy() for x in walk(nt.constant(ROWS))]
    v.assign([1.0, 2.0])
    count.assign(0)
    for expected in (first, second):
        for x, y in zip(expected, fn(nt.constant(ROWS)), strict=True):
            np.testing.assert_allclose(y, x, rtol=1e-6)
    np.testing.assert_allclose(v, second[0], rtol=1e-6)
    assert loops_of(fn) == 1


def test_tensors_that_are_kept_turn_by_turn_are_all_there():
    check(lambda rows: nt.stack([nt.sin(row) for row in rows]), nt.constant(ROWS), loops=0)

    def collect(rows):
        found = []
        for row in rows:
            doubled = row * 2.0
            found.append(doubled)
        return nt.stack(found)

    check(collect, nt.constant(ROWS), loops=0)


def test_turns_that_differ_are_recorded_one_by_one():
    def numbers(rows):
        total = nt.constant(0.0)
        for k, row in enumerate(rows):
            total = total + row * float(k % 5)
        return total

    def beside(rows):
        total = nt.constant(0.0)
        for row, factor in zip(rows, [1.0] * 20 + [2.0] * 20, strict=True):
            total = total + row * factor
        return total

    def counted(rows):
        total, k = nt.constant(0.0), 0.0
        for row in rows:
            k += 1.0
            total = total + row * k
        return total

    def looks(rows):
        total = nt.constant(0.0)
        for row in rows:
            total = total + (row if row > 0 else row * 0.5)
        return total

    reasons = {numbers: "zip or enumerate", beside: "zip or enumerate", counted: "Python number", looks: "looks at"}
    for function, reason in reasons.items():
        fn = check(function, nt.constant(ROWS), loops=0)
        assert reason in str(nt.explain(fn))


def test_random_numbers_differ_from_turn_to_turn():
    @nt.function
    def draw():
        total, squares = nt.zeros(()), nt.zeros(())
        for _ in nt.range(30):
            x = nt.random.uniform(())
            total, squares = total + x, squares + x * x
        return total / 30.0, squares / 30.0

    mean, square = map(float, draw())
    assert square - mean * mean > 1e-3


def test_a_loop_that_is_left_ends_there():
    def walk(rows):
        total = nt.constant(0.0)
        for k, row in enumerate(rows):
            total = total + row
            if k == 20:
                break
        return total

    check(walk, nt.constant(ROWS), loops=0)


def test_loops_in_loops():
    def walk(x):
        for i in nt.range(15):
            for _ in nt.range(13):
                x = nt.sin(x) + 0.1
            x = x * 0.5 + nt.cast(i, nt.float32) * 0.01
        return x

    check(walk, nt.constant([0.3, 0.7]), loops=6)  # five of turns that are recorded, and the one around


def test_a_tape_within_a_turn():
    w = nt.Variable([0.5, -0.5])

    def train(rows):
        for row in rows:
            with nt.GradientTape() as tape:
                loss = nt.reduce_sum((w * row - 1.0) ** 2)
            w.assign_sub(0.05 * tape.gradient(loss, w))
        return loss, w.read_value()

    fn = nt.function(train)
    expected = [x.numpy() for x in train(nt.constant(ROWS))]
    w.assign([0.5, -0.5])
    for x, y in zip(expected, fn(nt.constant(ROWS)), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-5)
    assert loops_of(fn) == 1


@pytest.mark.parametrize("around", ["inside", "outside"])
def test_a_tape_around_a_loop(around):
    w, rows = nt.Variable([0.5, -0.5]), nt.constant(ROWS)

    def walk(rows):
        x = w * 1.0
        for row in rows:
            x = nt.sin(x) * w + row
        return nt.reduce_sum(x)

    def gradient(function):
        with nt.GradientTape() as tape:
            y = function(rows)
        return tape.gradient(y, w)

    fn = nt.function(walk if around == "outside" else lambda: gradient(walk))
    for _ in range(2):
        found = gradient(fn) if around == "outside" else fn()
        np.testing.assert_allclose(found, gradient(walk), rtol=1e-4, atol=1e-6)
    assert loops_of(fn) == (1 if around == "outside" else 2)


# ---- datasets ----------------------------------------------------------------------------------------------------


def classifier(count=330, drop_remainder=False, shuffle=True, repeat=1, decorate=lambda step: step):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 6)).astype(np.float32)
    y = rng.integers(0, 3, count)
    w, b = nt.Variable(0.1 * rng.normal(size=(6, 3)).astype(np.float32)), nt.Variable(np.zeros(3, np.float32))
    optimizer, total = nt.keras.optimizers.Adam(0.01), nt.Variable(0.0)
    data = nt.data.Dataset.from_tensor_slices((x, y))
    if shuffle:
        data = data.shuffle(100, seed=1)
    data = data.repeat(repeat).batch(20, drop_remainder=drop_remainder).prefetch(2)

    @decorate
    def step(images, labels):
        with nt.GradientTape() as tape:
            loss = nt.reduce_mean(nt.nn.sparse_softmax_cross_entropy_with_logits(labels, images @ w + b))
        optimizer.apply_gradients(zip(tape.gradient(loss, [w, b]), [w, b], strict=True))
        total.assign_add(loss)
        return loss

    def epoch():
        total.assign(0.0)
        for images, labels in data:
            step(images, labels)
        return total.read_value()

    return epoch, w, optimizer


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"drop_remainder": True},
        {"count": 320},
        {"shuffle": False},
        {"repeat": 2, "count": 150},
        {"decorate": nt.function},
        {"decorate": nt.function, "count": 320},
    ],
)
def test_epochs_are_those_of_a_plain_loop_bit_for_bit(options):
    plain, w, _ = classifier(**options)
    other, v, optimizer = classifier(**options)
    fn = nt.function(other)
    for _ in range(3):
        np.testing.assert_array_equal(fn(), plain())
        np.testing.assert_array_equal(v, w)
    assert loops_of(fn) == 1
    assert int(optimizer.iterations) >= 45


def test_a_dataset_of_rows_without_batches():
    data = nt.data.Dataset.from_tensor_slices(ROWS).shuffle(7, seed=2)

    def add_up():
        total = nt.constant(0.0)
        for row in data:
            total = total * 0.9 + row
        return total

    fn = nt.function(add_up)
    again = [float(fn()) for _ in range(3)]
    data = nt.data.Dataset.from_tensor_slices(ROWS).shuffle(7, seed=2)
    np.testing.assert_allclose(again, [float(add_up()) for _ in range(3)], rtol=1e-6)
    assert loops_of(fn) == 1


def test_a_dataset_with_python_in_it_is_run_by_python():
    data = nt.data.Dataset.from_tensor_slices(ROWS).map(lambda x: x * 2.0).batch(2)

    def add_up():
        total = nt.constant(0.0)
        for rows in data:
            total = total + nt.reduce_sum(rows)
        return total

    check(add_up, loops=0)


# ---- while it runs -----------------------------------------------------------------------------------------------


def test_progress_is_told_every_so_many_turns():
    epoch, _, _ = classifier()
    fn = nt.function(epoch)
    float(fn())
    seen = []
    with nt.progress(lambda done, count: seen.append((done, count)), every=5):
        fn()
    (count,) = {count for _, count in seen}
    assert [done for done, _ in seen] == [*range(5, count, 5), count]
    fn()
    assert len(seen) == len(set(seen))


def test_progress_draws_a_bar(capsys):
    epoch, _, _ = classifier()
    fn = nt.function(epoch)
    with nt.progress():
        float(fn())
    assert capsys.readouterr().err.rstrip().endswith("11/11")


def test_progress_every_nothing_is_an_error():
    with pytest.raises(ValueError, match="every=0"), nt.progress(every=0):
        pass


def test_a_callback_that_raises_ends_the_loop_between_two_turns():
    epoch, w, optimizer = classifier(drop_remainder=True)
    fn = nt.function(epoch)
    fn()
    before = int(optimizer.iterations)

    def stop(done, count):
        raise RuntimeError("enough")

    with nt.progress(stop, every=4), pytest.raises(RuntimeError, match="enough"):
        fn()
    steps = int(optimizer.iterations) - before
    assert 4 <= steps < 16
    assert np.isfinite(w.numpy()).all()
    fn()
    assert int(optimizer.iterations) == before + steps + 16


def test_ctrl_c_ends_a_long_loop_between_two_turns(monkeypatch):
    monkeypatch.setattr(by_turns, "SECONDS", 0.01)
    v, count = nt.Variable(np.zeros((300, 300), np.float32)), nt.Variable(0)

    @nt.function
    def forever(n):
        for _ in nt.range(n):
            v.assign(nt.tanh(v @ v) + 1.0)
            count.assign_add(1)

    forever(20)
    done = int(count)
    assert done == 20
    for _ in range(2):  # when it is recorded, and when it is known
        timers = []

        def begin(done, count, timers=timers):
            if not timers:
                timers.append(threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)))
                timers[0].start()

        with nt.progress(begin, every=50), pytest.raises(KeyboardInterrupt):
            forever(1_000_000)
            int(count)
        timers[0].join()
        assert 0 < int(count) - done < 1_000_000
        assert np.isfinite(v.numpy()).all()
        done = int(count)
    forever(20)
    assert int(count) == done + 20


# ---- at random ---------------------------------------------------------------------------------------------------

STEP = st.tuples(st.sampled_from(["add", "multiply", "sin", "tanh", "where"]), st.integers(0, 99), st.integers(0, 99))


@settings(max_examples=25)
@given(st.lists(STEP, min_size=1, max_size=6), st.integers(1, 3), st.integers(12, 20), st.booleans())
def test_random_loops_are_as_in_python(steps, width, turns, assigns):
    v = nt.Variable(np.full(3, 0.5))
    rows = nt.constant(np.random.default_rng(0).uniform(-1, 1, (turns, 3)))

    def walk(rows):
        state = [v * float(k + 1) for k in range(width)]
        for row in rows:
            pool = [*state, row, v.read_value()]
            for name, a, b in steps:
                x, y = pool[a % len(pool)], pool[b % len(pool)]
                if name == "add":
                    pool.append(x + y)
                elif name == "multiply":
                    pool.append(x * y)
                elif name == "where":
                    pool.append(nt.where(x > y, x, -y))
                else:
                    pool.append(getattr(nt, name)(x))
            state = [*state[1:], nt.tanh(pool[-1])]
            if assigns:
                v.assign(v * 0.9 + state[0] * 0.1)
        return [*state, v.read_value()]

    expected = [x.numpy() for x in walk(rows)]
    v.assign(np.full(3, 0.5))
    fn = nt.function(walk)
    for x, y in zip(expected, fn(rows), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-12)


# ---- folds and maps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("initializer", [None, 0.5])
def test_scans_collect_natively(reverse, initializer):
    def scan(rows):
        return nt.scan(lambda s, x: nt.sin(s) + x, rows, initializer, reverse=reverse)

    check(scan, nt.constant(ROWS))


def test_maps_and_folds_run_natively():
    x = nt.constant(ROWS)
    check(lambda rows: nt.map_fn(lambda r: (r * 2.0, nt.sin(r)), rows, dtype=(nt.float32, nt.float32)), x)
    check(lambda rows: nt.foldl(lambda s, r: s * 0.9 + r, rows), x)
    check(lambda rows: nt.foldr(lambda s, r: s * 0.9 + r, rows, 0.0), x)
    check(lambda rows: nt.scan(lambda s, r: (s[0] + r, s[1] * 0.5 + s[0]), rows, (0.0, 1.0)), x)
    check(lambda rows: nt.map_fn(lambda r: r, rows), x)


@pytest.mark.parametrize("seed", [3, None])
def test_a_dataset_that_is_made_within_begins_anew_at_each_call(seed):
    def first():
        total = nt.constant(0.0)
        for rows in nt.data.Dataset.from_tensor_slices(ROWS).shuffle(40, seed=seed).batch(2):
            total = total * 0.5 + rows[0]
        return total

    def several(function):
        nt.random.set_seed(7)
        return [float(function()) for _ in range(3)]

    fn = nt.function(first)
    found = several(fn)
    np.testing.assert_allclose(found, several(first), rtol=1e-6)
    assert (len(set(found)) == 1) == (seed is not None)
    assert loops_of(fn) == (seed is not None)


def test_iterators_side_by_side():
    def ahead(rows):
        others = iter(rows)
        next(others)
        total = nt.constant(0.0)
        for row in rows[:30]:
            total = total * 0.5 + row * next(others)
        return total, next(others)

    check(ahead, nt.constant(ROWS), loops=0)


def test_sums_by_python():
    check(lambda rows: sum(rows), nt.constant(ROWS))


def test_derivatives_of_every_kind_through_a_loop():
    rows, w = nt.constant(np.linspace(-1, 1, 30)), nt.Variable([0.5, -0.3], dtype=nt.float64)

    def walk(w):
        x = w * 1.0
        for row in rows:
            x = nt.sin(x) * w + row * 0.1
        return x

    def derivatives(function):
        with nt.GradientTape() as outer:
            with nt.GradientTape(persistent=True) as inner:
                y = function(w.read_value())
                total = nt.reduce_sum(y * y)
            slope = inner.gradient(total, w)
        with nt.autodiff.ForwardAccumulator(w, nt.constant([1.0, 2.0], nt.float64)) as forward:
            z = function(w.read_value())
        return slope, outer.gradient(slope, w), inner.jacobian(y, w), forward.jvp(z)

    fn = nt.function(walk)
    for _ in range(2):
        for x, y in zip(derivatives(walk), derivatives(fn), strict=True):
            np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-12)
    assert loops_of(fn) == 1


def test_what_tapes_do_in_the_turns_is_done_in_each():
    v = nt.Variable(0.7)

    @nt.custom_gradient
    def doubled(x):
        return x * 2.0, lambda g: g * 3.0

    def stops(rows):
        with nt.GradientTape() as tape:
            x = v * 1.0
            for row in rows:
                with tape.stop_recording():
                    factor = nt.sin(v)
                x = x * factor + row
        return tape.gradient(x, v)

    def watches(rows):
        with nt.GradientTape() as tape:
            x = nt.constant(0.0)
            for row in rows:
                tape.watch(row)
                x = x * 0.5 + row * v
        return tape.gradient(x, v)

    def own(rows):
        with nt.GradientTape() as tape:
            x = v * 1.0
            for row in rows:
                x = doubled(x) * 0.4 + row
        return tape.gradient(x, v)

    for function in (stops, watches, own):
        check(function, nt.constant(ROWS), loops=0)


def test_epochs_whose_end_decides_something_come_in_the_order_of_a_plain_loop():
    def several(decorate):
        v, data = nt.Variable(0.0), nt.data.Dataset.from_tensor_slices(ROWS).shuffle(40, seed=1).batch(2)

        @decorate
        def epoch():
            total = nt.constant(0.0)
            for rows in data:
                total = total * 0.7 + rows[0]
            if total > 0.4:
                v.assign_add(1.0)
            elif total > -0.4:
                v.assign_sub(total)
            return total, v.read_value()

        return [[float(x) for x in epoch()] for _ in range(10)], epoch

    (found, fn), (expected, _) = several(nt.function), several(lambda epoch: epoch)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert fn.experimental_get_tracing_count() == 3
    assert loops_of(fn) > 0


def test_every_third_turn_does_something_else():
    def walk(rows):
        total, k = nt.constant(0.0), 0
        for row in rows:
            total = nt.sin(total + row) if k == 0 else nt.cos(total + row)
            k = (k + 1) % 3
        return total

    check(walk, nt.constant(ROWS), loops=0)


class Counter:
    def __init__(self):
        self.count = 0


COUNTS = {"count": 0}
count = 0


def test_counters_of_python_are_not_missed():
    def local(rows):
        total, k = nt.constant(0.0), 0
        for row in rows:
            k = k + 1
            total = nt.cos(total) + row if k % 10 == 0 else total + row
        return total

    def attribute(rows):
        total, counter = nt.constant(0.0), Counter()
        for row in rows:
            counter.count += 1
            total = nt.cos(total) + row if counter.count % 10 == 0 else total + row
        return total

    def element(rows):
        COUNTS["count"] = 0
        total = nt.constant(0.0)
        for row in rows:
            COUNTS["count"] += 1
            total = nt.cos(total) + row if COUNTS["count"] % 10 == 0 else total + row
        return total

    def everywhere(rows):
        global count
        total, count = nt.constant(0.0), 0
        for row in rows:
            count += 1
            total = nt.cos(total) + row if count % 10 == 0 else total + row
        return total

    def length(rows):
        total, lengths = nt.constant(0.0), []
        for row in rows:
            lengths.append(0.5)
            total = nt.cos(total) + row if len(lengths) % 10 == 0 else total + row
        return total

    def of_a_function(rows):
        k = 0

        def step(total, row):
            nonlocal k
            k += 1
            return nt.cos(total) + row if k % 10 == 0 else total + row

        def walk(step):
            total = nt.constant(0.0)
            for row in rows:
                total = step(total, row)
            return total

        return walk(step)

    def of_a_generator(rows):
        def every_tenth():
            k = 0
            for row in rows:
                k = k + 1
                yield row * 2.0 if k % 10 == 0 else row

        total = nt.constant(0.0)
        for row in every_tenth():
            total = nt.cos(total) + row
        return total

    names = {local: "k", attribute: "counter.count", element: "COUNTS[count]", everywhere: "count", length: "lengths",
             of_a_function: "k", of_a_generator: "k"}  # fmt: skip
    for function, name in names.items():
        fn = check(function, nt.constant(ROWS), loops=0)
        assert f"its turns change {name}, which is Python's" in str(nt.explain(fn))


class Slotted:
    __slots__ = ("k",)
    all = 0

    def __init__(self):
        self.k = 0

    def count(self):
        self.k += 1
        return self.k

    def count_all(self):
        Slotted.all += 1
        return Slotted.all


def hidden_counters():
    """By name: what gives 1, 2, 3 and so on, or random numbers, and holds that where few look."""

    def of_a_default(found=[0]):  # noqa: B006
        found[0] += 1
        return found[0]

    def of_an_attribute():
        of_an_attribute.k += 1
        return of_an_attribute.k

    def of_an_array():
        array[0] += 1
        return int(array[0])

    def of_a_global():
        global deep_count
        deep_count += 1
        return deep_count

    def of_a_dict():
        nested["a"]["b"] += 1
        return nested["a"]["b"]

    global deep_count
    of_an_attribute.k = deep_count = Slotted.all = 0
    array, nested, numbers = np.zeros(1), {"a": {"b": 0}}, iter([*range(1, 99)])
    rng, np_rng = random.Random(3), np.random.default_rng(3)
    random.seed(3)
    return {
        "default": of_a_default, "attribute": of_an_attribute, "array": of_an_array, "global": of_a_global,
        "dict": of_a_dict, "slot": Slotted().count, "class": Slotted().count_all, "iterator": lambda: next(numbers),
        "generator": itertools.count(1).__next__, "deque": deque(range(1, 99)).popleft,
        "cycle": itertools.cycle([1] * 9 + [10]).__next__, "partial": partial(next, itertools.count(1)),
        "random": lambda: random.randrange(11), "Random": lambda: rng.randrange(11),
        "numpy": lambda: int(np_rng.integers(11)),
    }  # fmt: skip


@pytest.mark.parametrize("name", hidden_counters())
def test_hidden_counters_are_not_missed(name):
    def walk(rows, count):
        total = nt.constant(0.0)
        for row in rows:
            total = nt.cos(total) + row if count() % 10 == 0 else total + row
        return total

    rows = nt.constant(ROWS)
    expected = walk(rows, hidden_counters()[name])
    count = hidden_counters()[name]
    np.testing.assert_allclose(nt.function(lambda rows: walk(rows, count))(rows), expected, rtol=1e-5)



def test_what_only_changes_at_first_does_no_harm():
    def walk(rows):
        total, first = nt.constant(0.0), True
        for row in rows:
            total = total + row if first else nt.cos(total) + row
            first = False
        return total

    check(walk, nt.constant(ROWS))


@pytest.mark.parametrize("where", ["within", "around"])
def test_gradients_of_variables_that_turns_read_and_assign(where):
    def made(decorated):
        v = nt.Variable([1.0, 2.0])

        def total():
            y = nt.constant([0.0, 0.0])
            for row in nt.constant(ROWS):
                y = nt.sin(y) + v * row
                v.assign(v * 0.9)
            return y

        def slope(f):
            with nt.GradientTape() as tape:
                y = f()
            return y, tape.gradient(y, v)

        if where == "within":
            return decorated(lambda: slope(total))
        f = decorated(total)
        return lambda: slope(f)

    fn, plain = made(nt.function), made(lambda f: f)
    for _ in range(3):
        for found, expected in zip(fn(), plain(), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_arrays_that_change_from_turn_to_turn():
    array = np.zeros((2, 1 << 21), np.float64)

    def walk(rows):
        array[:] = 0
        total = nt.constant([0.0, 0.0], dtype=nt.float64)
        for row in rows:
            array[0, 0] += 1
            total += nt.reduce_sum(array, axis=1) * nt.cast(row, nt.float64)
        return total

    check(walk, nt.constant(ROWS), loops=0)


def test_a_look_at_one_of_the_things_that_a_loop_gives():
    v = nt.Variable(0.0)

    def walk(rows):
        total = product = nt.constant(1.0)
        for row in rows:
            total = total + row
            product = product * nt.cos(row)
            v.assign(total * product)
        return product if total > 0.0 else nt.sin(product) + v

    rows = nt.constant(ROWS)
    check(walk, rows)
    check(walk, rows - 0.5)


def test_gradients_of_what_the_last_turn_has_computed():
    def gradients(x, rows):
        with nt.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = x
            for row in rows:
                y = nt.sin(y * row) + x
                middle = y * 2.0
                y = middle * 0.5
            z = nt.reduce_sum(y * middle)
        return [tape.gradient(z, source) for source in (middle, y, x)]

    check(gradients, nt.constant([1.0, 2.0]), nt.constant(ROWS), loops=2)


# ---- in stretches ------------------------------------------------------------------------------------------------


def _ranges(x, v):
    for i in nt.range(60):
        x = nt.sin(x * v) + nt.tanh(x) * 0.5 + nt.cast(i, nt.float32) * 0.01
    return x


def _written_out(x, v):
    for _ in range(60):
        x = nt.sin(x * v) + nt.tanh(x) * 0.5
    return x


def _rows(x, v):
    for row in nt.constant(np.repeat(ROWS, 2)):
        x = nt.sin(x * v) + nt.tanh(x) * row
    return x


def _scan(x, v):
    rows = nt.constant(np.linspace(-1, 1, 180, dtype=np.float32).reshape(60, 3))
    return nt.scan(lambda x, row: nt.sin(nt.tanh(x * v) * nt.exp(row) + nt.cos(x)), rows, x)


def _loops_in_loops(x, v):
    for _ in nt.range(20):
        y = x
        for _ in nt.range(20):
            y = nt.sin(y * v) + x
        x = nt.tanh(y)
    return x


def _matrices(x, v):
    w = nt.reshape(nt.concat([x, v, x * v], 0), (3, 3))
    for _ in nt.range(60):
        x = nt.tanh(nt.linalg.matvec(w, x)) + nt.sin(v)
    return x


@pytest.fixture
def _limit():
    before = nt.config.get_loop_memory()
    yield
    nt.config.set_loop_memory(before)


@pytest.mark.usefixtures("_limit")
@pytest.mark.parametrize("loop", [_ranges, _written_out, _rows, _scan, _loops_in_loops, _matrices])
def test_gradients_in_stretches_are_the_same(loop):
    second = loop in (_ranges, _scan)
    x, v = nt.constant([0.1, 0.2, 0.3]), nt.Variable([0.3, 0.5, 0.7])

    def gradient(x):
        with nt.GradientTape() as outer:
            outer.watch(x)
            with nt.GradientTape() as tape:
                tape.watch(x)
                loss = nt.reduce_sum(loop(x, v) ** 2)
            first = tape.gradient(loss, [x, v])
            total = nt.reduce_sum(nt.sin(first[0])) + nt.reduce_sum(first[1])
        return (loss, *first, *(outer.gradient(total, [x, v]) if second else ()))

    found, shapes = [], []
    for limit in (None, 0):
        nt.config.set_loop_memory(limit)
        fn = nt.function(gradient)
        found.append([np.asarray(y) for y in fn(x)])
        program = nt.explain(fn, x).signatures[0].programs[0]
        shapes.append((program.arena, len(program.kernels)))
    assert shapes[0] != shapes[1]
    for y, z in zip(*found, strict=True):
        np.testing.assert_allclose(z, y, rtol=1e-5, atol=1e-5 * np.abs(y).max())


@pytest.mark.usefixtures("_limit")
def test_training_in_stretches_is_the_same():
    rows = np.linspace(-1, 1, 50, dtype=np.float32)

    def run(limit):
        nt.config.set_loop_memory(limit)
        v = nt.Variable([0.5, -0.5])

        @nt.function
        def step(rows):
            for _ in nt.range(20):
                state, total = nt.constant([0.1, 0.2]), nt.constant(0.0)
                with nt.GradientTape() as tape:
                    for row in rows:
                        state = nt.tanh(state * v + row)
                        total += nt.reduce_sum(state**2)
                v.assign_sub(0.001 * tape.gradient(total, v))
            return total

        losses = [float(step(nt.constant(rows))) for _ in range(3)]
        return [*losses, *v.numpy()]

    np.testing.assert_allclose(run(0), run(None), rtol=1e-5)


@pytest.mark.usefixtures("_limit")
def test_the_limit_holds_for_what_is_recorded_next():
    def walk():
        x = nt.constant([0.1, 0.2, 0.3])
        with nt.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in range(60):
                y = nt.sin(y) * nt.tanh(y) + x
        tape.gradient(y, x).numpy()
        return nt.explain().signatures[0].programs[0].arena

    before = walk()
    nt.config.set_loop_memory(0)
    less = walk()
    assert less < before
    nt.config.set_loop_memory(None)
    assert walk() == before
    with pytest.raises(ValueError, match="-1 bytes"):
        nt.config.set_loop_memory(-1)
    with pytest.raises(TypeError):
        nt.config.set_loop_memory(1e9)
    assert nt.config.get_loop_memory() is None
