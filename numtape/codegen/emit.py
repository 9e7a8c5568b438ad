"""Write a fused group as the source of a kernel: plain loops over pointers, for the CPU.

In comes a group's layout; out goes a `Step`. The source is Python that Numba compiles, and that also runs as it stands
(pointers being flat arrays), so that what is generated can be tested without a compiler. Names in it are numbered by
first appearance: equal groups have equal text. Extents are arguments, so lengths are in no kernel (but for those of
short rows), and so are literals: they often come from a length. In each loop all loads come first and all stores last:
a store may go where something was loaded from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from numtape.dtypes import DType
from numtape.ir.kernel import Argument, Kernel, Pointer, Scratch, Step
from numtape.ir.op import Kind
from numtape.ir.program import CONSTANT, Instruction, Program
from numtape.passes.layout import BEFORE, Layout, Level, Member, is_inlined, root

FOLDS = {
    "sum": ("T(0)", "add_reassoc({acc}, {x})", "{acc} + {x}"),
    "product": ("T(1)", "mul_reassoc({acc}, {x})", "{acc} * {x}"),
    "max": ("T({lowest})", "maximum({acc}, {x})", "maximum({x}, {acc})"),
    "min": ("T({highest})", "minimum({acc}, {x})", "minimum({x}, {acc})"),
    "any": ("False", "{acc} | {x}", "{acc} | {x}"),
    "all": ("True", "{acc} & {x}", "{acc} & {x}"),
}
"""Start, step for floats in a register, and step otherwise, of each fold.

Of two, LLVM keeps the first if it is nan: were that what is in memory, it would make masked stores of it, which are
slow on AMD's processors.
"""

BLOCK, ROW_BLOCK = 512, 64
"""A sum of floats runs over so many elements, or rows, in its own dtype, then goes into a float64: one running sum
over a million float32 is wrong in the fourth digit."""

LINES = (Level.COLUMN, Level.SEGMENT)
"""The levels of values that have columns, but not one for each row."""

SHORT_ROW = 10
"""Rows up to this length have it in the text: their loops unroll, and the loop over rows may run on vectors. Measured,
that is 1.3 to 9 times as fast; longer rows gain less and take long to compile."""

NUMBER = r"\b([fiu]\d+)\((-?inf|nan|-?[\d.]+(?:e[-+]?\d+)?)\)"
"""A constant in a kernel's text."""

CHEAP_CALLS = {"T", "R", "select", "maximum", "minimum", "fabs", "copysign", "isnan", "isinf", "isfinite"}
CHEAP = 3
"""Up to so many loads and ops, a value that a later loop needs is computed again instead of being kept for it."""


def emit(program: Program, layout: Layout, stored: set[int], shared: dict[int, int]) -> Step:
    """The kernel of a group and its arguments.

    `stored` are the values that others read; `shared` maps a stored value to the value whose memory it takes over.
    """
    return Emitter(program, layout, stored, shared).step()


@dataclass(slots=True)
class Block:
    """Code in one place: the whole kernel, a row, or a loop over columns; inner blocks see the names of outer ones."""

    outer: Block | None = None
    names: dict[Any, str] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    stores: list[str] = field(default_factory=list)

    def find(self, key: Any) -> str | None:
        block: Block | None = self
        while block is not None:
            if key in block.names:
                return block.names[key]
            block = block.outer
        return None

    @property
    def text(self) -> list[str]:
        return [*self.loads, *self.lines, *self.stores]


