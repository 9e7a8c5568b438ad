"""Models: layers that are called one after the other, or as a subclass's `call` says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from numtape._front import front
from numtape.dtypes import DType
from numtape.keras.layers import NOT_FUNCTIONAL, InputLayer, Lambda, Layer
from numtape.module import leaves
from numtape.ops.core import PUBLIC
from numtape.tape.operands import as_tensor

__all__ = ["Model", "Sequential"]
__getattr__, __dir__ = front(__name__, __all__)


class Model(Layer):
    """Layers in the attributes of a subclass, whose `call(self, inputs)` says what is computed with them.

    `call` may take `training`, which holds for the layers that it calls. TypeError if `inputs` or `outputs` are given:
    there are no models made of these.

    >>> import numtape as nt
    >>> class Network(nt.keras.Model):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = nt.keras.layers.Dense(4, activation="tanh")
    ...         self.out = nt.keras.layers.Dense(1)
    ...
    ...     def call(self, inputs, training=False):
    ...         return self.out(self.hidden(inputs))
    >>> network = Network()
    >>> network(nt.ones([8, 3])).shape
    (8, 1)
    >>> len(network.trainable_variables), network.count_params()
    (4, 21)
    """

    def __init__(self, inputs: Any = None, outputs: Any = None, **options: Any) -> None:
        if inputs is not None or outputs is not None:
            raise TypeError(f"{type(self).__name__}: it takes no inputs and outputs. {NOT_FUNCTIONAL}")
        super().__init__(**options)

    @property
    def layers(self) -> list[Layer]:
        """The layers in the attributes, each once."""
        found = {id(leaf): leaf for leaf in leaves(vars(self).values(), []) if isinstance(leaf, Layer)}
        return list(found.values())

    def build(self, input_shape: Any) -> None:
        """Make all weights for inputs of this shape, or of these shapes in a structure, where None may be any length.

        The model is called with zeros, of which only the shapes are looked at.
        """
        self.built = True
        try:
            self(_placeholder(input_shape, self.dtype))
        except BaseException:
            self.built = False
            raise

    def _build_for(self, args: tuple[Any, ...]) -> None:
        if type(self).build is Model.build:
            self.built = True  # the layers make their weights in the call
        else:
            super()._build_for(args)

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print a table of the layers, the shapes of what they gave first, and how many numbers their weights have.

        A first axis is called None, as it is as long as the batch.
        """
        rows = [("Layer (type)", "Output shape", "Params")]
        for layer in self.layers:
            shape = layer._output_shape
            shown = f"(None{''.join(f', {n}' for n in shape[1:])})" if isinstance(shape, tuple) and shape else shape
            made = layer.built or type(layer).build is Layer.build
            params = str(layer.count_params()) if made else "not made yet"
            rows.append((f"{layer.name} ({type(layer).__name__})", "?" if shown is None else str(shown), params))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        rule = "-" * (sum(widths) + 4)
        print_fn(f'Model: "{self.name}"')
        for line in (rule, lines[0], rule, *lines[1:], rule):
            print_fn(line)
        trained, others = (sum(v.size for v in vs) for vs in (self.trainable_variables, self.non_trainable_variables))
        print_fn(f"Params: {trained + others}, of which training changes {trained}")


def _placeholder(shape: Any, dtype: DType | None) -> Any:
    """Zeros of a shape, or of the shapes in a structure."""
    if isinstance(shape, dict):
        return {key: _placeholder(own, dtype) for key, own in shape.items()}
    if any(isinstance(n, list | tuple | dict) for n in shape):
        return [_placeholder(own, dtype) for own in shape]
    return PUBLIC["zeros"]([1 if n is None else n for n in shape], dtype)


class Sequential(Model):
    """Layers that are called one after the other; functions count as layers.

    Weights are made at the first call, by `build`, or at once if the first layer is an `Input` or has an `input_shape`.

    >>> import numtape as nt
    >>> model = nt.keras.Sequential([
    ...     nt.keras.layers.Dense(4, activation="relu", input_shape=(3,)),
    ...     nt.keras.layers.Dense(2),
    ... ], name="classifier")
    >>> model(nt.ones([8, 3])).shape
    (8, 2)
    >>> [v.shape for v in model.trainable_variables]
    [(3, 4), (4,), (4, 2), (2,)]
    """

    def __init__(self, layers: Iterable[Any] | None = None, trainable: bool = True, name: str | None = None) -> None:
        super().__init__(trainable=trainable, name=name)
        self._layers: tuple[Layer, ...] = ()
        for layer in layers or ():
            self.add(layer)

    @property
    def layers(self) -> list[Layer]:
        """The layers, without an `Input`."""
        return list(self._layers)

    def _named(self) -> list[tuple[str, Any]]:
        return [("layers" if name == "_layers" else name, value) for name, value in super()._named()]

    def add(self, layer: Any) -> None:
        """Put a layer or a function behind the others; ValueError for anything else."""
        if isinstance(layer, type) or not callable(layer):
            raise ValueError(f"{self.name}: a layer or a function can be added, not {layer!r}")
        if isinstance(layer, InputLayer):
            if self._layers:
                raise ValueError(f"{self.name}: an Input comes before all layers")
            self._input_shape, self._dtype = layer._input_shape, layer._dtype
            return
        if not isinstance(layer, Layer):
            layer = Lambda(layer)
        if not self._layers and layer._input_shape is not None:
            self._input_shape = layer._input_shape
        known = self._layers
        self._layers = (*known, layer)
        if self._input_shape is not None:
            try:
                self.build(self._input_shape)
            except BaseException:
                self._layers = known
                raise

    def pop(self) -> Layer:
        """Take away the last layer, and return it; ValueError if there is none."""
        if not self._layers:
            raise ValueError(f"{self.name}: there is no layer to take away")
        *others, last = self._layers
        self._layers = tuple(others)
        return last

    def _converted(self, value: Any) -> Any:
        return as_tensor(value) if isinstance(value, np.ndarray) else value  # each layer has a dtype of its own

    def call(self, inputs: Any) -> Any:
        if not self._layers:
            raise ValueError(f"{self.name}: there are no layers to call; add some")
        for layer in self._layers:
            inputs = layer(inputs)
        return inputs
