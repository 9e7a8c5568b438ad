"""`BoundFunction`: a function with its arguments fixed, whose call is one native call and nothing else.

The program reads the arrays it was bound to where they are, keeps its results in memory of its own, and changes
Variables in place. What could make that unsafe, somebody who takes a Variable's value in or assigns one, moves `EPOCH`,
and then the next call looks at everything anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape import nest
from numtape.backends.buffer import Buffer
from numtape.config import NEW_TIER, Settings
from numtape.dtypes import TensorType
from numtape.functions.direct import Direct
from numtape.functions.recording import Argument, Output
from numtape.tape.tensor import EPOCH, Tensor, buffer_of
from numtape.tape.trace import STATE, WATCHES


def _look_up() -> None:
    """Make bound functions look up at their next call."""
    EPOCH[0] += 1


NEW_TIER.append(_look_up)


class BoundFunction:
    """A function bound to arrays; made by `Function.bind`.

    A call computes from what the arrays hold by then, and returns `result`: arrays that the next call overwrites. Not
    to be called by two threads at once.
    """

    def __init__(
        self, direct: Direct, name: str, arrays: Sequence[npt.NDArray[Any]], tensors: Sequence[Tensor]
    ) -> None:
        self.__name__ = name
        self._direct = direct
        self._tensors = [Tensor(t._type, Buffer(a.reshape(-1))) for a, t in zip(arrays, tensors, strict=True)]
        self._binding = direct.executable.bind()
        self._new = self._binding.results
        self._copies: list[tuple[npt.NDArray[Any], int]] = []
        """Results that are inputs, whose memory may become another: with an array of their own, and which input."""
        self._moves: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
        """The same, with where the input is now."""
        self._epoch = EPOCH[0] - 1
        self._has_live_numbers = direct.has_live_numbers
        self._entry: Callable[[int], None] = direct.executable.entry
        self._address: int = self._binding.header_address
        self.result: Any = nest.map_structure(self._view, direct.result)
        """What the function returns, as arrays, which each call overwrites."""

    def __call__(self, *given: Any) -> Any:
        if given:
            raise TypeError(
                f"{self.__name__} is bound to arrays: write into these, as in x[:] = ..., and call it without arguments"
            )
        if EPOCH[0] != self._epoch or STATE.trace.inputs:
            inputs, numbers = self._bind_anew()
            if WATCHES or Settings.tier == "reference":
                return self._watched(inputs, numbers)
        elif self._has_live_numbers:
            self._direct.executable.write_numbers(self._binding, self._direct.numbers())
        self._entry(self._address)
        for array, source in self._moves:
            array[:] = source
        return self.result

    def _bind_anew(self) -> tuple[list[Buffer], list[Any]]:
        """Take in where everything is now; Variables whose buffer somebody else holds get one of their own."""
        STATE.trace.materialize()
        direct = self._direct
        inputs, numbers = direct.gather(self._tensors, bound=True)
        direct.keep(inputs)
        direct.executable.write(self._binding, [*inputs, *self._new], numbers)
        self._epoch = -1 if direct.copies_arrays else EPOCH[0]
        self._moves = [(array, inputs[k].array) for array, k in self._copies]
        return inputs, numbers

    def _watched(self, inputs: list[Buffer], numbers: list[Any]) -> Any:
        """The same call, interpreted if that was asked for, for somebody who looks at what goes in and comes out."""
        self._epoch = -1  # so that the next call comes here, too
        executable = self._direct.executable
        kept = [buffer.copy() for buffer in inputs]
        ends = [watch.begin(self._direct.ran, kept, numbers) for watch in WATCHES]
        if Settings.tier == "reference":
            self._interpret(inputs, numbers)
        else:
            self._entry(self._address)
        for array, source in self._moves:
            array[:] = source
        for end in ends:
            end([*(inputs[k] for k in executable.donated), *self._new])
        return self.result

    def _interpret(self, inputs: list[Buffer], numbers: list[Any]) -> None:
        """What `_entry` does, on the interpreter."""
        places = [*inputs, *self._new]
        for word, found in zip(self._direct.words, self._direct.ran[0].interpret(inputs, numbers), strict=True):
            if word < len(places):  # else it is a Python number, which stands in the row itself
                places[word].array[:] = found.array

    def _view(self, leaf: Any) -> Any:
        if not isinstance(leaf, Output):
            return leaf
        if leaf.given is None:
            array = self._array(self._direct.words[self._direct.place[leaf.slot]], leaf.type)
        elif isinstance(leaf.given, Argument):
            array = self._tensors[leaf.given.number]._data.array  # type: ignore[union-attr]
        else:
            array = buffer_of(leaf.given).array.copy()  # type: ignore[arg-type]
        return array.reshape(leaf.type.shape)

    def _array(self, word: int, kind: TensorType) -> npt.NDArray[Any]:
        """The elements of a result, of which a word of the row says where they are."""
        direct = self._direct
        new = word - direct.executable.array_count
        if new >= len(self._new):  # a Python number, which stands in the row itself
            return self._binding.row[word : word + 1].view(kind.dtype.dtype)[:1]  # type: ignore[no-any-return]
        if new >= 0:
            return self._new[new].array
        if direct.sources[word] < len(direct.arguments):
            return self._tensors[direct.arguments[direct.sources[word]]]._data.array  # type: ignore[union-attr]
        array = np.empty(kind.size, kind.dtype.dtype)
        self._copies.append((array, word))
        return array

    def __repr__(self) -> str:
        return f"<nt.function {self.__name__}, bound to {', '.join(str(t._type) for t in self._tensors) or 'nothing'}>"
