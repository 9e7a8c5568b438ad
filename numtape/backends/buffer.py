"""Memory that kernels read and write."""

from __future__ import annotations

from sys import getrefcount
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from numtape.dtypes import TensorType
from numtape.ir.kernel import ALIGNMENT

T = TypeVar("T")


class Buffer:
    """Elements in memory, flat and contiguous, with their address.

    Whoever writes into one must know that nobody else holds it.
    """

    __slots__ = ("__weakref__", "address", "array")

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array
        self.address: int = array.__array_interface__["data"][0]

    def copy(self) -> Buffer:
        return Buffer(self.array.copy())


def allocate(type: TensorType) -> Buffer:
    """A new buffer, aligned for vectors; its elements are not set."""
    nbytes = type.nbytes
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    return Buffer(raw[start : start + nbytes].view(type.dtype.dtype))


def _references_when_alone() -> int:
    arrays = [object()]
    for k in (0,):
        return getrefcount(arrays[k])
    raise AssertionError


ALONE = _references_when_alone()
"""What `getrefcount(arrays[k])` says of an item that only the list holds: Python versions differ."""
(ALONE_IN_MAP,) = map(getrefcount, [object()])
"""The same of `map(getrefcount, arrays)`."""


def _references_in_loop(items: list[Any]) -> list[int]:
    return [getrefcount(x) for x in items]


(_ALONE_IN_LOOP,) = _references_in_loop([object()])


def shared(items: list[T]) -> list[T]:
    """Those items that somebody beside the list holds."""
    return [x for x in items if getrefcount(x) > _ALONE_IN_LOOP]
