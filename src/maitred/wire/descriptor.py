"""
The owner of a received descriptor.

A number is not an owner: it can be closed twice, forgotten, or mean a stranger's
socket after it was reused. So the channel gives out objects.

Invariant: a Descriptor owns an open descriptor or knows that it owns none.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from typing import Self


class Descriptor:
    """
    One received descriptor and its only owner.

    Close it, or take its number with ``detach``; if it is dropped instead, it is
    closed with a ResourceWarning.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        """Take over *fd*, an open descriptor, which nobody else may close any more."""
        self._fd = fd

    def fileno(self) -> int:
        """
        Return the number; this object still owns it.

        Raises:
            ValueError: The descriptor was closed or detached before.
        """
        if self._fd < 0:
            raise ValueError("this descriptor was closed or detached")
        return self._fd

    def detach(self) -> int:
        """Return the number and stop owning it: the caller has to close it."""
        fd = self.fileno()
        self._fd = -1
        return fd

    def close(self) -> None:
        """Close the descriptor, unless it was closed or detached before."""
        # Forgotten first, because even a close that fails frees the number.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Descriptor {self._fd if self._fd >= 0 else 'closed'}>"

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            # The warning is an exception where the user wants it to be.
            try:
                warnings.warn(
                    f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self
                )
            finally:
                self.close()


def close_all(owners: Sequence[Descriptor]) -> None:
    """
    Close every one of *owners*, which nobody has received, and ignore errors of close.

    An error of close concerns whoever wrote to the file, and must not keep the others
    open.
    """
    for owner in owners:
        with contextlib.suppress(OSError):
            owner.close()
