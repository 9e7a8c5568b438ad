"""What neural networks are made of, beside activations: softmax, losses, normalization, dropout.

Softmax and the losses that contain one are formulas with rules of their own: the gradient needs the probabilities and
nothing else, and joins the loss in one kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from numtape.dtypes import int32, tensor_type, uint64
from numtape.ir.op import Example, Kind, Op, register
from numtape.ops.core import (
    Tensor,
    TensorType,
    check_flag,
    check_group,
    check_kind,
    composite,
    describe,
    elementwise,
    freeze,
    instruction,
    normalize_axes,
    normalize_axis,
    public,
)
from numtape.ops.creation import range_, resolve_dims
from numtape.ops.elementwise import convert, maximum, multiply_no_nan, square, where
from numtape.ops.movement import reshape_to
from numtape.ops.random import bits_for, draw, fraction
from numtape.ops.reduction import any_, max_, mean_, sum_, variance_
from numtape.ops.transcendental import exp, log, rsqrt, sigmoid, softplus

# ---- softmax ----------------------------------------------------------------------------------------------------


def _shifted(x: Any, axis: int) -> Any:
    return x - max_(x, (axis,))


def _softmax(x: Any, axis: int) -> Any:
    weights = exp(_shifted(x, axis))
    return weights / sum_(weights, (axis,))


def _log_softmax(x: Any, axis: int) -> Any:
    shifted = _shifted(x, axis)
    return shifted - log(sum_(exp(shifted), (axis,)))


def _numpy_log_softmax(x: Any, axis: int) -> Any:
    shifted = x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def _numpy_softmax(x: Any, axis: int) -> Any:
    return np.exp(_numpy_log_softmax(x, axis))


_AXES = [
    Example((shape,), {"axis": axis})
    for shape, axis in (((5,), 0), ((4, 3), 1), ((4, 3), 0), ((2, 3, 4), 1), ((3, 1), 1), ((0, 3), 1), ((2, 0), 1))
]



def _infer_alike(name: str) -> Any:
    def infer(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
        check_kind(name, types[0], "float")
        return types[0]

    return infer


softmax_: Any = instruction(
    "softmax", Kind.FORMULA, attributes=("axis",), infer=_infer_alike("softmax"), kernel=_softmax,
    reference=_numpy_softmax, gradient=lambda g, out, axis: out * (g - sum_(g * out, (axis,))), examples=_AXES,
    doc="Exponentials of elements, divided by their sum along an axis.",
)  # fmt: skip
log_softmax_: Any = instruction(
    "log_softmax", Kind.FORMULA, attributes=("axis",), infer=_infer_alike("log_softmax"), kernel=_log_softmax,
    reference=_numpy_log_softmax, gradient=lambda g, out, axis: g - exp(out) * sum_(g, (axis,)), examples=_AXES,
    doc="Logarithm of `softmax`.",
)  # fmt: skip


def _check_logits(name: str, logits: Any, axis: Any) -> int:
    check_kind(name, logits.type, "float")
    return normalize_axis(name, axis, logits.rank)


@composite(
    "nn.softmax", "math.softmax", reference=lambda logits, axis: _numpy_softmax(logits, -1 if axis is None else axis),
    examples=[Example(((2, 3),), {"axis": -1}), Example(((2, 3),), {"axis": 0}), Example(((2, 3),), {"axis": None})],
)  # fmt: skip
def softmax(logits: Tensor, axis: int | None = -1) -> Any:
    """Exponentials divided by their sum along `axis`: positive numbers that add up to 1.

    Takes float32 or float64 of rank 1 or more, and gives the same. Never overflows; a logit of -inf gets weight 0 and
    gradient 0 where there is another. ValueError if there is no such axis; None stands for the last.

    >>> nt.nn.softmax([[0.0, 0.0], [1000.0, -1000.0]]).numpy()
    array([[0.5, 0.5],
           [1. , 0. ]], dtype=float32)
    """
    return softmax_(logits, _check_logits("softmax", logits, -1 if axis is None else axis))


@composite(
    "nn.log_softmax", "math.log_softmax",
    reference=lambda logits, axis: _numpy_log_softmax(logits, -1 if axis is None else axis),
    examples=[Example(((2, 3),), {"axis": -1}), Example(((2, 3),), {"axis": 0}), Example(((2, 3),), {"axis": None})],
)  # fmt: skip
def log_softmax(logits: Tensor, axis: int | None = -1) -> Any:
    """Logarithm of `nt.nn.softmax`, accurate where that is tiny.

    Takes float32 or float64 of rank 1 or more, and gives the same. ValueError if there is no such axis; None stands
    for the last.

    >>> nt.nn.log_softmax([0.0, -1000.0]).numpy()
    array([    0., -1000.], dtype=float32)
    """
    return log_softmax_(logits, _check_logits("log_softmax", logits, -1 if axis is None else axis))


# ---- cross entropies --------------------------------------------------------------------------------------------


def _infer_cross_entropy(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    (axis,), shape = attributes, types[1].shape
    check_kind("softmax_cross_entropy", types[1], "float")
    return tensor_type(types[1].dtype, (*shape[:axis], 1, *shape[axis + 1 :]))


def _cross_entropy(labels: Any, logits: Any, axis: int) -> Any:
    shifted = _shifted(logits, axis)
    surprise = log(sum_(exp(shifted), (axis,))) - shifted
    return sum_(multiply_no_nan(surprise, labels), (axis,))


def _numpy_cross_entropy(labels: Any, logits: Any, axis: int) -> Any:
    surprise = -_numpy_log_softmax(logits, axis)
    return np.sum(np.where(labels == 0, 0, surprise * labels), axis=axis, keepdims=True)


cross_entropy_: Any = instruction(
    "softmax_cross_entropy", Kind.FORMULA, parameters=("labels", "logits"), attributes=("axis",),
    infer=_infer_cross_entropy, reference=_numpy_cross_entropy, kernel=_cross_entropy,
    gradient=lambda g, labels, logits, axis: (
        -g * log_softmax_(logits, axis), g * (softmax_(logits, axis) * sum_(labels, (axis,)) - labels),
    ),
    examples=[Example(e.shapes * 2, e.attributes, ((0.1, 1), (-3, 3))) for e in _AXES],
    doc="Cross entropy between weights and the softmax of logits, along an axis, which stays as length 1.",
)  # fmt: skip


def _places(labels: Any) -> Any:
    """Labels as int32, and -1 for those that int32 does not hold."""
    if labels.dtype is int32:
        return labels
    narrow = convert(labels, int32)
    return where(convert(narrow, labels.dtype) == labels, narrow, -1)


def _hits(labels: Any, logits: Any) -> tuple[Any, Any]:
    """Where the label's class is, and for each row 1, or nan if it is nowhere."""
    axis = logits.rank - 1
    places = _places(labels)
    hits = places == range_(places, logits.shape[axis])
    return hits, where(any_(hits, (axis,)), logits.builder.constant(1.0, logits.dtype), math.nan)


