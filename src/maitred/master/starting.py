"""
What the system refuses when a process is to be started, and whether it always will.

Invariant: what is refused for good ends the first start of a service in one sentence.
What may pass (no memory, no room for a process, no descriptor left) is tried again, and
so is everything once a service has served.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from typing import Final

from maitred import sandbox
from maitred.errors import SystemRefused
from maitred.wire.scoreboard import Scoreboard

FOR_GOOD: Final = frozenset(
    {
        # The program is not there, may not be executed, or is none.
        *(errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.EISDIR),
        *(errno.ELOOP, errno.ENAMETOOLONG, errno.E2BIG, errno.ELIBBAD),
        # The system call is kept from us, or is not there (seccomp(2)).
        *(errno.EPERM, errno.ENOSYS, errno.EINVAL),
    }
)
"Errors that come again at the next try, unless the machine is changed meanwhile."
ADVICE: Final = "`maitred doctor` says what this machine refuses"


@contextlib.contextmanager
def asking_for(what: str) -> Iterator[None]:
    """
    Turn an error of the system into one sentence, which says what it refuses: *what*.

    Raises:
        SystemRefused: The system has refused it.
    """
    try:
        yield
    except OSError as exc:
        why = exc.strerror or str(exc)
        raise SystemRefused(f"the system refuses {what}: {why}") from exc


def open_scoreboard() -> int:
    """
    Return the memory of a worker's scoreboard; the caller owns the descriptor.

    Raises:
        SystemRefused: The system refuses the memory.
    """
    with asking_for("memory for a scoreboard (memfd_create)"):
        return Scoreboard.create()


def demand_program(program: str, directory: str) -> None:
    """
    Check that there is *program*, for a worker that runs in *directory*.

    Raises:
        SystemRefused: It is not there, or may not be executed.
    """
    place = os.path.join(directory, program) if "/" in program else program
    if shutil.which(place) is None:
        code = errno.EACCES if os.path.exists(place) else errno.ENOENT
        raise SystemRefused(
            f"cannot start {program}: {os.strerror(code)}"
        ) from OSError(code, os.strerror(code))


def refused_in_sandbox(code: int, told: str) -> SystemRefused | None:
    """
    Return why a process has ended before it became a worker; None: it was one.

    Args:
        code: Its exit code.
        told: What it has written into its memory for the stack.
    """
    found = sandbox.refusal(code, told)
    if found is None:
        return None
    cause, why = found
    refused = SystemRefused(why)
    refused.__cause__ = cause
    return refused


def refused_for_good(exc: SystemRefused | OSError) -> SystemRefused | None:
    """Return what ends a first start because of *exc*; None: it may pass."""
    cause = exc if isinstance(exc, OSError) else exc.__cause__
    if isinstance(cause, OSError) and cause.errno in FOR_GOOD:
        return SystemRefused(f"{exc}; {ADVICE}")
    return None
