"""One step of a loop that goes on: recording, finding the program, running it; and the running alone."""

from __future__ import annotations

from .inside import native_call
from .steps import HEAVY, LIGHT, LOOPS, step_of


class Light:
    """Steps so small that what a call costs counts."""

    params = list(LIGHT)
    param_names = ["step"]
    number = 100

    def time_step(self, name):
        step_of(name)()

    def time_native_part(self, name):
        native_call(name)()


class Heavy(Light):
    params = list(HEAVY)
    number = 5


class Loops:
    """Functions with a loop or a branch in Python."""

    params = list(LOOPS)
    param_names = ["step"]
    number = 5

    def time_step(self, name):
        step_of(name)()
