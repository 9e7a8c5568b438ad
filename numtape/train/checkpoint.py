"""`Checkpoint`: objects whose state is written to a file and read from it, by the names under which they are found."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape.keras.optimizers import Optimizer
from numtape.module import Module
from numtape.tape.tensor import Tensor, buffer_of
from numtape.tape.tiers import ASSIGNED
from numtape.tape.variable import PackedVariable, Variable
from numtape.train.files import DTYPES, SUFFIX, CheckpointFile, file_of, write_file
from numtape.train.restoration import Restoration, is_group, join, survey

_COUNTER = "save_counter"


class Checkpoint:
    """Objects whose Variables are saved and restored together.

    `root` and those given by name are Modules, layers, models, optimizers, Variables, `nt.train.RandomState()`,
    iterators of datasets, and lists and dicts of such. A value is found again by its path, such as
    `model/layers/0/kernel`, whatever the Variable is called. A value without a Variable waits, until a Variable is
    attached at its place: a layer may be restored before it is built. What is attached to a list waits for the next
    thing that is attached to its Module, or for one of the `assert_` methods.

    Numbers are refused (ValueError), since their changes would not be seen; hold them in an `nt.Variable`.

    >>> import numtape as nt, os, tempfile
    >>> prefix = os.path.join(tempfile.mkdtemp(), "ckpt")
    >>> v, step = nt.Variable([1.0, 2.0]), nt.Variable(7)
    >>> path = nt.train.Checkpoint(v=v, step=step).save(prefix)
    >>> os.path.basename(path)
    'ckpt-1'
    >>> w, n = nt.Variable([0.0, 0.0]), nt.Variable(0)
    >>> _ = nt.train.Checkpoint(v=w, step=n).restore(path).assert_consumed()
    >>> w.numpy(), n.numpy()
    (array([1., 2.], dtype=float32), np.int32(7))
    """

    __slots__ = ("__weakref__", "_awaiting", "_objects", "_root", "_save_counter")

    _awaiting: Restoration | None
    _objects: dict[str, Any]
    _root: Any
    _save_counter: Variable

    def __init__(self, root: Any = None, **kwargs: Any) -> None:
        if root is not None and (isinstance(root, Variable) or is_group(root) or not _is_stateful(root)):
            raise ValueError(f"Checkpoint: the root is a Module or the like, not {_describe(root)}; give it a name")
        set_own = object.__setattr__
        set_own(self, "_awaiting", None)
        set_own(self, "_objects", {})
        set_own(self, "_root", root)
        set_own(self, "_save_counter", Variable(np.int64(0), trainable=False, name=_COUNTER))
        for name, value in kwargs.items():
            setattr(self, name, value)
        survey(self._roots())  # raises if two objects have one path

    @property
    def save_counter(self) -> Variable:
        """How often `save` was called, as an int64 Variable, which is saved and restored, too."""
        return self._save_counter

    def __getattr__(self, name: str) -> Any:
        try:
            return object.__getattribute__(self, "_objects")[name]
        except KeyError:
            raise AttributeError(f"this Checkpoint has no {name!r}; it has {', '.join(self._objects)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name):
            raise AttributeError(f"{name!r} is a Checkpoint's own; choose another name")
        if not _is_stateful(value):
            raise ValueError(f"Checkpoint: {name} is {_describe(value)}, which has no state to save and restore")
        self._objects[name] = value
        if self._awaiting is not None:
            self._awaiting.resolve(self._awaiting.roots)

    # ---- writing ---------------------------------------------------------------------------------------------------

    def save(self, file_prefix: str | os.PathLike[str]) -> str:
        """Write to `file_prefix`-N.safetensors, where N counts the calls; returns the path without its ending.

        Folders are made. The file is on the disk, whole, when this returns; a crash or an error (OSError) leaves no
        part of it, and what stood there before stays. `nt.train.latest_checkpoint` finds what was saved last.
        """
        return self._save(os.fspath(file_prefix), None)

    def write(self, file_prefix: str | os.PathLike[str]) -> str:
        """Write to `file_prefix`.safetensors, without a number and without the counter; returns `file_prefix`."""
        file = file_of(file_prefix)
        self._write(file, counted=False)
        return file.removesuffix(SUFFIX)

    def _save(self, prefix: str, number: int | None) -> str:
        before = self.save_counter.numpy()
        count = int(before) + 1
        path = f"{prefix}-{count if number is None else number}"
        self.save_counter.assign(np.int64(count))
        try:
            self._write(path + SUFFIX, counted=True)
        except BaseException:
            self.save_counter.assign(before)
            raise
        return path

    def _write(self, file: str, counted: bool) -> None:
        ASSIGNED[0] = True  # a run that goes on from here computes what this one does
        found = survey(self._roots(counted))
        if found.strays:
            node, variable, _ = found.strays[0]
            raise ValueError(
                f"Checkpoint: {node or 'the optimizer'} keeps state for {variable.name}, which is not in the "
                "checkpoint itself; add what holds it, as in Checkpoint(model=model, optimizer=optimizer)"
            )
        for leaf in found.leaves.values():
            if isinstance(leaf, PackedVariable):
                leaf._pack.wait()  # else each slot would become one more result of what is pending
        # The tensors live until the end: what they hold is not written to by others meanwhile.
        tensors = {key: leaf._value for key, leaf in found.leaves.items() if isinstance(leaf, Variable)}
        arrays = {key: buffer_of(tensor).array.reshape(tensor.shape) for key, tensor in tensors.items()}
        for at, leaf in found.leaves.items():
            if is_group(leaf):
                for name, array in leaf._checkpoint_state().items():
                    arrays[join(at, name)] = _plain(array)
        write_file(file, arrays, found.aliases, numbered=counted)

    # ---- reading ---------------------------------------------------------------------------------------------------

    def restore(self, save_path: str | os.PathLike[str] | None) -> RestoreStatus:
        """Read what `save` wrote, the counter included; nothing if the path is None.

        FileNotFoundError if there is no such file, ValueError if it is damaged, of another kind or of a later version,
        or if a Variable has another shape; TypeError if it has another dtype. After an error every Variable has the
        value that it had before. The result tells whether all was found; look at it where this matters.
        """
        return RestoreStatus(self, None if save_path is None else self._restore(save_path, counted=True))

    def read(self, save_path: str | os.PathLike[str] | None) -> RestoreStatus:
        """Read what `write` or `save` wrote, and leave the counter alone; else like `restore`."""
        return RestoreStatus(self, None if save_path is None else self._restore(save_path, counted=False))

    def _restore(self, path: str | os.PathLike[str], counted: bool) -> Restoration:
        ignored = frozenset() if counted else frozenset({_COUNTER})
        restoration = Restoration(CheckpointFile(path), self._roots(counted), ignored)
        restoration.resolve(restoration.roots)
        object.__setattr__(self, "_awaiting", restoration if restoration.left else None)
        return restoration

    def _roots(self, counted: bool = False) -> list[Any]:
        """What stands at the top of the paths."""
        own = [self._objects] if self._root is None else [self._objects, self._root]
        return [*own, {_COUNTER: self._save_counter}] if counted else own

    def __repr__(self) -> str:
        return f"<nt.train.Checkpoint of {', '.join([*self._objects, *([] if self._root is None else ['a root'])])}>"


class RestoreStatus:
    """What came of reading a checkpoint. Its methods return itself, or raise AssertionError."""

    def __init__(self, checkpoint: Checkpoint, restoration: Restoration | None) -> None:
        self._checkpoint = checkpoint
        self._restoration = restoration

    def assert_consumed(self) -> RestoreStatus:
        """Every value of the file has found its place, and every object its value."""
        self.assert_existing_objects_matched()
        restoration = self._found()
        if missed := restoration.left | restoration.lost:
            raise AssertionError(f"{restoration.path}: nothing was found to take {_some(missed)}")
        return self

    def assert_existing_objects_matched(self) -> RestoreStatus:
        """Every Variable that there is by now has taken a value; values may be left for those to come."""
        restoration = self._found()
        restoration.resolve(restoration.roots)
        found = survey(self._checkpoint._roots())
        missed = [key for key, leaf in found.leaves.items() if id(leaf) not in restoration.bound]
        missed += [slot.name for _, _, slot in found.strays]
        if missed:
            raise AssertionError(f"{restoration.path}: it has no values for {_some(missed)}")
        return self

    def expect_partial(self) -> RestoreStatus:
        """Say that values may be left over; they are never complained about unless asked for."""
        return self

    def __repr__(self) -> str:
        r = self._restoration
        if r is None:
            return "<RestoreStatus: nothing was restored>"
        return f"<RestoreStatus of {r.path}: restored {len(r.bound)}, waiting {len(r.left)}, unused {len(r.lost)}>"

    def _found(self) -> Restoration:
        if self._restoration is None:
            raise AssertionError("nothing was restored: the path of the checkpoint was None")
        return self._restoration


def _is_stateful(value: Any) -> bool:
    return isinstance(value, Variable | Module | Optimizer | list | tuple | dict) or is_group(value)


def _describe(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, bool | int | float | np.generic | np.ndarray | Tensor):
        return f"the {kind} {value!r:.40}; hold it in a Variable: nt.Variable({value!r:.40})"
    return f"of type {kind}"


def _plain(array: Any) -> npt.NDArray[Any]:
    """An array as it is written: in one piece, the machine's byte order."""
    found = np.asarray(array)
    if found.dtype.name not in DTYPES.values():
        raise TypeError(f"Checkpoint: arrays of {found.dtype} cannot be saved")
    return np.asarray(found, found.dtype.newbyteorder("="), order="C")


def _some(keys: Any) -> str:
    """A few of some keys."""
    names = sorted(keys)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
