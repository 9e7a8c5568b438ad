"""`Ways`: the ways through a function that were recorded for one signature, and how a call takes one."""

from __future__ import annotations

import linecache
import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from numtape.config import Settings
from numtape.functions.direct import Direct, begin
from numtape.functions.recording import (
    UNKNOWN,
    Argument,
    Array,
    Drawn,
    GaveUp,
    Look,
    Recorder,
    Segment,
    as_result,
    nothing,
)
from numtape.functions.replay import Replay
from numtape.functions.signature import filled, leaves
from numtape.tape.explain import line_of
from numtape.tape.pack import Pack
from numtape.tape.tensor import Tensor, buffer_of
from numtape.tape.trace import STATE, WATCHES
from numtape.tape.variable import Variable

MAX_WAYS = 64
"""So many ways through a function are kept for a signature; with more, it runs as plain Python."""
FREQUENT = 10
"""After so many calls in a row that began a new signature each, a warning says so."""


class Tally:
    """What the recordings of one function have in common."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.turn = threading.RLock()
        """Who changes Variables, or records and then puts them back, holds it; taken behind the lock."""
        self.calls = 0
        self.count = 0
        """How often the function was recorded."""
        self._begun: deque[int] = deque(maxlen=FREQUENT)
        self._last: Any = ()

    def begin(self, name: str, key: Any) -> None:
        """Note that a call begins a new signature."""
        self._begun.append(self.calls)
        if len(self._begun) == FREQUENT and self._begun[-1] - self._begun[0] == FREQUENT - 1:
            self._begun = deque(maxlen=1)  # once is enough
            pairs = [pair for pair in zip(leaves(self._last), leaves(key), strict=False) if pair[0] != pair[1]]
            differences = "".join(f": {path} was {old}, and is now {now}" for (path, old), (_, now) in pairs[:1])
            warnings.warn(
                f"nt.function: each of the last {FREQUENT} calls of {name} was recorded anew, as arguments were of "
                f"another kind{differences}. Give numbers that change as tensors, batches in one shape, and the same "
                "objects at each call",
                stacklevel=4,
            )
        self._last = key


class Ways:
    """What was recorded of a function for one signature: a tree of segments."""

    def __init__(self, function: Callable[..., Any], tally: Tally) -> None:
        self._function = function
        self._tally = tally
        self._lock = tally.lock
        self._root: Segment | None = None
        self._direct: Direct | None = None
        """The tree's root for calls outside of tapes, made at the first of them."""
        self.count = 0
        """How often it was recorded."""
        self.unrolled: dict[tuple[str, int], str] = {}
        """Loops over tensors that were recorded turn by turn, by file and line, and why."""
        self._packs: list[tuple[Pack, int]] = []
        """What the recordings assign, and how many values they know of."""
        self._is_first = False
        """Whether the function's first call was of this signature: any way through it may then create Variables."""
        self._plain = False
        """Whether there are too many ways through it."""
        self._has_rules = False
        """Whether gradients lead through rules in Python, which see values of their own call alone, or to Variables in
        turns that are not recorded."""
        self._reads_assigned = False
        """Whether Python numbers depend on what the call has assigned before."""

    def run(self, args: Any, kwargs: Any, tensors: Sequence[Tensor]) -> Any:
        """Call the function with arguments whose tensors are these."""
        for pack, count in self._packs:
            if len(pack.types) != count:  # an optimizer got more Variables
                self._root, self._direct, self._packs = None, None, []
                break
        interprets = Settings.tier == "reference"
        if self._direct is not None and not STATE.tapes and not WATCHES and not interprets:
            found = self._direct(tensors)
            if found is not UNKNOWN:
                return found
        for _ in range(MAX_WAYS):
            if self._plain or (self._has_rules and STATE.tapes):
                break
            count = self.count
            root = self._root
            if root is not None:
                if STATE.tapes or WATCHES or interprets or (direct := self.direct()) is None:
                    found = Replay(tensors).run(root)
                else:
                    found = direct(tensors)
                if found is not UNKNOWN:
                    return found
            with self._lock:
                if self.count == count and not self.record((args, kwargs), tensors):
                    break  # else this thread has recorded, or another meanwhile
        args, kwargs = filled((args, kwargs), tensors)
        return as_result(self._function(*args, **kwargs))

    def direct(self) -> Direct | None:
        """The tree's root for calls outside of tapes; None if only a replay does what was recorded."""
        with self._lock:
            if self._direct is None and self._root is not None and not (self._plain or self._reads_assigned):
                self._direct = begin(self._root, self._tally.turn)
            return self._direct

    def program(self, arguments: Any, tensors: Sequence[Any]) -> Direct:
        """The function as one program; ValueError if it is not."""
        with self._lock:
            if self._root is None:
                self.record(arguments, tensors)
            direct = self.direct()
        if direct is None or direct.look is not None:
            look = self._root.look if self._root else None
            place = "{}:{}".format(*line_of(look.code, look.lasti)) if look else "somewhere"
            raise ValueError(f"{self._function.__name__}: cannot be bound, since Python looks at a value at {place}")
        if not direct.in_place:
            direct = begin(direct.segment, self._tally.turn, keeps_places=True)
        if not direct.in_place:
            name = self._function.__name__
            raise ValueError(f"{name}: cannot be bound, since an optimizer's state does not stay in its memory")
        return direct

    def record(self, arguments: Any, tensors: Sequence[Any], looks: bool = True) -> bool:
        """Record the way that the function goes with these arguments; whether it was done.

        It is not if the function does what only Python can repeat, or if it looks at values and is not to.
        """
        around = STATE.trace.recorder
        # To record may run what a function around has recorded so far, in which packs stay the slots that they are.
        packs = [] if around is None else [(pack, pack.state()) for pack in around.trace.packs]
        try:
            with self._tally.turn:
                recorder, segments = self._rehearse(arguments, tensors, looks)
        except GaveUp as reason:
            if not reason.for_good and around is not None:
                raise  # so does who calls
            self._plain = self._plain or (looks and reason.for_good)
            return False
        except RecursionError:
            raise
        except Exception:
            if around is not None:
                # Who calls may catch this: what was looked at would have to be in its recording.
                around.give_up(for_good=False)
            raise
        finally:
            for pack, state in packs:
                if len(pack.types) == len(state[1]):  # and has not got more values
                    pack.restore(state)
        self._is_first = self._is_first or self._tally.count == 0
        self.count += 1
        self.unrolled |= recorder.unrolled
        self._tally.count += 1
        self._has_rules = self._has_rules or bool(recorder._detours) or recorder.hides_reads
        self._reads_assigned |= any(segment.look is not None and segment.look.view is nothing for segment in segments)
        packed = {id(pack): (pack, len(slots)) for segment in segments for pack, slots in segment.packed}
        if any(len(pack.types) != count for pack, count in self._packs):
            self._root = None  # what was known of an optimizer does not hold for its new Variables
            self._packs = []
        self._packs = [*({id(pack): (pack, count) for pack, count in self._packs} | packed).values()]
        self._keep(segments)
        self._direct = None
        return True

    def _rehearse(self, arguments: Any, tensors: Sequence[Any], looks: bool) -> tuple[Recorder, list[Segment]]:
        """Run the function once to see what it does; twice if it creates Variables."""
        # Handles of their own, so that the function's tensors are told apart from those it captures.
        own = [Tensor(t._type, buffer_of(t)) for t in tensors]
        args, kwargs = filled(arguments, own)
        recorder = Recorder(own, self._is_first or self._tally.count == 0, looks)
        segments = recorder.rehearse(lambda: self._function(*args, **kwargs))
        if created := recorder.created:
            around = recorder.around
            if around is not None:
                # What it puts back has to have the new values as well; it is recorded again with them.
                known = around.packs_before
                around.created += [c for c in created if id(getattr(c[0], "_pack", None)) in known]
            recorder = Recorder(own, False, looks)
            segments = recorder.rehearse(lambda: self._function(*args, **kwargs))
        return recorder, segments

    def _keep(self, segments: Sequence[Segment]) -> None:
        """Put the segments of one way into the tree."""
        for segment, following in pairwise(segments):
            segment.following[segment.look.seen] = following  # type: ignore[union-attr]
        at = self._root
        for segment in segments:
            if at is None or not alike(at, segment):
                self._root = segments[0]  # its Python goes another way than it did
                return
            at.kept |= segment.kept
            look = segment.look
            if look is None:
                return
            if look.seen not in at.following:
                at.following[look.seen] = segment.following[look.seen]
                self._count_ways(look)
                return
            at = at.following[look.seen]

    def _count_ways(self, look: Look) -> None:
        if self._root is not None and ways(self._root) > MAX_WAYS:
            self._plain = True
            filename, line = line_of(look.code, look.lasti)
            text = linecache.getline(filename, line).strip()
            warnings.warn(
                f"nt.function: {self._function.__name__} went more than {MAX_WAYS} ways, as values decided at "
                f"{filename}:{line} ({text}); from here on it runs as plain Python",
                stacklevel=6,
            )


