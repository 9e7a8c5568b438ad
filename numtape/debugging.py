"""Checks of elements, under TensorFlow's names.

Each looks at elements, so that what is pending runs there and then; in a function that is recorded the check is made
at each call. `nt.debug.check_numerics` finds lines that make nans without any of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numtape._front import front
from numtape.debug import disable_check_numerics, enable_check_numerics
from numtape.errors import InvalidArgumentError
from numtape.ops.core import PUBLIC
from numtape.tape.operands import as_tensor
from numtape.tape.tensor import Tensor
from numtape.tape.variable import Variable

__all__ = [
    "assert_all_finite",
    "assert_equal",
    "assert_greater",
    "assert_greater_equal",
    "assert_less",
    "assert_less_equal",
    "assert_near",
    "assert_negative",
    "assert_non_negative",
    "assert_non_positive",
    "assert_none_equal",
    "assert_positive",
    "check_numerics",
    "disable_check_numerics",
    "enable_check_numerics",
]
__getattr__, __dir__ = front(__name__, __all__)


def check_numerics(tensor: Any, message: str, name: str | None = None) -> Any:
    """The tensor, if all its elements are finite; else InvalidArgumentError, which begins with `message`.

    >>> import numtape as nt
    >>> x = nt.constant([1.0, 0.0])
    >>> nt.debugging.check_numerics(nt.math.log(x), "log of x")
    Traceback (most recent call last):
        ...
    numtape.errors.InvalidArgumentError: log of x: Tensor had Inf values, the first at [1]
    """
    x = _tensor(tensor)
    if not x.dtype.is_floating:
        raise InvalidArgumentError(f"{message}: only floats can be nan or inf, not {x.dtype.name}")
    if not PUBLIC["reduce_all"](PUBLIC["math.is_finite"](x)):
        array = np.asarray(x)
        kinds = {"NaN": np.isnan(array).any(), "Inf": np.isinf(array).any()}
        what = " and ".join(kind for kind, there in kinds.items() if there)
        raise InvalidArgumentError(f"{message}: Tensor had {what} values, {_first(~np.isfinite(array))}")
    return x


def assert_all_finite(x: Any, message: str, name: str | None = None) -> Any:
    """The same as `nt.debugging.check_numerics`.

    >>> import numtape as nt
    >>> nt.debugging.assert_all_finite([1.0, 2.0], "weights").numpy()
    array([1., 2.], dtype=float32)
    """
    return check_numerics(x, message)


def assert_equal(x: Any, y: Any, message: str | None = None, summarize: Any = None, name: str | None = None) -> None:
    """InvalidArgumentError unless `x == y` holds for each pair of elements, with NumPy's broadcasting.

    A nan equals nothing. `summarize` and `name` change nothing, here and below.

    >>> import numtape as nt
    >>> nt.debugging.assert_equal(nt.constant([1, 2]), [1, 3], "labels")
    Traceback (most recent call last):
        ...
    numtape.errors.InvalidArgumentError: labels: x == y did not hold for 1 of 2 elements, the first at [1]: 2 and 3
    """
    _compare("equal", "==", x, y, message)


def assert_none_equal(
    x: Any, y: Any, summarize: Any = None, message: str | None = None, name: str | None = None
) -> None:
    """InvalidArgumentError unless `x != y` holds for each pair of elements.

    >>> import numtape as nt
    >>> nt.debugging.assert_none_equal([1, 2], 3)
    """
    _compare("not_equal", "!=", x, y, message)


def assert_less(x: Any, y: Any, message: str | None = None, summarize: Any = None, name: str | None = None) -> None:
    """InvalidArgumentError unless `x < y` holds for each pair of elements.

    >>> import numtape as nt
    >>> nt.debugging.assert_less([1, 2], 3)
    """
    _compare("less", "<", x, y, message)


def assert_less_equal(
    x: Any, y: Any, message: str | None = None, summarize: Any = None, name: str | None = None
) -> None:
    """InvalidArgumentError unless `x <= y` holds for each pair of elements.

    >>> import numtape as nt
    >>> nt.debugging.assert_less_equal([1, 2], 2)
    """
    _compare("less_equal", "<=", x, y, message)


def assert_greater(x: Any, y: Any, message: str | None = None, summarize: Any = None, name: str | None = None) -> None:
    """InvalidArgumentError unless `x > y` holds for each pair of elements.

    >>> import numtape as nt
    >>> nt.debugging.assert_greater([1, 2], 0)
    """
    _compare("greater", ">", x, y, message)


def assert_greater_equal(
    x: Any, y: Any, message: str | None = None, summarize: Any = None, name: str | None = None
) -> None:
    """InvalidArgumentError unless `x >= y` holds for each pair of elements.

    >>> import numtape as nt
    >>> nt.debugging.assert_greater_equal([1, 2], 1)
    """
    _compare("greater_equal", ">=", x, y, message)


def assert_positive(x: Any, message: str | None = None, summarize: Any = None, name: str | None = None) -> None:
    """InvalidArgumentError unless every element is above 0.

    >>> import numtape as nt
    >>> nt.debugging.assert_positive([0.5, 2.0])
    """
    _compare("greater", ">", x, 0, message)


def assert_non_negative(x: Any, message: str | None = None, summarize: Any = None, name: str | None = None) -> None:
    """InvalidArgumentError unless every element is 0 or above.

    >>> import numtape as nt
    >>> nt.debugging.assert_non_negative([0, 2])
    """
    _compare("greater_equal", ">=", x, 0, message)


def assert_negative(x: Any, message: str | None = None, summarize: Any = None, name: str | None = None) -> None:
    """InvalidArgumentError unless every element is below 0.

    >>> import numtape as nt
    >>> nt.debugging.assert_negative([-0.5, -2.0])
    """
    _compare("less", "<", x, 0, message)


def assert_non_positive(x: Any, message: str | None = None, summarize: Any = None, name: str | None = None) -> None:
    """InvalidArgumentError unless every element is 0 or below.

    >>> import numtape as nt
    >>> nt.debugging.assert_non_positive([0, -2])
    """
    _compare("less_equal", "<=", x, 0, message)


def assert_near(
    x: Any,
    y: Any,
    rtol: Any = None,
    atol: Any = None,
    message: str | None = None,
    summarize: Any = None,
    name: str | None = None,
) -> None:
    """InvalidArgumentError unless `abs(x - y) <= atol + rtol * abs(y)` holds for each pair of elements.

    Both tolerances are 10 times the distance from 1 to the next float, if they are not given. ValueError for integers.

    >>> import numtape as nt
    >>> nt.debugging.assert_near([1.0, 2.0], [1.0, 2.1], rtol=0.1)
    """
    x, y = _pair(x, y)
    if not x.dtype.is_floating:
        raise ValueError(f"assert_near is for floats, not {x.dtype.name}; use assert_equal")
    eps = 10 * float(np.finfo(x.dtype.dtype).eps)
    rtol, atol = eps if rtol is None else rtol, eps if atol is None else atol
    near = PUBLIC["abs"](x - y) <= atol + rtol * PUBLIC["abs"](y)
    _check(near, "x and y are near", x, y, message)


def _compare(op: str, sign: str, x: Any, y: Any, message: str | None) -> None:
    x, y = _pair(x, y)
    _check(PUBLIC[op](x, y), f"x {sign} y", x, y, message)


def _pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Both as tensors; what is none takes the dtype of the other."""
    if isinstance(y, Tensor | Variable):
        y = _tensor(y)
        return (_tensor(x) if isinstance(x, Tensor | Variable) else as_tensor(x, y.dtype)), y
    x = _tensor(x)
    return x, as_tensor(y, x.dtype)


def _tensor(x: Any) -> Tensor:
    return x.value() if isinstance(x, Variable) else x if isinstance(x, Tensor) else as_tensor(x)


def _check(holds: Tensor, what: str, x: Tensor, y: Tensor, message: str | None) -> None:
    if not PUBLIC["reduce_all"](holds):
        wrong = ~np.asarray(holds)
        a, b = np.broadcast_arrays(np.asarray(x), np.asarray(y))
        at = tuple(np.argwhere(wrong)[0])
        raise InvalidArgumentError(
            f"{message + ': ' if message else ''}{what} did not hold for {np.count_nonzero(wrong)} of {wrong.size} "
            f"elements, {_first(wrong)}: {a[at]} and {b[at]}"
        )


def _first(wrong: Any) -> str:
    return f"the first at [{', '.join(map(str, np.argwhere(wrong)[0]))}]"
