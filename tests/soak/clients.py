"""
What a client of the long mixed load is: its requests, its connection, its entries.

A client enters a request before its first byte leaves, and then what came of it. All
that it does is drawn from the seed and its number. ``plays`` has the kinds of clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ledger import Entry, Extent

PATIENCE: Final = 40.0
"Seconds after which a client gives up. Longer than any documented wait of the server."
RESET: Final = struct.pack("ii", 1, 0)
"SO_LINGER: on, for no time; closing says RST."


@dataclass
class Request(Entry):
    """One request, or one message of a WebSocket, as its client saw it."""

    kind: str = ""
    session: str = "-"
    port: int = 0
    "The connection's local port."
    begun: float = 0.0
    whole_at: float = 0.0
    ended: float = 0.0
    idle: float = 0.0
    "Seconds for which the connection had been silent."
    own_doing: str = ""
    "What the client did so that no answer can be expected."
    problem: str = ""
    "How the connection ended, as Python says it."
    wrong: str = ""
    "What was wrong about what came."
    got_session: str = ""
    close_code: int = 0
    digest: tuple[int, str] = (0, hashlib.sha256().hexdigest()[:16])
    before: Request | None = field(default=None, repr=False)
    "The request before it on the same connection."

    def hear(self, body: bytes) -> None:
        """Compare the last line of an answer with what it has to be."""
        try:
            id_, pid, session, _, size, digest = body.decode().split()
        except ValueError:
            self.wrong = f"the answer is {body[:80]!r}"
            return
        self.pid, self.got_session = int(pid), session
        if id_ != self.id:
            self.wrong = f"the answer to {id_}"
        elif (int(size), digest) != self.digest:
            self.wrong = f"another body was heard: {size} bytes, {digest}"
        elif session != self.session and not self.may_get(session):
            self.wrong = f"the answer of session {session}"

    def may_get(self, session: str) -> bool:
        """Return whether *session* may have been made in place of the one asked for."""
        return self.session[0] in "-c" and session[0] == "c"


class Wire:
    """One connection, and the requests that were made on it."""

    def __init__(self, reader: Any, writer: Any) -> None:
        """Own a connection."""
        self.reader: asyncio.StreamReader = reader
        self.writer: asyncio.StreamWriter = writer
        writer.transport.set_write_buffer_limits(high=0)
        self.socket = writer.get_extra_info("socket")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self.socket.getsockname()[1]
        self.last: Request | None = None
        self.silent_since = time.time()

    def close(self) -> None:
        """Close."""
        self.writer.close()

    def reset(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()

    async def send(self, request: Request, pieces: list[bytes], pause: float) -> None:
        """Send *pieces*; each is sent when the kernel has taken it."""
        for number, piece in enumerate(pieces):
            request.sent = Extent.PART
            self.writer.write(piece)
            await self.writer.drain()
            if number + 1 < len(pieces):
                await asyncio.sleep(pause)
        request.sent, request.whole_at = Extent.WHOLE, time.time()

    async def hear(self, request: Request) -> bool:
        """Read the answer to *request*; return whether the connection goes on."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        request.answered = Extent.PART
        request.status = int(head.split()[1])
        lines = head.decode("latin1").lower().split("\r\n")[1:-2]
        headers = dict(line.split(": ", 1) for line in lines)
        body = b""
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        elif "chunked" in headers.get("transfer-encoding", ""):
            while size := int(await self.reader.readline(), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        elif request.status != 101:
            body = await self.reader.read()
        request.answered, self.silent_since = Extent.WHOLE, time.time()
        if request.status == 200:
            *events, last = body.splitlines(keepends=True)
            said = [line.split()[2] for line in events if line.strip()]
            if said != [str(number).encode() for number in range(len(said))]:
                request.wrong = f"events came as {said}"
            request.hear(last)
        return headers.get("connection") != "close" and request.status != 101


class Client:
    """One client of a kind; it has one connection at a time."""

    def __init__(self, kind: str, number: int, port: int, seed: int, carts: list[str]):
        """Be client *number*; *carts* are the learned names that clients share."""
        self.kind = kind
        self.name = f"{kind}{number}"
        self.requests: list[Request] = []
        self.carts = carts
        self.chance = random.Random(f"{seed} {self.name}")
        self.wire: Wire | None = None
        self.closed_while_idle = 0
        self._port = port

    async def run(
        self, play: Callable[[Client], Awaitable[None]], stop: asyncio.Event
    ) -> None:
        """Do *play* again and again until *stop* is set."""
        await asyncio.sleep(self.chance.random())
        while not stop.is_set():
            await play(self)
            await asyncio.sleep(self.chance.uniform(0.01, 0.25))
        await self.end()

    async def end(self) -> None:
        """Close the connection, and wait until that is done."""
        if self.wire is not None:
            self.wire.close()
            with contextlib.suppress(OSError):
                await self.wire.writer.wait_closed()
            self.wire = None

    def leave(self) -> None:
        """Close the connection, if there is one."""
        if self.wire is not None:
            self.wire.close()
            self.wire = None

    def enter(self, session: str = "-", body: bytes = b"", **what: Any) -> Request:
        """Enter a request that is about to be made."""
        id_ = f"{self.name}-{len(self.requests)}"
        request = Request(id_, kind=self.kind, session=session, **what)
        request.begun = time.time()
        request.digest = len(body), hashlib.sha256(body).hexdigest()[:16]
        self.requests.append(request)
        return request

    async def connected(self, request: Request) -> Wire:
        """Return the connection; make one if there is none, or it was closed."""
        if self.wire is not None and self.wire.reader.at_eof():
            self.closed_while_idle += 1
            self.leave()
        if self.wire is None:
            self.wire = Wire(*await asyncio.open_connection("127.0.0.1", self._port))
        wire = self.wire
        request.port, request.before, wire.last = wire.port, wire.last, request
        request.idle = time.time() - wire.silent_since
        return wire

    async def play(self, request: Request, part: Callable[[], Awaitable[None]]) -> None:
        """Do *part* of a request; enter how it ends, if that is badly."""
        try:
            async with asyncio.timeout(PATIENCE):
                await part()
        except (OSError, EOFError, TimeoutError, ValueError, LookupError) as exc:
            request.problem = f"{type(exc).__name__}: {exc}"[:200]
            self.leave()
        request.ended = time.time()

    async def ask(
        self, request: Request, pieces: list[bytes], pause: float = 0.001
    ) -> None:
        """Make one request, and read its answer."""

        async def part() -> None:
            wire = await self.connected(request)
            await wire.send(request, pieces, pause)
            if not await wire.hear(request):
                self.leave()

        await self.play(request, part)

    def any_session(self) -> str:
        """Draw one of the sessions that clients share; some are learned."""
        if self.carts and self.chance.random() < 0.3:
            return self.chance.choice(self.carts)
        return f"s{self.chance.randrange(24)}"


def compose(
    request: Request,
    *lines: str,
    path: str = "/ask",
    body: bytes | None = None,
    chunks: int = 0,
    version: str = "1.1",
) -> list[bytes]:
    """Return the head, and the body in *chunks*, or in one piece if there are none."""
    name = request.session
    named = {"-": [], "c": [f"cookie: cart={name}"]}.get(
        name[:1], [f"x-session: {name}"]
    )
    method = "GET" if body is None else "POST"
    head = [f"{method} {path} HTTP/{version}", "host: test", f"x-id: {request.id}"]
    framing, pieces = [], []
    if body is not None and chunks:
        framing = ["transfer-encoding: chunked"]
        size = len(body) // chunks + 1
        cut = [body[at : at + size] for at in range(0, len(body), size)]
        pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in cut]
        pieces.append(b"0\r\n\r\n")
    elif body is not None:
        framing = [f"content-length: {len(body)}"]
        pieces = [body] if body else []
    whole = "\r\n".join([*head, *named, *framing, *lines, "", ""])
    return [whole.encode(), *pieces]
