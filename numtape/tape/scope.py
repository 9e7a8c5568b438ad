"""Scopes: what the names of Variables made within begin with, and what happens apart from the tapes around."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from numtape.dtypes import TensorType
from numtape.ops.random import DRAWS
from numtape.tape.tensor import Tensor
from numtape.tape.trace import STATE, Trace


class _Scope(threading.local):
    """The prefix now, on each thread: "" or names with a slash after each."""

    prefix = ""


SCOPE = _Scope()


class name_scope:
    """Within it the names of new Variables begin with `name` and a slash, after those of the scopes around.

    A name that ends with a slash stands for itself alone, and "" for no scope. ValueError if it is no string.

    >>> import numtape as nt
    >>> with nt.name_scope("encoder"), nt.name_scope("first"):
    ...     v = nt.Variable(1.0, name="kernel")
    >>> v.name
    'encoder/first/kernel:0'
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is not a name for a scope: it has to be a string")
        self.name = name
        self._outer: list[str] = []

    def __enter__(self) -> str:
        self._outer.append(SCOPE.prefix)
        SCOPE.prefix = self.name if not self.name or self.name.endswith("/") else f"{SCOPE.prefix}{self.name}/"
        return SCOPE.prefix

    def __exit__(self, *exception: object) -> None:
        SCOPE.prefix = self._outer.pop()


class _Lifted(Trace):
    """What runs once, while a function is recorded: it has no part in what the function computes at each call."""

    def __init__(self, around: Trace) -> None:
        super().__init__()
        self.around = around

    def admit(self, tensor: Tensor) -> TensorType:
        if tensor._trace is self.around or self.around.recorder.is_argument(tensor):
            raise TypeError("init_scope: a tensor that an nt.function is given, or computes, is out of scope here")
        return super().admit(tensor)


@contextmanager
def init_scope() -> Iterator[None]:
    """Within it no tape around records: what is computed there, such as initial values, is no part of the step.

    >>> import numtape as nt
    >>> x = nt.Variable(2.0)
    >>> with nt.GradientTape() as tape:
    ...     with nt.init_scope():
    ...         y = x * x
    >>> print(tape.gradient(y, x))
    None
    """
    trace, tapes, heard = STATE.trace, STATE.tapes, DRAWS.heard
    if trace.recorder is not None:
        DRAWS.heard = None  # what a function's recording does is undone, but not what is computed here
    STATE.trace, STATE.tapes = Trace() if trace.recorder is None else _Lifted(trace), []
    try:
        yield
    finally:
        STATE.trace, STATE.tapes, DRAWS.heard = trace, tapes, heard
