"""
The writer: what is logged leaves in a thread of its own, to standard error or a file.

Invariant: logging never waits. Whoever reads our standard error may be stopped, and
its disk may be full; a thread writes, so that only this thread waits. What it cannot
write, and what comes while too much waits already, is dropped and counted. Nobody sets
O_NONBLOCK on what is shared: that would hold for everybody who shares the terminal or
the pipe.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from maitred.errors import SystemRefused

MOST: Final = 1024 * 1024
"Characters that may wait to be written."
PIECE: Final = 4096
"Bytes that a pipe takes whole, not mixed with those of other processes (pipe(7))."
LAST_WORDS: Final = 1.0
"Seconds that what is logged last has to get out when the process ends."


def write(text: str, fd: int = 2) -> bool:
    """Write *text* to *fd*, waiting as long as it takes; return whether all is out."""
    data = memoryview(text.encode(errors="backslashreplace"))
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # because somebody else has set O_NONBLOCK on it
            select.select([], [fd], [])
        except OSError:
            return False
    return True


class File:
    """
    A file that is appended to, by several processes; opened anew when it was renamed.

    Owns its descriptor. Only the thread that writes comes here, after the start.
    """

    def __init__(self, path: str) -> None:
        """
        Open *path*; a file that is not there is created, readable for its group.

        A FIFO that nobody reads is opened when somebody does.

        Raises:
            SystemRefused: The file cannot be opened.
        """
        self._path = path
        self._fd = -1
        self._torn = False
        if why := self.reopen():
            raise SystemRefused(f"cannot open the log file {path}: {why}")

    def reopen(self) -> str:
        """
        Open the path anew; return why that is impossible, or an empty text.

        Where it is impossible, the old file is used on.
        """
        try:
            # O_NONBLOCK, because opening a FIFO would wait for somebody who reads it
            # (fifo(7)); for a file it means nothing.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK
            fd = os.open(self._path, flags, 0o640)
        except OSError as exc:
            if exc.errno == errno.ENXIO and self._fd < 0:
                return ""
            return exc.strerror or "unknown"
        self.close()
        self._fd, self._torn = fd, False
        return ""

    def write(self, text: str) -> bool:
        """
        Write *text*; return whether all of it is out.

        If it is not, the next text begins on a line of its own.
        """
        if self._fd < 0:
            self.reopen()
        if self._fd < 0:
            return False
        done = write("\n" + text if self._torn else text, self._fd)
        self._torn = not done
        return done

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Writer(logging.Handler):
    """Writes to standard error, or to a file, in a thread of its own."""

    def __init__(
        self,
        write: Callable[[str], bool] = write,
        reopen: Callable[[], str] | None = None,
    ) -> None:
        """
        Start with nothing to write; the thread starts with the first line.

        Args:
            write: Writes a text, waiting as long as it takes; returns whether it could.
            reopen: Opens another file of the same name; returns why it cannot, or an
                empty text.
        """
        super().__init__()
        self._write = write
        self._reopen = reopen
        self.dropped = 0
        self._begin()

    def _begin(self) -> None:
        """
        Start with nothing to write and no thread.

        Called again in a forked child, because the parent's thread is not there.
        """
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._lines: deque[str] = deque()
        self._size = 0
        self._untold = 0
        self._writing = False
        self._closed = False
        self._is_stale = False
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Queue *record* for writing."""
        self.put(self.format(record) + "\n")

    def put(self, text: str) -> None:
        """Queue *text* for writing as it is; if too much waits, drop and count it."""
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

    def reopen(self) -> None:
        """
        Make the thread open the file anew; standard error has none.

        A signal handler may call this at any moment.
        """
        if self._reopen is None or self._pid != os.getpid():
            return
        with self._changed:
            self._is_stale = self._can_write()
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all is written, at most LAST_WORDS seconds."""
        if self._pid == os.getpid():
            with self._changed:
                self._changed.wait_for(
                    lambda: not self._lines and not self._writing, LAST_WORDS
                )

    def close(self) -> None:
        """
        Flush, and stay open, because ``logging.config`` closes handlers of others.

        It closes every handler of the process before it begins. ``end`` is the end.
        """
        self.flush()

    def end(self) -> None:
        """Flush, drop all that comes later, and end the thread."""
        self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _can_write(self) -> bool:
        """Start the thread if it does not run; return whether it runs."""
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
        # Blocked here, because a signal is for the main thread, even if that has
        # blocked it for a moment.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            with self._changed:
                self._writing = False
                if not self._lines:
                    self._changed.notify_all()
                    self._changed.wait_for(
                        lambda: self._lines or self._closed or self._is_stale
                    )
                    if not self._lines and not self._is_stale:
                        return
                self._writing = True
                stale, self._is_stale = self._is_stale, False
                piece = [] if stale else self._next_piece()
            if stale:
                self._begin_anew()
            elif not self._write("".join(piece)):
                with self._changed:
                    self._drop(len(piece))
            # After a write that succeeded, because this one would fail before that.
            elif untold := self._untold:
                self._tell(untold)

    def _next_piece(self) -> list[str]:
        """Remove and return the next lines that fit PIECE together, at least one."""
        piece = [self._lines.popleft()]
        size = len(piece[0])
        while self._lines and size + len(self._lines[0]) <= PIECE:
            piece.append(self._lines.popleft())
            size += len(piece[-1])
        self._size -= size
        return piece

    def _begin_anew(self) -> None:
        if self._reopen is not None and (why := self._reopen()):
            text = "the log file cannot be opened anew, the old one goes on: %s"
            self._warn(text, why)

    def _tell(self, untold: int) -> None:
        """Write a line that says how many lines, *untold*, are missing."""
        text = "%d lines of this log were dropped: it could not be written"
        if self._warn(text, untold):
            with self._changed:
                self._untold -= untold

    def _warn(self, text: str, *args: object) -> bool:
        """Write a warning of our own, at once; return whether it is out."""
        details = {"levelno": logging.WARNING, "levelname": "WARNING"}
        record = logging.makeLogRecord({"msg": text, "args": args, **details})
        return self._write(self.format(record) + "\n")
