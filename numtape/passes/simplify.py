"""Rewrite a program into a shorter one with the same meaning.

One walk over the list: only what the outputs need is kept, equal instructions become one, literals fold, and a table
of local rewrites applies. What only a user could see (an `identity`, a reshape to the same shape) has done its work by
now: connectivity was decided on the recorded list, so it may go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numtape.dtypes import tensor_type
from numtape.ir.op import Kind
from numtape.ir.program import CONSTANT, INPUT, Builder, Instruction, Program, literal

Rewrite = Callable[["_Walk", Instruction], "int | None"]


def simplify(program: Program) -> Program:
    """The same outputs from fewer instructions; inputs that are no longer needed stay listed."""
    needed = reachable(program)
    walk = _Walk()
    renamed: dict[int, int] = {}
    for index, instruction in enumerate(program.instructions):
        if index in needed or instruction.op is INPUT:
            operands = tuple(renamed[k] for k in instruction.operands)
            renamed[index] = walk.add(
                Instruction(instruction.op, operands, instruction.attributes, instruction.type)
            )
    outputs = tuple(renamed[k] for k in program.outputs)
    return without_dead_code(Program(tuple(walk.instructions), outputs, program.donations))


def reachable(program: Program) -> set[int]:
    """The values that the outputs depend on."""
    needed = set(program.outputs)
    for index in range(len(program.instructions) - 1, -1, -1):
        if index in needed:
            needed.update(program.instructions[index].operands)
    return needed


def without_dead_code(program: Program) -> Program:
    """Keep what the outputs need, and every input."""
    needed = reachable(program)
    renamed: dict[int, int] = {}
    kept: list[Instruction] = []
    for index, i in enumerate(program.instructions):
        if index in needed or i.op is INPUT:
            renamed[index] = len(kept)
            kept.append(Instruction(i.op, tuple(renamed[k] for k in i.operands), i.attributes, i.type))
    return Program(tuple(kept), tuple(renamed[k] for k in program.outputs), program.donations)


class _Walk(Builder):
    """A builder that gives an equal instruction the number it already has."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[Any, int] = {}

    def add(self, instruction: Instruction) -> int:
        rewrite = REWRITES.get(instruction.op.name)
        found = rewrite(self, instruction) if rewrite else None
        if found is None:
            found = _fold(self, instruction)
        return self.intern(instruction) if found is None else found

    def intern(self, instruction: Instruction) -> int:
        key = (instruction.op, instruction.operands, _exact(instruction.attributes), instruction.type)
        known = self.seen.get(key)
        if known is None:
            known = self.seen[key] = self.append(instruction).index
        return known

    def again(self, op: str, operands: tuple[int, ...], like: Instruction, attributes: tuple[Any, ...] = ()) -> int:
        from numtape.ir.op import REGISTRY

        return self.add(Instruction(REGISTRY[op], operands, attributes, like.type))

    def literal(self, index: int) -> Any:
        """The number that this value is in every element, or None."""
        instruction = self.instructions[index]
        return instruction.attributes[0] if instruction.op is CONSTANT else None

    def is_full(self, index: int, like: Instruction) -> bool:
        return self.instructions[index].type is like.type


def _exact(attributes: tuple[Any, ...]) -> Any:
    """Attributes as a key that tells 0.0 from -0.0 and 1 from True."""
    return tuple((type(a), repr(a) if isinstance(a, float) else a) for a in attributes)


def _fold(walk: _Walk, i: Instruction) -> int | None:
    """Compute an elementwise op on literals now."""
    if i.op.kind is not Kind.MAP or not i.operands or any(walk.literal(k) is None for k in i.operands):
        return None
    assert i.op.reference is not None
    scalars = [np.asarray(walk.literal(k), walk.instructions[k].type.dtype.dtype) for k in i.operands]
    named = dict(zip(i.op.attributes, i.attributes, strict=True))
    if "shape" in named:
        value: Any = scalars[0]
    else:
        with np.errstate(all="ignore"):
            value = np.asarray(i.op.reference(*scalars, **named)).astype(i.type.dtype.dtype)
    return walk.intern(literal(value.item(), i.type))


def _neutral(number: float, side: str) -> Rewrite:
    """`x + 0`, `x * 1`: the other operand, if it alone has the result's shape."""

    def rewrite(walk: _Walk, i: Instruction) -> int | None:
        left, right = i.operands
        if walk.literal(right) == number and walk.is_full(left, i):
            return left
        if side == "both" and walk.literal(left) == number and walk.is_full(right, i):
            return right
        return None

    return rewrite


def _broadcast(walk: _Walk, i: Instruction) -> int | None:
    number = walk.literal(i.operands[0])
    if number is not None:
        return walk.intern(literal(number, i.type))
    return i.operands[0] if walk.is_full(i.operands[0], i) else None


def _same(walk: _Walk, i: Instruction) -> int | None:
    return i.operands[0]


def _reshape(walk: _Walk, i: Instruction) -> int | None:
    (x,) = i.operands
    if walk.is_full(x, i):
        return x
    number = walk.literal(x)
    if number is not None:
        return walk.intern(literal(number, i.type))
    inner = walk.instructions[x]
    if inner.op is i.op:
        return walk.add(Instruction(i.op, inner.operands, i.attributes, i.type))
    return None


def _transpose(walk: _Walk, i: Instruction) -> int | None:
    (x,), (perm,) = i.operands, i.attributes
    inner = walk.instructions[x]
    moved = [a for a in perm if inner.type.shape[a] != 1]
    if moved == sorted(moved):
        return walk.again("reshape", (x,), i, (i.type.shape,))
    if inner.op is i.op:
        return walk.add(Instruction(i.op, inner.operands, (tuple(inner.attributes[0][a] for a in perm),), i.type))
    return None


