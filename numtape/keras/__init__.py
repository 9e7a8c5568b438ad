"""What Keras users look for under `keras`."""

from numtape._front import front
from numtape.keras import activations, initializers, layers, models, optimizers
from numtape.keras.layers import Input
from numtape.keras.models import Model, Sequential

__all__ = ["Input", "Model", "Sequential", "activations", "initializers", "layers", "models", "optimizers"]
__getattr__, __dir__ = front(__name__, __all__)
