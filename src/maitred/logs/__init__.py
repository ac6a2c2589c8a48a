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
    """The settings of a log; fields as in ``config.Settings``."""

    @property
    def name(self) -> str:
        """The name of the service; empty: it has none."""
        ...

    @property
    def log_level(self) -> str:
        """The lowest level that is logged, one of LEVELS."""
        ...

    @property
    def log_format(self) -> str:
        """The format of lines, one of FORMATS or AUTO."""
        ...

    @property
    def log_file(self) -> str:
        """The file that lines are appended to; empty: standard error."""
        ...

    @property
    def access_log(self) -> bool:
        """Whether requests are logged."""
        ...

    @property
    def access_log_format(self) -> str:
        """The format of requests' lines, one of ACCESS_FORMATS."""
        ...


class Seldom:
    """Limits how often something is logged that goes on."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, every: float = EVERY
    ) -> None:
        """
        Start with a line that is due at once.

        Args:
            clock: Returns the time in seconds.
            every: Seconds between two lines at least.
        """
        self._clock = clock
        self._every = every
        self._next = -math.inf

    def is_due(self) -> bool:
        """Return whether to log now; if so, not again for *every* seconds."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._every
        return True


def about(**fields: str | int) -> dict[str, Any]:
    """Return the ``extra`` of a record that has *fields* beside its text."""
    return {"fields": fields}


def traces(logger: logging.Logger) -> bool:
    """Return whether *logger* logs the way of each connection, at DEBUG."""
    return logger.isEnabledFor(logging.DEBUG)


def say(text: str) -> None:
    """
    Write *text*, which has its own lines, to the log, without waiting.

    In a structured format it becomes one record. Before ``configure`` it is dropped.
    """
    if _writer is not None:
        form = _writer.formatter
        _writer.put(form.raw(text) if isinstance(form, Format) else text)


def flush() -> None:
    """Wait until all that was logged is written, at most LAST_WORDS seconds."""
    if _writer is not None:
        _writer.flush()


# Python flushes at its end what logging.config has left it, which may be nothing.
atexit.register(flush)


def reopen() -> None:
    """Open the log file anew, after it was renamed, without waiting for that."""
    if _writer is not None:
        _writer.reopen()


def heed_reopen() -> None:
    """Open the log file anew at USR1 from now on."""
    # Unblocked last, because it may have been blocked until there is a handler.
    signal.signal(signal.SIGUSR1, lambda _number, _frame: reopen())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


def dropped() -> int:
    """Return the number of lines of this process's log that were dropped."""
    return 0 if _writer is None else _writer.dropped


# As the loggers, there is one of each in a process.
_writer: Writer | None = None
_access: AccessLog | None = None


def access() -> AccessLog | None:
    """Return the access log of this process; None: requests are not logged."""
    return _access


def begin(wanted: Wanted, role: str, **whose: str | int) -> None:
    """
    Configure the log of this process by the operator's settings.

    Args:
        wanted: The settings.
        role: What this process is: master, acceptor, worker, keeper.
        whose: Further fields that each line names this process by.

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
        whose: Fields that each line names this process by; empty texts are left out.

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
    Open /dev/null for those of descriptors 0, 1 and 2 that are closed.

    Otherwise a connection may get number 2, and be sent what anybody writes to standard
    error.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # It gets number *fd*, because open returns the lowest that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
