"""A workload is one module here: its data, and one function for each way of a library to compute it.

A way receives the data and returns `run`: `run(n)` does n steps, from where the last call stopped, and returns the
numbers that all ways must agree on, as floats on the host. It imports its library itself, because every way runs in
a process of its own. The way of `numpy`, by hand, is what the others are compared with before any of
them is timed. To add a workload, add a module with a `workload`; nothing else needs to know.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Run = Callable[[int], Sequence[float]]
REFERENCE = "numpy, by hand"


@dataclass
class Workload:
    title: str
    data: Callable[[], Any]
    tolerance: float  # relative, of the results after `check_steps` steps
    check_steps: int = 1
    first_step: bool = False  # whether the first step in a fresh process is measured too
    limit: float = 240  # seconds to wait for one answer, the first step included
    ways: dict[str, Callable[[Any], Run]] = field(default_factory=dict)

    def way(self, library: str, how: str) -> Callable[[Callable[[Any], Run]], Callable[[Any], Run]]:
        """Register a function as the way `how` of `library`."""

        def register(function: Callable[[Any], Run]) -> Callable[[Any], Run]:
            self.ways[f"{library}, {how}"] = function
            return function

        return register


def library_of(way: str) -> str:
    return way.partition(",")[0]


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Workload:
    return importlib.import_module(f"{__name__}.{name}").workload
