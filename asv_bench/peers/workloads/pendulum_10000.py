"""The pendulum of pendulum.py in 10,000 steps, for numtape alone: how the time to compile a loop grows."""

from __future__ import annotations

from workloads import REFERENCE
from workloads.pendulum import swinging
from workloads.pendulum import workload as shorter

workload = swinging(10_000)
for way in (REFERENCE, "numtape, nt.function, bound"):
    workload.ways[way] = shorter.ways[way]
