"""Random numbers, each of which depends on nothing but its seed, its call and its place in the tensor.

The generator is counter-based (`numtape.codegen.threefry`): an element's bits are computed where they are used, so
that drawing fuses with what follows, and gives the same on every backend and for any number of threads. Seed and call
are numbers that a program is given at run time: a loop that draws anew in each step records and compiles once.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from numtape.codegen.threefry import random_bits as bits_of
from numtape.dtypes import DType, Shape, as_dtype, float32, float64, int32, int64, tensor_type, uint64
from numtape.ir.kernel import Kernel
from numtape.ir.op import Example, Gradient, Kind, Op, register
from numtape.ops.core import (
    PUBLIC,
    TensorType,
    apply,
    check_kind,
    describe,
    elementwise,
    freeze,
    instruction,
    public,
)
from numtape.ops.creation import range_, resolve_dims
from numtape.ops.elementwise import add, convert, left_shift, maximum, minimum, multiply, right_shift, where
from numtape.ops.gather import take
from numtape.ops.movement import Call, reshape_to
from numtape.ops.rearrange import integer
from numtape.ops.reduction import argmax
from numtape.ops.transcendental import cos, log, log1p, sqrt

# ---- seeds ------------------------------------------------------------------------------------------------------

_WORD = (1 << 64) - 1
_TOP = 1 << 63
"""Set in every number that goes to a program, because the recorder tells Python integers apart by their length."""

Draw: TypeAlias = tuple[int | None, tuple[int, int]]
"""One that was made: its seed, then stream and call."""


class Streams:
    """What comes next for each seed: the key of its stream, and how often it was drawn from."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.restart(None)

    def restart(self, seed: int | None) -> None:
        """Begin every stream anew, under a global seed or without one."""
        with self.lock:
            self.seed = seed
            self.calls: dict[int | None, tuple[int, int]] = {}

    def draw(self, seed: int | None) -> tuple[int, int]:
        """Stream and call for the next tensor: two integers of 64 bits."""
        with self.lock:
            stream, call = self.place(seed)
            self.calls[seed] = stream, call + 1
        if DRAWS.heard is not None:
            DRAWS.heard.append((seed, (stream, call)))
        return stream, call

    def put_back(self, draws: Sequence[Draw]) -> None:
        """Undo draws, but for those behind which somebody else drew."""
        with self.lock:
            for seed, (stream, call) in reversed(draws):
                if self.calls.get(seed) == (stream, call + 1):
                    self.calls[seed] = stream, call

    def place(self, seed: int | None) -> tuple[int, int]:
        """What `draw` would give; by whoever holds the lock."""
        return self.calls.get(seed) or (self._key(seed), _TOP)

    def first(self, seed: int) -> tuple[int, int]:
        """What a seed's stream begins with, however often it was drawn from."""
        return self._key(seed), _TOP

    def _key(self, seed: int | None) -> int:
        if self.seed is None and seed is None:
            bits = int.from_bytes(os.urandom(8), "little")
        else:
            given = (self.seed is not None) + 2 * (seed is not None)
            bits = int(bits_of((self.seed or 0) & _WORD, (seed or 0) & _WORD, given))
        return bits | _TOP


class _Draws(threading.local):
    """Where a thread notes what it draws: a list, or None."""

    heard: list[Draw] | None = None


STREAMS = Streams()
DRAWS = _Draws()


@contextmanager
def noted() -> Iterator[list[Draw]]:
    """What is drawn within, as a list that grows; those around hear of what is in it at the end."""
    outer, DRAWS.heard = DRAWS.heard, []
    try:
        yield DRAWS.heard
    finally:
        if outer is not None:
            outer += DRAWS.heard
        DRAWS.heard = outer


def draw(op: Op, seed: Any, operands: Sequence[Any] = (), attributes: tuple[Any, ...] = ()) -> Any:
    """Call an op whose first two operands, stream and call, are the next of a seed."""
    if seed is not None:
        seed = integer(op.name.removeprefix("nt."), "seed", freeze(seed))
    return apply(op, (*STREAMS.draw(seed), *operands), attributes)


