"""The probe; /close has the worker let no descriptors in any more (SO_PASSRIGHTS)."""

import os
import socket
from contextlib import suppress

import probe

SO_PASSRIGHTS = 83


async def app(scope, receive, send):
    """Serve one scope."""
    if scope["type"] == "http" and scope["path"] == "/close":
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.type == socket.SOCK_SEQPACKET:
                    sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    await probe.app(scope, receive, send)
