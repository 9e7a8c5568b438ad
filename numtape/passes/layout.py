"""How several instructions run as one loop nest.

In comes a program and some of its instructions; out comes a `Layout`, or None where no single nest computes them:

- a *flat* nest is one loop over n elements;
- a nest of *rows* is a loop over rows around loops over columns. Its values are *full* (an element each), *row* (one
  number a row), *column* or *scalar*; or each of several rows in succession has its number (*cycle*), or shares a line
  of columns (*segment*). A fold along the columns gives a row value, which later column loops of the same row may use:
  so a softmax with its loss and gradient is one nest.

Folds that leave one number, and then ops on that number, come after the loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod

from numtape.dtypes import Shape
from numtape.ir.op import Kind
from numtape.ir.program import CONSTANT, INPUT, Instruction, Program

SHORT = 8
"""With rows shorter than this, a loop over them costs more than moving the elements to where they are convenient."""
MAX_ROW = 4096
"""A fold to one number and ops that use it for every element share a nest of one row up to this length."""


class Level(Enum):
    """How a value's elements lie in a nest."""

    FULL = "full"
    ROW = "row"
    COLUMN = "column"
    SCALAR = "scalar"
    CYCLE = "cycle"
    """One number for a row, the same again after some rows: (1, n, 1) in a space (m, n, columns)."""
    SEGMENT = "segment"
    """One line of columns for some rows, then the next: (m, 1, columns) in a space (m, n, columns)."""


BEFORE, AFTER = -1, 1 << 30
"""The stages of row values that need no column loop, and of what comes after all loops."""


@dataclass(frozen=True, slots=True)
class Member:
    """One instruction in a nest: its place in the loops."""

    index: int
    space: Level
    """FULL if it runs for each element, ROW if once a row, SCALAR if once."""
    level: Level
    """Of the result: that of the space for ops on elements, what remains for folds."""
    stage: int
    """Which of a row's column loops, or the straight code after that loop, computes it."""
    operands: tuple[Level, ...]

    @property
    def where(self) -> str:
        """The place in words."""
        if self.space is Level.SCALAR:
            return "after"
        if self.space is Level.ROW:
            return "before" if self.stage == BEFORE else f"then {self.stage}"
        return f"loop {self.stage}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Instructions as one loop nest over `size` elements; `columns` is the length of a row, None for a flat nest."""

    size: int
    columns: int | None
    members: tuple[Member, ...]

    def __str__(self) -> str:
        return f"flat  {self.size}" if self.columns is None else f"rows  {self.size // self.columns} x {self.columns}"


def is_inlined(instruction: Instruction) -> bool:
    """Whether users of the value write it out instead of loading it."""
    return instruction.op is CONSTANT or instruction.op.name == "iota"


def root(program: Program, value: int) -> int:
    """The value whose elements these are: reshapes looked through."""
    instruction = program.instructions[value]
    while instruction.op.kind is Kind.ALIAS and instruction.op is not INPUT:
        value = instruction.operands[0]
        instruction = program.instructions[value]
    return value


def awaited(program: Program, value: int) -> list[int]:
    """The values that have to be known before this one's elements are read, in the places where these are held."""
    found: dict[int, None] = {}
    waiting, seen = [value], {value}
    while waiting:
        i = program.instructions[waiting.pop()]
        if i.op.kind is Kind.ALIAS and i.op is not INPUT:
            waiting += [k for k in i.operands if k not in seen]
            seen.update(i.operands)
            found.update(dict.fromkeys(root(program, k) for k in i.operands[1:]))
    return list(found)


def lay_out(program: Program, members: Sequence[int], *known: Layout) -> Layout | None:
    """One nest for these instructions (in order), or None; `known` are the layouts of parts of them."""
    size = max((n.size for n in known), default=0) or prod(_space(program, program.instructions[members[0]]))
    columns = _columns(program, members, size, known)
    if columns == 0:
        return None
    begun: tuple[Member, ...] = ()
    for part in known:
        if part.size == size and part.columns == columns and part.members[-1].index == members[len(part.members) - 1]:
            # The others come after it: they leave it as it is.
            begun = part.members
    found = _arrange(program, members[len(begun) :], size, columns, begun)
    if found is None and columns is None and 1 < size <= MAX_ROW:
        found = _arrange(program, members, size, size)
    return found


