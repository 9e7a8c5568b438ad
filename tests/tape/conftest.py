"""Tapes are tested on both tiers: each test begins as a process does in which no Variable has been assigned yet."""

from __future__ import annotations

import pytest

from numtape.tape.tiers import ASSIGNED


@pytest.fixture(autouse=True)
def _nothing_assigned() -> None:
    ASSIGNED[0] = False
