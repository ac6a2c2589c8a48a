"""
What an operator can ask of a running master, once, in one table. Pure.

A request is one line of JSON, ``{"command": "move", "key": "ip=::1", "slot": 2}``; the
answer ends with a line ``{"ok": true, ...}`` or ``{"ok": false, "error": "..."}``.
Before it, while something takes its time, there may be lines ``{"progress": "..."}``,
a sentence each, ``{"worker": {...}}``, how one of them is, and empty ones, ``{}``,
which say that the master is still there. A failure that an application explains has a
``traceback`` too.

The command line, its help, the reference and the server are made from COMMANDS.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from maitred import logs
from maitred.errors import UsageError


class Level(enum.Enum):
    """The right that a command needs."""

    READ = "read-only"
    "what changes nothing and tells no secret"
    OPERATE = "operator"
    "everything"


class Argument(NamedTuple):
    """An argument of a command: a text or a number, perhaps one of ``choices``."""

    name: str
    about: str
    kind: type[str | int] = str
    optional: bool = False
    choices: tuple[str, ...] = ()


class Command(NamedTuple):
    """One line of COMMANDS. ``lasting``: it takes its time, and says how it goes."""

    about: str
    level: Level
    arguments: tuple[Argument, ...] = ()
    lasting: bool = False
    more: str = ""


class Request(NamedTuple):
    """A command and its arguments, without those that were left out."""

    command: str
    arguments: Mapping[str, Any] = MappingProxyType({})


KEY: Final = Argument(
    "key", "as `maitred keys` spells it, or the session's name as the client sends it"
)
SLOT: Final = Argument("slot", "number of a slot, from 0", int)

COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "status": Command(
            "Show what the master and each worker are doing.", Level.READ
        ),
        "whereis": Command(
            "Say which worker has a session.",
            Level.READ,
            (KEY,),
            more="Exit code 7 says that no worker has it. Before a name that begins"
            " with two hyphens, say --.",
        ),
        "keys": Command(
            "List the sessions in the key table, at most 1,000, the last used first.",
            Level.OPERATE,
            (Argument("prefix", "list only keys that begin so", optional=True),),
            more="Whoever knows a session's name may be taken for its client: this is"
            " for operators.",
        ),
        "move": Command(
            "Give a session to another worker.",
            Level.OPERATE,
            (KEY, SLOT),
            more="Its open connections follow, each at its next request; what the"
            " application remembers in the old worker stays there. Those that it can"
            " freeze follow at once, with their state.",
        ),
        "scale": Command(
            "Have more or fewer workers, and wait until they are there.",
            Level.OPERATE,
            (Argument("workers", "how many there are to be", int),),
            lasting=True,
            more="New workers fill new slots. If there are to be fewer, the last slots"
            " go: their workers drain as in a reload, and their sessions are placed"
            " anew.",
        ),
        "drain": Command(
            "Give a worker nothing new, and wait until it is empty.",
            Level.OPERATE,
            (SLOT,),
            lasting=True,
            more="Its sessions stay with it until they end, but those that can be"
            " frozen move; all other connections are given back, each between two"
            " requests. After the drain timeout you are told what is left, and it stays"
            " drained.",
        ),
        "undrain": Command(
            "Give a drained worker again what is new.", Level.OPERATE, (SLOT,)
        ),
        "machine": Command(
            "Have HAProxy send new sessions to other machines, or here again.",
            Level.OPERATE,
            (
                Argument(
                    "state",
                    "what --agent answers: drain, or ready",
                    choices=("drain", "ready"),
                ),
            ),
            more="The sessions that are here stay here. HAProxy hears of it with its"
            " next agent check, within a second.",
        ),
        "log-level": Command(
            "Log more or less from now on.",
            Level.OPERATE,
            (Argument("level", "how much to log", choices=logs.LEVELS),),
            more="The master does so at once; workers that are started from now on do"
            " too, so that a reload brings it to all.",
        ),
        "reload": Command(
            "Start a new generation of workers, and wait until it serves.",
            Level.OPERATE,
            lasting=True,
            more="If that fails, what serves now serves on, the reason is printed, with"
            " the application's own traceback, and the exit code is 7. A reload that is"
            " under way is waited for, and followed by another.",
        ),
        "upgrade": Command(
            "Let the running master become the program that is on disk now.",
            Level.OPERATE,
            lasting=True,
            more="Its workers, their connections and its pid stay. The new code is"
            " tried first: where it cannot take over, the old code serves on, the"
            " reason is printed, and the exit code is 7.",
        ),
        "stop": Command(
            "Drain all workers, stop, and wait until that is done.",
            Level.OPERATE,
            lasting=True,
            more="As TERM does. Exit code 5 says that connections were cut when the"
            " drain timeout was over. To stop at once, send TERM to a master that is"
            " stopping.",
        ),
    }
)


def encode(value: Mapping[str, Any]) -> bytes:
    """Return *value* as one line of JSON, with its end."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def read_request(line: bytes) -> Request:
    """
    Parse *line*, a request.

    Raises:
        UsageError: *line* is not JSON, or no command has that name and these arguments.
    """
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise UsageError("a request is one line of JSON") from exc
    name = said.pop("command", None) if isinstance(said, dict) else None
    if not isinstance(name, str) or name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}; known are: {', '.join(COMMANDS)}")
    arguments = {}
    for argument in COMMANDS[name].arguments:
        value = said.pop(argument.name, None)
        if value is not None:
            arguments[argument.name] = _checked(name, argument, value)
        elif not argument.optional:
            raise UsageError(f"{name} needs {argument.name}: {argument.about}")
    if said:
        raise UsageError(f"{name} takes no {next(iter(said))!r}")
    return Request(name, arguments)


def _checked(name: str, argument: Argument, value: Any) -> Any:
    if type(value) is not argument.kind:
        what = "a number" if argument.kind is int else "a text"
        raise UsageError(f"{name}: {argument.name} has to be {what}")
    if argument.choices and value not in argument.choices:
        raise UsageError(f"{name}: {value!r} is none of {', '.join(argument.choices)}")
    return value
