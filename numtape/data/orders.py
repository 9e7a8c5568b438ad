"""Random orders: which element comes at each step of a shuffle, as a function of its seed, its epoch and the step.

The numbers are Threefry's, as those of `nt.random` are: the k-th step of a block of steps takes the k-th number of a
stream, so that native code, which computes a whole block at once, and `Draws`, which goes step by step, give the same
order; and so does a program that shuffles, gathers and trains in one call. NumPy's generators would be as fast, but
promise no stable order from one version to the next.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape.codegen.threefry import random_bits
from numtape.ops.core import freeze
from numtape.ops.random import STREAMS, permutation
from numtape.ops.rearrange import integer
from numtape.tape.apart import Apart
from numtape.tape.tensor import buffer_of
from numtape.tape.trace import STATE, refuse_recording

_TOP = 1 << 63
_TAG = 0x6F72646572  # "order": other bits than those of a tensor of random numbers with the same seed
_AT_ONCE = 256


def stream_of(name: str, seed: Any) -> int:
    """The stream of a new shuffle: of a seed, or the next one under the global seed."""
    if seed is None:
        refuse_recording()  # it is another stream at each call
    seed = seed if seed is None else integer(name, "seed", freeze(seed))
    key, call = STREAMS.draw(None) if seed is None else STREAMS.first(seed)
    return int(random_bits(key, call, _TAG)) | _TOP


class Epochs:
    """How often a shuffle has begun: each time is another order."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.next = 0
        recorder = STATE.trace.recorder
        self._made_in = None if recorder is None else weakref.ref(recorder)

    def is_made_in(self, recorder: Any) -> bool:
        """Whether the shuffle was written within the function that is recorded, and is another one at each call."""
        return self._made_in is not None and self._made_in() is recorder

    def draw(self) -> int:
        with self.lock:
            epoch = self.next
            self.next += 1
        return epoch


def block_length(buffer_size: int) -> int:
    """How many steps of a shuffle make a block: enough for the buffer to be a small part of the work."""
    return buffer_size + 1024


def block_order(stream: int, epoch: int, block: int, count: int, buffer_size: int) -> npt.NDArray[Any]:
    """For a block's elements, those in the buffer first: the order they come out in, then those that stay."""
    steps = min(block_length(buffer_size), count)
    tensor = Apart().call(lambda: permutation(stream, _call(epoch, block), count, buffer_size, steps))
    return buffer_of(tensor).array.copy()


def _call(epoch: int, block: int) -> int:
    return _TOP | epoch << 32 | block


class Draws:
    """The numbers of one epoch, step by step."""

    def __init__(self, stream: int, epoch: int, length: int) -> None:
        self._key = stream, epoch, length
        self._block = -1
        self._start = 0
        self._bits: list[int] = []

    def below(self, step: int, bound: int) -> int:
        """The number of a step, from 0 up to but without `bound`."""
        stream, epoch, length = self._key
        block, at = divmod(step, length)
        if block != self._block or not 0 <= at - self._start < len(self._bits):
            self._block, self._start = block, at
            indices = np.arange(at, min(at + _AT_ONCE, length))
            self._bits = random_bits(stream, _call(epoch, block), indices).tolist()
        return self._bits[at - self._start] * bound >> 64
