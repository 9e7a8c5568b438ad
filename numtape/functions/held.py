"""What Python holds where a loop is: numbers, text, lengths, arrays, to tell whether the turns of the loop change it.

What comes in is a frame; what goes out can be compared. What the code can reach counts, a few steps deep: elements,
attributes, classes, closures and globals of functions, iterators and generators under way, random numbers. Tensors and
Variables do not, as what becomes of them is recorded.
"""

from __future__ import annotations

import pickle
import random
import sys
import warnings
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from types import (
    BuiltinMethodType,
    CodeType,
    FrameType,
    FunctionType,
    GeneratorType,
    MemberDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any

import numpy as np

from numtape.tape.trace import OWN

_PLAIN = (bool, int, float, complex, str, bytes, np.generic, type(None))
_SIZED = (list, dict, set, tuple, bytearray, deque)
_AT_MOST = 64
"""No more elements of a list are looked at,"""
_STEPS = 8
"""nothing that is further away from a name,"""
_THINGS = 2048
"""and no more things in all."""
_BYTES = 1 << 24
"""Nor are larger arrays."""
_LIBRARIES = sys.stdlib_module_names | {"numtape", "numpy"}

_Named = Iterator[tuple[str, Any]]


def held(frame: FrameType | None) -> dict[str, Any]:
    """By name: what stands in a frame and in those that called it, up to the library's own, and what hangs on it."""
    found: dict[str, Any] = {}
    if frame is None:
        return found
    things: deque[tuple[str, Any, int]] = deque()  # nearest first
    while frame is not None and not OWN[frame.f_code.co_filename]:
        things.extend((name, value, 0) for name, value in _globals(frame.f_code, frame.f_globals))
        things.extend((name, value, 0) for name, value in frame.f_locals.items())
        frame = frame.f_back
    for name, value, steps in islice(_out_of(things), _THINGS):
        if (seen := _seen(value)) is not None:
            found[name] = seen
        if steps < _STEPS:
            things.extend((inner, x, steps + 1) for inner, x in _parts(name, value))
    found["what random gives"] = hash(random.getstate())
    found["what numpy.random gives"] = pickle.dumps(np.random.get_state())  # noqa: NPY002  others may use it
    return found


def change(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """The first name of which not the same is held; None if there is none."""
    return next((name for name in {**before, **after} if before.get(name) != after.get(name)), None)


def _out_of(things: deque[tuple[str, Any, int]]) -> Iterator[tuple[str, Any, int]]:
    while things:
        yield things.popleft()


def _seen(value: Any) -> Any:
    """What of a thing itself can be compared; None if nothing."""
    if isinstance(value, _PLAIN):
        return type(value), repr(value)
    if isinstance(value, _SIZED):
        return len(value)
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype, zlib.crc32(value.tobytes()) if value.nbytes <= _BYTES else 0
    if isinstance(value, GeneratorType):
        return getattr(value.gi_frame, "f_lasti", None)
    if isinstance(value, random.Random):
        return hash(value.getstate())
    if isinstance(value, np.random.Generator):
        return pickle.dumps(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return pickle.dumps(value.get_state())
    return None


def _parts(name: str, value: Any) -> _Named:
    """What hangs on a thing."""
    kind = type(value)
    if isinstance(value, (*_PLAIN, bytearray, np.ndarray)) or kind.__module__.startswith("numtape."):
        return
    if isinstance(value, dict):
        for key, item in [*islice(value.items(), _AT_MOST)]:
            yield f"{name}[{key if isinstance(key, str | int) else '...'}]", item
    elif isinstance(value, _SIZED):
        for k, item in enumerate([*islice(value, _AT_MOST)]):
            yield f"{name}[{k}]", item
    elif isinstance(value, FunctionType):
        if not _is_of_library(value):
            yield from _parts_of_function(name, value)
    elif isinstance(value, MethodType | classmethod | staticmethod):
        yield name, value.__func__
        yield name, getattr(value, "__self__", None)
    elif isinstance(value, BuiltinMethodType | MethodWrapperType):
        yield name, value.__self__
    elif isinstance(value, GeneratorType):
        for inner, x in getattr(value.gi_frame, "f_locals", {}).items():
            yield f"{name}.{inner}", x
    elif isinstance(value, type):
        if not _is_of_library(value):
            for cls in value.__mro__:
                if not _is_of_library(cls):
                    yield from ((f"{cls.__name__}.{inner}", x) for inner, x in [*vars(cls).items()])
    elif kind.__module__ in ("builtins", "itertools", "functools", "collections"):
        if isinstance(value, Iterator | partial):
            with suppress(TypeError), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                yield name, value.__reduce__()[1:]
    elif not isinstance(value, ModuleType):
        yield name, kind
        yield from ((f"{name}.{inner}", x) for inner, x in [*getattr(value, "__dict__", {}).items()])
        for cls in kind.__mro__:
            for inner, x in [*vars(cls).items()]:
                if isinstance(x, MemberDescriptorType):  # of __slots__
                    with suppress(AttributeError):  # it is empty
                        yield f"{name}.{inner}", x.__get__(value)


def _parts_of_function(name: str, function: FunctionType) -> _Named:
    for inner, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # it is empty
            yield f"{name}.{inner}", cell.cell_contents
    yield f"{name}.__defaults__", (function.__defaults__, function.__kwdefaults__)
    yield from ((f"{name}.{inner}", x) for inner, x in [*vars(function).items()])
    yield from _globals(function.__code__, function.__globals__)


def _globals(code: CodeType, names: dict[str, Any]) -> _Named:
    """What code, and the functions in it, may refer to by global names."""
    for name in code.co_names:
        if name in names:
            yield name, names[name]
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _globals(inner, names)


def _is_of_library(x: Any) -> bool:
    return str(x.__module__).partition(".")[0] in _LIBRARIES
