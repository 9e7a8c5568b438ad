"""Which tier a program runs on: native code, or at once on the NumPy interpreter, before anything is compiled.

What is seen once is interpreted, and compiled when it comes back. The two agree up to rounding, so whatever has to give
the same bits whenever it runs, training above all, is compiled at once. So is what an interpreter takes long for, and
ops that say so: loops, of which nobody knows here how many turns they have; random numbers; routines that magnify
rounding, or whose kernel is a user's. The choice depends on what the process has done so far, and never on what an
earlier one has left on disk: a run that is repeated chooses alike.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from numtape.config import Settings

if TYPE_CHECKING:
    from numtape.tape.lower import Lowered
    from numtape.tape.trace import Node

MAX_BYTES = 1 << 22
"""With more in all its values a program is compiled at once."""
ASSIGNED = [False]
"""Whether any Variable of the process was assigned, saved or restored: then what follows is a run to be repeated."""


def interprets(lowered: Lowered, node: Node, is_recorded: bool) -> bool:
    """Whether a program runs on the interpreter now; `is_recorded` says that a function is being recorded."""
    if Settings.tier != "auto":
        return Settings.tier == "reference"
    if lowered.interpreted or ASSIGNED[0] or is_recorded:
        return False
    if threading.current_thread() is not threading.main_thread():
        return False
    instructions = lowered.program.instructions
    if sum(i.type.nbytes for i in instructions) > MAX_BYTES or any(i.op.at_once for i in instructions):
        return False
    return not any(n.of_function for n in node.path())
