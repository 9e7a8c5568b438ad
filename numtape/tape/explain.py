"""`explain_gradient`: why a gradient is None, and at which line of the user's code the path broke.

A tape that gave None keeps what was recorded, as nodes of the trie and places in users' code, and no values. The answer
follows every flow of data from the source, those that carry no cotangent included, and looks for where the tape's own
path ends.
"""

from __future__ import annotations

import linecache
import weakref
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

from numtape import nest
from numtape.ir.program import INPUT, Instruction
from numtape.passes.differentiate import NEVER, Activity
from numtape.tape.detour import pairs
from numtape.tape.tensor import Tensor
from numtape.tape.variable import INITIAL, Variable

if TYPE_CHECKING:
    from numtape.tape.gradient_tape import GradientTape
    from numtape.tape.trace import Node, Trace


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether a path leads from a target to a source, and if not, why.

    `reason` is one of "connected", "not floating", "not watched", "not read", "not on the tape", "outside of the
    block", "not differentiable", "assigned", "left to Python", "custom gradient" and "no path"; `message` says it in a
    sentence; `filename` and `line` are where in the user's code the path broke, None where there is no such line.
    """

    connected: bool
    reason: str
    message: str
    filename: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        if self.line is None:
            return self.message
        text = linecache.getline(self.filename or "", self.line).strip()
        return f"{self.message}\n  {self.filename}:{self.line}" + (f"\n    {text}" if text else "")

    def __repr__(self) -> str:
        return f"<nt.Explanation: {self}>"


_Place = tuple[str | None, int | None]


def _broken(reason: str, message: str, place: _Place = (None, None)) -> Explanation:
    return Explanation(False, reason, message, *place)


@dataclass(slots=True)
class Record:
    """What a tape knew when it was asked for a gradient; holds no values, and nobody's tensors."""

    node: Node
    sites: list[tuple[int, CodeType, int]]
    exits: list[tuple[int | weakref.ref[Any], int, CodeType, int]]
    ranges: tuple[int, ...]
    starts: dict[int, int]
    around: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    slots: list[tuple[weakref.ref[Any], tuple[int, ...]]]
    """The slots of targets and sources."""

    def slots_of(self, x: Any) -> tuple[int, ...] | None:
        """Where the trace has it; None if that was not asked."""
        return next((slots for ref, slots in self.slots if ref() is x), None)


def record_of(
    tape: GradientTape, trace: Trace, targets: Sequence[Any], sources: Sequence[Any], asked: tuple[Any, Any, Any]
) -> Record:
    """Keep what explains a gradient, given what `GradientTape._asked` said."""
    groups, ranges, watched = asked
    values = [t if type(t) is Tensor else t._value for t in targets]
    slots = [(weakref.ref(t), _known(trace.slot(v))) for t, v in zip(targets, values, strict=True)]
    for x, (_, *own) in zip(sources, groups, strict=True):
        read = own or (_known(trace.slot(x._value)) if isinstance(x, Variable) else ())
        slots.append((weakref.ref(x), tuple(read)))
    around = tuple((d.inputs, d.outputs) for d in tape._detours)
    return Record(trace.node, trace.sites, trace.exits, ranges, tape._starts(watched), around, slots)


def _known(slot: int | None) -> tuple[int, ...]:
    return () if slot is None else (slot,)


def explain_gradient(tape: GradientTape, target: Any, source: Any) -> Any:
    """Say why the gradient of a target with respect to a source is None: an `Explanation`.

    For several sources, in any nesting, one for each; of several targets one that leads there is enough. The tape has
    given that gradient already, or could still give it: one that is not persistent and was used knows only about the
    gradients that were None. TypeError for what is no tensor or Variable, RuntimeError for a gradient that a used tape
    was not asked for, or that was not None.

    >>> import numtape as nt
    >>> x = nt.Variable(2.0)
    >>> with nt.GradientTape() as tape:
    ...     y = nt.cast(nt.cast(x * x, nt.int32), nt.float32)
    >>> print(tape.gradient(y, x))
    None
    >>> why = nt.explain_gradient(tape, y, x)
    >>> why.reason, why.line
    ('not differentiable', 2)
    >>> print(why.message)
    The path ends at cast: its result is int32, and only floats carry gradients.
    """
    targets, sources = nest.flatten(target), nest.flatten(source)
    for role, leaves in (("target", targets), ("source", sources)):
        for leaf in leaves:
            if not isinstance(leaf, Tensor | Variable):
                raise TypeError(f"the {role} of a gradient is a tensor or Variable, not {type(leaf).__name__}")
    if not targets:
        raise ValueError("there is no target: give a tensor or Variable, or several")
    found = []
    for leaf in sources:
        reasons = [_explain(tape, t, leaf) for t in targets]
        found.append(next((why for why in reasons if why.connected), reasons[0]))
    return nest.pack_sequence_as(source, found)


