"""Checkpoints on disk: named arrays in one safetensors file.

In: arrays by key, and which further keys mean the same. Out: the same arrays, or an error that names the file. Always
holds: a file under its final name is whole, since it is written aside and renamed; an array that is read back has the
checksum with which it was written; and nothing on disk says which files there are, but the files.

The header's metadata are `format`, `version` (of the format), `numtape` (the version that wrote it), `checksums`
and `aliases` (JSON objects by key), and for a numbered save `saved`, in nanoseconds since the epoch, by which saves are
put in order: it is copied with the file, and later than that of every save which was there before.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

# safetensors, json, shutil, tempfile and zlib are imported where they are used: importing numtape stays fast.

FORMAT, VERSION = "numtape.train.Checkpoint", 1
SUFFIX = ".safetensors"
_TEMPORARY_PREFIX, _TEMPORARY_SUFFIX = ".checkpoint-", ".tmp"
_HOUR = 3600.0
_NUMBERED = re.compile(r"-\d+\.safetensors$")
_ERRNO = re.compile(r"(?:os error |code: )(\d+)")
_KINDS = {"F": "float", "I": "int", "U": "uint"}
DTYPES = {
    "BOOL": "bool",
    **{f"{code}{bits}": f"{_KINDS[code]}{bits}" for code in "IU" for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
"""NumPy's names of safetensors' element types."""


def file_of(path: str | os.PathLike[str]) -> str:
    """The file of a checkpoint, whose path may be given with or without its ending."""
    text = os.fspath(path)
    return text if text.endswith(SUFFIX) else text + SUFFIX


# ---- writing -------------------------------------------------------------------------------------------------------


def write_file(file: str, arrays: dict[str, npt.NDArray[Any]], aliases: dict[str, str], numbered: bool) -> None:
    """Put a whole file in its place and on the disk, or leave all as it was and raise OSError."""
    import json
    import shutil
    import tempfile

    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    metadata = {"format": FORMAT, "version": str(VERSION), "numtape": _version()}
    metadata["aliases"] = json.dumps(aliases)
    metadata["checksums"] = json.dumps({key: _checksum(key, array) for key, array in arrays.items()})
    folder = os.path.dirname(os.path.abspath(file))
    os.makedirs(folder, exist_ok=True)
    _sweep(folder)
    if numbered:
        metadata["saved"] = str(max([time.time_ns(), *(saved + 1 for saved, _ in saves(folder))]))
    # A folder and not a file, since safetensors writes files of its own names on the way to the one it is told.
    aside = tempfile.mkdtemp(_TEMPORARY_SUFFIX, _TEMPORARY_PREFIX, folder)
    try:
        temporary = os.path.join(aside, os.path.basename(file))
        with open(temporary, "xb") as created:
            mode = os.fstat(created.fileno()).st_mode & 0o777
        try:
            save_file(arrays, temporary, metadata)
        except SafetensorError as error:
            number = _ERRNO.search(str(error))
            if number is None:
                raise OSError(f"{file} could not be written: {error}") from None
            raise OSError(int(number[1]), os.strerror(int(number[1])), file) from None
        os.chmod(temporary, mode)  # safetensors gives rights to nobody else
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, file)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    if sys.platform != "win32":  # Windows has no handles of folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("numtape")
    except PackageNotFoundError:
        return "unknown"


def _checksum(key: str, array: npt.NDArray[Any]) -> int:
    """Of an array's elements, with its key, dtype and shape."""
    from zlib import crc32

    label = f"{key} {array.dtype.name} {array.shape}"
    return crc32(array.reshape(-1), crc32(label.encode()))  # type: ignore[arg-type]  # an array is a buffer


def _sweep(folder: str) -> None:
    """Remove what a process left behind when it died in the middle of writing."""
    import shutil

    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_TEMPORARY_PREFIX) and entry.name.endswith(_TEMPORARY_SUFFIX):
                with suppress(OSError):
                    places = [entry.path, *(inner.path for inner in os.scandir(entry.path))]
                    if time.time() - max(os.stat(place).st_mtime for place in places) > _HOUR:
                        shutil.rmtree(entry.path)


# ---- reading -------------------------------------------------------------------------------------------------------


