"""Every run of the tests starts with an empty cache of its own, and leaves the user's alone."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Here and not in a fixture: importing a test module may already import numtape. Child processes inherit it.
CACHE = os.environ["NUMTAPE_CACHE_DIR"] = tempfile.mkdtemp(prefix="numtape-tests-")

# No deadline: the first example of a test compiles, the others do not.
settings.register_profile("numtape", deadline=None, max_examples=50, derandomize="CI" in os.environ)
settings.load_profile("numtape")


def pytest_configure() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it


def pytest_unconfigure() -> None:
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture
def natively() -> Iterator[None]:
    """For tests of compiled programs: what is seen for the first time is compiled, too."""
    from numtape import config

    config.set_tier("native")
    yield
    config.set_tier("auto")
