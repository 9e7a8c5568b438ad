"""Run a plan by one native call.

An `Executable` holds the addresses of the plan's kernels. For a call it needs a *binding*: argument blocks, arena and
result buffers. Whatever differs from call to call (addresses of inputs and results, Python numbers) is packed into one
row of words; a compiled loop copies those words into the blocks and calls one kernel after another. Bindings are
reused, one for each call that is under way, so that threads never share one.
"""

from __future__ import annotations

import ctypes
import struct
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from operator import itemgetter
from sys import getrefcount
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numtape.backends.buffer import ALONE, Buffer, allocate
from numtape.backends.by_turns import SECONDS, WATCHERS, ByTurns
from numtape.backends.reference import as_arrays
from numtape.cache import kernels
from numtape.codegen import blas
from numtape.codegen.plan import Plan, all_steps, plan
from numtape.codegen.turns import LoopStep, Place
from numtape.dtypes import TensorType
from numtape.ir.kernel import ALIGNMENT, Kernel, Native, Pointer, Scratch, Step
from numtape.ir.loop import FINAL
from numtape.ir.program import Program
from numtape.passes.layout import root

RUNNER = Kernel(
    "run",
    """\
def kernel(patches, patch_count, row, blocks, steps, step_count):
    patch, word, block, step = words(patches), words(row), words(blocks), words(steps)
    for k in range(patch_count):
        block[patch[2 * k]] = word[patch[2 * k + 1]]
    for k in range(step_count):
        call_entry(step[2 * k], step[2 * k + 1])
""",
    ("i64",) * 6,
)

FORMATS = {
    "f32": "f4x", "f64": "d", "i8": "b7x", "i16": "h6x", "i32": "i4x", "i64": "q",
    "u8": "B7x", "u16": "H6x", "u32": "I4x", "u64": "Q", "b1": "?7x",
}  # fmt: skip
"""How a Python number of each dtype fills one word."""


def chooser(places: Sequence[int]) -> Any:
    """A function that gives the items of a list at these places, as a tuple."""
    return itemgetter(*places) if len(places) > 1 else lambda pool: tuple([pool[k] for k in places])


class _Binding:
    """Memory for one call under way."""

    __slots__ = ("addresses", "header", "header_address", "keep", "results", "row")

    def __init__(self, header: npt.NDArray[Any], row: npt.NDArray[Any], results: list[Buffer], keep: Any) -> None:
        self.header, self.results, self.keep = header, results, keep
        self.row: Any = row
        self.addresses: list[int] = []
        """Those that stand in the row."""
        self.header_address: int = header.ctypes.data


