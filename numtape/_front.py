"""What a public module shows: its public names, and of names that it lacks what to do in their place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any


def front(module: str, public: Iterable[str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a module with these public names."""
    names = sorted(public)

    def missing(name: str) -> Any:
        if name.startswith("__"):  # Python asks for such as __path__, and at each import
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        from numtape._absent import absent

        raise absent(sys.modules[module], name)

    return missing, lambda: names
