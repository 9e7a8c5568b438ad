"""The examples in the docstrings of the ops' public functions; doctest finds those of `numtape` itself alone."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import numtape as nt
from numtape.ops.core import PUBLIC

FUNCTIONS = {function: name for name, function in PUBLIC.items() if function not in vars(nt).values()}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("function", FUNCTIONS, ids=FUNCTIONS.values())
def test_examples(function):
    name = FUNCTIONS[function]
    examples = doctest.DocTestParser().get_doctest(function.__doc__ or "", {"nt": nt, "np": np}, name, None, 0)
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(examples, out=output.append)
    assert not runner.failures, "".join(output)


def test_every_public_function_has_an_example():
    assert not [name for name, function in PUBLIC.items() if ">>> " not in (function.__doc__ or "")]


def test_public_names_are_there():
    for dotted in PUBLIC:
        found = nt
        for part in dotted.split("."):
            found = getattr(found, part)
        assert found is PUBLIC[dotted]
