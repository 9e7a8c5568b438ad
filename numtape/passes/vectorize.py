"""Vectorization: instructions that were written for one row, written again for a batch of rows at once.

In comes a builder, and batches that take the place of some of its values: each has one more axis in front, of one
length for all. What the wanted values need and what depends on a batched value is appended to the same builder, with
that axis in front of every result; everything else is used as it is. The k-th row of what comes out is what the
instructions give for the k-th rows of the batches. A batch is an instruction's operand like any other, so that the
result can be differentiated, and vectorized again.

Most ops take further axes in front, and differ in nothing but their attributes. A few have rules of their own, which
merge the batch with an axis that is there. For an op that is in none of the tables each row is computed by itself,
which is always right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from numtape.dtypes import int64
from numtape.ir.op import Kind
from numtape.ir.program import Builder, Instruction, Value
from numtape.ops.creation import range_
from numtape.ops.elementwise import convert, where
from numtape.ops.movement import broadcast, concat_along, permute, reshape_to, slice_of
from numtape.ops.recompute import held


def vectorize(builder: Builder, batched: Mapping[int, Value], wanted: Sequence[int]) -> list[Value]:
    """The wanted values for a batch of rows: each with one more axis in front.

    `batched` has the batch for each value that differs from row to row. A wanted value that depends on none of them is
    repeated.
    """
    instructions = list(builder.instructions)
    known: dict[int, Value] = {}
    """What is the same in all rows, and yet is written again: it was held back for what differs."""
    (count,) = {value.shape[0] for value in batched.values()}
    found = dict(batched)
    loops: dict[int, Any] = {}
    for index in _on_the_way(instructions, batched, wanted):
        i = instructions[index]
        builder.origin = builder.origins[index]
        given = [found.get(k) or known.get(k) or builder.value(k) for k in i.operands]
        if not any(k in found or k in loops for k in (i.operands[:1] if i.op is held.op else i.operands)):
            operands = tuple([x.index for x in given])
            known[index] = builder.append(Instruction(i.op, operands, i.attributes, i.type))
            continue
        if i.op.kind is Kind.LOOP:
            from numtape.passes.vectorize_loop import Turns  # which vectorizes its body

            moving = [k for k, operand in enumerate(i.operands) if operand in found]
            loops[index] = Turns(builder, index, given, moving, count)
            continue
        if i.op.kind is Kind.PART:
            found[index] = loops[i.operands[0]].part(i.op, i.attributes[0])
        else:
            found[index] = _rule(i)(Call(i, given, [k in found for k in i.operands], count))
        assert found[index].type.shape == (count, *i.type.shape), f"{i.op} gave {found[index]} for {i.type}"
    builder.origin = None
    return [found.get(k) or _repeated(known.get(k) or builder.value(k), count) for k in wanted]


def _on_the_way(instructions: Sequence[Instruction], batched: Mapping[int, Value], wanted: Sequence[int]) -> list[int]:
    """Instructions between the batched values and the wanted ones."""
    depend = set(batched)
    for index in range(min(batched), len(instructions)):
        if not depend.isdisjoint(instructions[index].operands):
            depend.add(index)
    needed = set(wanted)
    for index in range(len(instructions) - 1, -1, -1):
        if index in needed and index not in batched:
            needed.update(instructions[index].operands)
    return sorted((depend & needed) - set(batched))


# ---- one call ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """An instruction, and the operands that are to take the place of its own, some of them batched."""

    instruction: Instruction
    operands: list[Value]
    batched: list[bool]
    count: int
    """The length of the batch."""

    @property
    def attributes(self) -> tuple[Any, ...]:
        return self.instruction.attributes

    def full(self) -> list[Value]:
        """All operands with the batch in front."""
        return [x if b else _repeated(x, self.count) for x, b in zip(self.operands, self.batched, strict=True)]

    def emit(self, operands: Sequence[Value], *attributes: Any) -> Value:
        return operands[0].builder.emit(self.instruction.op, operands, attributes)

    def shifted(self) -> tuple[Any, ...]:
        """The attributes, with axes counted behind the batch."""
        named = zip(self.instruction.op.attributes, self.attributes, strict=True)
        return tuple(_SHIFTS[name](value, self.count) if name in _SHIFTS else value for name, value in named)


Rule: TypeAlias = Callable[[Call], Any]

_SHIFTS: dict[str, Callable[[Any, int], Any]] = {
    "axis": lambda axis, count: axis + 1,
    "axes": lambda axes, count: tuple(a + 1 for a in axes),
    "perm": lambda perm, count: (0, *(a + 1 for a in perm)),
    "shape": lambda shape, count: (count, *shape),
    "begin": lambda begin, count: (0, *begin),
    "size": lambda size, count: (count, *size),
    "step": lambda step, count: (1, *step),
}


def _repeated(x: Any, count: int) -> Any:
    return broadcast(x, (count, *x.shape))


def _reshaped(x: Any, *shape: int) -> Any:
    return x if x.shape == shape else reshape_to(x, shape)


def _rule(i: Instruction) -> Rule:
    return RULES.get(i.op.name) or KINDS.get(i.op.kind, _each_row)


# ---- rules for many ---------------------------------------------------------------------------------------------


def _in_front(call: Call) -> Value:
    """The op takes further axes in front."""
    return call.emit(call.full(), *call.shifted())


def _elementwise(call: Call) -> Value:
    """Broadcasting aligns shapes at the right: axes of length 1 between the batch and a shorter operand's own."""
    rank = call.instruction.type.rank
    aligned = [
        _reshaped(x, call.count, *(1,) * (rank + 1 - x.rank), *x.shape[1:]) if b else x
        for x, b in zip(call.operands, call.batched, strict=True)
    ]
    return call.emit(aligned, *call.shifted())


