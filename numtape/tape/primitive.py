"""`primitive`: ops that users make of NumPy or `@njit` functions, with gradients of their own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from numtape import nest
from numtape.dtypes import DType, float32
from numtape.ir.op import Gradient, Op, set_rule
from numtape.ops.core import map_op
from numtape.tape import detour
from numtape.tape.custom_gradient import cotangents_of
from numtape.tape.operands import as_tensor
from numtape.tape.registration import ANNOUNCED, Operation
from numtape.tape.tensor import Tensor, to_array
from numtape.tape.trace import STATE, record, refuse_recording
from numtape.tape.variable import Variable


def primitive(f: Any = None, *, gradient: Any = None, kernel: str | None = None, name: str | None = None) -> Any:
    """Make an op of a NumPy function, or of one compiled with `@njit`.

    The function gets NumPy arrays in place of tensors and Variables, in any nesting, and of lists of numbers; what has
    shape () arrives as a NumPy scalar, and so does a Python float, in the dtype of the floats beside it. Anything else
    it gets as it is: ints, bools, strings, None. It returns arrays in any nesting. It runs at once, at its line, and
    so do its errors.

    Its gradient is a function whose parameter names say what it needs: `g` the cotangent of the result, `out` the
    result, or any parameter of `f`; it returns a cotangent for each parameter of `f`, None where there is none. Written
    with ops, it differentiates again; it may use NumPy. Give it here, or later with `@op.gradient`. Without one, asking
    for a gradient is a LookupError.

    With `kernel`, a Python expression in the parameters of `f` that computes one element of the result, the op is one
    like `nt.tanh`: recorded, broadcast, fused with its neighbours, and compiled. The expression may use arithmetic,
    comparisons, `select(condition, x, y)`, `exp`, `log`, `sqrt`, `tanh` and the like, `T(0.5)` for a number of the
    operands' type, and `R` for that of the result. All operands and the result are then floats of one dtype. `f` stays
    the definition, against which `nt.testing.check_gradient` compares. ValueError if the expression uses other names.

    >>> import numtape as nt
    >>> @nt.primitive(kernel="x / sqrt(T(1) + x * x)")
    ... def squash(x):
    ...     return x / np.sqrt(1 + x * x)
    >>> @squash.gradient
    ... def squash_gradient(g, x):
    ...     return g * (1 + x * x) ** -1.5
    >>> x = nt.Variable([0.0, 1.0])
    >>> with nt.GradientTape() as tape:
    ...     y = squash(x)
    >>> tape.gradient(y, x).numpy()
    array([1.        , 0.35355338], dtype=float32)
    """
    if f is None:
        return functools.partial(primitive, gradient=gradient, kernel=kernel, name=name)
    return Primitive(f, gradient, kernel, name)


class Primitive:
    """An op that a user made; call it like the function it was made of."""

    def __init__(self, f: Callable[..., Any], gradient: Any, kernel: str | None, name: str | None) -> None:
        self.function = f
        plain = getattr(f, "py_func", f)  # of what Numba has compiled
        functools.update_wrapper(self, plain)
        self.name: str = name or str(getattr(plain, "__name__", "primitive"))
        self._signature = inspect.signature(plain)
        self._rule: Callable[..., Any] | Gradient = Gradient.MISSING
        self._op: Op | None = None
        if kernel is not None:
            parameters = tuple(self._signature.parameters)
            _check_kernel(self.name, kernel, parameters)
            self._op = map_op(
                self.name, kernel, parameters, (), (), "float", None, f, Gradient.MISSING, (), (), self.__doc__ or "",
                at_once=True,
            )  # fmt: skip
        if gradient is not None:
            self.gradient(gradient)
        elif self.name in ANNOUNCED:
            self._announced(ANNOUNCED[self.name])

    def gradient(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Give the op its gradient; usable as a decorator. ValueError for parameters that `primitive` does not name."""
        needs = tuple(inspect.signature(rule).parameters)
        unknown = set(needs) - {"g", "out", *self._signature.parameters}
        if unknown:
            raise ValueError(f"the gradient of {self.name} asks for {sorted(unknown)}, which {self.name} does not have")
        if self._op is not None:
            set_rule(self._op, rule, needs)
        self._rule = rule
        self._needs = needs
        return rule

    def _announced(self, rule: Callable[..., Any] | None) -> None:
        """Take what `RegisterGradient`, or `no_gradient`, said before the op was there."""
        if rule is None:
            self._rule = Gradient.NONE
            if self._op is not None:
                object.__setattr__(self._op, "gradient", Gradient.NONE)
            return
        names = tuple(self._signature.parameters)

        def adapted(g: Any, out: Any, *operands: Any) -> Any:
            given = [x for x in operands if x is not inspect.Parameter.empty]
            return rule(Operation(self.name, nest.flatten(given), nest.flatten(out), {}), *nest.flatten(g))

        if self._op is not None:
            set_rule(self._op, adapted, ("g", "out", *names))
        self._rule, self._needs = adapted, ("g", "out", *names)

    @property
    def is_fused(self) -> bool:
        """Whether the op has a kernel of its own."""
        return self._op is not None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = self._signature.bind(*args, **kwargs)
        if self._op is not None:
            return record(self._op, bound.args)
        refuse_recording()
        leaves = nest.flatten(list(bound.arguments.values()))
        dtype = next((x.dtype for x in leaves if isinstance(x, Tensor | Variable) and x.dtype.is_floating), None)
        bound.arguments.update({key: _listed(x, dtype) for key, x in bound.arguments.items()})
        leaves = nest.flatten(list(bound.arguments.values()))
        # What stands for the arguments in the rule: values as of this line.
        given = {key: nest.map_structure(_value, x) for key, x in bound.arguments.items()}
        arrays = {key: nest.map_structure(partial(_array, dtype=dtype), x) for key, x in given.items()}
        bound.arguments.update(arrays)
        result = self.function(*bound.args, **bound.kwargs)
        # Numba gives back Python floats, which adopt the dtype of what went in.
        results = [as_tensor(x, dtype if type(x) is float else None) for x in nest.flatten(result)]
        if not STATE.tapes or self._rule is Gradient.NONE:
            return nest.pack_sequence_as(result, results)

        def rule(upstream: Sequence[Tensor]) -> list[Tensor | None]:
            if isinstance(self._rule, Gradient):
                raise LookupError(f"gradient registry has no entry for: {self.name}")
            known = {key: parameter.default for key, parameter in self._signature.parameters.items()} | given
            known |= {"g": nest.pack_sequence_as(result, upstream), "out": out}
            cotangents = self._rule(*[known[need] for need in self._needs])
            return [*cotangents_of(self.name, "arguments", cotangents, leaves)]

        inputs = [x for x in leaves if isinstance(x, Tensor | Variable)]
        out = nest.pack_sequence_as(result, detour.take(inputs, results, rule, self.name))
        return out

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        how = "fused" if self._op is not None else "called with NumPy arrays"
        return f"<nt.primitive {self.name}{self._signature}: {how}>"


def _value(x: Any) -> Any:
    return x._value if isinstance(x, Variable) else x


def _listed(x: Any, dtype: DType | None) -> Any:
    """An argument, or an array if it is a list of numbers; floats take the dtype."""
    kinds = set(map(type, nest.flatten(x))) if isinstance(x, list) else set()
    if kinds and kinds <= {int, float}:
        return to_array(x, dtype if float in kinds else None)
    return x


def _array(x: Any, dtype: DType | None) -> Any:
    if type(x) is float:
        return (dtype or float32).as_numpy_dtype(x)
    return x.numpy() if isinstance(x, Tensor) else x


def _check_kernel(name: str, kernel: str, parameters: Sequence[str]) -> None:
    from numtape.codegen.plain import PLAIN

    names = compile(kernel, f"<kernel of {name}>", "eval").co_names
    unknown = set(names) - {*parameters, "T", "R", *PLAIN}
    if unknown:
        raise ValueError(
            f"the kernel of {name} uses {', '.join(sorted(unknown))}; it knows {', '.join(parameters)}, T, R and "
            f"{', '.join(sorted(PLAIN))}"
        )
