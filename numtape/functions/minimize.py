"""`Objective`: a function as SciPy's optimizers want it, value and gradient at once, in float64.

Each kind of arguments is recorded once. Where Python looks at no values, a function is bound: x is written into an
array of its own, the other arrays are read where they are, and a call is one native call; else it is an ordinary call.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from numtape import nest
from numtape.dtypes import DType
from numtape.functions.bound import BoundFunction
from numtape.functions.derivatives import Derived, hessian, hessian_product, named, value_and_gradients
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.tensor import Tensor, buffer_of

if TYPE_CHECKING:
    from numtape.functions.function import Function

Array = npt.NDArray[np.float64]


class Objective:
    """A function for `scipy.optimize.minimize(f, x0, jac=True)`; made by `nt.function`'s `scipy`."""

    def __init__(self, function: Function, dtype: DType) -> None:
        self.__name__ = name = function.__name__

        def prepared(derived: Derived, count: int = 1) -> _Evaluation:
            return _Evaluation(type(function)(named(derived, name)), dtype, count)

        plain = function._plain
        self._both = prepared(value_and_gradients(plain, name, [0]))
        self._hessian = prepared(hessian(plain, name))
        self._product = prepared(hessian_product(plain, name), 2)

    def __call__(self, x: Any, *args: Any) -> tuple[float, Array]:
        """The value and its gradient with respect to x."""
        value, gradient = self._both((x,), args)
        return float(value), gradient

    def hess(self, x: Any, *args: Any) -> Array:
        """The matrix of second derivatives, of shape `x.shape + x.shape`."""
        return self._hessian((x,), args)[0]

    def hessp(self, x: Any, p: Any, *args: Any) -> Array:
        """The product of that matrix and a vector p, without the matrix."""
        return self._product((x, p), args)[0]

    def __repr__(self) -> str:
        return f"<nt.function {self.__name__}, for scipy.optimize.minimize>"


class _Evaluation:
    """A function whose first arguments are arrays that change at each call, and whose results are float64 arrays."""

    def __init__(self, function: Function, dtype: DType, count: int) -> None:
        self._function = function
        self._dtype = dtype.dtype
        self._count = count
        self._lock = threading.Lock()
        self._ready: dict[Any, _Ready] = {}
        """By the shape of the first arguments, and the types of the others."""

    def __call__(self, points: tuple[Any, ...], args: tuple[Any, ...]) -> list[Array]:
        with self._lock:  # a bound function has its arguments and results to itself
            key = (np.shape(points[0]), *map(type, args))
            ready = self._ready.get(key)
            if ready is None or not all(map(is_, ready.args, args)):
                ready = self._ready[key] = self._prepare(key[0], args)
            for place, x in zip(ready.points, points, strict=True):
                np.copyto(place, x, casting="same_kind")
            if ready.bound is not None:
                ready.bound()
                return [np.array(result, np.float64) for result in ready.results]
            given = [place.copy() for place in ready.points]
        return [np.array(result, np.float64) for result in nest.flatten(self._function(*given, *args))]

    def _prepare(self, shape: tuple[int, ...], args: tuple[Any, ...]) -> _Ready:
        points = [np.zeros(shape, self._dtype) for _ in range(self._count)]
        arguments = [*points, *args]
        if not all(map(_can_be_bound, args)):
            return _Ready(args, points, None)
        try:
            direct, tensors = self._function._direct(arguments)
        except ValueError:  # it looks at values, or goes wrong, as it will when it is called
            return _Ready(args, points, None)
        given = [x for x in arguments if isinstance(x, Tensor | np.ndarray | np.generic)]
        places = [x if isinstance(x, np.ndarray) else buffer_of(t).array for x, t in zip(given, tensors, strict=True)]
        bound = BoundFunction(direct, self._function.__name__, places, tensors)
        return _Ready(args, points, bound, nest.flatten(bound.result))


def _can_be_bound(x: Any) -> bool:
    """Whether nothing in an argument changes unseen: lists may, and arrays that a program does not read in place."""
    if isinstance(x, np.ndarray):
        return x.flags.c_contiguous and x.dtype.isnative
    return not isinstance(x, IndexedSlices) and not nest.is_nested(x)


@dataclass(frozen=True, slots=True)
class _Ready:
    """An evaluation for certain arguments: where the first are written, and the function bound to all of them, if it
    can be, with the arrays that a call fills."""

    args: tuple[Any, ...]
    points: list[npt.NDArray[Any]]
    bound: BoundFunction | None
    results: Sequence[npt.NDArray[Any]] = ()
