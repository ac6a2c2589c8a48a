"""
How a line of the log is spelled: one table, FORMATS.

Invariant: whatever a message has in it, one record is one line in ``logfmt`` and
``json``; in ``plain`` and ``pretty``, which are for people, a further line of it (of a
traceback) is indented, so that none can pass for a record. What a terminal would obey
is written as an escape.
"""

from __future__ import annotations

import json.encoder
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Final

quoted: Final[Callable[[str], str]] = json.encoder.encode_basestring_ascii
"Quote a text as JSON does, in 0x20 to 0x7e."
BARE: Final = re.compile(r"[!#-<>-\[\]-~]+")
"What needs no quotes in logfmt: neither space, quote, = nor backslash."
COLOURS: Final = {
    logging.DEBUG: "\x1b[2m",
    logging.INFO: "\x1b[32m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
}
DIM: Final = "\x1b[2m"
PLAIN: Final = "\x1b[0m"

Fields = Mapping[str, str | int | float]
"What is known beside the text: numbers, and texts of ours."


class Clock:
    """Formats times by the second; the text of the last second is kept for the next."""

    __slots__ = ("_convert", "_pattern", "_second", "_text")

    def __init__(
        self, pattern: str, convert: Callable[[float], time.struct_time]
    ) -> None:
        """
        Format by *pattern*, as strftime does.

        Args:
            pattern: Of strftime.
            convert: ``time.localtime`` or ``time.gmtime``.
        """
        self._pattern = pattern
        self._convert = convert
        self._second = -1
        self._text = ""

    def at(self, seconds: float) -> str:
        """Return the text of *seconds* since the epoch, without fractions."""
        second = int(seconds)
        if second != self._second:
            self._text = time.strftime(self._pattern, self._convert(second))
            self._second = second
        return self._text


def cleaned(text: str) -> str:
    """Return *text* so that it can neither steer a terminal nor pass for a record."""
    if text.isprintable():
        return text
    lines = text.split("\n")
    return "\n  ".join(map(_escaped, lines))


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(
        c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode()
        for c in line
    )


class Format(logging.Formatter):
    """A formatter that knows which process it formats lines of."""

    def __init__(self, whose: Fields) -> None:
        """Format lines of the process that *whose* describes: its role, its slot."""
        super().__init__()
        self.whose = whose

    def raw(self, text: str) -> str:
        """Format *text*, which has its own lines, with the end of its last line."""
        return text

    def access(self, now: float, text: str) -> str:
        """Format *text*, the line of a request answered at *now*, in 0x20 to 0x7e."""
        raise NotImplementedError

    def _text(self, record: logging.LogRecord) -> str:
        """Return the message and, on lines of its own, the traceback."""
        text = record.getMessage()
        if trace := self._trace(record):
            text = f"{text.rstrip()}\n{trace}"
        conn = fields_of(record).get("conn")
        return text if conn is None else f"{text} conn={conn}"

    def _trace(self, record: logging.LogRecord) -> str:
        if record.exc_info and record.exc_info[0] is not None:
            return self.formatException(record.exc_info)
        return ""


class Plain(Format):
    """``2026-11-23 09:18:16,042 INFO    [4711] text``, in local time."""

    def __init__(self, whose: Fields) -> None:
        """Format lines of the process that *whose* describes."""
        super().__init__(whose)
        self._clock = Clock("%Y-%m-%d %H:%M:%S", time.localtime)
        self._pid = os.getpid()

    def format(self, record: logging.LogRecord) -> str:
        """Format *record*."""
        text = cleaned(self._text(record))
        pid = record.process or self._pid
        return f"{self._when(record.created)} {record.levelname:<7} [{pid}] {text}"

    def access(self, now: float, text: str) -> str:
        """Format a request as a line of level INFO."""
        return f"{self._when(now)} INFO    [{self._pid}] {text}"

    def _when(self, seconds: float) -> str:
        return f"{self._clock.at(seconds)},{int(seconds * 1000) % 1000:03d}"


