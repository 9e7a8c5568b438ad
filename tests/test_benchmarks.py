"""Every benchmark runs, once and with the first of its parameters; `make bench` lets asv run them all."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from functools import cache

import pytest

from asv_bench import benchmarks

KINDS = ("peakmem", "time", "timeraw", "track")


def names_of_benchmarks():
    """`module.function` or `module.Class.method` of what asv would find."""
    for found in pkgutil.iter_modules(benchmarks.__path__):
        module = importlib.import_module(f"{benchmarks.__name__}.{found.name}")
        for name, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == module.__name__:
                yield from (f"{found.name}.{name}.{method}" for method in dir(value) if is_benchmark(method))
            elif is_benchmark(name):
                yield f"{found.name}.{name}"


@cache
def cache_of(owner):
    return owner().setup_cache()


def is_benchmark(name):
    kind, underscore, _ = name.partition("_")
    return kind in KINDS and bool(underscore)


@pytest.mark.parametrize("name", [*names_of_benchmarks()])
def test_benchmark_runs(name):
    module, *owner, function = name.split(".")
    place = importlib.import_module(f"{benchmarks.__name__}.{module}")
    place = getattr(place, owner[0])() if owner else place
    run = getattr(place, function)
    cached = [cache_of(type(place))] if hasattr(place, "setup_cache") else []
    parameters = getattr(run, "params", getattr(place, "params", []))
    result = run(*cached, *parameters[:1])
    if function.startswith("timeraw_"):
        statement, setup = result
        subprocess.run([sys.executable, "-c", f"{setup}\n{statement}"], check=True)
    elif function.startswith("track_"):
        assert result >= 0
