"""The NumPy interpreter: what a program means.

It runs any program, needs no compiler, and is what everything else is tested against.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape.ir.program import INPUT, Instruction, Program


def interpret(program: Program, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """The program's outputs, as new arrays."""
    values = interpret_all(program, inputs)
    return [np.array(values[k]) for k in program.outputs]


def interpret_all(program: Program, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """The value of each instruction."""
    values: list[npt.NDArray[Any]] = []
    with np.errstate(all="ignore"):
        for instruction in program.instructions:
            values.append(inputs[instruction.attributes[0]] if instruction.op is INPUT else _run(instruction, values))
    return values


def _run(i: Instruction, values: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    assert i.op.reference is not None
    named = dict(zip(i.op.attributes, i.attributes, strict=True))
    result = np.asarray(i.op.reference(*(values[k] for k in i.operands), **named))
    if result.dtype != i.type.dtype.dtype:
        result = result.astype(i.type.dtype.dtype)
    assert result.shape == i.type.shape, f"{i.op}: the reference gave shape {result.shape}, not {i.type.shape}"
    return result
