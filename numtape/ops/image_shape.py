"""Images: which way round they are, what is cut out of them, and how large they are.

What comes in has height, width and channels as its last axes, alone or with a batch before them; what goes out has the
same elements elsewhere, but for `resize`, which mixes neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numtape.dtypes import float32, int32, uint64
from numtape.ir.op import Example, Kind, Op, register
from numtape.ops.core import PUBLIC, Tensor, check_flag, check_kind, composite, describe, public
from numtape.ops.creation import range_
from numtape.ops.elementwise import ceil, convert, floor, maximum, minimum, where
from numtape.ops.gather import take
from numtape.ops.movement import embed, permute, reshape_to, same, slice_of
from numtape.ops.random import bits_for, draw, fraction
from numtape.ops.rearrange import integer, reverse


def height_of(name: str, image: Any, least: int = 3, most: float = 4) -> int:
    """The axis of the height; ValueError if there are too few axes or too many, or no pixels."""
    if not least <= image.rank <= most:
        count = least if least == most else f"{least} or {most}" if most == 4 else f"at least {least}"
        raise ValueError(
            f"{name}: images have {count} axes, the last ones height, width and channels; got {describe([image.type])}"
        )
    if 0 in image.shape[-3:]:
        raise ValueError(f"{name}: {describe([image.type])} has no pixels")
    return int(image.rank) - 3


# ---- orientation ------------------------------------------------------------------------------------------------

_SHAPES = [Example(((2, 3, 2),)), Example(((2, 3, 4, 1),))]


@composite("image.flip_left_right", reference=lambda image: np.flip(image, -2), examples=_SHAPES)
def flip_left_right(image: Tensor) -> Any:
    """An image, or each of a batch, with its columns in the opposite order.

    Takes any dtype of rank 3 or 4 (ValueError otherwise).

    >>> nt.image.flip_left_right([[[1], [2]], [[3], [4]]]).numpy()[..., 0]
    array([[2, 1],
           [4, 3]], dtype=int32)
    """
    return reverse(image, height_of("flip_left_right", image) + 1)


@composite("image.flip_up_down", reference=lambda image: np.flip(image, -3), examples=_SHAPES)
def flip_up_down(image: Tensor) -> Any:
    """An image, or each of a batch, with its rows in the opposite order.

    Takes any dtype of rank 3 or 4 (ValueError otherwise).

    >>> nt.image.flip_up_down([[[1], [2]], [[3], [4]]]).numpy()[..., 0]
    array([[3, 4],
           [1, 2]], dtype=int32)
    """
    return reverse(image, height_of("flip_up_down", image))


def _swapped(image: Any, height: int) -> Any:
    return permute(image, (*range(height), height + 1, height, height + 2))


@composite("image.transpose", reference=lambda image: np.swapaxes(image, -3, -2), examples=_SHAPES)
def transpose(image: Tensor) -> Any:
    """An image, or each of a batch, with its rows as columns.

    Takes any dtype of rank 3 or 4 (ValueError otherwise).

    >>> nt.image.transpose([[[1], [2]], [[3], [4]]]).numpy()[..., 0]
    array([[1, 3],
           [2, 4]], dtype=int32)
    """
    return _swapped(image, height_of("transpose", image))


@composite(
    "image.rot90", reference=lambda image, k: np.rot90(image, k, (-3, -2)),
    examples=[Example(e.shapes, {"k": k}) for e in _SHAPES for k in (0, 1, 2, -1)],
)  # fmt: skip
def rot90(image: Tensor, k: int = 1) -> Any:
    """An image, or each of a batch, turned counter-clockwise by `k` quarters of a circle.

    Takes any dtype of rank 3 or 4 (ValueError otherwise).

    >>> nt.image.rot90([[[1], [2]], [[3], [4]]]).numpy()[..., 0]
    array([[2, 4],
           [1, 3]], dtype=int32)
    """
    height, quarters = height_of("rot90", image), integer("rot90", "k", k) % 4
    if quarters == 1:
        return _swapped(reverse(image, height + 1), height)
    if quarters == 3:
        return reverse(_swapped(image, height), height + 1)
    return reverse(image, [height, height + 1]) if quarters else same(image)


def _flipped(values: Sequence[Any], attributes: tuple[Any, ...]) -> Any:
    (stream, call, image), (axis,) = values, attributes
    height = height_of(("random_flip_up_down", "random_flip_left_right")[axis], image)
    chance = fraction(bits_for(stream, call, (*image.shape[:height], 1, 1, 1)), float32)
    return where(chance < 0.5, reverse(image, height + axis), image)


RANDOM_FLIP = register(Op(
    "nt.image.random_flip", Kind.COMPOSITE, ("stream", "call", "image"), ("axis",), expand=_flipped,
    groups=("U", "U", "T"), doc="An image, or each of a batch, flipped or not.",
    examples=tuple(
        Example(((), (), shape), {"axis": axis}, ((0, 1 << 62), (0, 1 << 62), (-3, 3)), (uint64, uint64, None))
        for shape, axis in (((2, 3, 1), 1), ((5, 2, 3, 2), 0))
    ),
))  # fmt: skip


@public(RANDOM_FLIP, "image.random_flip_left_right")
def random_flip_left_right(image: Any, seed: Any = None) -> Any:
    """An image, or each of a batch for itself, with its columns in the opposite order: in one of two cases.

    Takes any dtype of rank 3 or 4 (ValueError otherwise). Each call draws anew; see `nt.random.set_seed` for what
    `seed` does.

    >>> nt.image.random_flip_left_right(np.arange(6.0).reshape(1, 2, 3), seed=1).shape
    (1, 2, 3)
    """
    return draw(RANDOM_FLIP, seed, (image,), (1,))


@public(RANDOM_FLIP, "image.random_flip_up_down")
def random_flip_up_down(image: Any, seed: Any = None) -> Any:
    """An image, or each of a batch for itself, with its rows in the opposite order: in one of two cases.

    Takes any dtype of rank 3 or 4 (ValueError otherwise). Each call draws anew; see `nt.random.set_seed` for what
    `seed` does.

    >>> nt.image.random_flip_up_down(np.arange(6.0).reshape(2, 1, 3), seed=1).shape
    (2, 1, 3)
    """
    return draw(RANDOM_FLIP, seed, (image,), (0,))


# ---- boxes ------------------------------------------------------------------------------------------------------


def _cropped(image: Any, height: int, top: int, left: int, rows: int, columns: int) -> Any:
    lead, channels = image.shape[:height], image.shape[-1]
    return slice_of(image, (*(0 for _ in lead), top, left, 0), (*lead, rows, columns, channels), (1,) * image.rank)


def _padded(image: Any, height: int, top: int, left: int, rows: int, columns: int) -> Any:
    lead, channels = image.shape[:height], image.shape[-1]
    return embed(image, (*lead, rows, columns, channels), (*(0 for _ in lead), top, left, 0), (1,) * image.rank, 0)


@composite(
    "image.central_crop", reference=lambda image, central_fraction: image[..., 1:-1, 1:-1, :],
    examples=[
        Example(((3, 4, 2),), {"central_fraction": 0.3}), Example(((2, 3, 4, 1),), {"central_fraction": 0.25}),
    ],
)  # fmt: skip
def central_crop(image: Tensor, central_fraction: float) -> Any:
    """The middle of an image, or of each of a batch: `central_fraction` of its height and of its width.

    Takes any dtype of rank 3 or 4. As much goes away on each side, whole pixels: what is left may be one more than the
    fraction says. ValueError for another rank, or if the fraction is not above 0 and at most 1.

    >>> nt.image.central_crop(np.zeros((8, 6, 3)), 0.5).shape
    (4, 4, 3)
    """
    if not 0 < central_fraction <= 1:
        raise ValueError(f"central_crop: central_fraction is above 0 and at most 1, got {central_fraction}")
    if central_fraction == 1:
        return same(image)
    height = height_of("central_crop", image)
    rows, columns = image.shape[height : height + 2]
    top, left = (int((n - n * central_fraction) / 2) for n in (rows, columns))
    return _cropped(image, height, top, left, rows - 2 * top, columns - 2 * left)


_BOX = ("offset_height", "offset_width", "target_height", "target_width")


def _box(name: str, image: Any, *box: Any) -> tuple[int, ...]:
    """The axis of the height and the box; ValueError if an offset is negative."""
    for what, number in zip(_BOX, box, strict=True):
        if integer(name, what, number) < 0:
            raise ValueError(f"{name}: {what} is an integer from 0, got {number}")
    return height_of(name, image), *box


@composite(
    "image.crop_to_bounding_box",
    reference=lambda image, offset_height, offset_width, target_height, target_width: (
        image[..., offset_height:, offset_width:, :][..., :target_height, :target_width, :]
    ),
    examples=[
        Example((shape,), dict(zip(_BOX, box, strict=True)))
        for shape, box in (((4, 5, 2), (1, 2, 3, 2)), ((2, 4, 5, 1), (0, 0, 4, 1)))
    ],
)  # fmt: skip
def crop_to_bounding_box(
    image: Tensor, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Any:
    """A box out of an image, or out of each of a batch: `target_height` rows and `target_width` columns.

    Takes any dtype of rank 3 or 4. ValueError for another rank, or if the box is empty or not within the image.

    >>> nt.image.crop_to_bounding_box([[[1], [2]], [[3], [4]]], 0, 1, 2, 1).numpy()[..., 0]
    array([[2],
           [4]], dtype=int32)
    """
    box = _box("crop_to_bounding_box", image, offset_height, offset_width, target_height, target_width)
    height, top, left, rows, columns = box
    if not (0 < rows <= image.shape[height] - top and 0 < columns <= image.shape[height + 1] - left):
        raise ValueError(
            f"crop_to_bounding_box: {rows} rows from {top} on and {columns} columns from {left} on are no box within "
            f"{describe([image.type])}"
        )
    return _cropped(image, *box)


def _numpy_padded(image: Any, offset_height: int, offset_width: int, target_height: int, target_width: int) -> Any:
    out = np.zeros((*image.shape[:-3], target_height, target_width, image.shape[-1]), image.dtype)
    rows, columns = image.shape[-3:-1]
    out[..., offset_height : offset_height + rows, offset_width : offset_width + columns, :] = image
    return out


@composite(
    "image.pad_to_bounding_box", reference=_numpy_padded,
    examples=[
        Example((shape,), dict(zip(_BOX, box, strict=True)))
        for shape, box in (((2, 3, 2), (1, 2, 4, 5)), ((2, 2, 3, 1), (0, 0, 2, 4)))
    ],
)  # fmt: skip
def pad_to_bounding_box(
    image: Tensor, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Any:
    """An image, or each of a batch, as a box within zeros of `target_height` rows and `target_width` columns.

    Takes any dtype of rank 3 or 4. ValueError for another rank, or if the image does not fit.

    >>> nt.image.pad_to_bounding_box([[[1], [2]]], 1, 0, 2, 3).numpy()[..., 0]
    array([[0, 0, 0],
           [1, 2, 0]], dtype=int32)
    """
    box = _box("pad_to_bounding_box", image, offset_height, offset_width, target_height, target_width)
    height, top, left, rows, columns = box
    if top + image.shape[height] > rows or left + image.shape[height + 1] > columns:
        raise ValueError(
            f"pad_to_bounding_box: {describe([image.type])} from row {top} and column {left} on does not fit into "
            f"{rows} rows and {columns} columns"
        )
    return _padded(image, *box)


@composite(
    "image.resize_with_crop_or_pad",
    reference=lambda image, target_height, target_width: _numpy_padded(
        image[..., 1:4, :, :], 0, 1, target_height, target_width
    ),
    examples=[
        Example(((6, 2, 2),), {"target_height": 3, "target_width": 5}),
        Example(((2, 5, 2, 1),), {"target_height": 3, "target_width": 4}),
    ],
)  # fmt: skip
def resize_with_crop_or_pad(image: Tensor, target_height: int, target_width: int) -> Any:
    """The middle of an image, or of each of a batch, where it is too large, and zeros around it where it is too small.

    Takes any dtype of rank 3 or 4. ValueError for another rank, or if a target is not above 0.

    >>> nt.image.resize_with_crop_or_pad([[[1], [2], [3]]], 2, 1).numpy()[..., 0]
    array([[2],
           [0]], dtype=int32)
    """
    name = "resize_with_crop_or_pad"
    height, _, _, *target = _box(name, image, 0, 0, target_height, target_width)
    if 0 in target:
        raise ValueError(f"{name}: target_height and target_width are above 0, got {target_height}, {target_width}")
    size = image.shape[height : height + 2]
    crop = [max((n - m) // 2, 0) for n, m in zip(size, target, strict=True)]
    border = [max((m - n) // 2, 0) for n, m in zip(size, target, strict=True)]
    return _padded(_cropped(image, height, *crop, *map(min, size, target)), height, *border, *target)


# ---- sizes ------------------------------------------------------------------------------------------------------


class ResizeMethod:
    """The methods of `nt.image.resize`, by TensorFlow's names.

    >>> nt.image.ResizeMethod.NEAREST_NEIGHBOR
    'nearest'
    """

    BILINEAR = "bilinear"
    NEAREST_NEIGHBOR = "nearest"


ResizeMethod.__module__ = "numtape.image"
PUBLIC["image.ResizeMethod"] = ResizeMethod


def _centers(x: Any, n: int, length: int) -> Any:
    """Where on an axis of length n the centers of `length` pixels are; float32 as in TensorFlow, to round alike."""
    return (range_(x, length, float32) + 0.5) * float(np.float32(n) / np.float32(length))


def _nearest(x: Any, axis: int, length: int) -> Any:
    n = x.shape[axis]
    return take(x, convert(minimum(floor(_centers(x, n, length)), n - 1), int32), axis)


def _interpolated(x: Any, axis: int, length: int) -> Any:
    n = x.shape[axis]
    if n == length:
        return x
    place = _centers(x, n, length) - 0.5
    before = take(x, convert(maximum(floor(place), 0), int32), axis)
    after = take(x, convert(minimum(ceil(place), n - 1), int32), axis)
    weight = reshape_to(place - floor(place), (length, *(1 for _ in x.shape[axis + 1 :])))
    return before + (after - before) * weight


def _numpy_resized(images: Any, size: Any, method: str, preserve_aspect_ratio: bool, antialias: bool) -> Any:
    if preserve_aspect_ratio:
        scale = min(m / n for m, n in zip(size, images.shape[-3:-1], strict=True))
        size = [round(n * scale) for n in images.shape[-3:-1]]
    out = images if method == "nearest" else images.astype(np.float64)
    for axis, length in zip((-3, -2), size, strict=True):
        n = out.shape[axis]
        at = (np.arange(length) + 0.5) * n / length
        weights = np.eye(n)[:, np.floor(at).astype(int)]
        if method != "nearest":
            weights = np.array([np.interp(at - 0.5, np.arange(n), row) for row in np.eye(n)])
        out = np.moveaxis(np.tensordot(out, weights, (axis, 0)), -1, axis)
    return out.astype(images.dtype if method == "nearest" else np.float32)


@composite(
    "image.resize", reference=_numpy_resized,
    examples=[
        Example(
            (shape,), {"size": size, "method": method, "preserve_aspect_ratio": kept, "antialias": False},
            dtypes=(None if method == "nearest" else float32,),
        )
        for method in ("nearest", "bilinear")
        for shape, size, kept in (
            ((3, 4, 2), (5, 3), False), ((2, 2, 3, 1), (2, 7), False), ((3, 5, 1), (7, 7), True),
            ((1, 1, 2), (2, 3), False), ((0, 2, 2, 1), (3, 3), False),
        )
    ],
)  # fmt: skip
def resize(
    images: Tensor, size: Any, method: str = "bilinear", preserve_aspect_ratio: bool = False, antialias: bool = False
) -> Any:
    """An image, or each of a batch, with another number of rows and columns: `size`.

    Takes numbers of rank 3 or 4. With `method="bilinear"` a pixel is made of the four around its center and the result
    is float32; with "nearest" it is the one nearest to its center, in the dtype of `images`. With
    `preserve_aspect_ratio` the result is as large as it can be within `size` without being distorted. ValueError for
    another rank, size or method; with "bilinear", `antialias` is a NotImplementedError.

    >>> nt.image.resize([[[0.0], [1.0]]], (1, 4)).numpy().ravel()
    array([0.  , 0.25, 0.75, 1.  ], dtype=float32)
    >>> nt.image.resize([[[5], [6]]], (1, 4), method="nearest").numpy().ravel()
    array([5, 5, 6, 6], dtype=int32)
    """
    check_kind("resize", images.type, "number")
    height = height_of("resize", images)
    if not (isinstance(size, tuple) and [type(n) for n in size] == [int, int]):
        raise ValueError(f"resize: size is two integers, the new height and width, got {size!r}")
    rows, columns = images.shape[height : height + 2]
    if check_flag("resize", "preserve_aspect_ratio", preserve_aspect_ratio):
        scale = min(np.float32(size[0]) / np.float32(rows), np.float32(size[1]) / np.float32(columns))
        size = tuple(int(np.rint(scale * np.float32(n))) for n in (rows, columns))
    if min(size) < 1:
        raise ValueError(f"resize: {describe([images.type])} cannot become {size[0]} rows and {size[1]} columns")
    if method not in ("bilinear", "nearest"):
        raise ValueError(f"resize: method {method!r} is not there; choose 'bilinear' or 'nearest'")
    if method == "nearest":
        return _nearest(_nearest(images, height, size[0]), height + 1, size[1])
    if check_flag("resize", "antialias", antialias):
        raise NotImplementedError("resize: there is no antialias=True for method 'bilinear'")
    return _interpolated(_interpolated(convert(images, float32), height + 1, size[1]), height, size[0])
