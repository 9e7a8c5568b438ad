"""A pendulum in 1000 semi-implicit Euler steps of numbers in float32, written as a loop.

What is computed is the square of the last angle, with its gradient with respect to the first angle, the first velocity
and the length, all handed over as numbers. Its first step tells what it takes to compile a loop; pendulum_100.py and
pendulum_10000.py have other numbers of steps.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from workloads import Workload

STEP, GRAVITY = 0.01, 9.81


class Data(NamedTuple):
    start: tuple[np.float32, ...]  # angle, velocity, length
    steps: int


def swinging(steps):
    """The workload of so many steps, still without ways."""
    start = np.float32(1), np.float32(0.5), np.float32(1.25)
    title = f"gradient through {steps:,} Euler steps of a pendulum"
    return Workload(title, lambda: Data(start, steps), tolerance=1e-3, first_step=True, limit=20)


workload = swinging(1000)


def moved(sin, angle, velocity, length):
    """Angle and velocity one step later."""
    velocity = velocity - STEP * GRAVITY / length * sin(angle)
    return angle + STEP * velocity, velocity


def last_angle(sin, steps, angle, velocity, length):
    for _ in range(steps):
        angle, velocity = moved(sin, angle, velocity, length)
    return angle


def repeat(value_and_gradient):
    """The `run` of a function that returns a value and three derivatives, on the host or not."""

    def run(n):
        for _ in range(n):
            value, gradient = value_and_gradient()
            found = [float(value), *map(float, gradient)]
        return found

    return run


@workload.way("numpy", "by hand")
def numpy_by_hand(data):
    angle, velocity, length = map(float, data.start)

    def value_and_gradient():
        angles, v = [angle], velocity
        for _ in range(data.steps):
            after, v = moved(math.sin, angles[-1], v, length)
            angles.append(after)
        of_angle, of_velocity, of_length = 2 * angles[-1], 0.0, 0.0
        pull = STEP * GRAVITY / length
        for a in angles[-2::-1]:
            of_velocity += STEP * of_angle
            of_angle -= of_velocity * pull * math.cos(a)
            of_length += of_velocity * pull / length * math.sin(a)
        return angles[-1] ** 2, (of_angle, of_velocity, of_length)

    return repeat(value_and_gradient)


@workload.way("numtape", "nt.function, bound")
def numtape_bound(data):
    import numtape as nt

    @nt.function
    def value_and_gradient(*start):
        with nt.GradientTape() as tape:
            tape.watch(start)
            value = nt.square(last_angle(nt.sin, data.steps, *start))
        return value, tape.gradient(value, start)

    @cache
    def bound():  # so that the first call compiles, as `jax.jit` does
        return value_and_gradient.bind(*map(np.array, data.start))

    def run(n):
        return repeat(bound())(n)

    return run


def jax_with(last_angle):
    def way(data):
        import jax

        def value(start):
            return jax.numpy.square(last_angle(jax.numpy.sin, data.steps, *start))

        compiled = jax.jit(jax.value_and_grad(value))
        start = tuple(map(jax.numpy.asarray, data.start))
        return repeat(lambda: compiled(start))

    return way


def scanned(sin, steps, angle, velocity, length):
    import jax

    def step(state, _):
        return moved(sin, *state, length), None

    return jax.lax.scan(step, (angle, velocity), length=steps)[0][0]


workload.way("jax", "jit, lax.scan")(jax_with(scanned))
workload.way("jax", "jit, unrolled loop")(jax_with(last_angle))
