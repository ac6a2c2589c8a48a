"""
Users and groups by the names or numbers that options give.

Invariant: what the system does not know is refused with a sentence that names the
option; a number of a group needs no name.
"""

from __future__ import annotations

import grp
import pwd

from maitred.errors import UsageError


def user_of(option: str, user: str) -> pwd.struct_passwd:
    """
    Return the password database's entry of *user*, a name or a number.

    Raises:
        UsageError: There is no such user; the sentence names *option*.
    """
    try:
        return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError as exc:
        raise UsageError(f"{option} {user}: there is no such user") from exc


def group_of(option: str, group: str) -> int:
    """
    Return the number of *group*, a name or a number.

    Raises:
        UsageError: No group has that name; the sentence names *option*.
    """
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as exc:
        raise UsageError(f"{option} {group}: there is no such group") from exc
