"""Jacobians: the gradients of all elements of a target at once.

A gradient is recorded whose weights for the target are an input of the trace. Its instructions are then vectorized,
with a batch of unit weights in place of that input; the first form never runs, since nothing needs what it gives. The
unit weights are written with ops, so that they take no memory where they join the kernel that reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from numtape import nest
from numtape.dtypes import Shape, int32, int64
from numtape.ir.program import Builder, Value
from numtape.ops.core import PUBLIC
from numtape.ops.creation import range_
from numtape.ops.elementwise import convert
from numtape.ops.movement import broadcast, concat_along, permute, reshape_to
from numtape.passes.vectorize import vectorize
from numtape.tape.convert import convert_to_tensor
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.tensor import Tensor, from_numpy
from numtape.tape.trace import STATE
from numtape.tape.variable import Variable

if TYPE_CHECKING:
    from numtape.tape.gradient_tape import GradientTape


class _Jacobian:
    """Stands in keys, and in errors, where an op would."""

    name = "jacobian"
    groups = ("T",)


_JACOBIAN: Any = _Jacobian()


def jacobian(tape: GradientTape, target: Any, sources: Any, zero: bool, chunk: int | None, at_once: bool) -> Any:
    """`GradientTape.jacobian`; `zero` asks for zeros where no path leads, `at_once` for vectorization."""
    sparse = isinstance(target, IndexedSlices) and target.shape is not None
    rows = target.values if sparse else target
    _check_tensor("jacobian", "target", rows)
    _check_chunk("jacobian", chunk)
    flat = nest.flatten(sources)
    found = _unit_gradients(tape, rows, flat, False, chunk, at_once)
    if sparse:
        total = PUBLIC["math.unsorted_segment_sum"]
        found = [None if g is None else total(g, target.indices, target.shape[0]) for g in found]
    if zero:
        found = [
            PUBLIC["zeros"]((*target.shape, *s.shape), s.dtype) if g is None else g
            for g, s in zip(found, flat, strict=True)
        ]
    return nest.pack_sequence_as(sources, found)


def batch_jacobian(tape: GradientTape, target: Any, source: Any, chunk: int | None, at_once: bool) -> Any:
    """`GradientTape.batch_jacobian`."""
    for role, x in (("target", target), ("source", source)):
        _check_tensor("batch_jacobian", role, x)
        if x.ndim < 2:
            raise ValueError(
                f"batch_jacobian: the {role} has shape {x.shape}; it needs an axis for the batch and one more"
            )
    if source.shape[0] != target.shape[0]:
        raise ValueError(
            f"batch_jacobian: target {target.shape} and source {source.shape} differ in the first axis, the batch"
        )
    _check_chunk("batch_jacobian", chunk)
    (found,) = _unit_gradients(tape, target, [source], True, chunk, at_once)
    return PUBLIC["zeros"]((*target.shape, *source.shape[1:]), target.dtype) if found is None else found


def _check_tensor(name: str, role: str, x: Any) -> None:
    if not isinstance(x, Tensor | Variable):
        raise TypeError(
            f"{name}: the {role} is one tensor or Variable, not {type(x).__name__}; for several of them call it for "
            "each, on a persistent tape"
        )


def _check_chunk(name: str, chunk: Any) -> None:
    if chunk is None:
        return
    if isinstance(chunk, bool) or not isinstance(chunk, int):
        raise TypeError(f"{name}: parallel_iterations is an integer or None, got {chunk!r}")
    if chunk < 1:
        raise ValueError(f"{name}: parallel_iterations is at least 1, got {chunk}")


# ---- a gradient for each unit weight ----------------------------------------------------------------------------


def _unit_gradients(
    tape: GradientTape, target: Any, sources: list[Any], by_batch: bool, chunk: int | None, at_once: bool
) -> list[Any]:
    """For each source the derivatives of each of the target's elements, or None without a path.

    With `by_batch` those of one example's elements for all examples at once, since none contributes to the
    derivatives of another.
    """
    places: Shape = (1, *target.shape[1:]) if by_batch else target.shape
    if not (at_once or tape._persistent):
        raise RuntimeError(
            "experimental_use_pfor=False takes a gradient for each element, so the tape has to be made by "
            "nt.GradientTape(persistent=True)"
        )
    count: int = prod(places)
    if not at_once and count:
        return _one_by_one(tape, target, sources, by_batch, places)
    weight = from_numpy(np.zeros(target.shape, target.dtype.dtype))
    found = tape.gradient(target, sources, output_gradients=weight)
    found = [None if g is None else convert_to_tensor(g) for g in found]
    present = [g for g in found if g is not None]
    if not present:
        return found
    trace = present[0]._trace or STATE.trace
    _check_recorded(trace, weight, present)
    try:
        words = trace.key(_JACOBIAN, [weight, *present], [], ())
        key = (_JACOBIAN, by_batch, chunk, words)
        node = trace.node.edges.get(key)
        if node is None:

            def grow(builder: Builder, values: list[Value]) -> list[Any]:
                given, *wanted = values
                step = chunk or max(count, 1)
                parts = []
                for first in range(0, max(count, 1), step):
                    units = _units(given, places, first, min(step, count - first))
                    parts.append(vectorize(builder, {given.index: units}, [v.index for v in wanted]))
                return [_arranged(concat_along(rows, 0), given.shape, by_batch) for rows in zip(*parts, strict=True)]

            node = trace.extend(key, None, words, [f"operand{k}" for k in range(len(words))], grow)
    except BaseException:
        trace.retract()
        raise
    trace.node = node
    trace.next_slot = trace.tape_end = node.length
    results = map(trace.result, node.results)
    return [None if g is None else next(results) for g in found]


def _units(like: Any, places: Shape, first: int, count: int) -> Any:
    """Weights of the type of `like` for some of the places, one after another: 1 there, and 0 elsewhere."""
    size = prod(places)
    kind = int32 if size < 1 << 31 else int64
    rows = range_(like, count, kind)
    if first:
        rows = rows + first
    hits = reshape_to(rows, (count, *[1] * len(places))) == reshape_to(range_(like, size, kind), places)
    units = convert(hits, like.dtype)
    return units if places == like.shape else broadcast(units, (count, *like.shape))


def _arranged(rows: Any, shape: Shape, by_batch: bool) -> Any:
    """One gradient after another as a jacobian of a target of this shape."""
    if not by_batch:
        return reshape_to(rows, (*shape, *rows.shape[1:]))
    return reshape_to(permute(rows, (1, 0, *range(2, len(rows.shape)))), (*shape, *rows.shape[2:]))


def _check_recorded(trace: Any, weight: Tensor, found: Sequence[Tensor]) -> None:
    """ValueError where a gradient rule in Python did what the recorded instructions do not tell."""
    if all(g is weight for g in found):  # as on a tape without a record
        return
    at = trace.slot(weight)
    looked = at is None or any(slot >= at for slot in trace.known) or any(trace.slot(g) is None for g in found)
    if looked or any(getattr(tape, "_start", 0) > at for tape in STATE.tapes):
        raise ValueError(
            "a jacobian is computed for all elements at once, from what a gradient records; the gradient function of "
            f"a custom gradient {'looked at elements' if looked else 'stopped a tape from recording'}. Use a "
            "persistent tape and experimental_use_pfor=False, which calls that function for one element after another"
        )


def _one_by_one(tape: GradientTape, target: Any, sources: list[Any], by_batch: bool, places: Shape) -> list[Any]:
    """The same, with a gradient taken for each place."""
    rows = []
    for place in np.ndindex(places):
        weight = np.zeros(target.shape, target.dtype.dtype)
        weight[(slice(None), *place[1:]) if by_batch else place] = 1
        found = tape.gradient(target, sources, output_gradients=from_numpy(weight))
        rows.append([None if g is None else convert_to_tensor(g) for g in found])
    return [
        None if all(g is None for g in column) else _arranged(PUBLIC["stack"](column), target.shape, by_batch)
        for column in zip(*rows, strict=True)
    ]
