"""What users hold: tensors, Variables, tapes; and the trace that their calls are recorded on."""

from typing import Any

from numtape.ops.contraction import matmul
from numtape.ops.elementwise import install_operators
from numtape.tape.convert import constant, convert_to_tensor
from numtape.tape.gradient_tape import GradientTape, UnconnectedGradients
from numtape.tape.tensor import Tensor
from numtape.tape.trace import record
from numtape.tape.variable import Variable

_FLAGS = (False, False)
_kind: Any
for _kind in (Tensor, Variable):
    install_operators(_kind, record)
    _kind.__matmul__ = lambda self, other: record(matmul.op, (self, other), _FLAGS)
    _kind.__rmatmul__ = lambda self, other: record(matmul.op, (other, self), _FLAGS)

__all__ = ["GradientTape", "Tensor", "UnconnectedGradients", "Variable", "constant", "convert_to_tensor"]
