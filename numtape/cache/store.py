"""Machine code on disk, found by the hash of everything it was compiled from.

In: a key (sha256, 64 hex digits), a payload of bytes and a small header. Out, in any later process: the
same bytes, or nothing. Always holds: what comes out is what was put in under that very key, else it is a
miss; every file is whole, since it is written aside and renamed; nothing is loaded that another user could
have written; and no state of the disk is an error to the caller, who compiles anew and finds the reason in
`Store.problem`.

One file per key, in 256 folders named by the key's first two digits, and no index, so that any number of
processes, forked ones included, can read, write and clear at once without a lock. A file is three parts:

    numtape-cache 1 <sha256 of all that follows this line>
    {"key": <the key>, "bytes": <length of the payload>, "header": <the caller's header>}
    <the payload>
"""

from __future__ import annotations

import os
import stat
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# hashlib, json and pathlib are imported where they are used: they would be most of this module's import time.

_MAGIC = b"numtape-cache 1 "
_SEAL_BYTES = len(_MAGIC) + 64 + 1
_HEX_DIGITS = frozenset("0123456789abcdef")
_HOUR = 3600.0
_TEMPORARY = ".tmp"
_ENVIRONMENT = "NUMTAPE_CACHE_DIR"

# A process looks at the whole tree after it has written 1/8 of the limit, and a scan leaves that 1/8 free:
# one writer alone never passes the limit. A process that writes little looks when a key, which is a random
# number, is a multiple of 64: so many short processes together scan as often as one long one, without a
# count on disk.
_FREE_SHARE = 8
_KEYS_PER_SCAN = 64


class Entry(NamedTuple):
    """What was stored under a key: the payload and the caller's header."""

    payload: bytes
    header: dict[str, str | int]


class Record(NamedTuple):
    """One stored entry as a listing shows it; `last_use` is in seconds since the epoch, exact to an hour."""

    key: str
    bytes: int
    last_use: float


