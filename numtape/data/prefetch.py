"""Prefetching: a thread that prepares the next elements while the last are in use.

The thread holds nothing but `_Stock`, so that a cursor that nobody needs any more goes away, and tells the thread to
end. At the interpreter's exit all are told to, and waited for, as long as that is a matter of seconds.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from typing import Any

from numtape.data.cursors import Cursor, Over, State
from numtape.data.held import revived, saved

_SECONDS_AT_EXIT = 5.0
_stocks: weakref.WeakSet[_Stock] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """A thread that runs while the interpreter is torn down may crash it."""
    threads = [stock.thread for stock in list(_stocks) if stock.thread is not None]
    for stock in list(_stocks):
        stock.stop()
    deadline = time.monotonic() + _SECONDS_AT_EXIT
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))


class _Stock:
    """What is ready, and the thread that makes it."""

    def __init__(self, source: Cursor, size: int) -> None:
        self.source, self.size = source, size
        self.working = threading.Lock()
        """Held while the source is used."""
        self.changed = threading.Condition()
        self.ready: deque[Any] = deque()
        """Elements, each in a list; exceptions; and at the end an empty list."""
        self.stopped = False
        self.thread: threading.Thread | None = None
        _stocks.add(self)

    def start(self) -> None:
        self.thread = threading.Thread(target=self.produce, name="numtape-prefetch", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.stopped = True
        with self.changed:
            self.changed.notify_all()

    def produce(self) -> None:
        """Keep the stock full."""
        while True:
            with self.changed:
                while len(self.ready) >= self.size and not self.stopped:
                    self.changed.wait()
            with self.working:
                if self.stopped:
                    return
                try:
                    outcome: Any = self.source.take(1)
                except BaseException as error:
                    outcome = error
                with self.changed:
                    self.ready.append(outcome)
                    self.changed.notify_all()
            if outcome == []:
                return
            del outcome


class Prefetching(Over):
    name = "prefetch"

    def __init__(self, source: Cursor, size: int) -> None:
        self.source = source
        self.stock = _Stock(source, size)

    def __del__(self) -> None:
        self.stock.stop()

    def take(self, count: int) -> list[Any]:
        stock = self.stock
        if stock.thread is None:
            stock.start()
        found: list[Any] = []
        while len(found) < count:
            with stock.changed:
                while not stock.ready:
                    stock.changed.wait()
                outcome = stock.ready[0]
                if outcome == []:
                    break
                stock.ready.popleft()
                stock.changed.notify_all()
            if isinstance(outcome, BaseException):
                raise outcome
            found += outcome
        return found

    def state(self) -> State:
        with self.stock.working:
            ready = list(self.stock.ready)
            failure = next((outcome for outcome in ready if isinstance(outcome, BaseException)), None)
            if failure is not None:
                raise RuntimeError("a prefetched element failed; ask for it before you save the iterator") from failure
            return {"ready": saved([element for outcome in ready for element in outcome]), **super().state()}

    def restore(self, state: State) -> None:
        """Only before the first `take`."""
        ready = revived(state["ready"], self.source)
        super().restore(state)
        self.stock.ready.extend([element] for element in ready)
