"""The two caches: programs in memory by the path of their recording, kernels on disk by the hash of their source."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from numtape._front import front
from numtape.cache import kernels as _kernels
from numtape.cache.statistics import COUNTERS, Stats

__all__ = ["Stats", "clear", "directory", "stats"]
__getattr__, __dir__ = front(__name__, __all__)

FORGET: list[Callable[[], None]] = []
"""What `clear` calls to drop what is in memory; the layer above adds its own."""


def stats() -> Stats:
    """A copy of the counters.

    >>> import numtape as nt
    >>> before = nt.cache.stats()
    >>> float(nt.constant(2.0) * 3.0)
    6.0
    >>> after = nt.cache.stats()
    >>> after.memory_hits + after.programs - before.memory_hits - before.programs
    1
    """
    return dataclasses.replace(COUNTERS)


def clear() -> int:
    """Drop all programs and all kernels, those on disk included; returns how many files there were.

    What is recorded or running goes on. Other processes lose their disk cache as well, and compile again.
    """
    for forget in FORGET:
        forget()
    return _kernels.forget()


def directory() -> Path:
    """Where kernels are kept on disk: $NUMTAPE_CACHE_DIR, or the platform's place for caches."""
    return Path(_kernels.store().directory)
