"""How long each kernel of a program takes.

Each runs by itself, many times in a row within one native call, on memory of its own with made-up elements: floats
between 0.5 and 1.5, integers 0, Python numbers near 0. What others hold is not touched. The numbers are medians of a
few such calls, of long kernels the shorter of two, and what lies in caches is what the kernel itself left there. What
is within a loop is measured on the memory of its first turn, again and again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from numtape.backends import by_turns
from numtape.backends.buffer import Buffer, allocate
from numtape.backends.native import Executable, runner
from numtape.codegen.turns import LoopStep
from numtape.dtypes import TensorType
from numtape.ir.kernel import Step

BATCHES, BATCH_SECONDS = 5, 2e-4
"""So many native calls are timed, of about so many seconds each."""
MOST = 1024
"""Runs of a kernel in one call."""


class Timing(NamedTuple):
    """The seconds of a step, and for a loop those of its steps, in all turns together."""

    seconds: float
    inside: tuple[Timing, ...] = ()


def measure(executable: Executable) -> tuple[tuple[Timing, ...], float]:
    """How long each step of a program takes, and all of them in one call; nothing for a program without a step."""
    program = executable.plan.program
    draw = np.random.default_rng(0)
    types = [program.type(k) for k in program.inputs]
    arrays = [_made_up(t, draw) for t in types[: executable.array_count]]
    numbers = [_number(t) for t in executable.scalars]
    binding = executable.bind()
    executable.write(binding, [*arrays, *binding.results], numbers)
    entry = runner()
    entry(binding.header_address)  # from here on all addresses, and everything between kernels, are there
    changing = [binding.keep[0], *(b.array for b in [*arrays, *binding.results])]
    before = [a.copy() for a in changing]

    def seconds(calls: Sequence[int]) -> float:
        words = np.array(calls, np.int64)
        header = binding.header.copy()
        header[[by_turns.PATCH_COUNT, by_turns.TABLE, by_turns.LENGTH]] = 0, words.ctypes.data, len(calls) // 2
        address = header.ctypes.data
        for a, old in zip(changing, before, strict=True):
            np.copyto(a, old)
        started = time.perf_counter()
        entry(address)
        return time.perf_counter() - started

    def median(calls: Sequence[int]) -> float:
        once = min(seconds(calls) for _ in range(2))
        if once > BATCH_SECONDS:  # long enough to tell
            return once
        count = min(MOST, max(1, int(BATCH_SECONDS / max(once, 1e-9))))
        return float(np.median([seconds([*calls] * count) / count for _ in range(BATCHES)]))

    def timings(
        steps: Sequence[Step | LoopStep], table: Any, first: int = 0, around: Any = None, outermost: Any = None
    ) -> tuple[Timing, ...]:
        """`around` are the words of the loop that these steps are in, which then runs one of them alone."""
        found = []
        loops = iter(table.inner)
        for k, step in enumerate(steps[first:], first):
            call = table.calls[2 * k : 2 * k + 2]
            if around is not None:
                around[by_turns.STEPS] = call.ctypes.data
            whole = call if outermost is None else outermost
            took, inside = median(whole), tuple[Timing, ...]()
            if isinstance(step, LoopStep):
                start = (int(call[1]) - table.blocks.ctypes.data) // 8
                block = table.blocks[start : start + by_turns.WORDS]
                kept = block.copy()
                block[[by_turns.MOVE_COUNT, by_turns.FIRST_COUNT, by_turns.STEP_COUNT]] = 0, 0, 1
                inside = timings(step.steps, next(loops)[0], step.once, block, whole)
                block[:] = kept
            found.append(Timing(took, inside))
        return tuple(found)

    table = binding.keep[2]
    found = timings(executable.plan.steps, table)
    return found, median(table.calls.tolist()) if found else 0.0


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
