"""The ops as a table: what each is called, how it becomes native code, and whether gradients pass through it.

Everything is read off the registry. A composite has no rule of its own, so its examples are written out, and what they
are made of decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numtape.dtypes import bool_, float32, int64, tensor_type
from numtape.ir.op import REGISTRY, Example, Gradient, Op
from numtape.ir.program import INPUT, Builder, Instruction, Value
from numtape.ops.core import PUBLIC, dtype_groups, freeze


@dataclass(frozen=True, slots=True)
class OpRow:
    """One op: its name in programs, where it is public, its kind, and one of three words about its gradient.

    "yes"; "none" where it is not differentiable by nature, so that it gives None; "missing" where nobody wrote the
    rule, so that asking for it is a LookupError.
    """

    name: str
    public: tuple[str, ...]
    kind: str
    gradient: str


def list_ops(without_gradient: bool = False) -> list[OpRow]:
    """All ops in the order of their names, or only those without a gradient.

    >>> import numtape as nt
    >>> [row for row in nt.list_ops() if row.name == "tanh"]
    [OpRow(name='tanh', public=('nt.tanh', 'nt.math.tanh', 'nt.nn.tanh'), kind='map', gradient='yes')]
    >>> [row.name for row in nt.list_ops(without_gradient=True) if row.name.startswith("less")]
    ['less', 'less_equal']
    """
    public: dict[str, list[str]] = {}
    for dotted, function in PUBLIC.items():
        if (op := getattr(function, "op", None)) is not None:
            public.setdefault(op.name, []).append(f"nt.{dotted}")
    rows = [
        OpRow(name, tuple(public.get(name, ())), op.kind.value, gradient_of(op))
        for name, op in sorted(REGISTRY.items())
    ]
    return [row for row in rows if row.gradient != "yes"] if without_gradient else rows


def table(rows: Sequence[OpRow]) -> str:
    """The rows as aligned text under a heading."""
    cells = [("op", "public names", "kind", "gradient")]
    cells += [(row.name, ", ".join(row.public) or "-", row.kind, row.gradient) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def gradient_of(op: Op) -> str:
    """The last column; for a composite the best that one of its examples shows, unless another misses a rule."""
    if op.expand is None:
        return op.gradient.value if isinstance(op.gradient, Gradient) else "yes"
    found = {_passes(*written) for example in op.examples if (written := _written_out(op, example)) is not None}
    return _best(found)


def _written_out(op: Op, example: Example) -> tuple[list[Instruction], list[int]] | None:
    """The instructions of a call and the numbers of its results; None if the example is not for floats."""
    assert op.expand is not None
    builder = Builder()
    values = []
    for k, (shape, group) in enumerate(zip(example.shapes, dtype_groups(op, len(example.shapes)), strict=True)):
        own = example.dtypes[min(k, len(example.dtypes) - 1)]
        values.append(builder.input(tensor_type(own or _DTYPES.get(group, float32), shape), k))
    try:
        results = op.expand(values, tuple(freeze(example.attributes[name]) for name in op.attributes))
    except TypeError:
        return None
    listed: Sequence[Value] = results if isinstance(results, list | tuple) else [results]
    return builder.instructions, [value.index for value in listed]


_DTYPES = {"I": int64, "B": bool_}
"""What the operands of these groups are; the others are floats."""


def _passes(instructions: Sequence[Instruction], results: Sequence[int]) -> str:
    """Whether a cotangent finds its way from a result to an operand: `differentiate` asks the same of a whole trace."""
    reached: dict[int, str] = {}
    for index, instruction in enumerate(instructions):
        if not instruction.type.dtype.is_floating:
            continue
        if instruction.op is INPUT:
            reached[index] = "yes"
        elif instruction.op.differentiable:
            words = {reached[k] for k in instruction.operands if k in reached}
            if words:
                missing = instruction.op.gradient is Gradient.MISSING or "missing" in words
                reached[index] = "missing" if missing else "yes"
    return _best({reached[k] for k in results if k in reached})


def _best(found: set[str]) -> str:
    return next((word for word in ("missing", "yes") if word in found), "none")
