"""A network that learns to classify, with weights in plain Variables or in layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import numtape as nt


class Network:
    """Products with weights and an activation between them, written out."""

    def __init__(self, *sizes: int, activation: Callable[[Any], Any] = nt.nn.relu) -> None:
        rng = np.random.default_rng(0)
        self.layers = [
            (nt.Variable(rng.normal(0, (2 / m) ** 0.5, (m, n)).astype(np.float32)), nt.Variable(nt.zeros(n)))
            for m, n in itertools.pairwise(sizes)
        ]
        self.trainable_variables = [v for layer in self.layers for v in layer]
        self.activation = activation

    def __call__(self, x: Any) -> nt.Tensor:
        *hidden, (w, b) = self.layers
        for v, c in hidden:
            x = self.activation(x @ v + c)
        return x @ w + b


def layers(*sizes: int) -> nt.keras.Sequential:
    """The same in Keras's layers."""
    dense = nt.keras.layers.Dense
    first, *hidden, last = sizes
    return nt.keras.Sequential([nt.keras.Input((first,)), *(dense(n, "relu") for n in hidden), dense(last)])


@nt.custom_gradient
def sign(x: nt.Tensor) -> Any:
    """Signs, with the gradient of a clip to the range from -1 to 1 (Bengio et al. 2013)."""
    return nt.sign(x), lambda upstream: nt.where(nt.abs(x) <= 1.0, upstream, 0.0)


class Classifier:
    """Adam on a network with softmax cross entropy, as in examples/digits.py.

    Nobody looks at the loss. It lives until the next step, and so do the gradients, like the names of a plain loop.
    """

    def __init__(self, *sizes: int, batch: int, network: Callable[..., Any] = Network) -> None:
        self.network = network(*sizes)
        self.variables = self.network.trainable_variables
        self.optimizer = nt.keras.optimizers.Adam(1e-3)
        x = np.random.default_rng(0).random((8, batch, sizes[0]), dtype=np.float32)
        self.batches = itertools.cycle(list(zip(x, x[:, :, : sizes[-1]].argmax(axis=-1), strict=True)))

    def loss(self) -> nt.Tensor:
        """That of the next batch."""
        x, labels = next(self.batches)
        losses = nt.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=self.network(x))
        return nt.reduce_mean(losses)

    def record(self) -> tuple[nt.Tensor, list[nt.Tensor]]:
        """Loss and gradients for the next batch; nothing has run when this returns."""
        with nt.GradientTape() as tape:
            loss = self.loss()
        return loss, tape.gradient(loss, self.variables)

    def __call__(self) -> nt.Tensor:
        loss, self.gradients = self.record()
        self.optimizer.apply_gradients(zip(self.gradients, self.variables, strict=True))
        return loss
