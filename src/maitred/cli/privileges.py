"""
Giving up root, when all is open that takes it.

Invariant: when ``become`` returns we are who was asked for, really, effectively and for
good: what was given up is tried, and must be refused.
"""

from __future__ import annotations

import contextlib
import os
import stat

from maitred.accounts import group_of, user_of
from maitred.errors import SystemRefused


def become(user: str, group: str, *files: str) -> None:
    """
    Become *user* and *group*, names or numbers; an empty one changes nothing.

    The supplementary groups are those that the system knows of the user, or none.
    *files*, which we made, are given to them as well.

    Raises:
        UsageError: There is no such user or group.
        SystemRefused: It is not allowed, or could be undone.
    """
    entry = user_of("--user", user) if user else None
    uid = os.getuid() if entry is None else entry.pw_uid
    gid = os.getgid() if entry is None else entry.pw_gid
    if group:
        gid = group_of("--group", group)
    if (os.getresuid(), os.getresgid()) == ((uid,) * 3, (gid,) * 3):
        return
    try:
        for path in files:
            # Not what a link names, because whoever made the link may not have been
            # root.
            status = os.lstat(path)
            if _is_ours(status.st_mode):
                # Another group stays, because it was asked for.
                other = status.st_gid != os.getgid()
                os.chown(path, uid, -1 if other else gid, follow_symlinks=False)
        # In this order, because without root the groups cannot be changed any more.
        if entry is None:
            os.setgroups([gid])
        else:
            os.initgroups(entry.pw_name, gid)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as exc:
        raise SystemRefused(
            f"cannot become --user {user or uid} --group {group or gid}"
            f" ({exc.strerror}): start as root, or leave them out"
        ) from exc
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3:
        raise SystemRefused(f"became {os.getresuid()} instead of user {uid}")
    if uid:
        with contextlib.suppress(PermissionError):
            os.setuid(0)
            raise SystemRefused(f"could become root again from user {uid}")


def _is_ours(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
