"""What competes: for each library the requirement pip installs and the module a program imports.

The order is that of installation and of the columns of the report. torch comes first, so that its own version is
settled before others ask for one; numtape second, so that numba decides which NumPy all of them use. On Linux the
package index serves torch built for CUDA, gigabytes of it: PIP_EXTRA_INDEX_URL may name an index of CPU builds.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]


class Library(NamedTuple):
    requirement: tuple[str, ...]  # arguments of `pip install`
    module: str
    distribution: str  # whose version the report prints


LIBRARIES = {
    "torch": Library(("torch==2.13.0",), "torch", "torch"),
    "numtape": Library(("--editable", str(REPOSITORY)), "numtape", "numtape"),
    "jax": Library(("jax",), "jax", "jax"),
    "tensorflow": Library(("tensorflow-cpu",), "tensorflow", "tensorflow-cpu"),
    "pytensor": Library(("pytensor",), "pytensor", "pytensor"),
    "autograd": Library(("autograd",), "autograd", "autograd"),
}
PEERS = [name for name in LIBRARIES if name != "numtape"]
