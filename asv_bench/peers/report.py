"""The results of race.py as Markdown: one table of ratios, then a table of every way that was tried.

`LEGEND` says what a figure means. Where numtape has none, the peers' times stand instead of ratios.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from libraries import LIBRARIES, PEERS
from workloads import Workload, library_of

LEGEND = """\
numtape's figures are times; a peer's says how many times longer it took, and below 1 it was faster. Ratios are taken
round by round: the median, and in parentheses the middle half where there are three rounds or more. In each row a
library counts with its fastest way; of those that were raced, it is bold below.
"""

FIRST_STEP_ROWS = {
    "first step, empty cache, after imports": ("cold", "after_imports"),
    "first step, empty cache, the first call alone": ("cold", "call"),
    "first step, empty cache, from the start of the process": ("cold", "in_all"),
    "first step, warm cache, after imports": ("warm", "after_imports"),
    "first step, warm cache, from the start of the process": ("warm", "in_all"),
}


def as_time(seconds: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def as_number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.3g}"


def as_ratio(peer: Sequence[float], ours: Sequence[float]) -> str:
    ratios = [a / b for a, b in zip(peer, ours, strict=False)]  # a slow one has fewer rounds
    middle = statistics.median(ratios)
    if len(ratios) < 3:
        return as_number(middle)
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{as_number(middle)} ({as_number(low)}-{as_number(high)})"


def best_ways(samples: dict[str, Sequence[float]]) -> dict[str, str]:
    """The fastest way of each library, by library."""
    best: dict[str, str] = {}
    for way in sorted(samples, key=lambda way: statistics.median(samples[way])):
        best.setdefault(library_of(way), way)
    return best


def row_of(title: str, samples: dict[str, Sequence[float]]) -> list[str]:
    """A row of the table of ratios; `samples` has seconds of one way or more of each library, by way."""
    best = {library: samples[way] for library, way in best_ways(samples).items()}
    ours = best.get("numtape")
    row = [title, as_time(statistics.median(ours)) if ours else "failed"]
    for peer in PEERS:
        if peer not in best:
            row.append("")
        elif ours:
            row.append(as_ratio(best[peer], ours))
        else:
            row.append(as_time(statistics.median(best[peer])))
    return row


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def ways_of(results: dict[str, dict[str, Any]]) -> str:
    """Every way of one race: its time, and against numtape's best."""
    samples = {way: result["steps"] for way, result in results.items() if result.get("steps")}
    best = best_ways(samples)
    ours = best.get("numtape")
    rows = []
    for way, result in results.items():
        if way in samples:
            ratio = "" if ours in (None, way) else as_ratio(samples[way], samples[ours])
            title = f"**{way}**" if way in best.values() else way
            rows.append([title, as_time(statistics.median(samples[way])), ratio])
        else:
            rows.append([way, result.get("failed", "not timed"), ""])
    return table(["way", "a step", "times numtape's"], rows)


def first_steps_of(results: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    header = ["first step of", "cache", "imports", "setting up", "first call", "in all", "kernels compiled"]
    rows = []
    for way, temperatures in results.items():
        for temperature, samples in temperatures.items():
            middle = {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}
            set_up = middle["after_imports"] - middle["call"]
            times = (middle["imports"], set_up, middle["call"], middle["in_all"])
            kernels = f"{middle['compilations']:.0f}" if library_of(way) == "numtape" else ""
            rows.append([way, temperature, *map(as_time, times), kernels])
    return table(header, rows)


def imports_of(results: dict[str, dict[str, Any]]) -> str:
    rows = [
        [name, result["failed"], ""]
        if "failed" in result
        else [name, as_time(statistics.median(result["seconds"])), ", ".join(result["loaded"])]
        for name, result in results.items()
    ]
    return table(["import, beyond NumPy", "time", "of numba and llvmlite, it loads"], rows)


def machine() -> str:
    versions = []
    for distribution in (*(library.distribution for library in LIBRARIES.values()), "numpy", "numba"):
        try:
            versions.append(f"{distribution} {metadata.version(distribution)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{distribution} missing")
    cpuinfo = Path("/proc/cpuinfo")
    models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    cpu = models[0].split(":")[1].strip() if models else platform.processor() or platform.machine()
    cores = os.cpu_count()
    return f"{cpu}, {cores} cores; Python {platform.python_version()}, {', '.join(versions)}; threads by default."


def report(workloads: dict[str, Workload], results: dict[str, Any]) -> str:
    """All that was measured, `results` being what run.py collected, as Markdown."""
    ratios, details = [], []
    for name, raced in results["race"].items():
        title = f"{name}: {workloads[name].title}"
        ratios.append(row_of(title, {way: r["steps"] for way, r in raced.items() if r.get("steps")}))
        details += [f"### {title}\n", ways_of(raced)]
    for name, firsts in results["first"].items():
        for title, (temperature, field) in FIRST_STEP_ROWS.items():
            samples = {way: [r[field] for r in rows[temperature]] for way, rows in firsts.items()}
            ratios.append(row_of(f"{name}: {title}", samples))
        details += [f"### First step in a fresh process: {workloads[name].title}\n", first_steps_of(firsts)]
    if results["import"]:
        samples = {name: r["seconds"] for name, r in results["import"].items() if "seconds" in r}
        ratios.append(row_of("import, beyond NumPy", samples))
        details += ["### Imports\n", imports_of(results["import"])]
    return "\n".join([table(["", "numtape", *PEERS], ratios), LEGEND, machine() + "\n", *details])
