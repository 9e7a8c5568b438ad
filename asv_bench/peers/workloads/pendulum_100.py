"""The pendulum of pendulum.py in 100 steps, written as a loop everywhere: what 1000 take of `jax.jit` is minutes."""

from __future__ import annotations

from workloads import REFERENCE
from workloads.pendulum import swinging
from workloads.pendulum import workload as longer

workload = swinging(100)
for way in (REFERENCE, "numtape, nt.function, bound", "jax, jit, unrolled loop"):
    workload.ways[way] = longer.ways[way]
