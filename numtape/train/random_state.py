"""The state of `nt.random` as an object, so that a checkpoint can hold it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from numtape.ops.random import STREAMS


class RandomState:
    """Stands in a checkpoint for the random numbers: the global seed, and how far each seed was drawn from.

    All objects of this class mean the same state. After it is restored, `nt.random` goes on with the numbers that came
    after the checkpoint was saved. A layer that is built only then draws none of them, if the checkpoint has all its
    weights.

    >>> import numtape as nt, os, tempfile
    >>> checkpoint = nt.train.Checkpoint(random=nt.train.RandomState())
    >>> path = checkpoint.write(os.path.join(tempfile.mkdtemp(), "ckpt"))
    >>> a = nt.random.normal([3])
    >>> _ = checkpoint.read(path)
    >>> np.array_equal(a, nt.random.normal([3]))
    True
    """

    def _checkpoint_state(self) -> dict[str, npt.NDArray[Any]]:
        with STREAMS.lock:
            STREAMS.calls[None] = STREAMS.place(None)  # without a seed it is made up by the first who asks
            # As text, because seeds may be integers of any length, or None.
            text = json.dumps([STREAMS.seed, [[seed, *place] for seed, place in STREAMS.calls.items()]])
        return {"streams": np.frombuffer(text.encode(), np.uint8)}

    def _restore_state(self, state: dict[str, npt.NDArray[Any]]) -> None:
        seed, calls = json.loads(state["streams"].tobytes())
        with STREAMS.lock:
            STREAMS.seed, STREAMS.calls = seed, {key: (stream, call) for key, stream, call in calls}
