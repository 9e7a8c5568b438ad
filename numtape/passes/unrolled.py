"""Why instructions that repeat are not a loop: for people who ask, after the fact.

`reroll` keeps no minutes. What it has left is searched for stretches in which the same ops come again and again, and
each is asked the same questions once more, this time for an answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from numtape.ir.program import Instruction, Program
from numtape.passes.reroll import MAX_GATHERED, MIN_GAIN, MIN_TURNS, Loop, Rolling, reroll

MAX_PERIOD = 2000
"""Longer turns are not looked for."""


@dataclass(frozen=True, slots=True)
class Unrolled:
    """A stretch of `count` turns of `period` instructions each that is no loop, and why.

    `origin` is that of the instruction that stands in the way, or the first of a turn.
    """

    origin: int | None
    count: int
    period: int
    reason: str

    def __str__(self) -> str:
        return f"{self.count} turns of {_instructions(self.period)} are no loop: {self.reason}"


def why_not_rolled(program: Program) -> list[Unrolled]:
    """What repeats at least 8 times in a program as it was recorded, and is left as it is, in order."""
    program = reroll(program)
    rolling = Rolling(program)
    names: dict[object, int] = {}
    ops = [program.instructions[index] for index in rolling.dense]
    codes = np.array([names.setdefault((i.op, len(i.operands)), len(names)) for i in ops], np.int64)
    found = []
    for start, period, count in _stretches(codes):
        place, reason = _reason(rolling, start, period, count)
        found.append(Unrolled(program.origin(rolling.dense[place]), count, period, reason))
    return found


def _stretches(codes: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Where the same ops come again at least 8 times, and that is worth a word: start, period and count."""
    free = np.ones(len(codes), bool)
    found = []
    for period in range(1, min(MAX_PERIOD, len(codes) // MIN_TURNS) + 1):
        same = (codes[period:] == codes[:-period]) & free[period:] & free[:-period]
        edges = np.flatnonzero(np.diff(np.concatenate(([0], same, [0]))))
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            count = (end - start) // period + 1
            if count >= MIN_TURNS and count * period * min(period, 2) >= MIN_GAIN:
                found.append((start, period, count))
                free[start : start + count * period] = False
    return sorted(found)


def _reason(rolling: Rolling, start: int, period: int, count: int) -> tuple[int, str]:
    """An instruction that stands in the way, by its dense number, and what is the matter with it."""
    own = rolling.code[start : start + period * count].reshape(count, period)
    alike = (own[1:] == own[:-1]).all(1)
    first, turns = _longest(alike)
    if turns < MIN_TURNS:
        turn, place = (int(n[0]) for n in np.nonzero(own[1:] != own[:-1]))
        at = start + turn * period + place
        return at + period, f"{_difference(rolling, at, at + period)}, and a loop has at least {MIN_TURNS} turns alike"
    start += first * period
    if (turns - 2) * period < MIN_GAIN:
        return start, f"it is short: {turns} turns alike of {_instructions(period)}, and a loop has to save {MIN_GAIN}"
    low, end = rolling.offsets[start], rolling.offsets[start + period]
    rows = rolling.flat[low : low + (end - low) * turns].reshape(turns, end - low)
    moves = rows[1:] - rows[:-1]
    first, even = _longest((moves[1:] == moves[:-1]).all(1))
    if even + 1 < MIN_TURNS or (even - 1) * period < MIN_GAIN:
        turn, column = (int(n[0]) for n in np.nonzero(moves[1:] != moves[:-1]))
        at = start + (turn + 2) * period
        return _reader(rolling, at, column), (
            f"{_operand(rolling, at, column)} does not move evenly from turn to turn, "
            f"but does so for {even + 1} turns at most"
        )
    start += first * period
    loop = Loop(start, period, even + 1, rows[first], rows[first + 1], moves[first], {})
    for column in range(len(moves[first])):
        if rolling.key(loop, column) is None:
            why = _why_no_key(rolling, loop, column)
            return _reader(rolling, start, column), f"{_operand(rolling, start, column)} {why}"
    if rolling.describe(loop):
        return start, "to gather what its turns read takes as much as it saves, or it was not tried as a loop"
    if len(loop.fixed) == period:
        return start, "it is the same in all turns"
    return start, "it is a part of another loop's turn"


def _longest(alike: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Where the longest run begins in which each is like the next, and how many it has."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], alike, [0]))))
    if not len(edges):
        return 0, 1
    lengths = edges[1::2] - edges[::2]
    longest = int(np.argmax(lengths))
    return int(edges[2 * longest]), int(lengths[longest]) + 1


def _difference(rolling: Rolling, before: int, now: int) -> str:
    """What two instructions of the same op differ in."""
    a, b = (rolling.program.instructions[rolling.dense[k]] for k in (before, now))
    if a.type is not b.type:
        return f"{b.op.name} gives {a.type} in one turn and {b.type} in the next"
    for name, was, new in zip(b.op.attributes, a.attributes, b.attributes, strict=True):
        if was != new and len(f"{was}{new}") < 100:
            return f"{b.op.name} has {name}={was} in one turn and {new} in the next"
    return f"{b.op.name} has other attributes in each turn"


def _reader(rolling: Rolling, start: int, column: int) -> int:
    """The instruction that has the operand in a column of the turn from `start` on."""
    return int(np.searchsorted(rolling.offsets, rolling.offsets[start] + column, "right")) - 1


def _operand(rolling: Rolling, start: int, column: int) -> str:
    reader = rolling.program.instructions[rolling.dense[_reader(rolling, start, column)]]
    number = int(rolling.flat[rolling.offsets[start] + column])
    read: Instruction = rolling.program.instructions[rolling.given[number] if number < 0 else rolling.dense[number]]
    return f"what {reader.op.name} reads, {read.op.name} of {read.type},"


def _why_no_key(rolling: Rolling, loop: Loop, column: int) -> str:
    first, second, stride = (int(row[column]) for row in (loop.first, loop.second, loop.strides))
    if stride == loop.period:
        return "has another type in the first turn"
    if max(first, second + stride * (loop.count - 2)) >= loop.start:
        return "is of a turn, but not always of the same number of turns before"
    if len({rolling.kind(first + stride * k) for k in range(loop.count)}) > 1:
        return "has not the same type in all turns"
    if rolling.kind(first).nbytes <= MAX_GATHERED:
        return "is changed in place, and is another one in each turn"
    return "is another one in each turn, and too large to be gathered"


def _instructions(n: int) -> str:
    return "1 instruction" if n == 1 else f"{n} instructions"
