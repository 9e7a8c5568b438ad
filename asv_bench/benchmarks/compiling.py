"""First steps in fresh processes: with an empty cache, and with what an earlier process left on disk.

The time starts after `import numtape`; building the model, importing the compiler where it is needed, and waiting for
the result belong to it. Steps are compiled before they run, all but those of `SeenOnce`, which has both tiers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from .steps import black_scholes, step_of

WARM = f"""
import sys
sys.path.insert(0, {Path(__file__).resolve().parents[1].as_posix()!r})
import numtape as nt
from benchmarks.steps import STEPS, black_scholes
nt.config.set_tier("native")
"""
COLD = f"""
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["NUMTAPE_CACHE_DIR"] = folder.name
{WARM}
"""
COUNT = f"""
{WARM}
step = STEPS["digits"]()
for _ in range(3):
    result = step()
float(result)
print(nt.cache.stats().compilations)
"""


class FirstStep:
    params = ["digits", "black_scholes", "pendulum_100", "pendulum_1000"]
    param_names = ["step"]

    def timeraw_cold(self, name):
        return first_step(name), COLD

    def timeraw_warm(self, name):
        float(step_of(name)())  # leaves its kernels in the cache
        return first_step(name), WARM


class SeenOnce:
    """A gradient of 30 operations, on the tier that a user's own first step would run on ("auto"), and compiled."""

    params = ["auto", "native"]
    param_names = ["tier"]

    def timeraw_cold(self, tier):
        return gradient_once(tier), COLD

    def timeraw_warm(self, tier):
        black_scholes(100)()
        black_scholes(100)()  # leaves its kernels in the cache
        return gradient_once(tier), WARM


def gradient_once(tier):
    return f"nt.config.set_tier({tier!r}); black_scholes(100)()"


def first_step(name):
    """What a new step computes: its result, and the state that it keeps."""
    return f"step = STEPS[{name!r}](); float(step())"


class Digits:
    """Kernels that two processes compile one after the other for three steps of the demo."""

    unit = "kernels"

    def setup_cache(self):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"NUMTAPE_CACHE_DIR": folder}
            run = partial(subprocess.check_output, [sys.executable, "-c", COUNT], env=environment)
            return [int(run()) for _ in range(2)]

    def track_compiled_cold(self, compiled):
        return compiled[0]

    def track_compiled_warm(self, compiled):
        """None, if the cache does its work."""
        return compiled[1]
