"""
Why an address cannot be listened on, for people.

Invariant: nobody else is blamed for a socket that is ours.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Final

from .socket_activation import where
from .socket_places import place_of, places_of, unix_address

HINTS: Final = {
    errno.EADDRINUSE: "; something listens there: stop it, or choose another {}",
    errno.EACCES: "; ports below 1024 and other people's directories need root",
    errno.EADDRNOTAVAIL: "; this machine does not have that address",
}
PASSED: Final = (
    "; that is where {0} listens, a socket that was passed to us: give {1} its address"
)
OPENED: Final = "; another {1} listens there, at {0}: leave one of them out"
ALL: Final = frozenset({"", "0.0.0.0", "[::]"})  # noqa: S104 - a comparison


def hint_for(
    exc: OSError,
    bind: str,
    option: str,
    passed: Sequence[socket.socket],
    opened: Sequence[socket.socket],
) -> str:
    """
    Return the end of a sentence that says that *bind* cannot be listened on.

    Args:
        exc: The kernel's error.
        bind: The address, without its mark.
        option: The option in which the operator gave it.
        passed: Sockets that were passed to us, and that other binds have not taken.
        opened: Sockets of other binds.
    """
    if exc.errno == errno.EADDRINUSE:
        for sentence, socks in ((PASSED, passed), (OPENED, opened)):
            for sock in socks:
                if _is_in_the_way(bind, sock):
                    return sentence.format(where(sock), option)
    return HINTS.get(exc.errno or 0, "").format(option)


def _is_in_the_way(bind: str, sock: socket.socket) -> bool:
    if not where(sock):
        return False
    if bind.startswith("unix:"):
        address = unix_address(bind.removeprefix("unix:"))
        return place_of(socket.AF_UNIX, address) in places_of(sock)
    host, _, port = bind.rpartition(":")
    its_host, _, its_port = where(sock).rpartition(":")
    # The kernel refuses a second listener at all addresses, or beside such a one.
    return port == its_port and (host == its_host or bool({host, its_host} & ALL))
