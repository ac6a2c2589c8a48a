"""
What a service manager is told: systemd's notification socket, without its library.

    READY=1      every worker is ready, at the start or after a reload
    RELOADING=1  a new generation is on its way; with the time, for Type=notify-reload
    STOPPING=1   the service is leaving
    STATUS=      the same for people
    MAINPID=     which process is the service
    WATCHDOG=1   our loop turns; said twice in each WATCHDOG_USEC
    FDSTORE=1    a listener: the manager holds it and gives it to the next master

Each datagram is lines of this kind (sd_notify(3)); the listener rides along in
SCM_RIGHTS.

Invariants: nothing here waits. What the manager has no room for is said again soon, in
order. Who has no manager says nothing.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Final

from maitred import logs
from maitred.acceptor.listeners import Listener
from maitred.acceptor.socket_activation import NAME, name_of

AGAIN: Final = 0.1
"Seconds until what the manager had no room for is said again."
MOST_UNSAID: Final = 64
"Datagrams that wait for room; the oldest goes first."
MANAGER: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"The environment in which a manager says how it listens: to us, not to the workers."


class Phase(Enum):
    """Where the service is, as the manager is told it."""

    READY = "READY=1"
    RELOADING = "RELOADING=1"
    STOPPING = "STOPPING=1"


class Notifier:
    """Sends what the service manager is to know, if there is one."""

    def __init__(
        self, environment: Mapping[str, str], *, main: bool, pid: int | None = None
    ) -> None:
        """
        Read in *environment* how to reach the manager; needs a running loop.

        Args:
            environment: The environment of this process.
            main: Whether this is the process that the manager should watch; if not,
                it is our keeper.
            pid: The number of this process; None: it is asked for.
        """
        self._loop = asyncio.get_running_loop()
        self._unsaid: deque[tuple[bytes, Listener | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._phase: Phase | None = None
        self._pid = os.getpid() if pid is None else pid
        self._main = main
        self._address = address_of(environment.get("NOTIFY_SOCKET", ""))
        self._sock: socket.socket | None = None
        self._beat: asyncio.TimerHandle | None = None
        if not self._address:
            return
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        every = watchdog(environment, self._pid)
        if every is not None:
            self._show_life(every)

    def become(self, phase: Phase, status: str, *, again: bool = False) -> None:
        """Send that the service is in *phase*, if that is new or *again*."""
        if phase is self._phase and not again:
            return
        self._phase = phase
        lines = [phase.value, f"STATUS={status}"]
        if phase is Phase.RELOADING:
            lines.append(f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        elif phase is Phase.READY and self._main:
            lines.append(f"MAINPID={self._pid}")
        self._say(*lines)

    def store(self, listener: Listener) -> None:
        """Ask the manager to hold *listener* and to give it to the next master."""
        if self._sock is None:
            return
        listener.kept = True
        name = name_of(listener.sock, listener.bind)
        # It closes what polls as dead; a listener does when somebody shuts it down.
        self._say("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", listener=listener)

    def forget(self, name: str) -> None:
        """Ask the manager to close what it holds for us under *name*."""
        if name.startswith(NAME):
            self._say("FDSTOREREMOVE=1", f"FDNAME={name}")

    def close(self) -> None:
        """Send what is left, if there is room, and close the socket."""
        self._flush()
        for timer in (self._timer, self._beat):
            if timer is not None:
                timer.cancel()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _show_life(self, every: float) -> None:
        self._say("WATCHDOG=1")
        self._beat = self._loop.call_later(every, self._show_life, every)

    def _say(self, *lines: str, listener: Listener | None = None) -> None:
        if self._sock is None:
            return
        if len(self._unsaid) == MOST_UNSAID:
            self._unsaid.popleft()
        self._unsaid.append(("\n".join(lines).encode(), listener))
        self._flush()

    def _flush(self) -> None:
        """Send what is unsent, in order, while the manager has room."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._unsaid and self._sock is not None:
            text, listener = self._unsaid[0]
            try:
                self._send(self._sock, text, listener)
            except BlockingIOError:
                self._timer = self._loop.call_later(AGAIN, self._flush)
                return
            except OSError as exc:
                # It may be back by the time we have more to say.
                logs.master.warning(
                    "the service manager was not told %s: %s",
                    text.decode().partition("\n")[0],
                    exc.strerror,
                )
            self._unsaid.popleft()

    def _send(
        self, sock: socket.socket, text: bytes, listener: Listener | None
    ) -> None:
        carried = []
        if listener is not None:
            if listener.sock.fileno() < 0:
                return  # closed meanwhile: there is nothing to hold any more
            numbers = array.array("i", [listener.sock.fileno()])
            carried.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers))
        sock.sendmsg([text], carried, 0, self._address)


def address_of(text: str) -> str:
    """Return the address that NOTIFY_SOCKET names; empty: there is none to use."""
    if text.startswith("@"):  # abstract (unix(7))
        return "\0" + text[1:]
    if text and not text.startswith("/"):
        logs.master.warning(
            "NOTIFY_SOCKET %s is neither a path nor an abstract address: the service"
            " manager is told nothing",
            text,
        )
        return ""
    return text


def watchdog(environment: Mapping[str, str], pid: int) -> float | None:
    """Return how often, in seconds, process *pid* has to beat; None: never."""
    every = environment.get("WATCHDOG_USEC", "")
    whose = environment.get("WATCHDOG_PID", "")
    if not every.isdecimal() or int(every) == 0 or whose not in {"", str(pid)}:
        return None
    return int(every) / 1e6 / 2
