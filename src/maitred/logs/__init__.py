"""
How master and workers log: one line an event, to standard error or to a file.

Severities, as in Postfix: error = cannot go on with something; warning = an
operator should look; info = what is going on; debug = how.

``writer`` gets the lines out, ``formats`` spells them, ``access`` those of requests.
A connection is named by its id, ``conn=...``, in every line about it, in all processes.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from .access import ACCESS_FORMATS, AccessLog, Entry, hash_of
from .formats import AUTO, FORMATS, Format
from .loggers import NotOfTheServer, enduring
from .writer import LAST_WORDS, MOST, PIECE, File, Writer

__all__ = [
    "ACCESS_FORMATS",
    "AUTO",
    "FORMATS",
    "LAST_WORDS",
    "LEVELS",
    "MOST",
    "PIECE",
    "AccessLog",
    "Entry",
    "File",
    "Seldom",
    "Writer",
    "about",
    "access",
    "begin",
    "configure",
    "dropped",
    "flush",
    "hash_of",
    "heed_reopen",
    "keeper",
    "master",
    "reopen",
    "say",
    "traces",
    "worker",
]

LEVELS: Final = ("debug", "info", "warning", "error")
EVERY: Final = 1.0
"Seconds between two lines of one cause that goes on."

master = logging.getLogger("maitred.master")
worker = logging.getLogger("maitred.worker")
keeper = logging.getLogger("maitred.keeper")


class Wanted(Protocol):
    """What an operator can want of a log; fields as in ``config.Settings``."""

    @property
    def name(self) -> str:
        """What the service is called, if anything."""
        ...

    @property
    def log_level(self) -> str:
        """How much: one of LEVELS."""
        ...

    @property
    def log_format(self) -> str:
        """How lines are spelled."""
        ...

    @property
    def log_file(self) -> str:
        """Where they go; empty: standard error."""
        ...

    @property
    def access_log(self) -> bool:
        """Whether requests are logged."""
        ...

    @property
    def access_log_format(self) -> str:
        """How those are spelled."""
        ...


class Seldom:
    """Says, at most every so often, that it is time to log something that goes on."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, every: float = EVERY
    ) -> None:
        """Begin with: it is time. *clock* gives seconds, *every* is as many."""
        self._clock = clock
        self._every = every
        self._next = -math.inf

    def is_due(self) -> bool:
        """Return whether to log now; if so, the next time is EVERY seconds away."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._every
        return True


def about(**fields: str | int) -> dict[str, Any]:
    """Give the ``extra`` of a record with *fields* beside its text: numbers, words."""
    return {"fields": fields}


def traces(logger: logging.Logger) -> bool:
    """Say whether the way of each connection is logged."""
    return logger.isEnabledFor(logging.DEBUG)


def say(text: str) -> None:
    """Write *text* among the log, as it is where it can be; without waiting."""
    if _writer is not None:
        form = _writer.formatter
        _writer.put(form.raw(text) if isinstance(form, Format) else text)


def flush() -> None:
    """Wait a moment until all that was logged is written."""
    if _writer is not None:
        _writer.flush()


# Python flushes at its end what logging.config has left it, which may be nothing.
atexit.register(flush)


def reopen() -> None:
    """Begin with a new log file, after the old one was renamed; without waiting."""
    if _writer is not None:
        _writer.reopen()


def heed_reopen() -> None:
    """Begin with a new log file at USR1, which may have been blocked until now."""
    signal.signal(signal.SIGUSR1, lambda _number, _frame: reopen())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


def dropped() -> int:
    """Say how many lines of this process's log were dropped."""
    return 0 if _writer is None else _writer.dropped


# As the loggers, there is one of each in a process.
_writer: Writer | None = None
_access: AccessLog | None = None


def access() -> AccessLog | None:
    """Give what requests are to be logged with, if they are."""
    return _access


def begin(wanted: Wanted, role: str, **whose: str | int) -> None:
    """
    Log as an operator has *wanted* it.

    Args:
        wanted: What was said on the command line.
        role: What this process is: master, acceptor, worker, keeper.
        whose: What is known of it beside that.

    Raises:
        SystemRefused: The log file cannot be opened.
    """
    configure(
        wanted.log_level,
        access_log=wanted.access_log,
        form=wanted.log_format,
        access_form=wanted.access_log_format,
        path=wanted.log_file,
        service=wanted.name,
        role=role,
        **whose,
    )


def configure(
    level: str,
    *,
    access_log: bool = True,
    form: str = AUTO,
    access_form: str = AUTO,
    path: str = "",
    **whose: str | int,
) -> None:
    """
    Send the logs of maitred and of the server inside the workers to one place.

    Args:
        level: One of LEVELS.
        access_log: Whether requests are logged.
        form: One of FORMATS, or AUTO.
        access_form: One of ACCESS_FORMATS.
        path: The file to append to; empty: standard error.
        whose: What is known of this process; an empty text says nothing.

    Raises:
        SystemRefused: The file cannot be opened.
    """
    global _access, _writer  # noqa: PLW0603 - as the loggers
    _occupy_standard_descriptors()
    file = File(path) if path else None
    writer = Writer() if file is None else Writer(file.write, file.reopen)
    if form == AUTO:
        form = "pretty" if file is None and os.isatty(2) else "plain"
    known = {name: value for name, value in whose.items() if value != ""}
    formatter = FORMATS[form](known)
    writer.setFormatter(formatter)
    _writer = writer
    _access = AccessLog(access_form, formatter, writer) if access_log else None
    # Applications log to the server's loggers too; what is said of them there holds.
    for name in ("maitred", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = enduring(name)
        logger.setLevel(level.upper())
        logger.handlers[:] = [writer]
        logger.propagate = False
    for logger in (master, worker, keeper):
        enduring(logger.name)
    # As in uvicorn: files that are copied from its own say a level of this one alone,
    # and handlers and a format of its parent.
    server = logging.getLogger("uvicorn.error")
    server.handlers.clear()
    server.propagate = True
    for each in server.filters[:]:
        if isinstance(each, NotOfTheServer):
            server.removeFilter(each)
    if level != "debug":
        server.addFilter(NotOfTheServer())
    # We write the lines of requests.
    requests = logging.getLogger("uvicorn.access")
    requests.setLevel("INFO")
    requests.handlers.clear()


def _occupy_standard_descriptors() -> None:
    """
    Open what is closed of 0, 1 and 2.

    Otherwise a connection may get number 2, and be sent what anybody writes to standard
    error.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest number that is free: this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
