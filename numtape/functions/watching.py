"""`progress`: who is told how far a loop is that runs natively."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from numtape.backends.by_turns import WATCHERS
from numtape.tape.trace import STATE

WIDTH = 30


@contextmanager
def progress(callback: Callable[[int, int], object] | None = None, every: int = 1) -> Iterator[None]:
    """Within the block, tell after every so many turns of a loop that runs natively how far it is.

    `callback(done, count)` gets how many turns are done, and of how many; without one there is a bar on the terminal,
    drawn ten times a second at most. What it raises comes out of the call, in which the loop then ends early. Loops in
    the middle of a gradient run as a whole, and so do those over single numbers: nobody is told of them. ValueError if
    `every` is less than 1.

    >>> import numtape as nt
    >>> numbers, total = nt.data.Dataset.range(600).batch(6), nt.Variable(0, dtype=nt.int64)
    >>> @nt.function
    ... def add_up():
    ...     for batch in numbers:
    ...         total.assign_add(nt.reduce_sum(batch))
    >>> with nt.progress(lambda done, count: print(f"{done} of {count}"), every=40):
    ...     add_up()
    40 of 95
    80 of 95
    95 of 95
    >>> int(total)
    179700
    """
    if every < 1:
        raise ValueError(f"nt.progress: every={every} turns; it has to be 1 or more")
    watcher = every, callback or _Bar()
    WATCHERS.append(watcher)
    try:
        yield
        STATE.trace.materialize()  # what was called within may be pending
    finally:
        WATCHERS.remove(watcher)


class _Bar:
    """A line on the terminal."""

    def __init__(self) -> None:
        self._drawn = 0.0

    def __call__(self, done: int, count: int) -> None:
        now = time.monotonic()
        if done < count and now - self._drawn < 0.1:
            return
        self._drawn = now
        full = WIDTH * done // count
        end = "\n" if done == count else ""
        sys.stderr.write(f"\r[{'=' * full}{' ' * (WIDTH - full)}] {done}/{count}{end}")
        sys.stderr.flush()
