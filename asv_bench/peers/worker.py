"""The process of one contestant: `worker.py WORKLOAD WAY`.

It sets the way up, says so, and then answers every line on its input, a number of steps, with one line of JSON: the
seconds they took, how many of those went into imports, and their results; an error is the last thing it says. What
libraries print goes to the error stream. Between lines it sleeps, so that contestants can take turns.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time


class ImportClock:
    """Adds up the time spent in imports, wherever they happen; only a miss of `sys.modules` gets this far."""

    def __init__(self):
        self.seconds = 0.0
        self._inside = False
        self._load = importlib._bootstrap._find_and_load
        importlib._bootstrap._find_and_load = self._timed_load

    def _timed_load(self, *arguments):
        if self._inside or threading.current_thread() is not threading.main_thread():
            return self._load(*arguments)
        self._inside = True
        start = time.perf_counter()
        try:
            return self._load(*arguments)
        finally:
            self.seconds += time.perf_counter() - start
            self._inside = False


def main():
    workload_name, way = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    clock = ImportClock()

    def answer(function):
        imported, start = clock.seconds, time.perf_counter()
        try:
            fields = {"result": function()}
        except Exception as error:
            fields = {"error": f"{type(error).__name__}: {error}"}
        fields |= {"seconds": time.perf_counter() - start, "imports": clock.seconds - imported}
        if numtape := sys.modules.get("numtape"):
            fields["compilations"] = numtape.cache.stats().compilations
        print(json.dumps(fields), file=answers, flush=True)
        return "error" not in fields

    def set_up():
        nonlocal run
        import workloads

        workload = workloads.load(workload_name)
        run = workload.ways[way](workload.data())

    run = None
    alive = answer(set_up)
    while alive and (line := sys.stdin.readline()):
        alive = answer(lambda steps=int(line): list(run(steps)))
    os._exit(0)  # some libraries take a second to say goodbye


if __name__ == "__main__":
    main()
