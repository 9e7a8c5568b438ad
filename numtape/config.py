"""Settings for the whole process."""

from collections.abc import Callable
from operator import index

from numtape._front import front

__all__ = [
    "functions_run_eagerly", "get_loop_memory", "get_tier", "run_functions_eagerly", "set_loop_memory", "set_tier",
]  # fmt: skip
__getattr__, __dir__ = front(__name__, __all__)


class Settings:
    """What is set now."""

    run_eagerly = False
    tier = "auto"
    loop_memory: int | None = 1 << 30


TIERS = ("auto", "reference", "native")
NEW_TIER: list[Callable[[], None]] = []
"""What `set_tier` calls, for those who have chosen already."""
NEW_LOOP_MEMORY: list[Callable[[], None]] = []
"""What `set_loop_memory` calls, for those who keep programs."""


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


def set_loop_memory(nbytes: int | None) -> None:
    """Say how many bytes a loop may keep of its turns for the way back.

    The gradient of a loop reads values of all turns, from the last to the first. Where these take more than `nbytes`,
    only what enters every k-th turn is kept, with k about the root of the number of turns, and each k turns are run
    again before the gradient goes back through them: the memory of n turns becomes that of about 2 sqrt(n), and the
    loop takes about half as long again. That holds for loops that are recorded as one (`nt.range`, datasets, `nt.scan`)
    and for those of Python that are found again. None is no limit; at first it is 1 GiB, which holds most of what fits
    into the memory of a machine at all.

    It holds for what is recorded from here on: an `nt.function` keeps what it has been compiled to. TypeError for what
    is not an integer, ValueError for a negative one.

    >>> import numtape as nt
    >>> nt.config.set_loop_memory(64 << 20)
    >>> nt.config.get_loop_memory()
    67108864
    >>> nt.config.set_loop_memory(1 << 30)
    """
    if nbytes is not None:
        nbytes = index(nbytes)
        if nbytes < 0:
            raise ValueError(f"loops cannot keep {nbytes} bytes; give 0 or more, or None for no limit")
    Settings.loop_memory = nbytes
    for forget in NEW_LOOP_MEMORY:
        forget()


def get_loop_memory() -> int | None:
    """How many bytes a loop may keep of its turns for the way back: what `nt.config.set_loop_memory` said.

    >>> import numtape as nt
    >>> nt.config.get_loop_memory()
    1073741824
    """
    return Settings.loop_memory