def _explain(tape: GradientTape, target: Any, source: Any) -> Explanation:
    for role, x in (("target", target), ("source", source)):
        if not x.dtype.is_floating:
            return _broken(
                "not floating",
                f"The {role} is {x.dtype.name}, and only floats carry gradients; nt.cast it first, or give "
                "dtype=nt.float32 where it is made.",
            )
    record = _find_record(tape, target, source)
    if record is None:
        return _broken("not on the tape", "Nothing was recorded: no operation ran within the tape's block.")
    return _Search(tape, record, target, source).explain()


def _find_record(tape: GradientTape, target: Any, source: Any) -> Record | None:
    trace = tape._trace
    if trace is None:
        record = tape._unanswered
        if record is None and not tape._spent:
            return None
        if record is None or record.slots_of(target) is None or record.slots_of(source) is None:
            raise RuntimeError(
                "the tape was used, and did not give None for that target and source, so it knows nothing about them; "
                "ask before, or use nt.GradientTape(persistent=True)"
            )
        return record
    return record_of(tape, trace, [target], [source], tape._asked(trace, [target], [source]))


class _Search:
    """The flow of data between one source and one target, with and without the tape's eyes."""

    def __init__(self, tape: GradientTape, record: Record, target: Any, source: Any) -> None:
        self.tape, self.record, self.target, self.source = tape, record, target, source
        self.instructions: list[Instruction] = record.node.recorded()
        self.nodes = [node for node in record.node.path() for _ in node.instructions]
        self.wanted = set(record.slots_of(source) or ())
        self.detours = {out: inputs for inputs, outputs in record.around for out in outputs}
        self.activity = Activity(self.instructions, self.wanted, pairs(record.ranges), record.starts, self.detours)
        self.goal = next(iter(record.slots_of(target) or ()), None)

    def explain(self) -> Explanation:
        if (self.goal is None or not self.wanted) and (left := self._left()):
            return left
        if self.goal is None:
            return _broken(
                "not on the tape",
                "The target was not computed where the tape recorded: it was there before the block, or is a result of "
                "another recording.",
            )
        if not self.wanted:
            return self._unread()
        if self.goal in self.activity.depends or self.goal in self.wanted:
            if self.detours and self._leads_around():
                return _broken("custom gradient", "The path leads through a custom gradient, which gave None.")
            return Explanation(True, "connected", "A path leads from the target to the source.")
        flow = self._reached(self.wanted)
        if self.goal not in flow:
            return self._apart(flow)
        needed = self._ancestors(self.goal)
        for index in sorted(flow & needed - self.wanted):
            carries = [k for k in self._operands(index) if k in self.activity.depends or k in self.wanted]
            if carries and index not in self.activity.depends:
                return self._break(index, carries)
        raise AssertionError("the path is whole")  # pragma: no cover

    def _leads_around(self) -> bool:
        """Whether every path goes through a rule in Python."""
        plain = Activity(self.instructions, self.wanted, pairs(self.record.ranges), self.record.starts,
                         dict.fromkeys(self.detours, ()))  # fmt: skip
        return self.goal not in plain.depends

    def _operands(self, index: int) -> Sequence[int]:
        return self.activity.operands(index)

    def _reached(self, start: Iterable[int]) -> set[int]:
        found = set(start)
        for index in range(min(found, default=0), len(self.instructions)):
            if any(k in found for k in self._operands(index)):
                found.add(index)
        return found

    def _ancestors(self, goal: int) -> set[int]:
        found = {goal}
        for index in range(goal, -1, -1):
            if index in found:
                found.update(self._operands(index))
        return found

    # ---- reasons ---------------------------------------------------------------------------------------------------

    def _break(self, index: int, carries: Sequence[int]) -> Explanation:
        """Instruction `index` takes a value that is connected, and is not connected itself."""
        node = self.nodes[index]
        place = self._place(index)
        unnamed = "gradient" if self._is_derived(index) else "the call of a function"
        name = node.op.name.removeprefix("nt.") if node.op else unnamed
        ranges = pairs(self.record.ranges)
        if not any(start <= index < stop for start, stop in ranges):
            before, after = index < ranges[0][0], index >= ranges[-1][1]
            unread = isinstance(self.source, Variable) and id(self.source) not in self.tape._reads
            if unread and (before or after):
                return self._unread()
            where = "after the tape's block" if after else "while the tape did not record"
            return _broken("outside of the block", f"{name} ran {where}; compute the target within the block.", place)
        if node.donations or node.op is INITIAL:
            return _broken(
                "assigned",
                "The value was assigned to a Variable, whose state begins a new history: a tape sees the Variable's "
                "value, and not how it came about.",
                place,
            )
        if not any(self.activity.known(k, index) for k in carries):
            return self._unwatched(index, carries)
        if self._is_derived(index):
            return self._flat(place)
        results = node.results if isinstance(node.results, list) else [node.results]
        kinds = {at[1].dtype for at in results if at}
        if not any(dtype.is_floating for dtype in kinds):
            names = " and ".join(sorted(dtype.name for dtype in kinds))
            why = f": its result is {names}, and only floats carry gradients"
        else:
            why = "" if name == "stop_gradient" else ", which is not differentiable"
        return _broken("not differentiable", f"The path ends at {name}{why}.", place)

    def _unwatched(self, index: int, carries: Sequence[int]) -> Explanation:
        place = self._place(index)
        what = "The Variable" if isinstance(self.source, Variable) else "The source"
        later = [start for k in carries if (start := self.record.starts.get(k, NEVER)) < NEVER]
        if later:
            return _broken("not watched", f"{what} was watched only after it had been used here.", place)
        return _broken("not watched", f"{what} {self._how_to_watch()}.", place)

    def _how_to_watch(self) -> str:
        if not isinstance(self.source, Variable):
            return "is not watched: call tape.watch(...) before it is used, or make it an nt.Variable"
        if not self.source.trainable:
            return "is not trainable, and such a Variable is watched by tape.watch(...) alone"
        return "is not watched, since the tape has watch_accessed_variables=False: call tape.watch(...)"

    def _unread(self) -> Explanation:
        """The trace knows no value of the source."""
        if isinstance(self.source, Variable):
            if self.source.trainable and self.tape._watch_accessed:
                return _broken(
                    "not read",
                    f"{self.source.name} was not read within the tape's block. Was its name bound to something else, "
                    "as in `v = v + 1` in place of `v.assign_add(1)`?",
                )
            return _broken("not watched", f"{self.source.name} {self._how_to_watch()}.")
        return _broken(
            "not on the tape",
            "The source was not used where the tape recorded: the target was computed from other tensors, if from "
            "equal ones.",
        )

    def _apart(self, flow: set[int]) -> Explanation:
        """No flow of data leads from the source to the target."""
        goal = self.goal or 0
        place = self._place(goal)
        if (left := self._left(flow)) is not None:
            return left
        if isinstance(self.source, Tensor) and min(self.wanted) > goal:
            return _broken(
                "no path",
                "The source is a new tensor, made after the target, which was not computed from it: as `x[0]` gives a "
                "new one each time. Take the part before, and compute the target from it; or take the part of the "
                "gradient with respect to the whole.",
                self._place(min(self.wanted)),
            )
        if self._is_derived(goal):
            ranges = pairs(self.record.ranges)
            if not any(start <= goal < stop for start, stop in ranges):
                return _broken(
                    "outside of the block",
                    "The target is a gradient that was computed outside of the tape's block; compute it within.",
                    place,
                )
            return self._flat(place)
        return _broken("no path", "The target does not depend on the source.", place)

    def _left(self, flow: Collection[int] = ()) -> Explanation | None:
        """Where Python looked at a value of the flow, or at a Variable, before the target took something in."""
        needed = () if self.goal is None else self._ancestors(self.goal)
        for slot, length, code, lasti in self.record.exits:
            seen = slot in flow if isinstance(slot, int) else slot() is self.source
            if seen and (
                self.goal is None or any(k >= length and self.instructions[k].op is INPUT for k in needed)
            ):
                return _broken(
                    "left to Python",
                    "A value that depends on the source was looked at here, as a number or an array; what NumPy or "
                    "Python computes from it comes back as a constant. Use nt's ops all the way.",
                    line_of(code, lasti),
                )
        return None

    def _is_derived(self, index: int) -> bool:
        """Whether an instruction was written to compute a gradient."""
        node = self.nodes[index]
        return bool(node.origins) and node.origins[index - node.length] is not None

    def _flat(self, place: _Place) -> Explanation:
        return _broken(
            "no path",
            "The target is a gradient, which does not depend on the source: what it was taken of is linear in it, or "
            "linear in pieces.",
            place,
        )

    def _place(self, index: int) -> _Place:
        """Where in the user's code instruction `index` was recorded, if a tape saw it."""
        end = self.nodes[index].length
        return next((line_of(code, lasti) for length, code, lasti in self.record.sites if length == end), (None, None))


def line_of(code: CodeType, lasti: int) -> tuple[str, int]:
    """The file and line of a place in code."""
    lines = list(code.co_positions())
    return code.co_filename, lines[lasti // 2][0] or code.co_firstlineno
