"""
The keys that live in this worker, as far as the master has agreed.

A request whose key stands here is served; any other is given back, and comes again with
its key granted if it belongs here after all.

Invariant: a key is served here only while the master counts it as this worker's: what
is in use is told to the master again well before it would forget it, and what has not
been told for long is not ours any more.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MOST: Final = 100_000
"Keys remembered; one that was forgotten is granted again when it comes again."
TELL_AGAIN: Final = 0.25
TOO_LATE: Final = 0.5
"Parts of a key's time to live after which it is told again, or taken for lost."


class OwnKeys:
    """The keys that live here; those in use are claimed again and again."""

    def __init__(
        self,
        *,
        ttl: float,
        claim: Callable[[bytes, bool], object],
        release: Callable[[bytes], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Start with no key.

        Args:
            ttl: Seconds after which the master forgets a key that is not used.
            claim: Tells the master that a key lives here, and whether the application
                made it; the message is on its way when this returns.
            release: Tells the master that the session of a key is over.
            clock: Seconds, monotonic.
        """
        self._tell_again = ttl * TELL_AGAIN
        self._too_late = ttl * TOO_LATE
        self._claim = claim
        self._release = release
        self._clock = clock
        # When the master last heard of each key, and whether the application made it.
        self._told: OrderedDict[bytes, tuple[float, bool]] = OrderedDict()

    def grant(self, key: bytes) -> None:
        """Record that the master placed *key* here."""
        # What is known already may be the application's own: that is not overwritten.
        if key not in self._told:
            self._note(key, made=False)

    def made(self, key: bytes) -> None:
        """Claim *key*, which the application made, unless that was told lately."""
        told = self._told.get(key)
        if told is None or not told[1] or self._clock() - told[0] > self._tell_again:
            self._claim(key, True)
            self._note(key, made=True)

    def has(self, key: bytes) -> bool:
        """
        Return whether *key* is ours, and count this as a use.

        A use claims the key again once TELL_AGAIN of its time to live is over.
        """
        told = self._told.get(key)
        if told is None:
            return False
        age = self._clock() - told[0]
        # Because the master may have forgotten it, and placed it elsewhere by now.
        if age > self._too_late:
            del self._told[key]
            return False
        if age > self._tell_again:
            self._claim(key, told[1])
            self._note(key, made=told[1])
        return True

    def tell(self, which: Callable[[bytes], bool]) -> list[tuple[bytes, bool]]:
        """
        Return our keys that *which* selects, each with whether it was made here.

        The caller tells them to the master, who is taken to know them from now on.
        """
        now = self._clock()
        ours = [
            (key, made)
            for key, (told, made) in self._told.items()
            if now - told <= self._too_late and which(key)
        ]
        for key, made in ours:
            self._told[key] = now, made
        return ours

    def over(self, key: bytes) -> None:
        """Release *key*, whose session has ended."""
        self.revoke(key)
        self._release(key)

    def revoke(self, key: bytes) -> None:
        """Remove *key*: it is not ours any more."""
        self._told.pop(key, None)

    def _note(self, key: bytes, *, made: bool) -> None:
        self._told[key] = (self._clock(), made)
        self._told.move_to_end(key)
        if len(self._told) > MOST:
            self._told.popitem(last=False)
