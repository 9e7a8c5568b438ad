"""Settings for the whole process."""

from numtape._front import front

__all__ = ["functions_run_eagerly", "run_functions_eagerly"]
__getattr__, __dir__ = front(__name__, __all__)


class Settings:
    """What is set now."""

    run_eagerly = False


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
