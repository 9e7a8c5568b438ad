"""`nt.queue`, and row Q02 of the semantics."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest

import numtape as nt
from tests.tape.checks import same

FIFO = nt.queue.FIFOQueue


def started(function: Any, *arguments: Any) -> tuple[threading.Thread, list[Any]]:
    """A thread that runs a function, and the list that its result, or exception, is put in."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(function(*arguments))
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, found


def ended(thread: threading.Thread) -> None:
    thread.join(10)
    assert not thread.is_alive()


def blocked(thread: threading.Thread) -> None:
    thread.join(0.03)
    assert thread.is_alive()


def test_first_in_first_out():
    q = FIFO(3, [nt.float32, nt.int32])
    q.enqueue([1.0, 2])
    q.enqueue((3, np.int32(4)))
    assert q.size().numpy() == 2 and q.size().dtype == nt.int32
    assert [t.numpy() for t in q.dequeue()] == [1.0, 2]
    assert [t.numpy() for t in q.dequeue()] == [3.0, 4]
    assert (q.dtypes, q.shapes, q.names, q.name) == ([nt.float32, nt.int32], [None, None], None, "fifo_queue")


def test_many():
    q = FIFO(10, nt.float32, shapes=[()])
    q.enqueue_many([[1.0, 2.0, 3.0]])
    q.enqueue_many([np.zeros(0, np.float32)])
    assert q.dequeue().numpy() == 1.0
    assert q.dequeue_many(2).numpy().tolist() == [2.0, 3.0]
    assert q.dequeue_many(0).numpy().tolist() == []
    pairs = FIFO(-1, [nt.int64, nt.bool], shapes=[(2,), ()])
    pairs.enqueue_many([np.arange(6).reshape(3, 2), [True, False, True]])
    assert [t.numpy().tolist() for t in pairs.dequeue_many(3)] == [[[0, 1], [2, 3], [4, 5]], [True, False, True]]


def test_names():
    q = FIFO(10, [nt.float32, nt.int32], shapes=[(2,), ()], names=["x", "n"])
    q.enqueue({"n": 1, "x": [1.0, 2.0]})
    q.enqueue_many({"x": [[3.0, 4.0]], "n": [2]})
    assert nt.nest.map_structure(lambda t: t.numpy().tolist(), q.dequeue()) == {"x": [1.0, 2.0], "n": 1}
    assert nt.nest.map_structure(lambda t: t.numpy().tolist(), q.dequeue_up_to(1)) == {"x": [[3.0, 4.0]], "n": [2]}
    for wrong in ([[1.0, 2.0], 1], {"x": [1.0, 2.0]}):
        with pytest.raises(ValueError, match="dict"):
            q.enqueue(wrong)


def test_what_does_not_fit():
    q = FIFO(10, [nt.float32, nt.int32], shapes=[(2,), ()])
    for wrong, error in (
        ([[1.0, 2.0]], ValueError), ([[1.0], 1], ValueError), ([[1.0, 2.0], 1.5], TypeError), ({"a": 1}, ValueError),
        ([nt.constant([1, 2]), 1], ValueError), ([["a", "b"], 1], TypeError),
    ):  # fmt: skip
        with pytest.raises(error):
            q.enqueue(wrong)
    for wrong in ([1.0, 2], [[[1.0, 2.0]], [1, 2]], [[[1.0, 2.0, 3.0]], [1]]):
        with pytest.raises(ValueError, match="fifo_queue"):
            q.enqueue_many(wrong)
    assert q.size().numpy() == 0, "nothing half done"
    with pytest.raises(ValueError, match="shapes"):
        FIFO(10, nt.float32).dequeue_many(1)
    with pytest.raises(ValueError, match="at once"):
        q.dequeue_many(11)
    for call in (
        lambda: FIFO(0, nt.float32), lambda: FIFO(3, [nt.float32] * 2, shapes=[()]),
        lambda: FIFO(3, nt.int8, names=["ab", "c"]), lambda: nt.queue.RandomShuffleQueue(3, 3, nt.int32),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="queue"):
            call()


def test_waiting_for_elements_and_for_room():
    q = FIFO(2, nt.int32, shapes=[()])
    taker, taken = started(q.dequeue_many, 2)
    q.enqueue(1)
    blocked(taker)
    q.enqueue(2)
    ended(taker)
    assert taken[0].numpy().tolist() == [1, 2]
    adder, _ = started(q.enqueue_many, [[3, 4, 5, 6]])
    blocked(adder)
    assert q.size().numpy() == 2
    assert [q.dequeue().numpy() for _ in range(4)] == [3, 4, 5, 6]
    ended(adder)


def test_a_closed_queue():
    q = FIFO(3, nt.int32, shapes=[()])
    q.enqueue_many([[1, 2]])
    assert not q.is_closed()
    q.close()
    assert q.is_closed() and q.is_closed().dtype == nt.bool
    with pytest.raises(nt.errors.CancelledError, match="closed"):
        q.enqueue(3)
    with pytest.raises(nt.errors.OutOfRangeError, match="2 elements where 3"):
        q.dequeue_many(3)
    assert q.dequeue_up_to(3).numpy().tolist() == [1, 2]
    for take in (q.dequeue, lambda: q.dequeue_up_to(3)):
        with pytest.raises(nt.errors.OutOfRangeError):
            take()
    with pytest.raises(IndexError):
        q.dequeue()


