"""What Keras users look for under `keras`."""

from numtape.keras import optimizers

__all__ = ["optimizers"]
