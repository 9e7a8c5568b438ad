"""The instructions that move elements without computing: new shapes, axes in another order, parts, joins.

Reshapes are free. Everything else that is no fused loop is one strided copy, or a fill and copies into parts of one
result; elements travel as integers of their size, and extents, strides and offsets are arguments of the kernels. The
public functions on top of these are in `numtape.ops.rearrange`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any, TypeAlias

import numpy as np

from numtape.dtypes import DType, int32, int64, tensor_type
from numtape.ir.kernel import Kernel
from numtape.ir.op import Example, Gradient, Kind, Op, register
from numtape.ir.program import Instruction
from numtape.ops.core import Shape, TensorType, check_group, describe, instruction

Call: TypeAlias = tuple[Kernel, tuple[int, ...]]
"""A kernel and the integers that follow its pointers."""
Calls: TypeAlias = list[tuple[Kernel, tuple[int, ...], tuple[int, ...]]]
"""Kernels that each write a part of the result, with the numbers of their operands between."""

# ---- shapes: no element moves -----------------------------------------------------------------------------------


def _infer_reshape(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    (x,), (shape,) = types, attributes
    result = tensor_type(x.dtype, shape)
    if result.size != x.size:
        raise ValueError(f"reshape: {describe(types)} has {x.size} elements, which do not fit shape {shape}")
    return result


reshape_to: Any = instruction(
    "reshape", Kind.ALIAS, attributes=("shape",), infer=_infer_reshape,
    reference=lambda x, shape: x.reshape(shape), gradient=lambda g, x: reshape_to(g, x.shape),
    doc="The same elements in the same order under another shape.",
    examples=[
        Example(((2, 3),), {"shape": (3, 2)}), Example(((4,),), {"shape": (2, 1, 2)}),
        Example(((1,),), {"shape": ()}), Example(((0, 3),), {"shape": (5, 0)}),
    ],
)  # fmt: skip

same = instruction(
    "identity", Kind.ALIAS, infer=lambda types, _: types[0], reference=lambda x: x, gradient=lambda g: g,
    doc="The operand, as a value of its own.", examples=[Example(((2, 3),))],
)  # fmt: skip

stop = instruction(
    "stop_gradient", Kind.ALIAS, infer=lambda types, _: types[0], reference=lambda x: x, gradient=Gradient.NONE,
    doc="The operand, as if it were constant.", examples=[Example(((2, 3),))],
)  # fmt: skip

# ---- repetition along axes --------------------------------------------------------------------------------------


def _infer_broadcast(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    (x,), (shape,) = types, attributes
    try:
        fits = np.broadcast_shapes(x.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"broadcast_to: {describe(types)} does not broadcast to shape {shape}: aligned at the right, each of its "
            "axes must have that length or 1"
        )
    return tensor_type(x.dtype, shape)


_BROADCASTS = [
    Example(((3,),), {"shape": (2, 3)}),
    Example(((2, 1),), {"shape": (2, 3)}),
    Example(((2, 1, 3, 1),), {"shape": (2, 4, 3, 5)}),
    Example(((),), {"shape": (2, 2)}),
    Example(((2, 3),), {"shape": (2, 3)}),
    Example(((1, 3),), {"shape": (0, 3)}),
]

broadcast = instruction(
    "broadcast", Kind.MAP, attributes=("shape",), infer=_infer_broadcast, kernel="x", reference=np.broadcast_to,
    gradient=lambda g: g, doc="Elements repeated along axes of length 1 and new leading axes.", examples=_BROADCASTS,
)  # fmt: skip

# ---- kernels ----------------------------------------------------------------------------------------------------


def strides_of(shape: Shape) -> tuple[int, ...]:
    """How many elements apart neighbours along each axis are."""
    return tuple(accumulate(shape[:0:-1], int.__mul__, initial=1))[::-1] if shape else ()


def copy(
    dtype: DType, shape: Shape, source: Sequence[int], target: Sequence[int], start: int = 0, offset: int = 0
) -> Call:
    """Copy a box of `shape` from `x`, where it has strides `source` from `start` on, to `target` and `offset` in `out`.

    Axes that lie as one in both are merged, so that the source depends on what is left of the rank and on whether
    the innermost strides are 0, 1 or any.
    """
    axes: list[tuple[int, int, int]] = []
    for n, s, t in zip(shape, source, target, strict=True):
        if axes and axes[-1][1:] == (n * s, n * t):
            axes[-1] = (axes[-1][0] * n, s, t)
        elif n != 1:
            axes.append((n, s, t))
    axes = axes or [(1, 1, 1)]
    last = len(axes) - 1
    lines, pad = [], "    "
    for k in range(last):
        lines += [f"{pad}for i{k} in range(n{k}):"]
        pad += "    "
        lines += [f"{pad}a{k + 1} = a{k} + i{k} * t{k}", f"{pad}b{k + 1} = b{k} + i{k} * s{k}"]
    _, s, t = axes[last]
    read, write = _along(f"i{last}", s, f"s{last}"), _along(f"i{last}", t, f"t{last}")
    lines += [f"{pad}for i{last} in range(n{last}):", f"{pad}    out[a{last}{write}] = x[b{last}{read}]"]
    extents = [f"{name}{k}" for k in range(last + 1) for name in "nst"]
    source_text = "\n".join([f"def kernel(out, x, a0, b0, {', '.join(extents)}):", *lines, ""])
    pointer = f"u{8 * dtype.itemsize}*"
    kernel = Kernel(f"copy_{last + 1}d", source_text, (pointer, pointer, *["i64"] * (2 + len(extents))))
    return kernel, (offset, start, *(number for axis in axes for number in axis))


def _along(index: str, stride: int, name: str) -> str:
    """The step along the innermost axis: strides 0 and 1 stand in the source, where they become fills and vectors."""
    return {0: "", 1: f" + {index}"}.get(stride, f" + {index} * {name}")


def fill(dtype: DType, size: int, number: Any) -> Call:
    """One number in every element of `out`."""
    code = f"i{8 * dtype.itemsize}"
    source = "def kernel(out, bits, n):\n    for k in range(n):\n        out[k] = bits\n"
    bits = np.asarray(number, dtype.dtype).reshape(1).view(f"i{dtype.itemsize}").item()
    return Kernel("fill", source, (f"{code}*", "i64", "i64")), (bits, size)


def _expand_kernel(out: TensorType, types: Sequence[TensorType], shape: Shape) -> Call:
    (x,) = types
    strides = [0 if n == 1 else s for n, s in zip(x.shape, strides_of(x.shape), strict=True)]
    return copy(out.dtype, out.shape, [0] * (out.rank - x.rank) + strides, strides_of(out.shape))


expand = instruction(
    "expand", Kind.CALL, attributes=("shape",), infer=_infer_broadcast, kernel=_expand_kernel,
    reference=np.broadcast_to, gradient=Gradient.NONE, doc="`broadcast`, written out in memory.", examples=_BROADCASTS,
)  # fmt: skip

# ---- axes in another order --------------------------------------------------------------------------------------


def _infer_transpose(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    (x,), (perm,) = types, attributes
    if sorted(perm) != list(range(x.rank)):
        raise ValueError(
            f"transpose: {perm} does not permute the axes of {describe(types)}; each of 0 to {x.rank - 1} stands in "
            "perm once"
        )
    return tensor_type(x.dtype, tuple(x.shape[a] for a in perm))


def _permute_kernel(out: TensorType, types: Sequence[TensorType], perm: Sequence[int]) -> Call:
    strides = strides_of(types[0].shape)
    return copy(out.dtype, out.shape, [strides[a] for a in perm], strides_of(out.shape))


def inverse(perm: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes this one."""
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


