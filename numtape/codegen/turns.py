"""A loop as one step: its body's plan, and where the memory of each turn is.

In comes a loop with the parts of it that others read; out goes a `LoopStep`, whose own steps run once a turn. Each
value of the body has a place: a start from one of the loop's arguments, and how far it moves from turn to turn. What is
carried stays in one buffer, written in place where the body's plan allows it and copied at the end of a turn otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from numtape.codegen.emit_turns import Carried, Moving, Same, Target, emit_turns
from numtape.dtypes import TensorType
from numtape.ir.kernel import Argument, Kernel, Pointer, Scratch, Step, aligned
from numtape.ir.loop import FINAL, STACKED, needed, parts
from numtape.ir.program import Program
from numtape.ops.movement import copy
from numtape.passes.layout import root

if TYPE_CHECKING:
    from numtape.codegen.plan import Plan

TURNS = Kernel(
    "turns",
    """\
def kernel(starts, start_count, moves, move_count, blocks, steps, first_count, step_count, count, bases):
    start, move, block, step, base = words(starts), words(moves), words(blocks), words(steps), words(bases)
    for k in range(start_count):
        block[start[3 * k]] = base[start[3 * k + 1]] + start[3 * k + 2]
    for k in range(first_count):
        call_entry(step[2 * k], step[2 * k + 1])
    for turn in range(count):
        for k in range(first_count, step_count):
            call_entry(step[2 * k], step[2 * k + 1])
        for k in range(move_count):
            block[move[2 * k]] += move[2 * k + 1]
""",
    ("i64",) * 10,
)
"""Write where everything is in the first turn, run what comes before it, then the turns. The addresses that the loop
takes stand behind these numbers."""


class Place(NamedTuple):
    """Where a value of a body is: an argument of the loop, bytes from its start, and by how many it moves a turn."""

    argument: int
    start: int = 0
    stride: int = 0


@dataclass(frozen=True, slots=True)
class LoopStep:
    """Steps that run `count` times, after the first `once` of them; Pointers among their arguments mean `places`."""

    kernel: Kernel
    arguments: tuple[Argument, ...]
    writes: tuple[int, ...]
    body: Plan
    steps: tuple[Step | LoopStep, ...]
    once: int
    count: int
    places: dict[int, Place]
    scratch: Place


def loop_step(
    program: Program,
    members: Sequence[int],
    shared: dict[int, int],
    optimize: Callable[[Program], Program],
    lay_down: Callable[[Program], Plan],
) -> Step | LoopStep:
    """The step of a loop, the first of the members, and its parts, the others."""
    loop = _Loop(program, members, shared)
    body = optimize(loop.wanted())
    return loop.kernel(body) or loop.step(lay_down(body))


def wanted_body(program: Program, members: Sequence[int]) -> Program:
    """What a turn has to compute of a loop, the first of the members, for its parts, the others."""
    return _Loop(program, members, {}).wanted()


def carried_from(program: Program, part: int) -> int | None:
    """The value that a loop may write a part's elements over: what it is at first, if nothing else in the loop is."""
    turns, value = program.instructions[part].operands[0], program.instructions[part].attributes[0]
    i = program.instructions[turns]
    body = i.attributes[0]
    if value not in body.outputs:
        return None
    operands = [root(program, k) for k in i.operands]
    before = operands[body.outputs.index(value)]
    old, new = program.type(before), program.type(part)
    fits = old.dtype is new.dtype and old.size == new.size
    return before if operands.count(before) == 1 and fits else None