def set_seed(seed: Any) -> None:
    """Start all random numbers anew, as the global seed determines them.

    A function of random numbers takes the next stream of a generator at each call:

    - without a seed anywhere, that of a generator which the operating system seeds;
    - after `set_seed`, that of a generator with this seed;
    - with an argument `seed=s`, the k-th stream of s at the k-th call with it, the same in each run of the program;
      `set_seed` counts from the start again, and gives other streams for another global seed.

    The numbers depend on nothing else: neither on the machine, nor on threads, nor on which other numbers are drawn
    with other seeds. Threads may draw at the same time, but who comes first is then up to them; give each a `seed`.

    >>> nt.random.set_seed(1)
    >>> a = nt.random.normal([3])
    >>> nt.random.set_seed(1)
    >>> np.array_equal(a, nt.random.normal([3]))
    True
    """
    STREAMS.restart(integer("random.set_seed", "seed", freeze(seed)))


set_seed.__module__ = "numtape"
PUBLIC["random.set_seed"] = set_seed

# ---- bits, and numbers from them --------------------------------------------------------------------------------

_WORDS = ((0, _TOP - 1),) * 3

random_bits: Any = elementwise(
    "random_bits", "random_bits(stream, call, index)", parameters=("stream", "call", "index"), groups=("U",) * 3,
    reference=bits_of, gradient=Gradient.NONE, result=uint64, public=(), at_once=True,
    examples=[Example(shapes, {}, _WORDS, (uint64,)) for shapes in (((), (), (5,)), ((2, 1), (3,), ()))],
    doc="64 bits that look random, the same for the same stream, call and index.",
)  # fmt: skip


def bits_for(stream: Any, call: Any, shape: Shape) -> Any:
    """64 bits for each element of a shape."""
    return random_bits(stream, call, reshape_to(range_(stream, math.prod(shape)), shape))


def fraction(bits: Any, dtype: DType) -> Any:
    """Numbers from 0 up to but without 1, at equal distances, from the upper bits."""
    kept = 24 if dtype is float32 else 53
    return convert(right_shift(bits, 64 - kept), dtype) * 2.0**-kept


def positive_fraction(bits: Any, dtype: DType) -> Any:
    """Numbers above 0 and up to 1, with all the digits that small ones have room for."""
    kept = 32 if dtype is float32 else 53
    return (convert(right_shift(bits, 64 - kept), dtype) + 0.5) * 2.0**-kept


def _high_product(x: Any, y: Any) -> Any:
    """The upper 64 of the 128 bits of a product of two uint64."""
    (x1, x0), (y1, y0) = (_halves(v) for v in (x, y))
    carry, cross = _halves(x1 * y0 + _halves(x0 * y0)[0])
    return x1 * y1 + carry + _halves(x0 * y1 + cross)[0]


def _halves(x: Any) -> tuple[Any, Any]:
    return right_shift(x, 32), x & 0xFFFFFFFF


def _normal(stream: Any, call: Any, shape: Shape, dtype: DType) -> Any:
    """Box and Muller, "A Note on the Generation of Random Normal Deviates" (1958); at most 6.8 or 8.7 in size."""
    index = reshape_to(range_(stream, math.prod(shape)), shape)
    bits = random_bits(stream, call, index)
    others = left_shift(bits, 32) if dtype is float32 else random_bits(stream, call, ~index)
    radius = sqrt(-2.0 * log(positive_fraction(bits, dtype)))
    return radius * cos(2 * math.pi * fraction(others, dtype))


def _uniform(stream: Any, call: Any, shape: Shape, dtype: DType) -> Any:
    return fraction(bits_for(stream, call, shape), dtype)


_WITHIN_TWO = math.erf(math.sqrt(2))
"""The part of a normal distribution that is within two standard deviations."""

_QUANTILE = (
    1.25331413736443133, 0.328116869691355745, 0.0163332942849370898, -0.00330264362083584958,
    -0.000180240597456825685, 6.46258931545042016e-05, 4.05567843639568804e-06, -2.10738707888271647e-06,
    1.66127133643341105e-07,
)  # fmt: skip
"""sqrt(2) * erfinv(x) / x as a polynomial in -log(1 - x**2): minimax on |x| <= _WITHIN_TWO, relative error 4e-11."""


def _two_sided(uniform: Any) -> Any:
    """The quantile function of a normal distribution without what is beyond two standard deviations."""
    x = (2.0 * uniform - 1.0) * _WITHIN_TWO
    w = -log1p(-x * x)
    total: Any = _QUANTILE[-1]
    for c in reversed(_QUANTILE[:-1]):
        total = total * w + c
    return maximum(minimum(x * total, 2.0), -2.0)


