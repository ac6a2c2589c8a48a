"""
The access log: one line for each request that was answered, or cut short.

    plain      as a line of the log: client, request, status, then what we know
    combined   as Apache and nginx write it, then what we know, as fields
    logfmt, json   fields

What we know: the connection's id, the slot, a hash of the session's key, how many
workers had the connection before, seconds, bytes; why it was refused.

Invariant: no byte of a client can end a line, a field or a quoted text, or is anything
but 0x20 to 0x7e; what else it sent is escaped. The key itself is never written.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from .formats import FORMATS, Clock, Format, quoted, spelled
from .writer import Writer

UNSAFE: Final = re.compile(r'[^\x20-\x7e]|["\\]')
MONTHS: Final = [
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
]
HASH: Final = 6
"Bytes of a key's hash."


class Entry(NamedTuple):
    """
    One request that was answered or cut short.

    ``client`` is an address, perhaps as a trusted proxy names it. The client chooses
    ``target``, ``referer`` and ``agent``, and may have chosen ``client`` too. An empty
    text, and a status of 0, mean that it is not known. ``size`` is the number of bytes
    written for the answer, its head included; ``seconds`` the time from the request's
    head to the end of the answer. ``cause`` is why maitred refused the request, if it
    did.
    """

    client: str
    port: int
    status: int
    size: int
    seconds: float
    conn: int
    slot: int | None = None
    hops: int = 0
    key: bytes = b""
    method: str = ""
    target: str = ""
    version: str = ""
    referer: str = ""
    agent: str = ""
    cause: str = ""


@lru_cache(4096)
def hash_of(key: bytes) -> str:
    """Return the hash of *key* for the access log; empty without a key."""
    return hashlib.blake2b(key, digest_size=HASH).hexdigest() if key else ""


def escaped(text: str) -> str:
    """Return *text* with escapes for quotes, backslashes and all but 0x20 to 0x7e."""
    if UNSAFE.search(text) is None:
        return text
    return UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"


def _request(entry: Entry) -> str:
    if not entry.method:
        return "-"
    return escaped(f"{entry.method} {entry.target} HTTP/{entry.version}")


def _known(entry: Entry) -> str:
    """Return what a combined line has no place for, as fields of logfmt."""
    slot = "-" if entry.slot is None else entry.slot
    return (
        f"conn={entry.conn} slot={slot} key={hash_of(entry.key) or '-'}"
        f" hops={entry.hops}"
    )


def _why(entry: Entry) -> str:
    """Return the cause of a refusal as one more field of logfmt, if there is one."""
    return f" cause={spelled(entry.cause)}" if entry.cause else ""


def plain(entry: Entry) -> str:
    """Format *entry* as the text of a line of the log, for people."""
    client = f"{escaped(entry.client)}:{entry.port}" if entry.client else "-"
    return (
        f'{client} - "{_request(entry)}" {entry.status or "-"} {entry.size}B'
        f" {entry.seconds * 1000:.1f}ms {_known(entry)}{_why(entry)}"
    )


class Combined:
    """Formats entries as Apache and nginx do, for programs that know that."""

    def __init__(self) -> None:
        """Start with a clock in UTC."""
        self._clock = Clock("%d/{}/%Y:%H:%M:%S +0000", time.gmtime)

    def __call__(self, now: float, entry: Entry) -> str:
        """Format *entry*, which ended at *now*, as a line without its end."""
        # Not by strftime, because that uses the language of the system.
        month = MONTHS[time.gmtime(now).tm_mon - 1]
        when = self._clock.at(now).format(month)
        client = escaped(entry.client).replace(" ", "\\x20") or "-"
        return (
            f'{client} - - [{when}] "{_request(entry)}" {entry.status or "-"}'
            f' {entry.size} "{escaped(entry.referer) or "-"}"'
            f' "{escaped(entry.agent) or "-"}" {_known(entry)} time={entry.seconds:.6f}'
            f"{_why(entry)}"
        )


def logfmt(entry: Entry) -> str:
    """Format *entry* as fields of logfmt."""
    return " ".join(
        f"{name}={spelled(value)}" for name, value in _fields(entry).items()
    )


def json(entry: Entry) -> str:
    """Format *entry* as the inside of a JSON object, without braces."""
    return ", ".join(
        f'"{name}": {quoted(value) if isinstance(value, str) else value}'
        for name, value in _fields(entry).items()
    )


def _fields(entry: Entry) -> Mapping[str, str | int | float]:
    """Return what is known of *entry*, by the name of the field."""
    fields: dict[str, str | int | float] = {
        "client": entry.client,
        "port": entry.port or "",
        "method": entry.method,
        "target": entry.target,
        "version": entry.version,
        "status": entry.status,
        "bytes": entry.size,
        "seconds": round(entry.seconds, 6),
        "conn": entry.conn,
        "slot": "" if entry.slot is None else entry.slot,
        "key": hash_of(entry.key),
        "hops": entry.hops,
        "referer": entry.referer,
        "agent": entry.agent,
        "cause": entry.cause,
    }
    return {name: value for name, value in fields.items() if value != ""}


Spell = Callable[[float, Entry], str]


def _within(spell: Callable[[Entry], str], form: Format) -> Spell:
    return lambda now, entry: form.access(now, spell(entry))


TEXTS: Final[Mapping[str, Callable[[Entry], str]]] = {
    "plain": plain,
    "logfmt": logfmt,
    "json": json,
}
"What stands in a line of the log; ``combined`` has lines of its own."
ACCESS_FORMATS: Final = ("auto", "combined", *TEXTS)
"How requests may be spelled; ``auto``: as the lines of the log are."


def spelling(name: str, form: Format) -> tuple[Spell, bool]:
    """
    Return the function that formats entries, and whether it uses referer and agent.

    Args:
        name: One of ACCESS_FORMATS.
        form: The format of the log's own lines.
    """
    if name == "combined":
        return Combined(), True
    own = next(each for each, kind in FORMATS.items() if type(form) is kind)
    own = "plain" if own not in TEXTS else own
    if name not in {"auto", own}:
        own, form = name, FORMATS[name](form.whose)
    return _within(TEXTS[own], form), own != "plain"


class AccessLog:
    """Writes entries."""

    def __init__(self, name: str, form: Format, writer: Writer) -> None:
        """Write entries to *writer*; *name* and *form* as for ``spelling``."""
        self._spell, self._reads = spelling(name, form)
        self._writer = writer

    def write(self, entry: Entry) -> None:
        """Write *entry*, which has just ended, without waiting."""
        self._writer.put(self._spell(time.time(), entry) + "\n")

    def read(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
        """
        Return the referer and the user agent in *headers*.

        Both are empty where the format does not write them.

        Args:
            headers: Names in lower case, and values.
        """
        if not self._reads:
            return "", ""
        found = dict(headers)
        return (
            found.get(b"referer", b"").decode("latin-1"),
            found.get(b"user-agent", b"").decode("latin-1"),
        )
