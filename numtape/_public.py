"""The public functions of the ops, as attributes and modules of `numtape`.

Each op's record names where its function is public, as in `nn.relu`; nothing is listed twice.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numtape.ops  # noqa: F401  fills the table
from numtape._front import front
from numtape.ops.core import PUBLIC

DOCS = {
    "math": "Mathematical functions.",
    "nn": "What neural networks are made of.",
    "linalg": "Linear algebra.",
    "random": "Random numbers, the same on every backend and for any number of threads.",
    "bitwise": "Bits of integers.",
    "image": "Images, as arrays of height, width and channels.",
}


def namespaces(package: str) -> dict[str, Any]:
    """Functions and modules by their first name."""
    found: dict[str, Any] = {}
    for dotted, function in PUBLIC.items():
        module, _, name = dotted.rpartition(".")
        if not module:
            found[name] = function
            continue
        if module not in found:
            found[module] = ModuleType(f"{package}.{module}", DOCS[module])
            sys.modules[f"{package}.{module}"] = found[module]
        setattr(found[module], name, function)
    for space in found.values():
        if isinstance(space, ModuleType):
            names = [name for name in vars(space) if not name.startswith("_")]
            space.__getattr__, space.__dir__ = front(space.__name__, names)  # type: ignore[method-assign]
    return found