class Emitter:
    def __init__(self, program: Program, layout: Layout, stored: set[int], shared: dict[int, int]) -> None:
        self.program, self.layout, self.stored, self.shared = program, layout, stored, shared
        self.members = {m.index: m for m in layout.members}
        self.names: dict[Any, str] = {}
        self.counts: dict[str, int] = {}
        self.pointers: dict[int, tuple[str, str, Argument]] = {}
        self.kernel = Block()
        self.row = Block(self.kernel)
        self.flat = layout.columns is None
        self.short = (layout.columns or SHORT_ROW + 1) <= SHORT_ROW
        self.columns = str(layout.columns) if self.short else "columns"
        self.weights: dict[int, int] = {}
        self.kept: dict[int, None] = {}
        self.loops: dict[int, list[Member]] = {}
        self.constants: dict[str, str] = {}
        self.numbers: dict[str, tuple[str, str, Argument]] = {}
        self.periods: dict[int, str] = {}
        self.scratch: dict[str, tuple[str, str, int]] = {}
        self.plan_loops()

    # ---- the whole ---------------------------------------------------------------------------------------------

    def step(self) -> Step:
        size, columns = self.layout.size, self.layout.columns or self.layout.size
        loops = self.flat_loop() if self.flat else self.row_loops()
        for m in self.layout.members:
            if m.space is Level.SCALAR:
                self.compute(m, self.kernel)
        body = [*self.kernel.loads, *loops, *self.kernel.lines, *self.kernel.stores]
        scratch = [(name, f"{code}*", Scratch(columns * itemsize)) for name, code, itemsize in self.scratch.values()]
        extents: list[tuple[str, str, Argument]] = [("n", "i64", size)]
        if not self.flat:
            extents = [("rows", "i64", size // columns)]
            if not self.short:
                extents.append(("columns", "i64", columns))
            extents += [(name, "i64", rows) for rows, name in self.periods.items()]
        parameters = (*self.pointers.values(), *scratch, *self.numbers.values(), *extents)
        names, types, arguments = zip(*parameters, strict=True)
        constants = [f"{name} = {text}" for text, name in self.constants.items()]
        source = "\n".join([*constants, f"def kernel({', '.join(names)}):", *indented(body)]) + "\n"
        writes = tuple(m.index for m in self.layout.members if m.index in self.stored)
        return Step(Kernel(self.title(), source, types), arguments, writes)

    def title(self) -> str:
        names = dict.fromkeys(self.instruction(m).op.name for m in self.layout.members)
        return "_".join(list(names)[:6])

    def flat_loop(self) -> list[str]:
        return self.loop(0, self.kernel, "k", "n", blocked=True)

    def row_loops(self) -> list[str]:
        row = self.row
        self.row_code(BEFORE)
        for stage in sorted(self.loops):
            row.lines += self.loop(stage, row, "j", self.columns, blocked=(self.layout.columns or 0) > BLOCK)
            for m in self.loops[stage]:
                if m.stage == stage and self.is_fold(m) and m.level is Level.ROW:
                    row.names["value", m.index] = self.name("v", m.index)
                    self.store(m, row)
            self.row_code(stage)
        return ["for i in range(rows):", *indented([f"base = i * {self.columns}", *row.text])]

    def row_code(self, stage: int) -> None:
        for m in self.layout.members:
            if m.space is Level.ROW and m.stage == stage:
                self.compute(m, self.row)

    def loop(self, stage: int, outer: Block, index: str, extent: str, blocked: bool) -> list[str]:
        """One loop over elements, and around it the accumulators that live in registers; long sums run in blocks."""
        block = Block(outer)
        for m in self.loops[stage]:
            if m.stage == stage:
                self.compute(m, block)
            else:
                self.value(m, block)
        before: list[str] = []
        starts: list[str] = []
        ends: list[str] = []
        after: list[str] = []
        for m in self.loops[stage]:
            if m.stage != stage or not self.is_fold(m) or m.level in LINES:
                continue
            name, start = self.name("v", m.index), f"{self.name('v', m.index)} = {self.start(m)}"
            if not self.is_float_sum(m):
                (before if m.level is Level.ROW else self.kernel.loads).append(start)
                continue
            starts.append(start)
            if m.level is Level.SCALAR or blocked:
                total = self.name("t", m.index)
                ends.append(f"{total} = {total} + f64({name})")
                if m.level is Level.ROW:
                    before.append(f"{total} = {self.named('f64(0)')}")
                    after.append(f"{name} = {self.type(m.index).code}({total})")
        if not (blocked and starts):
            return [*before, *starts, f"for {index} in range({extent}):", *indented(block.text), *ends]
        one = [f"for {index} in range(start, minimum(start + {BLOCK}, {extent})):", *indented(block.text)]
        return [*before, f"for start in range(0, {extent}, {BLOCK}):", *indented([*starts, *one, *ends]), *after]

    # ---- which loop computes what ------------------------------------------------------------------------------

    def plan_loops(self) -> None:
        """Find what each loop computes, and what later loops of a row read from scratch memory."""
        needed: dict[int, set[int]] = {m.index: set() for m in self.layout.members}
        for m in reversed(self.layout.members):
            if m.space is not Level.FULL:
                continue
            if self.is_fold(m) or m.index in self.stored:
                needed[m.index].add(m.stage)
            for stage in needed[m.index]:
                for k in self.instruction(m).operands:
                    o = self.members.get(root(self.program, k))
                    if o is None or o.level is not Level.FULL:
                        continue
                    if o.stage == stage or self.weight(o) <= CHEAP:
                        needed[o.index].add(stage)
                    elif o.index not in self.stored:
                        needed[o.index].add(o.stage)
                        self.kept[o.index] = None
        for m in self.layout.members:
            for stage in needed[m.index]:
                self.loops.setdefault(stage, []).append(m)

    def keep(self, m: Member, letter: str, code: str, itemsize: int) -> str:
        """Scratch memory for a number in each column."""
        name = self.name(letter, m.index)
        self.scratch[name] = (name, code, itemsize)
        return name

    def weight(self, m: Member) -> int:
        """How many loads and ops it takes to compute a full value again."""
        if m.index not in self.weights:
            i = self.instruction(m)
            total = 1
            if self.is_fold(m) or not CHEAP_CALLS.issuperset(re.findall(r"(\w+)\(", self.template(i))):
                total += CHEAP
            for k, level in zip(i.operands, m.operands, strict=True):
                source = root(self.program, k)
                if level in (Level.FULL, *LINES) and not is_inlined(self.program.instructions[source]):
                    total += self.weight(self.members[source]) if source in self.members else 1
            self.weights[m.index] = total
        return self.weights[m.index]

    # ---- one instruction ---------------------------------------------------------------------------------------

    def compute(self, m: Member, block: Block) -> None:
        """Write the code for one member where it belongs."""
        if self.is_fold(m):
            self.fold(m, block)
            return
        name = self.value(m, block)
        if m.index in self.kept:
            dtype = self.type(m.index)
            block.stores.append(f"{self.keep(m, 'w', storage(dtype), dtype.itemsize)}[j] = {stored(name, dtype)}")
        self.store(m, block)

    def value(self, m: Member, block: Block) -> str:
        """Write the expression of one member that is no fold."""
        i = self.instruction(m)
        operands = [self.operand(k, level, block) for k, level in zip(i.operands, m.operands, strict=True)]
        name = block.names["value", m.index] = self.name("v", m.index)
        block.lines.append(f"{name} = {self.expression(i, operands, m.space)}")
        return name

    def expression(self, i: Instruction, operands: Sequence[str], space: Level) -> str:
        if is_inlined(i):
            return self.inline(i, space)
        names = dict(zip(i.op.parameters, operands, strict=True))
        first = i.op.groups.index("T") if "T" in i.op.groups else 0
        names["T"] = _constructor(self.program.type(i.operands[first]).dtype)
        names["R"] = _constructor(i.type.dtype)
        text = re.sub(r"[A-Za-z_]\w*", lambda word: names.get(word[0], word[0]), self.template(i))
        return _typed(self.named(text), i.type.dtype)

    def template(self, i: Instruction) -> str:
        """The op's expression in the names of its operands."""
        if callable(i.op.kernel):
            return str(i.op.kernel(i.attributes, [self.program.type(k) for k in i.operands]))
        return i.op.kernel or ""

    def store(self, m: Member, block: Block) -> None:
        if m.index in self.stored:
            place = f"{self.pointer(m.index)}[{self.subscript(m.level, self.program.type(m.index).size)}]"
            block.stores.append(f"{place} = {stored(self.name('v', m.index), self.type(m.index))}")

    # ---- folds -------------------------------------------------------------------------------------------------

    def is_fold(self, m: Member) -> bool:
        return self.instruction(m).op.kind is Kind.REDUCE

    def start(self, m: Member) -> str:
        i = self.instruction(m)
        dtype = i.type.dtype
        text = FOLDS[i.op.kernel][0]
        if not dtype.is_bool:
            lowest, highest = ("-inf", "inf") if dtype.is_floating else (dtype.min, dtype.max)
            text = text.format(lowest=lowest, highest=highest)
        return self.named(text.replace("T(", f"{_constructor(dtype)}("))

    def fold(self, m: Member, block: Block) -> None:
        i = self.instruction(m)
        dtype = i.type.dtype
        x = self.operand(i.operands[0], m.operands[0], block)
        if m.level in LINES:
            self.fold_rows(m, x, block)
            return
        name = self.name("v", m.index)
        if m.level is Level.SCALAR:
            self.kernel.names["value", m.index] = name
            if self.is_float_sum(m):
                total = self.name("t", m.index)
                self.kernel.loads.append(f"{total} = {self.named('f64(0)')}")
                self.kernel.lines.append(f"{name} = {dtype.code}({total})")
                if m.space is Level.ROW:
                    block.lines.append(f"{total} = {total} + f64({x})")
            elif m.space is Level.ROW:
                self.kernel.loads.append(f"{name} = {self.start(m)}")
            self.store(m, self.kernel)
        if m.space is Level.FULL or not self.is_float_sum(m):
            _, register, plain = FOLDS[i.op.kernel]
            text = (register if dtype.is_floating else plain).format(acc=name, x=x)
            block.lines.append(f"{name} = {_typed(text, dtype)}")

    def fold_rows(self, m: Member, x: str, block: Block) -> None:
        """A fold that leaves one number a column, of all rows or of some in succession, accumulates in memory."""
        i = self.instruction(m)
        dtype = i.type.dtype
        pointer, start = self.pointer(m.index), stored(self.start(m), dtype)
        place = f"{pointer}[{self.subscript(m.level, i.type.size)}]"
        period = self.layout.size // i.type.size
        count, row, last = self.columns, "i", "rows"
        if m.level is Level.SEGMENT:
            last = self.period(period)
            count, row = f"rows // {last} * {self.columns}", f"i % {last}"
        self.kernel.loads += [f"for j in range({count}):", f"    {pointer}[j] = {start}"]
        if self.is_float_sum(m) and period > ROW_BLOCK:
            total = self.keep(m, "t", "f64", 8)
            self.kernel.loads += [f"for j in range({self.columns}):", f"    {total}[j] = {self.named('f64(0)')}"]
            self.row.stores += [
                f"if {row} % {ROW_BLOCK} == {ROW_BLOCK - 1} or {row} == {last} - 1:",
                f"    for j in range({self.columns}):",
                f"        {total}[j] = {total}[j] + f64({place})",
                f"        {place} = {start}",
                f"if {row} == {last} - 1:",
                f"    for j in range({self.columns}):",
                f"        {place} = {dtype.code}({total}[j])",
                f"        {total}[j] = {self.named('f64(0)')}",
            ]
        text = FOLDS[i.op.kernel][2].format(acc=loaded(place, dtype), x=x)
        block.stores.append(f"{place} = {stored(_typed(text, dtype), dtype)}")

    def is_float_sum(self, m: Member) -> bool:
        i = self.instruction(m)
        return i.op.kernel == "sum" and self.is_fold(m) and i.type.dtype.is_floating

    # ---- operands ----------------------------------------------------------------------------------------------

    def operand(self, value: int, level: Level, block: Block) -> str:
        """The name that holds an operand; it is loaded where it has none."""
        source = root(self.program, value)
        known = block.find(("value", source))
        if known is not None:
            return known
        member = self.members.get(source)
        if member is not None:
            # An earlier column loop of the row computed it.
            pointer = self.name("w", source) if source in self.kept else self.pointer(source)
            place = "j" if source in self.kept else self.subscript(Level.FULL)
            return self.load(("value", source), f"{pointer}[{place}]", self.type(source), block)
        instruction = self.program.instructions[source]
        if is_inlined(instruction):
            return self.inline(instruction, level)
        block = {Level.SCALAR: self.kernel, Level.ROW: self.row, Level.CYCLE: self.row}.get(level, block)
        key = ("load", source, level)
        place = self.subscript(level, self.program.type(source).size)
        return block.find(key) or self.load(key, f"{self.pointer(source)}[{place}]", self.type(source), block)

    def load(self, key: Any, place: str, dtype: DType, block: Block) -> str:
        name = block.names[key] = self.name("x", len(self.names))
        block.loads.append(f"{name} = {loaded(place, dtype)}")
        return name

    def inline(self, i: Instruction, level: Level) -> str:
        constructor = _constructor(i.type.dtype)
        if i.op is not CONSTANT:
            return f"{constructor}({self.subscript(level, i.type.size)})"
        if i.type.dtype.is_bool:
            return str(bool(i.attributes[0]))
        number = i.type.dtype.dtype.type(i.attributes[0]).item()
        if number in (0, 1, -1) or not isfinite(number):
            return self.named(f"{constructor}({number})")
        name = self.name("a", (constructor, number))
        self.numbers[name] = (name, constructor, number)
        return name

    def named(self, text: str) -> str:
        """Text with names for the constants in it: they stand above the kernel, where they cost no compile time."""

        def name(found: re.Match[str]) -> str:
            constant = f"{found[1]}({float(found[2])!r})" if found[1].startswith("f") else found[0]
            return self.constants.setdefault(constant, f"c{len(self.constants)}")

        return re.sub(NUMBER, name, text)

    def subscript(self, level: Level, size: int = 0) -> str:
        """The index of an element in a value of this size."""
        if level is Level.CYCLE:
            return self.row_index(f"i % {self.period(size)}")
        if level is Level.SEGMENT:
            return self.row_index(f"i // {self.period(self.layout.size // size)} * {self.columns}") + " + j"
        full = "k" if self.flat else "base + j"
        return {Level.FULL: full, Level.ROW: "i", Level.COLUMN: "j", Level.SCALAR: "0"}[level]

    def period(self, rows: int) -> str:
        """The parameter for a number of rows after which something begins again, or goes on."""
        return self.periods.setdefault(rows, f"n{len(self.periods)}")

    def row_index(self, text: str) -> str:
        """The variable of the loop over rows for a computed index."""
        if text not in self.row.names:
            self.row.names[text] = self.name("r", text)
            self.row.loads.append(f"{self.row.names[text]} = {text}")
        return self.row.names[text]

    # ---- names -------------------------------------------------------------------------------------------------

    def instruction(self, m: Member) -> Instruction:
        return self.program.instructions[m.index]

    def type(self, index: int) -> DType:
        return self.program.type(index).dtype

    def name(self, letter: str, key: Any) -> str:
        """The letter with a number, the same for the same key."""
        found = self.names.get((letter, key))
        if found is None:
            count = self.counts[letter] = self.counts.get(letter, -1) + 1
            found = self.names[letter, key] = f"{letter}{count}"
        return found

    def pointer(self, value: int) -> str:
        memory = self.shared.get(value, value)
        name = self.name("p", memory)
        self.pointers.setdefault(memory, (name, f"{storage(self.type(value))}*", Pointer(memory)))
        return name


def storage(dtype: DType) -> str:
    return "u8" if dtype.is_bool else dtype.code


def _constructor(dtype: DType) -> str:
    return "boolean" if dtype.is_bool else dtype.code


def _typed(text: str, dtype: DType) -> str:
    """Integers widen in Numba's arithmetic: bring them back."""
    done = not dtype.is_integer or re.fullmatch(rf"{dtype.code}\(\w+\)", text)
    return text if done else f"{dtype.code}({text})"


def stored(text: str, dtype: DType) -> str:
    return f"u8({text})" if dtype.is_bool else text


def loaded(text: str, dtype: DType) -> str:
    return f"({text} != 0)" if dtype.is_bool else text


def indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines or ["pass"]]
