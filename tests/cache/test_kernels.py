"""The cache of kernels as users meet it: counters, clearing, directories that cannot be used, damaged files."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import numtape as nt
from numtape.cache import kernels
from numtape.cache.store import Store

pytestmark = pytest.mark.usefixtures("natively")

SCRIPT = """
import numpy as np
import numtape as nt
v = nt.Variable(np.arange(5.0))
for _ in range(3):
    with nt.GradientTape() as tape:
        loss = nt.reduce_sum(nt.exp(v * 0.1) * v)
    v.assign_sub(0.1 * tape.gradient(loss, v))
right = np.arange(5.0)
for _ in range(3):
    right = right - 0.1 * np.exp(right * 0.1) * (1 + 0.1 * right)
np.testing.assert_allclose(v.numpy(), right, rtol=1e-12)
s = nt.cache.stats()
print(s.compilations, s.disk_hits, nt.cache._kernels.store().problem)
"""


def run(directory: Path, script: str = SCRIPT, **environment: str) -> list[str]:
    """What the script prints, in a process of its own with this directory for its cache."""
    env = {**os.environ, "NUMTAPE_CACHE_DIR": str(directory), **environment}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(maxsplit=2)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that one process has filled."""
    directory = tmp_path_factory.mktemp("caches") / "filled"
    compiled, hits, problem = run(directory)
    assert int(compiled) >= 2
    assert (hits, problem.strip()) == ("0", "None")
    return directory


@pytest.fixture
def copied(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "cache"))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache for this process, memory included."""
    store = Store(tmp_path / "own")
    monkeypatch.setattr(kernels, "store", lambda: store)
    monkeypatch.setattr(kernels, "_addresses", {})
    for forget in nt.cache.FORGET:
        forget()
    yield tmp_path / "own"
    for forget in nt.cache.FORGET:
        forget()


def work() -> None:
    x = nt.constant(np.arange(7.0))
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = nt.reduce_sum(x * x * x)
    np.testing.assert_allclose(tape.gradient(y, x).numpy(), 3 * np.arange(7.0) ** 2)


def files(directory: Path) -> list[Path]:
    return sorted(p for p in directory.rglob("*") if p.is_file())


def test_a_second_process_compiles_nothing(filled: Path) -> None:
    compiled, hits, _ = run(filled)
    assert (compiled, int(hits)) == ("0", len(files(filled)))


def test_a_second_process_does_not_import_numba(filled: Path) -> None:
    run(filled, SCRIPT + "import sys; assert not any(m.split('.')[0] == 'numba' for m in sys.modules)")


def test_damaged_files_are_misses(copied: Path) -> None:
    found = files(copied)
    for k, path in enumerate(found):
        data = path.read_bytes()
        if k % 3 == 0:
            path.write_bytes(data[: len(data) // 2])
        elif k % 3 == 1:
            path.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
        else:
            path.write_bytes(b"")
    compiled, hits, _ = run(copied)
    assert (int(compiled), hits) == (len(found), "0")
    compiled, hits, _ = run(copied)  # written anew
    assert (compiled, int(hits)) == ("0", len(found))


def test_one_file_under_another_s_name_is_a_miss(copied: Path) -> None:
    a, b, *_ = files(copied)
    a.write_bytes(b.read_bytes())
    compiled, _, _ = run(copied)
    assert compiled == "1"


def test_a_directory_that_others_can_write_to_is_not_used(copied: Path) -> None:
    copied.chmod(0o777)
    compiled, hits, problem = run(copied)
    assert (int(compiled) > 0, hits, "written by other users" in problem) == (True, "0", True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_directory(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        compiled, _, problem = run(parent / "cache")
    finally:
        parent.chmod(0o700)
    assert int(compiled) > 0
    assert "ermission" in problem


@pytest.mark.parametrize("path", ["file", "file/cache", "/proc/numtape"])
def test_a_directory_that_cannot_be(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    compiled, hits, problem = run(tmp_path / path)
    assert (int(compiled) > 0, hits, problem.strip() != "None") == (True, "0", True)


def test_the_counters(own: Path) -> None:
    start = nt.cache.stats()
    work()
    first = nt.cache.stats()
    assert first.compilations > start.compilations
    assert first.compile_seconds > start.compile_seconds
    assert first.programs > start.programs
    work()
    second = nt.cache.stats()
    assert second.memory_hits > first.memory_hits
    assert (second.compilations, second.programs, second.disk_hits) == (
        first.compilations, first.programs, first.disk_hits,
    )  # fmt: skip
    assert nt.cache.stats() is not nt.cache.stats()
    second.programs = -1
    assert nt.cache.stats().programs >= 0


def test_clear(own: Path) -> None:
    work()
    count = len(files(own))
    assert count > 0
    assert nt.cache.clear() == count
    assert files(own) == []
    assert nt.cache.clear() == 0
    before = nt.cache.stats()
    work()
    after = nt.cache.stats()
    assert after.compilations - before.compilations == count
    assert len(files(own)) == count


def test_kernels_are_shared_by_programs(own: Path) -> None:
    work()
    before = nt.cache.stats()
    x = nt.constant(np.arange(9.0))  # another extent
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = nt.reduce_sum(x * x * x)
    tape.gradient(y, x).numpy()
    after = nt.cache.stats()
    assert after.programs > before.programs
    assert after.compilations == before.compilations


def test_the_directory() -> None:
    assert nt.cache.directory() == Path(os.environ["NUMTAPE_CACHE_DIR"])


def test_an_interrupt_while_compiling_is_put_off(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    from numtape.codegen import compile as compiler

    compile_kernel = compiler.compile_kernel

    def interrupted(*arguments: object) -> bytes:
        signal.raise_signal(signal.SIGINT)
        return compile_kernel(*arguments)  # type: ignore[arg-type]

    x = nt.constant([1.0, 2.0]) * 3.0
    monkeypatch.setattr(compiler, "compile_kernel", interrupted)
    with pytest.raises(KeyboardInterrupt):
        x.numpy()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    np.testing.assert_array_equal(x.numpy(), [3.0, 6.0])