def _each_row(call: Call) -> Any:
    """Row by row, whatever the op does."""
    builder, type = call.operands[0].builder, call.instruction.type
    if not call.count:
        return builder.constant(type.dtype.dtype.type(0).item(), type.dtype, (0, *type.shape))
    rows = []
    for k in range(call.count):
        own = [_row(x, k) if b else x for x, b in zip(call.operands, call.batched, strict=True)]
        rows.append(reshape_to(call.emit(own, *call.attributes), (1, *type.shape)))
    return concat_along(rows, 0)


def _row(x: Any, k: int) -> Any:
    rest = (0,) * (x.rank - 1)
    return reshape_to(slice_of(x, (k, *rest), (1, *x.shape[1:]), (1,) * x.rank), x.shape[1:])


# ---- products of matrices ---------------------------------------------------------------------------------------


def _matmul(call: Call) -> Any:
    """One product of taller matrices where their rows lie so already, else a batch of products."""
    out, n = call.instruction.type.shape, call.count
    flags = call.attributes
    a, b = (_matrices(x, batched) for x, batched in zip(call.operands, call.batched, strict=True))
    if all(call.batched):
        length = out[0] if len(out) == 3 else 1
        both = [_reshaped(_of_length(x, length), n * length, *x.shape[2:]) for x in (a, b)]
        return _reshaped(call.emit(both, *flags), n, *out)
    # x is batched, and y is not; the product x y is the result, or its transpose.
    first = call.batched[0]
    x, y = (a, b) if first else (b, a)
    x_lies, y_lies = flags if first else (not flags[1], not flags[0])
    height, inner = out[-2 if first else -1], x.shape[-2 if x_lies else -1]
    if y.shape[0] != 1:
        tall = permute(x, (1, 0, 3, 2) if x_lies else (1, 0, 2, 3))
        found = call.emit([_reshaped(tall, x.shape[1], n * height, inner), y], False, y_lies)
        apart = _reshaped(found, y.shape[0], n, height, found.shape[-1])
        return _reshaped(permute(apart, (1, 0, 2, 3) if first else (1, 0, 3, 2)), n, *out)
    if height == 1 or (first and not x_lies):
        tall = _reshaped(x, n * x.shape[1] * height, inner)
        return _reshaped(call.emit([tall, _reshaped(y, *y.shape[1:])], False, y_lies), n, *out)
    x = _reshaped(x, n * x.shape[1], *x.shape[2:])
    return _reshaped(call.emit([x, y] if first else [y, x], *flags), n, *out)


def _matrices(x: Any, batched: bool) -> Any:
    """An operand as (batch, length, rows, columns), or without the batch."""
    *lead, rows, columns = x.shape
    rank = 4 if batched else 3
    return x if x.rank == rank else _reshaped(x, *lead, 1, rows, columns)


def _of_length(x: Any, length: int) -> Any:
    return x if x.shape[1] == length else broadcast(x, (x.shape[0], length, *x.shape[2:]))


