"""One step of a loop that goes on: recording, finding the program, running it; and the running alone."""

from __future__ import annotations

from .inside import native_call
from .steps import STEPS, step_of


class Light:
    """What a call costs when there is nothing to compute, and a network so small that this still counts."""

    params = ["square", "digits"]
    param_names = ["step"]
    number = 100

    def time_step(self, name):
        step_of(name)()

    def time_native_part(self, name):
        native_call(name)()


class Heavy(Light):
    params = [name for name in STEPS if name not in Light.params]
    number = 5
