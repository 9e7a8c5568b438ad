"""The names that examples in docstrings use without an import; what examples draw opens no window."""

from __future__ import annotations

import os

import numpy as np
import pytest

import numtape as nt

os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(autouse=True)
def _names_in_examples(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace.update(nt=nt, np=np)
