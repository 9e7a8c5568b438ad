"""What the caches have done since the process started."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Stats:
    """Counters of `nt.cache.stats()`.

    `memory_hits` counts programs found by their signature and `programs` those made; `disk_hits` counts kernels loaded
    from disk and `compilations` those compiled, taking `compile_seconds` in all. `interpreted` counts runs of programs
    that were not compiled, but interpreted with NumPy.
    """

    memory_hits: int = 0
    programs: int = 0
    disk_hits: int = 0
    compilations: int = 0
    compile_seconds: float = 0.0
    interpreted: int = 0


COUNTERS = Stats()
