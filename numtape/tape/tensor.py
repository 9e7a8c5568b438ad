"""`Tensor`: an immutable array whose elements may still be pending, and what becomes one.

A tensor has its elements in a `Buffer`, or knows the trace and slot that will give them. Looking at elements runs the
trace. Operators are installed by the layer above.
"""

from __future__ import annotations

import array
import threading
from collections.abc import Callable, Iterator
from sys import getrefcount
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from numtape.backends.buffer import Buffer, allocate
from numtape.dtypes import DType, TensorShape, TensorType, as_dtype, float32, int32, int64, type_of

if TYPE_CHECKING:
    from numtape.tape.trace import Trace


class Typed:
    """What a tensor and a Variable have in common: a type, and no hash, since `==` compares elements."""

    __slots__ = ()
    _type: TensorType
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100  # an array on the left hands over to our operator; NumPy's functions give arrays

    @property
    def shape(self) -> TensorShape:
        return self._type.tensor_shape

    def get_shape(self) -> TensorShape:
        """The shape."""
        return self._type.tensor_shape

    @property
    def dtype(self) -> DType:
        return self._type.dtype

    @property
    def ndim(self) -> int:
        return self._type.rank

    @property
    def size(self) -> int:
        return self._type.size

    def ref(self) -> Reference:
        """A hashable reference: equal exactly for the same object."""
        return Reference(self)

    def item(self) -> Any:
        """The single element as a Python number."""
        raise NotImplementedError

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)


class Tensor(Typed):
    """An array of elements of one dtype, which never change.

    Made by `nt.constant` and by every op; operators work element by element with NumPy's broadcasting. `numpy()`,
    `float()`, printing and the like wait for the elements; everything before is only recorded.

    >>> import numtape as nt
    >>> x = nt.constant([[1.0, 2.0], [3.0, 4.0]])
    >>> x * x + 1
    <nt.Tensor: shape=(2, 2), dtype=float32, numpy=
    array([[ 2.,  5.],
           [10., 17.]], dtype=float32)>
    """

    __slots__ = ("__weakref__", "_data", "_slot", "_trace", "_type", "assign")
    assign: Callable[[Any], Any]
    """Of a part of a Variable, as it is read by `v[key]`: assigns to this part of it. Other tensors have none."""

    def __init__(self, type: TensorType, data: Buffer | None, trace: Trace | None = None, slot: int = -1) -> None:
        self._type = type
        self._data = data
        self._trace = trace
        self._slot = slot

    def __init_subclass__(cls) -> None:
        raise TypeError("nt.Tensor has no subclasses: ops would give back plain tensors; hold one in a class instead")

    # ---- its elements ----------------------------------------------------------------------------------------------

    def numpy(self) -> npt.NDArray[Any]:
        """The elements as a new NumPy array; of a tensor of rank 0 a NumPy scalar."""
        array = buffer_of(self).array
        on_look[0](self, elements)
        return array.reshape(self._type.shape).copy() if self._type.shape else array[0]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("a tensor's elements are only given away as a copy, since tensors never change")
        array = np.asarray(self.numpy())
        return array if dtype is None else array.astype(dtype, copy=False)

    def __dlpack__(self, **options: Any) -> Any:
        return np.asarray(self).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # kDLCPU

    def item(self) -> Any:
        """The single element as a Python number; ValueError if there are more or none."""
        if self._type.size != 1:
            raise ValueError(f"a tensor of shape {self.shape} is not a single number; index or reduce it first")
        on_look[0](self, elements)
        return buffer_of(self).array.item()

    def __float__(self) -> float:
        on_look[0](self, elements)
        data = self._data or buffer_of(self)
        return float(data.array.item() if self._type.size == 1 else self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if not self.dtype.is_integer:
            raise TypeError(f"a tensor of dtype {self.dtype.name} cannot be an index; cast it to an integer type")
        return int(self.item())

    def __bool__(self) -> bool:
        if self._type.size != 1:
            raise ValueError(
                f"the truth of a tensor of shape {self.shape} is ambiguous; use nt.reduce_any or nt.reduce_all"
            )
        on_look[0](self, truth)
        return bool(buffer_of(self).array.item())

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor of shape () has no length")
        return self._type.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise TypeError("a tensor of shape () cannot be iterated over")
        return on_iteration[0](self.shape[0], self.__getitem__)

    def __contains__(self, item: Any) -> bool:
        return bool(np.any(self.numpy() == np.asarray(item)))

    def __getitem__(self, key: Any) -> Tensor:
        from numtape.ops.indexing import getitem

        return getitem(self, key)  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "tensors never change: build a new one with nt.where or nt.tensor_scatter_nd_update, or keep state in an "
            "nt.Variable"
        )

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self

    def __reduce__(self) -> Any:
        return _unpickle, (np.asarray(self),)

    def __str__(self) -> str:
        text = str(self.numpy())
        lead = "\n" if "\n" in text else ""
        return f"nt.Tensor({lead}{text}, shape={self.shape}, dtype={self.dtype.name})"

    def __format__(self, spec: str) -> str:
        return super().__format__(spec) if spec else str(self.numpy())

    def __repr__(self) -> str:
        return f"<nt.Tensor: shape={self.shape}, dtype={self.dtype.name}, numpy={array_text(self.numpy())}>"


