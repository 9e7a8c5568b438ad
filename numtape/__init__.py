"""Automatic differentiation with the semantics of TensorFlow's `GradientTape`, run as native code.

Record operations under a `GradientTape`, ask it for gradients, and let an optimizer apply them; nothing runs before a
value is looked at, and then the whole step runs as one native program, compiled once.
"""

from typing import Any as _Any

from numtape import autodiff, cache, errors, keras, nest
from numtape._front import front as _front
from numtape._public import namespaces as _namespaces
from numtape.dtypes import (
    DType,
    TensorShape,
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
from numtape.module import Module
from numtape.ops.listing import OpRow, list_ops
from numtape.tape import (
    Explanation,
    GradientTape,
    IndexedSlices,
    RegisterGradient,
    Tensor,
    TensorSpec,
    UnconnectedGradients,
    Variable,
    cond,
    constant,
    convert_to_tensor,
    custom_gradient,
    explain_gradient,
    foldl,
    foldr,
    init_scope,
    is_tensor,
    map_fn,
    name_scope,
    no_gradient,
    primitive,
    recompute_grad,
    scan,
    vectorized_map,
    while_loop,
)

bool = bool_
initializers, optimizers = keras.initializers, keras.optimizers
newaxis = None
# What is imported when somebody asks for it: modules, and names of modules.
_LATER = {
    "ConcreteFunction": "functions",
    "Function": "functions",
    "explain": "explaining",
    "function": "functions",
    "progress": "functions",
    **{name: name for name in ("config", "data", "debug", "debugging", "queue", "testing", "train")},
}
globals().update(_namespaces(__name__))
_INTERNAL = {"backends", "codegen", "dtypes", "explaining", "functions", "ir", "module", "ops", "passes", "tape"}


def __getattr__(name: str) -> _Any:
    """What is looked up when asked for; type checkers learn from this that there is more than they see."""
    if name == "__version__":
        from importlib.metadata import version

        return version("numtape")
    if name in _LATER:
        from importlib import import_module

        module = import_module(f"numtape.{_LATER[name]}")
        globals()[name] = found = module if _LATER[name] == name else getattr(module, name)
        return found
    return _missing(name)


_missing, __dir__ = _front(__name__, [name for name in {*globals(), *_LATER} - _INTERNAL if name[0] != "_"])
