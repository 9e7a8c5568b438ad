"""What tapes and accumulators have in common: each holds a trace, and knows which ranges of it ran within its block.

The recordings of a thread that are under way stand in `STATE.tapes`, outermost first. The one that is entered last is
the innermost, whatever was recorded before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Self

from numtape.tape.detour import Detour
from numtape.tape.trace import LENGTH, STATE, Trace


class Recording:
    """Ranges of a trace's instructions: those that ran within a block."""

    # What holds before anything is recorded stands here, since tapes are made in every step.
    _kind = "recording"
    _trace: Trace | None = None
    _active = False
    _spent = False
    """Whether the record was given up; entering then begins a new one."""
    _start = 0
    _ranges: tuple[int, ...] = ()
    """Half-open ranges of instructions, one after another: start, stop, start, stop, ..."""
    _detours: tuple[Detour, ...] = ()

    def __enter__(self) -> Self:
        if self._active:
            raise ValueError(f"the {self._kind} is recording already; leave its block before entering it again")
        state = STATE
        tapes = state.tapes
        trace = state.trace
        if self._trace is None:
            if not tapes and (trace.assigned or trace.packs or trace.holders or trace.node.length >= LENGTH):
                trace = state.step_boundary()
            self._trace = trace
            trace.holders += 1
            if self._spent:
                self._spent = False
                self._forget()
        elif self._trace is not trace:
            trace = self._bring(self._trace)
            if trace is not self._trace:
                self._trace.holders -= 1
                trace.holders += 1
                self._trace = trace
                state.resume(trace)
        self._active = True
        self._start = trace.node.length
        tapes += [self]  # not append: an interrupt would show up behind the call, and nobody would leave the tape
        return self

    def __exit__(self, *failure: object) -> None:
        if self._active:
            self._pause()

    def _pause(self) -> None:
        self._active = False
        tapes = STATE.tapes
        if tapes and tapes[-1] is self:
            tapes.pop()
        else:
            try:
                self._push_within()
            finally:
                tapes[:] = [tape for tape in tapes if tape is not self]
        if self._trace is not None:
            self._trace.tape_end = end = self._trace.node.length
            self._ranges = (*self._ranges, self._start, end)

    def _bring(self, trace: Trace) -> Trace:
        """Go on recording on the own trace, or on a copy if another thread does."""
        state = STATE
        if trace.owner != state.trace.owner:
            return trace.fork()
        if state.tapes:
            raise ValueError(
                f"an earlier {self._kind} is used within the block of a later one, whose record does not reach back to "
                "it; use it before or after that block, or enter it within"
            )
        state.resume(trace)
        return trace

    def _forget(self) -> None:
        """Begin with nothing recorded."""
        self._ranges = ()
        self._detours = ()

    def __del__(self, at_exit: Callable[[], bool] = sys.is_finalizing) -> None:
        trace = self._trace
        if trace is not None and not at_exit():  # when modules have no names any more
            trace.holders -= 1
            trace.let_go()

    # ---- one within another ----------------------------------------------------------------------------------------

    def _push(self) -> None:
        """Record what is due for what ran so far."""

    def _push_within(self) -> None:
        """Record what is due to those within this block, before it changes what they stand in."""
        tapes = STATE.tapes
        if not tapes or tapes[-1] is self or self not in tapes:
            return
        for inner in reversed(tapes[tapes.index(self) + 1 :]):
            if isinstance(inner, Recording):
                inner._push()

    def _leave_out(self, start: int, stop: int) -> None:
        """What ran last, from `start` to `stop`, is not to be in the record."""
        self._ranges = (*self._ranges, self._start, start)
        self._start = stop
