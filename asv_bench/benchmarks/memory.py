"""Peak memory of a process that runs some steps."""

from __future__ import annotations

from .steps import STEPS, step_of


class Steps:
    params = list(STEPS)
    param_names = ["step"]

    def peakmem_ten(self, name):
        for _ in range(10):
            result = step_of(name)()
        float(result)
