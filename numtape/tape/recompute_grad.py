"""`recompute_grad`: functions whose values in between are computed again on the way back, instead of being kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numtape import nest
from numtape.ops.recompute import CHECKPOINT, recomputed
from numtape.tape.custom_gradient import Reads
from numtape.tape.operands import as_tensor
from numtape.tape.tensor import Tensor
from numtape.tape.trace import STATE, record
from numtape.tape.variable import Variable


def recompute_grad(f: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function's gradients take less memory, and longer: what it computes on the way is not kept for them.

    The result gives what `f` gives, as tensors. When a gradient is taken, the operations of `f` run once more, from
    its arguments and the Variables that it read, as they were; Python is not called again, so random numbers are the
    same and nothing is assigned twice. All else is as without: gradients of keyword arguments and of tensors from
    outside, higher derivatives, forward mode. An argument that the result does not depend on, or such a Variable, has a
    gradient of zeros rather than None. `__wrapped__` is `f`.

    ValueError or TypeError at the call if the result is no tensor, nor a nesting of tensors and what becomes one.

    >>> import numtape as nt
    >>> @nt.recompute_grad
    ... def block(x):
    ...     for _ in range(10):
    ...         x = nt.tanh(x)
    ...     return x
    >>> x = nt.Variable([0.5, 1.0])
    >>> with nt.GradientTape() as tape:
    ...     y = block(block(x))
    >>> tape.gradient(y, x).numpy().round(4)
    array([0.1073, 0.0161], dtype=float32)
    """

    @functools.wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        begin = record(CHECKPOINT, ())
        reads = Reads()
        if STATE.tapes:
            with reads:
                result = f(*args, **kwargs)
        else:
            result = f(*args, **kwargs)
        results = [x if isinstance(x, Variable) else as_tensor(x) for x in nest.flatten(result)]
        arguments = nest.flatten(args)
        inputs = [x for x in arguments if isinstance(x, Tensor | Variable) and x.dtype.is_floating]
        inputs += reads.besides(arguments)
        return nest.pack_sequence_as(result, [recomputed([x, begin, *inputs]) for x in results])

    return function