def _truncated_normal(stream: Any, call: Any, shape: Shape, dtype: DType) -> Any:
    return _two_sided(fraction(bits_for(stream, call, shape), dtype))


def _distribution(name: str, body: Callable[..., Any], doc: str) -> Op:
    """A composite of stream and call that gives floats of a shape."""
    return register(Op(
        f"nt.random.{name}", Kind.COMPOSITE, ("stream", "call"), ("shape", "dtype"), groups=("U", "U"), doc=doc,
        expand=lambda values, attributes: body(*values, *attributes),
        examples=tuple(
            Example(((), ()), {"shape": shape, "dtype": dtype}, _WORDS, (uint64,))
            for shape, dtype in (((7,), float32), ((2, 3), float64), ((), float32), ((0, 3), float64))
        ),
    ))  # fmt: skip


STANDARD_NORMAL = _distribution("normal", _normal, "Normal numbers with mean 0 and standard deviation 1.")
STANDARD_UNIFORM = _distribution("uniform", _uniform, "Uniform numbers from 0 up to 1.")
STANDARD_TRUNCATED = _distribution("truncated_normal", _truncated_normal, "Normal numbers between -2 and 2.")


def _integers(values: Sequence[Any], attributes: tuple[Any, ...]) -> Any:
    (stream, call, low, high), (shape, dtype) = values, attributes
    return convert(low + _high_product(bits_for(stream, call, shape), high - low), dtype)


UNIFORM_INTEGERS = register(Op(
    "nt.random.uniform_integers", Kind.COMPOSITE, ("stream", "call", "low", "high"), ("shape", "dtype"),
    expand=_integers, groups=("U",) * 4, doc="Integers from `low` up to but without `high`; both wrap around.",
    examples=(
        Example(((),) * 4, {"shape": (9,), "dtype": int32}, (*_WORDS[:2], (3, 4), (90, 99)), (uint64,)),
        Example(((), (), (3,), ()), {"shape": (2, 3), "dtype": int64}, (*_WORDS[:2], (0, 9), _WORDS[0]), (uint64,)),
    ),
))  # fmt: skip



def _expand_between(values: Sequence[Any], attributes: tuple[Any, ...]) -> Any:
    standard, low, high = values
    found = low + standard * (high - low)
    # Rounding can reach the upper bound, which is not to be drawn.
    return where(found >= high, low, found)


BETWEEN = register(Op(
    "nt.random.between", Kind.COMPOSITE, ("standard", "low", "high"), expand=_expand_between, groups=("T",) * 3,
    reference=lambda standard, low, high: low + standard * (high - low),
    doc="Numbers from 0 up to 1, scaled to go from `low` up to but without `high`.",
    examples=(Example(((2, 3), (), (3,)), {}, ((0, 0.9), (-3, -1), (1, 3))),),
))  # fmt: skip

# ---- permutations -----------------------------------------------------------------------------------------------

# The upper half of the bits decides nearly always; the lower half makes the choice even.
_FISHER_YATES = """\
def kernel(out, stream, call, n, window, steps):
    for k in range(n):
        out[k] = k
    for k in range(steps):
        left = u64(window if window < n - k else n - k)
        bits = random_bits(stream[0], call[0], u64(k))
        upper, lower = (bits >> u64(32)) * left, (bits & u64(4294967295)) * left
        j = k + i64((upper + (lower >> u64(32))) >> u64(32))
        out[k], out[j] = out[j], out[k]
"""


def _permutation_kernel(out: TensorType, types: Sequence[TensorType], *lengths: int) -> Call:
    return Kernel("permutation", _FISHER_YATES, ("i64*", "u64*", "u64*", "i64", "i64", "i64")), lengths


def _permutation_reference(stream: Any, call: Any, length: int, window: int, steps: int) -> Any:
    found = np.arange(length)
    for k, bits in enumerate(bits_of(stream, call, np.arange(steps))):
        j = k + (int(bits) * min(window, length - k) >> 64)
        found[k], found[j] = found[j], found[k]
    return found