class Store:
    """A private directory of machine code, bounded in size, shared by all processes of one user.

    Nothing is touched on disk before the first `put`. The entries used least recently go when their total
    passes `limit_bytes`; 0 keeps nothing. `problem` says why the last operation could not use the disk: it
    is None while all is well, and again after a `put` that worked. Raises ValueError for a negative limit,
    and for a key that is not a sha256 in lower-case hex digits.

    >>> import hashlib, tempfile
    >>> from numtape.cache.store import Store
    >>> key = hashlib.sha256(b"the source of a kernel").hexdigest()
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     store = Store(directory)
    ...     store.put(key, b"its machine code", {"symbol": "kernel"})
    ...     store.get(key), store.get("0" * 64)
    (b'its machine code', None)
    """

    def __init__(self, directory: str | os.PathLike[str], limit_bytes: int = 1 << 30) -> None:
        if limit_bytes < 0:
            raise ValueError(f"limit_bytes must not be negative, got {limit_bytes}")
        self.directory = os.path.abspath(directory)
        self.limit_bytes = limit_bytes
        self.problem: str | None = None
        self._reserve = limit_bytes // _FREE_SHARE
        self._written_since_scan = 0

    def __repr__(self) -> str:
        problem = "" if self.problem is None else f", problem={self.problem!r}"
        return f"Store({self.directory!r}, limit_bytes={self.limit_bytes}{problem})"

    def get(self, key: str) -> bytes | None:
        """The payload stored under `key`, None if there is none that can be trusted."""
        entry = self.read(key)
        return None if entry is None else entry.payload

    def read(self, key: str) -> Entry | None:
        """The payload and the header stored under `key`, None if there are none that can be trusted.

        A damaged file, or one that someone else could have written, is removed.
        """
        path = self._path(key)
        try:
            self._check_directory()
            data, last_use = _read(path)
            entry = _decode(data, key)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problem = str(error)
            return None
        except (ValueError, TypeError, LookupError, RecursionError):
            _remove(path)
            return None
        # A time in the future is no use of this file either: a clock was wrong.
        if abs(time.time() - last_use) > _HOUR:
            with suppress(OSError):
                os.utime(path)
        return entry

    def put(self, key: str, payload: bytes, header: Mapping[str, str | int]) -> None:
        """Store `payload` and `header` under `key` in place of what was there, if the disk allows it."""
        path = self._path(key)
        data = _encode(key, payload, header)
        if len(data) > self.limit_bytes - self._reserve:
            self.problem = f"an entry of {len(data)} bytes is too large for a limit of {self.limit_bytes}"
            return
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            self._check_directory()
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            _write(path, data)
        except OSError as error:
            self.problem = str(error)
            return
        self.problem = None
        self._written_since_scan += len(data)
        if self._written_since_scan > self._reserve or int(key, 16) % _KEYS_PER_SCAN == 0:
            self._shrink(self.limit_bytes - self._reserve)

    def entries(self) -> Iterator[Record]:
        """The stored entries, in no particular order."""
        for file, info in self._files():
            if not file.name.endswith(_TEMPORARY):
                yield Record(file.name, info.st_size, info.st_mtime)

    def size(self) -> int:
        """The total size of the stored entries in bytes."""
        return sum(record.bytes for record in self.entries())

    def clear(self) -> int:
        """Remove all entries; return how many there were.

        What other processes are writing at this moment stays.
        """
        return self._shrink(-1)  # below zero, so that a file cut to nothing goes too

    def _path(self, key: str) -> str:
        if not _is_key(key):
            raise ValueError(f"a key must be a sha256 of 64 lower-case hex digits, got {key!r}")
        return os.path.join(self.directory, key[:2], key)

    def _check_directory(self) -> None:
        info = os.lstat(self.directory)
        is_directory = stat.S_ISDIR(info.st_mode)
        fault = _distrust(info) if is_directory else "is not a directory (links are not followed)"
        if fault is not None:
            raise PermissionError(
                f"{self.directory} {fault}, so no machine code is run from it; "
                f"make it a private directory (mode 700) or set {_ENVIRONMENT} to one"
            )

    def _files(self) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        """The files of entries, and of entries being written (`_TEMPORARY`); strangers are left out."""
        try:
            self._check_directory()
            with os.scandir(self.directory) as found:
                folders = [entry for entry in found if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return
        except OSError as error:
            self.problem = str(error)
            return
        for folder in folders:
            with suppress(OSError), os.scandir(folder) as files:
                for file in files:
                    key, suffix = file.name[:64], file.name[64:]
                    ours = _is_key(key) and key[:2] == folder.name
                    if ours and (not suffix or suffix.endswith(_TEMPORARY)):
                        with suppress(OSError):  # another process may have removed it
                            yield file, file.stat(follow_symlinks=False)

    def _shrink(self, limit: int) -> int:
        """Remove the entries used least recently until the total is at most `limit`; return how many.

        Temporary files that a process left behind when it died go as well.
        """
        self._written_since_scan = 0
        entries = []
        for file, info in self._files():
            if not file.name.endswith(_TEMPORARY):
                entries.append((info.st_mtime_ns, info.st_size, file.path))
            elif time.time() - info.st_mtime > _HOUR:
                _remove(file.path)
        total = sum(size for _, size, _ in entries)
        removed = 0
        for _, size, path in sorted(entries):
            if total <= limit:
                break
            if _remove(path):
                total -= size
                removed += 1
        return removed


def default_directory() -> Path:
    """Where entries are kept: $NUMTAPE_CACHE_DIR, else the platform's place for caches, else a temporary one.

    Linux: $XDG_CACHE_HOME/numtape or ~/.cache/numtape, as the XDG base directory specification has it;
    macOS: ~/Library/Caches/numtape; Windows: numtape and in it cache, under %LOCALAPPDATA%. The temporary
    place serves users without a home of their own that they can write to. Nothing is created.

    >>> from numtape.cache.store import default_directory
    >>> default_directory().is_absolute()
    True
    """
    from pathlib import Path

    chosen = os.environ.get(_ENVIRONMENT)
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    usual = _platform_directory()
    if os.path.isabs(usual) and _is_for_us_to_make(usual):
        return Path(usual)
    # Not tempfile.gettempdir(), which writes a file to try each place and raises if all are read-only.
    places = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    place = os.path.abspath(next(filter(None, places), "/tmp"))
    if sys.platform == "win32":
        return Path(place, "numtape")
    return Path(place, f"numtape-{os.geteuid()}")


def _platform_directory() -> str:
    """The platform's place for a user's caches; a relative path if that is in a home which does not exist."""
    home = os.path.expanduser("~")
    home = home if os.path.isdir(home) else ""
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local")
        return os.path.join(local, "numtape", "cache")
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Caches", "numtape")
    caches = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative paths ignored.
    return os.path.join(caches if os.path.isabs(caches) else os.path.join(home, ".cache"), "numtape")


def _is_for_us_to_make(path: str) -> bool:
    """Whether `path`, or its nearest parent that exists, is ours and can be written to.

    Under sudo the home is often still the caller's, who could not use a directory that root made there.
    """
    try:
        info = os.lstat(path)
    except OSError:
        parent = os.path.dirname(path)
        return parent != path and _is_for_us_to_make(parent)
    return _is_ours(info) and os.access(path, os.W_OK)


def _is_key(key: str) -> bool:
    return isinstance(key, str) and len(key) == 64 and _HEX_DIGITS.issuperset(key)  # type: ignore[redundant-expr]


def _is_ours(info: os.stat_result) -> bool:
    # Windows tells no owner here.
    return sys.platform == "win32" or info.st_uid == os.geteuid()


def _distrust(info: os.stat_result) -> str | None:
    """Why a file or directory may hold what another user wrote; None if it cannot.

    Windows has no such bits; there a user's local application data are closed to others by inheritance.
    """
    if sys.platform == "win32":
        return None
    if not _is_ours(info):
        return f"belongs to user {info.st_uid}, not to user {os.geteuid()}"
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by other users"
    return None


def _seal(body: bytes | memoryview) -> bytes:
    from hashlib import sha256

    return _MAGIC + sha256(body).hexdigest().encode() + b"\n"


def _encode(key: str, payload: bytes, header: Mapping[str, str | int]) -> bytes:
    import json

    line = json.dumps({"key": key, "bytes": len(payload), "header": dict(header)})
    body = line.encode() + b"\n" + payload
    return _seal(body) + body


def _decode(data: bytes, key: str) -> Entry:
    """What `_encode` was given; any other data raise ValueError, TypeError, LookupError or RecursionError."""
    import json

    if data[:_SEAL_BYTES] != _seal(memoryview(data)[_SEAL_BYTES:]):
        raise ValueError("not an entry of this version, or damaged")
    end = data.index(b"\n", _SEAL_BYTES)
    found = json.loads(data[_SEAL_BYTES:end])
    entry = Entry(data[end + 1 :], found["header"])
    if found["key"] != key or found["bytes"] != len(entry.payload):
        raise ValueError("the entry of another key")
    return entry


def _read(path: str) -> tuple[bytes, float]:
    """The bytes of a file and the time of its last use; ValueError if another user could have written it.

    The open file is asked, not the path: a directory swapped after it was checked makes no difference.
    """
    with open(path, "rb", buffering=0, opener=_open_plain) as file:
        info = os.fstat(file.fileno())
        if _distrust(info) is not None:
            raise ValueError("another user could have written this")
        return file.readall(), info.st_mtime


def _open_plain(path: str, flags: int) -> int:
    # A link found in place of a file is not followed, a pipe not waited for. Windows has neither flag.
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(path: str, data: bytes) -> None:
    """Put a whole file at `path`, or leave all as it was and raise OSError."""
    temporary = f"{path}.{os.urandom(8).hex()}{_TEMPORARY}"
    try:
        with open(temporary, "xb", opener=_open_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.replace(temporary, path)
        except PermissionError:
            # Windows does not replace a file that is being read; what is read there is this very entry.
            if not os.path.exists(path):
                raise
    finally:
        _remove(temporary)


def _remove(path: str) -> bool:
    """Whether the file was there and is gone."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True
