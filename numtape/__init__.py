"""Automatic differentiation with the semantics of TensorFlow's `GradientTape`, run as native code.

Record operations under a `GradientTape`, ask it for gradients, and let an optimizer apply them; nothing runs before a
value is looked at, and then the whole step runs as one native program, compiled once.
"""

from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

from numtape import cache, keras, nest
from numtape._public import namespaces as _namespaces
from numtape.dtypes import (
    DType,
    as_dtype,
    bool_,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from numtape.tape import GradientTape, Tensor, UnconnectedGradients, Variable, constant, convert_to_tensor

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...  # the functions of the ops, from their records


__version__ = _version("numtape")

bool = bool_
globals().update(_namespaces(__name__))
