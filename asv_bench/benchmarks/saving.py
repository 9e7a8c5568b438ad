"""A checkpoint of a network of 235,146 weights and their Adam, 2.8 MB: written to a file, and read from it."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numtape as nt

from .steps import step_of


@cache
def folder():
    return tempfile.TemporaryDirectory()


@cache
def saved():
    """A checkpoint, and where it has been written."""
    step = step_of("mlp")
    step()
    checkpoint = nt.train.Checkpoint(variables=step.variables, optimizer=step.optimizer)
    return checkpoint, checkpoint.write(Path(folder().name, "mlp"))


def time_save():
    checkpoint, path = saved()
    checkpoint.write(path)


def time_restore():
    checkpoint, path = saved()
    checkpoint.restore(path).assert_consumed()


time_save.number = time_restore.number = 2
