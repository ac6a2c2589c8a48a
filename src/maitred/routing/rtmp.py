"""
How an RTMP client begins, recognised in peeked bytes and answered. Pure.

    client                                    server
    C0 version, C1 1536 bytes       ->
                                    <-        S0, S1, S2: answered by the master
    C2 1536 bytes                   ->
    connect { app: "live", ... }    ->        the worker has the word

(Adobe, "Real Time Messaging Protocol", section 5.) Who publishes what is said only
after a handshake that the server has to take part in; so a peek alone does not do.
The handshake is consumed, and a worker begins with ``connect``; the name of the stream
follows the worker's answer to that, and is for the worker alone.

Invariants: what was read over up to ``connect`` stays unread for the worker. A client
that is refused after ``connect`` is told so.
"""

from __future__ import annotations

import hashlib
from typing import Final

from . import amf
from .frame import Frame, Malformed
from .sniffers import Fields, Reply, Sniffer, refused
from .verdict import NEED_MORE, NeedMore, NoMatch

VERSION: Final = 3
FIRST_TEXT: Final = 32
"From here on, the first byte is no version but a character (section 5.2.2)."
HANDSHAKE: Final = 1536
LIMIT: Final = 16 * 1024
CHUNK_SIZE: Final = 128
MOST_CHUNK: Final = 0xFFFFFF
SET_CHUNK_SIZE: Final = 1
COMMANDS: Final = {20: 0, 17: 1}
"Types of messages that are commands: in AMF 0, in AMF 3 after one more byte."
BEFORE_CONNECT: Final = frozenset({1, 2, 3, 4, 5, 6})
"Types of messages that may come before: those that control the connection."
CONNECT: Final = b"\x02\x00\x07connect"
"How the command begins, in AMF 0 and in AMF 3."
NAMELESS: Final = b"/"
"The application of clients that name none; no name of another has a slash around it."
REJECTED: Final = b"NetConnection.Connect.Rejected"
HEADERS: Final = (11, 7, 3, 0)
"Bytes of the message header, by its format (section 5.3.1.2)."
EXTENDED: Final = 0xFFFFFF

NOT_RTMP: Final = refused("not_rtmp")
BAD_VERSION: Final = refused("bad_version")
BAD_PACKET: Final = refused("bad_packet")
NO_APP: Final = refused("no_app")


def sniff_version(data: bytes) -> NeedMore | NoMatch | Reply:
    """Return the answer to C0 and C1 at the start of *data*, once they are complete."""
    if data[:1] and data[0] != VERSION:
        return BAD_VERSION if data[0] < FIRST_TEXT else NOT_RTMP
    if len(data) < 1 + HANDSHAKE:
        return NEED_MORE
    return Reply(1 + HANDSHAKE, answer(data[1 : 1 + HANDSHAKE]))


def answer(c1: bytes) -> bytes:
    """
    Return S0, S1 and S2 for *c1*.

    S1 must differ between connections (section 5.2.3), so it is derived from the random
    bytes that the client drew for the same purpose. Its version is 0, which promises no
    digests.
    """
    drawn = hashlib.shake_128(c1).digest(HANDSHAKE - 8)
    return bytes([VERSION]) + bytes(8) + drawn + c1


def sniff_echo(data: bytes) -> NeedMore | Reply:
    """Return a reply that drops C2, which names nothing, from the start of *data*."""
    return NEED_MORE if len(data) < HANDSHAKE else Reply(HANDSHAKE, b"")


def sniff_connect(data: bytes) -> NeedMore | NoMatch | Fields:
    """Find ``app`` in the command with which *data*, after the handshake, begins."""
    try:
        command = _first_command(data)
        return NEED_MORE if command is None else _app(Frame(command))
    except Malformed:
        return BAD_PACKET


def _app(frame: Frame) -> NoMatch | Fields:
    """Read ``app`` in the command ``connect`` (section 7.2.1.1)."""
    if amf.value(frame) != b"connect":
        return BAD_PACKET
    amf.value(frame)  # the transaction
    details = amf.value(frame)
    app = details.get(b"app", b"") if isinstance(details, dict) else None
    if not isinstance(app, bytes):
        return NO_APP
    # Without the query, because clients put their credentials there.
    app = app.partition(b"?")[0].strip(b"/")
    # A name for those who name none, because those of rtmp://host/stream are to find
    # each other too.
    return {"app": app or NAMELESS}


