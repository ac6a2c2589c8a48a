"""Asking a running master, from another process. Blocking."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any, Final

from maitred.config import NOWHERE
from maitred.errors import CommandFailed, NoMaster, UsageError

from .commands import encode

TIMEOUT: Final = 10.0
"Seconds between two lines, of which those that say nothing are the most frequent."


def ask(
    path: str,
    command: str,
    progress: Callable[[dict[str, Any]], None] = lambda _: None,
    **arguments: Any,
) -> dict[str, Any]:
    """
    Send *command* to the master on control socket *path* and return its answer.

    Args:
        path: The control socket.
        command: One of COMMANDS.
        progress: Called with each line before the answer of a command that takes its
            time: it has `progress`, a sentence, or `worker`, the state of one.
        arguments: The command's arguments; one that is None counts as left out.

    Returns:
        The fields of the answer, without `ok`.

    Raises:
        NoMaster: Nobody answers there, or the answer is not complete.
        UsageError: The master refuses the command, and the error says why; or *path*
            is that of a service without control socket.
        CommandFailed: The master has tried, and the error says why that failed.
    """
    if path == NOWHERE:
        raise UsageError(
            "a service with --control none can be asked nothing; signals to its master"
            " steer it: HUP reloads, USR2 upgrades, TTIN and TTOU scale, TERM stops"
        )
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(path)
            sock.sendall(encode({"command": command, **arguments}))
            with sock.makefile("rb") as lines:
                last: dict[str, Any] = {}
                # To the end, because then the master has closed its socket, too.
                for line in lines:
                    last = json.loads(line)
                    # Not an empty line, because that only says that the master lives.
                    if last and "ok" not in last:
                        progress(last)
                if "ok" in last:
                    return _judged(last)
    except OSError as exc:
        raise NoMaster(path, exc.strerror or str(exc)) from exc
    raise NoMaster(path, "it closed without an answer")


def _judged(answer: dict[str, Any]) -> dict[str, Any]:
    if answer.pop("ok"):
        return answer
    if "traceback" in answer:
        raise CommandFailed(answer["error"], answer["traceback"])
    raise UsageError(answer["error"])
