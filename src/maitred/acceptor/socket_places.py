"""
Where a socket listens, however that is written.

    127.0.0.1:80   [::ffff:127.0.0.1]:80          one place
    [::]:80        with IPv4 (IPV6_V6ONLY is 0)   that, and 0.0.0.0:80
    /run/x         /var/run/x                     one place, if one leads to the other
    @name                                         no file

Invariant: of two sockets that listen at one place, the kernel refuses the second; and
what it would refuse has a place in common.
"""

from __future__ import annotations

import os
import socket
import stat
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, NamedTuple

ANY: Final = "0.0.0.0"  # noqa: S104 - a comparison
ANY_V6: Final = "::"
MAPPED: Final = "::ffff:"
"Before an address of IPv4 on a socket of IPv6 (RFC 4291 section 2.5.5.2)."


class Place(NamedTuple):
    """
    Where connections are accepted.

    Args:
        host: An address as text; of a Unix socket its path, or a NUL and its name.
        port: Its number; 0 for a Unix socket.
        scope: The number of the interface that a link-local address belongs to.
    """

    host: str
    port: int = 0
    scope: int = 0


def place_of(family: int, address: Any) -> Place:
    """Return the place that *address*, as ``socket.bind`` takes it, stands for."""
    if family == socket.AF_UNIX:
        name = os.fsdecode(address)
        return Place(name if name.startswith("\0") else os.path.realpath(name))
    host, port, *more = address
    found = ip_address(host.partition("%")[0])
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or found
    return Place(str(found), port, more[1] if more else 0)


def unix_address(path: str) -> str:
    """Return what ``socket.bind`` takes for *path*, or for @ and an abstract name."""
    return path.replace("@", "\0", 1) if path.startswith("@") else path


def places_of(sock: socket.socket) -> set[Place]:
    """Return all places where *sock* listens; none if its file is gone."""
    place = place_of(sock.family, sock.getsockname())
    if sock.family == socket.AF_UNIX:
        is_there = place.host.startswith("\0") or _is_socket(place.host)
        return {place} if is_there else set()
    return {place, Place(ANY, place.port)} if is_dual(sock) else {place}


def is_dual(sock: socket.socket) -> bool:
    """Return whether *sock* listens at all addresses of IPv6, and of IPv4 with them."""
    return (
        sock.family == socket.AF_INET6
        and sock.getsockname()[0] == ANY_V6
        and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    )


def written(sock: socket.socket) -> str:
    """Return the address of *sock* as ``--bind`` has it."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(address)}".replace("\0", "@", 1)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_socket(path: str) -> bool:
    """Return whether clients can find the socket that was bound to *path*."""
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False
