"""What Python holds where a loop is: numbers, text and lengths, to tell whether the turns of the loop change it.

What comes in is a frame; what goes out can be compared. Tensors and arrays do not count, as what becomes of them is
recorded.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from types import FrameType, FunctionType, ModuleType
from typing import Any

from numtape.tape.trace import OWN

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_SIZED = (list, dict, set, tuple, bytearray)
_AT_MOST = 64
"""No more elements of a list are looked at."""


def held(frame: FrameType | None) -> dict[str, Any]:
    """By name: what stands in a frame and in those that called it, up to the library's own, one step deep."""
    found: dict[str, Any] = {}
    while frame is not None and not OWN[frame.f_code.co_filename]:
        code, names = frame.f_code, frame.f_globals
        for name in code.co_names:
            if name in names:
                _note(found, name, names[name])
        for name, value in frame.f_locals.items():
            _note(found, name, value)
        frame = frame.f_back
    return found


def change(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """The first name of which not the same is held; None if there is none."""
    return next((name for name in {**before, **after} if before.get(name) != after.get(name)), None)


def _note(found: dict[str, Any], name: str, value: Any) -> None:
    found[name] = _seen(value)
    if isinstance(value, FunctionType):
        for inner, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            with suppress(ValueError):  # it is empty
                found[f"{name}.{inner}"] = _seen(cell.cell_contents)
    elif not isinstance(value, type | ModuleType) and not type(value).__module__.startswith("numtape."):
        for attribute, inner_value in getattr(value, "__dict__", {}).items():
            found[f"{name}.{attribute}"] = _seen(inner_value)


def _seen(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return type(value), repr(value)
    if isinstance(value, _SIZED):
        items = value.values() if isinstance(value, dict) else value
        return len(value), [repr(x) for x in islice(items, _AT_MOST) if isinstance(x, _PLAIN)]
    return None
