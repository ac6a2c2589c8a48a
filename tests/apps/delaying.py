"""
Answers a line ``one`` in one write and ``two`` in two, in kinds that are no HTTP.

``nodelay`` is answered with the option of the connection.
"""

import asyncio
import socket

HALVES = (b"half an an", b"swer, all\n")


def nodelay(sock):
    """Say whether TCP_NODELAY is set on *sock*, and whether it is labelled TCP."""
    option = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    return b"%d %d\n" % (bool(option), sock.proto == socket.IPPROTO_TCP)


def writes(line, sock):
    """Give what is to be written, one after the other."""
    match line.strip():
        case b"two":
            return HALVES
        case b"one":
            return (b"".join(HALVES),)
    return (nodelay(sock),)


async def handler(reader, writer):
    """Serve, of kind handler."""
    sock = writer.get_extra_info("socket")
    while line := await reader.readline():
        for each in writes(line, sock):
            writer.write(each)
            await asyncio.sleep(0)


class Protocol(asyncio.Protocol):
    """Serve, of kind protocol."""

    def connection_made(self, transport):
        """Begin."""
        self.transport = transport

    def data_received(self, data):
        """Serve."""
        for each in writes(data, self.transport.get_extra_info("socket")):
            self.transport.write(each)


def plain(sock):
    """Serve, of kind socket."""
    for line in sock.makefile("rb"):
        for each in writes(line, sock):
            sock.sendall(each)
