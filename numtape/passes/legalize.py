"""Rewrite what no single loop nest can hold into routines that move elements first.

After this pass every elementwise op sees operands whose axes fall into at most three runs, those that it has and
those along which it is repeated in turn, and every fold runs over leading, trailing or middle axes: the forms that
fusion knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from math import prod

import numpy as np

from numtape.dtypes import Shape, TensorType, tensor_type
from numtape.ir.op import REGISTRY, Kind
from numtape.ir.program import CONSTANT, INPUT, Builder, Instruction, Program, literal
from numtape.passes.layout import split


def legalize(program: Program) -> Program:
    """The same program in forms that fusion knows."""
    builder = Builder()
    out = builder.instructions
    renamed: dict[int, int] = {}

    def add(instruction: Instruction) -> int:
        return builder.append(instruction).index

    for index, i in enumerate(program.instructions):
        builder.origin = program.origin(index)
        operands = tuple(renamed[k] for k in i.operands)
        empty = i.type.size == 0 or (operands and all(out[k].type.size == 0 for k in operands))
        if empty and i.op is not INPUT and i.op.kind is not Kind.LOOP:
            renamed[index] = add(literal(_empty(i, [out[k].type for k in operands]), i.type))
        elif i.op.kind is Kind.MAP:
            wide = {
                k: add(Instruction(REGISTRY["expand"], (k,), (shape,), tensor_type(out[k].type.dtype, shape)))
                for k, shape in _spread(out, i, operands).items()
            }
            operands = tuple(wide.get(k, k) for k in operands)
            renamed[index] = add(Instruction(i.op, operands, i.attributes, i.type))
        elif i.op.kind is Kind.REDUCE:
            (value,) = operands
            for axes in _in_turn(out[value].type.shape, i.attributes[0]):
                value = _fold(add, i, value, out[value].type, axes)
            renamed[index] = value
        else:
            renamed[index] = add(Instruction(i.op, operands, i.attributes, i.type))
    return Program(tuple(out), tuple(renamed[k] for k in program.outputs), program.donations, tuple(builder.origins))


def _in_turn(shape: Shape, axes: Shape) -> Iterator[Shape]:
    """The axes of a fold in parts: the trailing ones, the leading ones, and what is then in the middle."""
    long = [a for a, n in enumerate(shape) if n != 1]
    trailing = {*takewhile(axes.__contains__, reversed(long))}
    leading = {*takewhile(axes.__contains__, long)} - trailing
    parts = [p for p in (trailing, leading, {*axes} - trailing - leading) if p.intersection(long)]
    for part in parts or [{*axes}]:
        yield tuple(sorted(part))


def _fold(add: Callable[[Instruction], int], i: Instruction, value: int, x: TensorType, axes: Shape) -> int:
    """A fold over axes that are all trailing, all leading or all in the middle."""
    result = tensor_type(x.dtype, tuple(1 if a in axes else n for a, n in enumerate(x.shape)))
    if split(result.shape, x.shape) != 0:
        return add(Instruction(i.op, (value,), (axes,), result))
    perm = (*(a for a in range(x.rank) if a not in axes), *axes)
    moved = tensor_type(x.dtype, tuple(x.shape[a] for a in perm))
    transposed = add(Instruction(REGISTRY["transpose"], (value,), (perm,), moved))
    kept = moved.shape[: x.rank - len(axes)]
    folded = tensor_type(x.dtype, kept + (1,) * len(axes))
    fold = add(Instruction(i.op, (transposed,), (tuple(range(len(kept), x.rank)),), folded))
    return add(Instruction(REGISTRY["reshape"], (fold,), (result.shape,), result))


def _empty(i: Instruction, types: Sequence[TensorType]) -> object:
    """What an op on no elements gives everywhere in its result: a fold's start, a product's zero."""
    if i.type.size == 0:
        return 0
    assert i.op.reference is not None
    named = dict(zip(i.op.attributes, i.attributes, strict=True))
    return np.asarray(i.op.reference(*(np.zeros(t.shape, t.dtype.dtype) for t in types), **named)).flat[0].item()


def _spread(out: list[Instruction], i: Instruction, operands: tuple[int, ...]) -> dict[int, Shape]:
    """The operands to write out, because no row length suits them all, and the smallest shapes with which one does."""
    space = i.type.shape
    shapes = {k: out[k].type.shape for k in operands if out[k].op is not CONSTANT}
    wanted = {k: split(shape, space) for k, shape in shapes.items()}
    columns = max(((prod(shapes[k]), n) for k, n in wanted.items() if n > 0), default=(0, 0))[1]
    found = {}
    for k, shape in shapes.items():
        if wanted[k] == 0 or wanted[k] not in (-1, columns):
            fitting = [s for s in _between(shape, space) if (n := split(s, space)) in (-1, columns or n) and n]
            found[k] = min(fitting, key=prod)
            columns = columns or max(0, split(found[k], space))
    return found


def _between(shape: Shape, space: Shape) -> Iterator[Shape]:
    """Shapes that a shape can be written out to, with its own axes on one side and the space's on the other."""
    shape = (1,) * (len(space) - len(shape)) + shape
    for a in range(len(space) + 1):
        yield (*shape[:a], *space[a:])
        yield (*space[:a], *shape[a:])
