"""`Pack`: many values that are always read and assigned together, behind one handle.

An optimizer's state is one: moments and counters of every Variable, which a step changes all at once. Handling them
one by one in Python would cost more than computing them.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numtape.backends.buffer import Buffer
from numtape.dtypes import TensorType
from numtape.tape.tensor import EPOCH, Tensor, buffer_of

if TYPE_CHECKING:
    from numtape.tape.trace import Trace


class Pack:
    """Values that a trace admits, assigns and donates as one operand.

    While `trace` is None the values are in `buffers`; else they are the slots `slots` of that trace.
    """

    __slots__ = ("buffers", "slots", "trace", "types")

    def __init__(self) -> None:
        self.types: tuple[TensorType, ...] = ()
        self.buffers: list[Buffer] = []
        self.trace: Trace | None = None
        self.slots: tuple[int, ...] = ()

    def add(self, value: Tensor) -> int:
        """Take in one more value; returns its number."""
        self.wait()
        self.types = (*self.types, value._type)
        self.buffers.append(buffer_of(value))
        return len(self.types) - 1

    def value(self, number: int) -> Tensor:
        """One of the values, as a tensor."""
        trace = self.trace
        if trace is None:
            return Tensor(self.types[number], self.buffers[number])
        tensor = Tensor(self.types[number], None, trace, self.slots[number])
        trace.live.append(weakref.ref(tensor))
        return tensor

    def replace(self, number: int, value: Tensor) -> None:
        """Put another value in the place of one."""
        buffer = buffer_of(value)
        self.wait()
        self.buffers[number] = buffer

    def wait(self) -> None:
        """Compute what is pending."""
        if self.trace is not None:
            self.trace.materialize()
        if self.trace is not None:  # another thread's
            self.buffers = [buffer_of(self.value(k)) for k in range(len(self.types))]
            self.trace = None

    def word(self, trace: Trace) -> tuple[int, ...] | tuple[TensorType, ...]:
        """The pack's part of a key; its values are admitted, unless they are the trace's own."""
        if self.trace is trace:
            return self.slots
        if self.trace is not None:
            self.wait()
        if trace.recorder is not None:
            trace.recorder.note_pack(self)
        EPOCH[0] += 1
        trace.inputs += self.buffers
        trace.next_slot += len(self.buffers)
        return self.types

    def take_over(self, trace: Trace, slots: tuple[int, ...]) -> None:
        """From here on the values are these slots of a trace."""
        if self.trace is not trace:
            self.trace = trace
            self.buffers = []
            trace.packs += [self]
        self.slots = slots

    def state(self) -> tuple[Any, ...]:
        """What the values are, for `restore`."""
        return self.trace, self.slots, self.buffers

    def restore(self, state: tuple[Any, ...]) -> None:
        """Make the values again what they were."""
        self.trace, self.slots, self.buffers = state
        if self.trace is not None and all(pack is not self for pack in self.trace.packs):
            self.trace.packs += [self]

    def settle(self, found: Sequence[Buffer], at: int) -> int:
        """Take the results that begin at `at`; returns where they end."""
        end = at + len(self.slots)
        self.buffers = list(found[at:end])
        self.trace = None
        return end