permute: Any = instruction(
    "transpose", Kind.CALL, attributes=("perm",), infer=_infer_transpose, kernel=_permute_kernel,
    reference=lambda x, perm: x.transpose(perm), gradient=lambda g, perm: permute(g, inverse(perm)),
    doc="Axes in another order.",
    examples=[
        Example(((2, 3),), {"perm": (1, 0)}), Example(((2, 3, 4),), {"perm": (2, 0, 1)}),
        Example(((2, 3, 4),), {"perm": (0, 2, 1)}), Example(((2, 1, 3, 2),), {"perm": (3, 1, 0, 2)}),
        Example(((),), {"perm": ()}), Example(((0, 3),), {"perm": (1, 0)}),
    ],
)  # fmt: skip

# ---- a box of elements, and its inverse: zeros around a box -----------------------------------------------------


def _check_box(name: str, whole: Shape, begin: Shape, size: Shape, step: Shape) -> None:
    if not len(whole) == len(begin) == len(size) == len(step):
        raise ValueError(f"{name}: begin {begin}, size {size} and step {step} need one number for each axis of {whole}")
    for n, b, count, s in zip(whole, begin, size, step, strict=True):
        if count and not (0 <= b < n and 0 <= b + (count - 1) * s < n and s):
            raise ValueError(f"{name}: begin {begin}, size {size}, step {step} reach out of shape {whole}")


