"""
Saying that the key table is full, for sessions are lost then without anybody's fault.

Invariant: one line a minute at most, and none while nothing alive had to go.
"""

from __future__ import annotations

from typing import Final

from maitred import logs
from maitred.placement.keys import KeyTable

SAY_AGAIN: Final = 60.0
"Seconds between two lines."


class Evictions:
    """Warns when living keys are evicted from a key table."""

    def __init__(self, keys: KeyTable) -> None:
        """Start without a warning; *keys* is the table."""
        self._keys = keys
        self._said = 0
        self._say_after = 0.0

    def look(self, now: float) -> None:
        """Log a warning if keys were evicted, once a minute at most."""
        evicted = self._keys.evicted - self._said
        if not evicted or now < self._say_after:
            return
        self._said = self._keys.evicted
        self._say_after = now + SAY_AGAIN
        logs.master.warning(
            "the key table is full: %d sessions were forgotten, the least recently used"
            " first; %d are remembered, in %d bytes; raise --max-keys or"
            " --max-key-bytes, or lower --key-ttl",
            evicted,
            len(self._keys),
            self._keys.size,
        )
