"""Images: the colors of pixels, and the dtypes that they come in.

Where TensorFlow computes in floats and gives back the dtype that it was given, so do these functions: an integer stands
for a fraction of the greatest one, and what comes back is in range and has no fraction. Floats are computed in their
own dtype, float64 too, which TensorFlow brings down to float32; a number beside them counts as float32, as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numtape.dtypes import DType, TensorType, as_dtype, float32, float64, int8, int16, int32, uint8, uint16, uint64
from numtape.ir.op import Example, Gradient, Kind, Op, register
from numtape.ops.core import (
    Tensor,
    apply,
    check_flag,
    check_group,
    check_kind,
    composite,
    describe,
    instruction,
    public,
)
from numtape.ops.elementwise import absolute, convert, floordiv, floormod, maximum, minimum, power, where
from numtape.ops.movement import broadcast, concat_along, stop
from numtape.ops.random import uniform
from numtape.ops.rearrange import part
from numtape.ops.reduction import mean_

# ---- integers and floats ----------------------------------------------------------------------------------------


def converted(image: Any, dtype: DType, saturate: bool = False) -> Any:
    """The image in another dtype, in which the greatest integer stands for 1."""
    own = image.dtype
    if own is dtype or (own.is_floating and dtype.is_floating):
        return convert(image, dtype)
    if dtype.is_floating:
        return convert(image, dtype) * (1 / own.max)
    if own.is_floating:
        return convert(image * (dtype.max + 0.5), dtype)
    down, up = (own.max + 1) // (dtype.max + 1), (dtype.max + 1) // (own.max + 1)
    scaled = floordiv(image, down) if down else image
    if saturate:
        scaled = minimum(maximum(scaled, max(own.min, dtype.min)), min(own.max, dtype.max))
    return convert(scaled, dtype) * up if up else convert(scaled, dtype)


def numpy_converted(image: Any, dtype: Any, saturate: bool = False) -> Any:
    own, to = as_dtype(image.dtype), as_dtype(dtype)
    if to.is_floating:
        return image.astype(to.dtype) * to.as_numpy_dtype(1 if own.is_floating else 1 / own.max)
    if own.is_floating:
        return convert.op.reference(image * own.as_numpy_dtype(to.max + 0.5), to)
    scaled = image.astype(object) * (to.max + 1) // (own.max + 1)
    if saturate:
        return np.clip(scaled, to.min, to.max).astype(to.dtype)
    return ((scaled - to.min) % (to.max - to.min + 1) + to.min).astype(to.dtype)


def _in_floats(name: str, image: Any, body: Callable[[Any], Any]) -> Any:
    """What is computed in floats, in the image's own dtype."""
    check_kind(name, image.type, "number")
    if image.dtype.is_floating:
        return body(image)
    return converted(body(converted(image, float32)), image.dtype)


def _numpy_in_floats(body: Callable[..., Any]) -> Callable[..., Any]:
    def reference(image: Any, *factors: Any) -> Any:
        if image.dtype.kind == "f":
            return body(image, *factors)
        return numpy_converted(body(numpy_converted(image, float32), *factors).astype(np.float32), image.dtype)

    return reference


@composite(
    "image.convert_image_dtype", reference=numpy_converted,
    examples=[
        Example(((7,),), {"dtype": dtype, "saturate": saturate}, domain, (own,))
        for own, dtype, saturate, domain in (
            (float64, float64, False, ((-3, 3),)), (float64, float32, False, ((-3, 3),)),
            (float32, uint8, True, ((-1, 2),)), (float32, "int16", False, ((0, 1),)),
            (uint8, float32, False, ((0, 256),)), (uint8, int16, False, ((0, 256),)),
            (int16, uint8, False, ((-(1 << 15), 1 << 15),)), (int16, uint8, True, ((-(1 << 15), 1 << 15),)),
            (int8, uint16, False, ((-128, 128),)), (int8, uint16, True, ((-128, 128),)),
            (uint64, uint8, True, ((0, 1 << 63),)), (uint8, uint64, False, ((0, 256),)),
            (int32, int32, False, ((-9, 9),)),
        )
    ],
)  # fmt: skip
def convert_image_dtype(image: Tensor, dtype: Any, saturate: bool = False) -> Any:
    """An image in another dtype, scaled: floats go from 0 to 1, integers up to the greatest of their dtype.

    Takes numbers of any shape; `dtype` is one of floats or integers (TypeError otherwise). Floats that are out of range
    become the nearest integer in range; integers that are wrap around, or become the nearest with `saturate`. The
    gradient passes from float to float.

    >>> nt.image.convert_image_dtype([0.0, 0.5, 1.0], nt.uint8).numpy()
    array([  0, 127, 255], dtype=uint8)
    >>> nt.image.convert_image_dtype(np.array([0, 255], np.uint8), nt.float32).numpy()
    array([0., 1.], dtype=float32)
    """
    kind = as_dtype(dtype)
    check_kind("convert_image_dtype", image.type, "number")
    if kind.is_bool:
        raise TypeError(f"convert_image_dtype: an image has floats or integers as its elements, not {kind!r}")
    return converted(image, kind, check_flag("convert_image_dtype", "saturate", saturate))


