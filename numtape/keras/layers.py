"""Layers: functions with weights, which they make when they first see an input.

A layer's `call` is written with ops and is all that a call records. Those of this module record one entry each: what a
layer does, its activation included, is an op of its own that expands to others. Weights and layers within a layer are
found in its attributes, as in any Module.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numtape import nest
from numtape._front import front
from numtape.dtypes import DType, as_dtype, float32, int32
from numtape.ir.op import Kind, Op
from numtape.keras import activations, initializers
from numtape.module import Module, changed, leaves
from numtape.ops.contraction import matmul
from numtape.ops.core import PUBLIC, freeze, normalize_axes, normalize_axis
from numtape.ops.elementwise import convert
from numtape.ops.movement import reshape_to
from numtape.ops.random import STREAMS, noted
from numtape.ops.reduction import mean_, variance_
from numtape.ops.transcendental import rsqrt
from numtape.tape.operands import as_tensor
from numtape.tape.scope import SCOPE, init_scope
from numtape.tape.tensor import Tensor, to_array
from numtape.tape.trace import assign, record
from numtape.tape.variable import Variable

__all__ = [
    "Activation", "Add", "BatchNormalization", "Concatenate", "Dense", "Dropout", "Embedding", "Flatten", "Input",
    "InputLayer", "Lambda", "Layer", "LayerNormalization", "Rescaling", "Reshape",
]  # fmt: skip
__getattr__, __dir__ = front(__name__, __all__)

_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])")
_names: Counter[str] = Counter()
"""How many layers got a name from their class."""


class _Call(threading.local):
    """What the calls around say about training: True, False, or None for nothing."""

    training: Any = None


_CALL = _Call()
_TRAINING = {"training"}
NOT_FUNCTIONAL = (
    "There are no functional models, which outputs of layers are put together to; use nt.keras.Sequential, or write a "
    "subclass of nt.keras.Model whose `call` says what is computed"
)
_NUMBERS = (int, float, np.generic)


class Layer(Module):
    """What all layers share: weights made at the first call, and whether training changes them.

    A subclass writes `call(self, inputs)`, which may also take `training`, and makes its weights with `add_weight` in
    `build(self, input_shape)` or in its constructor. At a call arrays and lists of numbers become tensors, and floating
    inputs get the layer's `dtype`, float32 unless given. What `training` a call is given also holds for the layers
    called within it that are told nothing else.

    Names are the class's in snake case, numbered from the second on: dense, dense_1, and so on.

    >>> import numtape as nt
    >>> class Scale(nt.keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.factors = self.add_weight(name="factors", shape=(input_shape[-1],), initializer="ones")
    ...
    ...     def call(self, inputs):
    ...         return inputs * self.factors
    >>> scale = Scale(name="scale")
    >>> scale.variables
    []
    >>> scale([[2.0, 3.0]]).numpy()
    array([[2., 3.]], dtype=float32)
    >>> [v.name for v in scale.trainable_variables]
    ['scale/factors:0']
    """

    _listing = list
    _dtype: DType | None = None
    built = False
    _takes_training = False
    _drops_training = True
    """Whether `call` has no place for the argument, not even among `**kwargs`."""
    _training_at = -1
    """Which positional argument of `call` it is, if it is one."""
    _takes_integers = True
    """Whether inputs that are no floats stay as they are."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "build" in vars(cls):
            cls.build = _building(cls.build)  # type: ignore[method-assign]
        if "call" in vars(cls):
            taken = [*inspect.signature(cls.call).parameters.values()][1:]
            names = [p.name for p in taken if p.kind is p.POSITIONAL_OR_KEYWORD]
            cls._takes_training = any(p.name == "training" for p in taken)
            cls._drops_training = not cls._takes_training and all(p.kind is not p.VAR_KEYWORD for p in taken)
            cls._training_at = names.index("training") if "training" in names else -1

    def __init__(
        self, *, trainable: bool = True, dtype: Any = None, name: str | None = None, input_shape: Any = None
    ) -> None:
        if name is None:
            base = _WORDS.sub("_", type(self).__name__).lower()
            _names[base] += 1
            name = base if _names[base] == 1 else f"{base}_{_names[base] - 1}"
        elif not isinstance(name, str) or "/" in name:  # type: ignore[redundant-expr]
            raise ValueError(f"{name!r} is not a name for a layer: it has to be a string without slashes")
        self._name = name
        self._scope = f"{SCOPE.prefix}{name}/"
        self._dtype = float32 if dtype is None else as_dtype(dtype)
        self._trainable = bool(trainable)
        self._weights: tuple[Variable, ...] = ()
        self._input_shape = None if input_shape is None else (None, *input_shape)
        self._output_shape: Any = None

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> DType | None:
        """The dtype of weights, and what floating inputs are converted to."""
        return self._dtype

    @property
    def trainable(self) -> bool:
        """Whether `trainable_variables` has anything; setting it also sets it for the layers within."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        changed()
        self._trainable = bool(value)
        for module in self.submodules:
            if isinstance(module, Layer):
                module._trainable = self._trainable

    @property
    def weights(self) -> list[Variable]:
        """All Variables of this layer, then those of the layers within it: its trainable ones first."""
        return self.variables  # type: ignore[return-value]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The Variables that training changes."""
        return self.trainable_variables  # type: ignore[return-value]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The Variables that training leaves alone."""
        return self.non_trainable_variables  # type: ignore[return-value]

    def get_weights(self) -> list[Any]:
        """The values of `weights`, as new NumPy arrays."""
        return [np.asarray(variable) for variable in self.variables]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Assign values to all `weights`; ValueError if their number or a shape differs, and then nothing is assigned.

        >>> import numtape as nt
        >>> layer = nt.keras.layers.Dense(1)
        >>> layer.build((None, 2))
        >>> layer.set_weights([[[1.0], [2.0]], [3.0]])
        >>> layer([[1.0, 1.0]]).numpy()
        array([[6.]], dtype=float32)
        """
        variables = self.variables
        if len(weights) != len(variables):
            raise ValueError(
                f"{self.name}: set_weights takes {len(variables)} values, one for each of its weights, "
                f"but {len(weights)} were given"
            )
        arrays = [to_array(value, variable.dtype) for value, variable in zip(weights, variables, strict=True)]
        for array, variable in zip(arrays, variables, strict=True):
            if array.shape != variable.shape:
                raise ValueError(
                    f"{self.name}: set_weights: {variable.name} has shape {variable.shape}, but the value {array.shape}"
                )
        for array, variable in zip(arrays, variables, strict=True):
            variable.assign(array)

    def count_params(self) -> int:
        """How many numbers the weights have; ValueError if they are not made yet."""
        if not self.built and type(self).build is not Layer.build:
            raise ValueError(
                f"{self.name}: there are no weights to count yet; call the layer, or build(input_shape), first"
            )
        return sum(variable.size for variable in self.variables)

    # ---- weights ---------------------------------------------------------------------------------------------------

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs of this shape, whose first length may be None; the first call does it."""
        self.built = True

    def add_weight(
        self,
        *args: Any,
        shape: Sequence[int] = (),
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> Variable:
        """Make a Variable that belongs to the layer.

        `shape`, `initializer` and `dtype` may be given by position, also behind the name. The initializer is a name, a
        function of shape and dtype, or an object of `nt.keras.initializers`; by default "glorot_uniform" for floats
        and "zeros" for others. ValueError if its values have another shape.
        """
        if args and isinstance(args[0], str):
            name, args = args[0], args[1:]
        given: tuple[Any, ...] = (shape, initializer, dtype)
        shape, initializer, dtype = (*args, *given[len(args) :])
        if any(n is None for n in shape):
            raise ValueError(f"{self.name}: the shape {tuple(shape)} of a weight has to be known")
        dims = tuple(int(n) for n in shape)
        kind = self._dtype if dtype is None else as_dtype(dtype)
        if initializer is None:
            initializer = "glorot_uniform" if kind is not None and kind.is_floating else "zeros"
        if name is None:
            name = f"variable_{len(self._weights)}" if self._weights else "variable"
        with init_scope():
            value = initializers.get(initializer)(dims, dtype=kind)  # type: ignore[misc]
            with self.name_scope:
                weight = Variable(value, trainable, name, kind)
        if weight.shape != dims:
            raise ValueError(f"{weight.name}: the initializer gave shape {weight.shape} in place of {dims}")
        # A layer that is built again has new weights in place of those of the same names.
        self._weights = (*(w for w in self._weights if w.name != weight.name), weight)
        return weight

    def _named(self) -> list[tuple[str, Any]]:
        own = [(name, value) for name, value in super()._named() if name != "_weights"]
        held = set(map(id, leaves((value for _, value in own), [])))
        # Their names, such as kernel:0, are none that an attribute has.
        return [*own, *((w.name.rpartition("/")[2], w) for w in self._weights if id(w) not in held)]

    def _leaves(self, containers: list[Any]) -> list[Any]:
        """In the order in which they were made or set, what training never changes at the end."""
        found = leaves(vars(self).values(), containers)
        return sorted(found, key=lambda leaf: isinstance(leaf, Variable) and not leaf.trainable)

    # ---- calls -----------------------------------------------------------------------------------------------------

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer computes; written by subclasses."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it computes: write `call(self, inputs)`")

    def __call__(self, *args: Any, **options: Any) -> Any:
        if len(args) == 1 and self.built:
            x = args[0]
            if type(x) is Tensor and x._type.dtype is self._dtype:
                if not options and not (self._takes_training and _CALL.training is not None):
                    return self.call(x)
                if options.keys() <= _TRAINING:
                    return self._called(args, options)
        return self._general_call(args, options)

    def _general_call(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """A call that has something to convert or to build."""
        if self._dtype is None:
            raise RuntimeError(f"{type(self).__name__}.__init__ has to call super().__init__() first")
        if args and isinstance(args[0], list | tuple) and all(isinstance(x, _NUMBERS) for x in nest.flatten(args[0])):
            args = (as_tensor(args[0]), *args[1:])
        args, options = nest.map_structure(self._converted, (args, options))
        if self.built:
            return self._called(args, options)
        self._build_for(args)
        outputs = self._called(args, options)
        self._output_shape = _shape_of(outputs)
        return outputs

    def _called(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """`call`, told about training what this call says or those around do; the calls within hear of it."""
        outer = _CALL.training
        by_position = 0 <= self._training_at < len(args)
        given = args[self._training_at] if by_position else options.get("training")
        training = outer if given is None else given
        if self._takes_training:
            if training is not None and not by_position:
                options["training"] = training
        elif self._drops_training:
            options.pop("training", None)
        _CALL.training = training
        try:
            return self.call(*args, **options)
        finally:
            _CALL.training = outer

    def _build_for(self, args: tuple[Any, ...]) -> None:
        self.build(_shape_of(args[0]) if args else None)

    def _converted(self, value: Any) -> Any:
        """Arrays as tensors, and floats in the layer's dtype; anything else as it is, but no `Input`."""
        if isinstance(value, InputLayer):
            raise TypeError(f"{self.name}: it is called with tensors, not with an Input. {NOT_FUNCTIONAL}")
        if not isinstance(value, Tensor | Variable | np.ndarray):
            return value
        tensor = as_tensor(value) if isinstance(value, np.ndarray) else value
        dtype = self._dtype
        if dtype is None or tensor.dtype is dtype or not dtype.is_floating:
            return tensor
        return convert(tensor, dtype) if tensor.dtype.is_floating or not self._takes_integers else tensor


def _shape_of(value: Any) -> Any:
    """The shape of a tensor, or those of the tensors in a structure."""
    return nest.map_structure(lambda x: getattr(x, "shape", None), value)


def _building(build: Callable[..., None]) -> Callable[..., None]:
    """`build`, so that no tape sees initial values, a layer is built after it, and has no weights if it fails.

    If a checkpoint has the values of all weights, what was drawn for them is put back: whoever goes on with a run gets
    the random numbers that come next in it.
    """

    @functools.wraps(build)
    def within(self: Layer, *args: Any, **options: Any) -> None:
        known, restoration, before = self._weights, self._awaiting, self.variables
        with init_scope(), noted() as draws:
            try:
                build(self, *args, **options)
            except BaseException:
                self._weights = known
                raise
            self.built = True
            if draws and restoration is not None:
                held = set(map(id, before))
                if all(restoration.gave(v) for v in self.variables if id(v) not in held):
                    STREAMS.put_back(draws)
                    draws.clear()

    return within


# ---- what is recorded as one entry ------------------------------------------------------------------------------


def _composite(name: str, body: Callable[..., Any]) -> Op:
    """An op for `body(values, *attributes)`, where any number of values have one dtype."""
    expand: Callable[..., Any] = lambda values, attributes: body(values, *attributes)
    return Op(name, Kind.COMPOSITE, ("values",), expand=expand, groups=("T",))


def _affine(values: Sequence[Any], activation: Callable[..., Any]) -> Any:
    x, kernel, *bias = values
    if x.rank < 2 or x.shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"Dense: inputs have rank 2 or more, and {kernel.shape[0]} elements along the last axis, as the kernel of "
            f"shape {kernel.shape} takes; got {x.shape}"
        )
    product = matmul(x, kernel)
    return activation(product + bias[0] if bias else product)


def _spread(name: str, x: Any, vector: Any, axes: tuple[int, ...]) -> Any:
    """A weight with the lengths of some axes, so that it broadcasts along the others; ValueError if it has others."""
    lengths = tuple(x.shape[a] for a in axes)
    if vector.shape != lengths:
        raise ValueError(f"{name}: weights of shape {vector.shape} do not fit axes {axes} of inputs of shape {x.shape}")
    return reshape_to(vector, tuple(n if a in axes else 1 for a, n in enumerate(x.shape)))


def _normalized(x: Any, mean: Any, variance: Any, epsilon: float, gamma: Any, beta: Any) -> Any:
    factor = rsqrt(variance + epsilon)
    found = (x - mean) * (factor if gamma is None else factor * gamma)
    return found if beta is None else found + beta


def _layer_norm(values: Sequence[Any], axis: Any, epsilon: float, scale: bool, center: bool) -> Any:
    x, *weights = values
    axes = normalize_axes("LayerNormalization", axis, x.rank)
    own = [_spread("LayerNormalization", x, w, axes) for w in weights]
    gamma, beta = own[0] if scale else None, own[-1] if center else None
    return _normalized(x, mean_(x, axes), variance_(x, axes), epsilon, gamma, beta)


def _batch_norm(values: Sequence[Any], axis: int, epsilon: float, scale: bool, center: bool, training: bool) -> Any:
    """With running means given before gamma and beta; or with the batch's own, which are the further results."""
    x, *weights = values
    axis = normalize_axis("BatchNormalization", axis, x.rank)
    own = [_spread("BatchNormalization", x, w, (axis,)) for w in weights]
    gamma, beta = own[-1 - center] if scale else None, own[-1] if center else None
    if not training:
        return _normalized(x, own[0], own[1], epsilon, gamma, beta)
    others = tuple(a for a in range(x.rank) if a != axis)
    mean, variance = mean_(x, others), variance_(x, others)
    found = _normalized(x, mean, variance, epsilon, gamma, beta)
    return [found, *(reshape_to(m, (x.shape[axis],)) for m in (mean, variance))]


def _moved(values: Sequence[Any], momentum: float) -> Any:
    """Running means after a step: new values, then the old ones."""
    half = len(values) // 2
    return [old * momentum + new * (1 - momentum) for new, old in zip(values[:half], values[half:], strict=True)]


_DENSE = _composite("Dense", _affine)
_LAYER_NORM = _composite("LayerNormalization", _layer_norm)
_BATCH_NORM = _composite("BatchNormalization", _batch_norm)
_MOVED = _composite("BatchNormalization", _moved)

# ---- layers with weights ----------------------------------------------------------------------------------------


class Dense(Layer):
    """`activation(inputs @ kernel + bias)`.

    Shapes: inputs (..., n) of rank 2 or more, kernel (n, units), bias (units,); the result is (..., units). The
    activation is a name or a function. ValueError if the inputs do not fit.

    >>> import numtape as nt
    >>> layer = nt.keras.layers.Dense(2, activation="relu", kernel_initializer="ones")
    >>> layer([[1.0, 2.0, 3.0]]).numpy()
    array([[6., 6.]], dtype=float32)
    """

    _takes_integers = False

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.units = _positive(self, "units", units)
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    def build(self, input_shape: Any) -> None:
        if len(input_shape) < 2:
            raise ValueError(f"{self.name}: inputs have rank 2 or more, got shape {tuple(input_shape)}")
        n = input_shape[-1]
        self.kernel = self.add_weight(name="kernel", shape=(n, self.units), initializer=self.kernel_initializer)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.units,), initializer=self.bias_initializer)

    def call(self, inputs: Any) -> Any:
        activation, bias = self.activation, self.bias
        within = activation if activation in activations.SYMBOLIC else activations.linear
        weights = (inputs, self.kernel) if bias is None else (inputs, self.kernel, bias)
        outputs = record(_DENSE, weights, (within,))
        return outputs if within is activation else activation(outputs)


