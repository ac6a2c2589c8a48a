"""
How master and workers log: one line an event, to standard error.

Severities, as in Postfix: error = cannot go on with something; warning = an
operator should look; info = what is going on; debug = how.

Invariant: logging never waits. Whoever reads our standard error may be stopped, and
its disk may be full; a thread writes, so that only this thread waits. What it cannot
write, and what comes while too much waits already, is dropped and counted. Nobody sets
O_NONBLOCK: that would hold for everybody who shares the terminal or the pipe.
"""

from __future__ import annotations

import contextlib
import logging
import logging.config
import math
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")
MOST: Final = 1024 * 1024
"Characters that may wait to be written."
PIECE: Final = 4096
"Bytes that a pipe takes whole, not mixed with those of other processes (pipe(7))."
LAST_WORDS: Final = 1.0
"Seconds that what is logged last has to get out when the process ends."
EVERY: Final = 1.0
"Seconds between two lines of one cause that goes on."

master = logging.getLogger("maitred.master")
worker = logging.getLogger("maitred.worker")
keeper = logging.getLogger("maitred.keeper")


def write(text: str) -> bool:
    """Write *text* to standard error, waiting as long as it takes; say if it is out."""
    data = memoryview(text.encode(errors="backslashreplace"))
    while data:
        try:
            data = data[os.write(2, data) :]
        except BlockingIOError:  # somebody else made it so
            select.select([], [2], [])
        except OSError:
            return False
    return True


class Stderr(logging.Handler):
    """Writes to standard error in a thread of its own."""

    def __init__(self, write: Callable[[str], bool] = write) -> None:
        """
        Begin with nothing to write.

        Args:
            write: Writes a text, waiting as long as it takes; says whether it could.
        """
        super().__init__()
        self._write = write
        self.dropped = 0
        self._begin()

    def _begin(self) -> None:
        """Start anew; in a forked child, whose writing thread stayed behind."""
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._lines: deque[str] = deque()
        self._size = 0
        self._untold = 0
        self._writing = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*, soon."""
        self.put(self.format(record) + "\n")

    def put(self, text: str) -> None:
        """Write *text*, soon, as it is."""
        if self._pid != os.getpid():
            self._begin()
        with self._changed:
            if self._closed or self._size >= MOST or not self._can_write():
                self._drop(1)
                return
            self._lines.append(text)
            self._size += len(text)
            if not self._writing:
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait a moment until all is written."""
        if self._pid == os.getpid():
            with self._changed:
                self._changed.wait_for(
                    lambda: not self._lines and not self._writing, LAST_WORDS
                )

    def close(self) -> None:
        """Write no more than what waits now."""
        self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _can_write(self) -> bool:
        """See to it that the thread runs, if that is still possible."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="log", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread can be had
                thread.start()
                self._thread = thread
        return self._thread is not None

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._untold += count

    def _run(self) -> None:
        # A signal is for the main thread, which may have blocked it for a moment.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            with self._changed:
                self._writing = False
                if not self._lines:
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._lines or self._closed)
                    if not self._lines:
                        return
                self._writing = True
                piece = self._next_piece()
            if not self._write("".join(piece)):
                with self._changed:
                    self._drop(len(piece))
            elif untold := self._untold:
                self._tell(untold)

    def _next_piece(self) -> list[str]:
        """Take lines that fit one piece, or one line."""
        piece = [self._lines.popleft()]
        size = len(piece[0])
        while self._lines and size + len(self._lines[0]) <= PIECE:
            piece.append(self._lines.popleft())
            size += len(piece[-1])
        self._size -= size
        return piece

    def _tell(self, untold: int) -> None:
        """Say that *untold* lines are missing."""
        record = logging.makeLogRecord(
            {
                "levelno": logging.WARNING,
                "levelname": "WARNING",
                "msg": "%d lines of this log were dropped: it could not be written",
                "args": (untold,),
            }
        )
        if self._write(self.format(record) + "\n"):
            with self._changed:
                self._untold -= untold


class Seldom:
    """Says at most once a second that it is time to log something that goes on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with: it is time. *clock* gives seconds."""
        self._clock = clock
        self._next = -math.inf

    def is_due(self) -> bool:
        """Say whether to log now; if so, the next time is a second away."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + EVERY
        return True


def say(text: str) -> None:
    """Write *text* among the log, as it is; without waiting."""
    for handler in _handlers():
        handler.put(text)


def flush() -> None:
    """Wait a moment until all that was logged is written."""
    for handler in _handlers():
        handler.flush()


def dropped() -> int:
    """Say how many lines of this process's log were dropped."""
    return sum(handler.dropped for handler in _handlers())


def _handlers() -> list[Stderr]:
    handlers = logging.getLogger("maitred").handlers
    return [handler for handler in handlers if isinstance(handler, Stderr)]


def configure(level: str, *, access_log: bool = True) -> None:
    """
    Send the logs of maitred and of the server inside the workers to standard error.

    Args:
        level: One of LEVELS.
        access_log: Whether the server's access log is wanted.
    """
    _occupy_standard_descriptors()
    server_level = "DEBUG" if level == "debug" else "WARNING"
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "line": {
                    "format": "%(asctime)s %(levelname)-7s [%(process)d] %(message)s"
                },
            },
            "handlers": {
                "stderr": {"()": Stderr, "formatter": "line"},
            },
            "loggers": {
                "maitred": {
                    "handlers": ["stderr"],
                    "level": level.upper(),
                    "propagate": False,
                },
                "uvicorn.error": {
                    "handlers": ["stderr"],
                    "level": server_level if level != "error" else "ERROR",
                    "propagate": False,
                },
                "uvicorn.access": {
                    "handlers": ["stderr"] if access_log else [],
                    "level": "INFO",
                    "propagate": False,
                },
            },
        }
    )


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
