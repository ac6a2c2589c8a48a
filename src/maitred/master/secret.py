"""
The keys with which slots are sealed: read or made here, and lent to workers.

They are in this process, in the file that the operator keeps, and in an anonymous file
that a worker inherits, reads and closes; at an upgrade, in one for the new program
(past.py); in no argument, environment or log.

Invariant: a key file that others could have read or written is refused.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from maitred.accounts import user_of
from maitred.errors import UsageError
from maitred.routing.seal import FILE_LIMIT, HINT, KEY_SIZE, format_keys, parse_keys

OTHERS: Final = 0o177
"Permission bits that mode 0600 does not have."


def load_keys(path: str, user: str = "") -> dict[str, bytes]:
    """
    Read the key file *path*; without one, make a key for this start.

    It has to be ours, or that of *user*, whom we are about to become.

    Raises:
        UsageError: It is not there, not ours alone, or no key file.
    """
    if not path:
        return {"start": os.urandom(KEY_SIZE)}
    where = f"--sticky-key-file {path}"
    try:
        # Not blocking: it may be a pipe that nobody writes to.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as exc:
        raise UsageError(f"{where}: cannot be read ({exc.strerror}); {HINT}") from exc
    try:
        found = os.fstat(fd)
        mode = stat.S_IMODE(found.st_mode)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{where}: is no regular file")
        if found.st_uid not in {os.geteuid(), (owner := _owner(user))}:
            raise UsageError(
                f"{where}: belongs to user {found.st_uid}, not to {owner}, who"
                " runs maitred; only its owner may know it"
            )
        if mode & OTHERS:
            raise UsageError(
                f"{where}: has mode {mode:04o}; only its owner may know it:"
                f" chmod 600 {path}"
            )
        text = os.read(fd, FILE_LIMIT + 1)
    finally:
        os.close(fd)
    if len(text) > FILE_LIMIT:
        raise UsageError(f"{where}: is larger than {FILE_LIMIT} bytes; {HINT}")
    return parse_keys(text, where)


def _owner(user: str) -> int:
    return user_of("--user", user).pw_uid if user else os.geteuid()


def lend(keys: dict[str, bytes]) -> int:
    """Put *keys* where one worker can read them; the caller owns the descriptor."""
    fd = os.memfd_create("maitred-secret", os.MFD_CLOEXEC)
    os.write(fd, format_keys(keys))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
