"""`TensorSpec`: what is known of a tensor before there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numtape.dtypes import DType, as_dtype, float32


class TensorSpec:
    """A dtype, and a shape in which lengths, or all of it, may be unknown.

    `shape` is a list of lengths, None for one that is unknown, or None for a shape of unknown rank. Specs are equal if
    shape, dtype and name are.

    >>> import numtape as nt
    >>> spec = nt.TensorSpec([None, 3], nt.float32)
    >>> spec
    TensorSpec(shape=(None, 3), dtype=nt.float32, name=None)
    >>> spec.is_compatible_with(nt.zeros([5, 3])), spec.is_compatible_with(nt.zeros([5, 4]))
    (True, False)
    """

    __slots__ = ("_dtype", "_name", "_shape")

    def __init__(self, shape: Sequence[int | None] | int | None, dtype: Any = float32, name: str | None = None) -> None:
        if shape is not None:
            listed = tuple(shape) if isinstance(shape, Sequence) else (shape,)
            shape = tuple(None if extent is None else extent.__index__() for extent in listed)
            if any(extent is not None and extent < 0 for extent in shape):
                raise ValueError(f"TensorSpec: shape {shape} has a negative length; None is an unknown one")
        self._shape = shape
        self._dtype = as_dtype(dtype)
        self._name = name

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        return self._shape

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def name(self) -> str | None:
        return self._name

    @classmethod
    def from_tensor(cls, tensor: Any, name: str | None = None) -> TensorSpec:
        """The spec of exactly this tensor's shape and dtype."""
        return cls(tensor.shape, tensor.dtype, name)

    def is_compatible_with(self, spec_or_value: Any) -> bool:
        """Whether this may be the spec of a tensor, or of all that another spec allows to be the same."""
        shape, other = self._shape, spec_or_value.shape
        if self._dtype != spec_or_value.dtype:
            return False
        if shape is None or other is None:
            return True
        return len(shape) == len(other) and all(
            a is None or b is None or a == b for a, b in zip(shape, other, strict=True)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorSpec) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return self._shape, self._dtype, self._name

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorSpec, self._key()

    def __repr__(self) -> str:
        shape = "<unknown>" if self._shape is None else self._shape
        return f"TensorSpec(shape={shape}, dtype={self._dtype!r}, name={self._name!r})"
