"""The marks of what is computed again on the way back, instead of being kept: ops that hand on their first operand.

A *stretch* is what stands between a `checkpoint` and the `recomputed` results that name it. The walk back writes a
stretch once more, on what it reads as `held` values: these wait for the cotangents that call for the copies. So nothing
takes the copies for the originals, or runs them together with them; and the originals die on the way forward.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numtape.dtypes import bool_, tensor_type
from numtape.ir.op import Example, Gradient, Kind, Op, register
from numtape.ops.core import instruction

CHECKPOINT = register(Op(
    "checkpoint", Kind.MAP, (), infer=lambda types, _: tensor_type(bool_, ()), reference=lambda: np.True_,
    gradient=Gradient.NONE, doc="Where a stretch begins that is computed again on the way back.",
    examples=(Example(()),),
))  # fmt: skip


def _zeros(x: Any) -> Any:
    return x.builder.constant(0.0, x.dtype, x.shape) if x.dtype.is_floating else None


recomputed = instruction(
    "recomputed", Kind.ALIAS, parameters=("*values",), infer=lambda types, _: types[0],
    reference=lambda value, *others: value,
    gradient=lambda g, values: (g, None, *map(_zeros, values[2:])),
    doc="A result of a stretch, the checkpoint, and what else counts as an operand, with a derivative of 0 at least.",
    examples=[Example(((2, 3), ()), dtypes=(None, bool_))],
)  # fmt: skip

kept = instruction(
    "kept", Kind.ALIAS, infer=lambda types, _: types[0], reference=lambda x: x, gradient=lambda g: g,
    doc="The operand, which is not computed again.", examples=[Example(((2, 3),))],
)  # fmt: skip

held = instruction(
    "held", Kind.ALIAS, parameters=("*values",), infer=lambda types, _: types[0],
    reference=lambda value, *awaited: value, gradient=lambda g, values: (g, *[None] * (len(values) - 1)),
    doc="The first operand, once the others are known.", examples=[Example(((2, 3), (3,)))],
)  # fmt: skip
