"""The names that examples in docstrings use without an import; what examples draw opens no window."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

import numtape as nt
from numtape.ops.random import STREAMS

os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(autouse=True)
def _names_in_examples(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace.update(nt=nt, np=np)


@pytest.fixture(autouse=True)
def _no_seed_left() -> Iterator[None]:
    """A global seed that a test sets is not there for the next."""
    yield
    if STREAMS.seed is not None:
        STREAMS.restart(None)