def _sparse_cross_entropy(labels: Any, logits: Any) -> Any:
    axis = logits.rank - 1
    shifted = _shifted(logits, axis)
    hits, known = _hits(labels, logits)
    return (log(sum_(exp(shifted), (axis,))) - sum_(where(hits, shifted, 0), (axis,))) * known


def _sparse_gradient(g: Any, labels: Any, logits: Any) -> Any:
    hits, known = _hits(labels, logits)
    return None, g * known * (softmax_(logits, logits.rank - 1) - convert(hits, logits.dtype))


def _numpy_sparse_cross_entropy(labels: Any, logits: Any) -> Any:
    classes = logits.shape[-1]
    known = (labels >= 0) & (labels < classes)
    if not classes:
        return np.full(labels.shape, np.nan, logits.dtype)
    picked = np.take_along_axis(_numpy_log_softmax(logits, -1), np.where(known, labels, 0).astype(np.int64), -1)
    return np.where(known, 0 - picked, np.nan).astype(logits.dtype)  # never -0.0


def _infer_sparse(types: Sequence[TensorType], attributes: tuple[Any, ...]) -> TensorType:
    check_kind("sparse_softmax_cross_entropy", types[1], "float")
    return tensor_type(types[1].dtype, types[0].shape)


sparse_cross_entropy_: Any = instruction(
    "sparse_softmax_cross_entropy", Kind.FORMULA, parameters=("labels", "logits"), groups=("I", "T"),
    infer=_infer_sparse, reference=_numpy_sparse_cross_entropy, kernel=_sparse_cross_entropy,
    gradient=_sparse_gradient,
    examples=[
        Example(((5, 1), (5, 4)), {}, ((0, 4), (-3, 3)), (None, None)),
        Example(((2, 3, 1), (2, 3, 4)), {}, ((0, 4), (-3, 3)), (int32, None)),
        Example(((4, 1), (4, 3)), {}, ((0, 3), (-3, 3)), (uint64, None)),
        Example(((1,), (3,)), {}, ((0, 3), (-3, 3)), (None, None)),
        Example(((0, 1), (0, 3)), {}, ((0, 3), (-3, 3)), (None, None)),
    ],
    doc="Cross entropy between classes, in a last axis of length 1, and the softmax of logits.",
)  # fmt: skip


