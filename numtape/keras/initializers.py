"""Initial values of weights: from a shape and a dtype to a tensor.

An initializer is any function of these two. One with a `seed` gives the same values at each call with a shape; without
one each call draws anew, as `nt.random.set_seed` determines it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numtape._front import front
from numtape.dtypes import DType, as_dtype, float32, tensor_type
from numtape.ir.op import Op
from numtape.ops.core import apply, check_kind
from numtape.ops.random import STANDARD_NORMAL, STANDARD_TRUNCATED, STANDARD_UNIFORM, STREAMS
from numtape.tape.tensor import Tensor, from_numpy

__all__ = [
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Initializer", "LecunNormal", "LecunUniform",
    "Ones", "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling", "Zeros", "constant", "get",
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "ones",
    "random_normal", "random_uniform", "truncated_normal", "variance_scaling", "zeros",
]  # fmt: skip
__getattr__, __dir__ = front(__name__, __all__)

_TRUNCATED_STDDEV = 0.87962566103423978
"""The standard deviation of what a standard normal distribution leaves between -2 and 2."""


class Initializer:
    """What all initializers share: they are called with a shape, and a dtype that is float32 unless given."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Tensor:
        kind = float32 if dtype is None else as_dtype(dtype)
        return self._values(tuple(int(n) for n in shape), kind)

    def _values(self, shape: tuple[int, ...], dtype: DType) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not say what the initial values are")

    def __repr__(self) -> str:
        given = ", ".join(f"{name.strip('_')}={value!r}" for name, value in vars(self).items())
        return f"<nt.keras.initializers.{type(self).__name__}: {given}>"


class Constant(Initializer):
    """A number, or an array of the shape that is asked for.

    >>> import numtape as nt
    >>> nt.keras.initializers.Constant(3)((2,)).numpy()
    array([3., 3.], dtype=float32)
    """

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def _values(self, shape: tuple[int, ...], dtype: DType) -> Tensor:
        return from_numpy(np.array(np.broadcast_to(np.asarray(self.value, dtype.dtype), shape)))


class Zeros(Constant):
    """Zeros.

    >>> import numtape as nt
    >>> nt.keras.initializers.Zeros()((2,)).numpy()
    array([0., 0.], dtype=float32)
    """

    def __init__(self) -> None:
        super().__init__(0)


class Ones(Constant):
    """Ones.

    >>> import numtape as nt
    >>> nt.keras.initializers.Ones()((2,)).numpy()
    array([1., 1.], dtype=float32)
    """

    def __init__(self) -> None:
        super().__init__(1)


def _draw(op: Op, seed: int | None, shape: tuple[int, ...], dtype: DType) -> Any:
    check_kind(op.name.removeprefix("nt."), tensor_type(dtype, ()), "float")
    return apply(op, STREAMS.draw(None) if seed is None else STREAMS.first(seed), (shape, dtype))


class RandomNormal(Initializer):
    """Normally distributed numbers.

    >>> import numtape as nt
    >>> draw = nt.keras.initializers.RandomNormal(stddev=0.1, seed=1)
    >>> bool((draw((3,)).numpy() == draw((3,)).numpy()).all())
    True
    """

    _distribution = STANDARD_NORMAL

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        self.mean, self.stddev, self.seed = mean, stddev, seed

    def _values(self, shape: tuple[int, ...], dtype: DType) -> Any:
        return self.mean + self.stddev * _draw(self._distribution, self.seed, shape, dtype)


class TruncatedNormal(RandomNormal):
    """Normally distributed numbers, without those further than twice `stddev` from the mean.

    >>> import numtape as nt
    >>> bool(abs(nt.keras.initializers.TruncatedNormal(stddev=0.1)((100,)).numpy()).max() <= 0.2)
    True
    """

    _distribution = STANDARD_TRUNCATED