def test_closing_ends_the_waiting():
    q = FIFO(2, nt.int32)
    taker, taken = started(q.dequeue)
    blocked(taker)
    q.close()
    ended(taker)
    assert isinstance(taken[0], nt.errors.OutOfRangeError)
    for cancel in (True, False):
        q = FIFO(1, nt.int32)
        q.enqueue(1)
        adder, added = started(q.enqueue, 2)
        blocked(adder)
        q.close(cancel_pending_enqueues=cancel)
        assert q.dequeue().numpy() == 1
        if cancel:
            ended(adder)
            assert isinstance(added[0], nt.errors.CancelledError)
        else:
            assert q.dequeue().numpy() == 2, "what waited is still added"
            ended(adder)
        with pytest.raises(nt.errors.OutOfRangeError):
            q.dequeue()


def test_many_threads_lose_nothing():
    q = FIFO(4, nt.int32, shapes=[()])
    adders = [started(lambda k=k: [q.enqueue(100 * k + n) for n in range(50)])[0] for k in range(3)]
    takers = [started(lambda: [int(q.dequeue()) for _ in range(25)]) for _ in range(4)]
    many = started(lambda: [q.dequeue_many(2).numpy().tolist() for _ in range(25)])
    for thread in [*adders, *(t for t, _ in takers), many[0]]:
        ended(thread)
    found = [n for _, (taken,) in takers for n in taken] + [n for pair in many[1][0] for n in pair]
    assert Counter(found) == Counter(100 * k + n for k in range(3) for n in range(50))


def test_an_interrupted_wait_leaves_the_queue_usable(monkeypatch):
    q = FIFO(2, nt.int32, shapes=[()])
    q.enqueue(1)

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(q._changed, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            q.dequeue_many(2)
        with pytest.raises(KeyboardInterrupt):
            q.enqueue_many([[2, 3]])
    assert q.dequeue_many(2).numpy().tolist() == [1, 2]
    q.close()
    with pytest.raises(nt.errors.OutOfRangeError):
        q.dequeue()


def test_random_order():
    def order(seed: int) -> list[int]:
        q = nt.queue.RandomShuffleQueue(100, 0, nt.int32, shapes=[()], seed=seed)
        q.enqueue_many([np.arange(50, dtype=np.int32)])
        return q.dequeue_many(20).numpy().tolist() + [int(q.dequeue()) for _ in range(30)]

    assert sorted(order(1)) == list(range(50))
    assert order(1) == order(1) != order(2)
    firsts = Counter(order(seed)[0] // 10 for seed in range(100))
    assert len(firsts) == 5 and max(firsts.values()) < 40


def test_some_elements_stay():
    q = nt.queue.RandomShuffleQueue(10, 2, nt.int32, shapes=[()], seed=1)
    q.enqueue_many([[1, 2, 3]])
    q.dequeue()
    taker, taken = started(q.dequeue)
    blocked(taker)
    q.enqueue(4)
    ended(taker)
    q.close()
    assert set(q.dequeue_many(2).numpy().tolist()) < {1, 2, 3, 4} - {int(taken[0])}


def test_priorities():
    q = nt.queue.PriorityQueue(10, [nt.float32], [()])
    assert (q.dtypes, q.shapes) == ([nt.int64, nt.float32], [(), ()])
    for priority, value in ((5, 0.5), (2, 0.1), (9, 0.9), (2, 0.2)):
        q.enqueue((priority, value))
    first, *rest = q.dequeue()
    assert first.dtype == nt.int64 and first.numpy() == 2 and rest[0].numpy() == np.float32(0.1)
    priorities, values = q.dequeue_many(3)
    assert priorities.numpy().tolist() == [2, 5, 9]
    np.testing.assert_array_equal(values, np.float32([0.2, 0.5, 0.9]))


def test_Q02_queues_cut():
    x = nt.Variable([1.0, 2.0])
    q = FIFO(10, nt.float32, shapes=[(2,)])
    with nt.GradientTape(persistent=True) as tape:
        y = x * 2.0
        tape.watch(y)
        for vals in (y, x, x * y):
            q.enqueue(vals)
        q.enqueue_many([nt.stack([y, x])])
        elements = [q.dequeue(), q.dequeue(), q.dequeue(), q.dequeue_many(2)]
        z = sum(nt.reduce_sum(e * e) for e in elements)
        mixed = nt.reduce_sum(y * elements[0])
    assert tape.gradient(z, [x, y]) == [None, None]
    same(tape.gradient(mixed, x), [4.0, 8.0])
    with nt.GradientTape() as tape:
        tape.watch(elements[0])
        z = nt.reduce_sum(elements[0] ** 2)
    same(tape.gradient(z, elements[0]), [4.0, 8.0])


def test_a_variable_is_read_when_it_is_added():
    v = nt.Variable(1.0)
    q = FIFO(10, nt.float32)
    q.enqueue(v)
    v.assign_add(1.0)
    q.enqueue(v)
    v.assign_add(1.0)
    assert [q.dequeue().numpy() for _ in range(2)] == [1.0, 2.0]
    assert v.numpy() == 3.0


def test_repr():
    q = FIFO(2, nt.int32, name="work")
    q.enqueue(1)
    assert repr(q) == "<nt.queue.FIFOQueue 'work': 1 elements, capacity 2, open>"

