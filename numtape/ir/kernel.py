"""`Kernel`: a piece of source to compile, and `Step`: one call of it with its arguments.

A kernel's source is a Python function over pointers and extents. It names no value of any program, so equal work has
equal text, and the text with its parameter types is the key under which machine code is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

ALIGNMENT = 64
"""Values begin at multiples of so many bytes: a cache line, and the longest vector."""


def aligned(nbytes: int) -> int:
    """The room that a value of so many bytes takes up."""
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Kernel:
    """`source` defines a function `kernel`; `parameters` are type codes: "f32*" a pointer, "i64" or "f32" a number."""

    name: str
    source: str
    parameters: tuple[str, ...]

    @property
    def key(self) -> str:
        """Hash of everything in the kernel itself; whoever stores code adds versions and target."""
        from hashlib import sha256  # not needed to import numtape

        return sha256("\0".join((self.source, *self.parameters)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Scratch:
    """An argument: memory for this step alone."""

    nbytes: int

    @property
    def room(self) -> int:
        """What it takes up: nothing if it is empty."""
        return aligned(self.nbytes) if self.nbytes else 0


@dataclass(frozen=True, slots=True)
class Pointer:
    """An argument: where a value's elements start."""

    value: int


@dataclass(frozen=True, slots=True)
class Native:
    """An argument: the address of a function of a native library, such as "sgemm"."""

    name: str


Argument = Pointer | Scratch | Native | int | float


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a kernel; `writes` are the values it computes."""

    kernel: Kernel
    arguments: tuple[Argument, ...]
    writes: tuple[int, ...]
