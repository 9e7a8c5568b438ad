"""`function`: the decorator, what it makes, and which recording a call belongs to."""

from __future__ import annotations

import functools
import inspect
import linecache
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from numtape import nest
from numtape.functions.bound import BoundFunction
from numtape.functions.direct import Direct
from numtape.functions.recording import Argument, Look, Recorder, Segment
from numtape.functions.replay import Replay
from numtape.tape.explain import line_of
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.operands import as_tensor
from numtape.tape.spec import TensorSpec
from numtape.tape.tensor import Tensor, buffer_of, from_numpy
from numtape.tape.trace import STATE
from numtape.tape.variable import Variable

MAX_VARIANTS = 64
"""So many ways through a function are kept for a signature; with more, it runs as plain Python."""


def function(
    func: Any = None,
    input_signature: Any = None,
    autograph: bool = True,
    jit_compile: bool | None = None,
    reduce_retracing: bool = False,
) -> Any:
    """Record a function once for each signature; further calls replay the recording, without its Python.

    A signature is the nesting of the arguments, the dtypes and shapes of tensors and arrays, the identity of Variables
    and other objects, and the value of everything else: another Python number is recorded again, and compiles nothing.
    What the function does besides tensors (print, append, count) happens while it is recorded, and so does reading
    globals, attributes and closures; but Variables are read and assigned at each call, arrays that it captures are
    taken as they are by then, and random numbers are drawn anew.

    Python may look at values: `if`, `while`, `float()`, `.numpy()` work as written. What was seen decides how the
    replay goes on; where something new is seen, the function is recorded again, up to 64 ways for a signature. Beyond
    that a warning names the line, and the function runs as plain Python.

    With `input_signature`, a list of `nt.TensorSpec`, arguments become tensors, and another shape or dtype is a
    TypeError. `autograph`, `jit_compile` and `reduce_retracing` are there for TensorFlow's sake and change nothing.

    ValueError if Variables are created at a call that is not the first.

    >>> import numtape as nt
    >>> v = nt.Variable(1.0)
    >>> @nt.function
    ... def step(x):
    ...     print("recording")
    ...     if nt.reduce_sum(x) > 0:
    ...         v.assign_add(nt.reduce_sum(x))
    ...     return v * 2.0
    >>> float(step(nt.constant([1.0, 2.0])))
    recording
    8.0
    >>> float(step(nt.constant([3.0, 4.0])))
    22.0
    """
    if func is None:
        return functools.partial(function, input_signature=input_signature)
    return Function(func, input_signature)


