"""Images: gradients that are not there or not by the formula, integers, ties, random draws, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import numtape as nt

RNG = np.random.default_rng(3)
IMAGE = RNG.random((4, 5, 3)).astype(np.float32)
BYTES = RNG.integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)


def gradient(function, array):
    x = nt.Variable(array)
    with nt.GradientTape() as tape:
        y = function(x)
    return tape.gradient(y, x)


# ---- gradients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "function"),
    [
        ("AdjustContrastv2", lambda x: nt.image.adjust_contrast(x, 2.0)),
        ("AdjustSaturation", lambda x: nt.image.adjust_saturation(x, 1.5)),
        ("AdjustHue", lambda x: nt.image.adjust_hue(x, 0.1)),
        ("AdjustHue", lambda x: nt.image.random_hue(x, 0.1)),
    ],
)
def test_what_tensorflow_has_no_rule_for_is_a_lookup_error(op, function):
    with pytest.raises(LookupError, match=f"gradient registry has no entry for: {op}"):
        gradient(function, IMAGE)


def test_no_gradient_flows_from_colors_by_hue():
    assert gradient(nt.image.hsv_to_rgb, IMAGE) is None
    assert gradient(lambda x: nt.image.convert_image_dtype(x, nt.uint8), IMAGE) is None


def test_gradients_of_hue_saturation_and_value_at_ties_and_zeros_are_tensorflows():
    pixels = np.array(
        [[0.5, 0.5, 0.5], [0.5, 0.5, 0.1], [0.1, 0.5, 0.5], [0.5, 0.1, 0.1], [0.5, 0.25, 0], [0, 0, 0], [-1, -2, -3]],
        np.float32,
    )
    hue, saturation, value = (gradient(lambda x: nt.image.rgb_to_hsv(x)[:, k], pixels).numpy() for k in range(3))  # noqa: B023
    sixth = 2.5 / 6
    expected_hue = [[0, 0, 0], [-sixth, sixth, 0], [0, -sixth, sixth], [0, sixth, -sixth], [-1 / 6, 1 / 3, -1 / 6]]
    np.testing.assert_allclose(hue, [*expected_hue, [0, 0, 0], [0, 0, 0]], rtol=1e-5, atol=1e-6)
    expected_saturation = [[2, 0, -2], [0.4, 0, -2], [-2, 0.4, 0], [0.4, 0, -2], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(saturation, expected_saturation, rtol=1e-5, atol=1e-6)
    first, second = [1, 0, 0], [0, 1, 0]
    np.testing.assert_array_equal(value, [first, first, second, first, first, first, first])


def test_a_gray_image_stands_still():
    flat = np.full((2, 3, 1), 7.0, np.float32)
    np.testing.assert_array_equal(nt.image.per_image_standardization(flat), np.zeros_like(flat))
    assert np.isfinite(gradient(nt.image.per_image_standardization, flat)).all()
    gray = np.repeat(flat, 3, -1) / 10
    for turned in (nt.image.adjust_hue(gray, 0.3), nt.image.adjust_saturation(gray, 3.0)):
        np.testing.assert_array_equal(turned, gray)


# ---- integers ------------------------------------------------------------------------------------------------------


def test_hue_of_primary_colors():
    primary = np.array([[[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255]]], np.uint8)
    for k in range(-6, 7):
        np.testing.assert_array_equal(nt.image.adjust_hue(primary, k / 6), np.roll(primary, -k, 1))


def test_bytes_are_exact_where_nothing_changes():
    unchanged = [
        nt.image.adjust_brightness(BYTES, 0.0),
        nt.image.adjust_contrast(BYTES, 1.0),
        nt.image.adjust_gamma(BYTES),
        nt.image.adjust_hue(BYTES, 0.0),
        nt.image.adjust_saturation(BYTES, 1.0),
        *(
            nt.image.convert_image_dtype(nt.image.convert_image_dtype(BYTES, dtype), nt.uint8)
            for dtype in (nt.float32, nt.float64, nt.int16, nt.int32, nt.int64, nt.uint16, nt.uint32, nt.uint64)
        ),
    ]
    for image in unchanged:
        assert image.dtype == nt.uint8
        np.testing.assert_array_equal(image, BYTES)


def test_bytes_stay_in_range():
    np.testing.assert_array_equal(nt.image.adjust_brightness(BYTES, 2.0), np.full_like(BYTES, 255))
    np.testing.assert_array_equal(nt.image.adjust_brightness(BYTES, -2.0), np.zeros_like(BYTES))
    dark = nt.image.adjust_contrast(np.array([[[0], [100], [200]]], np.uint8), 3.0)
    np.testing.assert_array_equal(dark.numpy().ravel(), [0, 100, 255])


def test_conversion_between_integers_wraps_unless_it_saturates():
    x = np.array([0, -300, 32767], np.int16)
    assert nt.image.convert_image_dtype(x, nt.uint8).numpy().tolist() == [0, 253, 255]
    assert nt.image.convert_image_dtype(x, nt.uint8, saturate=True).numpy().tolist() == [0, 0, 255]
    x = np.array([-0.5, 0.25, 1.5, np.nan])
    assert nt.image.convert_image_dtype(x, nt.uint8).numpy().tolist() == [0, 63, 255, 0]


def test_no_scale_is_lost_by_a_repeated_recording():
    for factor, expected in ((0.5, [1.5, 2.5]), (2.0, [0.0, 4.0]), (1, [1.0, 3.0])):
        found = nt.image.adjust_contrast(np.array([[[1.0], [3.0]]], np.float32), factor)
        np.testing.assert_array_equal(found.numpy().ravel(), expected)


# ---- sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [nt.image.ResizeMethod.BILINEAR, nt.image.ResizeMethod.NEAREST_NEIGHBOR])
@pytest.mark.parametrize("size", [(1, 1), (4, 5), (9, 3), (40, 41)])
def test_what_resize_gives_back_is_its_transpose(method, size):
    x = nt.Variable(IMAGE)
    weights = RNG.random((*size, 3)).astype(np.float32)
    with nt.GradientTape() as tape:
        y = nt.image.resize(x, size, method)
    back = tape.gradient(y, x, output_gradients=weights)
    assert y.dtype == back.dtype == nt.float32
    np.testing.assert_allclose((back * x).numpy().sum(), (y * weights).numpy().sum(), rtol=1e-5)
    if size == (4, 5):
        np.testing.assert_array_equal(y, IMAGE)


def test_size_may_be_a_tensor_or_an_array():
    for size in (nt.constant([2, 3]), np.array([2, 3]), [np.int64(2), 3]):
        assert nt.image.resize(BYTES, size).shape == (2, 2, 3, 3)
    assert nt.image.resize(BYTES, (2, 3)).dtype == nt.float32
    assert nt.image.resize(BYTES, (2, 3), "nearest").dtype == nt.uint8
    assert nt.image.resize(np.zeros((3, 5, 1)), (7, 7), preserve_aspect_ratio=True).shape == (4, 7, 1)


# ---- likeness ------------------------------------------------------------------------------------------------------


def test_equal_images_are_infinitely_alike():
    assert nt.image.psnr(BYTES, BYTES, 255).numpy().tolist() == [np.inf, np.inf]
    found = nt.image.ssim(BYTES, BYTES, 255, filter_size=4)
    np.testing.assert_allclose(found, [1, 1], rtol=1e-5)


# ---- at random -----------------------------------------------------------------------------------------------------


def test_each_image_of_a_batch_is_flipped_for_itself():
    images = np.arange(200 * 6, dtype=np.int32).reshape(200, 2, 3, 1)
    for function, axis in ((nt.image.random_flip_left_right, 2), (nt.image.random_flip_up_down, 1)):
        found = function(images, seed=4).numpy()
        flipped = (found == np.flip(images, axis)).all((1, 2, 3))
        assert (flipped | (found == images).all((1, 2, 3))).all()
        assert 60 < flipped.sum() < 140
    first = [nt.image.random_flip_left_right(IMAGE, seed=9).numpy() for _ in range(20)]
    assert {np.array_equal(x, IMAGE) for x in first} == {True, False}


def test_random_adjustments_draw_one_number():
    x = np.full((2, 3, 3, 3), 0.5, np.float32)
    moved = nt.image.random_brightness(x, 0.25, seed=1).numpy() - x
    assert np.ptp(moved) == 0
    assert 0 < abs(moved.flat[0]) <= 0.25
    a, b = (nt.image.random_saturation(IMAGE, 0.5, 1.5).numpy() for _ in range(2))
    assert not np.array_equal(a, b)


# ---- what is refused -----------------------------------------------------------------------------------------------

FLAT = np.zeros((3, 3), np.float32)
REFUSED = {
    "axes of a flip": (ValueError, lambda: nt.image.flip_left_right(FLAT)),
    "five axes": (ValueError, lambda: nt.image.transpose(np.zeros((1, 1, 2, 2, 3)))),
    "no pixels": (ValueError, lambda: nt.image.flip_up_down(np.zeros((0, 2, 3)))),
    "half a turn": (TypeError, lambda: nt.image.rot90(IMAGE, 1.5)),
    "axes of an adjustment": (ValueError, lambda: nt.image.adjust_saturation(FLAT, 1.0)),
    "channels of an adjustment": (ValueError, lambda: nt.image.adjust_hue(np.zeros((2, 2, 4)), 0.1)),
    "several factors": (ValueError, lambda: nt.image.adjust_contrast(IMAGE, [1.0, 2.0])),
    "hue out of range": (ValueError, lambda: nt.image.adjust_hue(IMAGE, 1.5)),
    "hue that is nan": (ValueError, lambda: nt.image.adjust_hue(IMAGE, float("nan"))),
    "negative gamma": (ValueError, lambda: nt.image.adjust_gamma(IMAGE, -1)),
    "bools": (TypeError, lambda: nt.image.adjust_brightness(np.ones((2, 2, 1), bool), 0.1)),
    "to bools": (TypeError, lambda: nt.image.convert_image_dtype(IMAGE, bool)),
    "hue of integers": (TypeError, lambda: nt.image.rgb_to_hsv(BYTES)),
    "hue of four channels": (ValueError, lambda: nt.image.rgb_to_hsv(np.zeros((2, 4)))),
    "hue of a number": (ValueError, lambda: nt.image.hsv_to_rgb(1.0)),
    "gray of gray": (ValueError, lambda: nt.image.rgb_to_grayscale(IMAGE[..., :1])),
    "color of color": (ValueError, lambda: nt.image.grayscale_to_rgb(IMAGE)),
    "no fraction": (ValueError, lambda: nt.image.central_crop(IMAGE, 0.0)),
    "more than all": (ValueError, lambda: nt.image.central_crop(IMAGE, 1.5)),
    "negative offset": (ValueError, lambda: nt.image.crop_to_bounding_box(IMAGE, -1, 0, 1, 1)),
    "empty box": (ValueError, lambda: nt.image.crop_to_bounding_box(IMAGE, 0, 0, 0, 1)),
    "box beyond": (ValueError, lambda: nt.image.crop_to_bounding_box(IMAGE, 2, 0, 3, 1)),
    "fractional offset": (TypeError, lambda: nt.image.crop_to_bounding_box(IMAGE, 0.5, 0, 1, 1)),
    "too small": (ValueError, lambda: nt.image.pad_to_bounding_box(IMAGE, 0, 1, 4, 5)),
    "no target": (ValueError, lambda: nt.image.resize_with_crop_or_pad(IMAGE, 0, 1)),
    "one size": (ValueError, lambda: nt.image.resize(IMAGE, 3)),
    "fractional size": (ValueError, lambda: nt.image.resize(IMAGE, (1.5, 2))),
    "no size": (ValueError, lambda: nt.image.resize(IMAGE, (0, 2))),
    "another method": (ValueError, lambda: nt.image.resize(IMAGE, (2, 2), "NEAREST")),
    "antialias": (NotImplementedError, lambda: nt.image.resize(IMAGE, (2, 2), antialias=True)),
    "unsigned differences": (TypeError, lambda: nt.image.total_variation(BYTES)),
    "gradients of one image": (ValueError, lambda: nt.image.image_gradients(IMAGE)),
    "edges of a line": (ValueError, lambda: nt.image.sobel_edges(np.zeros((1, 1, 5, 1)))),
    "sizes that differ": (ValueError, lambda: nt.image.psnr(IMAGE, IMAGE[1:], 1.0)),
    "batches that differ": (ValueError, lambda: nt.image.psnr([IMAGE] * 2, [IMAGE] * 3, 1.0)),
    "large windows": (ValueError, lambda: nt.image.ssim(IMAGE, IMAGE, 1.0)),
    "negative range": (ValueError, lambda: nt.image.random_brightness(IMAGE, -0.1)),
    "more than half the circle": (ValueError, lambda: nt.image.random_hue(IMAGE, 0.6)),
    "crossed bounds": (ValueError, lambda: nt.image.random_contrast(IMAGE, 2.0, 1.0)),
    "negative factor": (ValueError, lambda: nt.image.random_saturation(IMAGE, -1.0, 1.0)),
}  # fmt: skip


@pytest.mark.parametrize(("error", "call"), REFUSED.values(), ids=REFUSED)
def test_refused(error, call):
    with pytest.raises(error):
        call()
