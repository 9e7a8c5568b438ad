"""Forward-mode automatic differentiation, beside `nt.GradientTape`."""

from numtape.tape.forward import ForwardAccumulator

__all__ = ["ForwardAccumulator"]
