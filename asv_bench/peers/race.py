"""The three measurements: a race of steps, first steps in fresh processes, and times of import.

All take turns, A B A B: within a round every contestant runs once, and only one works at a time. Each measurement
returns plain data for report.py: lists of one number a round, so that ratios can be taken round by round.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from contestant import Contestant, Failed
from libraries import LIBRARIES
from workloads import REFERENCE, Workload, library_of

BLOCK = 0.25  # seconds that a contestant works in one turn
CHUNK = 0.02  # at least so much of it at a time
SETTLE = 0.05  # before a turn: threads of the one before may spin a little longer
START_LIMIT = 20  # seconds a contestant may spend on first steps before it has shown enough


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def race(name: str, workload: Workload, ways: Iterable[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds a step in every round, `steps`, or the reason why there are none, `failed`, for each way."""
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        contestants: dict[str, Contestant] = {}

        def attempt(way: str, action: Callable[[Contestant], Any]) -> Any:
            try:
                return action(contestants[way])
            except Failed as failure:
                results[way] = {"failed": str(failure)}
                contestants.pop(way).close()
                say(f"  {way}: {failure}")

        try:
            expected = None
            chunks = {}
            for k, way in enumerate([REFERENCE, *ways]):
                contestants[way] = Contestant(name, way, Path(folder, str(k)), workload.limit)
                checked = attempt(way, partial(check, workload=workload, expected=expected))
                if checked is not None:
                    expected = expected or checked
                    say(f"  {way}: agrees")
                    chunks[way] = attempt(way, chunk)
            results |= {way: {"steps": []} for way in contestants}
            for k in range(rounds):
                say(f"  round {k + 1} of {rounds}")
                for way in list(contestants):
                    seconds = attempt(way, lambda one: turn(one, chunks[one.way]))
                    if seconds is not None:
                        results[way]["steps"].append(seconds)
        finally:
            for one in contestants.values():
                one.close()
    return results


def check(one: Contestant, workload: Workload, expected: list[float] | None) -> list[float]:
    """Its results after the first steps, which have to be the expected ones."""
    one.ready()
    result: list[float] = one.run(workload.check_steps)["result"]
    for got, right in zip(result, expected or result, strict=True):
        if not math.isclose(got, right, rel_tol=workload.tolerance):
            raise Failed(f"wrong: {got:.7g} where {right:.7g} is right")
    return result


def chunk(one: Contestant) -> int:
    """How many steps it is told to run at a time."""
    steps = 1
    while one.run(steps)["seconds"] < CHUNK:
        steps *= 2
    return steps


def turn(one: Contestant, steps: int) -> float:
    """Seconds a step."""
    time.sleep(SETTLE)
    one.run(steps)  # others have emptied the caches of the processor
    seconds, done = 0.0, 0
    while seconds < BLOCK:
        seconds += one.run(steps)["seconds"]
        done += steps
    return seconds / done


def first_steps(
    name: str, workload: Workload, ways: Iterable[str], rounds: int
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """First steps with empty caches, `cold`, then with what that left, `warm`; each in a process of its own.

    From the second round on, only the best way of each library goes on: the one whose first step, without imports,
    took the least time.
    """
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    remaining = list(ways)
    for k in range(rounds):
        say(f"  round {k + 1} of {rounds}")
        for way in remaining:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                try:
                    cold, warm = (first_step(name, workload, way, Path(folder)) for _ in range(2))
                except Failed as failure:
                    say(f"    {way}: {failure}")
                    continue
            row = results.setdefault(way, {"cold": [], "warm": []})
            row["cold"].append(cold)
            row["warm"].append(warm)
            say(f"    {way}: {cold['after_imports']:.3f} s, warm {warm['after_imports']:.3f} s")
        best: dict[str, str] = {}
        for way in sorted(results, key=lambda way: results[way]["cold"][0]["after_imports"]):
            best.setdefault(library_of(way), way)
        spent = {way: sum(first["in_all"] for first in results[way]["cold"]) for way in best.values()}
        remaining = [way for way in best.values() if spent[way] < START_LIMIT]
    return results


def first_step(name: str, workload: Workload, way: str, caches: Path) -> dict[str, float]:
    """Seconds from the start of the process to the first result, `in_all`, and parts of it.

    `after_imports` leaves out all imports, wherever they happened; `call` leaves out the setting up as well.
    """
    start = time.perf_counter()
    one = Contestant(name, way, caches, workload.limit)
    try:
        set_up, step = one.ready(), one.run(1)
        in_all = time.perf_counter() - start
    finally:
        one.close()
    set_up_alone, call = (answer["seconds"] - answer["imports"] for answer in (set_up, step))
    return {
        "in_all": in_all,
        "imports": set_up["imports"] + step["imports"],
        "after_imports": set_up_alone + call,
        "call": call,
        "compilations": step.get("compilations", math.nan),
    }


IMPORT = """
import sys, time, numpy
start = time.perf_counter()
import {module}
print(time.perf_counter() - start, *{{"numba", "llvmlite"}} & sys.modules.keys())
"""


def imports(libraries: Iterable[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds to import each library after NumPy, once in a round, and which of numba and llvmlite came along."""
    results: dict[str, dict[str, Any]] = {}
    for k in range(rounds + 1):  # the first one reads the files and is not counted
        say(f"  round {k} of {rounds}")
        for name in libraries:
            command = [sys.executable, "-c", IMPORT.format(module=LIBRARIES[name].module)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                results[name] = {"failed": done.stderr.strip().splitlines()[-1]}
                continue
            seconds, *loaded = done.stdout.split()
            entry = results.setdefault(name, {"seconds": [], "loaded": loaded})
            if k > 0:
                entry["seconds"].append(float(seconds))
    return results
