"""Derivatives of a network at its next batch, each with respect to all weights, which stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import numtape as nt

from .classifier import Classifier


class Derivatives(Classifier):
    """`gradient`, the products with the Hessian and `jvp` do comparable work: their times can be set in relation."""

    def __init__(self, *sizes: int, batch: int) -> None:
        super().__init__(*sizes, batch=batch)
        rng = np.random.default_rng(1)
        self.vector = [nt.constant(rng.normal(size=v.shape).astype(np.float32)) for v in self.variables]

    def gradient(self) -> Any:
        """That of the loss."""
        _, gradients = self.record()
        return gradients

    def hessian_forward(self) -> Any:
        """The product of the loss's Hessian with the vector, forward over reverse."""
        with nt.autodiff.ForwardAccumulator(self.variables, self.vector) as forward:
            gradients = self.gradient()
        return forward.jvp(gradients)

    def hessian_reverse(self) -> Any:
        """The same, reverse over reverse."""
        with nt.GradientTape() as tape:
            gradients = self.gradient()
        return tape.gradient(gradients, self.variables, output_gradients=self.vector)

    def jvp(self) -> Any:
        """The loss and its derivative along the vector, in forward mode."""
        with nt.autodiff.ForwardAccumulator(self.variables, self.vector) as forward:
            loss = self.loss()
        return forward.jvp(loss), loss

    def jacobian(self) -> Any:
        """That of the logits."""
        x, _ = next(self.batches)
        with nt.GradientTape() as tape:
            logits = self.network(x)
        return tape.jacobian(logits, self.variables)


def derivative(name: str, *sizes: int, batch: int) -> Callable[[], float]:
    """The step that computes one of them."""
    compute = getattr(Derivatives(*sizes, batch=batch), name)

    def step() -> float:
        found = compute()
        return float(found[0].numpy().flat[0])  # whatever is alive is computed

    return step