@composite(
    "nn.softmax_cross_entropy_with_logits",
    reference=lambda labels, logits, axis: _numpy_cross_entropy(labels, logits, axis).squeeze(axis),
    examples=[Example(((4, 3), (4, 3)), {"axis": a}, ((0.1, 1), (-3, 3))) for a in (-1, 0)],
)
def softmax_cross_entropy_with_logits(labels: Tensor, logits: Tensor, axis: int = -1) -> Any:
    """Cross entropy between distributions over classes and the softmax of `logits` along `axis`.

    Takes float32 or float64: both operands of one dtype and shape, which the result has too, without `axis`. `labels`
    are nonnegative, and add up to 1 along `axis` where they are probabilities; gradients flow to both operands. A
    class whose label is 0 adds nothing, even if its logit is -inf. Never overflows. ValueError if shapes differ.

    >>> nt.nn.softmax_cross_entropy_with_logits([[0.0, 1.0]], [[0.0, 0.0]]).numpy()
    array([0.6931472], dtype=float32)
    """
    name = "softmax_cross_entropy_with_logits"
    check_group(name, [labels.type, logits.type])
    axis = _check_logits(name, logits, axis)
    if labels.shape != logits.shape:
        raise ValueError(f"{name}: {describe([labels.type, logits.type])}: labels need the shape of logits")
    shape = logits.shape
    return reshape_to(cross_entropy_(labels, logits, axis), (*shape[:axis], *shape[axis + 1 :]))


@composite(
    "nn.sparse_softmax_cross_entropy_with_logits", groups=("I", "T"),
    reference=lambda labels, logits: _numpy_sparse_cross_entropy(labels[..., None], logits)[..., 0],
    examples=[Example(((5,), (5, 4)), {}, ((0, 4), (-3, 3))), Example(((), (3,)), {}, ((0, 3), (-3, 3)))],
)  # fmt: skip
def sparse_softmax_cross_entropy_with_logits(labels: Tensor, logits: Tensor) -> Any:
    """Cross entropy between integer class labels and the softmax of `logits`, for each row.

    Shapes: labels (...), logits (..., classes); the result is (...). `labels` are integers of any dtype, `logits`
    float32 or float64, which the result has too. A label out of range gives nan, and so does its row of the gradient.
    Never overflows. ValueError if the shapes do not fit.

    >>> nt.nn.sparse_softmax_cross_entropy_with_logits([0, 1], [[0.0, 0.0], [-1000.0, 1000.0]]).numpy()
    array([0.6931472, 0.       ], dtype=float32)
    """
    name = "sparse_softmax_cross_entropy_with_logits"
    check_kind(f"{name}, labels", labels.type, "integer")
    check_kind(f"{name}, logits", logits.type, "float")
    if logits.rank == 0 or labels.shape != logits.shape[:-1]:
        both = describe([labels.type, logits.type])
        raise ValueError(f"{name}: {both}: labels need the shape of logits without classes")
    return reshape_to(sparse_cross_entropy_(reshape_to(labels, (*labels.shape, 1)), logits), labels.shape)


