"""Gather instructions into groups that each become one kernel.

In comes a simplified and legalized program; out comes a `Schedule`: groups in an order that respects the data. Ops on
elements and folds join their producers and their siblings wherever one loop nest can compute them all (`lay_out` in
`numtape.passes.layout` decides that). What can wait without costing memory, such as the mask of a relu whose result is
in memory anyway, joins its users instead. Ops on single numbers join each other.

Reshapes cost nothing and are looked through; literals and index ramps are written into whoever uses them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from numtape.ir.op import Kind
from numtape.ir.program import Instruction, Program
from numtape.passes.layout import Layout, awaited, is_inlined, lay_out, root

MAX_MEMBERS, MAX_NUMBERS = 120, 40
"""Longer kernels compile slowly and run out of registers: over arrays, where a cut costs memory traffic, and on single
numbers, where it costs nothing."""
ENOUGH_NUMBERS = 16
"""So many single numbers are a kernel worth calling."""
MAX_POINTERS = 48
ROUTINES = {Kind.CALL, Kind.UPDATE, Kind.LOOP}
"""What stands alone."""
RECENT = 4
"""How many of the latest readers of a value are tried as siblings: a weight may have thousands."""


@dataclass(frozen=True, slots=True)
class Group:
    """Instructions that become one kernel; a routine stands alone, a loop with its parts, and has no layout."""

    members: tuple[int, ...]
    layout: Layout | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Groups in order of execution, for one program."""

    program: Program
    groups: tuple[Group, ...]

    def __str__(self) -> str:
        return "\n".join(_describe(self.program, group) for group in self.groups)


def _describe(program: Program, group: Group) -> str:
    if group.layout is None:
        index = group.members[0]
        i = program.instructions[index]
        return f"call  %{index} = {i.op.name}({', '.join(f'%{root(program, k)}' for k in i.operands)})"
    lines = [str(group.layout)]
    for m in group.layout.members:
        i = program.instructions[m.index]
        operands = ", ".join(
            f"{level.value} %{root(program, k)}" for k, level in zip(i.operands, m.operands, strict=True)
        )
        lines.append(f"  {m.where:8}{m.level.value} %{m.index} = {i.op.name}({operands})")
    return "\n".join(lines)


def fuse(program: Program) -> Schedule:
    """Group the program's instructions, greedily in order, and sort the groups."""
    return _Fusion(program).run()


@dataclass(slots=True, eq=False)
class _Node:
    """A group in the making.

    `bits` are the numbers of the groups it was made from, as a mask, and `ancestors` those of the groups that it
    depends on, directly or not.
    """

    members: list[int]
    layout: Layout | None
    bits: int
    ancestors: int = 0
    before: dict[_Node, None] = field(default_factory=dict)
    after: dict[_Node, None] = field(default_factory=dict)
    reads: dict[int, None] = field(default_factory=dict)
    """Values from outside, not those that are written out in place."""

    def follows(self, other: _Node) -> bool:
        return bool(self.ancestors & other.bits)