class Function:
    """A function that is recorded once for each signature; made by `nt.function`."""

    def __init__(self, python_function: Callable[..., Any], input_signature: Any = None) -> None:
        functools.update_wrapper(self, python_function)
        self.__name__: str = getattr(python_function, "__name__", "function")
        self._python_function = python_function
        self._input_signature = None if input_signature is None else tuple(input_signature)
        self._recordings: dict[Any, Recording] = {}
        self._bound: weakref.WeakKeyDictionary[Any, Function] = weakref.WeakKeyDictionary()
        self._lock = threading.RLock()

    @property
    def python_function(self) -> Callable[..., Any]:
        """The function as it was written."""
        return self._python_function

    @property
    def input_signature(self) -> Any:
        return self._input_signature

    def experimental_get_tracing_count(self) -> int:
        """How often the function was recorded."""
        return sum(recording.count for recording in self._recordings.values())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._input_signature is not None:
            args, kwargs = self._conform(args, kwargs), {}
        key, tensors = signature(args, kwargs)
        recording = self._recordings.get(key) or self._begin(key, (args, kwargs))
        return recording.run(args, kwargs, tensors)

    def _begin(self, key: Any, arguments: Any) -> Recording:
        with self._lock:
            first = not self._recordings
            return self._recordings.setdefault(key, Recording(self._python_function, self._lock, arguments, first))

    def get_concrete_function(self, *args: Any, **kwargs: Any) -> ConcreteFunction:
        """The function for arguments of these kinds alone; tensors may be given as `nt.TensorSpec`.

        It is called with tensors that fit, and with the same Python values (TypeError for others). Where all lengths
        are known, the function is recorded at once.

        >>> import numtape as nt
        >>> square = nt.function(lambda x: x * x).get_concrete_function(nt.TensorSpec([2]))
        >>> square(nt.constant([1.0, 3.0])).numpy()
        array([1., 9.], dtype=float32)
        """
        if self._input_signature is not None and not args and not kwargs:
            args = self._input_signature
        specs = nest.map_structure(_spec, (args, kwargs))
        shapes = [leaf.shape for leaf in nest.flatten(specs) if isinstance(leaf, TensorSpec)]
        if all(shape is not None and None not in shape for shape in shapes):
            arguments = nest.map_structure(_example, specs)
            key, tensors = signature(*arguments)
            recording = self._recordings.get(key) or self._begin(key, arguments)
            with self._lock:
                if not recording.count:
                    recording.record(arguments, tensors)
        return ConcreteFunction(self, *specs)

    def bind(self, *arrays: Any) -> BoundFunction:
        """The function bound to arrays, for calls that cost next to nothing: each is a single native call.

        The arrays are read where they are, as they are at each call; write into them for another batch. They have to be
        contiguous, and of the dtypes that the function is to see (ValueError). Variables are changed in place. The
        results are arrays that stay where they are, too. ValueError for a function in which Python looks at values, or
        which assigns a Variable something of which the old value is no part.

        >>> import numtape as nt
        >>> v = nt.Variable([0.0, 0.0])
        >>> x = np.array([1.0, 2.0], np.float32)
        >>> @nt.function
        ... def step(x):
        ...     v.assign_add(x)
        ...     return nt.reduce_sum(v)
        >>> bound = step.bind(x)
        >>> total = bound()
        >>> x[0] = 5.0
        >>> bound() is total, total, v.numpy()
        (True, array(10., dtype=float32), array([6., 4.], dtype=float32))
        """
        for x in arrays:
            if not (isinstance(x, np.ndarray) and x.flags.c_contiguous and x.dtype.isnative):
                raise ValueError(f"{self.__name__}: bind takes contiguous arrays, not {type(x).__name__} {x!r:.60}")
        key, tensors = signature(arrays, {})
        recording = self._recordings.get(key) or self._begin(key, (arrays, {}))
        return BoundFunction(recording.direct((arrays, {}), tensors), self.__name__, arrays, tensors)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        bound = self._bound.get(instance)
        if bound is None:
            reference = weakref.ref(instance)
            plain = self._python_function

            @functools.wraps(plain)
            def method(*args: Any, **kwargs: Any) -> Any:
                return plain(reference(), *args, **kwargs)

            bound = self._bound[instance] = Function(method, self._input_signature)
        return bound

    def _conform(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments as tensors of the input signature."""
        if kwargs:
            args = inspect.signature(self._python_function).bind(*args, **kwargs).args
        specs = self._input_signature
        assert specs is not None
        if len(args) != len(specs):
            raise TypeError(f"{self.__name__} takes {len(specs)} arguments by its input_signature, got {len(args)}")
        leaves, flat = nest.flatten(args), nest.flatten(specs)
        nest.assert_same_structure(args, specs)
        tensors = []
        for x, spec in zip(leaves, flat, strict=True):
            tensor = x if isinstance(x, Tensor | Variable) else as_tensor(x, spec.dtype)
            if not spec.is_compatible_with(tensor):
                raise TypeError(
                    f"{self.__name__}: an argument of shape {tensor.shape} and dtype {tensor.dtype.name} does not fit "
                    f"{spec} of the input_signature"
                )
            tensors.append(tensor)
        return nest.pack_sequence_as(args, tensors)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<nt.function {self.__name__}: {len(self._recordings)} signatures recorded>"


class ConcreteFunction:
    """A function for arguments of known kinds; made by `Function.get_concrete_function`."""

    def __init__(self, owner: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._owner = owner
        self._specs = args, kwargs

    @property
    def structured_input_signature(self) -> Any:
        """The specs of the tensors, and the Python values, in the nesting of the arguments."""
        return self._specs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        nest.assert_same_structure(self._specs, (args, kwargs))
        for spec, x in zip(nest.flatten(self._specs), nest.flatten((args, kwargs)), strict=True):
            fits = x is spec or (type(x) is type(spec) and x == spec)
            if isinstance(spec, TensorSpec):
                fits = isinstance(x, Tensor | Variable | np.ndarray) and spec.is_compatible_with(x)
            if not fits:
                raise TypeError(f"{self._owner.__name__} was made concrete for {spec!r}, and got {x!r:.80}")
        return self._owner(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<nt.function {self._owner.__name__} for {self._specs}>"


class Recording:
    """What was recorded of a function for one signature: a tree of segments."""

    def __init__(self, function: Callable[..., Any], lock: Any, arguments: Any, creates: bool) -> None:
        self._function = function
        self._lock = lock
        self._kept = nest.map_structure(lambda x: None if _is_tensor(x) else x, arguments)
        """Objects that the signature knows by their identity."""
        self._creates = creates
        self._root: Segment | None = None
        self._direct: Direct | None = None
        """For a function in which nothing is looked at."""
        self.count = 0
        """How often it was recorded."""
        self._plain = False
        """Whether there are too many ways through it."""
        self._has_rules = False
        """Whether gradients lead through rules in Python, which see values of their own call alone."""

    def run(self, args: Any, kwargs: Any, tensors: Sequence[Any]) -> Any:
        """Call the function with arguments whose tensors are these."""
        if self._direct is not None and not STATE.tapes:
            return self._direct(tensors)
        while not (self._plain or (self._has_rules and STATE.tapes)):
            if self._root is not None:
                replay = Replay(tensors)
                missing, found = replay.run(self._root)
                if missing is None:
                    return found
                replay.undo()
            with self._lock:
                self.record((args, kwargs), tensors)
        args, kwargs = _filled((args, kwargs), tensors)
        return self._function(*args, **kwargs)

    def direct(self, arguments: Any, tensors: Sequence[Any]) -> Direct:
        """The function as one program; ValueError if it is not."""
        with self._lock:
            if self._root is None:
                self.record(arguments, tensors)
        if self._direct is None:
            look = self._root.look if self._root else None
            place = "{}:{}".format(*line_of(look.code, look.lasti)) if look else "somewhere"
            raise ValueError(f"{self._function.__name__}: cannot be bound, since Python looks at a value at {place}")
        if not self._direct.in_place:
            name = self._function.__name__
            raise ValueError(f"{name}: cannot be bound, since a Variable's new value has no part of the old one")
        return self._direct

    def record(self, arguments: Any, tensors: Sequence[Any]) -> None:
        """Record the way that the function goes with these arguments."""
        # Handles of their own, so that the function's tensors are told apart from those it captures.
        own = [Tensor(t._type, buffer_of(t)) for t in map(_tensor, tensors)]
        args, kwargs = _filled(arguments, own)
        creates, self._creates = self._creates, False
        recorder = Recorder(creates)
        segments = recorder.rehearse(lambda: self._function(*args, **kwargs), own)
        self.count += 1
        if recorder.created:
            recorder = Recorder(False)
            segments = recorder.rehearse(lambda: self._function(*args, **kwargs), own)
        self._has_rules = self._has_rules or bool(recorder._detours)
        self._keep(segments)
        self._direct = Direct(recorder.trace.node, segments[0]) if len(segments) == 1 else None

    def _keep(self, segments: Sequence[Segment]) -> None:
        """Put the segments of one way into the tree."""
        for segment, following in pairwise(segments):
            segment.following[segment.look.seen] = following  # type: ignore[union-attr]
        at = self._root
        for segment in segments:
            if at is None or not alike(at, segment):
                self._root = segments[0]  # its Python goes another way than it did
                return
            look = segment.look
            if look is None:
                return
            if look.seen not in at.following:
                at.following[look.seen] = segment.following[look.seen]
                self._count_ways(look)
                return
            at = at.following[look.seen]

    def _count_ways(self, look: Look) -> None:
        if self._root is not None and ways(self._root) > MAX_VARIANTS:
            self._plain = True
            filename, line = line_of(look.code, look.lasti)
            text = linecache.getline(filename, line).strip()
            warnings.warn(
                f"nt.function: {self._function.__name__} went more than {MAX_VARIANTS} ways, as values decided at "
                f"{filename}:{line} ({text}); from here on it runs as plain Python",
                stacklevel=5,
            )


def ways(segment: Segment) -> int:
    """How many ways lead through a tree."""
    count, open_ = 0, [segment]
    while open_:
        segment = open_.pop()
        open_ += segment.following.values()
        count += not segment.following
    return count


def alike(a: Segment, b: Segment) -> bool:
    """Whether two segments were recorded by the same Python; numbers may differ, and are those of the first."""
    return bool(
        a.instructions == b.instructions
        and len(a.sources) == len(b.sources)
        and all(m == n and _same_source(x, y) for (m, x), (n, y) in zip(a.sources, b.sources, strict=True))
        and [(v, slot) for v, slot, _ in a.assigned] == [(v, slot) for v, slot, _ in b.assigned]
        and (a.look and (a.look.slot, a.look.view)) == (b.look and (b.look.slot, b.look.view))
    )


def _same_source(x: Any, y: Any) -> bool:
    if x is y:
        return True
    if type(x) is not type(y) or isinstance(x, Variable):
        return False
    if isinstance(x, Argument):
        return bool(x.number == y.number)
    a, b = np.asarray(x), np.asarray(y)
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


# ---- signatures --------------------------------------------------------------------------------------------------


def signature(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, list[Any]]:
    """What tells calls apart that are recorded apart, and the tensors among the arguments."""
    key: list[Any] = []
    tensors: list[Any] = []
    for x in args:
        kind = type(x)
        if kind is Tensor:
            key.append(x._type)
            tensors.append(x)
        elif kind is np.ndarray:
            tensor = from_numpy(x)
            key.append(tensor._type)
            tensors.append(tensor)
        else:
            _describe(x, key, tensors)
    for name in sorted(kwargs) if kwargs else ():
        key += ("keyword", name)
        _describe(kwargs[name], key, tensors)
    return tuple(key), tensors


def _describe(x: Any, key: list[Any], tensors: list[Any]) -> None:
    kind = type(x)
    if kind is float:
        key += (float, x.hex())
    elif x is None or kind in _VALUES:
        key += (kind, x)
    elif _is_tensor(x):
        tensor = as_tensor(x)
        key.append(tensor._type)
        tensors.append(tensor)
    elif isinstance(x, Mapping):
        names = sorted(x)
        key += (kind, len(x), *names)
        for name in names:
            _describe(x[name], key, tensors)
    elif nest.is_nested(x):
        key += (kind, len(x))
        for item in x:
            _describe(item, key, tensors)
    else:
        key += ("object", id(x))


_VALUES = frozenset({bool, int, str, bytes, complex, type(...)})


def _is_tensor(x: Any) -> bool:
    """Whether an argument is a tensor for the function; Variables stay what they are."""
    return isinstance(x, Tensor | IndexedSlices | np.ndarray | np.generic)


def _tensor(x: Any) -> Tensor:
    return x if type(x) is Tensor else as_tensor(x)


def _filled(arguments: Any, tensors: Sequence[Any]) -> Any:
    """The arguments with other tensors in the places of theirs."""
    given = iter(tensors)
    return nest.map_structure(lambda x: next(given) if _is_tensor(x) else x, arguments)


def _example(x: Any) -> Any:
    """A tensor of the kind that a spec describes."""
    return as_tensor(np.zeros(x.shape, x.dtype.dtype)) if isinstance(x, TensorSpec) else x


def _spec(x: Any) -> Any:
    return TensorSpec.from_tensor(x) if isinstance(x, Tensor | np.ndarray) else x
