"""Time numtape against other libraries, side by side: `python asv_bench/peers/run.py`, or `make peers`.

Creates the environment beside this file (environment.py), goes on in its Python, measures (race.py), tells how it
gets on, and prints Markdown (report.py). Needs nothing but Python to begin with.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

PARTS = ("race", "first", "import")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", metavar="PATH", help="use the Python of an environment that exists")
    parser.add_argument("--rounds", type=int, default=7, help="turns each contestant has (%(default)s)")
    parser.add_argument("--starts", type=int, default=3, help="fresh processes each starts (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="workloads, libraries or parts: "
                        + ", ".join(PARTS))  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every number there")
    options = parser.parse_args()
    if options.rounds < 1 or options.starts < 1:
        parser.error("--rounds and --starts must be at least 1")
    if options.python is None:
        from environment import prepare

        options.python = prepare()
    if os.path.abspath(options.python) != os.path.abspath(sys.executable):
        return subprocess.call([options.python, __file__, *sys.argv[1:], "--python", options.python])
    results, text = measure(parser, options)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1))
    print(text)
    return 0


def measure(parser: argparse.ArgumentParser, options: argparse.Namespace):
    import race
    import workloads
    from libraries import LIBRARIES
    from report import report

    known = {"workloads": workloads.names(), "libraries": list(LIBRARIES), "parts": PARTS}
    if unknown := set(options.only).difference(*known.values()):
        names = ", ".join(name for names in known.values() for name in names)
        parser.error(f"--only knows no {', '.join(unknown)}, but {names}")
    # Of each kind, those that were named, or all.
    chosen = {kind: [n for n in names if n in options.only] or names for kind, names in known.items()}
    libraries = sorted({"numtape", *chosen["libraries"]}, key=["numtape", *LIBRARIES].index)
    loaded = {name: workloads.load(name) for name in chosen["workloads"]}
    results = {part: {} for part in PARTS}

    def ways_of(workload):
        return [way for name in libraries for way in workload.ways if workloads.library_of(way) == name]

    for name, workload in loaded.items():
        if "race" in chosen["parts"]:
            race.say(f"{workload.title}: checks, then times")
            results["race"][name] = race.race(name, workload, ways_of(workload), options.rounds)
        if "first" in chosen["parts"] and workload.first_step:
            race.say(f"{workload.title}: first steps")
            raced = results["race"].get(name, {})
            able = [way for way in ways_of(workload) if "failed" not in raced.get(way, {})]
            if found := race.first_steps(name, workload, able, options.starts):
                results["first"][name] = found
    if "import" in chosen["parts"]:
        race.say("imports")
        results["import"] = race.imports(libraries, options.starts)
    return results, report(loaded, results)


if __name__ == "__main__":
    raise SystemExit(main())