def _numpy_sigmoid_cross_entropy(labels: Any, logits: Any) -> Any:
    # `logaddexp(0, logits)` would lose what is left beside a large logit.
    return np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))


sigmoid_cross_entropy_: Any = elementwise(
    "sigmoid_cross_entropy", "maximum(logits, T(0)) - logits * labels + softplus(-fabs(logits))",
    parameters=("labels", "logits"), public=(), sample=((0, 1), (-3, 3)), reference=_numpy_sigmoid_cross_entropy,
    gradient=lambda g, labels, logits: (-g * logits, g * (sigmoid(logits) - labels)),
    doc="Cross entropy between a probability and the sigmoid of a logit.",
)  # fmt: skip


def _check_alike(name: str, labels: Any, logits: Any) -> None:
    check_kind(name, logits.type, "float")
    if labels.shape != logits.shape:
        raise ValueError(f"{name}: {describe([labels.type, logits.type])}: labels need the shape of logits")


@composite(
    "nn.sigmoid_cross_entropy_with_logits", examples=[Example(((2, 3), (2, 3)), {}, ((0, 1), (-3, 3)))],
    reference=_numpy_sigmoid_cross_entropy,
)  # fmt: skip
def sigmoid_cross_entropy_with_logits(labels: Tensor, logits: Tensor) -> Any:
    """Cross entropy between probabilities and the sigmoid of `logits`, element by element.

    Takes float32 or float64: both operands of one dtype and shape, which the result has too. Never overflows.
    Gradients flow to both operands. ValueError if shapes differ.

    >>> nt.nn.sigmoid_cross_entropy_with_logits([1.0, 0.0], [0.0, -1000.0]).numpy()
    array([0.6931472, 0.       ], dtype=float32)
    """
    _check_alike("sigmoid_cross_entropy_with_logits", labels, logits)
    return sigmoid_cross_entropy_(labels, logits)


@composite(
    "nn.weighted_cross_entropy_with_logits",
    examples=[Example(((2, 3), (2, 3), ()), {}, ((0, 1), (-3, 3), (0.5, 2)))],
    reference=lambda labels, logits, pos_weight: (
        labels * pos_weight * np.logaddexp(0, -logits) + (1 - labels) * np.logaddexp(0, logits)
    ),
)  # fmt: skip
def weighted_cross_entropy_with_logits(labels: Tensor, logits: Tensor, pos_weight: Tensor) -> Any:
    """`nt.nn.sigmoid_cross_entropy_with_logits` with positive labels weighted: recall against precision.

    The loss is `labels * pos_weight * -log(sigmoid(logits)) + (1 - labels) * -log(1 - sigmoid(logits))`. Takes
    float32 or float64 of one dtype; `pos_weight` broadcasts. ValueError if the shapes of the others differ.

    >>> nt.nn.weighted_cross_entropy_with_logits([1.0, 0.0], [0.0, 0.0], 2.0).numpy()
    array([1.3862944, 0.6931472], dtype=float32)
    """
    _check_alike("weighted_cross_entropy_with_logits", labels, logits)
    return labels * pos_weight * softplus(-logits) + (1 - labels) * softplus(logits)


# ---- normalization ----------------------------------------------------------------------------------------------


