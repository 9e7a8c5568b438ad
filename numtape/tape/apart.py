"""`Apart`: calls of a user's function that no tape sees, and whose results have no history.

What comes in is a function and its arguments; what goes out are tensors with their elements, in the structure that the
function returned. The function may read and assign Variables, and open tapes of its own: all of that is recorded on
another trace than the caller's, which may be in the middle of a step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any

import numpy as np

from numtape.tape.operands import as_tensor
from numtape.tape.tensor import Tensor, buffer_of, from_numpy
from numtape.tape.trace import STATE, Trace


class Apart:
    """A trace and tapes that stand in for the thread's own during a call.

    They last from one call to the next, so that a generator may keep a tape open while it is suspended.
    """

    __slots__ = ("_tapes", "_trace")

    def __init__(self) -> None:
        self._tapes: list[Any] = []
        self._trace: Trace | None = None

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The function's result, with a tensor of its own in each place."""
        state = STATE
        outer = state.trace, state.tapes
        trace, self._trace = self._trace, None  # what a call that fails has recorded is left to whoever holds results
        if trace is None or trace.owner != get_ident() or (trace.holders and not self._tapes):
            trace = Trace()
        pairs: list[tuple[Tensor, Tensor]] = []
        try:
            state.trace, state.tapes = trace, self._tapes
            found = _without_history(function(*arguments), pairs)
            state.trace.materialize()
            self._trace = state.trace
        finally:
            state.trace, state.tapes = outer
        for own, tensor in pairs:
            own._data = buffer_of(tensor)
        return found


def _without_history(structure: Any, pairs: list[tuple[Tensor, Tensor]]) -> Any:
    """A structure of tuples and dicts with a new tensor in each place, which is to get another's elements.

    Lists are what tensors are made of.
    """
    if isinstance(structure, tuple):
        items = [_without_history(item, pairs) for item in structure]
        return type(structure)(*items) if hasattr(structure, "_fields") else tuple(items)
    if isinstance(structure, dict):
        found = copy.copy(structure)  # of its class, and in its order
        for key, item in structure.items():
            found[key] = _without_history(item, pairs)
        return found
    if isinstance(structure, Mapping):
        return _without_history(dict(structure), pairs)
    tensor = from_numpy(structure) if isinstance(structure, np.ndarray) else as_tensor(structure)
    own = Tensor(tensor._type, None)
    pairs.append((own, tensor))
    return own
