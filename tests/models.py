"""Programs of the size that people write, for tests of passes and kernels."""

from __future__ import annotations

import itertools

import numtape.ops  # noqa: F401  fills the table of public functions
from numtape.dtypes import DType, Shape, float32, int32, tensor_type
from numtape.ir.program import Builder, Program, Value
from numtape.ir.verify import verify
from numtape.ops.core import PUBLIC
from numtape.passes.differentiate import differentiate

matmul, relu, pow_, sqrt, square = (PUBLIC[name] for name in ("matmul", "nn.relu", "pow", "sqrt", "square"))


class Inputs:
    """Makes numbered inputs in a builder."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.count = 0

    def __call__(self, *shape: int, dtype: DType = float32) -> Value:
        self.count += 1
        return self.builder.input(tensor_type(dtype, shape), self.count - 1)


def gradients(builder: Builder, loss: Value, sources: list[Value]) -> list[Value]:
    """The cotangents of sources that the loss, written so far, depends on."""
    end = len(builder.instructions)
    found = differentiate(
        builder, [loss.index], [[s.index] for s in sources], [None], [(0, end)], {s.index: 0 for s in sources}
    )
    assert all(g is not None for g in found)
    return found  # type: ignore[return-value]


def training_step(batch: int = 32, sizes: tuple[int, ...] = (64, 32, 10)) -> Program:
    """One step of Adam for a multilayer perceptron: the loss, then each parameter and its two averages, in place."""
    new = Inputs()
    builder = new.builder
    x, labels = new(batch, sizes[0]), new(batch, dtype=int32)
    shapes: list[Shape] = []
    for before, after in itertools.pairwise(sizes):
        shapes += [(before, after), (after,)]
    parameters = [new(*shape) for shape in shapes]
    h = x
    for k in range(0, len(parameters), 2):
        h = matmul(relu(h) if k else h, parameters[k]) + parameters[k + 1]
    loss = PUBLIC["reduce_mean"](PUBLIC["nn.sparse_softmax_cross_entropy_with_logits"](labels, h))
    found = gradients(builder, loss, parameters)
    averages, squares = [new(*shape) for shape in shapes], [new(*shape) for shape in shapes]
    count, rate = new(), new()
    rate = rate * sqrt(1 - pow_(0.999, count)) / (1 - pow_(0.9, count))
    outputs, donations = [loss], []
    for p, g, m, v in zip(parameters, found, averages, squares, strict=True):
        average = m + (g - m) * 0.1
        spread = v + (square(g) - v) * 0.001
        for old, value in ((p, p - rate * average / (sqrt(spread) + 1e-7)), (m, average), (v, spread)):
            donations.append((len(outputs), builder.instructions[old.index].attributes[0]))
            outputs.append(value)
    return verify(Program(tuple(builder.instructions), tuple(v.index for v in outputs), tuple(donations)))


def pendulum(steps: int, *shape: int) -> Program:
    """Where pendulums are after some steps, and how that depends on where they began: a long chain of small ops."""
    new = Inputs()
    angle, speed, step = new(*shape), new(*shape), new()
    start = [angle, speed]
    for _ in range(steps):
        speed = speed - step * PUBLIC["sin"](angle)
        angle = angle + step * speed
    found = gradients(new.builder, PUBLIC["reduce_sum"](angle), start)
    return verify(Program(tuple(new.builder.instructions), tuple(v.index for v in (angle, speed, *found))))


def recurrent(steps: int, batch: int = 8, size: int = 16) -> Program:
    """The gradient of a recurrent layer unrolled over time."""
    new = Inputs()
    x, w, u, b = new(batch, size), new(size, size), new(size, size), new(size)
    h = x
    for _ in range(steps):
        h = PUBLIC["tanh"](matmul(h, w) + matmul(x, u) + b)
    loss = PUBLIC["reduce_sum"](h * h)
    found = gradients(new.builder, loss, [w, u, b])
    return verify(Program(tuple(new.builder.instructions), tuple(v.index for v in (loss, *found))))
