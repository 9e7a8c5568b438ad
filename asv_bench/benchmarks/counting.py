"""Counts that are free of noise: they change when numtape does something else, and only then.

All are of the program that does a step's work, but for the number of programs that a hundred steps make.
"""

from __future__ import annotations

from .inside import lowering_of, lowerings, plan_of
from .steps import STEPS


class Program:
    params = list(STEPS)
    param_names = ["step"]

    def setup_cache(self):
        found = {}
        for name in STEPS:
            plan = plan_of(name)
            found[name] = {
                "recorded": len(lowering_of(name).lowered.program.instructions),
                "instructions": len(plan.program.instructions),
                "kernel calls": len(plan.steps),
                "kernels": len({step.kernel.key for step in plan.steps}),
                "arena": plan.arena,
            }
        return found

    def track_recorded_instructions(self, found, name):
        return found[name]["recorded"]

    def track_instructions(self, found, name):
        """After simplification."""
        return found[name]["instructions"]

    def track_kernel_calls(self, found, name):
        return found[name]["kernel calls"]

    def track_kernels(self, found, name):
        """Different ones: so many are compiled where the cache is empty."""
        return found[name]["kernels"]

    def track_arena(self, found, name):
        """Memory for values that live within one run."""
        return found[name]["arena"]


Program.track_recorded_instructions.unit = Program.track_instructions.unit = "instructions"
Program.track_kernel_calls.unit = "calls"
Program.track_kernels.unit = "kernels"
Program.track_arena.unit = "bytes"


def track_programs_of_100_steps(name):
    return len(lowerings(STEPS[name](), 100))


track_programs_of_100_steps.params = ["square", "digits", "branch"]
track_programs_of_100_steps.param_names = ["step"]
track_programs_of_100_steps.unit = "programs"
