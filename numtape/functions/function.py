"""`function`: the decorator, what it makes, and which recording a call belongs to."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from numtape import nest
from numtape.config import Settings
from numtape.dtypes import as_dtype, float64, tensor_type
from numtape.functions.bound import BoundFunction
from numtape.functions.derivatives import values
from numtape.functions.direct import Direct
from numtape.functions.minimize import Objective
from numtape.functions.signature import Identity, signature
from numtape.functions.ways import Tally, Ways
from numtape.tape.convert import convert_to_tensor
from numtape.tape.operands import as_tensor
from numtape.tape.spec import TensorSpec
from numtape.tape.tensor import Tensor
from numtape.tape.variable import Variable

if TYPE_CHECKING:
    from numtape.functions.nopython import NopythonFunction


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
        functools.update_wrapper(self, python_function, updated=())
        self.__name__: str = getattr(python_function, "__name__", "function")
        self._python_function = python_function
        self._input_signature = None if input_signature is None else tuple(input_signature)
        self._recordings: dict[Any, Ways] = {}
        self._methods: dict[int, tuple[Any, Function]] = {}
        """For each instance, by its identity: a weak reference, and the function that is recorded for it."""
        self._tally = Tally()

    @property
    def python_function(self) -> Callable[..., Any]:
        """The function as it was written."""
        return self._python_function

    @property
    def input_signature(self) -> Any:
        return self._input_signature

    def experimental_get_tracing_count(self) -> int:
        """How often the function was recorded."""
        return self._tally.count

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if Settings.run_eagerly:
            return self._python_function(*args, **kwargs)
        self._tally.calls += 1
        if self._input_signature is not None:
            args, kwargs = self._conform(args, kwargs), {}
        key, tensors = signature(args, kwargs)
        recording = self._recordings.get(key) or self._begin(key)
        return recording.run(args, kwargs, tensors)

    def _begin(self, key: Any) -> Ways:
        with self._tally.lock:
            for old in [k for k in self._recordings if any(type(x) is Identity and x.is_gone for x in k)]:
                del self._recordings[old]
            self._tally.begin(self.__name__, key)
            return self._recordings.setdefault(key, Ways(self._python_function, self._tally))

    def get_concrete_function(self, *args: Any, **kwargs: Any) -> ConcreteFunction:
        """The function for arguments of these kinds alone; tensors may be given as `nt.TensorSpec`.

        It is called with tensors that fit; Python values may be left out, or are the same (TypeError for others).
        Where all lengths are known, and Python looks at no values, the function is recorded at once.

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
            recording = self._recordings.get(key) or self._begin(key)
            with self._tally.lock:
                if not recording.count:
                    recording.record(arguments, tensors, looks=False)
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
        self._check_count("bind takes an array for each argument", arrays)
        direct, tensors = self._direct(arrays)
        return BoundFunction(direct, self.__name__, arrays, tensors)

    def njit(self, *examples: Any) -> NopythonFunction:
        """The function for code compiled by `numba.njit`, for arguments like these arrays, tensors or `nt.TensorSpec`.

        What is returned is called from nopython code, or from Python, with arrays of these very shapes (ValueError) and
        dtypes (`numba.TypingError`); for shape () numbers do as well. It gives new arrays, numbers for shape (), tuples
        for whatever is nested. Its `value_and_gradient` gives gradients, too, and its `address` is for C. Each call
        reads and changes Variables, and reads captured arrays, as they are by then. Any number of threads may call,
        those of `prange` included; calls that change Variables wait for each other. ValueError for what `bind` refuses.

        >>> import numba
        >>> import numtape as nt
        >>> f = nt.function(lambda x: nt.reduce_sum(x**3)).njit(np.zeros(2)).value_and_gradient
        >>> @numba.njit
        ... def descend(x, steps):
        ...     for _ in range(steps):
        ...         value, gradient = f(x)
        ...         x = x - 0.1 * gradient
        ...     return value, x
        >>> descend(np.array([1.0, 2.0]), 2)
        (0.85..., array([0.553, 0.608]))
        """
        from numtape.functions.nopython import NopythonFunction

        given = [as_tensor(x) if isinstance(x, np.generic) else x for x in examples or self._input_signature or ()]
        specs = [*map(_spec, given)]
        for spec in specs:
            if not isinstance(spec, TensorSpec) or spec.shape is None or None in spec.shape:
                text = "njit takes arrays, NumPy's numbers, tensors or TensorSpecs of known shapes"
                raise TypeError(f"{self.__name__}: {text}, not {type(spec).__name__} {spec!r:.60}")
        self._check_count("njit takes an example of each argument", specs)
        kinds = [tensor_type(spec.dtype, tuple(spec.shape)) for spec in specs]
        return NopythonFunction(self, values(self._plain), kinds)

    def scipy(self, dtype: Any = None) -> Objective:
        """The function as `scipy.optimize.minimize(f, x0, jac=True)` takes it: `f(x, *args)` gives (value, gradient).

        The value, which has to be a single float (ValueError), and the gradient with respect to x are float64. The
        function sees x in `dtype`, by default that of the `input_signature` or else float64. Methods `hess` and `hessp`
        are for the options of these names. The function is recorded once for each shape of x and kind of `args`; where
        Python looks at no values, a call is a single native call. Any thread may call.

        >>> import numtape as nt
        >>> from scipy.optimize import minimize
        >>> f = nt.function(lambda x, a: nt.reduce_sum((x - a) ** 4)).scipy()
        >>> found = minimize(f, np.zeros(2), args=(np.array([1.0, 2.0]),), jac=True, hess=f.hess, method="trust-exact")
        >>> np.round(found.x, 1)
        array([1., 2.])
        """
        if dtype is None:
            signature = nest.flatten(self._input_signature)
            dtype = signature[0].dtype if self._input_signature else float64
        return Objective(self, as_dtype(dtype))

    def _check_count(self, text: str, args: Sequence[Any]) -> None:
        """TypeError if the function does not take as many arguments."""
        try:
            inspect.signature(self._python_function).bind(*args)
        except TypeError as error:
            raise TypeError(f"{self.__name__}: {text}; {error}") from None
        except ValueError:  # a function written in C may not tell what it takes
            pass

    def _plain(self, *args: Any) -> Any:
        """What the function does, without recording it by itself."""
        return self._python_function(*(args if self._input_signature is None else self._conform(args, {})))

    def _direct(self, arrays: Sequence[Any]) -> tuple[Direct, list[Tensor]]:
        """The function for arrays like these, as one program, and the arrays as tensors; ValueError if it is not."""
        key, tensors = signature(arrays, {})
        recording = self._recordings.get(key) or self._begin(key)
        return recording.program((arrays, {}), tensors), tensors

    def __reduce__(self) -> Any:
        return Function, (self._python_function, self._input_signature)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        known = self._methods.get(id(instance))
        if known is None or known[0]() is not instance:
            reference = weakref.ref(instance, functools.partial(_forget_method, weakref.ref(self), id(instance)))
            known = reference, Function(_method(self._python_function, reference), self._input_signature)
            self._methods[id(instance)] = known
        return Method(instance, known[1])

    def _conform(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments as tensors of the input signature."""
        if kwargs:
            args = inspect.signature(self._python_function).bind(*args, **kwargs).args
        specs = self._input_signature
        assert specs is not None
        if len(args) != len(specs):
            raise TypeError(f"{self.__name__} takes {len(specs)} arguments by its input_signature, got {len(args)}")
        return tuple([self._fit(spec, x) for spec, x in zip(specs, args, strict=True)])

    def _fit(self, spec: Any, x: Any) -> Any:
        """An argument as its spec, or a structure of them, says."""
        if isinstance(spec, TensorSpec):
            tensor = convert_to_tensor(x) if isinstance(x, Tensor | Variable) else as_tensor(x, spec.dtype)
            if spec.is_compatible_with(tensor):
                return tensor
            x = tensor._type
        elif isinstance(spec, Mapping):
            if isinstance(x, Mapping) and spec.keys() == x.keys():
                return nest.pack_sequence_as(spec, nest.flatten({key: self._fit(spec[key], x[key]) for key in x}))
        elif isinstance(spec, list | tuple):
            if isinstance(x, list | tuple) and len(x) == len(spec):
                return nest.pack_sequence_as(spec, nest.flatten([*map(self._fit, spec, x)]))
        elif x is spec or (type(x) is type(spec) and x == spec):
            return x
        raise TypeError(f"{self.__name__}: an argument {x!r:.80} does not fit {spec} of the input_signature")

    def __repr__(self) -> str:
        count = len(self._recordings)
        return f"<nt.function {self.__name__}: {count} signature{'' if count == 1 else 's'} recorded>"


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
        own, named = self._specs
        if len(args) < len(own):  # without those that are Python values
            rest = iter(args)
            args = *[x if _is_python(x) else next(rest, None) for x in own], *rest
        kwargs = {key: x for key, x in named.items() if _is_python(x)} | kwargs
        try:
            nest.assert_same_structure(self._specs, (args, kwargs))
        except ValueError as error:
            raise TypeError(f"{self._owner.__name__} was made concrete for {self._specs}; {error}") from None
        for spec, x in zip(nest.flatten(self._specs), nest.flatten((args, kwargs)), strict=True):
            fits = x is spec or (type(x) is type(spec) and x == spec)
            if isinstance(spec, TensorSpec):
                fits = isinstance(x, Tensor | Variable | np.ndarray) and spec.is_compatible_with(x)
            if not fits:
                raise TypeError(f"{self._owner.__name__} was made concrete for {spec!r}, and got {x!r:.80}")
        return self._owner(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<nt.function {self._owner.__name__} for {self._specs}>"


def _example(x: Any) -> Any:
    """A tensor of the kind that a spec describes."""
    return as_tensor(np.zeros(x.shape, x.dtype.dtype)) if isinstance(x, TensorSpec) else x


def _spec(x: Any) -> Any:
    return TensorSpec.from_tensor(x) if isinstance(x, Tensor | np.ndarray) else x


def _is_python(x: Any) -> bool:
    """Whether there is no tensor in an argument."""
    return not any(isinstance(leaf, TensorSpec) for leaf in nest.flatten(x))


# ---- methods -----------------------------------------------------------------------------------------------------


class Method:
    """A function of an instance; what was recorded for it lasts as long as the instance."""

    def __init__(self, instance: Any, function: Function) -> None:
        self.__self__ = instance
        self.__func__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "__func__":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.__func__, name)

    def __repr__(self) -> str:
        return f"{self.__func__!r} of {self.__self__!r}"


def _method(plain: Callable[..., Any], reference: weakref.ref[Any]) -> Callable[..., Any]:
    """A method of an instance that it does not keep alive."""

    @functools.wraps(plain)
    def method(*args: Any, **kwargs: Any) -> Any:
        instance = reference()
        if instance is None:
            raise ReferenceError(f"{method.__name__} is of an object that is gone; keep the object")
        return plain(instance, *args, **kwargs)

    whole = inspect.signature(plain)
    method.__signature__ = whole.replace(parameters=[*whole.parameters.values()][1:])  # type: ignore[attr-defined]
    return method


def _forget_method(function: weakref.ref[Function], key: int, reference: weakref.ref[Any]) -> None:
    """An instance is gone."""
    owner = function()
    if owner is not None and owner._methods.get(key, (None,))[0] is reference:
        del owner._methods[key]