class Embedding(Layer):
    """For each number its row of a table of weights.

    Inputs are numbers from 0 up to `input_dim`, of any shape; the result has one more axis, of length `output_dim`.

    >>> import numtape as nt
    >>> layer = nt.keras.layers.Embedding(10, 4)
    >>> layer(nt.constant([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(
        self, input_dim: int, output_dim: int, embeddings_initializer: Any = "uniform", **options: Any
    ) -> None:
        super().__init__(**options)
        self.input_dim = _positive(self, "input_dim", input_dim)
        self.output_dim = _positive(self, "output_dim", output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer)

    def build(self, input_shape: Any) -> None:
        shape = (self.input_dim, self.output_dim)
        self.embeddings = self.add_weight(name="embeddings", shape=shape, initializer=self.embeddings_initializer)

    def call(self, inputs: Any) -> Any:
        if not inputs.dtype.is_integer:
            inputs = convert(inputs, int32)
        return PUBLIC["gather"](self.embeddings, inputs)


class LayerNormalization(Layer):
    """Inputs with mean 0 and variance 1 along `axis` (one or several), times gamma, plus beta.

    `epsilon` is added to the variance; `center` and `scale` say whether there is a beta and a gamma. After Ba, Kiros
    and Hinton, "Layer Normalization" (2016).

    >>> import numtape as nt
    >>> nt.keras.layers.LayerNormalization()([[1.0, 3.0]]).numpy().round(3)
    array([[-1.,  1.]], dtype=float32)
    """

    _takes_integers = False

    def __init__(
        self,
        axis: Any = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.axis, self.epsilon = freeze(axis), float(epsilon)
        self.center, self.scale = bool(center), bool(scale)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape[a] for a in normalize_axes(self.name, self.axis, len(input_shape)))
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(name="gamma", shape=shape, initializer=self.gamma_initializer)
        if self.center:
            self.beta = self.add_weight(name="beta", shape=shape, initializer=self.beta_initializer)

    def call(self, inputs: Any) -> Any:
        weights = [w for w in (self.gamma, self.beta) if w is not None]
        return record(_LAYER_NORM, [inputs, *weights], (self.axis, self.epsilon, self.scale, self.center))


class BatchNormalization(Layer):
    """Inputs with mean 0 and variance 1 over all axes but `axis`, times gamma, plus beta.

    In training the batch's own statistics are used, and running means of them are kept, which change by `momentum`;
    otherwise the running means are used, as they are where `trainable` is False. After Ioffe and Szegedy, "Batch
    Normalization" (2015).

    >>> import numtape as nt
    >>> layer = nt.keras.layers.BatchNormalization(momentum=0.5)
    >>> layer([[1.0], [3.0]], training=True).numpy().round(3)
    array([[-1.],
           [ 1.]], dtype=float32)
    >>> layer.moving_mean.numpy()
    array([1.], dtype=float32)
    """

    _takes_integers = False

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.axis, self.momentum, self.epsilon = axis, float(momentum), float(epsilon)
        self.center, self.scale = bool(center), bool(scale)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[normalize_axis(self.name, self.axis, len(input_shape))],)
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(name="gamma", shape=shape, initializer=self.gamma_initializer)
        if self.center:
            self.beta = self.add_weight(name="beta", shape=shape, initializer=self.beta_initializer)
        self.moving_mean = self.add_weight(
            name="moving_mean", shape=shape, initializer=self.moving_mean_initializer, trainable=False
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=shape, initializer=self.moving_variance_initializer, trainable=False
        )

    def call(self, inputs: Any, training: Any = False) -> Any:
        weights = [w for w in (self.gamma, self.beta) if w is not None]
        moving = [self.moving_mean, self.moving_variance]
        how = (self.axis, self.epsilon, self.scale, self.center)
        if not (training and self._trainable):
            return record(_BATCH_NORM, [inputs, *moving, *weights], (*how, False))
        outputs, *statistics = record(_BATCH_NORM, [inputs, *weights], (*how, True))
        assign(moving, _MOVED, statistics, attributes=(self.momentum,))
        return outputs


def _positive(layer: Layer, option: str, number: Any) -> int:
    if isinstance(number, bool) or not hasattr(number, "__index__") or number.__index__() <= 0:
        raise ValueError(f"{layer.name}: {option} must be a positive integer, got {number!r}")
    return int(number.__index__())


# ---- layers without weights -------------------------------------------------------------------------------------


class InputLayer(Layer):
    """What the inputs of a `Sequential` look like, so that its weights are made at once; as a layer it does nothing.

    `shape` leaves out the first axis, whose length `batch_size` may be any.

    >>> import numtape as nt
    >>> nt.keras.Sequential([nt.keras.Input((3,)), nt.keras.layers.Dense(2)]).count_params()
    8
    """

    def __init__(self, shape: Any = None, batch_size: int | None = None, dtype: Any = None, **options: Any) -> None:
        super().__init__(dtype=dtype, **options)
        if shape is not None:
            self._input_shape = (batch_size, *shape)
        if self._input_shape is None:
            raise ValueError(f"{self.name}: give the shape of the inputs, without their first axis")

    def call(self, inputs: Any) -> Any:
        return inputs


Input = InputLayer


class Lambda(Layer):
    """A function as a layer.

    >>> import numtape as nt
    >>> nt.keras.layers.Lambda(lambda x: 2.0 * x)([1.0]).numpy()
    array([2.], dtype=float32)
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        super().__init__(**options)
        self.function = function

    def call(self, inputs: Any) -> Any:
        return self.function(inputs)


