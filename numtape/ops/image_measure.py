"""Images: what is measured within one, and between two.

What comes in has height, width and channels as its last axes. Where integers are compared with floats they stand for
fractions of the greatest one, and what goes out is float32, as in TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from numtape.dtypes import float32, uint8
from numtape.ir.op import Example
from numtape.ops import core
from numtape.ops.contraction import matmul
from numtape.ops.core import Tensor, check_flag, check_kind, composite, describe
from numtape.ops.creation import range_
from numtape.ops.elementwise import absolute, convert, maximum, square, squared_difference, where
from numtape.ops.image import converted, numpy_converted
from numtape.ops.image_shape import height_of
from numtape.ops.movement import concat_along, embed, reshape_to
from numtape.ops.rearrange import integer, pad, part
from numtape.ops.reduction import mean_, root, sum_, variance_
from numtape.ops.transcendental import exp, log

# ---- statistics -------------------------------------------------------------------------------------------------


def _numpy_standardized(image: Any) -> Any:
    x, axes = image.astype(np.float32), (-3, -2, -1)
    least = 1 / math.sqrt(math.prod(x.shape[-3:]))
    return (x - x.mean(axes, keepdims=True)) / np.maximum(x.std(axes, keepdims=True), np.float32(least))


@composite(
    "image.per_image_standardization", reference=_numpy_standardized,
    examples=[
        Example(((3, 4, 2),), {}, ((0, 256),), (uint8,)), Example(((2, 3, 4, 2),), {}, ((0.1, 1),), (float32,)),
        Example(((2, 1, 1, 1),), {}, ((0.1, 1),), (float32,)),
    ],
)  # fmt: skip
def per_image_standardization(image: Tensor) -> Any:
    """An image, or each of a batch, with mean 0 and standard deviation 1.

    Takes any dtype of rank 3 or more, and gives float32. It divides by at least 1 / sqrt(number of elements), so that
    an image of one color becomes 0. ValueError for a lower rank.

    >>> nt.image.per_image_standardization([[[1.0], [3.0]]]).numpy().ravel()
    array([-1.,  1.], dtype=float32)
    """
    height = height_of("per_image_standardization", image, most=math.inf)
    x, axes = convert(image, float32), (height, height + 1, height + 2)
    least = 1 / math.sqrt(math.prod(image.shape[height:]))
    return (x - mean_(x, axes)) / maximum(root(variance_(x, axes)), least)


def _difference(image: Any, axis: int) -> Any:
    """Each element but the first along an axis, less the one before it."""
    n = image.shape[axis] - 1
    return part(image, axis, 1, n) - part(image, axis, 0, n)


def _numpy_variation(images: Any) -> Any:
    return sum(np.abs(np.diff(images, axis=a)).sum((-3, -2, -1), dtype=images.dtype) for a in (-3, -2))


@composite(
    "image.total_variation", reference=_numpy_variation,
    examples=[Example((shape,)) for shape in ((2, 3, 2), (2, 3, 4, 1), (1, 3, 2))],
)  # fmt: skip
def total_variation(images: Tensor) -> Any:
    """How much neighbouring pixels differ: the sum of the sizes of all differences down and across, for each image.

    Takes floats or signed integers of rank 3 or 4, and gives a number of the same dtype for each image. It divides by
    nothing. ValueError for another rank, TypeError for unsigned integers.

    >>> nt.image.total_variation([[[1.0], [2.0]], [[5.0], [5.0]]]).numpy()
    np.float32(8.0)
    """
    height = height_of("total_variation", images)
    check_kind("total_variation", images.type, "number")
    if images.dtype.min == 0:
        raise TypeError(f"total_variation: differences need signs, got {describe([images.type])}; write nt.cast first")
    axes = (height, height + 1, height + 2)
    down, across = (sum_(absolute(_difference(images, a)), axes) for a in axes[:2])
    return reshape_to(down + across, images.shape[:height])


def _numpy_gradients(image: Any) -> Any:
    return np.diff(image, axis=1, append=image[:, -1:]), np.diff(image, axis=2, append=image[:, :, -1:])


@composite("image.image_gradients", reference=_numpy_gradients, examples=[Example(((2, 3, 4, 1),))])
def image_gradients(image: Tensor) -> Any:
    """What the pixel below, and what the pixel to the right is more than each: a pair of tensors like `image`.

    Takes numbers of rank 4, a batch (ValueError otherwise); integers wrap around. The last row of the one and the last
    column of the other are 0.

    >>> down, right = nt.image.image_gradients([[[[1], [2]], [[5], [9]]]])
    >>> down.numpy()[0, ..., 0], right.numpy()[0, ..., 0]
    (array([[4, 7],
           [0, 0]], dtype=int32), array([[1, 0],
           [4, 0]], dtype=int32))
    """
    height = height_of("image_gradients", image, 4)
    return tuple(embed(_difference(image, a), image.shape, (0,) * 4, (1,) * 4, 0) for a in (height, height + 1))


def _weighted(image: Any, axis: int, weights: Sequence[float]) -> Any:
    """Three neighbours along an axis, added up with weights."""
    first, *others = (part(image, axis, k, image.shape[axis] - 2) * w for k, w in enumerate(weights) if w)
    for other in others:
        first = first + other
    return first


def _numpy_sobel(image: Any) -> Any:
    x = np.pad(image, [(0, 0), (1, 1), (1, 1), (0, 0)], "reflect")
    rows = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]
    columns = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    return np.stack([rows[:, 2:] - rows[:, :-2], columns[:, :, 2:] - columns[:, :, :-2]], -1)


@composite("image.sobel_edges", reference=_numpy_sobel, examples=[Example(((2, 3, 4, 2),)), Example(((1, 2, 2, 1),))])
def sobel_edges(image: Tensor) -> Any:
    """Where edges are: the images filtered with Sobel's two kernels, for changes downwards and to the right.

    Takes float32 or float64 of shape (batch, height, width, channels), which is mirrored at its borders; the result has
    one more axis, of length 2. ValueError for another rank, or for images of less than two rows or columns.

    >>> nt.image.sobel_edges([[[[0.0], [0.0], [1.0], [1.0]]] * 3]).numpy()[0, 1, :, 0, 1]
    array([0., 4., 4., 0.], dtype=float32)
    """
    check_kind("sobel_edges", image.type, "float")
    height = height_of("sobel_edges", image, 4)
    x = pad(image, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")
    edges = (_weighted(_weighted(x, 3 - axis, (1, 2, 1)), axis, (-1, 0, 1)) for axis in (height, height + 1))
    return concat_along([reshape_to(edge, (*image.shape, 1)) for edge in edges], 4)


# ---- likeness ---------------------------------------------------------------------------------------------------


def _pair(name: str, a: Any, b: Any, max_val: Any) -> tuple[Any, Any, Any]:
    """Two images of one shape, and what their greatest element may be, as float32."""
    both = describe([a.type, b.type])
    for x in (a, b):
        check_kind(name, x.type, "number")
        height_of(name, x, most=math.inf)
    if a.shape[-3:] != b.shape[-3:]:
        raise ValueError(f"{name}: {both}: height, width and channels have to be the same")
    core.broadcast(f"{name}: {both}: batches", a.shape[:-3], b.shape[:-3])
    return converted(a, float32), converted(b, float32), converted(convert(max_val, a.dtype), float32)


def _numpy_psnr(a: Any, b: Any, max_val: Any) -> Any:
    wide = [numpy_converted(np.asarray(x), float32).astype(np.float64) for x in (a, b, max_val.astype(a.dtype))]
    error = np.square(wide[0] - wide[1]).mean((-3, -2, -1))
    return (20 * np.log10(wide[2]) - 10 * np.log10(error)).astype(np.float32)


_PAIRS: tuple[Any, ...] = (((0, 0.9), (0, 0.9), (1, 1)), (float32,)), (((0, 256), (0, 256), (255, 256)), (uint8,))


@composite(
    "image.psnr", groups=("T", "S", "F"), reference=_numpy_psnr,
    examples=[
        Example((a, b, ()), {}, *pair)
        for pair in _PAIRS
        for a, b in (((3, 4, 2), (3, 4, 2)), ((2, 1, 2, 3, 1), (3, 2, 3, 1)))
    ],
)  # fmt: skip
def psnr(a: Tensor, b: Tensor, max_val: Tensor) -> Any:
    """How alike two images are: the ratio of the greatest possible signal to the error between them, in decibels.

    Takes numbers; `max_val` is the greatest that an element of `a` may be, such as 1.0 or 255. Batches broadcast
    against each other, and the result is a float32 for each pair; inf for equal images. ValueError if shapes do not
    fit.

    >>> nt.image.psnr(np.zeros((2, 2, 1)), np.full((2, 2, 1), 0.1), 1.0).numpy()
    np.float32(20.0)
    """
    a, b, top = _pair("psnr", a, b, max_val)
    # Two integers that are equal stay so: when scaled in a fused kernel, one of them may keep more digits.
    squares = where(a == b, 0, squared_difference(a, b))
    error = mean_(squares, tuple(range(squares.rank - 3, squares.rank)))
    return log(top) * (20 / math.log(10)) - (10 / math.log(10)) * log(reshape_to(error, error.shape[:-3]))


def _blurred(x: Any, axis: int, size: int, sigma: float) -> Any:
    """Means along an axis, weighted by a bell curve over `size` neighbours, as a product with a band matrix."""
    n = x.shape[axis]
    kept = n - size + 1
    rows = reshape_to(range_(x, kept), (kept, 1))
    offset = reshape_to(range_(x, n), (1, n)) - rows - (size - 1) / 2
    weights = where(absolute(offset) < size / 2, exp(square(offset) * (-0.5 / sigma**2)), 0)
    lead, rest = x.shape[:axis], x.shape[axis + 1 :]
    flat = reshape_to(x, (math.prod(lead), n, math.prod(rest)))
    return reshape_to(matmul(weights / sum_(weights, (1,)), flat), (*lead, kept, *rest))


def _numpy_ssim(
    img1: Any, img2: Any, max_val: Any, filter_size: int, filter_sigma: float, k1: float, k2: float,
    return_index_map: bool,
) -> Any:  # fmt: skip
    x, y, top = (
        numpy_converted(np.asarray(v), float32).astype(np.float64) for v in (img1, img2, max_val.astype(img1.dtype))
    )
    bell = np.exp(-np.square((np.arange(filter_size) - (filter_size - 1) / 2) / filter_sigma) / 2)
    kernel = np.outer(bell, bell) / bell.sum() ** 2

    def blurred(v: Any) -> Any:
        windows = np.lib.stride_tricks.sliding_window_view(v, kernel.shape, (-3, -2))
        return np.einsum("...ij,ij->...", windows, kernel)

    mx, my = blurred(x), blurred(y)
    both, squares = blurred(x * y) - mx * my, blurred(x * x + y * y) - mx**2 - my**2
    c1, c2 = (k1 * top) ** 2, (k2 * top) ** 2
    found = (2 * mx * my + c1) / (mx**2 + my**2 + c1) * (2 * both + c2) / (squares + c2)
    return found.mean(-1 if return_index_map else (-3, -2, -1)).astype(np.float32)


@composite(
    "image.ssim", groups=("T", "S", "F"), reference=_numpy_ssim,
    examples=[
        Example(
            (a, b, ()),
            {"filter_size": size, "filter_sigma": 1.5, "k1": 0.01, "k2": 0.03, "return_index_map": mapped}, *pair,
        )
        for pair in _PAIRS
        for a, b, size, mapped in (((5, 6, 2), (5, 6, 2), 3, False), ((2, 1, 4, 5, 1), (3, 4, 5, 1), 4, True))
    ],
)  # fmt: skip
def ssim(
    img1: Tensor, img2: Tensor, max_val: Tensor, filter_size: int = 11, filter_sigma: float = 1.5, k1: float = 0.01,
    k2: float = 0.03, return_index_map: bool = False,
) -> Any:  # fmt: skip
    """How alike two images are to the eye: 1 if they are equal, less if brightness, contrast or structure differ.

    Takes numbers; `max_val` is the greatest that an element may be, such as 1.0 or 255. What is compared are windows of
    `filter_size` rows and columns, weighted by a bell curve of width `filter_sigma`. Batches broadcast against each
    other, and the result is a float32 for each pair, or with `return_index_map` for each window. ValueError if shapes
    do not fit, or if a window is larger than an image. After Wang et al., "Image Quality Assessment: From Error
    Visibility to Structural Similarity" (2004).

    >>> x = np.random.default_rng(1).random((16, 16, 1))
    >>> nt.image.ssim(x, x, 1.0).numpy(), bool(nt.image.ssim(x, 1 - x, 1.0) < 0)
    (np.float32(1.0), True)
    """
    x, y, top = _pair("ssim", img1, img2, max_val)
    if not 0 < integer("ssim", "filter_size", filter_size) <= min(x.shape[-3:-1]):
        raise ValueError(f"ssim: windows of {filter_size} rows and columns do not fit into {describe([img1.type])}")

    def blurred(v: Any) -> Any:
        for axis in (v.rank - 3, v.rank - 2):
            v = _blurred(v, axis, filter_size, filter_sigma)
        return v

    mean_x, mean_y = blurred(x), blurred(y)
    product, squares = 2 * mean_x * mean_y, square(mean_x) + square(mean_y)
    c1, c2 = square(k1 * top), square(k2 * top)
    contrast = (2 * blurred(x * y) - product + c2) / (blurred(square(x) + square(y)) - squares + c2)
    found = (product + c1) / (squares + c1) * contrast
    axes = tuple(range(found.rank - (1 if check_flag("ssim", "return_index_map", return_index_map) else 3), found.rank))
    return reshape_to(mean_(found, axes), found.shape[: axes[0]])
