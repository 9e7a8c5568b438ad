"""How long each kernel of a program takes.

Each runs by itself, many times in a row within one native call, on memory of its own with made-up elements: floats
between 0.5 and 1.5, integers 0, Python numbers near 0. What others hold is not touched. The numbers are medians of a
few such calls, and what lies in caches is what the kernel itself left there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from numtape.backends.buffer import Buffer, allocate
from numtape.backends.native import Executable
from numtape.dtypes import TensorType

BATCHES, BATCH_SECONDS = 5, 2e-4
"""So many native calls are timed, of about so many seconds each."""
MOST = 1024
"""Runs of a kernel in one call."""


def measure(executable: Executable) -> tuple[list[float], float]:
    """The seconds of each step of a program, and of all of them in one call; nothing for a program without a step."""
    program = executable.plan.program
    draw = np.random.default_rng(0)
    types = [program.type(k) for k in program.inputs]
    arrays = [_made_up(t, draw) for t in types[: executable.array_count]]
    numbers = [_number(t) for t in executable.scalars]
    binding = executable.bind()
    executable.write(binding, [*arrays, *binding.results], numbers)
    executable.entry(binding.header_address)  # from here on all addresses, and everything between kernels, are there
    changing = [binding.keep[0], *(b.array for b in [*arrays, *binding.results])]
    before = [a.copy() for a in changing]

    def seconds(calls: Sequence[int]) -> float:
        words = np.array(calls or [0], np.int64)
        header = binding.header.copy()
        header[1], header[4], header[5] = 0, words.ctypes.data, len(calls) // 2
        address = header.ctypes.data
        for a, old in zip(changing, before, strict=True):
            np.copyto(a, old)
        started = time.perf_counter()
        executable.entry(address)
        return time.perf_counter() - started

    def median(calls: list[int]) -> float:
        once = min(seconds(calls) for _ in range(2))
        count = min(MOST, max(1, int(BATCH_SECONDS / max(once, 1e-9))))
        return float(np.median([seconds(calls * count) / count for _ in range(BATCHES)]))

    steps = binding.keep[2].calls.tolist()
    found = [median(steps[2 * k : 2 * k + 2]) for k in range(len(executable.plan.steps))]
    return found, median(steps[: 2 * len(found)]) if found else 0.0


def _made_up(type: TensorType, draw: Any) -> Buffer:
    buffer = allocate(type)
    if type.dtype.is_floating:
        buffer.array[:] = draw.random(type.size) + 0.5
    else:
        buffer.array[:] = draw.random(type.size) < 0.5 if type.dtype.is_bool else 0
    return buffer


def _number(type: TensorType) -> Any:
    if type.dtype.is_floating:
        return 1e-3
    return False if type.dtype.is_bool else 0
