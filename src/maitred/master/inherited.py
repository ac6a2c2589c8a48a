"""
Listening sockets that whoever started us has opened: socket activation.

    LISTEN_FDS      how many there are; the first has the number 3
    LISTEN_PID      for which process they are
    LISTEN_FDNAMES  their names, with colons between (sd_listen_fds(3))

systemd and ``maitred keep`` pass them in this way, and give them again to the next
master when this one dies. Each is for the ``--bind`` of its address, or for that of
its number.

Invariant: every socket that was passed is taken by a bind or closed. One that we only
held open would be a black hole: its backlog takes connections that nobody accepts.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from maitred import logs

FIRST: Final = 3
"The number of the first (SD_LISTEN_FDS_START)."
VARIABLES: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


@dataclass(slots=True)
class Inherited:
    """
    The sockets that were passed to us and that no bind has taken yet.

    Args:
        sockets: With the name that each was passed under.
    """

    sockets: list[tuple[str, socket.socket]] = field(default_factory=list)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Inherited:
        """Own what *environment* says was passed to us; remove that from it."""
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
        """Leave descriptor *number* to the caller, if it is one of ours."""
        for entry in self.sockets:
            if entry[1].fileno() == number:
                self.sockets.remove(entry)
                entry[1].detach()
                return

    def take(self, family: socket.AddressFamily, address: Any) -> socket.socket | None:
        """Give the socket that listens on *address*; port 0 is any port."""
        for entry in self.sockets:
            sock = entry[1]
            if sock.family == family and _listens(sock) and _is_at(sock, address):
                self.sockets.remove(entry)
                sock.setblocking(False)
                return sock
        return None

    def close_rest(self) -> Iterator[str]:
        """Close what no bind has taken; give the name of each."""
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
    """Write the address of *sock*; empty if it does not listen."""
    if not _listens(sock):
        return ""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(address)}"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _own(number: int) -> socket.socket | None:
    try:
        os.set_inheritable(number, False)
        return socket.socket(fileno=number)
    except OSError as exc:
        text = "inherited descriptor %d is not used: %s"
        logs.master.warning(text, number, exc.strerror)
        return None


def _listens(sock: socket.socket) -> bool:
    return sock.type == socket.SOCK_STREAM and bool(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    )


def _is_at(sock: socket.socket, address: Any) -> bool:
    ours = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return bool(ours == address) and _is_socket(address)
    if address[1] == 0:
        return _host(ours) == _host(address)
    return _host(ours) == _host(address) and bool(ours[1] == address[1])


def _host(address: Any) -> tuple[Any, ...]:
    """Give host and scope, in which alone a link-local address means anything."""
    return (address[0].partition("%")[0], *address[3:])


def _is_socket(path: str) -> bool:
    """Say whether clients can still find the socket that was bound to *path*."""
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False
