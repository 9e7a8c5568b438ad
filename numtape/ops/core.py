"""How an op record is written, and how a call of one finds its way.

`elementwise`, `reduction`, `routine`, `alias` and `composite` each register one `Op` and return the function that
users call. A call on `Value`s emits instructions into their builder; any other call is recorded on the active trace.
The recorder is installed by the layer above, so that nothing here imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from types import CodeType
from typing import Any, TypeAlias

import numpy as np

from numtape.dtypes import DType, Shape, TensorType, bool_, float32, int32, tensor_type, uint64
from numtape.ir.op import Example, Gradient, Kind, Op, Rule, parameters_of, register
from numtape.ir.program import Value

Tensor: TypeAlias = Any
"""Annotates a composite's operand: a Tensor, Variable, array or number for users, a `Value` while it expands."""
Tensors: TypeAlias = Sequence[Any]
"""Annotates a composite's list of operands."""

PUBLIC: dict[str, Callable[..., Any]] = {}
"""Dotted public name, such as `nn.softmax`, to function."""

_recorder: list[Callable[..., Any]] = []


def install_recorder(record: Callable[..., Any]) -> None:
    """Say what a call on anything but `Value`s does."""
    _recorder[:] = [record]


def apply(op: Op, operands: Sequence[Any], attributes: tuple[Any, ...] = ()) -> Any:
    """Call an op: emit it where an operand is a `Value`, record it otherwise."""
    for x in operands:
        if type(x) is Value:
            return emit(op, operands, attributes)
    return _recorder[0](op, operands, attributes, 3)  # a public function is between the user's line and here


def emit(op: Op, operands: Sequence[Any], attributes: tuple[Any, ...] = ()) -> Any:
    """Write the op into the builder of its operands; Python numbers become literals of their dtype group."""
    values = literals(op, operands)
    if op.expand is not None:
        return op.expand(values, attributes)
    return values[0].builder.emit(op, values, attributes)


def literals(op: Op, operands: Sequence[Any]) -> list[Value]:
    builder = next(x.builder for x in operands if type(x) is Value)
    if all(type(x) is Value for x in operands):
        return list(operands)
    groups = dtype_groups(op, len(operands))
    dtypes: dict[str, DType] = {}
    for x, group in zip(operands, groups, strict=True):
        if type(x) is Value:
            dtypes.setdefault(group, x.dtype)
    return [
        x if type(x) is Value else builder.constant(x, dtypes.get(group) or default_dtype(x, group))
        for x, group in zip(operands, groups, strict=True)
    ]


def dtype_groups(op: Op, count: int) -> tuple[str, ...]:
    """The dtype group of each of `count` operands (a list of operands repeats the first group)."""
    groups = op.groups
    return groups if len(groups) == count else (groups[0],) * (count - len(groups) + 1) + groups[1:]


def default_dtype(number: Any, group: str = "") -> DType:
    """What a bare Python number becomes; in group "U", of words of bits, it is a uint64."""
    if group == "U":
        return uint64
    if isinstance(number, bool | np.bool_):
        return bool_
    return int32 if isinstance(number, int) else float32


class _MinusZero(float):
    """-0.0 as an attribute: equal to itself alone, so that what was recorded with 0.0 is not taken for it."""

    def __eq__(self, other: object) -> bool:
        return other is self

    __hash__ = object.__hash__


_MINUS_ZERO = _MinusZero(-0.0)
_ATOMS = frozenset({bool, int, float, str, DType})


def freeze(attribute: Any) -> Any:
    """An attribute as a hashable value: lists become tuples, arrays and tensors their elements."""
    if attribute is None or type(attribute) in _ATOMS:
        return _MINUS_ZERO if type(attribute) is float and str(attribute) == "-0.0" else attribute
    if isinstance(attribute, list | tuple):
        return tuple(freeze(x) for x in attribute)
    if isinstance(attribute, np.generic):
        return freeze(attribute.item())
    if isinstance(attribute, slice):
        return ("slice", freeze(attribute.start), freeze(attribute.stop), freeze(attribute.step))
    if hasattr(attribute, "numpy"):
        attribute = attribute.numpy()
    if isinstance(attribute, np.ndarray | np.generic):
        return freeze(attribute.tolist())
    return attribute


