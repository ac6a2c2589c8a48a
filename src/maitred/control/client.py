"""Asking a running master, from another process. Blocking."""

from __future__ import annotations

import json
import socket
from typing import Any, Final

from maitred.errors import NoMaster, UsageError

from .commands import encode

TIMEOUT: Final = 10.0


def ask(path: str, command: str) -> dict[str, Any]:
    """
    Ask the master on control socket *path* and return its answer.

    Raises:
        NoMaster: Nobody answers there.
        UsageError: The master refuses, and says why.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(path)
            sock.sendall(encode({"command": command}))
            with sock.makefile("rb") as lines:
                line = lines.readline()
    except OSError as exc:
        raise NoMaster(path, exc.strerror or str(exc)) from exc
    if not line:
        raise NoMaster(path, "it closed without an answer; are you its user?")
    answer: dict[str, Any] = json.loads(line)
    if not answer.pop("ok"):
        raise UsageError(answer["error"])
    return answer