class Pretty(Format):
    """``09:18:16.042 INFO    worker 3  text``, with colours if they are welcome."""

    def __init__(self, whose: Fields) -> None:
        """Format lines of the process that *whose* describes."""
        super().__init__(whose)
        self._clock = Clock("%H:%M:%S", time.localtime)
        self._has_colours = (
            not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        )
        slot = whose.get("slot", "")
        self._who = f"{whose.get('role', '')} {slot}".strip()

    def format(self, record: logging.LogRecord) -> str:
        """Format *record*."""
        level = self._paint(COLOURS.get(record.levelno, ""), f"{record.levelname:<7}")
        text = cleaned(self._text(record))
        return f"{self._begin(record.created)} {level} {self._name()} {text}"

    def access(self, now: float, text: str) -> str:
        """Format a request, without a level."""
        return f"{self._begin(now)} {'':<7} {self._name()} {text}"

    def _begin(self, seconds: float) -> str:
        when = f"{self._clock.at(seconds)}.{int(seconds * 1000) % 1000:03d}"
        return self._paint(DIM, when)

    def _name(self) -> str:
        return self._paint(DIM, f"{self._who:<10}")

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._has_colours and colour else text


class Structured(Format):
    """Fields, time first: who, what, and what is known beside the text."""

    def __init__(self, whose: Fields) -> None:
        """Format lines of the process that *whose* describes, as fields of each."""
        super().__init__(whose)
        self._clock = Clock("%Y-%m-%dT%H:%M:%S", time.gmtime)
        self._pid = os.getpid()
        # Fewer than in other lines, because a request's line has the slot itself.
        service = {name: whose[name] for name in ("service",) if name in whose}
        self._who: Fields = {"level": "info", **service, "pid": self._pid}

    def format(self, record: logging.LogRecord) -> str:
        """Format *record*."""
        trace = self._trace(record)
        return self.line(
            self.when(record.created),
            {
                "level": record.levelname.lower(),
                **self.whose,
                "pid": record.process or self._pid,
                "message": record.getMessage().strip(),
                **fields_of(record),
                **({"traceback": trace} if trace else {}),
            },
        )

    def raw(self, text: str) -> str:
        """Format *text* as a record, because such a log may have nothing else."""
        fields = {"level": "error", **self.whose, "pid": self._pid, "message": text}
        return self.line(self.when(time.time()), {**fields}) + "\n"

    def access(self, now: float, text: str) -> str:
        """Format *text*, the fields of a request, as a record."""
        raise NotImplementedError

    def when(self, seconds: float) -> str:
        """Format *seconds* since the epoch in UTC, to the millisecond (RFC 3339)."""
        return f"{self._clock.at(seconds)}.{int(seconds * 1000) % 1000:03d}Z"

    def line(self, when: str, fields: Fields) -> str:
        """Format a record."""
        raise NotImplementedError


class Logfmt(Structured):
    """``time=... level=info role=master pid=4711 message="..."``."""

    def line(self, when: str, fields: Fields) -> str:
        """Format a record."""
        pairs = " ".join(f"{name}={spelled(value)}" for name, value in fields.items())
        return f"time={when} {pairs}"

    def access(self, now: float, text: str) -> str:
        """Format a request."""
        return f"{self.line(self.when(now), self._who)} {text}"


class Json(Structured):
    """One JSON object a line."""

    def line(self, when: str, fields: Fields) -> str:
        """Format a record."""
        pairs = ", ".join(
            f'"{name}": {quoted(value) if isinstance(value, str) else value}'
            for name, value in fields.items()
        )
        return f'{{"time": "{when}", {pairs}}}'

    def access(self, now: float, text: str) -> str:
        """Format a request."""
        return f"{self.line(self.when(now), self._who)[:-1]}, {text}}}"


def spelled(value: str | float) -> str:
    """Format a value of logfmt, in quotes where it needs them."""
    if isinstance(value, str):
        return value if BARE.fullmatch(value) else quoted(value)
    return str(value)


def fields_of(record: logging.LogRecord) -> Fields:
    """Return the fields that were logged beside the text of *record* (``about``)."""
    fields: Fields = record.__dict__.get("fields", {})
    return fields


FORMATS: Final[Mapping[str, type[Format]]] = {
    "pretty": Pretty,
    "plain": Plain,
    "logfmt": Logfmt,
    "json": Json,
}
"How lines may be spelled, by the name of the format."
AUTO: Final = "auto"
"``pretty`` on a terminal, ``plain`` everywhere else."
