"""Rewrite a program into a shorter one with the same meaning.

One walk over the list: only what the outputs need is kept, equal instructions become one, literals fold, and a table
of local rewrites applies. What only a user could see (an `identity`, a reshape to the same shape) has done its work by
now: connectivity was decided on the recorded list, so it may go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from numtape.dtypes import tensor_type
from numtape.ir.op import REGISTRY, Kind
from numtape.ir.program import CONSTANT, INPUT, Builder, Instruction, Program, literal

Rewrite = Callable[["_Walk", Instruction], "int | None"]


def simplify(program: Program) -> Program:
    """The same outputs from fewer instructions; inputs that are no longer needed stay listed."""
    needed = reachable(program)
    uses = Counter(program.outputs)
    for index in needed:
        uses.update(program.instructions[index].operands)
    walk = _Walk()
    renamed: dict[int, int] = {}
    for index, instruction in enumerate(program.instructions):
        if index in needed or instruction.op is INPUT:
            operands = tuple(renamed[k] for k in instruction.operands)
            walk.origin = program.origin(index)
            new = walk.add(Instruction(instruction.op, operands, instruction.attributes, instruction.type))
            renamed[index] = new
            walk.uses[new] += uses[index]
    outputs = tuple(renamed[k] for k in program.outputs)
    return without_dead_code(Program(tuple(walk.instructions), outputs, program.donations, tuple(walk.origins)))


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
    origins: list[int | None] = []
    for index, i in enumerate(program.instructions):
        if index in needed or i.op is INPUT:
            renamed[index] = len(kept)
            kept.append(Instruction(i.op, tuple(renamed[k] for k in i.operands), i.attributes, i.type))
            origins.append(program.origin(index))
    return Program(tuple(kept), tuple(renamed[k] for k in program.outputs), program.donations, tuple(origins))


class _Walk(Builder):
    """A builder that gives an equal instruction the number it already has."""

    __slots__ = ("seen", "uses")

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[Any, int] = {}
        self.uses: Counter[int] = Counter()
        """How often the program that is rewritten uses what a value stands for."""

    def add(self, instruction: Instruction) -> int:
        rewrite = REWRITES.get(instruction.op.name)
        found = rewrite(self, instruction) if rewrite else None
        if found is None and instruction.op.kind is Kind.MAP and instruction.operands:
            found = _fold(self, instruction)
            if found is None:
                found = _narrow(self, instruction)
        return self.intern(instruction) if found is None else found

    def intern(self, instruction: Instruction) -> int:
        operands = instruction.operands
        if instruction.op.name in COMMUTATIVE:
            operands = tuple(sorted(operands))
        key = (instruction.op, operands, exact(instruction.attributes), instruction.type)
        known = self.seen.get(key)
        if known is None:
            known = self.seen[key] = self.append(instruction).index
        return known

    def again(self, op: str, operands: tuple[int, ...], like: Instruction, attributes: tuple[Any, ...] = ()) -> int:
        return self.add(Instruction(REGISTRY[op], operands, attributes, like.type))

    def literal(self, index: int) -> Any:
        """The number that this value is in every element, or None."""
        instruction = self.instructions[index]
        return instruction.attributes[0] if instruction.op is CONSTANT else None

    def is_full(self, index: int, like: Instruction) -> bool:
        return self.instructions[index].type is like.type


def exact(attributes: tuple[Any, ...]) -> Any:
    """Attributes as a key that tells 0.0 from -0.0 and 1 from True."""
    return tuple((type(a), EXACT[type(a)](a) if type(a) in EXACT else a) for a in attributes)


EXACT: dict[type, Callable[[Any], Any]] = {float: repr, Program: str}


def _fold(walk: _Walk, i: Instruction) -> int | None:
    """Compute an elementwise op on literals now."""
    if any(walk.literal(k) is None for k in i.operands):
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


def _narrow(walk: _Walk, i: Instruction) -> int | None:
    """Compute an elementwise op on what is not repeated, and repeat the result; literals have rank 0."""
    operands = tuple(_once(walk, k) for k in i.operands)
    if operands == i.operands or i.op.name == "broadcast":
        return None
    shape = np.broadcast_shapes(*(walk.instructions[k].type.shape for k in operands))
    small = tensor_type(i.type.dtype, shape)
    found = walk.add(Instruction(i.op, operands, i.attributes, small))
    return found if small is i.type else walk.again("broadcast", (found,), i, (i.type.shape,))


def _once(walk: _Walk, index: int) -> int:
    """The value that this one repeats."""
    instruction = walk.instructions[index]
    if instruction.op is CONSTANT and instruction.type.rank:
        return walk.intern(literal(instruction.attributes[0], tensor_type(instruction.type.dtype, ())))
    return instruction.operands[0] if instruction.op.name == "broadcast" else index


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


def _stacked(walk: _Walk, i: Instruction) -> int | None:
    """A stack of what is only handed on is one of what that comes from."""
    body, value = walk.instructions[i.operands[0]].attributes[0], i.attributes[0]
    while REWRITES.get(body.instructions[value].op.name) is _same:
        value = body.instructions[value].operands[0]
    return walk.intern(Instruction(i.op, i.operands, (value, *i.attributes[1:]), i.type))


def _checkpoint(walk: _Walk, i: Instruction) -> int | None:
    return walk.intern(literal(True, i.type))


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
    if inner.op.name == "matmul" and _swaps(perm) and walk.uses[x] == 1:
        flags = tuple(not flag for flag in reversed(inner.attributes))
        return walk.add(Instruction(inner.op, inner.operands[::-1], flags, i.type))
    return None


def _swaps(perm: tuple[int, ...]) -> bool:
    """Whether a permutation transposes matrices."""
    rank = len(perm)
    return perm == (*range(rank - 2), rank - 1, rank - 2)


def _matmul(walk: _Walk, i: Instruction) -> int | None:
    """A transposed operand becomes a flag."""
    operands, flags = list(i.operands), list(i.attributes)
    for side in (0, 1):
        inner = walk.instructions[operands[side]]
        if inner.op.name == "transpose" and _swaps(inner.attributes[0]):
            operands[side] = inner.operands[0]
            flags[side] = not flags[side]
    if tuple(operands) == i.operands:
        return None
    return walk.add(Instruction(i.op, tuple(operands), tuple(flags), i.type))


def _fold_axes(walk: _Walk, i: Instruction) -> int | None:
    """A fold over axes of length 1 is the operand itself; over repeated elements, a multiple of one."""
    (x,), (axes,) = i.operands, i.attributes
    if walk.is_full(x, i):
        return x
    once = _once(walk, x)
    if once == x or i.op.name == "product":
        return None
    repeated, inner = walk.instructions[x].type, walk.instructions[once].type
    shape = (1,) * (repeated.rank - inner.rank) + inner.shape
    count = 1
    for a in axes:
        count *= repeated.shape[a] if shape[a] == 1 else 1
    if count == 0 or (i.op.name == "sum" and i.type.dtype.is_integer and count > i.type.dtype.max):
        return None
    found = walk.again("reshape", (once,), Instruction(i.op, (), (), tensor_type(i.type.dtype, shape)), (shape,))
    kept = tensor_type(i.type.dtype, tuple(1 if a in axes else n for a, n in enumerate(shape)))
    found = walk.add(Instruction(i.op, (found,), (axes,), kept))
    if i.op.name == "sum":
        times = walk.intern(literal(count, tensor_type(i.type.dtype, ())))
        found = walk.add(Instruction(REGISTRY["multiply"], (found, times), (), kept))
    return walk.again("broadcast", (found,), i, (i.type.shape,))


def _multiply_no_nan(walk: _Walk, i: Instruction) -> int | None:
    """A product, if the second factor is known and not 0."""
    return walk.again("multiply", i.operands, i) if walk.literal(i.operands[1]) else None


def _negative(walk: _Walk, i: Instruction) -> int | None:
    inner = walk.instructions[i.operands[0]]
    return inner.operands[0] if inner.op is i.op else None


def _add(walk: _Walk, i: Instruction) -> int | None:
    found = _neutral(0, "both")(walk, i)
    if found is not None:
        return found
    left, right = (walk.instructions[k] for k in i.operands)
    if right.op.name == "negative":
        return walk.again("subtract", (i.operands[0], right.operands[0]), i)
    if left.op.name == "negative":
        return walk.again("subtract", (i.operands[1], left.operands[0]), i)
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


def _held(walk: _Walk, i: Instruction) -> int | None:
    """What is there from the start is not worth waiting for."""
    x, *awaited = i.operands
    computed = tuple(k for k in dict.fromkeys(awaited) if walk.instructions[k].op not in (INPUT, CONSTANT))
    if not computed or walk.instructions[x].op is CONSTANT:
        return x
    return walk.intern(Instruction(i.op, (x, *computed), (), i.type))


def _subtract(walk: _Walk, i: Instruction) -> int | None:
    right = walk.instructions[i.operands[1]]
    if right.op.name == "negative":
        return walk.again("add", (i.operands[0], right.operands[0]), i)
    return _neutral(0, "right")(walk, i)


def _where(walk: _Walk, i: Instruction) -> int | None:
    """One of the two, if it is known which, or if they are the same."""
    condition, x, y = i.operands
    known = walk.literal(condition)
    if known is None and x != y:
        return None
    return walk.again("broadcast", (x if known is None or known else y,), i, (i.type.shape,))


def _cast(walk: _Walk, i: Instruction) -> int | None:
    return i.operands[0] if walk.is_full(i.operands[0], i) else None


COMMUTATIVE = {"add", "multiply", "maximum", "minimum", "equal", "not_equal", "logical_and", "logical_or"}

REWRITES: dict[str, Rewrite] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _neutral(1, "both"),
    "divide": _neutral(1, "right"),
    "multiply_no_nan": _multiply_no_nan,
    "negative": _negative,
    "checkpoint": _checkpoint,
    "broadcast": _broadcast,
    "identity": _same,
    "kept": _same,
    "linked": _same,
    "held": _held,
    "stacked": _stacked,
    "reshape": _reshape,
    "stop_gradient": _same,
    "transpose": _transpose,
    "slice": _slice,
    "embed": _embed,
    "concat": _concat,
    "matmul": _matmul,
    "cast": _cast,
    "where": _where,
    "sum": _fold_axes,
    "product": _fold_axes,
    "max": _fold_axes,
    "min": _fold_axes,
    "any": _fold_axes,
    "all": _fold_axes,
}
