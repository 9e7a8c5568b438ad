"""The NumPy interpreter: what a program means.

It runs any program, needs no compiler, and is what everything else is tested against.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape.backends.buffer import Buffer
from numtape.dtypes import TensorType
from numtape.ir.loop import FINAL, LOOP, STACKED, parts
from numtape.ir.program import INPUT, Instruction, Program


def interpret(program: Program, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """The program's outputs, as new arrays."""
    values = interpret_all(program, inputs)
    return [np.array(values[k]) for k in program.outputs]


def interpret_all(program: Program, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """The value of each instruction."""
    values: list[Any] = []
    with np.errstate(all="ignore"):
        for instruction in program.instructions:
            values.append(inputs[instruction.attributes[0]] if instruction.op is INPUT else _run(instruction, values))
    return values


def run(program: Program, arrays: Sequence[Buffer], numbers: Sequence[Any]) -> list[Buffer]:
    """The same for buffers, of which none is changed; the last inputs are Python numbers."""
    found = interpret(program, given(program, arrays, numbers))
    return [Buffer(np.ascontiguousarray(x).reshape(-1)) for x in found]


def given(program: Program, arrays: Sequence[Buffer], numbers: Sequence[Any]) -> list[npt.NDArray[Any]]:
    """A program's inputs as arrays."""
    types = [program.type(k) for k in program.inputs]
    found = [*(buffer.array for buffer in arrays), *as_arrays(numbers, types[len(arrays) :])]
    return [x.reshape(t.shape) for x, t in zip(found, types, strict=True)]


def as_arrays(numbers: Sequence[Any], types: Sequence[TensorType]) -> list[npt.NDArray[Any]]:
    """Python numbers as arrays of one element; what is beyond float32 is infinite there, as in NumPy."""
    with np.errstate(over="ignore"):
        return [np.array([x]).astype(t.dtype.dtype) for x, t in zip(numbers, types, strict=True)]


def _turns(i: Instruction, values: Sequence[Any]) -> list[list[Any]]:
    """For each turn of a loop the values of its body."""
    body, count, windows = i.attributes
    given = [values[k] for k in i.operands]
    carried, same, _ = parts(len(given), body, windows)
    state, rest = given[:carried], given[carried : carried + same]
    turns = []
    for turn in range(count):
        rows = [x[start + step * turn] for x, (start, step) in zip(given[carried + same :], windows, strict=True)]
        turns.append(interpret_all(body, [*state, *rest, *rows]))
        state = [turns[-1][k] for k in body.outputs]
    return turns


def _run(i: Instruction, values: Sequence[Any]) -> Any:
    if i.op is LOOP:
        return _turns(i, values)
    if i.op is FINAL:
        return values[i.operands[0]][-1][i.attributes[0]]
    if i.op is STACKED:
        return np.stack([turn[i.attributes[0]] for turn in values[i.operands[0]]])
    assert i.op.reference is not None
    named = dict(zip(i.op.attributes, i.attributes, strict=True))
    result = np.asarray(i.op.reference(*(values[k] for k in i.operands), **named))
    if result.dtype != i.type.dtype.dtype:
        result = result.astype(i.type.dtype.dtype)
    assert result.shape == i.type.shape, f"{i.op}: the reference gave shape {result.shape}, not {i.type.shape}"
    return result