permutation = instruction(
    "permutation", Kind.CALL, parameters=("stream", "call"), groups=("U", "U"),
    attributes=("length", "window", "steps"),
    infer=lambda types, attributes: tensor_type(int64, attributes[:1]), kernel=_permutation_kernel,
    reference=_permutation_reference, gradient=Gradient.NONE, at_once=True,
    doc="0 to `length` - 1 after `steps` steps of the algorithm of Fisher and Yates, each of which chooses among the "
        "next `window`: in random order, if neither is less than `length`.",
    examples=[
        Example(((), ()), {"length": n, "window": window, "steps": steps}, _WORDS, (uint64,))
        for n, window, steps in ((0, 0, 0), (1, 1, 1), (2, 2, 2), (9, 9, 9), (9, 3, 9), (9, 4, 5))
    ],
)  # fmt: skip


def _shuffled(values: Sequence[Any], attributes: tuple[Any, ...]) -> Any:
    stream, call, value = values
    if value.rank == 0:
        raise ValueError("random.shuffle: a single number has no axis to shuffle along")
    return take(value, permutation(stream, call, *value.shape[:1] * 3), 0)


SHUFFLE = register(Op(
    "nt.random.shuffle", Kind.COMPOSITE, ("stream", "call", "value"), expand=_shuffled, groups=("U", "U", "T"),
    reference=lambda stream, call, value: value[_permutation_reference(stream, call, *[len(value)] * 3)],
    doc="See nt.random.shuffle.",
    examples=tuple(
        Example(((), (), shape), {}, (*_WORDS[:2], (-3, 3)), (uint64, uint64, None)) for shape in ((5,), (4, 3), (0, 2))
    ),
))  # fmt: skip

# ---- categories -------------------------------------------------------------------------------------------------


def _categories(values: Sequence[Any], attributes: tuple[Any, ...]) -> Any:
    """The category whose exponential clock with rate exp(logit) rings first, compared by logarithms."""
    (stream, call, logits), (num_samples, dtype) = values, attributes
    check_kind("random.categorical", logits.type, "float")
    if logits.rank != 2 or not logits.shape[1]:
        raise ValueError(f"random.categorical: logits have shape (batch, classes), got {describe([logits.type])}")
    batch, classes = logits.shape
    uniform = positive_fraction(bits_for(stream, call, (batch, num_samples, classes)), logits.dtype)
    score = reshape_to(logits, (batch, 1, classes)) - log(-log1p(-uniform))
    return argmax(score, -1, dtype)


CATEGORICAL = register(Op(
    "nt.random.categorical", Kind.COMPOSITE, ("stream", "call", "logits"), ("num_samples", "dtype"),
    expand=_categories, groups=("U", "U", "T"), doc="See nt.random.categorical.",
    examples=(
        Example(((), (), (3, 4)), {"num_samples": 5, "dtype": int64}, (*_WORDS[:2], (-3, 3)), (uint64, uint64, None)),
        Example(((), (), (2, 1)), {"num_samples": 0, "dtype": int32}, (*_WORDS[:2], (-3, 3)), (uint64, uint64, None)),
    ),
))  # fmt: skip

# ---- public functions -------------------------------------------------------------------------------------------


def _floats(op: Op, shape: Any, dtype: Any, seed: Any) -> Any:
    name, kind = op.name.removeprefix("nt."), as_dtype(dtype)
    check_kind(name, tensor_type(kind, ()), "float")
    return draw(op, seed, attributes=(resolve_dims(name, shape), kind))


def _is(number: Any, x: Any) -> bool:
    """Whether an argument is this Python number, so that nothing has to be computed with it."""
    return type(x) in (int, float) and x == number


def _moved(standard: Any, mean: Any, stddev: Any) -> Any:
    scaled = standard if _is(1, stddev) else multiply(standard, stddev)
    return scaled if _is(0, mean) else add(scaled, mean)


@public(STANDARD_NORMAL, "random.normal")
def normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = float32, seed: Any = None, name: str | None = None
) -> Any:
    """Normally distributed numbers.

    `mean` and `stddev` are numbers or tensors of `dtype` that broadcast against `shape`; gradients flow to tensors, as
    the result is `mean + stddev * z`, with z that nothing flows to. `dtype` is float32 or float64. Each call draws
    anew; see `nt.random.set_seed` for what `seed` does.

    >>> x = nt.random.normal([100_000], mean=5.0, stddev=2.0, seed=1).numpy()
    >>> round(float(x.mean()), 1), round(float(x.std()), 1)
    (5.0, 2.0)
    """
    return _moved(_floats(STANDARD_NORMAL, shape, dtype, seed), mean, stddev)


