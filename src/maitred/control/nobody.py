"""
No control socket at all (``--control none``), for where no file can be made.

Whoever steers such a service does it by signals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from maitred.config import NOWHERE

from .server import Answer, ControlServer, Lines


class NoControl:
    """Stands where a ``ControlServer`` would: nobody can ask."""

    def serve(self) -> None:
        """Return at once: there is nothing to accept."""

    async def fall_silent(self) -> None:
        """Return at once: nobody is being answered."""

    def state(self, _own: Callable[[int], int]) -> dict[str, Any]:
        """Return the state for a successor, which says that there is no socket."""
        return {"path": NOWHERE, "sock": -1, "inode": 0, "patient": []}

    def resume(self, _fd: int, command: str, _told: Mapping[str, Any] | Lines) -> None:
        """Raise AssertionError, because nobody can have asked *command*."""
        raise AssertionError(f"{command} was asked of nobody")

    async def finish(self) -> None:
        """Return at once: nobody waits for an answer."""

    def close(self) -> None:
        """Return at once: there is no file."""


def open_control(
    path: str, answer: Answer, *, group: int | None = None, user: str = ""
) -> ControlServer | NoControl:
    """
    Open the control socket on *path*; arguments as for ``ControlServer``.

    With ``none`` as *path*, return an object on which nobody can ask anything.

    Raises:
        SystemRefused: Another master has the socket, or it cannot be made.
    """
    if path == NOWHERE:
        return NoControl()
    return ControlServer(path, answer, group=group, user=user)
