"""The names that examples in docstrings use without an import."""

from __future__ import annotations

import numpy as np
import pytest

import numtape as nt


@pytest.fixture(autouse=True)
def _names_in_examples(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace.update(nt=nt, np=np)