# ---- brightness, contrast, gamma --------------------------------------------------------------------------------

_ADJUSTED = [
    Example(((2, 3, 3), ()), {}, ((0.1, 0.9), (0.4, 1.6)), (float64,)),
    Example(((2, 2, 3, 3), ()), {}, ((0, 256), (0.4, 1.6)), (uint8, float32)),
]
"""Floats, and bytes, which float32 holds: of larger integers what is lost depends on the order of sums."""


@composite(
    "image.adjust_brightness", reference=_numpy_in_floats(lambda image, delta: image + delta), examples=_ADJUSTED,
    groups=("T", "F"),
)  # fmt: skip
def adjust_brightness(image: Tensor, delta: Tensor) -> Any:
    """An image that is brighter, or darker: `delta` is added to each element.

    Takes numbers of any shape, and gives the same dtype. Of integers, `delta` is the fraction of the greatest one, and
    the result is kept in range; floats may leave the range from 0 to 1.

    >>> nt.image.adjust_brightness(np.array([0, 100, 250], np.uint8), 0.2).numpy()
    array([ 51, 151, 255], dtype=uint8)
    """
    return _in_floats("adjust_brightness", image, lambda x: x + convert(delta, x.dtype))


def _infer_adjusted(name: str, factor_name: str, channels: int | None = None) -> Any:
    def infer(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
        images, factor = types
        check_group(name, types)
        check_kind(name, images, "float")
        if images.rank < 3 or (channels and images.shape[-1] != channels):
            count = f"{channels} channels" if channels else "channels"
            raise ValueError(f"{name}: images have height, width and {count}, got {describe([images])}")
        if factor.shape:
            raise ValueError(f"{name}: {factor_name} is one number, got {describe([factor])}")
        return images

    return infer


def _contrasted(images: Any, contrast_factor: Any) -> Any:
    mean = mean_(images, (len(images.shape) - 3, len(images.shape) - 2))
    return (images - mean) * contrast_factor + mean


def _numpy_contrasted(images: Any, contrast_factor: Any) -> Any:
    mean = np.mean(images, axis=(-3, -2), keepdims=True, dtype=images.dtype)
    return ((images - mean) * contrast_factor + mean).astype(images.dtype)


_adjust_contrast: Any = instruction(
    "AdjustContrastv2", Kind.FORMULA, parameters=("images", "contrast_factor"), kernel=_contrasted,
    infer=_infer_adjusted("adjust_contrast", "contrast_factor"), reference=_numpy_contrasted,
    gradient=Gradient.MISSING, examples=[Example(((2, 3, 3), ())), Example(((2, 2, 1, 3), ()))],
    doc="Distance of each element from the mean of its image's channel, times a factor.",
)  # fmt: skip


@composite(
    "image.adjust_contrast", reference=_numpy_in_floats(_numpy_contrasted), examples=_ADJUSTED, groups=("T", "F")
)
def adjust_contrast(images: Tensor, contrast_factor: Tensor) -> Any:
    """Images with more contrast, or less: the distance from the mean of each channel times `contrast_factor`.

    `images` has height, width and channels as its last axes; takes numbers and gives the same dtype, integers kept in
    range. It has no gradient, as in TensorFlow: asking for one is a LookupError; `nt.RegisterGradient` is for that.
    ValueError for fewer axes, or if `contrast_factor` is not a scalar.

    >>> nt.image.adjust_contrast([[[1.0], [3.0]]], 2.0).numpy().ravel()
    array([0., 4.], dtype=float32)
    """
    body = lambda x: _adjust_contrast(x, convert(contrast_factor, x.dtype))
    return _in_floats("adjust_contrast", images, body)


def _gamma(image: Any, gamma: Any, gain: Any) -> Any:
    def body(x: Any) -> Any:
        return convert(gain, x.dtype) * power(x, convert(gamma, x.dtype))

    return _in_floats("adjust_gamma", image, body)


ADJUST_GAMMA = register(Op(
    "nt.image.adjust_gamma", Kind.COMPOSITE, ("image", "gamma", "gain"), groups=("T", "F", "F"),
    expand=lambda values, _: _gamma(*values), doc="See nt.image.adjust_gamma.",
    reference=_numpy_in_floats(lambda image, gamma, gain: gain * image**gamma),
    examples=(
        Example(((2, 3), (), ()), {}, ((0.1, 1), (0.5, 2), (0.5, 1.5)), (float64,)),
        Example(((2, 3), (), ()), {}, ((0, 256), (0.5, 2), (0.5, 1.5)), (uint8, float32)),
    ),
))  # fmt: skip


@public(ADJUST_GAMMA, "image.adjust_gamma")
def adjust_gamma(image: Any, gamma: Any = 1, gain: Any = 1, name: str | None = None) -> Any:
    """An image with its middle tones darker, or lighter if `gamma` is below 1: `gain * image**gamma`.

    Takes numbers of any shape, and gives the same dtype, integers kept in range. Gradients flow to all three where they
    are floats. ValueError if `gamma` is a negative number; a tensor is not looked at.

    >>> nt.image.adjust_gamma([0.0, 0.5, 1.0], gamma=2.0).numpy()
    array([0.  , 0.25, 1.  ], dtype=float32)
    """
    if isinstance(gamma, int | float | np.number) and not gamma >= 0:
        raise ValueError(f"adjust_gamma: gamma is a number from 0, got {gamma}")
    return apply(ADJUST_GAMMA, (image, gamma, gain))


# ---- hue, saturation, value -------------------------------------------------------------------------------------


def _channels(name: str, images: Any) -> list[Any]:
    """The three parts of the last axis, which each of them keeps."""
    if images.shape[-1:] != (3,):
        raise ValueError(f"{name}: the last axis holds three channels, got {describe([images.type])}")
    return [part(images, images.rank - 1, k, 1) for k in range(3)]


def _extremes(r: Any, g: Any, b: Any) -> tuple[Any, Any]:
    """The greatest and the least channel; of equal ones, the first is the greatest and the last the least."""
    return maximum(maximum(r, g), b), minimum(b, minimum(g, r))


def _hue(r: Any, g: Any, b: Any, high: Any, spread: Any) -> Any:
    """Where on the circle of colors a pixel is, from red over green and blue, in sixths: red is 0, green is 2."""
    colored = spread > 0
    by = where(colored, spread, 1)
    sixths = where(r == high, (g - b) / by, where(g == high, (b - r) / by + 2, (r - g) / by + 4))
    return where(colored, where(sixths < 0, sixths + 6, sixths), 0)


def _ratio(spread: Any, high: Any) -> Any:
    """The saturation of pixels."""
    bright = high > 0
    return where(bright, spread / where(bright, high, 1), 0)


def _painted(low: Any, spread: Any, sixths: Any) -> Any:
    """Red, green and blue of a hue, between `low` and `low + spread`."""
    ramps = absolute(sixths - 3) - 1, 2 - absolute(sixths - 2), 2 - absolute(sixths - 4)
    return concat_along([low + spread * minimum(maximum(ramp, 0), 1) for ramp in ramps], low.rank - 1)


def _numpy_parts(images: Any) -> tuple[Any, Any, Any]:
    """Hue in sixths, greatest channel, and its distance from the least."""
    r, g, b = np.moveaxis(images, -1, 0)
    high = images.max(-1)
    spread = high - images.min(-1)
    by = np.where(spread > 0, spread, 1)
    choices = [np.zeros_like(high), (g - b) / by % 6, (b - r) / by + 2]
    return np.select([spread == 0, r == high, g == high], choices, (r - g) / by + 4), high, spread


def _numpy_ratio(spread: Any, high: Any) -> Any:
    return np.where(high > 0, spread / np.where(high > 0, high, 1), 0)


def _numpy_painted(high: Any, spread: Any, sixths: Any) -> Any:
    k = (sixths[..., None] + np.array([5, 3, 1], sixths.dtype)) % 6
    return high[..., None] - spread[..., None] * np.clip(np.minimum(k, 4 - k), 0, 1)


def _numpy_to_hsv(images: Any) -> Any:
    sixths, high, spread = _numpy_parts(images)
    return np.stack([sixths / 6, _numpy_ratio(spread, high), high], -1)


@composite(
    "image.rgb_to_hsv", reference=_numpy_to_hsv,
    examples=[Example((shape,), {}, ((0.1, 1),)) for shape in ((9, 3), (2, 3, 4, 3), (3,), (0, 3))],
)  # fmt: skip
def rgb_to_hsv(images: Tensor) -> Any:
    """Red, green and blue in the last axis as hue, saturation and value, each from 0 to 1 where the colors are.

    Takes float32 or float64 of rank 1 or more, and gives the same. Gradients are those of TensorFlow: nothing flows
    from the hue where all channels are equal, nor from the saturation to a least channel that is not above 0.
    ValueError if there are not three channels. After Smith, "Color Gamut Transform Pairs" (1978).

    >>> nt.image.rgb_to_hsv([[1.0, 0.5, 0.5], [0.0, 0.0, 0.25]]).numpy()
    array([[0.       , 0.5      , 1.       ],
           [0.6666667, 1.       , 0.25     ]], dtype=float32)
    """
    check_kind("rgb_to_hsv", images.type, "float")
    r, g, b = _channels("rgb_to_hsv", images)
    high, low = _extremes(r, g, b)
    hue = _hue(r, g, b, high, high - low)
    saturation = _ratio(high - where(low > 0, low, stop(low)), high)
    return concat_along([where(high > 0, hue, stop(hue)) / 6, saturation, high], images.rank - 1)


def _numpy_to_rgb(images: Any) -> Any:
    hue, saturation, value = np.moveaxis(images, -1, 0)
    return _numpy_painted(value, value * saturation, hue * 6)


@composite(
    "image.hsv_to_rgb", reference=_numpy_to_rgb,
    examples=[Example((shape,), {}, ((0, 1),)) for shape in ((9, 3), (2, 3, 4, 3), (3,), (0, 3))],
)  # fmt: skip
def hsv_to_rgb(images: Tensor) -> Any:
    """Hue, saturation and value in the last axis as red, green and blue: what undoes `nt.image.rgb_to_hsv`.

    Takes float32 or float64 of rank 1 or more, and gives the same. No gradient flows, as in TensorFlow. ValueError if
    there are not three channels.

    >>> nt.image.hsv_to_rgb([[0.5, 0.5, 1.0]]).numpy()
    array([[0.5, 1. , 1. ]], dtype=float32)
    """
    check_kind("hsv_to_rgb", images.type, "float")
    hue, saturation, value = _channels("hsv_to_rgb", images)
    spread = value * saturation
    return stop(_painted(value - spread, spread, 6 * hue))


def _turned(images: Any, delta: Any) -> Any:
    r, g, b = _channels("adjust_hue", images)
    high, low = _extremes(r, g, b)
    return _painted(low, high - low, floormod(_hue(r, g, b, high, high - low) + 6 * delta, 6))


def _numpy_turned(images: Any, delta: Any) -> Any:
    sixths, high, spread = _numpy_parts(images)
    return _numpy_painted(high, spread, sixths + 6 * delta)


def _saturated(images: Any, scale: Any) -> Any:
    r, g, b = _channels("adjust_saturation", images)
    high, low = _extremes(r, g, b)
    spread = high * minimum(maximum(_ratio(high - low, high) * scale, 0), 1)
    return _painted(high - spread, spread, _hue(r, g, b, high, high - low))


def _numpy_saturated(images: Any, scale: Any) -> Any:
    sixths, high, spread = _numpy_parts(images)
    return _numpy_painted(high, high * np.clip(_numpy_ratio(spread, high) * scale, 0, 1), sixths)


_COLORS = [
    Example(((2, 3, 3), ())), Example(((2, 4, 5, 3), ()), {}, ((0, 1), (-1, 2))), Example(((0, 2, 3), ())),
]  # fmt: skip
_adjust_hue: Any = instruction(
    "AdjustHue", Kind.FORMULA, parameters=("images", "delta"), kernel=_turned, reference=_numpy_turned,
    infer=_infer_adjusted("adjust_hue", "delta", 3), gradient=Gradient.MISSING, examples=_COLORS,
    doc="Pixels with their hue turned by a part of the circle.",
)  # fmt: skip
_adjust_saturation: Any = instruction(
    "AdjustSaturation", Kind.FORMULA, parameters=("images", "scale"), kernel=_saturated, reference=_numpy_saturated,
    infer=_infer_adjusted("adjust_saturation", "saturation_factor", 3), gradient=Gradient.MISSING, examples=_COLORS,
    doc="Pixels with their saturation times a factor, up to 1.",
)  # fmt: skip

ADJUST_HUE = register(Op(
    "nt.image.adjust_hue", Kind.COMPOSITE, ("image", "delta"), groups=("T", "F"), doc="See nt.image.adjust_hue.",
    expand=lambda values, _: _in_floats(
        "adjust_hue", values[0], lambda x: _adjust_hue(x, convert(values[1], x.dtype))
    ),
    reference=_numpy_in_floats(_numpy_turned), examples=tuple(_ADJUSTED),
))  # fmt: skip


@public(ADJUST_HUE, "image.adjust_hue")
def adjust_hue(image: Any, delta: Any, name: str | None = None) -> Any:
    """An image with its colors turned around the circle of hues by `delta`, from -1 to 1, of its length.

    `image` has height, width and three channels as its last axes; takes numbers and gives the same dtype. It has no
    gradient, as in TensorFlow: asking for one is a LookupError; `nt.RegisterGradient("AdjustHue")` is for that.
    ValueError for other shapes, or if `delta` is a number out of range; a tensor is not looked at.

    >>> nt.image.adjust_hue([[[1.0, 0.0, 0.0]]], 0.5).numpy()
    array([[[0., 1., 1.]]], dtype=float32)
    """
    if isinstance(delta, int | float | np.number) and not -1 <= delta <= 1:
        raise ValueError(f"adjust_hue: delta is a number from -1 to 1, got {delta}")
    return apply(ADJUST_HUE, (image, delta))


@composite(
    "image.adjust_saturation", reference=_numpy_in_floats(_numpy_saturated), examples=_ADJUSTED, groups=("T", "F")
)
def adjust_saturation(image: Tensor, saturation_factor: Tensor) -> Any:
    """An image with stronger colors, or paler: the saturation of each pixel times `saturation_factor`, up to 1.

    `image` has height, width and three channels as its last axes; takes numbers and gives the same dtype. It has no
    gradient, as in TensorFlow: asking for one is a LookupError; `nt.RegisterGradient("AdjustSaturation")` is for that.
    ValueError for other shapes, or if `saturation_factor` is not a scalar.

    >>> nt.image.adjust_saturation([[[1.0, 0.5, 0.5]]], 0.5).numpy()
    array([[[1.  , 0.75, 0.75]]], dtype=float32)
    """
    body = lambda x: _adjust_saturation(x, convert(saturation_factor, x.dtype))
    return _in_floats("adjust_saturation", image, body)


# ---- gray -------------------------------------------------------------------------------------------------------

_LUMINANCE = (0.2989, 0.587, 0.114)
"""How much of the light the eye sees in each channel."""


@composite(
    "image.rgb_to_grayscale",
    reference=_numpy_in_floats(lambda x: (x * np.array(_LUMINANCE, x.dtype)).sum(-1, keepdims=True, dtype=x.dtype)),
    examples=[Example((shape,)) for shape in ((2, 3, 3), (2, 2, 2, 3), (3,), (0, 3))],
)  # fmt: skip
def rgb_to_grayscale(images: Tensor) -> Any:
    """Red, green and blue in the last axis as one channel: 0.2989, 0.587 and 0.114 of them.

    Takes numbers of rank 1 or more, and gives the same dtype. ValueError if there are not three channels.

    >>> nt.image.rgb_to_grayscale([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]).numpy()
    array([[0.2989 ],
           [0.44295]], dtype=float32)
    """

    def body(x: Any) -> Any:
        r, g, b = (c * weight for c, weight in zip(_channels("rgb_to_grayscale", x), _LUMINANCE, strict=True))
        return r + g + b

    return _in_floats("rgb_to_grayscale", images, body)


@composite(
    "image.grayscale_to_rgb", reference=lambda images: np.repeat(images, 3, -1),
    examples=[Example(((2, 3, 1),)), Example(((2, 1),)), Example(((0, 2, 1),))],
)  # fmt: skip
def grayscale_to_rgb(images: Tensor) -> Any:
    """The one channel in the last axis, three times.

    Takes any dtype of rank 2 or more. ValueError if there is more than one channel.

    >>> nt.image.grayscale_to_rgb([[0.5], [1.0]]).numpy()
    array([[0.5, 0.5, 0.5],
           [1. , 1. , 1. ]], dtype=float32)
    """
    if images.rank < 2 or images.shape[-1] != 1:
        raise ValueError(f"grayscale_to_rgb: the last of two or more axes has length 1, got {describe([images.type])}")
    return broadcast(images, (*images.shape[:-1], 3))


# ---- at random --------------------------------------------------------------------------------------------------


def _around(name: str, max_delta: float, most: float, seed: Any) -> Any:
    """A number drawn from -max_delta to max_delta."""
    if not 0 <= max_delta <= most:
        raise ValueError(f"{name}: max_delta is a number from 0 to {most}, got {max_delta}")
    return uniform([], -max_delta, max_delta, seed=seed)


def _factor(name: str, lower: float, upper: float, seed: Any) -> Any:
    """A number drawn from lower to upper."""
    if not 0 <= lower < upper:
        raise ValueError(f"{name}: lower is from 0 and less than upper, got {lower} and {upper}")
    return uniform([], lower, upper, seed=seed)


@public(adjust_brightness.op, "image.random_brightness")
def random_brightness(image: Any, max_delta: float, seed: Any = None) -> Any:
    """`nt.image.adjust_brightness` by a number drawn from -max_delta to `max_delta`, one for all images.

    ValueError if `max_delta` is negative. Each call draws anew; see `nt.random.set_seed` for what `seed` does.

    >>> x = nt.image.random_brightness([0.5], max_delta=0.2, seed=1).numpy()
    >>> bool(abs(x[0] - 0.5) <= 0.2)
    True
    """
    return adjust_brightness(image, _around("random_brightness", max_delta, math.inf, seed))


@public(adjust_contrast.op, "image.random_contrast")
def random_contrast(image: Any, lower: float, upper: float, seed: Any = None) -> Any:
    """`nt.image.adjust_contrast` by a factor drawn from `lower` up to `upper`, one for all images.

    ValueError if `lower` is negative or not below `upper`. Each call draws anew; see `nt.random.set_seed` for what
    `seed` does.

    >>> x = nt.image.random_contrast([[[1.0], [3.0]]], 0.5, 1.5, seed=1).numpy().ravel()
    >>> bool(0.5 <= x[0] <= 1.5), float(x.mean())
    (True, 2.0)
    """
    return adjust_contrast(image, _factor("random_contrast", lower, upper, seed))


@public(ADJUST_HUE, "image.random_hue")
def random_hue(image: Any, max_delta: float, seed: Any = None) -> Any:
    """`nt.image.adjust_hue` by a number drawn from -max_delta to `max_delta`, one for all images.

    ValueError if `max_delta` is not a number from 0 to 0.5. Each call draws anew; see `nt.random.set_seed` for what
    `seed` does.

    >>> nt.image.random_hue([[[0.5, 0.5, 0.5]]], 0.5, seed=1).numpy()
    array([[[0.5, 0.5, 0.5]]], dtype=float32)
    """
    return adjust_hue(image, _around("random_hue", max_delta, 0.5, seed))


@public(adjust_saturation.op, "image.random_saturation")
def random_saturation(image: Any, lower: float, upper: float, seed: Any = None) -> Any:
    """`nt.image.adjust_saturation` by a factor drawn from `lower` up to `upper`, one for all images.

    ValueError if `lower` is negative or not below `upper`. Each call draws anew; see `nt.random.set_seed` for what
    `seed` does.

    >>> nt.image.random_saturation([[[0.5, 0.5, 0.5]]], 0.5, 2.0, seed=1).numpy()
    array([[[0.5, 0.5, 0.5]]], dtype=float32)
    """
    return adjust_saturation(image, _factor("random_saturation", lower, upper, seed))
