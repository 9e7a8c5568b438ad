"""The op record: everything that is known about one op, in one place.

What comes in is what an op's author writes; what goes out is an immutable `Op` in `REGISTRY`. Public functions, docs,
tests, gradients and kernels of every target derive from it. An op gives one result; what a user sees as an op with
several results is a composite that expands into several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from numtape.dtypes import DType, Shape, TensorType

REGISTRY: dict[str, Op] = {}


class Kind(Enum):
    """How an op becomes native code."""

    MAP = "map"
    """One scalar expression for each element, operands broadcast: fuses with its neighbours."""
    REDUCE = "reduce"
    """A fold over axes, which stay as length 1: fuses with its producers."""
    ALIAS = "alias"
    """The same elements in the same order under another shape: costs nothing."""
    CALL = "call"
    """A routine of its own."""
    UPDATE = "update"
    """A routine that changes its first operand in places: within its memory, where nobody needs the old elements."""
    LOOP = "loop"
    """A program of its own, run again and again; its result is only read by parts."""
    PART = "part"
    """An array of what a loop computes."""
    FORMULA = "formula"
    """Written with other instructions, though only once gradients are taken: so it can have a rule of its own."""
    COMPOSITE = "composite"
    """Written with other ops; expands while recording, and never stands in a program."""


class Gradient(Enum):
    """What an op has in place of a gradient rule."""

    NONE = "none"
    """Not differentiable by nature: a silent None, as for comparisons."""
    MISSING = "missing"
    """Differentiable, but nobody wrote the rule: a LookupError."""
    BY_PASS = "yes"
    """Differentiated by a pass of its own: a loop, and the parts of one."""


Rule = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Example:
    """A call that tests make: an operand of each shape, drawn from the domains, and attributes by name.

    The last of `domains` and of `dtypes` serve for all further operands; None is whatever dtype is being tested.
    Operands of group "I" are integers and of group "B" bools by themselves.
    """

    shapes: tuple[Shape, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domains: tuple[tuple[float, float], ...] = ((-3, 3),)
    dtypes: tuple[DType | None, ...] = (None,)


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One op.

    `infer(types, attributes)` gives the result's type or raises; `reference(*arrays, **attributes)` defines the
    meaning in NumPy. `kernel` is what becomes native code: for MAP an expression, for REDUCE a fold of
    `numtape.codegen.emit.FOLDS`, for CALL a function `(type of the result, types of the operands, *attributes)` that
    gives a `Kernel` over pointers (result first, then operands) and the integers that follow them; or a list of
    `(kernel, numbers of the operands it takes, integers)`, each of which writes a part of the result; for UPDATE
    such a function whose kernel takes no first operand, since the result has its elements already; for FORMULA a
    function of operands and attributes, written with ops. `gradient` is a rule whose parameter names say what it
    needs: `g` the cotangent, `out` the result, the names in `parameters` the operands (the list `values` if they are
    "*values"), the names in `attributes` the attributes; it returns one cotangent for each operand (None where there
    is none), and is written with ops, so that it differentiates again.
    """

    name: str
    kind: Kind
    parameters: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    infer: Callable[[Sequence[TensorType], tuple[Any, ...]], TensorType] | None = None
    reference: Callable[..., Any] | None = None
    gradient: Rule | Gradient = Gradient.MISSING
    kernel: Any = None
    expand: Callable[..., Any] | None = None
    examples: tuple[Example, ...] = ()
    doc: str = ""
    groups: tuple[str, ...] = ()
    """For each operand its dtype group: operands of one group share a dtype, and Python numbers adopt it."""
    at_once: bool = False
    """Whether a program with it is compiled before it runs for the first time (see `numtape.tape.tiers`)."""
    rule_needs: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    @property
    def differentiable(self) -> bool:
        """Whether a cotangent can pass (a missing rule counts: asking for it is an error, not None)."""
        return self.gradient is not Gradient.NONE


def parameters_of(function: Any) -> tuple[str, ...]:
    """The names of a plain function's parameters; `inspect.signature` takes ten times as long."""
    code = function.__code__
    return tuple(code.co_varnames[: code.co_argcount])


def register(op: Op) -> Op:
    """Put an op into the registry; KeyError if the name is taken."""
    if op.name in REGISTRY:
        raise KeyError(f"an op named {op.name!r} is registered already")
    if not isinstance(op.gradient, Gradient):
        set_rule(op, op.gradient)
    REGISTRY[op.name] = op
    return op


def set_rule(op: Op, rule: Rule, needs: tuple[str, ...] = ()) -> None:
    """Give an op its gradient rule, whose parameters say what it needs unless `needs` does.

    ValueError if that is something the op does not have.
    """
    needs = needs or parameters_of(rule)
    unknown = set(needs) - {"g", "out", *op.attributes, *(p.removeprefix("*") for p in op.parameters)}
    if unknown:
        raise ValueError(f"the gradient of {op.name} asks for {sorted(unknown)}, which the op does not have")
    object.__setattr__(op, "gradient", rule)
    object.__setattr__(op, "rule_needs", needs)
