"""Kernels by their hash: in memory, on disk, else compiled.

A kernel's key folds in everything its machine code depends on: the source and parameter types, the versions of numba,
llvmlite and numtape's own code generator, the processor and its features. Numba is imported only when something has to
be compiled.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from numtape.cache.statistics import COUNTERS
from numtape.cache.store import Store, default_directory
from numtape.ir.kernel import Kernel

_lock = threading.RLock()
_addresses: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Loading:
    """How a kernel came into this process: by its key, when, after how many seconds, and whether it was compiled or
    found on disk."""

    key: str
    when: float
    seconds: float
    compiled: bool


LOADINGS: dict[str, Loading] = {}
"""The last loading of each kernel."""


def address(kernel: Kernel) -> int:
    """Where the kernel's entry is, compiling it if nobody has."""
    key = kernel.key
    found = _addresses.get(key)
    if found is not None:
        return found
    from numtape.codegen.machine import load

    with _lock:
        if key in _addresses:
            return _addresses[key]
        from hashlib import sha256

        full = sha256(f"{key} {fingerprint()}".encode()).hexdigest()
        symbol = f"nt_{full}"
        started = time.perf_counter()
        code = store().get(full)
        compiled = code is None
        if code is not None:
            COUNTERS.disk_hits += 1
        else:
            with _uninterrupted():
                from numtape.codegen.compile import compile_kernel

                code = compile_kernel(kernel, symbol)
            COUNTERS.compile_seconds += time.perf_counter() - started
            COUNTERS.compilations += 1
            store().put(full, code, {"kernel": kernel.name})
        _addresses[key] = load(code, symbol)
        LOADINGS[key] = Loading(key, time.time(), time.perf_counter() - started, compiled)
        return _addresses[key]


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C: an exception at any line would leave Numba unable to compile for good."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            handler(*caught[0])


@cache
def store() -> Store:
    """The kernels on disk."""
    return Store(default_directory())


@cache
def fingerprint() -> str:
    """What machine code depends on beside the kernel."""
    from numtape.codegen.machine import description

    folder = Path(__file__).parent.parent / "codegen"
    from hashlib import sha256

    sources = sha256()
    for path in sorted(folder.glob("*.py")):
        sources.update(path.read_bytes())
    return f"{_numba_version()} {sources.hexdigest()} {description()}"


def _numba_version() -> str:
    """Numba's version, without importing it: its own file says it, and the installer's records need more time."""
    spec = find_spec("numba")
    if spec is not None and spec.origin is not None:
        with suppress(OSError):
            return Path(spec.origin).with_name("_version.py").read_text()
    from importlib.metadata import version

    return version("numba")


def forget() -> int:
    """Drop all kernels, those on disk included; returns how many files there were. Loaded code stays where it is."""
    with _lock:
        _addresses.clear()
        return store().clear()


def _after_fork() -> None:
    """Another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
