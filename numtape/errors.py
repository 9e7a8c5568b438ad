"""Errors that have no equal among Python's own, under TensorFlow's names."""

from __future__ import annotations

__all__ = ["CancelledError", "OutOfRangeError"]


class OutOfRangeError(IndexError):
    """There are no more elements: a closed queue is empty, or an iterator has come to its end."""


class CancelledError(RuntimeError):
    """What was asked for will not happen: the queue was closed."""
