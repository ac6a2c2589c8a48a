"""
Reaping orphans, where the master is process 1, as in a container without an init.

Whoever is process 1 inherits the children of the dead: what an application has started
and did not wait for. Unreaped they fill the table of processes.

Invariant: no status that somebody waits for is taken away. Workers and other processes
of ours are reaped by who started them.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Final

from .processes import reap_orphans

AGAIN: Final = 0.2
"Seconds until another try, where a process of ours has ended and is not reaped yet."


class Orphans:
    """Reaps orphans as long as the loop runs."""

    def __init__(self) -> None:
        """Start reaping, if this is process 1; needs a running loop."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = os.getpid() == 1
        if self._is_open:
            self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
            self._reap()

    def close(self) -> None:
        """Stop reaping."""
        if self._timer is not None:
            self._timer.cancel()
        if self._is_open:
            self._loop.remove_signal_handler(signal.SIGCHLD)

    def _reap(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not reap_orphans():
            self._timer = self._loop.call_later(AGAIN, self._reap)
