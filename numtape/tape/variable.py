"""`Variable`: a place for a value that changes; reading it gives a tensor."""

from __future__ import annotations

import itertools
import re
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape.dtypes import TensorType, as_dtype
from numtape.ir.op import REGISTRY, Kind, Op
from numtape.ops.core import PUBLIC
from numtape.ops.movement import stop
from numtape.ops.scatter import SCATTERS
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.operands import VARIABLES, as_tensor
from numtape.tape.pack import Pack
from numtape.tape.scope import SCOPE
from numtape.tape.tensor import EPOCH, Tensor, Typed, array_text, from_numpy, holds_tensors, to_array
from numtape.tape.tiers import ASSIGNED
from numtape.tape.trace import ASSIGNING, STATE, assign, note_look_at, record

_order = itertools.count()
_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
_IDENTITY, _ADD, _SUBTRACT = REGISTRY["stop_gradient"], REGISTRY["add"], REGISTRY["subtract"]

INITIAL = Op("nt.Variable", Kind.COMPOSITE, ("x",), expand=lambda values, _: stop(values[0]), groups=("T",))
"""What a Variable does to the tensor that it begins with."""
COPIED = "numtape.copied"
"""Where `copy.deepcopy` keeps whom to tell of Variables and their copies."""


class Variable(Typed):
    """State of a fixed shape and dtype.

    `initial_value` is a tensor, array, number, nested list or a function that returns one; its elements are copied.
    A trainable Variable is watched by every tape at its first read. Reading takes the value at that line, whatever is
    assigned later.

    >>> import numtape as nt
    >>> v = nt.Variable([1.0, 2.0], name="v")
    >>> v.assign_add([1.0, 1.0])
    <nt.Variable 'v:0' shape=(2,) dtype=float32, numpy=array([2., 3.], dtype=float32)>
    >>> (v * v).numpy()
    array([4., 9.], dtype=float32)
    >>> v[:1].assign([7.0]).numpy()
    array([7., 3.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_name", "_order", "_trainable", "_type", "_value")

    def __init__(
        self, initial_value: Any, trainable: bool | None = None, name: str | None = None, dtype: Any = None
    ) -> None:
        if callable(initial_value) and not isinstance(initial_value, Tensor | Variable):
            initial_value = initial_value()
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name for a Variable: letters, digits and _ . - / only")
        kind = None if dtype is None else as_dtype(dtype)
        if isinstance(initial_value, Tensor | Variable) or holds_tensors(initial_value):
            # Reading cuts the history; the elements stay shared until one of the two is assigned.
            value = record(INITIAL, [as_tensor(initial_value, kind)], (), 2)
            if kind is not None and value.dtype is not kind:
                raise ValueError(f"Variable: the tensor is {value.dtype.name}, and dtype {kind.name}; nt.cast it first")
        else:
            value = from_numpy(to_array(initial_value, kind))
        self._value: Tensor = value
        self._type: TensorType = value._type
        self._name = SCOPE.prefix + (name or "Variable")
        self._trainable = True if trainable is None else bool(trainable)
        self._order = next(_order)
        if STATE.trace.recorder is not None:
            STATE.trace.recorder.note_created(self)

    def __init_subclass__(cls) -> None:
        VARIABLES.add(cls)

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return f"{self._name}:0"

    @property
    def trainable(self) -> bool:
        return self._trainable

    # ---- reading ---------------------------------------------------------------------------------------------------

    def value(self) -> Tensor:
        """The value now, as a tensor that later assignments do not change."""
        return PUBLIC["identity"](self)  # type: ignore[no-any-return]

    read_value = value

    def numpy(self) -> npt.NDArray[Any]:
        """The value now, as a new NumPy array, or a NumPy scalar if the shape is ()."""
        return self._seen().numpy()

    def _seen(self) -> Tensor:
        """The value, for Python to look at; while a function is recorded, as a read that a replay does again."""
        note_look_at(self)
        return self._value if STATE.trace.recorder is None else self.value()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self._seen().__array__(dtype, copy)

    def item(self) -> Any:
        """The single element as a Python number."""
        return self._seen().item()

    def __float__(self) -> float:
        return float(self._seen())

    def __int__(self) -> int:
        return int(self._seen())

    def __index__(self) -> int:
        return self._seen().__index__()

    def __bool__(self) -> bool:
        return bool(self._seen())

    def __len__(self) -> int:
        return len(self._value)

    def __iter__(self) -> Any:
        return iter(self.value())

    def __getitem__(self, key: Any) -> Tensor:
        part = self.value()[key]
        part.assign = partial(self._assign_part, key)
        return part

    # ---- assigning -------------------------------------------------------------------------------------------------

    def assign(
        self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Variable:
        """Take a new value of the same shape; returns the Variable.

        Numbers, lists and arrays are converted to the Variable's dtype; a tensor must have it (TypeError). ValueError
        if the shape differs. Whatever is wrong, the Variable keeps its value.
        """
        if isinstance(value, Tensor | Variable) or holds_tensors(value):
            assign([self], _IDENTITY, [value], takes_old=False)
        else:
            fresh = from_numpy(to_array(value, self.dtype))
            self._check(fresh._type)
            recorder = STATE.trace.recorder
            if recorder is None:
                with ASSIGNING:
                    ASSIGNED[0] = True
                    EPOCH[0] += 1
                    self._value = fresh
            else:  # a replay has to assign it again
                recorder.note_array(fresh, value)
                assign([self], _IDENTITY, [fresh], takes_old=False)
        return self

    def assign_add(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Variable:
        """Add to the value; returns the Variable."""
        assign([self], _ADD, [], [self._operand(delta)])
        return self

    def assign_sub(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Variable:
        """Subtract from the value; returns the Variable."""
        assign([self], _SUBTRACT, [], [self._operand(delta)])
        return self

    def _assign_part(self, key: Any, value: Any) -> Variable:
        """What `v[key].assign(value)` does: only these elements are written, unless somebody holds the value before."""
        if not self.shape:
            return self.assign(PUBLIC["reshape"](as_tensor(value, self.dtype), ()))
        parts = tuple(np.asarray(k) if isinstance(k, Typed) else k for k in (key if type(key) is tuple else (key,)))
        places = [np.broadcast_to(axis, self.shape)[parts] for axis in np.indices(self.shape, sparse=True)]
        updates = PUBLIC["broadcast_to"](as_tensor(value, self.dtype), places[0].shape)
        return self.scatter_nd_update(np.stack(places, -1), updates)

    # ---- assigning rows --------------------------------------------------------------------------------------------

    def sparse_read(self, indices: Any, name: str | None = None) -> Tensor:
        """Rows at indices: `nt.gather` along the first axis."""
        return PUBLIC["gather"](self, indices, axis=0)  # type: ignore[no-any-return]

    def gather_nd(self, indices: Any, name: str | None = None) -> Tensor:
        """Slices at index vectors: `nt.gather_nd`."""
        return PUBLIC["gather_nd"](self, indices)  # type: ignore[no-any-return]

    def _scatter(self, name: str, slices: Any) -> Variable:
        if not isinstance(slices, IndexedSlices):
            raise TypeError(f"{self.name}: {name} takes nt.IndexedSlices(values, indices), not {type(slices).__name__}")
        assign([self], SCATTERS[name], [], [slices.indices, slices.values])
        return self

    def scatter_update(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Variable:
        """Replace rows by those of indexed slices, whose dense shape is of no account; returns the Variable.

        Takes values of shape `indices.shape + v.shape[1:]`, or a single number for all, of the Variable's dtype
        (TypeError, or ValueError for another shape); of several for one row the last counts. An index out of range
        writes nothing. Only these rows are written, unless somebody holds the value before. No gradient flows to the
        values. All this holds for the other methods as well.

        >>> import numtape as nt
        >>> v = nt.Variable([[1.0, 2.0], [3.0, 4.0]])
        >>> v.scatter_update(nt.IndexedSlices([[5.0, 6.0]], [1])).numpy()
        array([[1., 2.],
               [5., 6.]], dtype=float32)
        """
        return self._scatter("scatter_update", sparse_delta)

    def scatter_add(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Variable:
        """Add to rows; those of one index add up. As `scatter_update`."""
        return self._scatter("scatter_add", sparse_delta)

    def scatter_sub(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Variable:
        """Subtract from rows. As `scatter_update`."""
        return self._scatter("scatter_sub", sparse_delta)

    def scatter_mul(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Variable:
        """Multiply rows, once for each value. As `scatter_update`."""
        return self._scatter("scatter_mul", sparse_delta)

    def scatter_div(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Variable:
        """Divide rows of floats, once for each value. As `scatter_update`."""
        return self._scatter("scatter_div", sparse_delta)

    def scatter_max(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Variable:
        """Take the larger of each element and the values for it. As `scatter_update`."""
        return self._scatter("scatter_max", sparse_delta)

    def scatter_min(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Variable:
        """Take the smaller of each element and the values for it. As `scatter_update`."""
        return self._scatter("scatter_min", sparse_delta)

    def scatter_nd_update(self, indices: Any, updates: Any, name: str | None = None) -> Variable:
        """Replace slices at index vectors, as `nt.tensor_scatter_nd_update` does; returns the Variable.

        >>> import numtape as nt
        >>> nt.Variable([1.0, 2.0, 3.0]).scatter_nd_update([[0], [2]], [5.0, 6.0]).numpy()
        array([5., 2., 6.], dtype=float32)
        """
        assign([self], SCATTERS["scatter_nd_update"], [], [indices, updates])
        return self

    def scatter_nd_add(self, indices: Any, updates: Any, name: str | None = None) -> Variable:
        """Add to slices at index vectors, as `nt.tensor_scatter_nd_add` does."""
        assign([self], SCATTERS["scatter_nd_add"], [], [indices, updates])
        return self

    def scatter_nd_sub(self, indices: Any, updates: Any, name: str | None = None) -> Variable:
        """Subtract from slices at index vectors, as `nt.tensor_scatter_nd_sub` does."""
        assign([self], SCATTERS["scatter_nd_sub"], [], [indices, updates])
        return self

    def scatter_nd_max(self, indices: Any, updates: Any, name: str | None = None) -> Variable:
        """Take the larger of each element and the updates for it. As `scatter_nd_update`."""
        assign([self], SCATTERS["scatter_nd_max"], [], [indices, updates])
        return self

    def scatter_nd_min(self, indices: Any, updates: Any, name: str | None = None) -> Variable:
        """Take the smaller of each element and the updates for it. As `scatter_nd_update`."""
        assign([self], SCATTERS["scatter_nd_min"], [], [indices, updates])
        return self

    # ---- what an assignment takes ----------------------------------------------------------------------------------

    def _operand(self, delta: Any) -> Any:
        if not isinstance(delta, Tensor | Variable | bool | int | float):
            delta = as_tensor(delta, self.dtype)
        shape = getattr(delta, "shape", ())
        if shape != self._type.shape:
            raise ValueError(
                f"cannot add a value of shape {shape} to {self.name}, whose shape is {self.shape}; write "
                "v.assign(v + value) for one that is to be repeated"
            )
        return delta

    def _check(self, type: TensorType) -> None:
        """Raise unless a value of this type can be assigned."""
        if type is self._type:
            return
        if type.shape != self.shape:
            raise ValueError(f"cannot assign a value of shape {type.shape} to {self.name}, whose shape is {self.shape}")
        raise TypeError(
            f"cannot assign a tensor of {type.dtype.name} to {self.name}, which is {self.dtype.name}; "
            f"write nt.cast(value, nt.{self.dtype.name})"
        )

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(f"{self.name} does not support item assignment; write v[...].assign(...), or v.assign(...)")

    def _refuse(self, other: Any) -> Any:
        raise RuntimeError(
            f"{self.name} is not changed by operators such as +=; write v.assign_add(...), v.assign_sub(...) or "
            "v.assign(...), or v = v + ... for a tensor"
        )

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __imod__ = __ipow__ = __imatmul__ = _refuse

    def __deepcopy__(self, memo: Any) -> Variable:
        twin = memo[id(self)] = _twin(self.numpy(), self._trainable, self._name)
        for tell in memo.get(COPIED, ()):
            tell(self, twin)
        return twin

    def __reduce__(self) -> Any:
        return _twin, (self.numpy(), self._trainable, self._name)

    def __repr__(self) -> str:
        text = array_text(self.numpy())
        return f"<nt.Variable '{self.name}' shape={self.shape} dtype={self.dtype.name}, numpy={text}>"


VARIABLES.add(Variable)


def _twin(value: Any, trainable: bool, name: str) -> Variable:
    """A Variable of this very name, whatever scope it is copied in."""
    variable = Variable(value, trainable)
    variable._name = name
    return variable


class PackedVariable(Variable):
    """A Variable whose value is one of a pack's; nothing else differs."""

    __slots__ = ("_number", "_pack")

    def __init__(self, pack: Pack, initial_value: Any, name: str) -> None:
        self._pack = pack
        self._number = -1
        super().__init__(initial_value, trainable=False, name=name)

    @property
    def _value(self) -> Tensor:
        return self._pack.value(self._number)

    @_value.setter
    def _value(self, value: Tensor) -> None:
        if self._number < 0:
            self._number = self._pack.add(value)
        else:
            self._pack.replace(self._number, value)
