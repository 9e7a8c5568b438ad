"""Counts that are free of noise: they change when numtape does something else, and only then.

All are of the program that does a step's work, but for the number of programs that a hundred steps make.
"""

from __future__ import annotations

from .inside import lowering_of, lowerings, plan_of
from .steps import HEAVY, LIGHT, LOOPS, STEPS


class Program:
    params = list(LIGHT | HEAVY)
    param_names = ["step"]

    def setup_cache(self):
        return {name: counts_of(name) for name in self.params}

    def track_recorded_instructions(self, found, name):
        return found[name]["recorded"]

    def track_instructions(self, found, name):
        """After simplification."""
        return found[name]["instructions"]

    def track_kernel_calls(self, found, name):
        return found[name]["kernel calls"]

    def track_arena(self, found, name):
        """Memory for values that live within one run."""
        return found[name]["arena"]


class Loops:
    params = list(LOOPS)
    param_names = ["step"]

    def setup_cache(self):
        return {name: counts_of(name) for name in self.params}

    def track_instructions(self, found, name):
        """After simplification."""
        return found[name]["instructions"]

    def track_kernel_calls(self, found, name):
        return found[name]["kernel calls"]

    def track_kernels(self, found, name):
        """Different ones: so many are compiled where the cache is empty."""
        return found[name]["kernels"]


def counts_of(name):
    plan = plan_of(name)
    return {
        "recorded": len(lowering_of(name).lowered.program.instructions),
        "instructions": len(plan.program.instructions),
        "kernel calls": len(plan.steps),
        "kernels": len({step.kernel.key for step in plan.steps}),
        "arena": plan.arena,
    }


Program.track_recorded_instructions.unit = "instructions"
Program.track_instructions.unit = Loops.track_instructions.unit = "instructions"
Program.track_kernel_calls.unit = Loops.track_kernel_calls.unit = "calls"
Program.track_arena.unit = "bytes"
Loops.track_kernels.unit = "kernels"


def track_programs_of_100_steps(name):
    return len(lowerings(STEPS[name](), 100))


track_programs_of_100_steps.params = ["square", "digits", "branch"]
track_programs_of_100_steps.param_names = ["step"]
track_programs_of_100_steps.unit = "programs"
