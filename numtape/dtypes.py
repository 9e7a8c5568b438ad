"""Element types and tensor types.

A `DType` names what one element is; a `TensorType` adds the shape. Both are interned: two equal ones are the same
object, so that they hash and compare at the speed of an identity test. Nothing here holds data.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]


class DType:
    """What one element of a tensor is.

    Compares equal to the NumPy dtype, scalar type or name that means the same, and NumPy takes it as a dtype.

    >>> import numtape as nt
    >>> nt.float32 == np.float32, nt.float32 == "float32", nt.float32.is_floating
    (True, True, True)
    >>> np.zeros(2, nt.float64).dtype
    dtype('float64')
    """

    __slots__ = ("code", "dtype", "is_bool", "is_floating", "is_integer", "itemsize", "name", "types")
    __hash__ = object.__hash__  # one written in Python would be called at every look-up

    def __init__(self, name: str, code: str) -> None:
        self.name = name
        self.code = code
        self.dtype = np.dtype(name)
        self.itemsize = self.dtype.itemsize
        self.is_floating = self.dtype.kind == "f"
        self.is_integer = self.dtype.kind in "iu"
        self.is_bool = self.dtype.kind == "b"
        self.types: dict[Shape, TensorType] = {}
        """The tensor types of this dtype, by shape."""

    @property
    def as_numpy_dtype(self) -> type[np.generic]:
        """The NumPy scalar type, as TensorFlow names it."""
        return self.dtype.type

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return self.itemsize

    @property
    def min(self) -> Any:
        """The least finite value."""
        return np.finfo(self.dtype).min if self.is_floating else np.iinfo(self.dtype).min

    @property
    def max(self) -> Any:
        """The greatest finite value."""
        return np.finfo(self.dtype).max if self.is_floating else np.iinfo(self.dtype).max

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DType):
            return self is other
        try:
            return bool(self.dtype == np.dtype(other))  # type: ignore[call-overload]
        except TypeError:
            return NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)

    def __str__(self) -> str:
        return f"<dtype: '{self.name}'>"

    def __repr__(self) -> str:
        return f"nt.{self.name}"


float32, float64 = DType("float32", "f32"), DType("float64", "f64")
int8, int16, int32, int64 = (DType(f"int{n}", f"i{n}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (DType(f"uint{n}", f"u{n}") for n in (8, 16, 32, 64))
bool_ = DType("bool", "b1")

ALL = (float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64, bool_)
BY_CODE = {dtype.code: dtype for dtype in ALL}
_by_numpy = {dtype.dtype: dtype for dtype in ALL}


def as_dtype(value: Any) -> DType:
    """The `DType` meant by a DType, a NumPy dtype, a scalar type or a name.

    Python's numbers mean what literals become; so does "float", as in TensorFlow. Raises TypeError for what no tensor
    can hold.

    >>> as_dtype("float32"), as_dtype(np.int64), as_dtype(float)
    (nt.float32, nt.int64, nt.float32)
    """
    if isinstance(value, DType):
        return value
    name = value if isinstance(value, str) else ""  # an np.dtype equals names, too
    if value is float or name == "float":
        return float32
    if value is int:
        return int32
    if name == "int":  # NumPy's is another than Python's
        raise TypeError("'int' says too little about an element; choose int32 or int64")
    try:
        return _by_numpy[np.dtype(value)]
    except (KeyError, TypeError):
        names = ", ".join(dtype.name for dtype in ALL)
        raise TypeError(f"{value!r} is not an element type of tensors; choose one of {names}") from None


class TensorShape(tuple[int, ...]):
    """The shape of a tensor or Variable: a tuple of its lengths, with the methods that TensorFlow's shapes have.

    Equals lists of the same lengths as well, and joins them.

    >>> import numtape as nt
    >>> x = nt.zeros([2, 3])
    >>> x.shape, x.shape.as_list(), x.shape.rank, x.shape.num_elements()
    ((2, 3), [2, 3], 2, 6)
    >>> x.shape == [2, 3], x.shape[1:] + [4]
    (True, (3, 4))
    """

    __slots__ = ()
    __hash__ = tuple.__hash__

    @property
    def rank(self) -> int:
        """How many axes there are."""
        return len(self)

    @property
    def ndims(self) -> int:
        """The same."""
        return len(self)

    def as_list(self) -> list[int]:
        """The lengths as a list."""
        return list(self)

    def num_elements(self) -> int:
        """The product of the lengths."""
        return math.prod(self)

    def is_fully_defined(self) -> bool:
        """True: no length is ever unknown."""
        return True

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, tuple(other) if isinstance(other, list) else other)

    def __ne__(self, other: object) -> bool:
        return tuple.__ne__(self, tuple(other) if isinstance(other, list) else other)

    def __getitem__(self, key: Any) -> Any:
        found = tuple.__getitem__(self, key)
        return TensorShape(found) if isinstance(key, slice) else found

    def __add__(self, other: Any) -> TensorShape:
        return TensorShape((*self, *other))

    def __radd__(self, other: Any) -> TensorShape:
        return TensorShape((*other, *self))


class TensorType:
    """Element type and shape of a tensor; make one with `tensor_type`."""

    __slots__ = ("dtype", "nbytes", "rank", "shape", "size", "tensor_shape")

    def __init__(self, dtype: DType, shape: Shape) -> None:
        self.dtype = dtype
        self.shape = shape
        self.tensor_shape = TensorShape(shape)
        """The shape for users; a plain tuple is faster."""
        self.rank = len(shape)
        size = 1
        for extent in shape:
            size *= extent
        self.size = size
        self.nbytes = size * dtype.itemsize

    @property
    def text(self) -> str:
        """As users read it, float32[2, 3]; in programs it is shorter."""
        return f"{self.dtype.name}{list(self.shape)}"

    def __str__(self) -> str:
        return f"{self.dtype.code}[{','.join(map(str, self.shape))}]"

    __repr__ = __str__


def tensor_type(dtype: DType, shape: Shape) -> TensorType:
    """The one `TensorType` of this dtype and shape."""
    found = dtype.types.get(shape)
    if found is None:
        shape = tuple(shape)
        found = dtype.types.setdefault(shape, TensorType(dtype, shape))
    return found


def type_of(array: npt.NDArray[Any]) -> TensorType:
    """The `TensorType` of a NumPy array; TypeError if its elements are not a tensor's."""
    dtype = _by_numpy.get(array.dtype) or as_dtype(array.dtype)
    return dtype.types.get(array.shape) or tensor_type(dtype, array.shape)


def parse_type(text: str) -> TensorType:
    """Read back what `str(tensor_type)` wrote.

    >>> parse_type("f32[2,3]")
    f32[2,3]
    """
    code, bracket, extents = text.partition("[")
    if code not in BY_CODE or not bracket or not extents.endswith("]"):
        raise ValueError(f"not a tensor type: {text!r}; expected something like f32[2,3]")
    return tensor_type(BY_CODE[code], tuple(int(n) for n in extents[:-1].split(",") if n))
