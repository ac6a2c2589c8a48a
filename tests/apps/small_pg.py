"""
A worker that speaks enough PostgreSQL for psql and asyncpg, of kind handler.

Each database is a counter in the memory of the process. Statements:

    count     adds one to it; a row: pid, count
    sleep     waits, until it is cancelled
"""

import asyncio
import os
import struct

from maitred.connection import current
from maitred.routing.postgres import cancel_key

COUNTS: dict[str, int] = {}
SLEEPING: dict[bytes, asyncio.Event] = {}
CANCEL = 80877102
IDLE = b"I"


def message(kind, body=b""):
    """Give a message of the server."""
    return kind + struct.pack("!I", len(body) + 4) + body


def fields(**parts):
    """Give an error's fields."""
    return b"".join(k.encode() + v.encode() + b"\0" for k, v in parts.items()) + b"\0"


def row(*values):
    """Give a row, with what describes it."""
    names = b"".join(
        f"c{n}".encode() + b"\0" + struct.pack("!IHIhih", 0, 0, 25, -1, -1, 0)
        for n in range(len(values))
    )
    texts = [str(value).encode() for value in values]
    cells = b"".join(struct.pack("!I", len(text)) + text for text in texts)
    return (
        message(b"T", struct.pack("!H", len(values)) + names)
        + message(b"D", struct.pack("!H", len(values)) + cells)
        + message(b"C", b"SELECT 1\0")
    )


async def handler(reader, writer):
    """Serve one connection."""
    size, code = struct.unpack("!II", await reader.readexactly(8))
    body = await reader.readexactly(size - 8)
    if code == CANCEL:
        if event := SLEEPING.get(body):
            event.set()
        return
    texts = body.split(b"\0")
    said = dict(zip(texts[::2], texts[1::2], strict=False))
    database = said.get(b"database", said[b"user"]).decode()
    key = os.urandom(8)
    SLEEPING[key] = cancelled = asyncio.Event()
    current().claim("cancel", cancel_key(key[:4], key[4:]))
    writer.write(message(b"R", bytes(4)))  # no password is asked for
    for name in ("server_version=15.0", "client_encoding=UTF8", "DateStyle=ISO, MDY"):
        writer.write(message(b"S", name.replace("=", "\0").encode() + b"\0"))
    writer.write(message(b"K", key) + message(b"Z", IDLE))
    try:
        while (kind := await reader.read(1)) not in {b"", b"X"}:
            (size,) = struct.unpack("!I", await reader.readexactly(4))
            query = (await reader.readexactly(size - 4)).rstrip(b"\0 ;").decode()
            if kind != b"Q":
                continue
            writer.write(await answer(query, database, cancelled))
            writer.write(message(b"Z", IDLE))
            await writer.drain()
    finally:
        del SLEEPING[key]
        current().release("cancel", cancel_key(key[:4], key[4:]))


async def answer(query, database, cancelled):
    """Answer one statement."""
    if query == "count":
        COUNTS[database] = COUNTS.get(database, 0) + 1
        return row(os.getpid(), COUNTS[database])
    if query == "sleep":
        await cancelled.wait()
        cancelled.clear()
        why = "canceling statement due to user request"
        return message(b"E", fields(S="ERROR", V="ERROR", C="57014", M=why))
    return message(b"C", b"OK\0")