class Activation(Layer):
    """An activation, given by name or as a function, as a layer.

    >>> import numtape as nt
    >>> nt.keras.layers.Activation("relu")([-1.0, 2.0]).numpy()
    array([0., 2.], dtype=float32)
    """

    def __init__(self, activation: Any, **options: Any) -> None:
        super().__init__(**options)
        self.activation = activations.get(activation)

    def call(self, inputs: Any) -> Any:
        return self.activation(inputs)


class Flatten(Layer):
    """All axes but the first as one.

    >>> import numtape as nt
    >>> nt.keras.layers.Flatten()(nt.ones([2, 3, 4])).shape
    (2, 12)
    """

    def call(self, inputs: Any) -> Any:
        if not inputs.shape:
            raise ValueError(f"{self.name}: inputs have rank 1 or more, got shape ()")
        first, *others = inputs.shape
        return PUBLIC["reshape"](inputs, (first, math.prod(others)))


class Reshape(Layer):
    """All axes but the first in another shape, where -1 stands for what is left.

    >>> import numtape as nt
    >>> nt.keras.layers.Reshape((2, -1))(nt.ones([5, 6])).shape
    (5, 2, 3)
    """

    def __init__(self, target_shape: Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        self.target_shape = tuple(int(n) for n in target_shape)

    def call(self, inputs: Any) -> Any:
        given = math.prod(inputs.shape[1:])
        known = math.prod(n for n in self.target_shape if n != -1)
        target = tuple(given // max(known, 1) if n == -1 else n for n in self.target_shape)
        if not inputs.shape or math.prod(target) != given or self.target_shape.count(-1) > 1:
            raise ValueError(f"{self.name}: inputs of shape {inputs.shape} do not become (..., {self.target_shape})")
        return PUBLIC["reshape"](inputs, (inputs.shape[0], *target))


class Rescaling(Layer):
    """`inputs * scale + offset`, in floats.

    >>> import numtape as nt
    >>> nt.keras.layers.Rescaling(1 / 255)([[0, 255]]).numpy()
    array([[0., 1.]], dtype=float32)
    """

    _takes_integers = False

    def __init__(self, scale: Any, offset: Any = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.scale, self.offset = scale, offset

    def call(self, inputs: Any) -> Any:
        return inputs * self.scale + self.offset


class Dropout(Layer):
    """In training elements that are 0 with probability `rate`, and divided by 1 - `rate` otherwise.

    Arguments are those of `nt.nn.dropout`, but that `rate` may be 1.

    >>> import numtape as nt
    >>> nt.keras.layers.Dropout(0.5)([1.0, 2.0]).numpy()
    array([1., 2.], dtype=float32)
    """

    def __init__(self, rate: float, noise_shape: Any = None, seed: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        if not 0 <= rate <= 1:
            raise ValueError(f"{self.name}: rate {rate} is not a number from 0 to 1")
        self.rate, self.noise_shape, self.seed = rate, noise_shape, seed

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or not self.rate:
            return inputs
        if self.rate == 1:
            return PUBLIC["where"](False, inputs, 0.0)
        return PUBLIC["nn.dropout"](inputs, self.rate, self.noise_shape, self.seed)


class Concatenate(Layer):
    """A list of inputs, one behind the other along `axis`.

    >>> import numtape as nt
    >>> nt.keras.layers.Concatenate()([nt.ones([2, 3]), nt.ones([2, 1])]).shape
    (2, 4)
    """

    def __init__(self, axis: int = -1, **options: Any) -> None:
        super().__init__(**options)
        self.axis = axis

    def call(self, inputs: Any) -> Any:
        return PUBLIC["concat"](inputs, self.axis)


class Add(Layer):
    """The sum of a list of inputs.

    >>> import numtape as nt
    >>> nt.keras.layers.Add()([nt.ones([2]), nt.ones([2])]).numpy()
    array([2., 2.], dtype=float32)
    """

    def call(self, inputs: Any) -> Any:
        return functools.reduce(operator.add, inputs)
