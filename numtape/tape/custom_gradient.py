"""`custom_gradient`: functions that bring their own gradient rule."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numtape import nest
from numtape.tape import detour
from numtape.tape.operands import as_tensor
from numtape.tape.tensor import Tensor
from numtape.tape.trace import STATE
from numtape.tape.variable import Variable


def custom_gradient(f: Callable[..., Any] | None = None) -> Any:
    """Make a function's gradient the one that it gives itself.

    `f(*args)` returns its result and a function, which is called with a cotangent for each tensor of the result (zeros
    for one that the target does not depend on) and returns a cotangent for each argument, None where there is none;
    keyword arguments do not count. What it computes can be differentiated again, down to what `f` computed. Where `f`
    reads trainable Variables that are not among its arguments, the function takes `variables=`, a list of them, and
    returns a pair: cotangents of the arguments, and a list of those of the Variables.

    TypeError at the call if that parameter is missing; when a gradient is taken, ValueError for another number of
    cotangents than arguments, or a cotangent of another shape. Works on methods, too, whose `self` is no argument.

    >>> import numtape as nt
    >>> @nt.custom_gradient
    ... def log1pexp(x):
    ...     e = nt.exp(x)
    ...     return nt.math.log(1 + e), lambda upstream: upstream * (1 - 1 / (1 + e))
    >>> x = nt.constant(100.0)
    >>> with nt.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = log1pexp(x)
    >>> tape.gradient(y, x).numpy()
    np.float32(1.0)
    """
    return custom_gradient if f is None else _WithGradient(f)


class _WithGradient:
    """A function with a gradient of its own. In a class it is a method."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else _WithGradient(self._function.__get__(instance, owner))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        f = self._function
        name = getattr(f, "__name__", type(f).__name__)  # a partial function has none
        reads = Reads()
        with reads:
            outcome = f(*args, **kwargs)
        if not (isinstance(outcome, tuple) and len(outcome) == 2 and callable(outcome[1])):
            raise TypeError(f"{name} with a custom gradient returns (result, gradient function)")
        result, gradient = outcome
        leaves = nest.flatten(result)
        results = [as_tensor(leaf) for leaf in leaves]
        if not STATE.tapes:
            return nest.pack_sequence_as(result, results)
        arguments = nest.flatten(args)
        variables = reads.besides(arguments)
        if variables and not _takes_variables(gradient):
            raise TypeError(
                f"{name} reads {', '.join(v.name for v in variables)}, so its gradient function has to take "
                "`variables=` and return (gradients of the arguments, gradients of these Variables)"
            )
        inputs = [x for x in [*arguments, *variables] if isinstance(x, Tensor | Variable)]

        def rule(upstream: Sequence[Tensor]) -> list[Tensor | None]:
            if variables:
                own, others = gradient(*upstream, variables=variables)
            else:
                own, others = gradient(*upstream), []
            return [
                *cotangents_of(name, "arguments", own, arguments),
                *cotangents_of(name, "Variables", others, variables),
            ]

        return nest.pack_sequence_as(result, detour.take(inputs, results, rule))


class Reads:
    """Stands among the tapes while a function runs, and notes which Variables it reads."""

    _detours = ()

    def __init__(self) -> None:
        self._found: dict[int, Variable] = {}

    def __enter__(self) -> None:
        STATE.tapes.append(self)

    def __exit__(self, *failure: object) -> None:
        STATE.tapes.remove(self)

    def _note_read(self, variable: Variable, slot: int, now: int) -> None:
        if variable.trainable:
            self._found[id(variable)] = variable

    def _forget_reads(self, end: int) -> None:
        pass

    def besides(self, arguments: Sequence[Any]) -> list[Variable]:
        """The Variables read that are not among the arguments, in the order of their construction."""
        found = [v for v in self._found.values() if all(v is not x for x in arguments)]
        return sorted(found, key=lambda v: v._order)


def _takes_variables(gradient: Callable[..., Any]) -> bool:
    parameters = inspect.signature(gradient).parameters
    return "variables" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def cotangents_of(name: str, what: str, given: Any, inputs: Sequence[Any]) -> Iterator[Tensor | None]:
    """What a gradient function returned, as one tensor or None for each input that is a tensor or Variable."""
    found = nest.flatten(given)
    if len(found) != len(inputs):
        raise ValueError(
            f"the gradient function of {name} returned {len(found)} gradients for {len(inputs)} {what}; "
            "return one for each, None where there is none"
        )
    for g, x in zip(found, inputs, strict=True):
        if not isinstance(x, Tensor | Variable):
            continue
        if g is None:
            yield None
            continue
        cotangent = as_tensor(g, x.dtype)
        if cotangent._type is not x._type:
            raise ValueError(
                f"the gradient function of {name} returned a gradient of type {cotangent._type.text} for one of its "
                f"{what} of type {x._type.text}"
            )
        yield cotangent
