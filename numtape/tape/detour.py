"""Detours: where a tape's path leads through a gradient rule in Python, and gradients of such paths.

A function with a gradient of its own runs off the tape; on it stand only its results, as copies whose cotangents the
user's rule turns into cotangents of what went in. A gradient then goes in stretches: from the targets back to the last
detour; through its rule, which records ops like any others; on to the next detour; and so forth. A stretch is one entry
of the trie, so that repeated steps derive nothing anew, while the rule itself is called every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numtape.dtypes import TensorType
from numtape.ir.op import Kind, Op
from numtape.ir.program import Builder, Value
from numtape.ops.core import PUBLIC
from numtape.ops.recompute import kept
from numtape.passes.differentiate import Activity, pull_back, total
from numtape.tape.indexed_slices import joined, plus, split
from numtape.tape.tensor import Tensor
from numtape.tape.trace import STATE, Node, Trace, record

if TYPE_CHECKING:
    from numtape.tape.gradient_tape import GradientTape


@dataclass(frozen=True, slots=True, eq=False)
class Detour:
    """Results that stand on a tape, where they come from, and the rule that leads back."""

    inputs: tuple[int, ...]
    """Slots; an input that is read at several places may be there several times."""
    input_types: tuple[TensorType, ...]
    outputs: tuple[int, ...]
    """Slots, one after another."""
    output_types: tuple[TensorType, ...]
    rule: Callable[[list[Tensor]], list[Tensor | None]]
    """From a cotangent for each output to one, or None, for each input; called once for each gradient."""
    hidden: str
    """The name of what computed the results out of an accumulator's sight; empty if that was done with ops."""


class _Gradient:
    """Stands in keys, and in errors, where an op would."""

    name = "gradient"
    groups = ("T",)


GRADIENT: Any = _Gradient()

_COPIES = Op(
    "detour", Kind.COMPOSITE, ("operands",), ("count",), groups=("T",),
    expand=lambda values, attributes: [kept(v) for v in values[attributes[0] :]],
)  # fmt: skip
"""Its operands are what goes in, so that a tape sees them read, and `count` behind them what came out."""


def take(inputs: Sequence[Any], results: Sequence[Tensor], rule: Callable[..., Any], hidden: str = "") -> list[Tensor]:
    """Put a detour on all recording tapes; returns the results as they see them."""
    copies: list[Tensor] = record(_COPIES, [*inputs, *results], (len(inputs),))
    trace = STATE.trace
    slots = tuple(trace.slot(x if type(x) is Tensor else x._value) for x in inputs)
    detour = Detour(
        slots,  # type: ignore[arg-type]
        tuple(x._type for x in inputs),
        tuple(t._slot for t in copies),
        tuple(t._type for t in copies),
        rule,
        hidden,
    )
    for tape in STATE.tapes:
        tape._detours = (*tape._detours, detour)
    return copies


def pull_back_around(
    tape: GradientTape, trace: Trace, targets: list[Any], sources: list[Any], seeds: list[Any] | None
) -> list[Any]:
    """What `GradientTape._record` gives, for a tape with detours."""
    found: list[Any] = [None] * len(sources)
    stretches = _Stretches(tape, trace, targets, sources)
    values = [t if type(t) is Tensor else t._value for t in targets]
    slots: list[int] = []
    weights: list[Any] = list(seeds) if seeds else [None] * len(values)
    for detour in [*reversed(tape._detours), None]:
        if not (values or slots):
            break
        parts, rest, leading = stretches.walk(values, slots, weights, detour)
        found = [*map(plus, found, parts)]
        if detour is None:
            break
        upstream = [rest.pop(slot, None) for slot in detour.outputs]
        for slot, g in zip(detour.outputs, upstream, strict=True):
            found = [plus(f, g) if slot in own else f for f, (_, *own) in zip(found, stretches.groups, strict=True)]
        values, slots, weights = [], list(rest), list(rest.values())
        if any(g is not None for g in upstream):
            filled = [
                PUBLIC["zeros"](type.shape, type.dtype) if g is None else g
                for g, type in zip(upstream, detour.output_types, strict=True)
            ]
            for slot, g, leads in zip(detour.inputs, detour.rule(filled), leading, strict=True):
                if leads and g is not None:
                    slots.append(slot)
                    weights.append(g)
    return found


class _Stretches:
    """One gradient on a tape with detours, each stretch of which becomes an entry in the trie."""

    def __init__(self, tape: GradientTape, trace: Trace, targets: list[Any], sources: list[Any]) -> None:
        self.tape, self.trace, self.targets, self.sources = tape, trace, targets, sources
        self.around = tuple([(d.inputs, d.outputs) for d in tape._detours])
        self.groups: tuple[Any, ...] = ()
        self.activity: Activity | None = None

    def walk(
        self, values: list[Tensor], slots: list[int], weights: list[Tensor | None], until: Detour | None
    ) -> tuple[list[Tensor | None], dict[int, Tensor], tuple[bool, ...]]:
        """Go back from slots, and values, with these weights, until behind a detour.

        Gives cotangents of the sources on the way, those of the slots beyond, and which of the detour's inputs lead on.
        """
        trace, tape = self.trace, self.tape
        floor = until.outputs[-1] + 1 if until else 0
        try:
            words = trace.key(GRADIENT, [*values, *[w for w in weights if w is not None]], [], ())
            slots = [*slots, *map(trace.slot, values)]  # type: ignore[list-item]
            self.groups, ranges, watched = asked = tape._asked(trace, self.targets, self.sources)
            pattern = tuple([w is not None for w in weights])
            key = GRADIENT, floor, tuple(slots), pattern, asked, tuple(tape._reads.values()), self.around, words
            node = trace.node.edges.get(key)
            if node is None:
                ends: list[Any] = []
                slices: list[Any] = []

                def grow(builder: Builder, operands: list[Value]) -> list[Value | None]:
                    own = [slots for _, *slots in self.groups]
                    start = len(builder.instructions)
                    if self.activity is None:
                        wanted = {slot for group in own for slot in group}
                        below = {out: inputs for inputs, outputs in self.around for out in outputs}
                        starts = tape._starts(watched)
                        self.activity = Activity(builder.instructions, wanted, pairs(ranges), starts, below)
                    given = iter(operands[len(values) :])
                    seeds = [next(given) if has else None for has in pattern]
                    totals, rest = pull_back(builder, self.activity, slots, seeds, floor)
                    ends.append(tuple(rest))
                    ends.append(tuple(self.activity.leads(slot, floor - 1) for slot in until.inputs) if until else ())
                    found = [total([totals[s] for s in group if s in totals]) for group in own]
                    return [*rest.values(), *split(found, own, start, slices)]

                def finish(node: Node) -> None:
                    node.extra = *ends, slices

                node = trace.extend(key, None, words, [f"operand{k}" for k in range(len(words))], grow, finish)
        except BaseException:
            trace.retract()
            raise
        trace.node = node
        trace.next_slot = trace.tape_end = node.length
        results = [None if at is None else trace.result(at) for at in node.results]
        beyond, leading, slices = node.extra
        count = len(beyond)
        return joined(results[count:], slices), dict(zip(beyond, results[:count], strict=True)), leading


def pairs(ranges: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges that follow one another as (start, stop)."""
    return [(ranges[k], ranges[k + 1]) for k in range(0, len(ranges), 2)]
