"""From a recorded path to a program, and from that to kernels' sources and a plan of memory. Nothing is compiled."""

from __future__ import annotations

from numtape.codegen.plan import plan
from numtape.tape.lower import lower

from .inside import lowering_of


class Lowering:
    params = ["digits", "mlp", "black_scholes"]
    param_names = ["step"]
    number = 5

    def time_lower(self, name):
        made = lowering_of(name)
        lower(made.path, made.wanted, made.known)

    def time_plan(self, name):
        plan(lowering_of(name).lowered.program)
