"""
A gate with a server behind it that a test can look into, and the workers' parsers.

The server answers each request as soon as it is complete, which is when the next may
pass. Where a request ends is decided by httptools, not by the gate.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import h11
import httptools

from maitred.routing.http1 import HEAD_LIMIT, RawHead
from maitred.worker.gate import Elsewhere, Gate, Reading, Stage

FIRST = b"GET /first HTTP/1.1\r\nHost: first.example\r\n\r\n"


@dataclass
class Seen:
    """A request as a parser read it."""

    method: str = ""
    target: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


class Gated:
    """One connection: a gate, and a server that answers at once."""

    def __init__(
        self,
        belongs: Callable[[RawHead], Elsewhere | None] = lambda _head: None,
        limit: int = HEAD_LIMIT,
    ) -> None:
        """Start between two requests; *limit* is the bytes that a head may have."""
        self.passed: list[bytes] = []
        self.requests: list[bytes] = []
        self.refusal: tuple[int, str] | None = None
        self.given_back: tuple[Elsewhere, bytes] | None = None
        self.late = b""
        self._request = b""
        self.belongs = belongs
        self.gate = Gate(self, peer=b"192.0.2.7", limit=limit)

    @property
    def waits(self) -> bool:
        """Return whether the client has to send more before its request is one."""
        return self.gate.stage is Stage.INSIDE or bool(self.gate.pending)

    def send(self, data: bytes) -> None:
        """Send *data* as the client; answer every request that is complete."""
        if self.given_back is not None:
            self.late += data
        self.gate.receive(data)
        while self.gate.stage is Stage.ANSWERING:
            self.requests.append(self._request)
            self._request = b""
            self.gate.answered()

    def pass_on(self, data: bytes) -> None:
        """Read *data* as the server, in step with the gate."""
        self.passed.append(data)
        self._request += data
        if self.gate.reading is Reading.DUE:
            assert self.gate.begun()
        if self.gate.stage is not Stage.INSIDE:
            assert self.gate.ended()

    def give_back(self, to: Elsewhere, unread: bytes) -> None:
        """Record where the connection went, and with which bytes."""
        self.given_back = to, unread

    def refuse(self, status: int, cause: str) -> None:
        """Record the refusal."""
        self.refusal = status, cause

    def drop(self) -> None:
        """Record the close, as a refusal."""
        self.refusal = 0, "answered before"

    def out_of_step(self) -> None:
        """Record the close, as a refusal."""
        self.refusal = 0, "out_of_step"


def elsewhere_after_first() -> Callable[[RawHead], Elsewhere | None]:
    """Return a ``belongs`` for which the first request is here, and no other."""
    seen: list[RawHead] = []

    def belongs(head: RawHead) -> Elsewhere | None:
        seen.append(head)
        return None if len(seen) == 1 else Elsewhere(b"host=other", learned=False)

    return belongs


def read_with_h11(data: bytes) -> list[Seen]:
    """Return every complete request in *data*, up to what h11 refuses."""
    found: list[Seen] = []
    connection = _h11(data)
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return found
        if isinstance(event, h11.Request):
            current = Seen(
                event.method.decode(),
                event.target.decode(),
                [(n.decode(), v.decode("latin1")) for n, v in event.headers],
            )
        elif isinstance(event, h11.Data):
            current.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            found.append(current)
            connection = _h11(connection.trailing_data[0])
        else:
            return found


def _h11(data: bytes) -> h11.Connection:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    return connection


class _Reader:
    """What httptools calls back."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self.found: list[Seen] = []

    def on_message_begin(self) -> None:
        """Start a request."""
        self.current = Seen()
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        """Add part of the target."""
        self.current.target += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header line; a trailer is left out, as the worker does."""
        if self.in_head:
            self.current.headers.append(
                (name.decode().lower(), value.decode("latin1").strip(" \t"))
            )

    def on_headers_complete(self) -> None:
        """Record that the head is there."""
        self.in_head = False
        self.current.method = self.parser.get_method().decode()

    def on_body(self, body: bytes) -> None:
        """Add part of the body."""
        self.current.body += body

    def on_message_complete(self) -> None:
        """Record that the request is there."""
        self.found.append(self.current)


def read_with_httptools(data: bytes) -> list[Seen]:
    """Return every complete request in *data*, up to what httptools refuses."""
    reader = _Reader()
    reader.parser = httptools.HttpRequestParser(reader)
    # It stops for an upgrade, which is the last thing that it reads.
    with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
        reader.parser.feed_data(data)
    return reader.found


PARSERS = {"h11": read_with_h11, "httptools": read_with_httptools}
