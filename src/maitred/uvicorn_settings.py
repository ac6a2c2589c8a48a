"""
What the operator decides for uvicorn, which serves inside the workers, and we pass on.

Invariant: what is checked here cannot make a worker fail, or break an answer's framing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Final

from maitred.errors import UsageError

WS: Final = ("auto", "websockets", "websockets-sansio", "wsproto", "none")
HEADER: Final = re.compile(
    r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[\t -~\xa0-\xff]*)"
)
"A header line (RFC 9110 section 5)."
FRAMING: Final = frozenset(
    {"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"}
)
"Headers that say where an answer ends, or what is spoken after it."


@dataclass(frozen=True, slots=True, kw_only=True)
class UvicornSettings:
    """
    Those settings, with uvicorn's own names and defaults.

    They have defaults in a worker, too, because its program may be newer than that of
    its master, which then does not say them.
    """

    ws: str = "auto"
    ws_max_size: int = 16 * 1024 * 1024
    ws_max_queue: int = 32
    ws_ping_interval: float = 20.0
    ws_ping_timeout: float = 20.0
    ws_per_message_deflate: bool = True
    header: tuple[str, ...] = ()
    server_header: bool = True
    date_header: bool = True


PASSED_ON: Final = tuple(field.name for field in fields(UvicornSettings))


def check(wanted: UvicornSettings) -> None:
    """
    Check the settings that are passed on to uvicorn.

    Raises:
        UsageError: One of them cannot work; the sentence names the option.
    """
    for name in ("ws_max_size", "ws_max_queue"):
        if getattr(wanted, name) < 1:
            raise UsageError(
                f"--{name.replace('_', '-')} {getattr(wanted, name)}: at least 1 is"
                " needed"
            )
    for name in ("ws_ping_interval", "ws_ping_timeout"):
        seconds = getattr(wanted, name)
        if not 0 <= seconds < float("inf"):  # nor is anything true of nan
            raise UsageError(
                f"--{name.replace('_', '-')} {seconds:g}: a number of seconds is"
                " needed, or 0 for never"
            )
    for line in wanted.header:
        _split(line)


def arguments(wanted: UvicornSettings) -> dict[str, Any]:
    """Return the settings of *wanted* as keyword arguments of ``uvicorn.Config``."""
    found = {name: getattr(wanted, name) for name in PASSED_ON if name != "header"}
    for name in ("ws_ping_interval", "ws_ping_timeout"):
        found[name] = found[name] or None  # which is how uvicorn says never
    return found | {"headers": [_split(line) for line in wanted.header]}


def _split(line: str) -> tuple[str, str]:
    match = HEADER.fullmatch(line)
    if match is None:
        raise UsageError(
            f"--header {line!r} is not Name: value, as in 'X-Served-By: a'"
        )
    if match["name"].lower() in FRAMING:
        raise UsageError(
            f"--header {line!r}: {match['name']} is not for everybody to set: it says"
            " how each answer is framed"
        )
    return match["name"], match["value"].rstrip(" \t")