def _solve(call: Call) -> Any:
    """With one matrix for all right-hand sides, those of all rows are columns beside one another."""
    (a, b), (batched, _) = call.operands, call.batched
    if batched:
        return _in_front(call)
    n, *lead, height, width = b.shape
    last = b.rank - 1
    columns = permute(b, (*range(1, last), 0, last))
    found = call.emit([a, _reshaped(columns, *lead, height, n * width)], *call.attributes)
    return permute(_reshaped(found, *lead, height, n, width), (last - 1, *range(last - 1), last))


# ---- rows picked and put ----------------------------------------------------------------------------------------


def _gather(call: Call) -> Any:
    """Rows of x (batch, outer, length, inner) at indices (batch, count)."""
    (x, indices), n = call.operands, call.count
    if call.batched == [False, True]:  # more indices into the same
        _, batch, count = indices.shape
        found = call.emit([x, reshape_to(permute(indices, (1, 0, 2)), (batch, n * count))], *call.attributes)
        _, outer, _, inner = found.shape
        return permute(reshape_to(found, (batch, outer, n, count, inner)), (2, 0, 1, 3, 4))
    return _along_rows(call)


def _along_rows(call: Call) -> Any:
    """x (batch, outer, ...) with indices (batch, ...): with indices in common more outer axes, else more batches."""
    x, indices = call.operands
    out = (call.count, *call.instruction.type.shape)
    if call.batched == [True, False] and indices.shape[0] == 1:
        merged = [_reshaped(x, 1, x.shape[0] * x.shape[2], *x.shape[3:]), indices]
    else:
        merged = [_reshaped(v, v.shape[0] * v.shape[1], *v.shape[2:]) for v in call.full()]
    return _reshaped(call.emit(merged, *call.attributes), *out)


def _update(call: Call) -> Any:
    """Rows put into x (length, inner) at indices (count): all of the batch under one another."""
    x, indices, rows = call.full()
    n, length, inner = x.shape
    flat = _numbered(indices, length)
    found = call.emit([_reshaped(x, n * length, inner), flat, _reshaped(rows, flat.shape[0], inner)], *call.attributes)
    return _reshaped(found, *x.shape)


def _positions(call: Call) -> Any:
    """For indices (count) below a length, the positions of some of them, or -1."""
    (indices,), (length,) = call.operands, call.attributes
    n, count = indices.shape
    found = _reshaped(call.emit([_numbered(indices, length)], n * length), n, *call.instruction.type.shape)
    return where(found >= 0, found - _starts(found, n, count), -1)


def _numbered(indices: Any, length: int) -> Any:
    """Indices (batch, count) into vectors of a length as places in all of these, one after another; -1 for none."""
    n, count = indices.shape
    places = convert(indices, int64)
    valid = (places >= 0) & (places < length)
    return _reshaped(where(valid, places + _starts(places, n, length), -1), n * count)


def _starts(like: Any, count: int, length: int) -> Any:
    """Where each of several vectors of a length begins, as a column."""
    return reshape_to(range_(like, count), (count, 1)) * length


def _more_rows(call: Call) -> Any:
    """The op computes each row of its one operand by itself."""
    (x,) = call.operands
    found = call.emit([_reshaped(x, x.shape[0] * x.shape[1], *x.shape[2:])], *call.attributes)
    return _reshaped(found, call.count, *call.instruction.type.shape)


KINDS = {Kind.MAP: _elementwise, Kind.REDUCE: _in_front, Kind.ALIAS: _in_front, Kind.UPDATE: _update}
RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "transpose", "slice", "embed", "concat", "cumsum", "cumprod", "recurrence", "cumulative_logsumexp",
            "cholesky", "inverse", "cofactor", "determinant", "log_determinant", "cross",
            "softmax", "log_softmax", "softmax_cross_entropy", "sparse_softmax_cross_entropy",
        ),
        _in_front,
    ),
    "held": lambda call: call.emit(call.operands),
    "overwrite": lambda call: call.emit(call.full()),
    "recomputed": lambda call: call.operands[0] if call.batched[0] else _repeated(call.operands[0], call.count),
    "expand": _elementwise,
    "matmul": _matmul,
    "solve": _solve,
    "triangular_solve": _solve,
    "gather": _gather,
    "scatter_add": _along_rows,
    "flat_index": _more_rows,
    "last_writer": _positions,
    "first_equal": _positions,
    "order": _more_rows,
}  # fmt: skip
"""By name, for ops of other kinds and exceptions among those."""
