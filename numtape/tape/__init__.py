"""What users hold: tensors, Variables, tapes; and the trace that their calls are recorded on."""

from typing import Any

from numtape.ops.contraction import matmul
from numtape.ops.elementwise import install_operators
from numtape.tape.control_flow import cond, foldl, foldr, map_fn, scan, vectorized_map, while_loop
from numtape.tape.convert import constant, convert_to_tensor, is_tensor
from numtape.tape.custom_gradient import custom_gradient
from numtape.tape.explain import Explanation, explain_gradient
from numtape.tape.gradient_tape import GradientTape, UnconnectedGradients
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.primitive import Primitive, primitive
from numtape.tape.recompute_grad import recompute_grad
from numtape.tape.registration import RegisterGradient, no_gradient
from numtape.tape.scope import init_scope, name_scope
from numtape.tape.spec import TensorSpec
from numtape.tape.tensor import Tensor
from numtape.tape.trace import record
from numtape.tape.variable import Variable

_FLAGS = (False, False)
_kind: Any
for _kind in (Tensor, Variable):
    install_operators(_kind, record)
    _kind.__matmul__ = lambda self, other: record(matmul.op, (self, other), _FLAGS)
    _kind.__rmatmul__ = lambda self, other: record(matmul.op, (other, self), _FLAGS)

__all__ = [
    "Explanation",
    "GradientTape",
    "IndexedSlices",
    "Primitive",
    "RegisterGradient",
    "Tensor",
    "TensorSpec",
    "UnconnectedGradients",
    "Variable",
    "cond",
    "constant",
    "convert_to_tensor",
    "custom_gradient",
    "explain_gradient",
    "foldl",
    "foldr",
    "init_scope",
    "is_tensor",
    "map_fn",
    "name_scope",
    "no_gradient",
    "primitive",
    "recompute_grad",
    "scan",
    "vectorized_map",
    "while_loop",
]
