"""Peak memory of a process that runs some steps."""

from __future__ import annotations

from .steps import HEAVY, LIGHT, step_of


class Steps:
    params = list(LIGHT | HEAVY)
    param_names = ["step"]

    def peakmem_ten(self, name):
        for _ in range(10):
            result = step_of(name)()
        float(result)
