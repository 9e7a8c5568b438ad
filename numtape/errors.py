"""Errors that have no equal among Python's own, under TensorFlow's names."""

from __future__ import annotations

from numtape._front import front

__all__ = ["CancelledError", "InvalidArgumentError", "OutOfRangeError"]
__getattr__, __dir__ = front(__name__, __all__)


class OutOfRangeError(IndexError):
    """There are no more elements: a closed queue is empty, or an iterator has come to its end."""


class InvalidArgumentError(ValueError):
    """A tensor's elements are not what was asked for."""


class CancelledError(RuntimeError):
    """What was asked for will not happen: the queue was closed."""