def _arrange(
    program: Program, members: Sequence[int], size: int, columns: int | None, known: tuple[Member, ...] = ()
) -> Layout | None:
    places = {m.index: m for m in known}
    rows = size if columns is None else size // columns
    for index in members:
        instruction = program.instructions[index]
        shape = _space(program, instruction)
        count = prod(shape)
        if count == size:
            space, stage = Level.FULL, 0
        elif count == rows:
            space, stage = Level.ROW, BEFORE
        elif count == 1:
            space, stage = Level.SCALAR, BEFORE
        else:
            return None
        levels = []
        for operand in instruction.operands:
            source = root(program, operand)
            level = _level(program, operand, shape, space, rows)
            if level is None:
                return None
            levels.append(level)
            inside = places.get(source)
            if inside is None:
                continue
            if inside.level is not level:
                return None
            if level is Level.SCALAR and space is Level.SCALAR:
                stage = AFTER
            elif level not in (Level.FULL, Level.ROW):
                return None
            else:
                stage = max(stage, inside.stage + (space is Level.FULL and level is Level.ROW))
        if count == 1 < size and stage == BEFORE:
            # A number that needs no loop of this nest is better off with other numbers: equal nests keep equal text.
            return None
        result = space if instruction.op.kind is Kind.MAP else _remaining(instruction, shape, space, rows)
        if result is None:
            return None
        places[index] = Member(index, space, result, stage, tuple(levels))
    return Layout(size, columns, tuple(places.values()))


def _space(program: Program, instruction: Instruction) -> Shape:
    """The shape an instruction loops over."""
    if instruction.op.kind is Kind.REDUCE:
        return program.type(instruction.operands[0]).shape
    return instruction.type.shape


def _columns(program: Program, members: Sequence[int], size: int, known: Sequence[Layout]) -> int | None:
    """The row length that every member can live with: None if any will do, 0 if none does."""
    wanted: set[int] = {part.columns for part in known if part.size == size and part.columns}
    if not known:
        for m in members:
            instruction = program.instructions[m]
            shape = _space(program, instruction)
            values = [k for k in instruction.operands if program.instructions[k].op is not CONSTANT]
            wanted |= {split(program.type(k).shape, shape) for k in values}
            if instruction.op.kind is Kind.REDUCE:
                wanted.add(split(instruction.type.shape, shape))
    wanted.discard(-1)
    if len(wanted) > 1:
        return 0
    columns = wanted.pop() if wanted else None
    for part in known:
        if part.size not in (1, size) and (part.columns is not None or part.size * (columns or 0) != size):
            return 0
    return columns


def split(shape: Shape, space: Shape) -> int:
    """The row length at which a shape broadcast over a space is no full value: -1 any, 0 none."""
    if prod(shape) in (1, prod(space)) and prod(space) > 0:
        return -1
    has = _has(shape, space)
    extents = [n for n in space if n != 1]
    changes = [a for a in range(1, len(has)) if has[a] != has[a - 1]]
    if not changes:
        return -1
    columns = prod(extents[changes[-1] :])
    return columns if len(changes) == 1 or (len(changes) == 2 and columns >= SHORT) else 0


def _has(shape: Shape, space: Shape) -> list[bool]:
    """For each axis of a space that is longer than 1, whether a shape broadcast over it has that axis."""
    lead = len(space) - len(shape)
    return [a >= lead and shape[a - lead] == n for a, n in enumerate(space) if n != 1]


def _level(program: Program, operand: int, space: Shape, loop: Level, rows: int) -> Level | None:
    """How an operand lies in a nest, seen from an instruction over a space of its own."""
    instruction = program.instructions[operand]
    shape = instruction.type.shape
    count = instruction.type.size
    if loop is Level.SCALAR or instruction.op is CONSTANT:
        return Level.SCALAR
    if count == prod(space):
        return loop
    if count == 1:
        return Level.ROW if rows == 1 else Level.SCALAR
    if loop is Level.ROW:
        return None
    has = _has(shape, space)
    if has[0]:
        return Level.SEGMENT if has[-1] else Level.ROW
    return Level.COLUMN if has[-1] else Level.CYCLE


def _remaining(instruction: Instruction, space: Shape, loop: Level, rows: int) -> Level | None:
    """The level of a fold's result."""
    if instruction.type.size == 1:
        return Level.ROW if rows == 1 else Level.SCALAR
    if loop is Level.ROW:
        return None
    folded = [a in instruction.attributes[0] for a, n in enumerate(space) if n != 1]
    return Level.COLUMN if folded[0] else Level.ROW if folded[-1] else Level.SEGMENT
