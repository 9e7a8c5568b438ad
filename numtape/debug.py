"""Finding the line that made a nan or an inf.

While numbers are checked, a step keeps what it is given. If something in what it gives is not finite, the step is
computed again, instruction by instruction, by the NumPy interpreter; from the bad result a way of values that are not
finite leads back, also through the turns of loops, to the instruction that made the first of them out of finite
operands. Without checks nothing is kept and nothing is slower.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape._front import front
from numtape.backends.buffer import Buffer
from numtape.backends.reference import given, interpret_all
from numtape.explaining.places import Place, Places
from numtape.ir.loop import LOOP, STACKED, parts
from numtape.ir.op import Kind
from numtape.ir.program import CONSTANT, INPUT, Program
from numtape.tape.tensor import EPOCH
from numtape.tape.trace import STATE, WATCHES

__all__ = ["check_numerics", "disable_check_numerics", "enable_check_numerics"]
__getattr__, __dir__ = front(__name__, __all__)


class check_numerics:
    """Within it a step that gives a nan or an inf is a FloatingPointError that names the line where it came from.

    The step runs first: the error comes where its results are looked at, or where the next step begins, and Variables
    have their new values by then. It says which operation made the first such number out of finite ones, in which line,
    whether forward or backward, for a line that ran several times in which run (the first is 1), and what its operands
    were; or that an input was not finite to begin with. Numbers on
    the way that nothing comes of, such as a logarithm of 0 that `nt.where` leaves out, are no error, unless you hold
    the tensor that has them: that is a result. It holds for the thread that enters it; each step then takes the time to
    copy what it changes, and to look at its results.

    >>> import numtape as nt
    >>> p = nt.Variable([0.5, 0.0])
    >>> with nt.debug.check_numerics():
    ...     with nt.GradientTape() as tape:
    ...         loss = -nt.reduce_sum(nt.math.log(p))
    ...     float(loss)
    Traceback (most recent call last):
        ...
    FloatingPointError: forward: log gave -inf in 1 of 2 elements, the first at [1]
      ...:3
        loss = -nt.reduce_sum(nt.math.log(p))
      x: float32[2], from 0.0 to 0.5
    """

    def __enter__(self) -> None:
        STATE.trace.materialize()
        _change(1)

    def __exit__(self, kind: object, *failure: object) -> None:
        try:
            if kind is None:
                STATE.trace.materialize()
        finally:
            _change(-1)


def enable_check_numerics(stack_height_limit: int = 30, path_length_limit: int = 50) -> None:
    """Check from here on what `nt.debug.check_numerics` checks, in this thread. The options change nothing.

    >>> import numtape as nt
    >>> nt.debug.enable_check_numerics()
    >>> float(nt.constant(1.0) / 0.0)
    Traceback (most recent call last):
        ...
    FloatingPointError: forward: divide gave inf
      ...
    >>> nt.debug.disable_check_numerics()
    """
    if not _THREAD.always:
        _THREAD.always = True
        check_numerics().__enter__()


def disable_check_numerics() -> None:
    """End what `nt.debug.enable_check_numerics` began.

    >>> import numtape as nt
    >>> nt.debug.disable_check_numerics()
    >>> float(nt.constant(1.0) / 0.0)
    inf
    """
    if _THREAD.always:
        _THREAD.always = False
        check_numerics().__exit__(None)


class _Thread(threading.local):
    depth = 0
    always = False


_THREAD = _Thread()
_lock = threading.Lock()
_depths = 0


def _change(by: int) -> None:
    """Begin, or end, one check on this thread."""
    global _depths
    with _lock:
        _THREAD.depth += by
        _depths += by
        WATCHES[:] = [_Watch] if _depths else []
        EPOCH[0] += 1  # bound functions look up at their next call


class _Watch:
    """What `numtape.tape.trace.WATCHES` asks for."""

    @staticmethod
    def begin(ran: Any, arrays: Sequence[Buffer], numbers: Sequence[Any]) -> Callable[[Sequence[Buffer]], None]:
        """Keep what a program is given; what comes out takes its results."""
        checks = _THREAD.depth > 0
        numbers = list(numbers)

        def end(results: Sequence[Buffer]) -> None:
            if checks and not all(map(_is_finite, (buffer.array for buffer in results))):
                raise FloatingPointError(_diagnosis(ran, arrays, numbers))

        return end


def _is_finite(array: npt.NDArray[Any]) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _diagnosis(ran: Any, arrays: Sequence[Buffer], numbers: Sequence[Any]) -> str:
    """Where the first number that is not finite came from, of those that a bad result comes from."""
    lowered, *provenance = ran
    places = Places(*provenance)
    programs = [lowered.program]  # as it was written, and as it was run
    if lowered.executable is not None:
        programs.append(lowered.executable.plan.program)
    for program in programs:
        values = interpret_all(program, given(program, arrays, numbers))
        bad = {k for k in program.outputs if not _is_finite(values[k])}
        if bad:
            found = _way(program, values, bad)
            return _message(found[min(found)], places)
    return "a result is not finite, though NumPy computes finite numbers from the same inputs; please report that"


@dataclass(frozen=True, slots=True)
class _Spot:
    """An instruction of a program, or of the body of a loop in it: for each loop around its origin and the turn."""

    program: Program
    values: Sequence[Any]
    index: int
    loops: tuple[tuple[int | None, int, int], ...] = ()


def _way(program: Program, values: Sequence[Any], bad: set[int]) -> dict[int, _Spot]:
    """What numbers that are not finite come from: such values of the program, and for its loops the first in a turn."""
    bad = set(bad)
    found: dict[int, _Spot] = {}
    wanted: dict[int, set[tuple[int, int]]] = {}
    for k in range(len(program.instructions) - 1, -1, -1):
        i = program.instructions[k]
        if i.op is LOOP and k in wanted:
            spot, operands = _turns(program, values, k, wanted[k])
            bad |= operands
            if spot is not None:
                found[k] = spot
        elif k in bad and i.op.kind is Kind.PART:
            turns, value = values[i.operands[0]], i.attributes[0]
            some = range(len(turns)) if i.op is STACKED else [len(turns) - 1]
            wanted.setdefault(i.operands[0], set()).update(
                (turn, value) for turn in some if not _is_finite(turns[turn][value])
            )
        elif k in bad:
            found[k] = _Spot(program, values, k)
            bad.update(o for o in i.operands if not _is_finite(values[o]))
    return found


def _turns(
    program: Program, values: Sequence[Any], loop: int, wanted: set[tuple[int, int]]
) -> tuple[_Spot | None, set[int]]:
    """The first spot in a loop's turns on the way to these values of turns; and operands that are not finite."""
    i = program.instructions[loop]
    body, count, windows = i.attributes
    carried, _, _ = parts(len(i.operands), body, windows)
    waiting: dict[int, set[int]] = {}
    for turn, value in wanted:
        waiting.setdefault(turn, set()).add(value)
    first, outside = None, set[int]()
    for turn in range(count - 1, -1, -1):
        if turn not in waiting:
            continue
        found = _way(body, values[loop][turn], waiting[turn])
        for k in [k for k in found if body.instructions[k].op is INPUT]:
            del found[k]
            index = body.instructions[k].attributes[0]
            if index < carried and turn:
                waiting.setdefault(turn - 1, set()).add(body.outputs[index])
            else:
                outside.add(i.operands[index])
        if found:
            spot = found[min(found)]
            first = replace(spot, loops=((program.origin(loop), turn, count), *spot.loops))
    return first, outside


