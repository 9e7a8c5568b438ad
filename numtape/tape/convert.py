"""`constant` and `convert_to_tensor`: from what users have to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from numtape.dtypes import as_dtype
from numtape.ops.core import PUBLIC
from numtape.tape.operands import STAND_INS, as_tensor
from numtape.tape.tensor import Tensor, from_numpy, holds_tensors, to_array
from numtape.tape.variable import Variable


def constant(value: Any, dtype: Any = None, shape: Sequence[int] | None = None, name: str | None = None) -> Tensor:
    """A tensor with the elements of a number, nested list or array, which later changes to the array leave alone.

    Python floats become float32 and integers int32, arrays keep their dtype, unless `dtype` says otherwise; floats are
    never converted to integers (TypeError). With `shape` a single number is repeated and other elements are reshaped.

    >>> import numtape as nt
    >>> nt.constant([1, 2, 3], dtype="float64")
    <nt.Tensor: shape=(3,), dtype=float64, numpy=array([1., 2., 3.])>
    >>> nt.constant(0.5, shape=(2,)).numpy()
    array([0.5, 0.5], dtype=float32)
    """
    kind = None if dtype is None else as_dtype(dtype)
    if isinstance(value, Tensor | Variable) or type(value) in STAND_INS or holds_tensors(value):
        tensor = convert_to_tensor(value, kind)
    else:
        tensor = from_numpy(to_array(value, kind))
    if shape is None:
        return tensor
    shape = tuple(shape)
    if tensor.size == 1:
        return PUBLIC["broadcast_to"](PUBLIC["reshape"](tensor, ()), shape)  # type: ignore[no-any-return]
    return PUBLIC["reshape"](tensor, shape)  # type: ignore[no-any-return]


def convert_to_tensor(value: Any, dtype: Any = None, dtype_hint: Any = None, name: str | None = None) -> Tensor:
    """The tensor that an op would see in place of `value`: a Variable is read, a tensor stays itself.

    Lists that hold tensors are stacked, and gradients flow to them. ValueError if a tensor has another dtype than
    `dtype`; `dtype_hint` is used for numbers, lists and arrays if it fits them.

    >>> import numtape as nt
    >>> v = nt.Variable(1.0)
    >>> snapshot = nt.convert_to_tensor(v)
    >>> v.assign(2.0).numpy(), snapshot.numpy()
    (np.float32(2.0), np.float32(1.0))
    """
    kind = None if dtype is None else as_dtype(dtype)
    if type(value) in STAND_INS:
        value = value._value
    if isinstance(value, Tensor | Variable):
        if kind is not None and value.dtype is not kind:
            raise ValueError(
                f"a tensor of {value.dtype.name} is not converted to {kind.name}; write nt.cast(x, nt.{kind.name})"
            )
        return value if isinstance(value, Tensor) else value.value()
    if kind is None and dtype_hint is not None:
        with suppress(TypeError, OverflowError):
            return as_tensor(value, as_dtype(dtype_hint))
    return as_tensor(value, kind)


def is_tensor(x: Any) -> bool:
    """Whether this is a tensor, a Variable or indexed slices, and not what would become a tensor.

    >>> import numtape as nt
    >>> nt.is_tensor(nt.Variable(1.0)), nt.is_tensor(1.0)
    (True, False)
    """
    return isinstance(x, Tensor | Variable) or type(x) in STAND_INS