def _matmul(walk: _Walk, i: Instruction) -> int | None:
    """A transposed operand becomes a flag."""
    operands, flags = list(i.operands), list(i.attributes)
    for side in (0, 1):
        inner = walk.instructions[operands[side]]
        rank = inner.type.rank
        if inner.op.name == "transpose" and inner.attributes[0] == (*range(rank - 2), rank - 1, rank - 2):
            operands[side] = inner.operands[0]
            flags[side] = not flags[side]
    if tuple(operands) == i.operands:
        return None
    return walk.add(Instruction(i.op, tuple(operands), tuple(flags), i.type))


def _fold_axes(walk: _Walk, i: Instruction) -> int | None:
    """A fold over axes of length 1 is the operand itself."""
    return i.operands[0] if walk.is_full(i.operands[0], i) else None


def _negative(walk: _Walk, i: Instruction) -> int | None:
    inner = walk.instructions[i.operands[0]]
    return inner.operands[0] if inner.op is i.op else None


def _add(walk: _Walk, i: Instruction) -> int | None:
    found = _neutral(0, "both")(walk, i)
    if found is not None:
        return found
    right = walk.instructions[i.operands[1]]
    if right.op.name == "negative":
        return walk.again("subtract", (i.operands[0], right.operands[0]), i)
    return _side_by_side(walk, i)


def _side_by_side(walk: _Walk, i: Instruction) -> int | None:
    """The sum of two boxes in zeros that touch is one larger box: so the gradients of parts become one join."""
    first, second = (walk.instructions[k] for k in i.operands)
    if not first.op.name == second.op.name == "embed" or first.type is not second.type:
        return None
    shape, begin, step, fill = first.attributes
    if fill != 0 or any(s != 1 for s in step) or second.attributes[2:] != (step, fill):
        return None
    sizes = [walk.instructions[e.operands[0]].type.shape for e in (first, second)]
    begins = [begin, second.attributes[1]]
    differ = [a for a in range(len(shape)) if len({(b[a], s[a]) for b, s in zip(begins, sizes, strict=True)}) > 1]
    if len(differ) != 1:
        return None
    (axis,) = differ
    low = min((0, 1), key=lambda side: begins[side][axis])
    if begins[low][axis] + sizes[low][axis] != begins[1 - low][axis]:
        return None
    joined = (*sizes[0][:axis], sizes[0][axis] + sizes[1][axis], *sizes[0][axis + 1 :])
    parts = (*first.operands, *second.operands)[:: -1 if low else 1]
    like = Instruction(i.op, (), (), tensor_type(i.type.dtype, joined))
    whole = walk.again("concat", parts, like, (axis,))
    return walk.again("embed", (whole,), i, (shape, begins[low], step, fill))


def _slice(walk: _Walk, i: Instruction) -> int | None:
    (x,), (begin, size, step) = i.operands, i.attributes
    if walk.is_full(x, i) and all(s == 1 or n == 1 for s, n in zip(step, size, strict=True)):
        return x
    number = walk.literal(x)
    if number is not None:
        return walk.intern(literal(number, i.type))
    inner = walk.instructions[x]
    if inner.op is i.op:
        return walk.add(Instruction(i.op, inner.operands, _within(inner.attributes[::2], (begin, step), size), i.type))
    return None


def _embed(walk: _Walk, i: Instruction) -> int | None:
    (x,), (shape, begin, step, fill) = i.operands, i.attributes
    if walk.is_full(x, i) and all(s == 1 or n == 1 for s, n in zip(step, shape, strict=True)):
        return x
    inner = walk.instructions[x]
    if inner.op is i.op and inner.attributes[3] == fill:
        begin, _, step = _within((begin, step), inner.attributes[1:3], shape)
        return walk.add(Instruction(i.op, inner.operands, (shape, begin, step, fill), i.type))
    return None


def _within(outer: Any, inner: Any, size: Any) -> tuple[Any, ...]:
    """Begin, size and step of a box in a box."""
    begin = tuple(b + s * k for (b, s), k in zip(zip(*outer, strict=True), inner[0], strict=True))
    return begin, size, tuple(s * t for s, t in zip(outer[1], inner[1], strict=True))


def _concat(walk: _Walk, i: Instruction) -> int | None:
    """Joins along one axis become one; a join of one is none."""
    flat: list[int] = []
    for k in i.operands:
        inner = walk.instructions[k]
        flat += inner.operands if (inner.op, inner.attributes) == (i.op, i.attributes) else (k,)
    if len(flat) == 1:
        return flat[0]
    return walk.intern(Instruction(i.op, tuple(flat), i.attributes, i.type))


def _cast(walk: _Walk, i: Instruction) -> int | None:
    return i.operands[0] if walk.is_full(i.operands[0], i) else None


REWRITES: dict[str, Rewrite] = {
    "add": _add,
    "subtract": _neutral(0, "right"),
    "multiply": _neutral(1, "both"),
    "divide": _neutral(1, "right"),
    "negative": _negative,
    "broadcast": _broadcast,
    "reshape": _reshape,
    "stop_gradient": _same,
    "transpose": _transpose,
    "slice": _slice,
    "embed": _embed,
    "concat": _concat,
    "matmul": _matmul,
    "cast": _cast,
    "sum": _fold_axes,
    "product": _fold_axes,
    "max": _fold_axes,
    "min": _fold_axes,
    "any": _fold_axes,
    "all": _fold_axes,
}
