"""
What an operator can ask of a running master, once, in one table. Pure.

A request is one line of JSON, ``{"command": "status"}``; the answer ends with a line
``{"ok": true, ...}`` or ``{"ok": false, "error": "a sentence"}``. Before it, while
something takes its time, there may be lines ``{"progress": "a sentence"}``, and empty
ones, ``{}``, which say that the master is still there. A failure that an application
explains has a ``traceback`` too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from maitred.errors import UsageError


class Command(NamedTuple):
    """One line of COMMANDS."""

    about: str


COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "status": Command("what the master and each worker are doing"),
        "reload": Command("start a new generation of workers, wait until it serves"),
        "upgrade": Command("become the program that is on disk now"),
    }
)


def encode(value: Mapping[str, Any]) -> bytes:
    """Make one line of *value*."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def read_request(line: bytes) -> str:
    """
    Give the command that *line* asks for.

    Raises:
        UsageError: It asks for nothing we know.
    """
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise UsageError("a request is one line of JSON") from exc
    command = request.get("command") if isinstance(request, dict) else None
    if not isinstance(command, str) or command not in COMMANDS:
        raise UsageError(
            f"unknown command {command!r}; known are: {', '.join(COMMANDS)}"
        )
    return command
