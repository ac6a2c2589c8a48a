"""
The keys with which slots are sealed: read or made here, and lent to workers.

They are in this process, in the file that the operator keeps, and in an anonymous file
that a worker inherits, reads and closes; at an upgrade, in one for the new program
(upgrade/snapshot.py); in no argument, environment or log.

Invariant: a key file that others could have read or written is refused. Root's may be
readable for its group, as PostgreSQL has it, where we are not root: that is how a file
is given to a user who is not to change it, and how Kubernetes gives a secret.
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
NOT_THE_GROUP: Final = 0o137
"Permission bits that mode 0640 does not have."


def load_keys(path: str, user: str = "") -> dict[str, bytes]:
    """
    Return the keys of file *path*; without one, a key made for this start.

    The file has to belong to *user*, which the process is about to become, or else to
    its present user, or to root.

    It has to be that of *user*, whom we are about to become, or else ours, or root's.

    Raises:
        UsageError: It cannot be read, others may know it, or it is no key file.
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
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{where}: is no regular file")
        owner = _owner(user)
        if found.st_uid not in {0, owner}:
            raise UsageError(
                f"{where}: belongs to user {found.st_uid}, not to {owner}, who"
                " runs maitred; only its owner may know it"
            )
        demand_secrecy(found, where, path, user)
        text = os.read(fd, FILE_LIMIT + 1)
    finally:
        os.close(fd)
    if len(text) > FILE_LIMIT:
        raise UsageError(f"{where}: is larger than {FILE_LIMIT} bytes; {HINT}")
    return parse_keys(text, where)


def demand_secrecy(
    found: os.stat_result, where: str, path: str, user: str = ""
) -> None:
    """
    Check that nobody but *user*, or this process's user, may know file *path*.

    Raises:
        UsageError: Others may know it; the sentence begins with *where*.
    """
    mode = stat.S_IMODE(found.st_mode)
    is_given = found.st_uid == 0 and _owner(user) != 0
    if mode & (NOT_THE_GROUP if is_given else OTHERS):
        who, right = ("root and its group", "640") if is_given else ("its owner", "600")
        raise UsageError(
            f"{where}: has mode {mode:04o}; only {who} may know it:"
            f" chmod {right} {path}"
        )


def _owner(user: str) -> int:
    return user_of("--user", user).pw_uid if user else os.geteuid()


def lend(keys: dict[str, bytes]) -> int:
    """Write *keys* where one worker can read them; the caller owns the descriptor."""
    fd = os.memfd_create("maitred-secret", os.MFD_CLOEXEC)
    os.write(fd, format_keys(keys))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