def _message(spot: _Spot, places: Places) -> str:
    program, values, k = spot.program, spot.values, spot.index
    is_recorded, origin = False, program.origin(k)
    for loop, _, _ in spot.loops:
        is_recorded, places = places.is_loop(loop), places.within(loop)
    place = places.of(origin)
    i = program.instructions[k]
    if i.op is INPUT or i.op is CONSTANT:
        reader = next((r for r, other in enumerate(program.instructions) if k in other.operands), k)
        what = place.name or ("a number in the program" if i.op is CONSTANT else "an input")
        lines = [f"{what}, {i.type}, was not finite before the step: {_badness(values[k])}"]
        if reader != k:
            lines[0] += f"; {program.instructions[reader].op.name} reads it"
        return "\n".join([*lines, *_where(places.of(program.origin(reader)))])
    role = place.role if place.role == "forward" or not place.op else f"{place.role} of {place.op}"
    lines = [f"{role}: {i.op.name} gave {_badness(values[k])}", *_where(place)]
    run, runs = places.runs(origin)
    for _, turn, count in spot.loops[:1]:
        run += (count - turn if places.role == "backward" else turn + 1) if is_recorded else turn
        runs += count
    if len(spot.loops) > 1:
        lines.append("  " + ", in it ".join(f"turn {turn + 1} of {count}" for _, turn, count in spot.loops))
    elif runs > 1:
        lines.append(f"  run {run} of this line within the step")
    names = [*i.op.parameters]
    if names and names[0].startswith("*"):
        names = [f"{names[0][1:]}[{n}]" for n in range(len(i.operands))]
    lines += [f"  {name}: {_range(values[o])}" for name, o in zip(names, i.operands, strict=True)]
    return "\n".join(lines)


def _where(place: Place) -> list[str]:
    if not place.filename:
        return []
    return [f"  {place.filename}:{place.line}", *([f"    {place.code}"] if place.code else [])]


def _badness(x: npt.NDArray[Any]) -> str:
    """What of an array is not finite."""
    kinds = {"nan": np.isnan(x), "inf": np.isposinf(x), "-inf": np.isneginf(x)}
    what = " and ".join(kind for kind, hits in kinds.items() if hits.any())
    if x.ndim == 0:
        return what
    wrong = ~np.isfinite(x)
    first = ", ".join(str(n[0]) for n in np.nonzero(wrong))
    return f"{what} in {np.count_nonzero(wrong)} of {x.size} elements, the first at [{first}]"


def _range(x: npt.NDArray[Any]) -> str:
    kind = f"{x.dtype}[{', '.join(map(str, x.shape))}]"
    if x.size == 1:
        return f"{kind}, {x.reshape(-1)[0]!s}"
    return f"{kind}, from {x.min()!s} to {x.max()!s}" if x.size else kind