def _infer_slice(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    (x,), (begin, size, step) = types, attributes
    _check_box("slice", x.shape, begin, size, step)
    return tensor_type(x.dtype, size)


def _infer_embed(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    (x,), (shape, begin, step, _) = types, attributes
    _check_box("embed", shape, begin, x.shape, step)
    return tensor_type(x.dtype, shape)


def _box(size: Shape, begin: Shape, step: Shape) -> Any:
    return np.ix_(*[b + s * np.arange(n) for n, b, s in zip(size, begin, step, strict=True)])


def _embed_reference(x: Any, shape: Shape, begin: Shape, step: Shape, fill: Any) -> Any:
    out = np.full(shape, fill, x.dtype)
    out[_box(x.shape, begin, step)] = x
    return out


def _strided(whole: Shape, begin: Shape, step: Shape) -> tuple[list[int], int]:
    """Strides and offset of a box in a tensor of shape `whole`."""
    unit = strides_of(whole)
    return [u * s for u, s in zip(unit, step, strict=True)], sum(u * b for u, b in zip(unit, begin, strict=True))


def _slice_kernel(out: TensorType, types: Sequence[TensorType], begin: Shape, size: Shape, step: Shape) -> Call:
    strides, start = _strided(types[0].shape, begin, step)
    return copy(out.dtype, size, strides, strides_of(size), start=start)


def _embed_kernel(
    out: TensorType, types: Sequence[TensorType], shape: Shape, begin: Shape, step: Shape, number: Any
) -> Calls:
    (x,) = types
    strides, offset = _strided(shape, begin, step)
    background, numbers = fill(out.dtype, out.size, number)
    kernel, extents = copy(out.dtype, x.shape, strides_of(x.shape), strides, offset=offset)
    return [(background, (), numbers), (kernel, (0,), extents)]


def _slice_gradient(g: Any, x: Any, begin: Shape, size: Shape, step: Shape) -> Any:
    if size == x.shape and all(abs(s) == 1 for s in step):  # a reversal undoes itself
        return slice_of(g, begin, size, step)
    return embed(g, x.shape, begin, step, 0)


slice_of: Any = instruction(
    "slice", Kind.CALL, attributes=("begin", "size", "step"), infer=_infer_slice, kernel=_slice_kernel,
    reference=lambda x, begin, size, step: x[_box(size, begin, step)], gradient=_slice_gradient,
    doc="A box of elements: `size` of them along each axis, from `begin` on, `step` apart.",
    examples=[
        Example(((5,),), {"begin": (1,), "size": (3,), "step": (1,)}),
        Example(((5,),), {"begin": (4,), "size": (3,), "step": (-2,)}),
        Example(((4, 5),), {"begin": (1, 4), "size": (2, 5), "step": (2, -1)}),
        Example(((2, 3, 4),), {"begin": (1, 0, 1), "size": (1, 3, 2), "step": (1, 1, 2)}),
        Example(((2, 3),), {"begin": (0, 2), "size": (2, 3), "step": (1, -1)}),
        Example(((2, 3),), {"begin": (0, 0), "size": (2, 0), "step": (1, 1)}),
        Example(((),), {"begin": (), "size": (), "step": ()}),
    ],
)  # fmt: skip

embed = instruction(
    "embed", Kind.CALL, attributes=("shape", "begin", "step", "fill"), infer=_infer_embed, kernel=_embed_kernel,
    reference=_embed_reference, gradient=lambda g, x, begin, step: slice_of(g, begin, x.shape, step),
    doc="The operand as a box of a larger tensor, and one number everywhere else.",
    examples=[
        Example(((3,),), {"shape": (5,), "begin": (1,), "step": (1,), "fill": 0}),
        Example(((3,),), {"shape": (5,), "begin": (4,), "step": (-2,), "fill": 1}),
        Example(((2, 3),), {"shape": (4, 4), "begin": (1, 0), "step": (2, 1), "fill": 0}),
        Example(((2, 3),), {"shape": (2, 3), "begin": (0, 0), "step": (1, 1), "fill": 0}),
        Example(((0, 3),), {"shape": (2, 3), "begin": (0, 0), "step": (1, 1), "fill": 1}),
        Example(((),), {"shape": (), "begin": (), "step": (), "fill": 0}),
    ],
)  # fmt: skip

# ---- joins ------------------------------------------------------------------------------------------------------


def _infer_concat(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    (axis,) = attributes
    dtype = check_group("concat", types)
    first = types[0].shape
    others = {t.shape[:axis] + t.shape[axis + 1 :] for t in types}
    if len({t.rank for t in types}) > 1 or len(others) > 1 or not 0 <= axis < len(first):
        raise ValueError(f"concat: {describe(types)} along axis {axis}: all other axes must have equal lengths")
    return tensor_type(dtype, (*first[:axis], sum(t.shape[axis] for t in types), *first[axis + 1 :]))


def _concat_kernel(out: TensorType, types: Sequence[TensorType], axis: int) -> Calls:
    outer, length = prod(out.shape[:axis]), prod(out.shape[axis:])
    calls: Calls = []
    offset = 0
    for k, t in enumerate(types):
        part = prod(t.shape[axis:])
        if part:
            kernel, extents = copy(out.dtype, (outer, part), (part, 1), (length, 1), offset=offset)
            calls.append((kernel, (k,), extents))
        offset += part
    return calls


def _concat_gradient(g: Any, values: Any, axis: int) -> Any:
    ends = accumulate((v.shape[axis] for v in values), initial=0)
    return [
        slice_of(g, tuple(at if a == axis else 0 for a in range(g.rank)), v.shape, (1,) * g.rank)
        for v, at in zip(values, ends, strict=False)
    ]


concat_along = instruction(
    "concat", Kind.CALL, parameters=("*values",), attributes=("axis",), infer=_infer_concat, kernel=_concat_kernel,
    reference=lambda *values, axis: np.concatenate(values, axis), gradient=_concat_gradient,
    doc="Tensors one after another along an axis.",
    examples=[
        Example(((2, 3), (4, 3)), {"axis": 0}), Example(((2, 1), (2, 3), (2, 2)), {"axis": 1}),
        Example(((2, 2, 3), (2, 1, 3)), {"axis": 1}), Example(((3,),), {"axis": 0}),
        Example(((2, 0), (2, 3)), {"axis": 1}), Example(((0, 2), (0, 2)), {"axis": 0}),
    ],
)  # fmt: skip

# ---- a few integers ---------------------------------------------------------------------------------------------


def _integers_kernel(out: TensorType, types: Sequence[TensorType], dtype: DType, values: Shape) -> Call:
    names = [f"n{k}" for k in range(len(values))]
    lines = [f"def kernel(out, {', '.join(names)}):", *(f"    out[{k}] = {name}" for k, name in enumerate(names)), ""]
    return Kernel(f"integers_{len(values)}", "\n".join(lines), (f"{dtype.code}*", *["i64"] * len(values))), values


INTEGERS = register(
    Op(
        "integers", Kind.CALL, (), ("dtype", "values"), gradient=Gradient.NONE, kernel=_integers_kernel,
        infer=lambda types, attributes: tensor_type(attributes[0], (len(attributes[1]),)),
        reference=lambda dtype, values: np.array(values, dtype.dtype), doc="A few given integers as a vector.",
        examples=(Example((), {"dtype": int32, "values": (3, -1)}), Example((), {"dtype": int64, "values": (2**40,)})),
    )
)


def integers(like: Any, values: Sequence[int], dtype: DType) -> Any:
    """Numbers that are arguments of a kernel, unlike literals, which stand in its source; in the builder of `like`."""
    attributes = (dtype, tuple(values))
    assert INTEGERS.infer is not None
    return like.builder.append(Instruction(INTEGERS, (), attributes, INTEGERS.infer((), attributes)))
