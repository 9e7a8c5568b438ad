"""`IndexedSlices`: a tensor that is zero but for some rows, as these rows and their indices.

It is what the gradient of a gather is, at the cost of what was gathered. Wherever an op takes an operand it stands for
the dense tensor, in which the rows of one index are added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape.dtypes import DType, Shape, int64
from numtape.ir.program import Value
from numtape.ops.core import PUBLIC, freeze
from numtape.passes.differentiate import rows_of
from numtape.tape.operands import STAND_INS, as_tensor
from numtape.tape.tensor import Tensor, from_numpy


class IndexedSlices:
    """Rows `values` at `indices` of a tensor that is zero elsewhere; rows of one index add up.

    Shapes: values (count, inner) and indices (count,), of an integer dtype, make up (length, inner), which
    `dense_shape` says. TypeError for indices or lengths that are no integers.

    >>> import numtape as nt
    >>> table = nt.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> with nt.GradientTape() as tape:
    ...     loss = nt.reduce_sum(nt.gather(table, [2, 0, 2]))
    >>> gradient = tape.gradient(loss, table)
    >>> gradient.indices.numpy()
    array([2, 0, 2], dtype=int32)
    >>> nt.convert_to_tensor(gradient).numpy()
    array([[1., 1.],
           [0., 0.],
           [2., 2.]], dtype=float32)
    """

    __slots__ = ("__weakref__", "_indices", "_shape", "_values")
    __array_ufunc__ = None  # arithmetic with arrays would lose the gradient

    def __init__(self, values: Any, indices: Any, dense_shape: Any = None) -> None:
        self._values = as_tensor(values)
        self._indices = as_tensor(indices)
        if not self._indices.dtype.is_integer:
            raise TypeError(f"IndexedSlices: indices are integers, got {self._indices._type.text}")
        self._shape: Shape | None = None if dense_shape is None else _lengths(dense_shape)

    @property
    def values(self) -> Tensor:
        """The rows, in the order of the indices."""
        return self._values

    @property
    def indices(self) -> Tensor:
        """Which row of the dense tensor each of the values is, or is a part of."""
        return self._indices

    @property
    def dense_shape(self) -> Tensor | None:
        """The shape of the dense tensor as a tensor, None if it is not known."""
        return None if self._shape is None else from_numpy(np.array(self._shape, np.int32))

    @property
    def shape(self) -> Shape | None:
        """The shape of the dense tensor, None if it is not known."""
        return self._shape

    @property
    def dtype(self) -> DType:
        return self._values.dtype

    @property
    def _value(self) -> Tensor:
        """The dense tensor."""
        shape = self._shape
        if shape is None:
            raise ValueError("IndexedSlices without dense_shape do not become a tensor; give the shape as well")
        wanted = (*self._indices.shape, *shape[1:])
        if self._values.shape != wanted or not shape:
            raise ValueError(
                f"IndexedSlices: values {self._values._type.text} and indices {self._indices._type.text} do not make "
                f"up a tensor of shape {shape}: an index stands for a row, so values need shape {wanted}"
            )
        return PUBLIC["math.unsorted_segment_sum"](self._values, self._indices, shape[0])  # type: ignore[no-any-return]

    def __neg__(self) -> IndexedSlices:
        return IndexedSlices(-self._values, self._indices, self._shape)  # type: ignore[operator]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self._value.__array__(dtype, copy)

    def __repr__(self) -> str:
        return (
            f"<nt.IndexedSlices: shape={self.shape}, dtype={self.dtype.name}, indices={self._indices.numpy()!r}, "
            f"values={self._values.numpy()!r}>"
        )


def _lengths(dense_shape: Any) -> Shape:
    lengths = freeze(dense_shape)
    if not isinstance(lengths, tuple) or not all(isinstance(n, int) and not isinstance(n, bool) for n in lengths):
        raise TypeError(f"IndexedSlices: dense_shape is a list of integers, got {dense_shape!r}")
    if any(n < 0 for n in lengths):
        raise ValueError(f"IndexedSlices: dense_shape {lengths} has a negative length")
    return lengths


# ---- gradients that are rows ------------------------------------------------------------------------------------


def split(
    cotangents: list[Value | None], sources: Sequence[Sequence[int]], start: int, slices: list[tuple[int, Shape]]
) -> list[Value | None]:
    """Cotangents with rows in place of those that are nothing but rows, whose indices come after all others.

    `slices` takes the number and the shape of each; the cotangents were derived from instruction `start` on.
    """
    found, places = list(cotangents), []
    for k, (cotangent, source) in enumerate(zip(cotangents, sources, strict=True)):
        pair = None if cotangent is None else rows_of(cotangent, source, start)
        if cotangent is not None and pair is not None:
            found[k], indices = pair
            places.append(indices)
            slices.append((k, cotangent.shape))
    return [*found, *places]


def joined(found: list[Any], slices: Sequence[tuple[int, Shape]]) -> list[Any]:
    """What `split` took apart."""
    places = found[len(found) - len(slices) :]
    del found[len(found) - len(slices) :]
    for (k, shape), indices in zip(slices, places, strict=True):
        found[k] = IndexedSlices(found[k], indices, shape)
    return found


def plus(a: Any, b: Any) -> Any:
    """The sum of two gradients, each a tensor, indexed slices or None."""
    if a is None or b is None:
        return b if a is None else a
    if not type(a) is type(b) is IndexedSlices:
        return a + b
    pairs = [a.indices, b.indices]
    if pairs[0].dtype is not pairs[1].dtype:
        pairs = [PUBLIC["cast"](x, int64) for x in pairs]
    concat = PUBLIC["concat"]
    return IndexedSlices(concat([a.values, b.values], 0), concat(pairs, 0), a.shape)


STAND_INS.add(IndexedSlices)
