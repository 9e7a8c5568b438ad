"""The disk store: what was put in comes out, or nothing does, whatever happens to the disk in between."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numtape.cache import store as module
from numtape.cache.store import Store, default_directory

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such owners and modes")


def key_of(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


KEY = key_of("a kernel")
PAYLOAD = bytes(range(256)) * 3 + b"\n\n{}"
HEADER: dict[str, str | int] = {"symbol": "nt_kernel\n", "arguments": 3, "naïve": "ü"}
HOURS = 3600


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """That data outlive a power cut is the one thing no test can see, and it would cost most of the time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def file_of(store: Store, key: str = KEY) -> Path:
    return Path(store.directory, key[:2], key)


def all_files(store: Store) -> list[Path]:
    return [path for path in Path(store.directory).rglob("*") if not path.is_dir()]


def filled(store: Store) -> Store:
    store.put(KEY, PAYLOAD, HEADER)
    assert store.get(KEY) == PAYLOAD
    return store


def age(path: Path, hours: float) -> float:
    moment = time.time() - hours * HOURS
    os.utime(path, (moment, moment))
    return moment


def sealed(**changes: object) -> bytes:
    """A file with a right checksum, and a header that differs from what the store writes."""
    header = {"key": KEY, "bytes": len(PAYLOAD), "header": {}} | changes
    body = json.dumps({name: value for name, value in header.items() if value is not None}).encode()
    return module._seal(body + b"\n" + PAYLOAD) + body + b"\n" + PAYLOAD


# --- what goes in comes out


def test_a_payload_comes_back_with_its_header_in_another_store(store: Store) -> None:
    assert store.get(KEY) is None
    store.put(KEY, PAYLOAD, HEADER)
    assert Store(store.directory).read(KEY) == (PAYLOAD, HEADER)
    assert store.get(key_of("another")) is None
    assert store.problem is None


def test_a_second_put_replaces_the_first(store: Store) -> None:
    filled(store).put(KEY, b"", {})
    assert store.read(KEY) == (b"", {})
    assert len(all_files(store)) == 1


@pytest.mark.parametrize("key", ["", "0" * 63, "0" * 65, "A" * 64, "../" * 21 + "0", "g" * 64, "٣" * 64, 7])
def test_a_key_is_a_sha256(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="64 lower-case hex digits"):
        store.get(key)
    with pytest.raises(ValueError, match="64 lower-case hex digits"):
        store.put(key, PAYLOAD, HEADER)


def test_a_header_that_is_not_json_is_the_callers_mistake(store: Store) -> None:
    with pytest.raises(TypeError):
        store.put(KEY, PAYLOAD, {"symbol": object()})  # type: ignore[dict-item]
    assert all_files(Store(store.directory)) == []


def test_nothing_is_made_before_the_first_put(store: Store) -> None:
    assert store.get(KEY) is None
    assert (list(store.entries()), store.size(), store.clear()) == ([], 0, 0)
    assert not os.path.exists(store.directory)
    assert store.problem is None


def test_a_removed_directory_is_made_again(store: Store) -> None:
    file = file_of(filled(store))
    file.unlink()
    file.parent.rmdir()
    file.parent.parent.rmdir()
    assert store.get(KEY) is None
    filled(store)


# --- damage

whole = module._encode(KEY, PAYLOAD, HEADER)
seal, body = len(module._MAGIC), module._SEAL_BYTES
head = whole.index(b"\n", body) + 1


@pytest.mark.parametrize(
    "length",
    [0, 1, seal - 1, seal, seal + 1, body - 1, body, body + 1, head - 1, head, head + 1, len(whole) - 1],
)
def test_a_truncated_file_is_a_miss_and_goes(store: Store, length: int) -> None:
    file = file_of(filled(store))
    assert file.read_bytes() == whole
    file.write_bytes(whole[:length])
    assert store.get(KEY) is None
    assert not file.exists()
    filled(store)


@given(st.integers(0, len(whole) * 8 - 1))
def test_no_flipped_bit_goes_unseen(bit: int) -> None:
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="damaged"):
        module._decode(bytes(damaged), KEY)


