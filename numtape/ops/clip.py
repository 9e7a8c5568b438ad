"""Bounds on the length of tensors, as gradients get them before a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numtape.ir.op import Example, Kind, Op, register
from numtape.ops.core import Tensor, apply, check_kind, composite, normalize_axes, operand_list, public
from numtape.ops.elementwise import maximum, square
from numtape.ops.movement import reshape_to
from numtape.ops.reduction import length_, root, sum_


def _reference_clip(t: Any, clip_norm: Any, axes: Any) -> Any:
    axis = None if axes is None else tuple(np.atleast_1d(axes))
    return t * clip_norm / np.maximum(np.sqrt(np.sum(t * t, axis=axis, keepdims=True)), clip_norm)


@composite(
    "clip_by_norm", reference=_reference_clip,
    examples=[
        Example(((2, 3), ()), {"axes": axes}, domains=((-3, 3), (bound, bound + 0.1)))
        for axes, bound in ((None, 0.5), (None, 100.0), (-1, 0.1), ((0, 1), 1.0))
    ],
)  # fmt: skip
def clip_by_norm(t: Tensor, clip_norm: Tensor, axes: Any = None) -> Any:
    """A tensor made shorter, where its Euclidean norm over `axes` (None: all) is more than `clip_norm`.

    Takes float32 or float64, and gives the same. ValueError if there is no such axis.

    >>> nt.clip_by_norm([3.0, 4.0], 1.0).numpy()
    array([0.6, 0.8], dtype=float32)
    """
    check_kind("clip_by_norm", t.type, "float")
    return t * clip_norm / maximum(length_(t, normalize_axes("clip_by_norm", axes, t.rank)), clip_norm)


def _norm(tensors: Sequence[Any]) -> Any:
    """Euclidean norm of the elements of all tensors together."""
    for t in tensors:
        check_kind("global_norm", t.type, "float")
    squares = [reshape_to(sum_(square(t), tuple(range(t.rank))), ()) for t in tensors]
    return root(sum(squares[1:], squares[0]))


def _reference_norm(t_list: Any) -> Any:
    return np.sqrt(sum(np.sum(t * t) for t in t_list))


def _clip(values: Sequence[Any], attributes: tuple[Any, ...]) -> list[Any]:
    *tensors, limit, norm = values
    # Differs from 0 where the norm is infinite or nan: then all is nan, rather than a part 0.
    wrong = norm - norm
    return [t * (limit / maximum(norm, limit) + wrong) for t in tensors]


def _reference_all(t_list: Any) -> Any:
    *tensors, limit, norm = t_list
    return [t * limit / np.maximum(norm, limit) for t in tensors]


_GLOBAL_NORM = register(
    Op(
        "nt.linalg.global_norm", Kind.COMPOSITE, ("*t_list",), groups=("T",), reference=_reference_norm,
        expand=lambda values, attributes: _norm(values), doc="See nt.linalg.global_norm.",
        examples=(Example(((2, 3), (), (4,))), Example(((2, 2),))),
    )
)  # fmt: skip
_CLIP = register(
    Op(
        "nt.clip_by_global_norm", Kind.COMPOSITE, ("*t_list",), groups=("T",), expand=_clip, reference=_reference_all,
        doc="See nt.clip_by_global_norm.",
        examples=(Example(((2, 3), (4,), (), ()), domains=((-3, 3), (-3, 3), (1, 2), (3, 4))),),
    )
)  # fmt: skip


@public(_GLOBAL_NORM, "linalg.global_norm")
def global_norm(t_list: Any, name: str | None = None) -> Any:
    """Euclidean norm of the elements of a list of tensors, as if they were one.

    Takes float32 or float64, and gives a scalar of the same; entries that are None are left out. ValueError if none is
    left.

    >>> float(nt.linalg.global_norm([[3.0], None, [[0.0, 4.0]]]))
    5.0
    """
    return apply(_GLOBAL_NORM, operand_list([t for t in operand_list(t_list) if t is not None]))


@public(_CLIP, "clip_by_global_norm")
def clip_by_global_norm(t_list: Any, clip_norm: Any, use_norm: Any = None, name: str | None = None) -> Any:
    """A list of tensors made shorter by one factor, where their common norm is more than `clip_norm`; and that norm.

    Takes float32 or float64, and gives the same; entries that are None stay None. `use_norm` is the norm where it is
    known. If the norm is not finite, all elements become nan. After Pascanu et al., "On the difficulty of training
    Recurrent Neural Networks" (2012).

    >>> clipped, norm = nt.clip_by_global_norm([[3.0], None, [4.0]], 1.0)
    >>> [g if g is None else g.numpy() for g in clipped], float(norm)
    ([array([0.6], dtype=float32), None, array([0.8], dtype=float32)], 5.0)
    """
    given = [t for t in operand_list(t_list) if t is not None]
    norm = global_norm(given) if use_norm is None else use_norm
    clipped = iter(apply(_CLIP, [*given, clip_norm, norm]))
    return [t if t is None else next(clipped) for t in t_list], norm