def refuse(cause: str, heard: bytes) -> bytes:
    """Return the ``_error`` that answers ``connect``; empty if *heard* has none yet."""
    if CONNECT not in heard:
        return b""
    said = {b"level": b"error", b"code": REJECTED, b"description": cause.encode()}
    # The transaction of a connect is number 1 (section 7.2.1.1).
    message = amf.text(b"_error") + amf.number(1) + amf.NOTHING + amf.members(said)
    # On chunk stream 3, at time 0, in chunks of the size that there is at first.
    header = bytes([3, 0, 0, 0, *len(message).to_bytes(3, "big"), 20, 0, 0, 0, 0])
    first, *rest = (
        message[at : at + CHUNK_SIZE] for at in range(0, len(message), CHUNK_SIZE)
    )
    return header + first + b"".join(b"\xc3" + part for part in rest)


class _Stream:
    """One chunk stream: the message that is being put together there."""

    def __init__(self) -> None:
        self.kind = self.size = 0
        self.extended = False
        self.message = b""


def _first_command(data: bytes) -> bytes | None:
    """
    Return the first command, put together from its chunks; None if more has to come.

    Raises:
        Malformed: *data* will never have a command, whatever follows.
    """
    streams: dict[int, _Stream] = {}
    chunk_size = CHUNK_SIZE
    at = 0
    while True:
        head = _Cut(data, at)
        try:
            stream, fresh = _header(head, streams)
        except _CutShort:
            return None
        if fresh:
            stream.message = b""
        # Refused by its header alone, because no client begins with other messages.
        if stream.kind not in COMMANDS and stream.kind not in BEFORE_CONNECT:
            raise Malformed
        wanted = min(chunk_size, stream.size - len(stream.message))
        payload = data[head.at : head.at + wanted]
        if len(payload) < wanted:
            return None
        at = head.at + wanted
        stream.message += payload
        if len(stream.message) < stream.size:
            continue
        if stream.kind in COMMANDS:
            return stream.message[COMMANDS[stream.kind] :]
        if stream.kind == SET_CHUNK_SIZE:
            chunk_size = Frame(stream.message).number(4)
            if not 0 < chunk_size <= MOST_CHUNK:
                raise Malformed
        stream.message = b""


class _CutShort(Exception):
    """A header is not all there."""


class _Cut:
    """Numbers of a header that may not be all there."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def number(self, size: int) -> int:
        taken = self._data[self.at : self.at + size]
        if len(taken) < size:
            raise _CutShort
        self.at += size
        return int.from_bytes(taken, "big")


def _header(head: _Cut, streams: dict[int, _Stream]) -> tuple[_Stream, bool]:
    """
    Read the header of a chunk at *head*.

    Return the chunk's stream, which is then in *streams*, and whether a message begins
    with this chunk.
    """
    first = head.number(1)
    kind, number = first >> 6, first & 0x3F
    if number < 2:  # noqa: PLR2004 - ids 0 and 1 say that the id follows
        number = 64 + head.number(1 + number)
    known = streams.get(number)
    if known is None and not HEADERS[kind] >= HEADERS[1]:
        raise Malformed  # size and type would be those of a header that there was not
    stream = known or _Stream()
    before = stream.message
    stamp = 0
    if HEADERS[kind]:
        if before:
            raise Malformed  # the one before was never completed
        stamp = head.number(3)
        extended = stamp == EXTENDED
        if HEADERS[kind] >= HEADERS[1]:
            size, type_ = head.number(3), head.number(1)
            if HEADERS[kind] == HEADERS[0]:
                head.number(4)
            if not 0 < size <= LIMIT:
                raise Malformed
            stream.size, stream.kind = size, type_
        stream.extended = extended
    # Also in a chunk without a time, because that repeats the extended one before.
    if stream.extended:
        head.number(4)
    streams[number] = stream
    return stream, not before


RTMP: Final = Sniffer(
    name="rtmp",
    sniff=sniff_version,
    fields=("app",),
    then=(sniff_echo, sniff_connect),
    limit=LIMIT,
    refuse=refuse,
    about="RTMP: the application's name, after a handshake that the master answers",
)
