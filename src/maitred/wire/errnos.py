"""
What an errno of sendmsg or recvmsg means for a channel: the one table.

    RETRY      nothing passes now, and may soon
    GONE       the peer closed its end, or is dead
    TOO_LARGE  this packet never passes; a smaller one may
    REFUSED    nothing that we say here passes: the channel is of no use any more

Invariant: the table is total. An errno that nobody thought of is REFUSED, so that it
ends one channel and never escapes to whoever serves others. EINTR is Python's (PEP
475); EBADF after our own ``close`` is the caller's.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


class Meaning(enum.Enum):
    """The meaning of an errno for a channel."""

    RETRY = "retry"
    GONE = "gone"
    TOO_LARGE = "too large"
    REFUSED = "refused"


ERRNOS: Final[Mapping[int, Meaning]] = MappingProxyType(
    {
        errno.EAGAIN: Meaning.RETRY,
        errno.EWOULDBLOCK: Meaning.RETRY,
        errno.EINTR: Meaning.RETRY,
        errno.ENOBUFS: Meaning.RETRY,
        errno.ENOMEM: Meaning.RETRY,
        # Too many descriptors of this user are in flight (unix(7); RLIMIT_NOFILE of
        # the sender, not for root).
        errno.ETOOMANYREFS: Meaning.RETRY,
        errno.EPIPE: Meaning.GONE,
        errno.ECONNRESET: Meaning.GONE,
        errno.ECONNREFUSED: Meaning.GONE,
        errno.ENOTCONN: Meaning.GONE,
        errno.EMSGSIZE: Meaning.TOO_LARGE,
        # The receiver has SO_PASSRIGHTS off (Linux 6.16), or a security module says no.
        errno.EPERM: Meaning.REFUSED,
        errno.EACCES: Meaning.REFUSED,
    }
)


def meaning(number: int | None) -> Meaning:
    """Return what errno *number* means; whatever is not in the table is REFUSED."""
    return ERRNOS.get(number or 0, Meaning.REFUSED)
