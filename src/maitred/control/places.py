"""
Where control sockets are: a file for each service, in a directory of its user's.

Invariant: nothing is asked in a directory that somebody else, other than root, could
have filled.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from collections.abc import Iterator
from typing import Final

from maitred.config import NAME, check_name
from maitred.errors import UsageError

FILE: Final = re.compile(rf"control(?:-({NAME.pattern}))?\.sock")
"What the socket of a service is called, with its name or without."
SYSTEM: Final = "/run/maitred"
ONLY: Final = "MAITRED_RUNTIME_DIR"
"The variable that names the one directory to use instead of all others."
PATIENCE: Final = 1.0
"Seconds for a master to have us in its backlog."


def path_of(name: str = "") -> str:
    """
    Return the path of the control socket that a new service called *name* makes.

    Raises:
        UsageError: No service can have this *name*.
    """
    check_name(name)
    file = f"control-{name}.sock" if name else "control.sock"
    return os.path.join(directories()[0], file)


def directories() -> tuple[str, ...]:
    """Return the directories with sockets of services; ours is made in the first."""
    if only := os.environ.get(ONLY):
        return (only,)
    # Checked by ``is_safe`` before it is used, because anybody may make it in /tmp.
    own = f"/tmp/maitred-{os.geteuid()}"  # noqa: S108
    found = (SYSTEM,) if os.geteuid() == 0 else (own, SYSTEM)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        found = (f"{runtime}/maitred", *found)
    return found


def is_safe(directory: str) -> bool:
    """
    Return whether *directory* is root's or ours, and others cannot replace its files.

    Raises:
        OSError: There is no such directory, or it may not be looked at.
    """
    status = os.stat(directory)
    # With the sticky bit, as in /tmp, others may add files but not replace ours.
    others = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
    return status.st_uid in {0, os.geteuid()} and not others


def services() -> dict[str, str]:
    """Return the control sockets on which somebody answers us, by service name."""
    found: dict[str, str] = {}
    for name, path in _sockets():
        # Left out where we may not ask, because others may have services of their own.
        with contextlib.suppress(OSError):
            if name not in found and answers(path):
                found[name] = path
    return found


def find(name: str = "") -> str:
    """
    Return the control socket of the service called *name*.

    Without a name it is that of the service which has none, or else of the only one.
    Where nobody answers, it is the path at which the service would be.

    Raises:
        UsageError: Several services run and *name* is empty, or *name* is no name.
    """
    check_name(name)
    running = services()
    if name in running:
        return running[name]
    if running and not name:
        if len(running) == 1:
            return next(iter(running.values()))
        raise UsageError(
            "several services are running, say which with --name:"
            f" {', '.join(sorted(running))}"
        )
    # A path all the same, because connecting to it says why nobody answers.
    return dict(_sockets()).get(name) or path_of(name)


def answers(path: str) -> bool:
    """
    Return whether somebody listens on *path*; this connects to it.

    Raises:
        OSError: That cannot be known: we may not connect, or its backlog is full.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
    return True


def _sockets() -> Iterator[tuple[str, str]]:
    """Yield service name and path of each file that may be a control socket."""
    for directory in directories():
        try:
            entries = sorted(os.listdir(directory)) if is_safe(directory) else []
            is_shared = os.stat(directory).st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        except OSError:
            continue
        for entry in entries:
            path = os.path.join(directory, entry)
            match = FILE.fullmatch(entry)
            # Because others may add files to such a directory, as to /tmp. In one of
            # root's, a service that gave up root may own its socket.
            if match and (not is_shared or _is_trusted(path)):
                yield match[1] or "", path


def _is_trusted(path: str) -> bool:
    """Return whether the file at *path* is root's or our own user's."""
    try:
        return os.lstat(path).st_uid in {0, os.geteuid()}
    except OSError:
        return False
