"""What a generated kernel may call when it runs as plain Python: the names of `codegen.intrinsics`.

Takes and gives NumPy scalars or arrays; never warns, as native code does not. Needs NumPy alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from numtape.codegen.threefry import random_bits
from numtape.codegen.vector_math import ALGORITHMS


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*arguments)

    return call


def _select(condition: Any, x: Any, y: Any) -> Any:
    return np.where(condition, x, y)[()]


def _power(x: Any, y: Any) -> Any:
    """As `np.power`, but an integer to a negative power is its reciprocal rounded towards zero."""
    if np.asarray(x).dtype.kind != "i":
        return np.power(x, y)
    reciprocal = np.where(np.abs(x) == 1, np.where(y & 1 == 1, x, x * x), x * 0)
    return np.where(y < 0, reciprocal, np.power(x, np.maximum(y, y * 0)))[()]


PLAIN: dict[str, Callable[..., Any]] = {
    **ALGORITHMS,
    "sqrt": _quiet(np.sqrt),
    "floor": _quiet(np.floor),
    "ceil": _quiet(np.ceil),
    "rint": _quiet(np.rint),
    "fabs": _quiet(np.abs),
    "copysign": _quiet(np.copysign),
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "maximum": _quiet(np.maximum),
    "minimum": _quiet(np.minimum),
    "add_reassoc": _quiet(np.add),
    "mul_reassoc": _quiet(np.multiply),
    "select": _select,
    "floordiv": _quiet(np.floor_divide),
    "floormod": _quiet(np.remainder),
    "pow": _quiet(_power),
    "random_bits": random_bits,
}