@given(st.integers(0, len(whole)), st.integers(0, len(whole)), st.binary(max_size=80))
def test_no_spliced_file_is_taken_for_another(start: int, end: int, middle: bytes) -> None:
    damaged = whole[:start] + middle + whole[end:]
    if damaged != whole:
        with pytest.raises(ValueError, match="damaged"):
            module._decode(damaged, KEY)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x7fELF" + bytes(5000), id="foreign"),
        pytest.param(module._encode(key_of("another"), PAYLOAD, HEADER), id="another key's"),
        pytest.param(whole.replace(b"cache 1 ", b"cache 2 ", 1), id="another version's"),
        pytest.param(sealed(bytes=len(PAYLOAD) - 1), id="wrong length"),
        pytest.param(sealed(key=[]), id="key of another type"),
        pytest.param(sealed(header=None), id="no header"),
        pytest.param(module._seal(b"[]\n") + b"[]\n", id="header of another type"),
        pytest.param(module._seal(b"no line") + b"no line", id="no header line"),
        pytest.param(module._seal(b"[" * 99999 + b"\n") + b"[" * 99999 + b"\n", id="bottomless header"),
    ],
)
def test_another_file_in_its_place_is_a_miss_and_goes(store: Store, data: bytes) -> None:
    file = file_of(filled(store))
    file.write_bytes(sealed())
    assert store.get(KEY) == PAYLOAD  # so it is the change in `data` that is refused
    file.write_bytes(data)
    assert store.get(KEY) is None
    assert not file.exists()
    assert store.problem is None


# --- who may have written it


@posix
def test_directory_and_files_are_private_whatever_the_umask(store: Store) -> None:
    umask = os.umask(0)
    try:
        filled(store)
    finally:
        os.umask(umask)
    file = file_of(store)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (file.parent.parent, file.parent, file)]
    assert modes == [0o700, 0o700, 0o600]


def refused(store: Store, word: str) -> None:
    """The store neither reads nor writes nor removes anything, and says why."""
    before = all_files(store)
    assert store.get(KEY) is None
    assert store.problem is not None
    assert word in store.problem
    assert "NUMTAPE_CACHE_DIR" in store.problem
    assert repr(store.problem) in repr(store)
    store.problem = None
    store.put(KEY, b"other", {})
    assert word in str(store.problem)
    assert (list(store.entries()), store.clear()) == ([], 0)
    assert all_files(store) == before


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_that_others_can_write_to_is_refused_until_it_is_closed(store: Store, mode: int) -> None:
    os.chmod(filled(store).directory, mode)
    refused(store, "written by other users")
    os.chmod(store.directory, 0o755)
    assert store.get(KEY) == PAYLOAD


@posix
def test_a_directory_of_another_user_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(store)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    refused(store, "belongs to user")


