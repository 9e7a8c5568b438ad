"""Run a program's loop some turns at a time, so that Python can answer Ctrl-C and tell how far it is.

In comes the table of a program's steps with the place of its loop; between two stretches of turns the thread is back in
Python. Who stops there stops between two turns: what comes after the loop still runs, on what the turns so far have
made. So this is only for loops that hand on all that they compute, as a training loop does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

SECONDS = 0.05
"""Python has a look so often."""
FIRST = 8
"""How many turns run at first, to see how long they take."""
WATCHERS: list[tuple[int, Callable[[int, int], object]]] = []
"""Who wants to know, every so many turns, how many are done, and of how many."""

# Where the words of a program's header are, see `numtape.backends.native.RUNNER`.
PATCH_COUNT, TABLE, LENGTH = 1, 4, 5
# Where the words of a loop's block are, see `numtape.codegen.turns.TURNS`.
START_COUNT, MOVE_COUNT, STEPS, FIRST_COUNT, STEP_COUNT, COUNT, WORDS = 1, 3, 5, 6, 7, 8, 10


class ByTurns:
    """One binding's loop: the header for what comes before it and its first turns, for more turns, and for the rest."""

    def __init__(self, header: npt.NDArray[Any], calls: npt.NDArray[Any], block: npt.NDArray[Any], at: int) -> None:
        """`block` are the words of the loop, which is step `at` of `calls`."""
        self.count = int(block[COUNT])
        self.seconds = 0.0
        """How long a turn takes, as far as that is known."""
        self._block = block
        self._more = block[:WORDS].copy()
        self._more[STEPS] += 16 * self._more[FIRST_COUNT]
        self._more[STEP_COUNT] -= self._more[FIRST_COUNT]
        self._more[[START_COUNT, FIRST_COUNT]] = 0
        self._again = np.array([calls[2 * at], self._more.ctypes.data], np.int64)
        self._headers = [header.copy() for _ in range(3)]
        first, more, rest = self._headers
        words = [PATCH_COUNT, TABLE, LENGTH]
        first[LENGTH] = at + 1
        more[words] = 0, self._again.ctypes.data, 1
        rest[words] = 0, header[TABLE] + 16 * (at + 1), header[LENGTH] - at - 1

    def run(self, entry: Callable[[int], None]) -> None:
        """Run the program by the native `entry`; an exception comes out when all is done that has been begun."""
        first, more, rest = (header.ctypes.data for header in self._headers)
        done = 0
        begun = False
        try:
            while done < self.count:
                some = self._some(done)
                started = time.perf_counter()
                (self._more if done else self._block)[COUNT] = some
                begun = True  # an interrupt shows up behind a call
                entry(more if done else first)
                self.seconds = (time.perf_counter() - started) / some
                done += some
                for every, tell in WATCHERS:
                    if done % every == 0 or done == self.count:
                        tell(done, self.count)
        finally:
            with suppress(KeyboardInterrupt):  # one is under way
                if not begun:
                    entry(first)
                entry(rest)
                self._block[COUNT] = self.count

    def _some(self, done: int) -> int:
        """How many turns to run before the next look."""
        some = int(SECONDS / self.seconds) if self.seconds else FIRST
        return min([self.count - done, max(some, 1), *(every - done % every for every, _ in WATCHERS)])
