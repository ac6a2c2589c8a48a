"""
Workers that relay: each carries the bytes of its connections to a server of its own.

    UPSTREAM    host:port of the server; {slot} in it is this worker's
    LINES       if set, a file to which each connection adds ``slot key``

What was consumed before is not needed: the sniffers of MQTT and PostgreSQL leave all
that the server has to see.
"""

import asyncio
import os

from maitred.connection import current
from maitred.routing.postgres import cancel_key

SLOT = int(os.environ["MAITRED_SLOT"])
HOST, _, PORTS = os.environ["UPSTREAM"].partition(":")
PORT = int(PORTS.split(",")[SLOT % len(PORTS.split(","))])


async def carry(reader, writer, watch=None):
    """Carry what *reader* gives to *writer*, until the end."""
    try:
        while data := await reader.read(65536):
            if watch is not None:
                watch = watch(data)
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except ConnectionError:
        pass


async def relay(reader, writer, watch=None):
    """Relay one connection."""
    if lines := os.environ.get("LINES"):
        with open(lines, "a") as file:
            file.write(f"{SLOT} {current().key.decode()}\n")
    up_reader, up_writer = await asyncio.open_connection(HOST, PORT)
    try:
        up = asyncio.create_task(carry(reader, up_writer))
        await carry(up_reader, writer, watch)
        up.cancel()
        await asyncio.wait([up])
    finally:
        up_writer.close()


class Keys:
    """Claims what the server's BackendKeyData (``K``) says, before it is passed on."""

    def __init__(self):
        """Begin before the first message."""
        self.buffer = b""
        self.connection = current()

    def __call__(self, data):
        """Look at *data*; give what looks at the next."""
        self.buffer += data
        while len(self.buffer) >= 5:
            size = 1 + int.from_bytes(self.buffer[1:5], "big")
            if len(self.buffer) < size:
                break
            message, self.buffer = self.buffer[:size], self.buffer[size:]
            if message[:1] == b"K":
                key = cancel_key(message[5:9], message[9:])
                self.connection.claim("cancel", key)
                return None
        return self


async def postgres(reader, writer):
    """Relay a connection of a PostgreSQL client."""
    await relay(reader, writer, Keys())