@posix
def test_a_linked_directory_is_refused(store: Store, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(filled(store).directory)
    refused(Store(link), "not a directory")


@posix
def test_a_file_that_others_can_write_to_is_a_miss_and_goes(store: Store) -> None:
    file = file_of(filled(store))
    file.chmod(0o620)
    assert store.get(KEY) is None
    assert not file.exists()


@posix
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_not_a_plain_file_is_a_miss(store: Store, tmp_path: Path, kind: str) -> None:
    file = file_of(filled(store))
    aside = file.rename(tmp_path / "aside")
    if kind == "link":
        file.symlink_to(aside)
    elif kind == "pipe":
        os.mkfifo(file, 0o600)
    else:
        file.mkdir()
    assert store.get(KEY) is None
    store.put(KEY, PAYLOAD, HEADER)
    assert store.get(KEY) == (None if kind == "folder" else PAYLOAD)
    assert (store.problem is not None) == (kind == "folder")
    assert aside.read_bytes() == whole


# --- a disk that refuses


def test_a_directory_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = Store(tmp_path / "file" / "cache")
    store.put(KEY, PAYLOAD, HEADER)
    assert store.get(KEY) is None
    assert store.problem is not None
    assert (list(store.entries()), store.size(), store.clear()) == ([], 0, 0)


@pytest.mark.parametrize("call", ["open", "makedirs", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_write_that_fails_leaves_nothing_and_is_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    filled(store)
    other = key_of("another")

    def fail(*args: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as broken:
        broken.setattr(os, call, fail)
        store.put(other, PAYLOAD, HEADER)
    assert os.strerror(code) in str(store.problem)
    assert all_files(store) == [file_of(store)]
    assert store.get(KEY) == PAYLOAD
    store.put(other, PAYLOAD, HEADER)
    assert store.problem is None
    assert store.get(other) == PAYLOAD


def test_a_failing_read_is_a_miss_and_removes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(store)

    def fail(*args: object) -> None:
        raise OSError(errno.EIO, "the disk is dying")

    with monkeypatch.context() as broken:
        broken.setattr(os, "open", fail)
        assert store.get(KEY) is None
    assert "the disk is dying" in str(store.problem)
    assert store.get(KEY) == PAYLOAD


@posix
def test_a_read_only_directory_is_still_read(store: Store) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes where it likes; the simulated failures above cover it")
    file = file_of(filled(store))
    age(file, hours=2)
    os.chmod(file.parent, 0o500)
    os.chmod(store.directory, 0o500)
    try:
        store.put(key_of("another"), PAYLOAD, HEADER)
        assert store.problem is not None
        assert store.get(KEY) == PAYLOAD
        assert store.clear() == 0
    finally:
        os.chmod(store.directory, 0o700)
        os.chmod(file.parent, 0o700)


def test_a_file_that_cannot_be_replaced_while_it_is_read_is_left(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: whoever reads it found what we were about to write."""
    filled(store)

    def fail(*args: object) -> None:
        raise PermissionError(errno.EACCES, "used by another process")

    monkeypatch.setattr(os, "replace", fail)
    store.put(KEY, PAYLOAD, HEADER)
    assert store.problem is None
    assert store.get(KEY) == PAYLOAD
    assert all_files(store) == [file_of(store)]


def test_a_file_is_complete_before_it_has_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[str, int]] = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda file: steps.append(("fsync", os.fstat(file).st_size)))

    def replacing(source: str, target: str) -> None:
        steps.append(("replace", os.stat(source).st_size))
        assert os.path.dirname(source) == os.path.dirname(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", replacing)
    filled(store)
    assert steps == [("fsync", len(whole)), ("replace", len(whole))]


# --- size


def test_entries_size_and_clear_count_entries_alone(store: Store) -> None:
    keys = {key_of(i) for i in range(5)}
    before = time.time()
    for key in keys:
        store.put(key, PAYLOAD, HEADER)
    folder = file_of(store, min(keys)).parent
    strangers = [folder / "notes.txt", folder / f"{min(keys)}.bak", folder.parent / KEY, folder / ("f" * 64)]
    being_written = folder / f"{min(keys)}.0123.tmp"
    for path in (*strangers, being_written):
        path.write_bytes(b"not an entry")
        age(path, hours=0 if path is being_written else 9)
    records = list(store.entries())
    assert {record.key for record in records} == keys
    assert all(record.bytes == file_of(store, record.key).stat().st_size for record in records)
    assert all(abs(record.last_use - before) < 60 for record in records)
    assert store.size() == 5 * len(whole)
    file_of(store, min(keys)).write_bytes(b"")
    assert store.clear() == 5
    assert set(all_files(store)) == {*strangers, being_written}


def test_what_a_dead_writer_left_goes_after_an_hour(store: Store) -> None:
    left = file_of(filled(store)).with_name(f"{KEY}.0123.tmp")
    fresh = left.with_name(f"{KEY}.4567.tmp")
    for path, hours in ((left, 1.1), (fresh, 0.9)):
        path.write_bytes(whole)
        age(path, hours)
    scanning = next(key for key in map(key_of, range(9999)) if int(key, 16) % module._KEYS_PER_SCAN == 0)
    store.put(scanning, PAYLOAD, HEADER)
    assert not left.exists()
    assert fresh.exists()


def test_the_least_recently_used_go_first_and_the_limit_holds(tmp_path: Path) -> None:
    payload = bytes(1000)
    file_bytes = len(module._encode(KEY, payload, {}))
    store = Store(tmp_path / "cache", limit_bytes=16 * file_bytes)
    old = [key_of(i) for i in range(12)]
    for i, key in enumerate(old):
        store.put(key, payload, {})
        age(file_of(store, key), hours=100 - i)
    used = old[:3]
    assert all(store.get(key) == payload for key in used)
    for i in range(100, 106):
        store.put(key_of(i), payload, {})
        assert store.size() <= store.limit_bytes
    assert {record.key for record in store.entries()} > {*used, key_of(105), old[11]}
    assert store.get(old[3]) is None
    for i in range(200, 300):
        store.put(key_of(i), payload, {})
        assert store.size() <= store.limit_bytes
        assert store.get(key_of(i)) == payload
    assert len(list(store.entries())) >= 12  # it does not throw away more than it has to


def test_many_short_processes_keep_to_the_limit_together(tmp_path: Path) -> None:
    payload = bytes(1000)
    limit = 100_000
    for i in range(600):
        Store(tmp_path / "cache", limit).put(key_of(i), payload, {})
    # Each writes 1/90 of the limit, and one in 64 on average brings the total down.
    assert Store(tmp_path / "cache").size() < 3 * limit


@pytest.mark.parametrize("payload", [b"", bytes(10_000)])
def test_a_scan_is_rare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payload: bytes) -> None:
    store = Store(tmp_path / "cache", limit_bytes=4_000_000)
    scans = 0
    shrink = store._shrink

    def counted(limit: int) -> int:
        nonlocal scans
        scans += 1
        return shrink(limit)

    monkeypatch.setattr(store, "_shrink", counted)
    keys = [key_of(i) for i in range(200)]
    for key in keys:
        store.put(key, payload, {})
    by_key = sum(int(key, 16) % module._KEYS_PER_SCAN == 0 for key in keys)
    by_bytes = 200 * len(payload) // (store.limit_bytes // 8)
    assert 0 < max(by_key, by_bytes) <= scans <= by_key + by_bytes < 12


@pytest.mark.parametrize("limit", [0, 100, len(whole)])
def test_what_does_not_fit_is_not_stored(tmp_path: Path, limit: int) -> None:
    store = Store(tmp_path / "cache", limit)
    store.put(KEY, PAYLOAD, HEADER)
    assert store.get(KEY) is None
    assert f"limit of {limit}" in str(store.problem)


def test_a_limit_is_not_negative(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="negative"):
        Store(tmp_path, -1)


@pytest.mark.parametrize(("hours", "touched"), [(0.5, False), (1.5, True), (-5, True)])
def test_a_use_is_noted_once_an_hour(store: Store, hours: float, touched: bool) -> None:
    file = file_of(filled(store))
    moment = age(file, hours)
    assert store.get(KEY) == PAYLOAD
    assert abs(file.stat().st_mtime - (time.time() if touched else moment)) < 60


# --- many processes

# The store alone, by its file: eight times the import of numpy is not what is tested. Where a process can
# fork, its copy goes on with the same store object.
WORKER = """
import importlib.util, os, sys
path, directory, salt = sys.argv[1:]
spec = importlib.util.spec_from_file_location("store", path)
sys.modules["store"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
heavy = {"numpy", "numba", "llvmlite", "hashlib", "json", "pathlib", "tempfile", "inspect"} & set(sys.modules)
assert not heavy, heavy
import hashlib
store = module.Store(directory, limit_bytes=1 << 20)
assert store.get("0" * 64) is None
print("ready", flush=True)
sys.stdin.readline()
child = os.fork() if hasattr(os, "fork") else None
order = sorted(range(40), key=lambda i: hashlib.sha256(f"{salt} {child == 0} {i}".encode()).digest())
for i in order:
    key = hashlib.sha256(str(i).encode()).hexdigest()
    payload = key.encode() * (i + 1)
    found = store.get(key)
    assert found in (None, payload)
    if found is None:
        store.put(key, payload, {"symbol": key})
        assert store.problem is None, store.problem
        assert store.get(key) == payload
if child == 0:
    os._exit(0)
if child is not None:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_eight_processes_fill_one_empty_store_at_once(store: Store) -> None:
    command = [sys.executable, "-I", "-S", "-c", WORKER, module.__file__, store.directory]
    count = 4 if hasattr(os, "fork") else 8
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen([*command, str(i)], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for i in range(count)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        for worker in workers:
            output, errors = worker.communicate(timeout=60)
            assert (worker.returncode, output, errors) == (0, "", "")
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    keys = [key_of(i) for i in range(40)]
    assert [store.get(key) for key in keys] == [key.encode() * (i + 1) for i, key in enumerate(keys)]
    assert len(all_files(store)) == 40


# --- where


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("NUMTAPE_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    place = tmp_path / "home"
    place.mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("USERPROFILE", str(place))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    yield place
    assert list(place.iterdir()) == []  # asking makes nothing


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda platform: monkeypatch.setattr(sys, "platform", platform)


def test_the_environment_variable_decides(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMTAPE_CACHE_DIR", os.path.join("~", "mine"))
    assert default_directory() == home / "mine"
    monkeypatch.setenv("NUMTAPE_CACHE_DIR", "here")
    assert default_directory() == Path.cwd() / "here"


def test_linux(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: Callable[[str], None]
) -> None:
    on("linux")
    monkeypatch.setenv("NUMTAPE_CACHE_DIR", "")
    assert default_directory() == home / ".cache" / "numtape"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_directory() == home / ".cache" / "numtape"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_directory() == tmp_path / "xdg" / "numtape"


def test_macos(home: Path, on: Callable[[str], None]) -> None:
    on("darwin")
    assert default_directory() == home / "Library" / "Caches" / "numtape"


def test_windows(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: Callable[[str], None]
) -> None:
    on("win32")
    assert default_directory() == home / "AppData" / "Local" / "numtape" / "cache"
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert default_directory() == tmp_path / "local" / "numtape" / "cache"


@posix
@pytest.mark.parametrize("reason", ["missing", "another user's", "read-only"])
def test_without_a_home_of_ones_own_it_is_a_temporary_directory_of_ones_own(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: Callable[[str], None], reason: str
) -> None:
    on("linux")
    user = os.geteuid()
    if reason == "missing":
        monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    elif reason == "another user's":
        user += 1
        monkeypatch.setattr(os, "geteuid", lambda: user)
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    place = tmp_path / "temporary" / f"numtape-{user}"
    assert default_directory() == place
    place.mkdir()
    place.chmod(0o777)
    refused(Store(default_directory()), "belongs to" if reason == "another user's" else "written by")
