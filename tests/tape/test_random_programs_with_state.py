"""Random nested programs with branches, loops, Variables and assignments: gradients against differences, and jax.

A program is a list of statements that runs on numtape, on JAX, and on numbers that are moved a little. A Variable's
state begins a new history at each assignment: what a later read depends on is the Variable itself, at its new value. So
elsewhere than on a tape a read gives the state of a base run plus how far the Variable is moved.
"""

from __future__ import annotations

import functools
import importlib
import random
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import numtape as nt
from tests.tape.checks import same

COUNT = 50
SHAPE = (3,)
UNARY = ["sin", "tanh", "sigmoid", "square", "cube"]
BINARY = ["add", "subtract", "multiply", "over"]


def statements(rng: random.Random, depth: int, names: list[str]) -> list[Any]:
    """A random program that extends `names`."""
    found: list[Any] = []
    for _ in range(rng.randint(2, 5)):
        nested = ["if", "loop", "gradient"] if depth else []
        kind = rng.choice(["unary", "binary", "binary", "read", "assign", *nested])
        new = f"t{len(names)}"
        if kind == "unary":
            found.append((kind, rng.choice(UNARY), new, rng.choice(names)))
        elif kind == "binary":
            found.append((kind, rng.choice(BINARY), new, rng.choice(names), rng.choice(names)))
        elif kind == "read":
            found.append((kind, new, rng.randrange(2)))
        elif kind == "assign":
            found.append((kind, rng.randrange(2), rng.choice(names), rng.choice([0.5, -1.5])))
            continue
        elif kind == "if":
            inner = [list(names), list(names)]
            branches = [statements(rng, depth - 1, scope) for scope in inner]
            found.append((kind, new, rng.choice(names), rng.uniform(-1, 1), branches, [s[-1] for s in inner]))
        elif kind == "loop":
            inner_names = [*names, new]
            body = statements(rng, 0, inner_names)
            found.append((kind, new, rng.choice(names), rng.randint(1, 3), body, inner_names[-1]))
        else:
            inner_names = [*names, "x"]
            body = [s for s in statements(rng, depth - 1, inner_names) if s[0] != "assign"]
            found.append((kind, new, rng.choice(names), body, inner_names[-1]))
        names.append(new)
    return found


class Machine:
    """Runs programs on one library."""

    def __init__(self, ops: dict[str, Callable[..., Any]], gradient: Callable[..., Any], log: list[Any] | None) -> None:
        self.ops, self.gradient, self.log = ops, gradient, log
        self.at = 0

    def read(self, k: int) -> Any:
        raise NotImplementedError

    def assign(self, k: int, value: Any, factor: float) -> None:
        raise NotImplementedError

    def truth(self, value: Any, bound: float) -> bool:
        raise NotImplementedError

    def result(self, program: Sequence[Any], scope: dict[str, Any], name: str, x: Any) -> Any:
        """One value of a program of `x`."""
        return self.run(program, scope | {"x": x})[name]

    def run(self, program: Sequence[Any], scope: dict[str, Any]) -> dict[str, Any]:
        for kind, *rest in program:
            if kind == "unary":
                op, new, x = rest
                scope[new] = self.ops[op](scope[x])
            elif kind == "binary":
                op, new, x, y = rest
                scope[new] = self.ops[op](scope[x], scope[y])
            elif kind == "read":
                new, k = rest
                scope[new] = self.read(k)
            elif kind == "assign":
                k, x, factor = rest
                self.assign(k, scope[x], factor)
            elif kind == "if":
                new, x, bound, branches, results = rest
                side = 0 if self.truth(scope[x], bound) else 1
                scope[new] = self.run(branches[side], dict(scope))[results[side]]
            elif kind == "loop":
                new, x, count, body, result = rest
                scope[new] = scope[x]
                for _ in range(count):
                    scope[new] = self.ops["tanh"](self.run(body, dict(scope))[result])
            else:
                new, x, body, result = rest
                inner = functools.partial(self.result, body, dict(scope), result)
                scope[new] = self.gradient(inner, scope[x])
        return scope


def ops_of(sin: Any, tanh: Any) -> dict[str, Callable[..., Any]]:
    return {
        "sin": sin, "tanh": tanh, "sigmoid": lambda x: 0.5 * (tanh(0.5 * x) + 1.0), "square": lambda x: x * x * 0.5,
        "cube": lambda x: x * x * x * 0.1, "add": lambda x, y: x + y, "subtract": lambda x, y: x - y,
        "multiply": lambda x, y: x * y, "over": lambda x, y: x / (1.0 + y * y),
    }  # fmt: skip