class Executable:
    """A plan, ready to run."""

    def __init__(self, program: Program, scalars: Sequence[TensorType] = ()) -> None:
        """`scalars` are the types of the last inputs, which are given as Python numbers."""
        self.made = time.time()
        self.plan: Plan = plan(program)
        self.scalars = scalars
        self.array_count = len(program.inputs) - len(scalars)
        self.new = [(v, self.plan.program.type(v)) for kind, v in dict.fromkeys(self.plan.results) if kind == "new"]
        words = self.array_count + len(self.new)
        numbers = "".join(FORMATS[t.dtype.code] for t in scalars)
        self.address_format = struct.Struct(f"<{words}q")
        self.number_format, self.numbers_at = struct.Struct(f"<{numbers}"), 8 * words
        self.row_words = words + len(scalars)
        self.scalar_words = {self.array_count + k: words + k for k in range(len(scalars))}
        for step in all_steps(self.plan.steps):
            kernels.address(step.kernel)  # compiles what is not
        self.entry = runner()
        self._loop = self._long_loop()
        self._turns: weakref.WeakValueDictionary[int, ByTurns] = weakref.WeakValueDictionary()
        """For the header of each binding its loop."""
        if self._loop is not None:
            self.entry = partial(_enter, self._turns)  # no method: a cycle would keep the buffers
        self.idle: list[_Binding] = []
        self.new_range = range(len(self.new))
        self.donated = tuple(v for kind, v in self.plan.results if kind == "donated")
        at = {v: self.array_count + k for k, (v, _) in enumerate(self.new)}
        places = [at[v] if kind == "new" else v if v < self.array_count else v + len(self.new)
                  for kind, v in self.plan.results]  # fmt: skip
        self.gives_numbers = any(k >= words for k in places)
        self.choose: Any = chooser(places)
        """Picks the results out of arrays, new buffers and, if `gives_numbers`, Python numbers."""

    def __call__(self, arrays: Sequence[Buffer], scalars: Sequence[Any] = ()) -> list[Buffer]:
        """The outputs' buffers; a donated input's buffer comes back as the output's."""
        binding, found = self.prepare(arrays, scalars)
        self.entry(binding.header_address)
        self.idle.append(binding)
        return found

    def _long_loop(self) -> int | None:
        """The step that is a loop to be run some turns at a time: one that keeps nothing but what it hands on."""
        program = self.plan.program
        loops = [
            k for k, step in enumerate(self.plan.steps)
            if isinstance(step, LoopStep) and all(program.instructions[part].op is FINAL for part in step.writes)
        ]  # fmt: skip
        return max(loops, key=lambda k: self.plan.steps[k].count, default=None)  # type: ignore[union-attr]

    def prepare(self, arrays: Sequence[Buffer], scalars: Sequence[Any]) -> tuple[_Binding, list[Buffer]]:
        """A binding with the arguments in it, and the buffers that `entry` will fill."""
        try:
            binding = self.idle.pop()
        except IndexError:
            binding = self.bind()
        new = binding.results
        for k in self.new_range:
            if getrefcount(new[k]) != ALONE:
                new[k] = allocate(self.new[k][1])
        pool = [*arrays, *new]
        addresses = [buffer.address for buffer in pool]
        if addresses != binding.addresses:  # in a loop they are those of the step before
            self._write_addresses(binding, addresses)
        if scalars:
            self.write_numbers(binding, scalars)
        if self.gives_numbers:
            pool += map(Buffer, as_arrays(scalars, self.scalars))
        return binding, list(self.choose(pool))

    def write(self, binding: _Binding, buffers: Sequence[Buffer], scalars: Sequence[Any]) -> None:
        """Put arguments, and where the results go, into a binding."""
        self._write_addresses(binding, [buffer.address for buffer in buffers])
        self.write_numbers(binding, scalars)

    def _write_addresses(self, binding: _Binding, addresses: list[int]) -> None:
        self.address_format.pack_into(binding.row, 0, *addresses)
        binding.addresses = addresses

    def write_numbers(self, binding: _Binding, scalars: Sequence[Any]) -> None:
        """Put other Python numbers into a binding that has all else."""
        try:
            self.number_format.pack_into(binding.row, self.numbers_at, *scalars)
        except (OverflowError, struct.error):
            fitting = [number.item() for number in as_arrays(scalars, self.scalars)]
            self.number_format.pack_into(binding.row, self.numbers_at, *fitting)

    def bind(self) -> _Binding:
        p = self.plan
        arena = np.empty(p.arena + ALIGNMENT, np.uint8)
        base = arena.ctypes.data + -arena.ctypes.data % ALIGNMENT
        row = np.zeros(max(self.row_words, 1), np.int64)
        program = p.program
        place: dict[int, int] = {}
        for k in program.inputs:
            index = program.instructions[k].attributes[0]
            if index not in self.scalar_words:
                place[k] = index
        for k, (value, _) in enumerate(self.new):
            place[value] = self.array_count + k
        donated = {
            root(program, output): index for output, (kind, index) in zip(program.outputs, p.results, strict=True)
            if kind == "donated"
        }  # fmt: skip
        place |= donated
        fixed = {v: base + offset for v, offset in p.offsets.items()}
        for k in program.inputs:
            word = self.scalar_words.get(program.instructions[k].attributes[0])
            if word is not None:
                fixed[k] = row.ctypes.data + 8 * word
        def locate(argument: Pointer | Scratch, offset: int) -> int | _Word:
            if isinstance(argument, Scratch):
                return base + p.scratch + offset
            if argument.value in place:
                return _Word(place[argument.value])
            return fixed[argument.value]

        table = _Table(p.steps, locate)
        patches = [word for at, (number,) in table.open for word in (at, number)]
        patch_array = np.array(patches or [0], np.int64)
        header = np.array(
            [patch_array.ctypes.data, len(patches) // 2, row.ctypes.data, *table.header, len(p.steps)], np.int64
        )
        results = [allocate(type) for _, type in self.new]
        _make_room(self, arena.nbytes + sum(buffer.array.nbytes for buffer in results))
        turns = None
        if self._loop is not None:
            start = (int(table.calls[2 * self._loop + 1]) - table.blocks.ctypes.data) // 8
            turns = self._turns[header.ctypes.data] = ByTurns(header, table.calls, table.blocks[start:], self._loop)
        return _Binding(header, row, results, (arena, patch_array, table, turns))


def _enter(loops: Mapping[int, ByTurns], address: int) -> None:
    """Run a program with a loop by the header of a binding: as a whole, if that takes no time."""
    turns = loops[address]
    if WATCHERS or turns.seconds * turns.count > SECONDS or not turns.seconds:
        turns.run(runner())
    else:
        runner()(address)


class _Word(NamedTuple):
    """A word that is known when a program is called: its number in the row."""

    number: int


class _Table:
    """The steps of a plan as words: for each the address of its kernel and that of its argument block.

    `locate` gives an address, or whatever else stands for it; that is then in `open`, with the number of its word.
    """

    def __init__(self, steps: Sequence[Step | LoopStep], locate: Callable[[Pointer | Scratch, int], Any]) -> None:
        self.inner: list[Any] = []
        """What has to live as long."""
        self.open: list[tuple[int, Any]] = []
        blocks: list[int] = []
        calls: list[tuple[int, int]] = []
        own: list[tuple[int, int]] = []
        """Words that are the addresses of others."""
        for step in steps:
            calls.append((kernels.address(step.kernel), len(blocks)))
            if isinstance(step, LoopStep):
                numbers = self._turns(step)
                own.append((len(blocks) + len(numbers), len(blocks) + len(numbers) + 1))
                blocks += [*numbers, 0]
                codes: Sequence[str] = ["i64"] * len(step.arguments)
            else:
                codes = step.kernel.parameters
            scratch = 0
            for argument, code in zip(step.arguments, codes, strict=True):
                if isinstance(argument, Pointer | Scratch):
                    where = locate(argument, scratch)
                    if isinstance(argument, Scratch):
                        scratch += argument.room
                    if not isinstance(where, int):
                        self.open.append((len(blocks), where))
                        where = 0
                    blocks.append(where)
                elif isinstance(argument, Native):
                    blocks.append(blas.address(argument.name))
                else:
                    blocks.append(_word(argument, code))
        self.blocks = np.array(blocks or [0], np.int64)
        start = self.blocks.ctypes.data
        for at, other in own:
            self.blocks[at] = start + 8 * other
        self.calls = np.array([w for address, at in calls for w in (address, start + 8 * at)] or [0], np.int64)

    @property
    def header(self) -> tuple[int, int]:
        """Where the blocks are, and the table itself."""
        return self.blocks.ctypes.data, self.calls.ctypes.data

    def _turns(self, step: LoopStep) -> list[int]:
        """The numbers at the head of a loop's block."""

        def locate(argument: Pointer | Scratch, offset: int) -> Place:
            if isinstance(argument, Scratch):
                return step.scratch._replace(start=step.scratch.start + offset)
            return step.places[argument.value]

        table = _Table(step.steps, locate)
        starts = [w for at, (number, start, _) in table.open for w in (at, number, start)]
        moves = [w for at, (_, _, stride) in table.open if stride for w in (at, stride)]
        arrays = [np.array(words or [0], np.int64) for words in (starts, moves)]
        self.inner.append((table, arrays))
        return [
            arrays[0].ctypes.data, len(starts) // 3, arrays[1].ctypes.data, len(moves) // 2, *table.header,
            step.once, len(step.steps), step.count,
        ]  # fmt: skip


IDLE_BYTES = 1 << 28
"""How much memory the bindings of all programs may take up together, beside those under way."""
_bound: list[weakref.ref[Executable]] = []
_bound_bytes = 0


def _make_room(executable: Executable, nbytes: int) -> None:
    """Count the bytes of a new binding; where they become too many, all that are idle go."""
    global _bound_bytes
    _bound_bytes += nbytes + 4096
    if _bound_bytes > IDLE_BYTES:
        _bound_bytes = nbytes
        made, _bound[:] = _bound[:], []
        for reference in made:
            if (other := reference()) is not None:
                other.idle.clear()
    _bound.append(weakref.ref(executable))


def _word(number: float, code: str) -> int:
    """The word that holds a number."""
    (word,) = struct.unpack("<q", struct.pack(f"<{FORMATS[code]}", number))
    return int(word)


@cache
def runner() -> Any:
    """The compiled loop over a program's kernels; it lets other threads run meanwhile."""
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernels.address(RUNNER))


def run(program: Program, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """The program's outputs as new arrays: what `reference.interpret` computes, natively."""
    buffers = [Buffer(np.array(x, order="C", copy=True).reshape(-1)) for x in inputs]
    found = Executable(program)(buffers)
    return [
        b.array.reshape(program.type(k).shape).copy() for b, k in zip(found, program.outputs, strict=True)
    ]
