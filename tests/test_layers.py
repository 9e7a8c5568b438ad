"""Imports point one way, and importing numtape stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "numtape"
LAYERS = [
    ["_absent"],
    ["_front"],
    ["dtypes", "errors", "config"],
    ["nest"],
    ["ir", "codegen.threefry", "codegen.limits"],
    ["ops"],
    ["passes"],
    ["cache.store", "cache.statistics", "backends.buffer", "backends.reference"],
    ["codegen"],
    ["cache"],
    ["backends"],
    ["tape"],
    ["data"],
    ["queue"],
    ["module", "autodiff", "testing", "functions"],
    ["keras"],
    ["train"],
    ["explaining"],
    ["debug", "debugging"],
    ["_public"],
    ["__main__"],
]
"""From what knows nothing to what knows all; a module imports from its own row and those above."""
COMPILING = {
    "codegen/compile.py", "codegen/intrinsics.py", "codegen/native_calls.py", "codegen/tiles.py",
    "functions/nopython.py",
}  # fmt: skip
"""Only these import numba."""

MODULES = sorted(ROOT.rglob("*.py"))


def layer_of(module: str) -> int:
    """The row of `LAYERS` with the longest prefix of a module's name."""
    rows = {name: row for row, names in enumerate(LAYERS) for name in names}
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in rows:
            return rows[".".join(parts[:length])]
    raise AssertionError(f"numtape.{module} is in no layer: say where it belongs")


def imports_of(path: Path) -> set[str]:
    """Modules imported anywhere in a file, but for those only needed by type checkers."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if is_module(node.module, alias.name))
    return found


def is_module(package: str, name: str) -> bool:
    place = ROOT.parent.joinpath(*package.split("."), name)
    return place.with_suffix(".py").exists() or place.is_dir()


@pytest.mark.parametrize("path", MODULES, ids=[str(p.relative_to(ROOT)) for p in MODULES])
def test_imports_point_one_way(path):
    name = path.relative_to(ROOT)
    module = ".".join(name.with_suffix("").parts).removesuffix(".__init__")
    imported = imports_of(path)
    if module != "__init__":
        for other in imported:
            if other.startswith("numtape."):
                below = layer_of(other.removeprefix("numtape."))
                assert below <= layer_of(module), f"numtape.{module} imports {other}, which stands above it"
    if name.as_posix() not in COMPILING:
        assert not {i for i in imported if i.split(".")[0] == "numba"}, f"{name} imports numba"


def test_importing_numtape_imports_no_compiler():
    command = "import numtape, sys; print(*{'numba', 'llvmlite', 'scipy', 'numtape._absent'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()
