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
    """The file is there while this is entered; it survives an upgrade, as we do."""

    def __init__(self, path: str, *, written: bool) -> None:
        """Name *path*; *written*: before an upgrade, when we might be root."""
        self.path = path
        self._written = written

    def __enter__(self) -> Self:
        """
        Write it.

        Raises:
            SystemRefused: Another process has it, or the system will not have it.
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
            # At once: whoever reads it finds a whole number or none.
            temporary = f"{self.path}.{os.getpid()}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            # A new one: we may be root, and nobody's link says where we write.
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
        """Remove it, if it is still ours and we still may."""
        with contextlib.suppress(OSError, SystemRefused):
            if self._found() == os.getpid():
                os.unlink(self.path)

    def _found(self) -> int:
        """
        Give the pid that stands there; 0: none.

        Raises:
            SystemRefused: Something else stands there.
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
