"""Running sums, products and the like along one axis.

Each scan is a routine over an axis of length n between `outer` and `inner` others. Its gradient is a scan in the other
direction. For products that is a linear recurrence, whose gradient is a linear recurrence again: nothing is divided
by, so that zeros are as good as other numbers, to every order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, log, prod
from typing import Any

import numpy as np

from numtape.ir.kernel import Kernel
from numtape.ir.op import Example, Kind
from numtape.ops.core import (
    Tensor,
    TensorType,
    check_flag,
    check_group,
    check_kind,
    composite,
    describe,
    instruction,
    normalize_axis,
)
from numtape.ops.elementwise import where
from numtape.ops.transcendental import exp

Step = Callable[..., str]
"""The text of a new running value, from those of the one before, an element of each operand, and the dtype's name."""

# ---- kernels ----------------------------------------------------------------------------------------------------

ALONG_ROWS = """\
def kernel(out, {operands}, outer, n):
    for i in range(outer):
        at = {first}
        a = {start}
        for k in range(n):
            {one}
            {two}
            at {sign}= 1
"""

ACROSS_ROWS = """\
def kernel(out, {operands}, outer, n, inner):
    for i in range(outer):
        at = {first}
        for j in range(inner):
            out[at + j] = {start}
        for k in range(n - 1):
            last = at
            at {sign}= inner
            for j in range(inner):
                out[at + j] = {step}
"""


def _kernel(
    name: str, step: Step, start: str, types: Sequence[TensorType], axis: int, exclusive: bool, reverse: bool,
    wide: bool = False,
) -> Any:  # fmt: skip
    """The kernel of a scan that begins with `start`; an exclusive one leaves the last element out.

    With `wide`, a running value along rows of float32 is a float64.
    """
    shape, code = types[0].shape, types[0].dtype.code
    outer, n, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    operands = ("x", "y")[: len(types)]
    along = inner == 1

    def stepped(before: str, place: str, code: str) -> str:
        return f"{code}({step(before, *(f'{code}({x}[{place}])' for x in operands), code)})"

    if along:
        carry = "f64" if wide and code == "f32" else code
        update, store = f"a = {stepped('a', 'at', carry)}", f"out[at] = {code}(a)"
        one, two = (store, update) if exclusive else (update, store)
        body = {"start": f"{carry}({start})", "one": one, "two": two}
    elif exclusive:
        body = {"start": f"{code}({start})", "step": stepped("out[last + j]", "last + j", code)}
    else:
        body = {"start": stepped(f"{code}({start})", "at + j", code), "step": stepped("out[last + j]", "at + j", code)}
    extents = (outer, n) if along else (outer, n, inner)
    first = "(i * n + n - 1)" if reverse else "i * n"
    source = (ALONG_ROWS if along else ACROSS_ROWS).format(
        operands=", ".join(operands), first=first if along else f"{first} * inner", sign="-" if reverse else "+", **body
    )
    return Kernel(name, source, (f"{code}*",) * (1 + len(types)) + ("i64",) * len(extents)), extents