class RandomUniform(Initializer):
    """Uniformly distributed numbers from `minval` up to `maxval`.

    >>> import numtape as nt
    >>> bool(abs(nt.keras.initializers.RandomUniform(-1, 1)((100,)).numpy()).max() <= 1)
    True
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        self.minval, self.maxval, self.seed = minval, maxval, seed

    def _values(self, shape: tuple[int, ...], dtype: DType) -> Any:
        return self.minval + (self.maxval - self.minval) * _draw(STANDARD_UNIFORM, self.seed, shape, dtype)


class VarianceScaling(Initializer):
    """Numbers whose variance is `scale` divided by the number of inputs, of outputs, or their mean.

    `mode` says which: "fan_in", "fan_out" or "fan_avg". Inputs and outputs are the last two axes of a shape, each times
    all axes before. `distribution` is "truncated_normal", "untruncated_normal" or "uniform".

    >>> import numtape as nt
    >>> draw = nt.keras.initializers.VarianceScaling(2.0, "fan_in", "uniform")
    >>> bool(abs(draw((6, 100)).numpy()).max() <= 1)
    True
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        if scale <= 0:
            raise ValueError(f"VarianceScaling: scale must be positive, got {scale}")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(f"VarianceScaling: mode is 'fan_in', 'fan_out' or 'fan_avg', got {mode!r}")
        distribution = {"normal": "truncated_normal"}.get(distribution, distribution)
        if distribution not in ("truncated_normal", "untruncated_normal", "uniform"):
            raise ValueError(
                "VarianceScaling: distribution is 'truncated_normal', 'untruncated_normal' or 'uniform', "
                f"got {distribution!r}"
            )
        self.scale, self.mode, self.distribution, self.seed = scale, mode, distribution, seed

    def _values(self, shape: tuple[int, ...], dtype: DType) -> Any:
        fan_in, fan_out = _fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, fan))
        if self.distribution == "uniform":
            limit = math.sqrt(3) * stddev
            return RandomUniform(-limit, limit, self.seed)._values(shape, dtype)
        if self.distribution == "truncated_normal":
            return TruncatedNormal(0.0, stddev / _TRUNCATED_STDDEV, self.seed)._values(shape, dtype)
        return RandomNormal(0.0, stddev, self.seed)._values(shape, dtype)


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many inputs and outputs weights of a shape connect."""
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    field = math.prod(shape[:-2])
    return field * shape[-2], field * shape[-1]


def _scaling(name: str, scale: float, mode: str, distribution: str, source: str) -> type[VarianceScaling]:
    """A class of `VarianceScaling` that only takes a seed."""

    def __init__(self: VarianceScaling, seed: int | None = None) -> None:
        VarianceScaling.__init__(self, scale, mode, distribution, seed)

    doc = f"`VarianceScaling({scale}, {mode!r}, {distribution!r})`, after {source}."
    return type(name, (VarianceScaling,), {"__init__": __init__, "__doc__": doc, "__module__": __name__})


_GLOROT = 'Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010)'
_HE = 'He et al., "Delving Deep into Rectifiers" (2015)'
_LECUN = 'LeCun et al., "Efficient BackProp" (1998)'
GlorotNormal = _scaling("GlorotNormal", 1.0, "fan_avg", "truncated_normal", _GLOROT)
GlorotUniform = _scaling("GlorotUniform", 1.0, "fan_avg", "uniform", _GLOROT)
HeNormal = _scaling("HeNormal", 2.0, "fan_in", "truncated_normal", _HE)
HeUniform = _scaling("HeUniform", 2.0, "fan_in", "uniform", _HE)
LecunNormal = _scaling("LecunNormal", 1.0, "fan_in", "truncated_normal", _LECUN)
LecunUniform = _scaling("LecunUniform", 1.0, "fan_in", "uniform", _LECUN)

glorot_normal, glorot_uniform = GlorotNormal, GlorotUniform
he_normal, he_uniform = HeNormal, HeUniform
lecun_normal, lecun_uniform = LecunNormal, LecunUniform
constant, ones, zeros = Constant, Ones, Zeros
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling = VarianceScaling

_NAMED: dict[str, type[Initializer]] = {
    name: value for name, value in globals().items() if isinstance(value, type) and issubclass(value, Initializer)
} | {"uniform": RandomUniform, "normal": RandomNormal}


def get(identifier: Any) -> Callable[..., Any] | None:
    """The initializer that a name, class, instance or function stands for; ValueError if there is none of that name.

    >>> import numtape as nt
    >>> nt.keras.initializers.get("glorot_uniform")
    <nt.keras.initializers.GlorotUniform: scale=1.0, mode='fan_avg', distribution='uniform', seed=None>
    """
    if isinstance(identifier, str) and identifier in _NAMED:
        return _NAMED[identifier]()
    if isinstance(identifier, type) and issubclass(identifier, Initializer):
        return identifier()
    if identifier is not None and not callable(identifier):
        known = ", ".join(sorted(name for name in _NAMED if name.islower()))
        raise ValueError(f"{identifier!r} is no initializer; give a function, or one of {known}")
    return identifier  # type: ignore[no-any-return]