def elements(array: npt.NDArray[Any]) -> bytes:
    """What Python sees of a tensor, bit for bit."""
    return array.tobytes()


def truth(array: npt.NDArray[Any]) -> bool:
    """What Python sees of a tensor in a condition."""
    return bool(array.item())


View = Callable[[npt.NDArray[Any]], Any]
on_look: list[Callable[[Tensor, View], None]] = [lambda tensor, view: None]
"""What is told that Python looks at a tensor's elements, and as what; the layer above puts its own there."""
on_iteration: list[Callable[[int, Callable[[int], Any]], Iterator[Any]]] = [lambda count, row: map(row, range(count))]
"""What gives the elements of a loop, by how many there are and what gives one; so does this."""


EPOCH = array.array("q", [0])
"""Moves when a trace takes a value in, and when a Variable gets another: while it stands still, in whatever thread,
nobody takes hold of a Variable's value, and each is where it was. An array, so that compiled code can look at it."""


class Reference:
    """Stands for a tensor or Variable where something hashable is needed."""

    __slots__ = ("_referred",)

    def __init__(self, referred: Any) -> None:
        self._referred = referred

    def deref(self) -> Any:
        return self._referred

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self._referred is other._referred

    def __hash__(self) -> int:
        return id(self._referred)


def buffer_of(tensor: Tensor) -> Buffer:
    """Where the elements are; runs what is pending."""
    while (data := tensor._data) is None:
        trace = tensor._trace
        if trace is not None:
            trace.materialize(tensor)
    return data


def array_text(array: npt.NDArray[Any]) -> str:
    """An array as TensorFlow prints it within a tensor."""
    text = repr(array) if array.shape else str(array)
    return f"\n{text}" if "\n" in text else text


def _unpickle(array: npt.NDArray[Any]) -> Tensor:
    return from_numpy(array)


def from_numpy(array: npt.NDArray[Any]) -> Tensor:
    """A tensor with a copy of the array's elements."""
    return Tensor(*copied(array))


def copied(array: npt.NDArray[Any]) -> tuple[TensorType, Buffer]:
    """The array's type, and a copy of its elements."""
    type = type_of(array)
    buffer, view = fresh(type)
    view[...] = array
    return type, buffer


def fresh(type: TensorType) -> tuple[Buffer, npt.NDArray[Any]]:
    """A buffer that nobody else holds, and a view of it in its shape; whoever asked writes the elements.

    The buffer has to be held for as long as the view is used: small ones come from a pool, and go back to it.
    """
    pool = _pools.by_type
    ready = pool.get(type, ())
    for entry in ready:
        if getrefcount(entry[0]) == _IDLE:
            return entry
    buffer = allocate(type)
    entry = buffer, buffer.array.reshape(type.shape)
    if type.nbytes <= _POOLED_BYTES and len(ready) < _POOL_DEPTH:
        if len(pool) >= _POOLED_TYPES and type not in pool:
            pool.clear()
        pool.setdefault(type, []).append(entry)
    return entry


