"""
A service manager for tests: what systemd does for a unit with Type=notify, Restart=
and FileDescriptorStoreMax=, in a thread.

Invariant: it holds what it was asked to hold until it is closed, and gives it to every
next start of the service under the name it came with, from descriptor 3 on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Self

from driver import wait_until

EXEC = """
import fcntl, os, sys
numbers = [int(text) for text in sys.argv[1].split(",") if text]
copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3 + len(numbers)) for fd in numbers]
for fd in numbers:
    os.close(fd)
for index, fd in enumerate(copies):
    os.dup2(fd, 3 + index)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""
"Passes the descriptors named first as systemd does, then is the command that follows."


class Manager:
    """Listens to one service, and holds its descriptors."""

    def __init__(self, directory: Path, *, abstract: bool = False) -> None:
        """Listen in *directory*, or on an *abstract* address of the same name."""
        path = str(directory / "notify.sock")
        self.address = "@" + path if abstract else path
        self.heard: list[list[str]] = []
        self.held: list[tuple[str, socket.socket]] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(self.address.replace("@", "\0", 1))
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
            ours.sendto(b"", self.address.replace("@", "\0", 1).encode())
        self._thread.join()
        self._sock.close()
        for _, sock in self.held:
            sock.close()

    @property
    def environment(self) -> dict[str, str]:
        """Return what a service has in its environment, besides what it is passed."""
        return {
            "NOTIFY_SOCKET": self.address,
            "LISTEN_FDS": str(len(self.held)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in self.held),
        }

    def launcher(self) -> dict[str, Any]:
        """Return how ``driver.Server`` starts a service with all that is held."""
        numbers = [sock.fileno() for _, sock in self.held]
        return {
            "through": [sys.executable, "-c", EXEC, ",".join(map(str, numbers))],
            "pass_fds": numbers,
            "env": self.environment,
        }

    def wait_for(self, *lines: str, times: int = 1) -> list[str]:
        """Wait until all of *lines* were sent together, *times* times."""

        def found() -> list[str] | None:
            those = [said for said in self.heard if set(lines) <= set(said)]
            return those[times - 1] if len(those) >= times else None

        said: list[str] = wait_until(f"the manager hears {lines}", found)
        return said

    def _listen(self) -> None:
        while True:
            data, numbers, _, _ = socket.recv_fds(self._sock, 65536, 16)
            if not data:
                return
            lines = data.decode().split("\n")
            said = dict(line.split("=", 1) for line in lines)
            name = said.get("FDNAME", "stored")
            if "FDSTORE" in said:
                self.held += [(name, socket.socket(fileno=fd)) for fd in numbers]
            elif "FDSTOREREMOVE" in said:
                for entry in [e for e in self.held if e[0] == name]:
                    self.held.remove(entry)
                    entry[1].close()
            else:
                for fd in numbers:
                    os.close(fd)
            self.heard.append(lines)


def refusals(address: tuple[str, int] | str, stop: threading.Event) -> list[str]:
    """Connect again and again until *stop*; return each time it was refused."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    found = []
    while not stop.is_set():
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(5.0)
            try:
                sock.connect(address)
            except OSError as exc:
                found.append(repr(exc))
            with contextlib.suppress(OSError):
                stop.wait(0.002)
    return found