# ---- type inference ---------------------------------------------------------------------------------------------


def describe(types: Sequence[TensorType]) -> str:
    return ", ".join(t.text for t in types)


def check_group(name: str, types: Sequence[TensorType]) -> DType:
    """The one dtype of these operands; TypeError where they differ."""
    dtype = types[0].dtype
    for t in types:
        if t.dtype is not dtype:
            raise TypeError(
                f"{name}: operands have different dtypes: {describe(types)}. Tensors are never converted "
                f"implicitly; write nt.cast(x, nt.{dtype.name}) for the one that is {t.dtype.name}"
            )
    return dtype


def check_kind(name: str, type: TensorType, kind: str) -> None:
    dtype = type.dtype
    allowed = {
        "any": True,
        "float": dtype.is_floating,
        "integer": dtype.is_integer,
        "number": not dtype.is_bool,
        "bool": dtype.is_bool,
    }[kind]
    if not allowed:
        wanted = {"float": "nt.float32", "integer": "nt.int32", "number": "nt.float32", "bool": "nt.bool"}[kind]
        noun = {"float": "floating", "integer": "integer", "number": "numeric", "bool": "boolean"}[kind]
        raise TypeError(f"{name}: needs {noun} elements, got {describe([type])}; write nt.cast(x, {wanted}) first")


def check_flag(name: str, option: str, value: Any) -> bool:
    """An option that is True or False, None standing for False; TypeError for anything else."""
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name}: {option} is True or False, got {value!r}")
    return bool(value)


def broadcast(name: str, *shapes: Shape) -> Shape:
    """The shape that these broadcast to by NumPy's rules; ValueError names the op and the shapes."""
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        listed = " and ".join(str(s) for s in shapes)
        raise ValueError(f"{name}: shapes {listed} do not broadcast against each other") from None


def normalize_axes(name: str, axis: Any, rank: int) -> tuple[int, ...]:
    """Axes as a sorted tuple of non-negative numbers, each once; None means all."""
    if axis is None:
        return tuple(range(rank))
    given = axis if isinstance(axis, tuple | list) else (axis,)
    axes = tuple(sorted(normalize_axis(name, a, rank) for a in given))
    if len(set(axes)) != len(axes):
        raise ValueError(f"{name}: axis {tuple(given)} names an axis of a tensor of rank {rank} twice")
    return axes


def normalize_axis(name: str, axis: Any, rank: int) -> int:
    """One axis as a number from 0; ValueError if it is out of range."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(f"{name}: an axis is an integer, got {axis!r}")
    axis = axis.__index__()
    if not -rank <= axis < rank:
        raise ValueError(f"{name}: axis {axis} is out of range for a tensor of rank {rank}")
    return int(axis % rank)


# ---- writing records --------------------------------------------------------------------------------------------


def _publish(names: Sequence[str], function: Callable[..., Any]) -> None:
    for name in names:
        if name in PUBLIC:
            raise KeyError(f"nt.{name} is public already")
        PUBLIC[name] = function
    if names:  # where pickle finds it
        function.__module__ = ".".join(["numtape", *names[0].split(".")[:-1]])


def public(op: Op, *names: str) -> Callable[[Callable[..., Any]], Any]:
    """Make a function public that looks at its arguments before it calls `op`."""

    def decorate(function: Any) -> Any:
        function.op = op
        _publish(names, function)
        return function

    return decorate


def _function(op: Op, header: str, call: str, names: Sequence[str], doc: str, scope: dict[str, Any]) -> Any:
    """Write the public function: plain Python with the op's own signature, as fast as by hand."""
    scope |= {"_apply": apply, "_emit": emit, "_op": op, "_recorder": _recorder, "_Value": Value}
    exec(_compiled(f"def function({header}):\n    return {call}"), scope)
    function = scope["function"]
    function.__name__ = function.__qualname__ = (names[0] if names else op.name).rpartition(".")[2]
    function.__module__ = "numtape"
    function.__doc__ = doc
    function.op = op
    _publish(names, function)
    return function


