"""What outlasts a run: checkpoints of Variables, optimizers and random numbers."""

from numtape._front import front
from numtape.train.checkpoint import Checkpoint
from numtape.train.files import latest_checkpoint
from numtape.train.manager import CheckpointManager
from numtape.train.random_state import RandomState

__all__ = ["Checkpoint", "CheckpointManager", "RandomState", "latest_checkpoint"]
__getattr__, __dir__ = front(__name__, __all__)