class _Fusion:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: dict[_Node, None] = {}
        self.node_of: dict[int, _Node] = {}
        self.readers: dict[int, list[int]] = {}
        """For a value the latest instructions that read it, from different groups when they were placed."""
        self.latest_scalar: int | None = None
        self.in_memory = {root(program, k) for k in program.outputs}
        for index, i in enumerate(program.instructions):
            if i.op.kind in ROUTINES:
                self.in_memory.update(root(program, k) for k in (index, *i.operands))

    def run(self) -> Schedule:
        for index, instruction in enumerate(self.program.instructions):
            if instruction.op.kind is Kind.PART:
                node = self.node_of[index] = self.node_of[instruction.operands[0]]
                node.members.append(index)
            elif instruction.op.kind is not Kind.ALIAS and (not is_inlined(instruction) or index in self.in_memory):
                node = self.place(index, instruction)
                if node.layout is not None and not self.can_wait(node):
                    self.join(node)
        for node in list(self.nodes):
            if node in self.nodes and node.layout is not None:
                self.join(node)
        return Schedule(self.program, tuple(Group(tuple(n.members), n.layout) for n in self.sorted()))

    def place(self, index: int, instruction: Instruction) -> _Node:
        """A group of its own for an instruction."""
        layout = None if instruction.op.kind in ROUTINES else lay_out(self.program, [index])
        node = _Node([index], layout, 1 << len(self.node_of))
        for operand in instruction.operands:
            source = root(self.program, operand)
            if layout is None or not is_inlined(self.program.instructions[source]):
                node.reads[source] = None
            for value in [*([source] if source in node.reads else []), *awaited(self.program, operand)]:
                producer = self.node_of.get(value)
                if producer is not None:
                    node.before[producer] = None
                    producer.after[node] = None
                    node.ancestors |= producer.ancestors | producer.bits
        self.nodes[node] = None
        self.node_of[index] = node
        return node

    def can_wait(self, node: _Node) -> bool:
        """Whether the one thing it reads stays in memory: then whoever uses it computes it from there."""
        assert node.layout is not None
        arrays = [k for k in node.reads if self.program.type(k).size > 1]
        return (
            len(arrays) == 1
            and (arrays[0] in self.in_memory or arrays[0] not in self.node_of)
            and self.program.instructions[node.members[0]].op.kind is Kind.MAP
            and node.members[0] not in self.in_memory
        )

    def join(self, node: _Node) -> None:
        """Merge a group with its producers, and with others that read the same."""
        for candidate in self.candidates(node):
            other = self.node_of[candidate]
            if other is not node and self.can_merge(other, node):
                node = self.merge(other, node)
        for source in node.reads:
            others = [k for k in self.readers.get(source, ()) if self.node_of[k] is not node]
            self.readers[source] = [*others[1 - RECENT :], node.members[-1]]
        if node.layout is not None and node.layout.size == 1:
            self.latest_scalar = node.members[-1]

    def candidates(self, node: _Node) -> list[int]:
        """A member of each group to merge with, best first."""
        producers = sorted(node.before, key=lambda p: p.members[-1], reverse=True)
        found = [p.members[-1] for p in producers]
        for source in node.reads:
            if self.program.type(source).size > 1:
                found += reversed(self.readers.get(source, ()))
        if node.layout is not None and node.layout.size == 1 and self.latest_scalar is not None:
            found.append(self.latest_scalar)
        return found

    def can_merge(self, a: _Node, b: _Node) -> bool:
        """Whether the groups are small enough, and no path leads from one to the other through a third."""
        if a.layout is None or b.layout is None:
            return False
        numbers = a.layout.size == b.layout.size == 1
        if len(a.members) + len(b.members) > (MAX_NUMBERS if numbers else MAX_MEMBERS):
            return False
        if numbers and self.begins_again(*sorted((a.members, b.members))):
            return False
        first, second = (b, a) if a.follows(b) else (a, b)
        return not any(third is not first and third.follows(first) for third in second.before)

    def begins_again(self, members: list[int], later: list[int]) -> bool:
        """Whether a loop that was written out is back where a group of numbers began: cut there, so that each turn of
        the loop gives the same kernels."""
        return len(members) >= ENOUGH_NUMBERS and self.kind_of(members[0]) == self.kind_of(later[0])

    def kind_of(self, index: int) -> tuple[Any, ...]:
        i = self.program.instructions[index]
        return i.op, i.type, i.attributes, *[self.program.instructions[root(self.program, k)].op for k in i.operands]

    def merge(self, a: _Node, b: _Node) -> _Node:
        """One group in place of two, if there is one loop nest for both; else b as it is."""
        assert a.layout is not None
        assert b.layout is not None
        members = sorted(a.members + b.members)
        layout = lay_out(self.program, members, a.layout, b.layout)
        inside = set(members)
        reads = {k: None for k in (*a.reads, *b.reads) if k not in inside}
        if layout is None or len(reads) + len(inside & self.in_memory) > MAX_POINTERS:
            return b
        small, node = (a, b) if len(a.members) < len(b.members) else (b, a)
        del self.nodes[small]
        for member in small.members:
            self.node_of[member] = node
        for other in small.before:
            del other.after[small]
            if other is not node:
                other.after[node] = node.before[other] = None
        for other in small.after:
            del other.before[small]
            if other is not node:
                other.before[node] = node.after[other] = None
        node.members, node.layout, node.reads = members, layout, reads
        node.bits |= small.bits
        node.ancestors = (node.ancestors | small.ancestors) & ~node.bits
        _hand_down(node)
        return node

    def sorted(self) -> Iterator[_Node]:
        """Topological order, of those that are ready the group whose last member comes first."""
        left = {node: len(node.before) for node in self.nodes}
        nodes = {node.members[-1]: node for node in self.nodes}
        ready = [last for last, node in nodes.items() if not left[node]]
        heapq.heapify(ready)
        count = 0
        while ready:
            node = nodes[heapq.heappop(ready)]
            count += 1
            yield node
            for later in node.after:
                left[later] -= 1
                if not left[later]:
                    heapq.heappush(ready, later.members[-1])
        assert count == len(nodes), "groups depend on each other in a circle"


def _hand_down(node: _Node) -> None:
    """Tell those after a group about its ancestors."""
    waiting = [(node, node.ancestors)]
    while waiting:
        at, known = waiting.pop()
        for later in at.after:
            if known & ~later.ancestors:
                later.ancestors |= known
                waiting.append((later, known))
