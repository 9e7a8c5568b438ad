"""Input pipelines: what to train on, in which order, in batches."""

from numtape._front import front
from numtape.data.dataset import AUTOTUNE, INFINITE_CARDINALITY, UNKNOWN_CARDINALITY, Dataset
from numtape.data.iterator import Iterator

__all__ = ["AUTOTUNE", "INFINITE_CARDINALITY", "UNKNOWN_CARDINALITY", "Dataset", "Iterator"]
__getattr__, __dir__ = front(__name__, __all__)
