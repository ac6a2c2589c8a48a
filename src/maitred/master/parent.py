"""
All that a master knows of the keeper that started it (``maitred keep``).

    MAITRED_KEEPER  the number of our end of a socketpair
    we say          one byte, when every worker is ready: we are no failure
    we hear         the end of file, when the keeper is gone

Invariant: only the process that the keeper started has this descriptor. It survives
exec, for then that process goes on as another program; workers never inherit it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

VARIABLE: Final = "MAITRED_KEEPER"
READY: Final = b"R"


class Parent:
    """The keeper, if there is one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Take over the descriptor that *environment* names, if it names one."""
        self._sock: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        number = environment.get(VARIABLE, "")
        if not number.isdecimal():
            return
        with contextlib.suppress(OSError):  # another's, and it is not open here
            self._sock = socket.socket(fileno=int(number))
            self._sock.setblocking(False)

    @property
    def exists(self) -> bool:
        """Whether a keeper has started us."""
        return self._sock is not None

    def watch(
        self, loop: asyncio.AbstractEventLoop, on_gone: Callable[[], None]
    ) -> None:
        """Register *on_gone*, called once when the keeper is gone."""
        if self._sock is not None:
            self._loop = loop
            loop.add_reader(self._sock.fileno(), self._on_end, on_gone)

    def say_ready(self) -> None:
        """Send the keeper that the service serves."""
        if self._sock is not None:
            with contextlib.suppress(OSError):  # full or gone: then it knows enough
                self._sock.send(READY)

    def close(self) -> None:
        """Stop watching, and close the descriptor."""
        if self._sock is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def _on_end(self, on_gone: Callable[[], None]) -> None:
        self.close()
        on_gone()


def was_ready(ours: socket.socket) -> bool:
    """Return whether the master at the other end, which is gone, had been ready."""
    with contextlib.suppress(OSError):
        return ours.recv(len(READY), socket.MSG_DONTWAIT) == READY
    return False
