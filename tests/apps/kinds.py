"""
One small service in every kind of application: it says who answers, and echoes.

    handler, protocol, socket   a line ``key words``; answered ``pid words``
    asgi, wsgi                  POST, header ``x-key``; answered ``pid body``
    websocket                   /key; a message; answered ``pid message``

``words`` that are ``raise`` make the application raise; ``leave`` makes it close.
"""

import asyncio
import os

from maitred.connection import current
from maitred.routing import NEED_MORE, Sniffer


def sniff(data):
    """Find the key in the first line."""
    line, end, _ = data.partition(b"\n")
    return {"key": line.split(b" ")[0]} if end else NEED_MORE


LINES = Sniffer(name="lines", sniff=sniff, fields=("key",), limit=128)


def answer(words):
    """Answer *words*; None: nothing more."""
    if words == "raise":
        raise ValueError("as I was told")
    if words == "key":
        return f"{os.getpid()} {current().key.decode()} {current().peer[0]}"
    return None if words == "leave" else f"{os.getpid()} {words}"


def answer_line(line):
    """Answer one line with another."""
    told = answer(line.decode().rstrip("\n").partition(" ")[2])
    return b"" if told is None else told.encode() + b"\n"


async def handler(reader, writer):
    """Serve, of kind handler."""
    while line := await reader.readline():
        if not (told := answer_line(line)):
            break
        writer.write(told)
        await writer.drain()


class Protocol(asyncio.Protocol):
    """Serve, of kind protocol."""

    def connection_made(self, transport):
        """Begin."""
        self.transport = transport
        self.buffer = b""

    def data_received(self, data):
        """Serve."""
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            if told := answer_line(line):
                self.transport.write(told)
            else:
                self.transport.close()


class Buffered(asyncio.BufferedProtocol):
    """The same, with a buffer of its own."""

    def connection_made(self, transport):
        """Begin."""
        self.inner = Protocol()
        self.inner.connection_made(transport)
        self.room = bytearray(7)

    def get_buffer(self, _hint):
        """Give room."""
        return self.room

    def buffer_updated(self, count):
        """Serve."""
        self.inner.data_received(bytes(self.room[:count]))


def plain(sock):
    """Serve, of kind socket."""
    with sock.makefile("rwb") as file:
        for line in file:
            if not (told := answer_line(line)):
                break
            file.write(told)
            file.flush()


async def websocket(ws):
    """Serve, of kind websocket."""
    async for message in ws:
        if (told := answer(message)) is None:
            break
        await ws.send(told)


async def asgi(scope, receive, send):
    """Serve, of kind asgi."""
    if scope["type"] == "lifespan":
        return
    body = (await receive())["body"].decode()
    told = answer(body)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": (told or "").encode()})


def wsgi(environ, start_response):
    """Serve, of kind wsgi."""
    told = answer(environ["wsgi.input"].read().decode()) or ""
    start_response("200 OK", [("content-length", str(len(told)))])
    return [told.encode()]


async def greeter(reader, writer):
    """Speak first, as SSH does."""
    writer.write(b"SSH-2.0-here %d\r\n" % os.getpid())
    writer.write(b"you said: " + await reader.readline())
    await writer.drain()