def _call(operands: Sequence[str], attributes: Sequence[str]) -> str:
    """The source of what `apply` does, for these expressions: without a call between, nor a loop."""
    given = f"_op, ({''.join(f'{x}, ' for x in operands)}), ({''.join(f'{x}, ' for x in attributes)})"
    if not operands or operands[0].startswith("*"):
        return f"_apply({given})"
    written = " or ".join(f"type({x}) is _Value" for x in operands)
    return f"_emit({given}) if {written} else _recorder[0]({given})"


@cache
def _compiled(source: str) -> CodeType:
    """Most ops share a few signatures: compiled once each, they are a good part of the time of the import."""
    return compile(source, "<public function>", "exec")


def map_op(
    name: str,
    kernel: str | Callable[..., str],
    parameters: tuple[str, ...],
    attributes: tuple[str, ...],
    groups: Sequence[str],
    kind: str,
    result: DType | Callable[..., DType] | None,
    reference: Callable[..., Any],
    gradient: Rule | Gradient,
    sample: Sequence[tuple[float, float]],
    examples: Sequence[Example],
    doc: str,
    at_once: bool,
) -> Op:
    """The record of an op on single elements; see `elementwise`."""
    groups = tuple(groups) or ("T",) * len(parameters)

    @lru_cache(1024)  # a loop that is written out asks the same again and again
    def inferred(types: tuple[TensorType, ...], values: tuple[Any, ...]) -> TensorType:
        for group in dict.fromkeys(groups):
            members = [t for t, g in zip(types, groups, strict=True) if g == group]
            check_group(name, members)
            check_kind(name, members[0], {"T": kind, "B": "bool", "I": "integer"}.get(group, "any"))
        shape = broadcast(name, *(t.shape for t in types))
        if result is None:
            dtype = types[groups.index("T")].dtype
        else:
            dtype = result if isinstance(result, DType) else result(*values)
        return tensor_type(dtype, shape)

    def infer(types: Sequence[TensorType], values: tuple[Any, ...]) -> TensorType:
        return inferred(tuple(types), values)

    return Op(
        name, Kind.MAP, parameters, attributes, infer, reference, gradient, kernel,
        examples=(*examples, *([Example(((2, 3),) * len(parameters), domains=tuple(sample))] if sample else [])),
        doc=doc, groups=groups, at_once=at_once,
    )  # fmt: skip


def elementwise(
    name: str,
    kernel: str | Callable[..., str],
    *,
    reference: Callable[..., Any],
    gradient: Rule | Gradient,
    doc: str,
    sample: Sequence[tuple[float, float]] = (),
    examples: Sequence[Example] = (),
    parameters: Sequence[str] = ("x",),
    attributes: Sequence[str] = (),
    groups: Sequence[str] = (),
    kind: str = "float",
    result: DType | Callable[..., DType] | None = None,
    public: Sequence[str] | None = None,
    at_once: bool = False,
) -> Any:
    """Register an op on single elements, and return its public function.

    `kernel` is a Python expression in the operands' names; `T` is the type of the first operand and `R` that of the
    result, used as `T(0.5)`. `kind` is what elements the operands of group "T" may have. `sample` gives the domain
    that tests draw from: (low, high) for each operand.
    """
    parameters, attributes = tuple(parameters), tuple(attributes)
    op = register(
        map_op(
            name, kernel, parameters, attributes, groups, kind, result, reference, gradient, sample, examples, doc,
            at_once,
        )
    )  # fmt: skip
    header = ", ".join([*parameters, *attributes, "name=None"])
    call = _call(parameters, attributes)
    names = (name, f"math.{name}") if public is None else public
    return _function(op, header, call, names, doc, {})


