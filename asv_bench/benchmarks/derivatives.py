"""Derivatives of a network at its next batch, each with respect to all weights, which stay as they are.

The vectors are the weights themselves: any would do. Gradient, products with the Hessian and with a vector in forward
mode are those of one network, so that their times can be set against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numtape as nt

from .classifier import Classifier


def gradient(model: Classifier) -> Any:
    """That of the loss."""
    _, gradients = model.record()
    return gradients


def hessian_forward(model: Classifier) -> Any:
    """The product of the loss's Hessian with a vector, forward over reverse."""
    with nt.autodiff.ForwardAccumulator(model.variables, model.variables) as forward:
        gradients = gradient(model)
    return forward.jvp(gradients)


def hessian_reverse(model: Classifier) -> Any:
    """The same, reverse over reverse."""
    with nt.GradientTape() as tape:
        gradients = gradient(model)
    return tape.gradient(gradients, model.variables, output_gradients=model.variables)


def jvp(model: Classifier) -> Any:
    """The loss and its derivative along a vector, in forward mode."""
    with nt.autodiff.ForwardAccumulator(model.variables, model.variables) as forward:
        loss = model.loss()
    return forward.jvp(loss), loss


def jacobian(model: Classifier) -> Any:
    """That of the logits."""
    x, _ = next(model.batches)
    with nt.GradientTape() as tape:
        logits = model.network(x)
    return tape.jacobian(logits, model.variables)


class Derivative:
    """A step that computes one of these for a new network."""

    def __init__(self, of: Callable[[Classifier], Any], network: Callable[[], Classifier]) -> None:
        self.of = of
        self.model = network()

    def __call__(self) -> float:
        found = self.of(self.model)
        return float(found[0].numpy().flat[0])  # whatever is alive is computed
