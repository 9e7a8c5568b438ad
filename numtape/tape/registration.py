"""Gradients for ops that have none: `RegisterGradient` and `no_gradient`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numtape.ir.op import REGISTRY, Gradient, Op, set_rule

ANNOUNCED: dict[str, Callable[..., Any] | None] = {}
"""Rules for ops that are still to come, by name; None for one that is not differentiable."""


class Operation:
    """What a registered rule is given: a call of an op, with its `inputs` and `outputs`."""

    def __init__(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any], attributes: dict[str, Any]) -> None:
        self.type = self.name = name
        self.inputs, self.outputs = list(inputs), list(outputs)
        self._attributes = attributes

    def get_attr(self, name: str) -> Any:
        """An attribute of the call; ValueError if the op has none of that name."""
        if name not in self._attributes:
            raise ValueError(f"{self.type} has no attribute {name!r}, only {sorted(self._attributes)}")
        return self._attributes[name]


class RegisterGradient:
    """A decorator that makes a function the gradient rule of an op that has none.

    The function is called with the operation (its `inputs`, `outputs` and `get_attr`) and a cotangent for each output,
    and returns a cotangent for each input, None where there is none. Written with ops, it differentiates again. For an
    op of the library it is called once for each distinct recording, not in each step. A name that no op has yet is kept
    for a `nt.primitive` of that name. KeyError if there is a gradient already; `nt.list_ops` shows them all.

    >>> import numtape as nt
    >>> @nt.RegisterGradient("Quartic")
    ... def quartic_gradient(op, grad):
    ...     return 4.0 * op.inputs[0] ** 3 * grad
    >>> quartic = nt.primitive(lambda x: x**4, name="Quartic")
    >>> x = nt.Variable(2.0)
    >>> with nt.GradientTape() as tape:
    ...     y = quartic(x)
    >>> tape.gradient(y, x).numpy()
    np.float32(32.0)
    """

    def __init__(self, op_type: str) -> None:
        self._op_type = op_type
        _find(op_type)

    def __call__(self, f: Callable[..., Any]) -> Callable[..., Any]:
        op = _find(self._op_type)
        if op is None:
            ANNOUNCED[self._op_type] = f
            return f
        names = tuple(p.removeprefix("*") for p in op.parameters)
        several = bool(names) and names[0] != op.parameters[0]

        def rule(g: Any, out: Any, *rest: Any) -> Any:
            inputs = rest[0] if several else rest[: len(names)]
            attributes = dict(zip(op.attributes, rest[len(names) :], strict=True))
            return f(Operation(op.name, inputs, [out], attributes), g)

        set_rule(op, rule, ("g", "out", *names, *op.attributes))
        return f


def no_gradient(op_type: str) -> None:
    """Declare an op not differentiable: gradients through it are None from then on, and no error.

    KeyError if the op has a gradient already.

    >>> import numtape as nt
    >>> nt.no_gradient("Step")
    >>> sign = nt.primitive(lambda x: np.sign(x), name="Step")
    >>> x = nt.Variable(2.0)
    >>> with nt.GradientTape() as tape:
    ...     y = sign(x)
    >>> print(tape.gradient(y, x))
    None
    """
    op = _find(op_type)
    if op is None:
        ANNOUNCED[op_type] = None
    else:
        object.__setattr__(op, "gradient", Gradient.NONE)


def _find(op_type: str) -> Op | None:
    """The op of that name without a gradient, None if no op has it; as TensorFlow writes it, "MatMul" is "matmul"."""
    plain = op_type.replace("_", "").lower()
    op = next((op for name, op in REGISTRY.items() if name.replace("_", "").lower() == plain), None)
    if op_type in ANNOUNCED or (op is not None and (op.gradient is not Gradient.MISSING or op.expand is not None)):
        raise KeyError(f"a gradient of {op_type} is registered already")
    return op
