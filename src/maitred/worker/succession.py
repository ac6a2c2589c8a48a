"""
Names that follow one another: a session whose cookie changes with each answer.

A signed cookie (Starlette's SessionMiddleware, Flask) is another one after each answer,
and each is claimed before it can be used. A browser sends the newest. The older names
of the session are released, so that it takes one place in the key table; but not at
once, because requests with them may be on their way, from another tab too.

    answered with a new name       the old one ends GRACE after its last use
    an ending name is used again   it stays: the client does not take over new names
    a new name is used             the session's others end GRACE after that

Invariants: a session has at most MOST names, and the one that was used or announced
last is among them. A name is of one session, the last that it was announced to.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

GRACE: Final = 10.0
"Seconds in which a request with an old name may still arrive."
MOST: Final = 8
"Names of one session; a page may have six requests under way, each answered anew."
MOST_SESSIONS: Final = 100_000
"Names remembered to belong to a session of several."


def call_later(seconds: float, call: Callable[[], None]) -> None:
    """Schedule *call* in the running event loop, after some *seconds*."""
    asyncio.get_running_loop().call_later(seconds, call)


class Names(dict[bytes, float]):
    """The names of one session, the last announced last, and when each ends."""

    def __init__(self) -> None:
        """Start with no name, and a client that takes over new ones."""
        # Whether the client keeps a name in spite of new ones.
        self.stays = False

    def end_others(self, name: bytes, at: float) -> list[bytes]:
        """Set the end of all but *name* to *at*, unless it is sooner; return those."""
        ending = [each for each, end in self.items() if each != name and end > at]
        self.update(dict.fromkeys(ending, at))
        return ending


class Successions:
    """The names of each session that has several; the old ones are released."""

    def __init__(
        self,
        release: Callable[[bytes], object],
        *,
        later: Callable[[float, Callable[[], None]], object] = call_later,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Start with no session.

        Args:
            release: Called with each name that has ended.
            later: Calls a function after some seconds.
            clock: Seconds, monotonic.
        """
        self._release = release
        self._later = later
        self._clock = clock
        self._names: OrderedDict[bytes, Names] = OrderedDict()
        self._ending: deque[tuple[float, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._names)

    def used(self, name: bytes) -> None:
        """Record that a request named its session *name*."""
        names = self._names.get(name)
        if names is None:
            return
        if names[name] < math.inf:  # in spite of the new one that it was answered with
            names[name] = math.inf
            names.stays = True
        elif not names.stays:
            self._end(names, name)
        elif name == next(reversed(names)):  # the client has taken over the newest
            names.stays = False
            self._end(names, name)

    def replaced(self, old: bytes, new: bytes) -> None:
        """Record that a request that named *old* is answered with the name *new*."""
        if new == old:
            return
        names = self._names.get(old) or Names()
        names.setdefault(old, math.inf)
        # It may be here already, because a cookie that says the same again in the same
        # second has the same signature; or be another session's, for the same reason.
        if (others := self._names.get(new)) is not None:
            del others[new]
            if others is not names:
                self._forget_single(others)
        names[new] = math.inf
        self._names[old] = self._names[new] = names
        if not names.stays:
            self._end(names, new, only=old)
        surplus = [each for each in names if each not in {old, new}]
        # The oldest ones, because a browser sends the newest.
        for each in surplus[: max(0, len(names) - MOST)]:
            self._finish(each)
        while len(self._names) > MOST_SESSIONS:
            name, names = self._names.popitem(last=False)
            del names[name]
            self._forget_single(names)

    def _end(self, names: Names, name: bytes, only: bytes | None = None) -> None:
        """Schedule the end of the others of *name*, or of *only* one of them."""
        at = self._clock() + GRACE
        if only is None:
            ending = names.end_others(name, at)
        else:
            names[only] = at
            ending = [only]
        if ending and not self._ending:
            self._later(GRACE, self._sweep)
        self._ending.extend((at, each) for each in ending)

    def _sweep(self) -> None:
        """Release what has ended, and schedule this for what has not."""
        now = self._clock()
        while self._ending and self._ending[0][0] <= now:
            at, name = self._ending.popleft()
            names = self._names.get(name)
            if names is not None and names[name] == at:
                self._finish(name)
        if self._ending:
            self._later(self._ending[0][0] - now, self._sweep)

    def _finish(self, name: bytes) -> None:
        """Release *name*, and remove it from its session."""
        names = self._names.pop(name)
        del names[name]
        self._forget_single(names)
        self._release(name)

    def _forget_single(self, names: Names) -> None:
        """Remove a name that is not one of several any more, unless it is to end."""
        if [*names.values()] == [math.inf]:
            del self._names[next(iter(names))]