@public(STANDARD_TRUNCATED, "random.truncated_normal")
def truncated_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = float32, seed: Any = None, name: str | None = None
) -> Any:
    """Normally distributed numbers, without those further than two standard deviations from the mean.

    Arguments are those of `nt.random.normal`; the standard deviation of what is left is 0.88 times `stddev`.

    >>> x = nt.random.truncated_normal([1000], seed=1).numpy()
    >>> bool(abs(x).max() <= 2)
    True
    """
    return _moved(_floats(STANDARD_TRUNCATED, shape, dtype, seed), mean, stddev)


@public(STANDARD_UNIFORM, "random.uniform")
def uniform(
    shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = float32, seed: Any = None, name: str | None = None
) -> Any:
    """Uniformly distributed numbers from `minval` up to but without `maxval`.

    `dtype` is float32, float64 or an integer dtype; `maxval` is 1 for floats unless given, and has to be given for
    integers. Both bounds are numbers or tensors of `dtype` that broadcast against `shape`; in floats gradients flow
    to tensors. Integers are unbiased up to a relative 2**-64 times their count. ValueError if `minval` is above
    `maxval`, or if no integer lies between, where both are numbers. Each call draws anew; see `nt.random.set_seed` for
    what `seed` does.

    >>> x = nt.random.uniform([1000], 1, 7, dtype=nt.int32, seed=1).numpy()
    >>> np.unique(x)
    array([1, 2, 3, 4, 5, 6], dtype=int32)
    """
    kind = as_dtype(dtype)
    if maxval is None:
        if kind.is_integer:
            raise ValueError(f"random.uniform: give maxval for {kind.name}; only floats have one, 1, by default")
        maxval = 1
    numbers = isinstance(minval, int | float) and isinstance(maxval, int | float)
    if numbers and not (minval < maxval or (kind.is_floating and minval == maxval)):
        raise ValueError(f"random.uniform: minval {minval} is not below maxval {maxval}")
    if kind.is_integer:
        bounds = _as_word(minval, kind, kind.max), _as_word(maxval, kind, kind.max + 1)
        return draw(UNIFORM_INTEGERS, seed, bounds, (resolve_dims("random.uniform", shape), kind))
    standard = _floats(STANDARD_UNIFORM, shape, kind, seed)
    if _is(0, minval) and _is(1, maxval):
        return standard
    return apply(BETWEEN, (standard, minval, maxval))


def _as_word(bound: Any, dtype: DType, highest: int) -> Any:
    """A bound of integers as 64 bits: a Python integer, or a tensor."""
    if isinstance(bound, np.generic):
        bound = bound.item()
    if isinstance(bound, int):
        if not dtype.min <= bound <= highest:
            raise OverflowError(f"random.uniform: {bound} is out of range for {dtype.name}")
        return bound & _WORD
    kind = getattr(bound, "dtype", None)
    if isinstance(bound, float) or (kind is not None and kind != dtype):
        raise TypeError(f"random.uniform: bounds of {dtype.name} have its dtype, got {bound!r}")
    return convert(bound, uint64)


@public(SHUFFLE, "random.shuffle")
def shuffle(value: Any, seed: Any = None, name: str | None = None) -> Any:
    """The slices of a tensor along its first axis, in random order.

    Takes any dtype; the gradient goes back to where each slice came from. ValueError for a single number. Each call
    shuffles anew; see `nt.random.set_seed` for what `seed` does.

    >>> x = nt.random.shuffle([[1, 1], [2, 2], [3, 3]], seed=1).numpy()
    >>> np.sort(x[:, 0])
    array([1, 2, 3], dtype=int32)
    """
    return draw(SHUFFLE, seed, (value,))


@public(CATEGORICAL, "random.categorical")
def categorical(logits: Any, num_samples: Any, dtype: Any = None, seed: Any = None, name: str | None = None) -> Any:
    """Categories drawn with the probabilities `softmax(logits)`.

    Shapes: logits (batch, classes); the result is (batch, num_samples), of the integer dtype `dtype`, int64 by
    default. A logit of -inf is never drawn where there is another. No gradient flows. Each call draws anew; see
    `nt.random.set_seed` for what `seed` does.

    >>> nt.random.categorical([[0.0, float("-inf")]], 4).numpy()
    array([[0, 0, 0, 0]])
    """
    (count,) = resolve_dims("random.categorical", num_samples)
    return draw(CATEGORICAL, seed, (logits,), (count, int64 if dtype is None else as_dtype(dtype)))
