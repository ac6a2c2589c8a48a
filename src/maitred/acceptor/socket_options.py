"""What is set on every listener of TCP, so that accepted connections inherit it."""

from __future__ import annotations

import socket
from typing import Final

KEEPALIVE: Final = (
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 60),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 15),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 4),
)
"""
A client that vanished without a word (no FIN) is found out after two minutes of silence
instead of never. No TCP_USER_TIMEOUT: it would also end clients who live and read
nothing for a while (tcp(7); their window is closed).
"""


def keep_alive(sock: socket.socket) -> None:
    """
    Set keepalive probes on the listener *sock*, for silent clients.

    A socket that was passed to us keeps the times of whoever passed it, if they chose
    any. Sockets of other families than TCP's learn at once that a peer is gone.
    """
    if sock.family not in {socket.AF_INET, socket.AF_INET6} or _has_times(sock):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for level, name, value in KEEPALIVE:
        if hasattr(socket, name):
            sock.setsockopt(level, getattr(socket, name), value)


def _has_times(sock: socket.socket) -> bool:
    """Return whether *sock* asks after other times than this machine's own."""
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return False
    with socket.socket(sock.family, socket.SOCK_STREAM) as fresh:
        return any(
            sock.getsockopt(level, getattr(socket, name))
            != fresh.getsockopt(level, getattr(socket, name))
            for level, name, _ in KEEPALIVE
            if hasattr(socket, name)
        )
