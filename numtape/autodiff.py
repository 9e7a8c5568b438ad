"""Forward-mode automatic differentiation, beside `nt.GradientTape`."""

from numtape._front import front
from numtape.tape.forward import ForwardAccumulator

__all__ = ["ForwardAccumulator"]
__getattr__, __dir__ = front(__name__, __all__)
