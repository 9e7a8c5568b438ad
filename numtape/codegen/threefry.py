"""Threefry2x32 with 20 rounds: random bits from a key and a counter, and from nothing else.

Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (2011). Written once over 32-bit words
that know `+ ^ | << >>`: with NumPy's integers it computes, and `numtape.codegen.intrinsics` calls it with LLVM values,
which makes it instructions without a branch or a table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Word = Any
"""An unsigned integer of 32 bits: a NumPy scalar, an array, or an LLVM value."""

_PARITY = 0x1BD11BDA
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: tuple[Word, Word], counter: tuple[Word, Word]) -> tuple[Word, Word]:
    """The block cipher: two words that look random, different ones for each counter."""
    keys = (*key, key[0] ^ key[1] ^ _PARITY)
    x, y = counter[0] + key[0], counter[1] + key[1]
    for k in range(1, 6):
        for rotation in _ROTATIONS[(k - 1) % 2]:
            x = x + y
            y = (y << rotation | y >> 32 - rotation) ^ x
        x = x + keys[k % 3]
        y = y + (keys[(k + 1) % 3] + k)
    return x, y


def mixed(split: Callable[[Any], tuple[Word, Word]], stream: Any, call: Any, index: Any) -> tuple[Word, Word]:
    """Two words for an element: `stream` and `call` make a key, and `index` is the counter.

    The counter is folded with the key only for LLVM, which would take the sums for addresses that go along with a
    loop's index, and spend a second on choosing among them.
    """
    key = threefry(split(stream), split(call))
    low, high = split(index)
    return threefry(key, (low ^ key[0], high ^ key[1]))


def random_bits(stream: Any, call: Any, index: Any) -> Any:
    """64 bits for each triple of uint64, which broadcast against each other."""

    def split(x: Any) -> tuple[Word, Word]:
        x = np.asarray(x, np.uint64)
        return x.astype(np.uint32), (x >> 32).astype(np.uint32)

    with np.errstate(over="ignore"):
        low, high = mixed(split, stream, call, index)
    return (high.astype(np.uint64) << 32 | low)[()]
