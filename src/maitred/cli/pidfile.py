"""
The file with the master's pid, for tools that know no better.

Invariant: a file that names a live process, other than us and our ancestors, is never
overwritten, and only a file that names us is removed.
"""

from __future__ import annotations

import contextlib
import os
from types import TracebackType
from typing import Self

from maitred.errors import SystemRefused


class PidFile:
    """A file with our pid while this is entered; an upgrade keeps both."""

    def __init__(self, path: str, *, written: bool) -> None:
        """Start without a file; *written*: a predecessor wrote it at *path*."""
        self.path = path
        self._written = written

    def __enter__(self) -> Self:
        """
        Write the file, unless a predecessor of this process has.

        Raises:
            SystemRefused: It names a living process, or cannot be written.
        """
        if self._written:
            return self
        try:
            other = self._found()
            if other and other not in _lineage() and _lives(other):
                raise SystemRefused(
                    f"--pid {self.path} names process {other}, which is alive: stop"
                    " that, or name another file"
                )
            # Renamed into place, because a reader must find a whole number or none.
            temporary = f"{self.path}.{os.getpid()}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            # A new file, because we may be root, and a link must not redirect us.
            with open(temporary, "x", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
            os.replace(temporary, self.path)
        except OSError as exc:
            raise SystemRefused(
                f"--pid {self.path} cannot be written ({exc.strerror})"
            ) from exc
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        frames: TracebackType | None,
    ) -> None:
        """Remove the file, if it still names us and may be removed."""
        with contextlib.suppress(OSError, SystemRefused):
            if self._found() == os.getpid():
                os.unlink(self.path)

    def _found(self) -> int:
        """
        Return the pid in the file; 0: there is none.

        Raises:
            SystemRefused: It holds something else than a pid.
        """
        try:
            with open(self.path, "rb") as file:
                text = file.read(32)
        except FileNotFoundError:
            return 0
        if text.strip() and not text.strip().isdigit():
            raise SystemRefused(f"--pid {self.path} holds no pid: name another file")
        return int(text.strip() or b"0")


def _lineage() -> set[int]:
    """
    Return our pid and those of our ancestors, our keeper among them.

    A file that names one of them was left over: the number belonged to another process
    once, as 1 does in a container that was started again.
    """
    found, pid = set[int](), os.getpid()
    while pid and pid not in found:
        found.add(pid)
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                # The name before it may have anything in it (proc(5)).
                pid = int(file.read().rpartition(")")[2].split()[1])
        except OSError:  # it has ended, or is not shown to us
            break
    return found


def _lives(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
