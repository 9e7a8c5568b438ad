"""Public functions that rearrange elements: shapes, axes, parts, joins, repetitions, borders.

They are written with the instructions of `numtape.ops.movement`, and with nothing else: gradients of every order
follow from those.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from numtape.dtypes import DType, as_dtype, int32
from numtape.ir.op import Example, Kind, Op, register
from numtape.ops.core import (
    Shape,
    Tensor,
    Tensors,
    apply,
    composite,
    describe,
    normalize_axes,
    normalize_axis,
    operand_list,
    public,
)
from numtape.ops.movement import broadcast, concat_along, embed, integers, permute, reshape_to, same, slice_of, stop

# ---- checks -----------------------------------------------------------------------------------------------------


def integer(name: str, what: str, number: Any) -> int:
    """An option that has to be one integer."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name}: {what} is an integer, got {number!r}")
    return number


def integer_list(name: str, what: str, numbers: Any) -> Shape:
    """An option that is a list of integers; one integer stands for a list of one."""
    listed = numbers if isinstance(numbers, tuple | list) else (numbers,)
    return tuple(integer(name, f"each of {what}", n) for n in listed)


def resolve_shape(name: str, shape: Any, size: int) -> Shape:
    """A user's shape with its one -1 filled in."""
    extents = integer_list(name, "shape", shape)
    if any(n < -1 for n in extents) or extents.count(-1) > 1:
        raise ValueError(f"{name}: {extents} is not a shape: integers from 0, and at most one -1")
    if -1 not in extents:
        return extents
    known = -prod(extents)
    if not known or size % known:
        raise ValueError(f"{name}: {size} elements do not fit shape {extents}")
    return tuple(size // known if n == -1 else n for n in extents)


def number_of(dtype: DType, name: str, what: str, number: Any) -> Any:
    """An option that has to be a number that elements of this dtype can be."""
    fits = isinstance(number, bool) if dtype.is_bool else isinstance(number, int) and not isinstance(number, bool)
    if not (fits or (dtype.is_floating and isinstance(number, float))):
        raise TypeError(f"{name}: {what} {number!r} is no number for elements of {dtype.name}")
    if dtype.is_integer and not dtype.min <= number <= dtype.max:
        raise ValueError(f"{name}: {what} {number} does not fit {dtype.name}")
    return number


def part(x: Any, axis: int, begin: int, size: int, step: int = 1) -> Any:
    """Some of `x` along one axis, and everything along the others."""

    def here(number: int, elsewhere: Shape) -> Shape:
        return (*elsewhere[:axis], number, *elsewhere[axis + 1 :])

    return slice_of(x, here(begin, (0,) * x.rank), here(size, x.shape), here(step, (1,) * x.rank))


# ---- shapes -----------------------------------------------------------------------------------------------------


@composite(reference=np.asarray, examples=[Example(((2, 3),)), Example(((),))])
def identity(input: Tensor) -> Any:
    """A tensor with the same elements, which is one of its own for a tape.

    >>> nt.identity([1.0, 2.0]).numpy()
    array([1., 2.], dtype=float32)
    """
    return same(input)


@composite(reference=np.asarray, examples=[Example(((2, 3),))])
def stop_gradient(input: Tensor) -> Any:
    """The operand, through which no gradient flows: whoever differentiates the result sees a constant.

    >>> x = nt.constant(3.0)
    >>> with nt.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = x * nt.stop_gradient(x)
    >>> tape.gradient(y, x).numpy()
    np.float32(3.0)
    """
    return stop(input)


@composite(
    reference=lambda tensor, shape: tensor.reshape(shape),
    examples=[
        Example(((2, 6),), {"shape": (3, -1)}), Example(((2, 3),), {"shape": -1}), Example(((1, 1),), {"shape": ()}),
        Example(((0, 3),), {"shape": (-1, 3)}),
    ],
)  # fmt: skip
def reshape(tensor: Tensor, shape: Any) -> Any:
    """The same elements in the same order under another shape; one -1 stands for what is left.

    ValueError if the shape holds another number of elements.

    >>> nt.reshape([[1, 2, 3], [4, 5, 6]], (3, -1)).numpy()
    array([[1, 2],
           [3, 4],
           [5, 6]], dtype=int32)
    """
    return reshape_to(tensor, resolve_shape("reshape", shape, tensor.type.size))


@composite(
    reference=np.expand_dims,
    examples=[Example(((2, 3),), {"axis": 1}), Example(((2, 3),), {"axis": -1}), Example(((),), {"axis": 0})],
)
def expand_dims(input: Tensor, axis: int) -> Any:
    """A new axis of length 1 that becomes axis number `axis`; negative numbers count from the end of the result.

    >>> nt.expand_dims([1.0, 2.0], axis=-1).shape
    (2, 1)
    """
    axis = normalize_axis("expand_dims", axis, input.rank + 1)
    return reshape_to(input, (*input.shape[:axis], 1, *input.shape[axis:]))


@composite(
    reference=np.squeeze,
    examples=[
        Example(((2, 1, 3, 1),), {"axis": None}), Example(((2, 1, 3, 1),), {"axis": (-1,)}),
        Example(((1, 2, 1),), {"axis": 0}), Example(((2,),), {"axis": None}),
    ],
)  # fmt: skip
def squeeze(input: Tensor, axis: Any = None) -> Any:
    """Without axes of length 1: all of them, or those in `axis` (an integer or several).

    ValueError if a named axis has another length.

    >>> nt.squeeze(np.zeros((1, 3, 1))).shape, nt.squeeze(np.zeros((1, 3, 1)), axis=0).shape
    ((3,), (3, 1))
    """
    axes = normalize_axes("squeeze", axis, input.rank)
    if axis is None:
        axes = tuple(a for a in axes if input.shape[a] == 1)
    for a in axes:
        if input.shape[a] != 1:
            raise ValueError(f"squeeze: axis {a} of {describe([input.type])} has length {input.shape[a]}, not 1")
    return reshape_to(input, tuple(n for a, n in enumerate(input.shape) if a not in axes))


@composite(
    reference=np.broadcast_to,
    examples=[Example(((3,),), {"shape": (2, 3)}), Example(((2, 1, 2),), {"shape": [4, 2, 3, 2]})],
)
def broadcast_to(input: Tensor, shape: Any) -> Any:
    """Repeated to a shape by NumPy's rules: along axes of length 1, and along new leading axes.

    ValueError if the shapes do not fit.

    >>> nt.broadcast_to([1, 2], (3, 2)).numpy()
    array([[1, 2],
           [1, 2],
           [1, 2]], dtype=int32)
    """
    return broadcast(input, integer_list("broadcast_to", "shape", shape))


@composite(
    reference=lambda input, out_type: np.array(input.shape, as_dtype(out_type).dtype),
    examples=[Example(((2, 3),), {"out_type": int32}), Example(((),), {"out_type": "int64"})],
)
def shape(input: Tensor, out_type: Any = int32) -> Any:
    """The shape as a vector of integers; `x.shape` gives it to Python at no cost.

    >>> nt.shape([[1.0, 2.0, 3.0]]).numpy()
    array([1, 3], dtype=int32)
    """
    return integers(input, input.shape, as_dtype(out_type))


@composite(reference=lambda input: np.array(input.ndim, np.int32), examples=[Example(((2, 3),)), Example(((),))])
def rank(input: Tensor) -> Any:
    """The number of axes, as an int32 tensor of rank 0.

    >>> nt.rank([[1.0, 2.0, 3.0]]).numpy()
    np.int32(2)
    """
    return reshape_to(integers(input, (input.rank,), int32), ())


@composite(
    reference=lambda input, out_type: np.array(input.size, as_dtype(out_type).dtype),
    examples=[Example(((2, 3),), {"out_type": int32}), Example(((0, 3),), {"out_type": int32})],
)
def size(input: Tensor, out_type: Any = int32) -> Any:
    """The number of elements, as a tensor of rank 0.

    >>> nt.size([[1.0, 2.0, 3.0]]).numpy()
    np.int32(3)
    """
    return reshape_to(integers(input, (input.type.size,), as_dtype(out_type)), ())


# ---- axes -------------------------------------------------------------------------------------------------------


@composite(
    reference=lambda a, perm: a.transpose(perm),
    examples=[
        Example(((2, 3, 4),), {"perm": None}), Example(((2, 3, 4),), {"perm": [1, -1, 0]}),
        Example(((),), {"perm": None}),
    ],
)  # fmt: skip
def transpose(a: Tensor, perm: Any = None) -> Any:
    """Axes in another order: axis k of the result is axis `perm[k]` of `a`; without `perm` the order is reversed.

    ValueError if `perm` does not name each axis once.

    >>> nt.transpose([[1, 2, 3], [4, 5, 6]]).numpy()
    array([[1, 4],
           [2, 5],
           [3, 6]], dtype=int32)
    """
    if perm is None:
        return permute(a, tuple(range(a.rank))[::-1])
    return permute(a, tuple(normalize_axis("transpose", k, a.rank) for k in integer_list("transpose", "perm", perm)))


@composite(
    "linalg.matrix_transpose",
    reference=lambda a: np.swapaxes(a, -1, -2),
    examples=[Example(((2, 3),)), Example(((2, 3, 4),))],
)
def matrix_transpose(a: Tensor) -> Any:
    """The last two axes exchanged, for any number of leading axes; ValueError below rank 2.

    >>> nt.linalg.matrix_transpose(np.zeros((5, 2, 3))).shape
    (5, 3, 2)
    """
    if a.rank < 2:
        raise ValueError(f"matrix_transpose: {describe([a.type])} is no matrix: it needs at least two axes")
    return permute(a, (*range(a.rank - 2), a.rank - 1, a.rank - 2))


@composite(
    reference=np.flip,
    examples=[
        Example(((2, 3),), {"axis": [0]}), Example(((2, 3),), {"axis": [-1, 0]}), Example(((2, 3),), {"axis": 1}),
        Example(((0, 3),), {"axis": [0]}), Example(((2, 3),), {"axis": []}),
    ],
)  # fmt: skip
def reverse(tensor: Tensor, axis: Any) -> Any:
    """The elements in the opposite order along some axes (a list, or one integer).

    >>> nt.reverse([[1, 2, 3], [4, 5, 6]], axis=[1]).numpy()
    array([[3, 2, 1],
           [6, 5, 4]], dtype=int32)
    """
    if axis is None:
        raise TypeError("reverse: axis is a list of integers, got None")
    axes = normalize_axes("reverse", axis, tensor.rank)
    begin = tuple(max(n - 1, 0) if a in axes else 0 for a, n in enumerate(tensor.shape))
    return slice_of(tensor, begin, tensor.shape, tuple(-1 if a in axes else 1 for a in range(tensor.rank)))


@composite(
    reference=np.roll,
    examples=[
        Example(((5,),), {"shift": 2, "axis": 0}), Example(((2, 3),), {"shift": [1, -4], "axis": [0, -1]}),
        Example(((4, 2),), {"shift": [1, 2], "axis": [0, 0]}), Example(((3,),), {"shift": 3, "axis": 0}),
        Example(((0,),), {"shift": 1, "axis": 0}),
    ],
)  # fmt: skip
def roll(input: Tensor, shift: Any, axis: Any) -> Any:
    """Elements moved on by `shift` places along `axis`; what leaves at the end comes in at the beginning.

    `shift` and `axis` are integers, or lists of equal length (ValueError otherwise).

    >>> nt.roll([1, 2, 3, 4], shift=1, axis=0).numpy()
    array([4, 1, 2, 3], dtype=int32)
    """
    shifts, axes = integer_list("roll", "shift", shift), integer_list("roll", "axis", axis)
    if len(shifts) != len(axes):
        raise ValueError(f"roll: {len(shifts)} shifts for {len(axes)} axes; each axis needs its own")
    result = reshape_to(input, input.shape)
    for s, number in zip(shifts, axes, strict=True):
        a = normalize_axis("roll", number, input.rank)
        n = input.shape[a]
        if n and s % n:
            result = concat_along([part(result, a, n - s % n, s % n), part(result, a, 0, n - s % n)], a)
    return result


# ---- parts ------------------------------------------------------------------------------------------------------


def _slice_reference(input_: Any, begin: Any, size: Any) -> Any:
    return input_[tuple(slice(b, None if n == -1 else b + n) for b, n in zip(begin, size, strict=True))]


@composite(
    "slice",
    reference=_slice_reference,
    examples=[
        Example(((4, 5),), {"begin": [1, 2], "size": [2, 3]}), Example(((4, 5),), {"begin": [0, 3], "size": [-1, -1]}),
        Example(((3,),), {"begin": [3], "size": [0]}),
    ],
)  # fmt: skip
def slice_(input_: Tensor, begin: Any, size: Any) -> Any:
    """A box of elements: along each axis `size` of them from `begin` on; -1 stands for all that are left.

    `begin` and `size` have a number for each axis; ValueError if the box is not within the tensor.

    >>> nt.slice([[1, 2, 3], [4, 5, 6]], begin=[0, 1], size=[-1, 2]).numpy()
    array([[2, 3],
           [5, 6]], dtype=int32)
    """
    begin, size = integer_list("slice", "begin", begin), integer_list("slice", "size", size)
    if not len(begin) == len(size) == input_.rank:
        raise ValueError(
            f"slice: begin {begin} and size {size} need one number for each axis of {describe([input_.type])}"
        )
    size = tuple(n - b if count == -1 else count for n, b, count in zip(input_.shape, begin, size, strict=True))
    if any(b < 0 or count < 0 or b + count > n for n, b, count in zip(input_.shape, begin, size, strict=True)):
        raise ValueError(f"slice: begin {begin} and size {size} reach out of {describe([input_.type])}")
    return slice_of(input_, begin, size, (1,) * input_.rank)


def _split_reference(value: Any, num_or_size_splits: Any, axis: int) -> Any:
    if isinstance(num_or_size_splits, int):
        return np.split(value, num_or_size_splits, axis)
    left = value.shape[axis] - sum(n for n in num_or_size_splits if n != -1)
    sizes = [left if n == -1 else n for n in num_or_size_splits]
    return np.split(value, np.cumsum(sizes)[:-1], axis)


@composite(
    reference=_split_reference,
    examples=[
        Example(((4, 3),), {"num_or_size_splits": 2, "axis": 0}),
        Example(((2, 6),), {"num_or_size_splits": [1, -1, 2], "axis": -1}),
        Example(((2, 3),), {"num_or_size_splits": [3, 0], "axis": 1}),
    ],
)
def split(value: Tensor, num_or_size_splits: Any, axis: int = 0) -> Any:
    """Parts of a tensor along an axis, as a list.

    An integer gives that many equal parts; a list gives the length of each part, and one -1 stands for what is left.
    ValueError if the lengths do not add up.

    >>> [x.numpy().tolist() for x in nt.split([1, 2, 3, 4, 5, 6], 3)]
    [[1, 2], [3, 4], [5, 6]]
    >>> [x.numpy().tolist() for x in nt.split([1, 2, 3, 4, 5, 6], [1, -1])]
    [[1], [2, 3, 4, 5, 6]]
    """
    axis = normalize_axis("split", axis, value.rank)
    length = value.shape[axis]
    if isinstance(num_or_size_splits, tuple):
        sizes = integer_list("split", "num_or_size_splits", num_or_size_splits)
        if sizes.count(-1) == 1:
            sizes = tuple(length - sum(sizes) - 1 if n == -1 else n for n in sizes)
        if min(sizes, default=0) < 0 or sum(sizes) != length:
            raise ValueError(
                f"split: parts of lengths {num_or_size_splits} do not make up axis {axis} of {describe([value.type])}"
            )
    else:
        count = integer("split", "num_or_size_splits", num_or_size_splits)
        if count < 1 or length % count:
            raise ValueError(
                f"split: axis {axis} of {describe([value.type])} does not fall into {count} equal parts; give a list "
                "of lengths"
            )
        sizes = (length // count,) * count
    return [part(value, axis, sum(sizes[:k]), n) for k, n in enumerate(sizes)]


@composite(
    reference=lambda value, num, axis: list(np.moveaxis(value, axis, 0)),
    examples=[
        Example(((3, 2),), {"num": None, "axis": 0}), Example(((2, 3, 2),), {"num": 3, "axis": -2}),
        Example(((2,),), {"num": None, "axis": 0}),
    ],
)  # fmt: skip
def unstack(value: Tensor, num: int | None = None, axis: int = 0) -> Any:
    """The tensors of one rank less that lie along an axis, as a list: what `stack` joins.

    `num` is how many there are, if given (ValueError if there are others).

    >>> [x.numpy().tolist() for x in nt.unstack([[1, 2], [3, 4], [5, 6]])]
    [[1, 2], [3, 4], [5, 6]]
    """
    axis = normalize_axis("unstack", axis, value.rank)
    length = value.shape[axis]
    if num is not None and num != length:
        raise ValueError(f"unstack: axis {axis} of {describe([value.type])} has length {length}, not {num}")
    shape = value.shape[:axis] + value.shape[axis + 1 :]
    return [reshape_to(part(value, axis, k, 1), shape) for k in range(length)]


# ---- joins ------------------------------------------------------------------------------------------------------


@composite(
    reference=np.concatenate,
    examples=[
        Example(((2, 3), (1, 3), (2, 3)), {"axis": 0}), Example(((2, 1), (2, 3)), {"axis": -1}),
        Example(((0, 3), (2, 3)), {"axis": 0}),
    ],
)  # fmt: skip
def concat(values: Tensors, axis: int) -> Any:
    """Tensors joined along one of their axes; all other axes must have equal lengths (ValueError).

    All have one dtype (TypeError).

    >>> nt.concat([[[1, 2]], [[3, 4], [5, 6]]], axis=0).numpy()
    array([[1, 2],
           [3, 4],
           [5, 6]], dtype=int32)
    """
    first = values[0]
    if first.rank == 0:
        raise ValueError("concat: tensors of rank 0 have no axis to join along; write nt.stack(values)")
    return concat_along(values, normalize_axis("concat", axis, first.rank))


@composite(
    reference=np.stack,
    examples=[
        Example(((2, 3), (2, 3)), {"axis": 0}), Example(((2, 3), (2, 3), (2, 3)), {"axis": -1}),
        Example(((), ()), {"axis": 0}), Example(((2, 0), (2, 0)), {"axis": 1}),
    ],
)  # fmt: skip
def stack(values: Tensors, axis: int = 0) -> Any:
    """Tensors of one shape joined along a new axis; ValueError if the shapes differ.

    >>> nt.stack([[1, 2], [3, 4], [5, 6]], axis=1).numpy()
    array([[1, 3, 5],
           [2, 4, 6]], dtype=int32)
    """
    shape = values[0].shape
    if any(v.shape != shape for v in values):
        raise ValueError(f"stack: {describe([v.type for v in values])} do not have one shape")
    axis = normalize_axis("stack", axis, len(shape) + 1)
    return concat_along([reshape_to(v, (*shape[:axis], 1, *shape[axis:])) for v in values], axis)


# ---- repetitions ------------------------------------------------------------------------------------------------


@composite(
    reference=lambda input, multiples: np.tile(input, reps=multiples),
    examples=[
        Example(((2, 3),), {"multiples": [2, 1]}), Example(((2, 3),), {"multiples": [3, 2]}),
        Example(((3,),), {"multiples": [0]}), Example(((),), {"multiples": []}),
    ],
)  # fmt: skip
def tile(input: Tensor, multiples: Any) -> Any:
    """The whole tensor repeated along each axis; `multiples` has a number for each.

    >>> nt.tile([[1, 2]], [2, 2]).numpy()
    array([[1, 2, 1, 2],
           [1, 2, 1, 2]], dtype=int32)
    """
    multiples = integer_list("tile", "multiples", multiples)
    if len(multiples) != input.rank or min(multiples, default=0) < 0:
        raise ValueError(
            f"tile: multiples {multiples} need one number from 0 for each axis of {describe([input.type])}"
        )
    apart = reshape_to(input, tuple(k for n in input.shape for k in (1, n)))
    pairs = list(zip(multiples, input.shape, strict=True))
    return reshape_to(broadcast(apart, tuple(k for pair in pairs for k in pair)), tuple(m * n for m, n in pairs))


@composite(
    reference=np.repeat,
    examples=[
        Example(((2, 3),), {"repeats": 2, "axis": 0}), Example(((2, 3),), {"repeats": 2, "axis": -1}),
        Example(((2, 3),), {"repeats": 3, "axis": None}), Example(((2,),), {"repeats": 0, "axis": 0}),
    ],
)  # fmt: skip
def repeat(input: Tensor, repeats: int, axis: int | None = None) -> Any:
    """Each element repeated in place along an axis; without `axis` the tensor is flattened first.

    >>> nt.repeat([1, 2], repeats=2, axis=0).numpy()
    array([1, 1, 2, 2], dtype=int32)
    """
    if isinstance(repeats, tuple):
        raise TypeError(
            f"repeat: repeats is one integer, got {repeats}; for a number of each write "
            "nt.gather(x, np.repeat(np.arange(n), repeats), axis)"
        )
    if integer("repeat", "repeats", repeats) < 0:
        raise ValueError(f"repeat: repeats {repeats} is negative")
    shape = input.shape if axis is not None else (input.type.size,)
    axis = normalize_axis("repeat", axis, input.rank) if axis is not None else 0
    before, after = shape[: axis + 1], shape[axis + 1 :]
    apart = broadcast(reshape_to(input, (*before, 1, *after)), (*before, repeats, *after))
    return reshape_to(apart, (*shape[:axis], shape[axis] * repeats, *after))


def _expand_meshgrid(values: Sequence[Any], attributes: tuple[Any, ...]) -> Any:
    (indexing,) = attributes
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing is 'xy' or 'ij', got {indexing!r}")
    order = list(range(len(values)))
    if indexing == "xy" and len(order) > 1:
        order[:2] = [1, 0]
    shape = tuple(values[k].type.size for k in order)
    return [
        broadcast(reshape_to(x, tuple(x.type.size if order[a] == k else 1 for a in range(len(shape)))), shape)
        for k, x in enumerate(values)
    ]


MESHGRID = register(
    Op(
        "nt.meshgrid", Kind.COMPOSITE, ("args",), ("indexing",), expand=_expand_meshgrid, groups=("T",),
        reference=lambda args, indexing: np.meshgrid(*args, indexing=indexing), doc="See nt.meshgrid.",
        examples=(
            Example(((2,), (3,)), {"indexing": "xy"}), Example(((2,), (3,), (4,)), {"indexing": "xy"}),
            Example(((2,), (3,), ()), {"indexing": "ij"}),
        ),
    )
)


@public(MESHGRID, "meshgrid")
def meshgrid(*args: Any, indexing: str = "xy", name: Any = None) -> Any:
    """Coordinates of a grid over vectors: a list with a tensor of the grid's shape for each.

    With `indexing="ij"` the grid has the vectors' lengths in order; with "xy" the first two change places.

    >>> x, y = nt.meshgrid([1, 2, 3], [10, 20])
    >>> x.numpy(), y.numpy()
    (array([[1, 2, 3],
           [1, 2, 3]], dtype=int32), array([[10, 10, 10],
           [20, 20, 20]], dtype=int32))
    """
    return apply(MESHGRID, operand_list(args), (indexing,))


# ---- borders ----------------------------------------------------------------------------------------------------


def _pad_reference(tensor: Any, paddings: Any, mode: str, constant_values: Any) -> Any:
    options = {"constant_values": constant_values} if mode == "CONSTANT" else {}
    return np.pad(tensor, paddings, mode.lower(), **options)  # type: ignore[call-overload]


@composite(
    reference=_pad_reference,
    examples=[
        Example(((2, 3),), {"paddings": [[1, 0], [2, 1]], "mode": "CONSTANT", "constant_values": 0}),
        Example(((2, 3),), {"paddings": [[0, 1], [0, 0]], "mode": "CONSTANT", "constant_values": 1}),
        Example(((0, 2),), {"paddings": [[1, 1], [0, 1]], "mode": "CONSTANT", "constant_values": 1}),
        Example(((3, 4),), {"paddings": [[2, 1], [0, 3]], "mode": "REFLECT", "constant_values": 0}),
        Example(((3, 2),), {"paddings": [[3, 1], [0, 2]], "mode": "SYMMETRIC", "constant_values": 0}),
        Example(((3,),), {"paddings": [[0, 0]], "mode": "SYMMETRIC", "constant_values": 0}),
    ],
)
def pad(tensor: Tensor, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0) -> Any:
    """A border around a tensor: `paddings` has for each axis how many elements to put before and after.

    The border is `constant_values` for mode "CONSTANT"; the tensor mirrored for "REFLECT" (without its edge, so that
    a border is shorter than the axis) and for "SYMMETRIC" (with it). No gradient flows to `constant_values`.

    >>> nt.pad([1, 2, 3], [[1, 2]]).numpy()
    array([0, 1, 2, 3, 0, 0], dtype=int32)
    >>> nt.pad([1, 2, 3], [[1, 2]], mode="REFLECT").numpy()
    array([2, 1, 2, 3, 2, 1], dtype=int32)
    """
    mode = mode.upper()
    pairs = [integer_list("pad", "paddings", pair) for pair in paddings] if isinstance(paddings, tuple) else []
    if len(pairs) != tensor.rank or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise ValueError(
            f"pad: paddings {paddings} need two numbers from 0 for each axis of {describe([tensor.type])}"
        )
    if mode == "CONSTANT":
        shape = tuple(n + sum(pair) for n, pair in zip(tensor.shape, pairs, strict=True))
        number = number_of(tensor.dtype, "pad", "constant_values", constant_values)
        return embed(tensor, shape, tuple(pair[0] for pair in pairs), (1,) * tensor.rank, number)
    if mode not in ("REFLECT", "SYMMETRIC"):
        raise ValueError(f"pad: mode is 'CONSTANT', 'REFLECT' or 'SYMMETRIC', got {mode!r}")
    edge = int(mode == "REFLECT")
    result = reshape_to(tensor, tensor.shape)
    for a, (before, after) in enumerate(pairs):
        n = tensor.shape[a]
        if max(before, after) > max(n - edge, 0):
            raise ValueError(
                f"pad: axis {a} of {describe([tensor.type])} is too short to mirror {max(before, after)} elements "
                f"with mode {mode!r}; it has {max(n - edge, 0)}"
            )
        if before or after:
            head = [part(result, a, edge + before - 1, before, -1)] if before else []
            tail = [part(result, a, n - 1 - edge, after, -1)] if after else []
            result = concat_along([*head, result, *tail], a)
    return result
