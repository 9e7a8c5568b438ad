"""`python -m numtape info`: what this installation runs on; `ops`: all ops; `clear` empties the cache of kernels."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m numtape", description=__doc__)
    parser.add_argument("command", choices=["info", "clear", "ops"], nargs="?", default="info")
    parser.add_argument("--without-gradient", action="store_true", help="ops: only those that no gradient passes")
    options = parser.parse_args(arguments)
    if options.command == "ops":
        from numtape.ops.listing import list_ops, table

        print(table(sorted(list_ops(options.without_gradient), key=lambda row: not row.public)))
        return 0
    if options.command == "clear":
        import numtape

        directory = numtape.cache.directory()
        print(f"removed {numtape.cache.clear()} kernels from {directory}")
        return 0
    rows = info()
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:<{width}}  {text}")
    return 0


def info() -> dict[str, str]:
    """What the command prints, line by line."""
    from numtape.cache import kernels
    from numtape.codegen import blas, machine

    store = kernels.store()
    entries = list(store.entries())
    size = sum(entry.bytes for entry in entries)
    rows = {name: _version(name) for name in ("numtape", "numba", "llvmlite", "numpy")}
    return rows | {
        "python": f"{platform.python_version()} on {platform.platform()}",
        "target CPU": machine.cpu_name(),
        "features": " ".join(machine.notable_features()) or "none known",
        "threads": f"{_cores()} cores for this process; kernels use one, BLAS decides for itself",
        "BLAS": found.name if (found := blas.library()) else "none: matrix products run as plain loops",
        "cache": f"{store.directory}: {len(entries)} kernels, {_size(size)} of at most "
        f"{_size(store.limit_bytes)}" + (f"; {store.problem}" if store.problem else ""),
        "CUDA": "no: kernels run on the CPU",
    }


def _size(count: float) -> str:
    """A number of bytes, with the unit that leaves three digits or fewer before the point."""
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it ends
        status = 1
    sys.exit(status)