class _Pools(threading.local):
    """Buffers that took in arrays before, by type: a loop that brings a batch in each step allocates nothing."""

    def __init__(self) -> None:
        self.by_type: dict[TensorType, list[tuple[Buffer, npt.NDArray[Any]]]] = {}


_pools = _Pools()
_POOLED_BYTES, _POOLED_TYPES, _POOL_DEPTH = 1 << 18, 64, 3


def _references_when_idle() -> int:
    for entry in [(object(), None)]:
        return getrefcount(entry[0])
    raise AssertionError


_IDLE = _references_when_idle()
"""What `getrefcount` says of a buffer that only the pool holds: Python versions differ."""


# ---- what becomes a tensor ---------------------------------------------------------------------------------------


def check_number(number: Any, dtype: DType) -> DType:
    """The dtype, if a Python number fits it: bool for bool, integers for all but bool, floats for floats.

    TypeError if it is of another kind, OverflowError if an integer is out of range.
    """
    if isinstance(number, bool):
        fits = dtype.is_bool
    elif isinstance(number, int):
        fits = not dtype.is_bool
        if number.bit_length() > 1023:
            raise OverflowError(f"an integer of {number.bit_length()} bits is out of range for {dtype.name}")
        if dtype.is_integer and not dtype.min <= number <= dtype.max:
            raise OverflowError(f"{number} is out of range for {dtype.name}")
    else:
        fits = dtype.is_floating
    if not fits:
        raise TypeError(
            f"the Python number {number!r} does not fit a tensor of dtype {dtype.name}; nt.cast the tensor, or write "
            f"the number as {'a bool' if dtype.is_bool else 'an integer'}"
        )
    return dtype


def to_array(value: Any, dtype: DType | None = None) -> npt.NDArray[Any]:
    """A NumPy array with what a user gave: Python floats become float32 and integers int32, arrays keep their dtype.

    With `dtype` everything is converted to it, but never floats to integers (TypeError).
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(
            f"{_describe(value)} does not become a tensor: lists beside each other in it have different lengths, and "
            "there are no ragged tensors; pad the shorter ones"
        ) from None
    kind = array.dtype.kind
    if kind not in "fiub":
        raise TypeError(
            f"{_describe(value)} does not become a tensor: its elements are {array.dtype}, not numbers or bools"
        )
    if dtype is None:
        dtype = _python_default(array) if _is_python(value) else as_dtype(array.dtype)
    elif array.dtype == dtype.dtype:
        return array
    elif array.size and not np.can_cast(array.dtype, dtype.dtype, "same_kind"):
        fits = kind in "iu" and dtype.is_integer and dtype.min <= array.min() and array.max() <= dtype.max
        if not fits:
            raise TypeError(
                f"{_describe(value)} of {array.dtype} is not converted to {dtype.name}; nt.cast it on purpose"
            )
    elif kind in "iu" and dtype.is_integer and array.size and not dtype.min <= array.min() <= array.max() <= dtype.max:
        raise OverflowError(f"{_describe(value)} has elements out of range for {dtype.name}")
    with np.errstate(over="ignore"):
        return array.astype(dtype.dtype)


def _is_python(value: Any) -> bool:
    """Whether the elements are Python's own numbers."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return isinstance(value, bool | int | float | list | tuple) and not isinstance(value, np.generic)


def _python_default(array: npt.NDArray[Any]) -> DType:
    if array.dtype.kind == "f":
        return float32
    if array.dtype.kind == "b":
        return as_dtype("bool")
    fits = not array.size or int32.min <= array.min() <= array.max() <= int32.max
    return int32 if fits else int64


def _describe(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"


def holds_tensors(value: Any) -> bool:
    """Whether a list has tensors or Variables in it."""
    return isinstance(value, list | tuple) and any(
        isinstance(v, Tensor) or hasattr(v, "_value") or holds_tensors(v) for v in value
    )


