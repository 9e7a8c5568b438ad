"""`CheckpointManager`: the newest checkpoints of a directory. All that it knows, it reads there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numtape.train.checkpoint import Checkpoint
from numtape.train.files import SUFFIX, saves


class CheckpointManager:
    """Saves a checkpoint again and again, and keeps the newest `max_to_keep` files (None: all).

    The files are `directory`/`checkpoint_name`-N.safetensors. With `keep_checkpoint_every_n_hours` the oldest stays,
    too, and then each that was saved at least so long after the one that stays before it. `init_fn` is what
    `restore_or_initialize` calls where there is nothing to restore. A new manager goes on where the last one ended.

    >>> import numtape as nt, os, tempfile
    >>> checkpoint = nt.train.Checkpoint(v=nt.Variable(1.0))
    >>> manager = nt.train.CheckpointManager(checkpoint, tempfile.mkdtemp(), max_to_keep=2)
    >>> for _ in range(4):
    ...     path = manager.save()
    >>> [os.path.basename(path) for path in manager.checkpoints]
    ['ckpt-3', 'ckpt-4']
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        directory: str | os.PathLike[str],
        max_to_keep: int | None,
        keep_checkpoint_every_n_hours: float | None = None,
        checkpoint_name: str = "ckpt",
        init_fn: Callable[[], Any] | None = None,
    ) -> None:
        if max_to_keep is not None and max_to_keep < 1:
            raise ValueError(f"CheckpointManager: max_to_keep is a positive integer or None, got {max_to_keep}")
        self.checkpoint = checkpoint
        self.directory = os.fspath(directory)
        self._max_to_keep = max_to_keep
        self._hours = keep_checkpoint_every_n_hours
        self._name = checkpoint_name
        self._init_fn = init_fn

    @property
    def checkpoints(self) -> list[str]:
        """The paths of what is there, in the order of saving."""
        return [path for _, path in self._saves()]

    @property
    def latest_checkpoint(self) -> str | None:
        """The path of what was saved last, None if nothing is there."""
        return next(reversed(self.checkpoints), None)

    def save(self, checkpoint_number: Any = None) -> str:
        """Save under the next number, or the one that is given, and remove what is too old; returns the path."""
        number = None if checkpoint_number is None else int(checkpoint_number)
        path = self.checkpoint._save(os.path.join(self.directory, self._name), number)
        for old in self._too_old():
            with suppress(OSError):  # it is tried again after the next save
                os.remove(old + SUFFIX)
        return path

    def restore_or_initialize(self) -> str | None:
        """Restore what was saved last and return its path; where nothing is there, call `init_fn` and return None."""
        path = self.latest_checkpoint
        if path is not None:
            self.checkpoint.restore(path)
        elif self._init_fn is not None:
            self._init_fn()
        return path

    def _saves(self) -> list[tuple[int, str]]:
        name = re.compile(re.escape(self._name) + r"-\d+")
        return [(saved, path) for saved, path in saves(self.directory) if name.fullmatch(os.path.basename(path))]

    def _too_old(self) -> list[str]:
        if self._max_to_keep is None:
            return []
        found = []
        kept = -float("inf")
        for saved, path in self._saves()[: -self._max_to_keep]:
            if self._hours is not None and saved - kept >= self._hours * 3600e9:
                kept = saved
            else:
                found.append(path)
        return found
