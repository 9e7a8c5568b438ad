"""`function`: Python functions recorded once for each signature, and replayed without running their Python."""

from numtape.functions.function import ConcreteFunction, Function, function
from numtape.functions.watching import progress

__all__ = ["ConcreteFunction", "Function", "function", "progress"]
