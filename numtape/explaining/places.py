"""From instructions back to the user's code.

In comes a node of the trie, with the sites that were noted on the way to it; out comes, for each slot, the line whose
call recorded it, or whose derivative it is. Sites are noted within tapes, while a function is recorded, and while
numbers are checked; elsewhere only the op's name is known. What a function's replay recorded has the lines of the
function.
"""

from __future__ import annotations

import linecache
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from types import CodeType

from numtape.functions.recording import Provenance
from numtape.ir.loop import LOOP
from numtape.tape.explain import line_of
from numtape.tape.trace import Node


@dataclass(frozen=True, slots=True)
class Place:
    """Which call an instruction is there for.

    `role` is "forward", "backward" for what a tape's gradient added, or "tangent" for what an accumulator did. Without
    a `filename` the line was not noted; `op` is what was called, if it is known, and `name` what an input is.
    """

    role: str
    op: str = ""
    filename: str = ""
    line: int = 0
    name: str = ""

    @property
    def code(self) -> str:
        """The line's text, if the file can be read."""
        return linecache.getline(self.filename, self.line).strip() if self.filename else ""

    def __str__(self) -> str:
        where = f"{self.filename}:{self.line}" if self.filename else self.op or "generated"
        return where if self.role == "forward" else f"{self.role} of {where}"


GENERATED = Place("forward")
"""For what no single call is behind."""


class Places:
    """The places of a recording's slots."""

    def __init__(
        self, node: Node, sites: Sequence[tuple[int, CodeType, int]], names: Mapping[int, str] | None = None
    ) -> None:
        self._nodes = [n for n in node.path() for _ in n.instructions]
        self._sites = {length: (code, lasti) for length, code, lasti in sites}
        self._names = names or {}
        self.role = "forward"
        """What the body of a loop is there for, if these are the places in one."""
        self._within: dict[Node, tuple[Places, dict[int, int]]] = {}

    def of(self, slot: int | None) -> Place:
        """The place of a slot; None is a slot that nobody knows."""
        if slot is None:
            return GENERATED
        node = self._nodes[slot]
        origin = node.origins[slot - node.length] if node.origins else None
        if origin is not None:
            return replace(self.of(origin), role="tangent" if isinstance(node.results, dict) else "backward")
        if node.extra and isinstance(node.extra[-1], Provenance):
            places, inverse = self._function(node)
            return places.of(inverse.get(slot))
        site = self._sites.get(node.length)
        filename, line = line_of(*site) if site else ("", 0)
        if node.op is None and not filename:
            return Place("backward", "gradient")
        return Place(self.role, node.op.name.removeprefix("nt.") if node.op else "", filename, line,
                     self._names.get(slot, ""))  # fmt: skip

    def runs(self, slot: int | None) -> tuple[int, int]:
        """How often the call behind a slot had been made by then, itself counted, and how often in all."""
        if slot is None:
            return 1, 1
        node = self._nodes[slot]
        origin = node.origins[slot - node.length] if node.origins else None
        if origin is not None:
            return self.runs(origin)
        if node.extra and isinstance(node.extra[-1], Provenance):
            places, inverse = self._function(node)
            return places.runs(inverse.get(slot))
        site = self._sites.get(node.length)
        if not site:
            return 1, 1
        made = {length: 1 for length, other in self._sites.items() if other == site}
        for at, other in enumerate(self._nodes):
            i = other.instructions[at - other.length]
            if i.op is LOOP:
                body, count, _ = i.attributes
                made[at] = count * any(k is not None and self._nodes[k].length in made for k in body.origins)
        return sum(made[at] for at in made if at <= node.length), sum(made.values())

    def is_loop(self, slot: int | None) -> bool:
        """Whether a loop was recorded as such, behind its first turns; others were found in what was recorded."""
        return slot is not None and self._nodes[slot].instructions[slot - self._nodes[slot].length].op is LOOP

    def within(self, slot: int | None) -> Places:
        """The places of what is in the body of a loop: of the same recording, or that of the function it came with."""
        if slot is None or not self.is_loop(slot):
            return self
        node = self._nodes[slot]
        origin = node.origins[slot - node.length] if node.origins else None
        if origin is not None:
            found = copy(self.within(origin))
            found.role = "tangent" if isinstance(node.results, dict) else "backward"
            return found
        if node.extra and isinstance(node.extra[-1], Provenance):
            places, inverse = self._function(node)
            return places.within(inverse.get(slot))
        return self

    def _function(self, node: Node) -> tuple[Places, dict[int, int]]:
        """What a function's own recording says, and its slots by those here."""
        found = self._within.get(node)
        if found is None:
            where, provenance = node.extra
            found = self._within[node] = Places(*provenance), {here: there for there, here in where.items()}
        return found