def instruction(
    name: str,
    kind: Kind,
    *,
    infer: Callable[[Sequence[TensorType], tuple[Any, ...]], TensorType],
    reference: Callable[..., Any],
    gradient: Rule | Gradient,
    doc: str,
    parameters: Sequence[str] = ("x",),
    attributes: Sequence[str] = (),
    groups: Sequence[str] = (),
    kernel: Any = None,
    examples: Sequence[Example] = (),
    at_once: bool = False,
) -> Any:
    """Register an op that users reach through composites; the function takes operands, then attributes by position."""
    parameters, attributes = tuple(parameters), tuple(attributes)
    groups = tuple(groups) or ("T",) * len(parameters)
    op = register(
        Op(
            name, kind, parameters, attributes, infer, reference, gradient, kernel,
            examples=tuple(examples), doc=doc, groups=groups, at_once=at_once,
        )
    )  # fmt: skip
    if parameters[-1].startswith("*"):
        call = f"_apply(_op, tuple({parameters[-1][1:]}), ({''.join(a + ', ' for a in attributes)}))"
        header = ", ".join([parameters[-1][1:], *attributes])
    else:
        call = _call(parameters, attributes)
        header = ", ".join([*parameters, *attributes])
    return _function(op, header, call, (), doc, {})


def composite(
    *public: str,
    groups: Sequence[str] = (),
    reference: Callable[..., Any] | None = None,
    examples: Sequence[Example] = (),
) -> Callable[[Callable[..., Any]], Any]:
    """Make a public function of one that is written with ops.

    Parameters annotated `Tensor` or `Tensors` are operands, the others attributes. A call is recorded as one entry;
    the body runs once for each distinct entry, on `Value`s. Without names it is public under its own. `reference` is
    the same function in NumPy, for the tests.
    """

    def decorate(body: Callable[..., Any]) -> Any:
        parameters = parameters_of(body)
        operands = [p for p in parameters if body.__annotations__[p] in ("Tensor", "Tensors")]
        others = [p for p in parameters if p not in operands]
        several = [p for p in operands if body.__annotations__[p] == "Tensors"]
        assert several in ([], operands[:1]), "a list of operands comes first, and there is one"

        def expand(values: Sequence[Value], attributes: tuple[Any, ...]) -> Any:
            arguments: list[Any] = list(values)
            if several:
                count = len(values) - (len(operands) - 1)
                arguments = [list(values[:count]), *values[count:]]
            named = dict(zip(operands, arguments, strict=True))
            return body(**named, **dict(zip(others, attributes, strict=True)))

        names = public or (body.__name__,)
        doc = body.__doc__ or ""
        op = register(
            Op(
                f"nt.{names[0]}", Kind.COMPOSITE, tuple(operands), tuple(others),
                reference=reference, expand=expand, examples=tuple(examples), doc=doc,
                groups=tuple(groups) or ("T",) * len(operands),
            )
        )  # fmt: skip
        scope: dict[str, Any] = {"_freeze": freeze, "_operand_list": operand_list}
        defaults = body.__defaults__ or ()
        given = dict(zip(parameters[len(parameters) - len(defaults) :], defaults, strict=True))
        scope |= {f"_{p}": default for p, default in given.items()}
        header = [p + (f"=_{p}" if p in given else "") for p in parameters]
        if "name" not in parameters:
            header.append("name=None")
        listed = [f"*_operand_list({p})" if p in several else p for p in operands]
        call = _call(listed, [f"_freeze({p})" for p in others])
        return _function(op, ", ".join(header), call, names, doc, scope)

    return decorate


def operand_list(values: Any) -> Sequence[Any]:
    """A user's list of tensors; TypeError for one tensor given in its place."""
    if isinstance(values, list | tuple):
        if not values:
            raise ValueError("expected at least one tensor, got an empty list")
        return values
    if isinstance(values, np.ndarray) or hasattr(values, "shape"):
        return list(values)
    raise TypeError(f"expected a list of tensors, got {type(values).__name__}")