@composite("nn.l2_loss", reference=lambda t: np.square(t).sum() / 2, examples=[Example(((2, 3),)), Example(((),))])
def l2_loss(t: Tensor) -> Any:
    """Half the sum of squares of all elements.

    Takes float32 or float64 of any shape, and gives a single number of the same.

    >>> nt.nn.l2_loss([3.0, 4.0]).numpy()
    np.float32(12.5)
    """
    check_kind("l2_loss", t.type, "float")
    return reshape_to(sum_(square(t), tuple(range(t.rank))) / 2, ())


def _numpy_l2_normalize(x: Any, axis: Any, epsilon: float) -> Any:
    squares = np.sum(np.square(x), axis=axis, keepdims=True)
    return x / np.sqrt(np.maximum(squares, np.asarray(epsilon, x.dtype)))


@composite(
    "nn.l2_normalize", "math.l2_normalize", "linalg.l2_normalize", reference=_numpy_l2_normalize,
    examples=[
        Example(((4, 3),), {"axis": axis, "epsilon": epsilon})
        for axis, epsilon in ((None, 1e-12), (-1, 1e-12), (0, 1e-12), ((0, 1), 1e-12), (1, 1e3))
    ],
)  # fmt: skip
def l2_normalize(x: Tensor, axis: Any = None, epsilon: float = 1e-12) -> Any:
    """Elements divided by the Euclidean norm along `axis` (an integer, several, or None for all).

    Takes float32 or float64, and gives the same. The norm's square counts as at least `epsilon`.

    >>> nt.nn.l2_normalize([3.0, 4.0]).numpy()
    array([0.6, 0.8], dtype=float32)
    """
    check_kind("l2_normalize", x.type, "float")
    axes = normalize_axes("l2_normalize", axis, x.rank)
    return x * rsqrt(maximum(sum_(square(x), axes), epsilon))


@composite(
    "nn.moments",
    reference=lambda x, axes, shift, keepdims: (
        np.mean(x, axis=axes, keepdims=keepdims), np.var(x, axis=axes, keepdims=keepdims),
    ),
    examples=[
        Example(((4, 3),), {"axes": axes, "shift": None, "keepdims": keepdims})
        for axes, keepdims in (((0,), False), (1, True), ((0, 1), False), (-1, False))
    ],
)  # fmt: skip
def moments(x: Tensor, axes: Any, shift: Any = None, keepdims: bool = False) -> Any:
    """Mean and variance of elements over `axes` (an integer or several).

    Takes float32 or float64, and gives two of the same. The variance divides by the number of elements. The axes go
    away, or stay as length 1 with `keepdims`; `shift` is not used, as in TensorFlow.

    >>> mean, variance = nt.nn.moments([[1.0, 2.0], [3.0, 6.0]], axes=[0])
    >>> mean.numpy(), variance.numpy()
    (array([2., 4.], dtype=float32), array([1., 4.], dtype=float32))
    """
    check_kind("moments", x.type, "float")
    over = normalize_axes("moments", axes, x.rank)
    found = mean_(x, over), variance_(x, over)
    if check_flag("moments", "keepdims", keepdims):
        return found
    return tuple(reshape_to(m, tuple(n for a, n in enumerate(m.shape) if a not in over)) for m in found)


_FORMATS = {
    None: -1, "NHWC": -1, "NWC": -1, "NDHWC": -1, "N...C": -1, "NCHW": 1, "NCW": 1, "NCDHW": 1, "NC...": 1,
}  # fmt: skip
"""Which axis holds the channels."""


