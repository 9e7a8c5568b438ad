"""Recording: what a line of the user's code costs in Python, before anything runs."""

from __future__ import annotations

from functools import cache

import numtape as nt

from .inside import forget, start_afresh
from .steps import step_of

OPS = 1000


@cache
def operands():
    x = nt.constant([1.0, 2.0, 3.0])
    return x, {"two tensors": x, "a number": 1.5, "a Variable": nt.Variable([1.0, 2.0, 3.0])}


class Chain:
    """A thousand ops in a row, recorded and dropped: the result in milliseconds is microseconds an op."""

    params = ["two tensors", "a number", "a Variable"]
    param_names = ["operands"]
    number = 10

    def time_known(self, kind):
        x, others = operands()
        other = others[kind]
        with nt.GradientTape():
            y = x
            for _ in range(OPS):
                y = y * other
        del y
        start_afresh()

    def time_new(self, kind):
        forget()
        self.time_known(kind)


class Digits:
    """Forward pass and gradients of the demo's step."""

    number = 100

    def time_known(self):
        step_of("digits").record()
        start_afresh()

    def time_new(self):
        forget()
        self.time_known()


Digits.time_new.number = 5
