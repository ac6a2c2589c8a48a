"""
HTTP/1.1 clients that hide nothing: what is sent is what the test says.

``Connection`` is one blocking connection; ``fetch`` is one connection, one request, one
answer in asyncio, for crowds.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, NamedTuple, Self

from driver import DEADLINE


class Answer(NamedTuple):
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


def get(path: str = "/", *lines: str, method: str = "GET") -> bytes:
    """Return a request without a body, with further header *lines*."""
    head = [f"{method} {path} HTTP/1.1", "host: test", *lines]
    return "\r\n".join([*head, "", ""]).encode()


class Connection:
    """One connection, read answer by answer."""

    def __init__(self, sock: socket.socket) -> None:
        """Start with *sock*, which is connected, and closed by ``close``."""
        self.sock = sock
        self._file = sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, whatever is unread."""
        self._file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send *data*."""
        self.sock.sendall(data)

    def ask(self, data: bytes) -> Answer:
        """Send *data* and return one answer."""
        self.send(data)
        return self.answer()

    def head_of(self, data: bytes) -> tuple[int, dict[str, str]]:
        """Send *data* and return status and headers of the answer."""
        self.send(data)
        return self.head()

    def answer(self, *, body: bool = True) -> Answer:
        """Read and return one answer; *body* is false for HEAD's, and for 100."""
        status, headers = self.head()
        return Answer(status, headers, self._body(headers) if body else b"")

    def head(self) -> tuple[int, dict[str, str]]:
        """Read and return status and headers of one answer, names in lower case."""
        first = self._file.readline()
        assert first.startswith(b"HTTP/1.1 "), first
        headers = {}
        while (line := self._file.readline()) != b"\r\n":
            name, colon, value = line.decode("latin1").partition(":")
            assert colon, line
            headers[name.lower()] = value.strip()
        return int(first.split()[1]), headers

    def read(self, count: int) -> bytes:
        """Read *count* bytes, or fewer if the server closes before."""
        return self._file.read(count)

    def at_end(self) -> bool:
        """Wait for the next byte; return whether the server closed instead."""
        return not self._file.read(1)

    def _body(self, headers: dict[str, str]) -> bytes:
        """Read what *headers* say that follows: a length, chunks, or all to the end."""
        if "content-length" in headers:
            return self._file.read(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return self._file.read()
        body = b""
        while size := int(self._file.readline(), 16):
            body += self._file.read(size)
            assert self._file.readline() == b"\r\n"
        assert self._file.readline() == b"\r\n"
        return body


def connect(
    port: int, host: str = "127.0.0.1", source: str | None = None
) -> Connection:
    """Connect to *host*, from the address *source* if that is given."""
    return Connection(
        socket.create_connection(
            (host, port), DEADLINE, None if source is None else (source, 0)
        )
    )


def connect_unix(path: str) -> Connection:
    """Connect to the Unix socket at *path*."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(DEADLINE)
    sock.connect(path)
    return Connection(sock)


def ask(port: int, path: str = "/", *lines: str, **where: Any) -> Answer:
    """Return the answer to one GET, on a connection of its own."""
    with connect(port, **where) as connection:
        return connection.ask(get(path, *lines, "connection: close"))


async def fetch(port: int, request: bytes) -> Answer:
    """Send *request*, which must ask to close, and return the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    first, *lines = head.decode("latin1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Answer(int(first.split()[1]), headers, body)


async def crowd(port: int, requests: list[bytes], at_once: int = 100) -> list[Answer]:
    """
    Return the answers to *requests*, each on a connection of its own.

    No more than *at_once* of them are under way at a time.
    """
    turn = asyncio.Semaphore(at_once)

    async def one(request: bytes) -> Answer:
        """Fetch one answer when it is its turn."""
        async with turn, asyncio.timeout(DEADLINE):
            return await fetch(port, request)

    return await asyncio.gather(*map(one, requests))