class _Loop:
    def __init__(self, program: Program, members: Sequence[int], shared: dict[int, int]) -> None:
        self.program, self.parts, self.shared = program, members[1:], shared
        i = program.instructions[members[0]]
        self.body, self.count, self.windows = i.attributes
        self.operands = [root(program, k) for k in i.operands]
        self.carried, self.same, _ = parts(len(i.operands), self.body, self.windows)
        self.arguments: dict[Argument, int] = {}
        self.places: dict[int, Place] = {}
        self.names = 0
        self.finals, self.stacks = self.demanded(FINAL), self.demanded(STACKED)
        live = needed(self.body, [*self.finals, *self.stacks])
        self.live = [k for k, value in enumerate(self.body.inputs[: self.carried]) if value in live]
        """What is carried and needed."""

    def argument(self, argument: Argument) -> int:
        return self.arguments.setdefault(argument, len(self.arguments))

    def pointer(self, value: int) -> Pointer:
        """Where a value of the program around is."""
        return Pointer(self.shared.get(value, value))

    def outside(self, value: int) -> int:
        """The argument that is a value of the program around."""
        return self.argument(self.pointer(value))

    def also(self, place: Place) -> int:
        """A name in the body for a place of its own."""
        self.names += 1
        name = -self.names
        self.places[name] = place
        return name

    def demanded(self, op: object) -> dict[int, int]:
        """The parts of one kind: for values of the body, the values of the program around."""
        found = {}
        for part in self.parts:
            i = self.program.instructions[part]
            if i.op is op:
                found[i.attributes[0]] = part
        return found

    def wanted(self) -> Program:
        """The body with the outputs that are wanted: what is carried, then what is stacked, then last values."""
        body = self.body
        outputs = [*(body.outputs[k] for k in self.live), *self.stacks, *self.finals]
        return Program(body.instructions, tuple(outputs), tuple(enumerate(self.live)), body.origins)

    def kernel(self, body: Program) -> Step | None:
        """The whole loop as one kernel, if its values are single numbers."""
        inputs: dict[int, Same | Carried | Moving] = {}
        for k, operand in enumerate(self.operands):
            source = self.pointer(operand)
            if k >= self.carried + self.same:
                inputs[k] = Moving(source, *self.windows[k - self.carried - self.same])
            elif k >= self.carried:
                inputs[k] = Same(source)
            elif k in self.live:
                inputs[k] = Carried(source, self.live.index(k))
        parts_ = [*self.stacks.values(), *self.finals.values()]
        targets = [
            Target(self.pointer(part), len(self.live) + n, n < len(self.stacks)) for n, part in enumerate(parts_)
        ]
        return emit_turns(body, inputs, targets, self.count, tuple(self.parts))

    def step(self, inner: Plan) -> LoopStep:
        body, finals, stacks, carried = self.body, self.finals, self.stacks, self.live
        given = {inner.program.instructions[k].attributes[0]: k for k in inner.program.inputs}
        found = [at if kind == "new" else given[at] for kind, at in inner.results]
        ends = len(carried), len(carried) + len(stacks)
        news, wide, last = found[: ends[0]], found[ends[0] : ends[1]], found[ends[1] :]
        # What is carried lives where its last value is wanted.
        buffers: dict[int, int] = {}
        for k in carried:
            part = finals.get(body.outputs[k])
            if part is not None and part not in buffers.values():
                buffers[k] = part
        places, arena = self.places, inner.arena
        inside: dict[int, int] = dict(inner.offsets)

        def room(value: int, kind: TensorType) -> None:
            nonlocal arena
            inside[value] = arena
            arena += aligned(kind.nbytes)

        for k, value in given.items():
            kind = inner.program.type(value)
            if k >= self.carried + self.same:
                start, stride = self.windows[k - self.carried - self.same]
                places[value] = Place(self.outside(self.operands[k]), start * kind.nbytes, stride * kind.nbytes)
            elif k >= self.carried:
                places[value] = Place(self.outside(self.operands[k]))
            elif k in buffers:
                places[value] = Place(self.outside(buffers[k]))
            elif k in carried:
                room(value, kind)
        targets: list[tuple[int, int, TensorType]] = []
        """Name of a place, value that is to be there at the end of each turn, and its type."""
        for parts_, values, is_wide in ((stacks, wide, True), (finals, last, False)):
            for (value, part), source in zip(parts_.items(), values, strict=True):
                kind = body.type(value)
                place = Place(self.outside(part), 0, kind.nbytes * is_wide)
                if part in buffers.values():
                    continue
                if source in places or source in inside:
                    targets.append((self.also(place), source, kind))
                else:
                    places[source] = place
        for source, k in zip(news, carried, strict=True):
            if source not in places and source not in inside:
                room(source, body.type(body.outputs[k]))
        moved = [(given[k], source, body.type(body.outputs[k])) for k, source in zip(carried, news, strict=True)]
        moved = [entry for entry in moved if entry[0] != entry[1]]
        overwritten = {to for to, _, _ in moved}
        for n, (to, source, kind) in enumerate(moved):
            if source in overwritten:  # two that change places
                self.names += 1
                kept = -self.names
                room(kept, kind)
                targets.append((kept, source, kind))
                moved[n] = to, kept, kind
        own = self.argument(Scratch(arena)) if arena else -1
        starts = [self.also(Place(self.outside(self.operands[k]))) for k in carried]
        first = [(given[k], at, body.type(body.outputs[k])) for k, at in zip(carried, starts, strict=True)]
        places |= {value: Place(own, offset) for value, offset in inside.items()}
        before = [self.copy(*entry) for entry in first if places[entry[0]] != places[entry[1]]]
        after = [self.copy(*entry) for entry in [*targets, *moved]]
        steps = [s for s in [*before, *inner.steps, *after] if s is not None]
        once = sum(s is not None for s in before)
        return LoopStep(
            TURNS, tuple(self.arguments), tuple(self.parts), inner, tuple(steps), once, self.count, places,
            Place(own, inner.scratch),
        )  # fmt: skip

    def copy(self, to: int, source: int, kind: TensorType) -> Step | None:
        if not kind.size:
            return None
        kernel, extents = copy(kind.dtype, (kind.size,), (1,), (1,))
        return Step(kernel, (Pointer(to), Pointer(source), *extents), ())