@composite(
    "nn.bias_add",
    reference=lambda value, bias, data_format: (
        value + bias.reshape(-1, *[1] * (value.ndim - 2 if data_format == "NCHW" else 0))
    ),
    examples=[
        Example(((4, 3), (3,)), {"data_format": None}), Example(((2, 3, 4, 5), (3,)), {"data_format": "NCHW"}),
        Example(((2, 4, 5, 3), (3,)), {"data_format": "NHWC"}),
    ],
)  # fmt: skip
def bias_add(value: Tensor, bias: Tensor, data_format: str | None = None) -> Any:
    """A vector added to each position, along the axis of channels.

    That is the last axis, or the second where `data_format` begins with "NC". Takes numbers of any one dtype, and
    gives the same. ValueError if `bias` is no vector of as many numbers as there are channels.

    >>> nt.nn.bias_add([[1.0, 2.0], [3.0, 4.0]], [10.0, 20.0]).numpy()
    array([[11., 22.],
           [13., 24.]], dtype=float32)
    """
    if data_format not in _FORMATS:
        known = ", ".join(repr(f) for f in _FORMATS if f)
        raise ValueError(f"bias_add: data_format {data_format!r} is none of {known}")
    both = describe([value.type, bias.type])
    if value.rank < 2:
        raise ValueError(f"bias_add: {both}: a value has two axes or more, for examples and channels")
    axis = _FORMATS[data_format] % value.rank
    if bias.shape != (value.shape[axis],):
        raise ValueError(f"bias_add: {both}: bias needs one number for each of the {value.shape[axis]} channels")
    return value + reshape_to(bias, (*bias.shape, *[1] * (value.rank - 1 - axis)))


# ---- dropout ----------------------------------------------------------------------------------------------------


def _expand_dropout(values: Sequence[Any], attributes: tuple[Any, ...]) -> Any:
    (stream, call, x, rate), (noise_shape,) = values, attributes
    check_kind("dropout", x.type, "float")
    if rate.rank:
        raise ValueError(f"dropout: rate is a single number, got {describe([rate.type])}")
    shape = x.shape
    if noise_shape is not None:
        own = shape[x.rank - len(noise_shape) :]
        shape = resolve_dims("dropout", [n if m is None else m for n, m in zip(own, noise_shape, strict=False)])
        if len(shape) != len(noise_shape) or any(m not in (1, n) for n, m in zip(own, shape, strict=True)):
            raise ValueError(f"dropout: noise_shape {noise_shape} does not broadcast to the shape {x.shape} of x")
    kept = fraction(bits_for(stream, call, shape), x.dtype) >= rate
    return where(kept, x * (1 / (1 - rate)), 0)


DROPOUT = register(Op(
    "nt.nn.dropout", Kind.COMPOSITE, ("stream", "call", "x", "rate"), ("noise_shape",), expand=_expand_dropout,
    groups=("U", "U", "T", "T"), doc="See nt.nn.dropout.",
    examples=tuple(
        Example(
            ((), (), shape, ()), {"noise_shape": noise}, ((0, 1 << 62), (0, 1 << 62), (-3, 3), (0.2, 0.6)),
            (uint64, uint64, None),
        )
        for shape, noise in (((4, 3), None), ((2, 3, 4), (2, 1, None)), ((), None), ((0, 2), None))
    ),
))  # fmt: skip


@public(DROPOUT, "nn.dropout")
def dropout(x: Any, rate: Any, noise_shape: Any = None, seed: Any = None, name: str | None = None) -> Any:
    """Elements that are 0 with probability `rate`, and divided by 1 - `rate` otherwise: the mean stays.

    Takes float32 or float64, and gives the same. `rate` is a number from 0 up to but without 1, or a tensor of one,
    which is not looked at. With `noise_shape`, whose entries are 1, the length of x or None for that, elements along
    axes of 1 share their fate. After Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from
    Overfitting" (2014). Each call draws anew; see `nt.random.set_seed` for what `seed` does. ValueError if `rate` is
    out of range or `noise_shape` does not fit.

    >>> x = nt.nn.dropout(nt.ones([1000]), rate=0.2, seed=1).numpy()
    >>> np.unique(x), abs(float(x.mean()) - 1) < 0.1
    (array([0.  , 1.25], dtype=float32), True)
    """
    if isinstance(rate, np.generic):
        rate = rate.item()
    if isinstance(rate, int | float) and not 0 <= rate < 1:
        raise ValueError(f"dropout: rate {rate} is not a number from 0 up to but without 1")
    return draw(DROPOUT, seed, (x, rate), (freeze(noise_shape),))
