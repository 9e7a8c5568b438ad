"""Operands: what stands for each in a trace's key, and how users' numbers, arrays and lists become tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from numtape.dtypes import DType, TensorType, as_dtype, float32, tensor_type
from numtape.ir.op import Op
from numtape.ir.program import Builder, Value
from numtape.ops.core import PUBLIC, default_dtype, dtype_groups
from numtape.tape.tensor import Tensor, check_number, from_numpy, holds_tensors, to_array

Word = Any
"""What stands for an operand in a key: a slot, the type of a new input, or the class of a Python number."""


VARIABLES: set[type] = set()
"""The classes whose value is read as an operand; the layer above adds its own."""
STAND_INS: set[type] = set()
"""Classes that stand for a tensor, their `_value`, which ops compute; whoever defines one adds it."""


CAPTURED: list[Callable[[Tensor, np.ndarray[Any, Any]], None]] = []
"""Told which tensor was made of which array; whoever records functions, in which the array may change, adds its own."""


class Foreign(Exception):
    """An operand that has to be converted first."""


_ARRAYS = frozenset({np.ndarray, bool, int, float, Tensor})


def is_foreign(operand: Any) -> bool:
    kind = type(operand)
    return kind not in _ARRAYS and kind not in VARIABLES and not isinstance(operand, np.ndarray | np.generic)


_BITS = (7, 8, 15, 16, 31, 32, 63, 64, 1023)
"""Up to so many bits an integer, or what is left of a negative one after adding 1, fits a signed or unsigned dtype or a
float."""


def number_class(x: Any) -> Any:
    """Numbers of one class fit the same dtypes, so that a path once accepted holds for all of them."""
    if type(x) is int and not 0 <= x < 128:
        length = (x if x >= 0 else ~x).bit_length()
        return "int", x < 0, next((bits for bits in _BITS if length <= bits), None)
    return type(x)


def operand_values(
    builder: Builder,
    words: Sequence[Word],
    groups: Sequence[str],
    admitted: int,
    taken: int,
    scalars: Sequence[Any],
) -> list[Value]:
    """Values for the words of a key; numbers take the dtype of their group and become inputs of rank 0.

    Inputs are numbered in the order of their admission, from `admitted` on, and Python numbers ~0, ~1, ... in theirs,
    from `taken` on.
    """
    dtypes: dict[str, DType] = {}
    new: dict[int, TensorType] = {}
    slot = len(builder.instructions)
    for word, group in zip(words, groups, strict=True):
        if type(word) is int:
            dtypes.setdefault(group, (new.get(word) or builder.instructions[word].type).dtype)
            continue
        if type(word) is TensorType:
            dtypes.setdefault(group, word.dtype)
            new[slot] = word
        slot += 1
    for word, group in zip(words, groups, strict=True):
        if word is float:  # a float among bare numbers makes all of them floats
            dtypes.setdefault(group, float32)
    values = []
    for word, group in zip(words, groups, strict=True):
        if type(word) is int:
            values.append(builder.value(word))
        elif type(word) is TensorType:
            values.append(builder.input(word, admitted))
            admitted += 1
        else:
            number = scalars[taken]
            dtype = check_number(number, dtypes.setdefault(group, default_dtype(number, group)))
            values.append(builder.input(tensor_type(dtype, ()), ~taken))
            taken += 1
    return values


@lru_cache(1024)
def _companions(op: Op, count: int) -> tuple[tuple[int, ...], ...]:
    """For each of `count` operands the others of its dtype group, by number."""
    groups = dtype_groups(op, count)
    return tuple(tuple(j for j, h in enumerate(groups) if h == g and j != k) for k, g in enumerate(groups))


def _others(op: Op, operands: Sequence[Any], x: Any) -> Sequence[int]:
    """Which operands are in the dtype group of one of them."""
    for y, others in zip(operands, _companions(op, len(operands))):  # noqa: B905  it takes its time
        if y is x:
            return others
    return ()


def dtype_beside(op: Op, operands: Sequence[Any], x: Any) -> DType | None:
    """The dtype of the first tensor in the dtype group of an operand that is none."""
    for k in _others(op, operands, x):
        if (type_ := getattr(operands[k], "_type", None)) is not None:
            return type_.dtype  # type: ignore[no-any-return]
    return None


def _dtype_of_numbers(values: Iterable[Any]) -> DType | None:
    """What a list beside these adopts: the dtype of an array, or float32 if there is a Python float."""
    for value in values:
        if isinstance(value, np.ndarray | np.generic):
            return as_dtype(value.dtype)
        if type(value) is float or (isinstance(value, list | tuple) and _dtype_of_numbers(value)):
            return float32
    return None


def convert(op: Op, operands: Sequence[Any], x: Any) -> Any:
    """An operand that is neither tensor, Variable nor Python number: a constant tensor, or a number where it can be.

    Beside tensors of its dtype group it adopts their dtype, floats never becoming integers.
    """
    hint = dtype_beside(op, operands, x)
    if hint is None and isinstance(x, list | tuple):
        hint = _dtype_of_numbers(operands[k] for k in _others(op, operands, x))
    if type(x) is np.ndarray and (hint is None or x.dtype == hint.dtype):
        return from_numpy(x)
    if hint is not None and isinstance(x, np.generic):
        return x.item()
    try:
        return as_tensor(x, hint)
    except (TypeError, ValueError, OverflowError) as error:
        raise type(error)(f"{op.name.removeprefix('nt.')}: {error}") from None


def _dtype_within(value: Any) -> DType | None:
    """The dtype of the first tensor in a list, which the numbers beside it adopt."""
    if isinstance(value, list | tuple):
        return next((dtype for v in value if (dtype := _dtype_within(v))), None)
    return value._type.dtype if hasattr(value, "_type") else None


def as_tensor(value: Any, dtype: DType | None = None) -> Tensor:
    """A tensor with what a user gave: a Tensor or Variable as it is, anything else by `to_array`."""
    kind = type(value)
    if kind is not Tensor:
        if kind in VARIABLES or kind in STAND_INS:
            value = value._value
        elif holds_tensors(value):
            dtype = dtype or _dtype_within(value)
            parts = [as_tensor(v, dtype) if isinstance(v, list | tuple) else v for v in value]
            return PUBLIC["stack"](parts)  # type: ignore[no-any-return]
        else:
            tensor = from_numpy(to_array(value, dtype))
            if isinstance(value, np.ndarray):
                for told in CAPTURED:
                    told(tensor, value)
            return tensor
    return value  # type: ignore[no-any-return]


