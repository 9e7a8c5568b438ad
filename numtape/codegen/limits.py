"""Up to where the elementary functions of kernels are right: a part of what the ops mean."""

from __future__ import annotations

CIRCULAR_LIMIT = {32: 2.0**28, 64: 2.0**30}
"""The largest argument of `sin`, `cos`, `tan` by width: beyond it they give nan, not a wrong number."""