def ways(segment: Segment) -> int:
    """How many ways lead through a tree."""
    count, open_ = 0, [segment]
    while open_:
        segment = open_.pop()
        open_ += segment.following.values()
        count += not segment.following
    return count


def alike(a: Segment, b: Segment) -> bool:
    """Whether two segments were recorded by the same Python; numbers may differ, and are those of the first."""
    return bool(
        a.instructions == b.instructions
        and len(a.sources) == len(b.sources)
        and all(m == n and _same_source(x, y) for (m, x), (n, y) in zip(a.sources, b.sources, strict=True))
        and [(id(v), slot) for v, slot, _ in a.assigned] == [(id(v), slot) for v, slot, _ in b.assigned]
        and [(id(pack), slots) for pack, slots in a.packs] == [(id(pack), slots) for pack, slots in b.packs]
        and (a.look and (a.look.slot, a.look.view)) == (b.look and (b.look.slot, b.look.view))
    )


def _same_source(x: Any, y: Any) -> bool:
    if x is y:
        return True
    if type(x) is not type(y) or isinstance(x, Variable):
        return False
    if isinstance(x, Drawn):
        return x.owner is y.owner and x.type is y.type
    if isinstance(x, Argument):
        return bool(x.number == y.number)
    a, b = (s.tensor() if isinstance(s, Array) else s for s in (x, y))
    return a._type is b._type and buffer_of(a).array.tobytes() == buffer_of(b).array.tobytes()
