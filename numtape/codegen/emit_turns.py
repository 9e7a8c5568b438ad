"""Write a loop whose values are single numbers as one kernel: what is carried stays in registers.

In comes the optimized body of a loop, and where its inputs come from and its values go; out comes a `Step`, or None if
a value has several elements or there are too many of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from numtape.codegen.emit import Block, Emitter, indented, loaded, storage, stored
from numtape.ir.kernel import Argument, Kernel, Pointer, Step
from numtape.ir.op import Kind
from numtape.ir.program import INPUT, Program
from numtape.passes.layout import Layout, Level, is_inlined, lay_out, root

MAX_MEMBERS = 160
"""Longer bodies compile slowly."""


class Same(NamedTuple):
    """An input that is the same in all turns, by the argument it comes from."""

    source: Pointer


class Carried(NamedTuple):
    """An input that the turns hand on: what it is at first, and which output is its next value."""

    source: Pointer
    output: int


class Moving(NamedTuple):
    """An input of which each turn sees another element, from `start` on."""

    source: Pointer
    start: int
    step: int


class Target(NamedTuple):
    """Where an output goes: its value in the last turn, or, `wide`, in all of them."""

    pointer: Pointer
    output: int
    wide: bool


def emit_turns(
    program: Program,
    inputs: Mapping[int, Same | Carried | Moving],
    targets: Sequence[Target],
    count: int,
    writes: tuple[int, ...],
) -> Step | None:
    """The step of a loop of `count` turns; `inputs` say for each index what the body's input is."""
    if any(i.type.size != 1 or i.op.kind not in (Kind.MAP, Kind.ALIAS) for i in program.instructions):
        return None
    members = [k for k, i in enumerate(program.instructions) if i.op.kind is Kind.MAP and not is_inlined(i)]
    layout = lay_out(program, members) if 0 < len(members) <= MAX_MEMBERS else None
    if layout is None or any(is_inlined(program.instructions[root(program, k)]) for k in program.outputs):
        return None
    return _Turns(program, layout, inputs, targets).turns(count, writes)


class _Turns(Emitter):
    def __init__(
        self, program: Program, layout: Layout, inputs: Mapping[int, Same | Carried | Moving], targets: Sequence[Target]
    ) -> None:
        super().__init__(program, layout, set(), {})
        self.inputs, self.targets = inputs, targets
        self.arguments: dict[Argument, tuple[str, str]] = {}
        self.extents: list[tuple[str, str, Argument]] = []

    def outside(self, pointer: Pointer, code: str) -> str:
        if pointer not in self.arguments:
            self.arguments[pointer] = self.name("p", pointer), f"{code}*"
        return self.arguments[pointer][0]

    def extent(self, number: int) -> str:
        name = f"n{len(self.extents)}"
        self.extents.append((name, "i64", number))
        return name

    def operand(self, value: int, level: Level, block: Block) -> str:
        source = root(self.program, value)
        known = block.find(("value", source))
        if known is not None:
            return known
        i = self.program.instructions[source]
        if i.op is not INPUT:
            return self.inline(i, level)
        given, dtype = self.inputs[i.attributes[0]], i.type.dtype
        name = self.name("x", source)
        if isinstance(given, Moving):
            block.names["value", source] = name
            pointer = self.outside(given.source, storage(dtype))
            place = f"{pointer}[{self.extent(given.start)} + k * {self.extent(given.step)}]"
            block.loads.append(f"{name} = {loaded(place, dtype)}")
        else:
            self.kernel.names["value", source] = name
            self.kernel.loads.append(f"{name} = {loaded(f'{self.outside(given.source, storage(dtype))}[0]', dtype)}")
        return name

    def turns(self, count: int, writes: tuple[int, ...]) -> Step:
        block = Block(self.kernel)
        carried = {k: given for k, given in self.inputs.items() if isinstance(given, Carried)}
        by_index = {self.program.instructions[k].attributes[0]: k for k in self.program.inputs}
        for k in carried:
            self.operand(by_index[k], Level.SCALAR, block)
        for m in self.layout.members:
            self.value(m, block)
        outputs = [self.operand(k, Level.SCALAR, block) for k in self.program.outputs]
        after = []
        for target in self.targets:
            dtype = self.program.type(self.program.outputs[target.output]).dtype
            pointer, text = self.outside(target.pointer, storage(dtype)), stored(outputs[target.output], dtype)
            if target.wide:
                block.stores.append(f"{pointer}[k] = {text}")
            else:
                last = self.name("f", target)
                block.stores.append(f"{last} = {outputs[target.output]}")
                after.append(f"{pointer}[0] = {stored(last, dtype)}")
        moves = [(self.name("x", by_index[k]), outputs[given.output]) for k, given in carried.items()]
        states = {to for to, _ in moves}
        for to, source in moves:
            if source in states and source != to:
                block.stores.append(f"{self.name('m', to)} = {source}")
        for to, source in moves:
            if source != to:
                block.stores.append(f"{to} = {self.name('m', to) if source in states else source}")
        body = [*self.kernel.loads, "for k in range(n):", *indented(block.text), *after]
        parameters = [
            *((name, code, pointer) for pointer, (name, code) in self.arguments.items()),
            *self.numbers.values(), *self.extents, ("n", "i64", count),
        ]  # fmt: skip
        names, types, arguments = zip(*parameters, strict=True)
        constants = [f"{name} = {text}" for text, name in self.constants.items()]
        source = "\n".join([*constants, f"def kernel({', '.join(names)}):", *indented(body)]) + "\n"
        return Step(Kernel(f"turns_{self.title()}", source, types), arguments, writes)