def _infer(name: str, kind: str) -> Any:
    def infer(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
        check_group(name, types)
        check_kind(name, types[0], kind)
        if any(t.shape != types[0].shape for t in types):
            raise ValueError(f"{name}: {describe(types)} differ in shape")
        return types[0]

    return infer


def _reference(accumulate: Callable[..., Any], start: float) -> Callable[..., Any]:
    """A NumPy function along axis 0, with TensorFlow's options."""

    def scan(x: Any, axis: int, exclusive: bool, reverse: bool) -> Any:
        order = -1 if reverse else 1
        y = np.asarray(accumulate(np.moveaxis(x, axis, 0)[::order])).astype(x.dtype)
        if exclusive:
            y = np.concatenate([np.full_like(y[:1], start), y[:-1]])
        return np.moveaxis(y[::order], 0, axis)

    return scan


_EXAMPLES = (
    *(
        Example((shape,), {"axis": axis, "exclusive": exclusive, "reverse": reverse})
        for shape, axis in (((5,), 0), ((2, 3, 4), 1))
        for exclusive in (False, True)
        for reverse in (False, True)
    ),
    Example(((3, 1),), {"axis": 0, "exclusive": False, "reverse": True}),
    Example(((3, 1),), {"axis": 1, "exclusive": True, "reverse": False}),
    Example(((2, 0),), {"axis": 1, "exclusive": False, "reverse": False}),
    Example(((0, 2),), {"axis": 1, "exclusive": True, "reverse": True}),
)
_ATTRIBUTES = ("axis", "exclusive", "reverse")

# ---- sums and products ------------------------------------------------------------------------------------------

cumsum_: Any = instruction(
    "cumsum", Kind.CALL, attributes=_ATTRIBUTES, infer=_infer("cumsum", "number"), examples=_EXAMPLES,
    kernel=lambda out, types, axis, exclusive, reverse: _kernel(
        "cumsum", lambda a, x, _: f"{a} + {x}", "0", types, axis, exclusive, reverse, wide=True
    ),
    reference=_reference(lambda x: np.cumsum(x, 0, np.float64 if x.dtype.kind == "f" else x.dtype), 0),
    gradient=lambda g, axis, exclusive, reverse: cumsum_(g, axis, exclusive, not reverse),
    doc="Running sum along an axis.",
)  # fmt: skip


def _product_gradient(g: Any, x: Any, out: Any, axis: int, exclusive: bool, reverse: bool) -> Any:
    if exclusive:
        return recurrence(x, g, axis, not reverse) * out
    return (g + recurrence(x, x * g, axis, not reverse)) * cumprod_(x, axis, True, reverse)


cumprod_ = instruction(
    "cumprod", Kind.CALL, attributes=_ATTRIBUTES, infer=_infer("cumprod", "number"), examples=_EXAMPLES,
    kernel=lambda out, types, axis, exclusive, reverse: _kernel(
        "cumprod", lambda a, x, _: f"{a} * {x}", "1", types, axis, exclusive, reverse
    ),
    reference=_reference(lambda x: np.cumprod(x, 0, x.dtype), 1),
    gradient=_product_gradient, doc="Running product along an axis.",
)  # fmt: skip


def _recurrence_reference(x: Any, y: Any, axis: int, reverse: bool) -> Any:
    out = np.zeros_like(x)
    a, b, c = (np.moveaxis(v, axis, 0)[:: -1 if reverse else 1] for v in (x, y, out))
    for k in range(1, len(c)):
        c[k] = b[k - 1] + a[k - 1] * c[k - 1]
    return out


def _recurrence_gradient(g: Any, x: Any, out: Any, axis: int, reverse: bool) -> Any:
    later = recurrence(x, g, axis, not reverse)
    return later * out, later


recurrence = instruction(
    "recurrence", Kind.CALL, parameters=("x", "y"), attributes=("axis", "reverse"), infer=_infer("recurrence", "float"),
    kernel=lambda out, types, axis, reverse: _kernel(
        "recurrence", lambda a, x, y, _: f"{y} + {x} * {a}", "0", types, axis, True, reverse
    ),
    reference=_recurrence_reference, gradient=_recurrence_gradient,
    examples=[
        Example((shape, shape), {"axis": axis, "reverse": reverse})
        for shape, axis in (((5,), 0), ((2, 3, 4), 1), ((3, 1), 1))
        for reverse in (False, True)
    ],
    doc="The sequence that begins with 0 and goes on with `y + x * itself`, along an axis.",
)  # fmt: skip

# ---- log-sum-exp ------------------------------------------------------------------------------------------------


def _add_logarithms(a: str, x: str, code: str) -> str:
    far = f"maximum({a}, {x}) + log1p(exp(-fabs({a} - {x})))"
    return f"select({a} == {x}, {a} + {code}({log(2)!r}), {far})"


def _log_gradient(g: Any, x: Any, out: Any, axis: int, exclusive: bool, reverse: bool) -> Any:
    """A recurrence whose factors are at most 1: the exponential of what each element adds to the logarithm."""
    other = cumulative_logsumexp_(x, axis, not exclusive, reverse)
    before, upto = (out, other) if exclusive else (other, out)
    nothing = upto == -inf

    def share(value: Any) -> Any:
        return where(nothing, 0.0, exp(where(nothing, 0.0, value - upto)))

    decay = share(before)
    if exclusive:
        return share(x) * recurrence(decay, g, axis, not reverse)
    return share(x) * (g + recurrence(decay, decay * g, axis, not reverse))


cumulative_logsumexp_ = instruction(
    "cumulative_logsumexp", Kind.CALL, attributes=_ATTRIBUTES, infer=_infer("cumulative_logsumexp", "float"),
    kernel=lambda out, types, axis, exclusive, reverse: _kernel(
        "cumulative_logsumexp", _add_logarithms, "-inf", types, axis, exclusive, reverse
    ),
    reference=_reference(np.logaddexp.accumulate, -inf), gradient=_log_gradient,
    examples=[e for e in _EXAMPLES if not e.attributes["exclusive"]],  # those begin with -inf: no differences
    doc="Logarithm of the running sum of exponentials along an axis.",
)  # fmt: skip

# ---- public -----------------------------------------------------------------------------------------------------


def _scan(op: Any, name: str, x: Any, axis: Any, exclusive: bool, reverse: bool) -> Any:
    switches = check_flag(name, "exclusive", exclusive), check_flag(name, "reverse", reverse)
    return op(x, normalize_axis(name, axis, x.rank), *switches)


def _examples(*cases: tuple[tuple[int, ...], int]) -> list[Example]:
    return [Example((shape,), {"axis": axis, "exclusive": False, "reverse": False}) for shape, axis in cases]


@composite(
    "cumsum", "math.cumsum", reference=cumsum_.op.reference,
    examples=_examples(((4,), 0), ((2, 3), -1), ((2, 3, 2), -2)),
)  # fmt: skip
def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Any:
    """Running sum of elements along `axis`.

    The result has the shape and dtype of `x`, which is numeric. `exclusive` sums what comes before each element
    and leaves itself out; `reverse` begins at the end. ValueError if there is no such axis.

    >>> nt.cumsum([1.0, 2.0, 3.0]).numpy()
    array([1., 3., 6.], dtype=float32)
    >>> nt.cumsum([1.0, 2.0, 3.0], exclusive=True, reverse=True).numpy()
    array([5., 3., 0.], dtype=float32)
    """
    return _scan(cumsum_, "cumsum", x, axis, exclusive, reverse)


@composite(
    "cumprod", "math.cumprod", reference=cumprod_.op.reference, examples=_examples(((4,), -1), ((2, 3), 0))
)  # fmt: skip
def cumprod(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Any:
    """Running product of elements along `axis`.

    The result has the shape and dtype of `x`, which is numeric. `exclusive` multiplies what comes before each element
    and leaves itself out; `reverse` begins at the end. Derivatives divide by nothing: they are right where elements
    are zero. ValueError if there is no such axis.

    >>> nt.math.cumprod([2.0, 3.0, 4.0]).numpy()
    array([ 2.,  6., 24.], dtype=float32)
    """
    return _scan(cumprod_, "cumprod", x, axis, exclusive, reverse)


@composite(
    "math.cumulative_logsumexp", reference=cumulative_logsumexp_.op.reference,
    examples=_examples(((4,), -1), ((2, 3), 0)),
)  # fmt: skip
def cumulative_logsumexp(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Any:
    """Logarithm of the running sum of exponentials along `axis`, without overflow.

    The result has the shape and dtype of `x`, which is floating. `exclusive` sums what comes before each element, so
    that the first is -inf; `reverse` begins at the end. ValueError if there is no such axis.

    >>> nt.math.cumulative_logsumexp([1000.0, 1000.0]).numpy()
    array([1000.    , 1000.6932], dtype=float32)
    """
    return _scan(cumulative_logsumexp_, "cumulative_logsumexp", x, axis, exclusive, reverse)
