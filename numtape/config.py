"""Settings for the whole process."""

from collections.abc import Callable

from numtape._front import front

__all__ = ["functions_run_eagerly", "get_tier", "run_functions_eagerly", "set_tier"]
__getattr__, __dir__ = front(__name__, __all__)


class Settings:
    """What is set now."""

    run_eagerly = False
    tier = "auto"


TIERS = ("auto", "reference", "native")
NEW_TIER: list[Callable[[], None]] = []
"""What `set_tier` calls, for those who have chosen already."""


def run_functions_eagerly(run_eagerly: bool) -> None:
    """Say whether each `nt.function` is to run as the plain Python that it was made of, for debugging.

    >>> import numtape as nt
    >>> @nt.function
    ... def double(x):
    ...     print("running")
    ...     return x * 2.0
    >>> nt.config.run_functions_eagerly(True)
    >>> float(double(nt.constant(1.0))), float(double(nt.constant(2.0)))
    running
    running
    (2.0, 4.0)
    >>> nt.config.run_functions_eagerly(False)
    """
    Settings.run_eagerly = bool(run_eagerly)


def functions_run_eagerly() -> bool:
    """Whether each `nt.function` runs as plain Python.

    >>> import numtape as nt
    >>> nt.config.functions_run_eagerly()
    False
    """
    return Settings.run_eagerly


def set_tier(tier: str) -> None:
    """Say how programs run from here on, in all threads.

    "auto", which holds at first: what is recorded outside of `nt.function` and seen for the first time is interpreted
    with NumPy at once, and compiled when it comes back. It is compiled at the first time where its bits are to stay the
    same from run to run: once any Variable has been assigned or restored, and for random numbers; where an interpreter
    would be slow: for large arrays and loops; in other threads than the main one, and for the kernels of
    `nt.primitive`.
    "native": everything is compiled before it runs.
    "reference": everything is interpreted, functions included, only that `njit` gives compiled code as ever. That is
    slow, and for finding out whether an odd result comes from the compiled code.

    The results agree as closely as "How it works" says. ValueError for another name.

    >>> import numtape as nt
    >>> nt.config.set_tier("reference")
    >>> before = nt.cache.stats()
    >>> float(nt.sin(nt.constant(0.5)))
    0.47942...
    >>> nt.cache.stats().interpreted - before.interpreted
    1
    >>> nt.config.set_tier("auto")
    """
    if tier not in TIERS:
        raise ValueError(f"there is no tier {tier!r}; there are {', '.join(TIERS)}")
    Settings.tier = tier
    for choose_anew in NEW_TIER:
        choose_anew()


def get_tier() -> str:
    """How programs run: what `nt.config.set_tier` said.

    >>> import numtape as nt
    >>> nt.config.get_tier()
    'auto'
    """
    return Settings.tier
