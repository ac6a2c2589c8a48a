"""
Listening sockets that whoever started us has opened: socket activation.

    LISTEN_FDS      how many there are; the first has the number 3
    LISTEN_PID      for which process they are
    LISTEN_FDNAMES  their names, with colons between (sd_listen_fds(3))

systemd and ``maitred keep`` pass them in this way, and give them again to the next
master when this one dies. Each is for the ``--bind`` of its place (``socket_places``),
or for that of its number.

Invariant: every socket that was passed is taken by a bind or closed. One that we only
held open would be a black hole: its backlog takes connections that nobody accepts.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from maitred import logs

from .socket_places import Place, is_dual, place_of, places_of, written

FAMILIES: Final = frozenset({socket.AF_INET, socket.AF_INET6, socket.AF_UNIX})
FIRST: Final = 3
"The number of the first (SD_LISTEN_FDS_START)."
VARIABLES: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
NAME: Final = "maitred-"
"How the name of each listener that a manager holds for us begins."
ODD: Final = re.compile(r"[^!-9;-~]")
"What such a name may not have: spaces, colons, and what is not ASCII (sd_notify(3))."


@dataclass(slots=True)
class Inherited:
    """
    The sockets that were passed to us and that no bind has taken yet.

    Args:
        sockets: With the name that each was passed under.
        taken: With the bind that has taken each.
    """

    sockets: list[tuple[str, socket.socket]] = field(default_factory=list)
    taken: list[tuple[str, socket.socket]] = field(default_factory=list)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Inherited:
        """Return the sockets that *environment* names; remove its variables."""
        count, pid, names = (environment.pop(name, "") for name in VARIABLES)
        if pid != str(os.getpid()) or not count.isdecimal():
            return cls()
        found = cls()
        labels = dict(enumerate(names.split(":")))
        for index in range(int(count)):
            if (sock := _own(FIRST + index)) is not None:
                found.sockets.append((labels.get(index, ""), sock))
        return found

    def release(self, number: int) -> None:
        """Release descriptor *number* to the caller, if it is one of ours."""
        for entry in self.sockets:
            if entry[1].fileno() == number:
                self.sockets.remove(entry)
                entry[1].detach()
                return

    def knows(self, bind: str) -> bool:
        """Return whether one was stored for *bind*, whose port is whichever is free."""
        return any(name.endswith(_mark(bind)) for name, _ in self.sockets)

    def take(
        self, family: socket.AddressFamily, address: Any, bind: str
    ) -> socket.socket | None:
        """
        Return the socket that listens at *address*, which is the caller's from now on.

        Args:
            family: Of *address*.
            address: With port 0 for any port.
            bind: The option that asks, and its text. If its port is 0, a socket that
                was stored for it comes before others: a manager gives them in any
                order.
        """
        wanted = place_of(family, address)
        found = [entry for entry in self.sockets if wanted in _all_places(entry[1])]
        if not found:
            return None
        # One that listens there alone, before one that listens elsewhere as well.
        entry = min(
            found,
            key=lambda each: (not each[0].endswith(_mark(bind)), is_dual(each[1])),
        )
        self.sockets.remove(entry)
        self.taken.append((bind, entry[1]))
        entry[1].setblocking(False)
        return entry[1]

    def taker(self, family: socket.AddressFamily, address: Any) -> str | None:
        """Return the bind that has taken a socket which listens at *address* too."""
        wanted = place_of(family, address)
        takers = [bind for bind, sock in self.taken if wanted in places_of(sock)]
        return takers[0] if takers else None

    def close_rest(self) -> Iterator[str]:
        """Close what no bind has taken; yield the name of each."""
        for name, sock in self.sockets:
            logs.master.warning(
                "inherited descriptor %d (%s) is closed: no --bind is for it",
                sock.fileno(),
                where(sock) or "no socket that listens",
            )
            sock.close()
            yield name
        self.sockets = []


def where(sock: socket.socket) -> str:
    """Return the address of *sock*; empty if it does not listen."""
    return written(sock) if _listens(sock) else ""


def name_of(sock: socket.socket, bind: str = "") -> str:
    """
    Return the name under which a manager holds *sock*, so that it is known again.

    Args:
        sock: It listens.
        bind: What it was opened for, where the address does not say that: port 0.
    """
    return ODD.sub("_", f"{NAME}{where(sock)}") + _mark(bind)


def _mark(bind: str) -> str:
    return f"~{ODD.sub('_', bind)}" if bind else ""


def _own(number: int) -> socket.socket | None:
    try:
        os.set_inheritable(number, False)
        return socket.socket(fileno=number)
    except OSError as exc:
        text = "inherited descriptor %d is not used: %s"
        logs.master.warning(text, number, exc.strerror)
        return None


def _listens(sock: socket.socket) -> bool:
    return (
        sock.family in FAMILIES
        and sock.type == socket.SOCK_STREAM
        and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    )


def _all_places(sock: socket.socket) -> set[Place]:
    """Return where *sock* listens; for a bind whose port is free, port 0 as well."""
    if not _listens(sock):
        return set()
    places = places_of(sock)
    return places | {each._replace(port=0) for each in places}