class CheckpointFile:
    """A checkpoint that is open for reading, and stays readable when the file is replaced or removed.

    FileNotFoundError if there is none; ValueError if it is damaged, something else, or of a later version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = file_of(path)
        if not os.path.exists(self.path):
            raise FileNotFoundError(f"there is no checkpoint {self.path}{_instead(self.path)}")
        self._handle, metadata = _open(self.path)
        if metadata.get("format") != FORMAT:
            raise ValueError(f"{self.path} is a safetensors file, but no checkpoint that nt.train.Checkpoint wrote")
        if (version := metadata.get("version", "")) != str(VERSION):
            if version.isdecimal() and int(version) > VERSION:
                raise ValueError(
                    f"{self.path} was written by numtape {metadata.get('numtape')} in version {version} of the format; "
                    f"this numtape reads version {VERSION}: install a later one"
                )
            raise ValueError(f"{self.path} is damaged: it says that its version is {version!r}")
        self._checksums = self._object(metadata, "checksums", int)
        self.aliases: dict[str, str] = self._object(metadata, "aliases", str)
        self.keys = frozenset(self._handle.keys())
        if self.keys != self._checksums.keys():
            raise ValueError(f"{self.path} is damaged: its keys are not those that were written")
        self.types = {key: self._type(key) for key in self.keys}
        """NumPy's name of the dtype, and the shape, by key."""

    def read(self, key: str) -> npt.NDArray[Any]:
        """One of the arrays; ValueError if it is not what was written."""
        array: npt.NDArray[Any] = np.asarray(self._handle.get_tensor(key))
        if _checksum(key, array) != self._checksums[key]:
            raise ValueError(f"{self.path} is damaged: the elements of {key} do not have their checksum")
        return array

    def _type(self, key: str) -> tuple[str, tuple[int, ...]]:
        found = self._handle.get_slice(key)
        code = found.get_dtype()
        if code not in DTYPES:
            raise ValueError(f"{self.path} is damaged: {key} has elements of type {code}")
        return DTYPES[code], tuple(found.get_shape())

    def _object(self, metadata: dict[str, str], name: str, kind: type) -> dict[str, Any]:
        import json

        try:
            found = json.loads(metadata[name])
        except (KeyError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not all(isinstance(value, kind) for value in found.values()):
            raise ValueError(f"{self.path} is damaged: its {name} cannot be read")
        return found


def _open(file: str) -> tuple[Any, dict[str, str]]:
    """A safetensors file and its metadata; ValueError if it is none, or not whole."""
    from safetensors import SafetensorError, safe_open

    with open(file, "rb"):  # for Python's errors
        pass
    try:
        handle: Any = safe_open(file, framework="np")
        return handle, handle.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged or no safetensors file: {error}") from None


def _instead(file: str) -> str:
    """What a user may have meant."""
    found = [path for _, path in saves(os.path.dirname(file) or ".") if path.startswith(file.removesuffix(SUFFIX))]
    return f"; there is {found[-1]}" if found else ""


# ---- what is there -------------------------------------------------------------------------------------------------


def saves(directory: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """When and under which path (without its ending) checkpoints were saved in a directory, the oldest first.

    Damaged ones are among them, by the time of the file, so that they are not passed over in silence.
    """
    folder = os.fspath(directory)
    found = []
    names = os.listdir(folder) if os.path.isdir(folder) else []
    for name in names:
        if not name.endswith(SUFFIX):
            continue
        path = os.path.join(folder, name)
        with suppress(OSError):  # another process may have removed it
            try:
                metadata = _open(path)[1]
            except ValueError:
                if _NUMBERED.search(name):
                    found.append((os.stat(path).st_mtime_ns, path.removesuffix(SUFFIX)))
                continue
            saved = metadata.get("saved", "")
            if metadata.get("format") == FORMAT and saved.isdecimal():
                found.append((int(saved), path.removesuffix(SUFFIX)))
    return sorted(found)


def latest_checkpoint(checkpoint_dir: str | os.PathLike[str]) -> str | None:
    """The path of what was saved last in a directory, by a `Checkpoint` or `CheckpointManager`; None if nothing was.

    The order is that of saving, which each file tells itself: it stays the same when files are copied or removed.
    What `Checkpoint.write` wrote does not count.

    >>> import numtape as nt, os, tempfile
    >>> directory = tempfile.mkdtemp()
    >>> checkpoint = nt.train.Checkpoint(v=nt.Variable(1.0))
    >>> for _ in range(10):
    ...     path = checkpoint.save(os.path.join(directory, "ckpt"))
    >>> os.path.basename(nt.train.latest_checkpoint(directory))
    'ckpt-10'
    """
    found = saves(checkpoint_dir)
    return found[-1][1] if found else None