class OnTape(Machine):
    """The program as a user writes it, its decisions and the states it reads written down."""

    def __init__(self, variables: Sequence[nt.Variable]) -> None:
        def gradient(f: Callable[..., Any], x: Any) -> Any:
            x = nt.identity(x)
            with nt.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                y = f(x)
            return tape.gradient(y, x, unconnected_gradients="zero")

        super().__init__(ops_of(nt.sin, nt.tanh), gradient, [])
        self.variables = variables

    def read(self, k: int) -> Any:
        self.log.append(self.variables[k].numpy())
        return self.variables[k] * 1.0

    def assign(self, k: int, value: Any, factor: float) -> None:
        self.variables[k].assign(nt.tanh(value) * factor)

    def truth(self, value: Any, bound: float) -> bool:
        found = bool(nt.reduce_sum(value) > bound)
        self.log.append(found)
        return found


class Moved(Machine):
    """The program on other numbers, with the decisions of the base run and its states, moved."""

    def __init__(self, ops: Any, gradient: Any, log: list[Any], moved: Sequence[Any]) -> None:
        super().__init__(ops, gradient, log)
        self.moved = moved

    def next(self) -> Any:
        self.at += 1
        return self.log[self.at - 1]

    def read(self, k: int) -> Any:
        return self.next() + self.moved[k]

    def assign(self, k: int, value: Any, factor: float) -> None:
        pass

    def truth(self, value: Any, bound: float) -> bool:
        return self.next()


def made(seed: int) -> tuple[list[Any], list[str], list[Any]]:
    rng = random.Random(seed)
    names = ["a", "b"]
    program = statements(rng, 2, names)
    numbers = np.random.default_rng(seed)
    return program, names, [numbers.uniform(-1, 1, SHAPE) for _ in range(4)]


def on_tape(seed: int) -> tuple[list[Any], list[Any]]:
    """Gradients with respect to two tensors and two Variables, and the log."""
    program, names, arrays = made(seed)
    a, b = map(nt.constant, arrays[:2])
    variables = [nt.Variable(x) for x in arrays[2:]]
    machine = OnTape(variables)
    with nt.GradientTape() as tape:
        tape.watch([a, b])
        scope = machine.run(program, {"a": a, "b": b})
        y = nt.reduce_sum(sum(scope[n] for n in names[2:]))
    return [g.numpy() for g in tape.gradient(y, [a, b, *variables], unconnected_gradients="zero")], machine.log


MISSING = pytest.mark.skip(reason="jax, the other library to compare with, is not installed")


@pytest.mark.parametrize("seed", range(COUNT) if find_spec("jax") else [pytest.param(0, marks=MISSING)])
def test_against_jax(seed: int) -> None:
    jax = importlib.import_module("jax")
    jnp = jax.numpy
    program, names, arrays = made(seed)
    found, log = on_tape(seed)

    def value(a: Any, b: Any, *moved: Any) -> Any:
        gradient = lambda f, x: jax.grad(lambda x: jnp.sum(f(x)))(x)
        scope = Moved(ops_of(jnp.sin, jnp.tanh), gradient, log, moved).run(program, {"a": a, "b": b})
        return jnp.sum(sum(scope[n] for n in names[2:]))

    with jax.enable_x64(True):
        right = jax.grad(value, (0, 1, 2, 3))(*map(jnp.asarray, arrays[:2]), jnp.zeros(SHAPE), jnp.zeros(SHAPE))
        for f, r in zip(found, right, strict=True):
            np.testing.assert_allclose(f, np.asarray(r), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(COUNT))
def test_against_differences(seed: int) -> None:
    program, names, arrays = made(seed)
    found, log = on_tape(seed)
    direction = np.random.default_rng(seed + 1000).uniform(-1, 1, (4, *SHAPE))

    def value(step: float) -> float:
        a, b, *moved = [nt.constant(x) for x in direction * step + [*arrays[:2], np.zeros(SHAPE), np.zeros(SHAPE)]]
        machine = OnTape([])
        moving = Moved(machine.ops, machine.gradient, log, moved)
        scope = moving.run(program, {"a": a, "b": b})
        return float(nt.reduce_sum(sum(scope[n] for n in names[2:])))

    h = 1e-4
    difference = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
    exact = sum(float(np.sum(g * d)) for g, d in zip(found, direction, strict=True))
    same(nt.constant(exact), difference, 1e-6, 1e-7)
