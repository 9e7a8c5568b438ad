"""`Iterator`: a pass over a dataset, with a position that can be saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from numtape.data import stages
from numtape.data.elements import open_elements
from numtape.errors import OutOfRangeError
from numtape.tape.trace import refuse_recording


class EndOfSequence(OutOfRangeError, StopIteration):
    """`Iterator.get_next` was called after the last element."""


class Iterator:
    """The elements of a dataset, one after another; made by `iter(dataset)`.

    An iterator belongs to one thread at a time.

    >>> import numtape as nt
    >>> iterator = iter(nt.data.Dataset.range(2))
    >>> iterator.get_next().numpy(), next(iterator).numpy(), next(iterator, None)
    (np.int64(0), np.int64(1), None)
    """

    def __init__(self, stage: stages.Stage) -> None:
        refuse_recording()
        self._stage = stage
        self._cursor = open_elements(stage)

    @property
    def element_spec(self) -> Any:
        """A `TensorSpec` in each place of an element."""
        return stages.element_spec(self._stage)

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        refuse_recording()
        found = self._cursor.take(1)
        if found:
            return found[0]
        raise StopIteration

    def get_next(self, name: str | None = None) -> Any:
        """The next element; `nt.errors.OutOfRangeError`, which is a StopIteration here, if there is none."""
        refuse_recording()
        found = self._cursor.take(1)
        if found:
            return found[0]
        raise EndOfSequence("the iterator has come to the end of its dataset")

    # ---- its position ----------------------------------------------------------------------------------------------

    def _checkpoint_state(self) -> dict[str, npt.NDArray[Any]]:
        """Where the iterator is, as arrays by name; NotImplementedError if a generator is involved."""
        self._check_restorable()
        return dict(_flat("", self._cursor.state()))

    def _restore_state(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Go to where an iterator of an equal dataset was, maybe in another process.

        The order of shuffles is restored, too, and goes on as it would have. ValueError if the state is of another
        dataset; the iterator stays where it is then.
        """
        self._check_restorable()
        cursor = open_elements(self._stage)
        try:
            cursor.restore(_nested(state))
            alike = set(state) == {key for key, _ in _flat("", cursor.state())}
        except KeyError:
            alike = False
        if not alike:
            raise ValueError(
                f"the state with {', '.join(sorted(state))} is not one of {stages.describe(self._stage)}; build the "
                "dataset by the same stages as where it was saved"
            )
        self._cursor = cursor

    def _check_restorable(self) -> None:
        if any(isinstance(stage, stages.Generated) for stage in stages.walk(self._stage)):
            raise NotImplementedError(
                "the position in a Python generator cannot be saved; make the dataset with from_tensor_slices, or "
                "leave its iterator out of the checkpoint"
            )


def _flat(prefix: str, state: dict[str, Any]) -> Any:
    for key, value in state.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{key}/", value)
        else:
            yield prefix + key, np.asarray(value)


def _nested(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, value in state.items():
        *outer, last = path.split("/")
        inner = found
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return found
