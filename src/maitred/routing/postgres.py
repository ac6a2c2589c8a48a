"""
How a PostgreSQL client begins, recognised in peeked bytes. Pure.

    length, 80877103           SSLRequest     answered "N": go on without
    length, 80877104           GSSENCRequest  likewise
    length, 80877102, key      CancelRequest  goes to the worker that gave out the key
    length, 3.x, name 0 value 0 ... 0         StartupMessage

(PostgreSQL's documentation, "Message Formats".) Encryption ends in front of maitred or
not at all: inside it nobody could see where a connection belongs.

Invariant: a length or a text that leads beyond its message is bad.
"""

from __future__ import annotations

from typing import Final

from .sniffers import Fields, Reply, Sniffer, refused
from .verdict import NEED_MORE, NeedMore, NoMatch

LONGEST: Final = 10_000
"Bytes of a StartupMessage, as in the server itself (MAX_STARTUP_PACKET_LENGTH)."
HEADER: Final = 8
CANCEL: Final = 80877102
SSL: Final = 80877103
GSSENC: Final = 80877104
MAJOR: Final = 3
OLD: Final = 2
"A version whose clients read an error that is a text without fields or length."
AFTER_PROCESS: Final = HEADER + 4
STARTUP_SIZES: Final = range(HEADER + 1, LONGEST + 1)
SIZES: Final = {
    SSL: range(HEADER, HEADER + 1),
    GSSENC: range(HEADER, HEADER + 1),
    CANCEL: range(AFTER_PROCESS + 4, AFTER_PROCESS + 256 + 1),
}
"Lengths there may be; the key of a CancelRequest has 4 bytes, in 3.2 up to 256."
CANCEL_KEY: Final = "cancel"

BAD_PACKET: Final = refused("bad_packet")
BAD_VERSION: Final = refused("bad_version")

WORDS: Final = {
    "bad_packet": ("08P01", "This is no startup packet of PostgreSQL."),
    "bad_version": ("0A000", "Only protocol 3 of PostgreSQL is spoken here."),
    "too_large": ("08P01", "The startup packet is too large."),
    "head_timeout": ("08006", "The startup packet did not arrive in time."),
    "too_many_from_source": ("53300", "This address has too many connections."),
    "stopping": ("57P03", "This server is stopping."),
}
"SQLSTATE and text for a cause."
UNAVAILABLE: Final = ("57P03", "No worker can take this connection now.")
"The same for whatever else is no fault of the client."


def sniff(data: bytes) -> NeedMore | NoMatch | Reply | Fields:
    """Find ``database`` and ``user``, or the key of a CancelRequest, in *data*."""
    if len(data) < HEADER:
        # The largest length has 14 bits, so the first two of its four bytes are zero.
        return BAD_PACKET if data[:2].strip(b"\0") else NEED_MORE
    size, code = _begin(data)
    if size not in SIZES.get(code, STARTUP_SIZES):
        return BAD_PACKET
    if code in {SSL, GSSENC}:
        return Reply(HEADER, b"N")
    if code != CANCEL and code >> 16 != MAJOR:
        return BAD_VERSION
    if len(data) < size:
        return NEED_MORE
    if code == CANCEL:
        return {
            CANCEL_KEY: cancel_key(data[HEADER:AFTER_PROCESS], data[AFTER_PROCESS:size])
        }
    return _startup(data[HEADER:size])


def cancel_key(process: bytes, secret: bytes) -> bytes:
    """
    Return the value of field ``cancel`` for the two parts of a BackendKeyData.

    Args:
        process: The four bytes of the process ID.
        secret: The secret key.
    """
    return process.hex().encode() + b"." + secret.hex().encode()


def refuse(cause: str, heard: bytes) -> bytes:
    """Return the ErrorResponse for *cause*; a CancelRequest is never answered."""
    code = _begin(heard)[1] if len(heard) >= HEADER else 0
    if code == CANCEL:
        return b""
    state, text = WORDS.get(cause, UNAVAILABLE)
    if code >> 16 == OLD:
        return f"EFATAL:  {text}\n\0".encode()
    parts = (
        b"SFATAL",
        b"VFATAL",
        b"C" + state.encode(),
        b"M" + text.encode(),
        b"",
        b"",
    )
    body = b"\0".join(parts)
    return b"E" + (len(body) + 4).to_bytes(4, "big") + body


def _begin(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[:4], "big"), int.from_bytes(data[4:HEADER], "big")


def _startup(body: bytes) -> NoMatch | Fields:
    """
    Read the parameters of a StartupMessage: names and values, then an empty name.

    Return the fields, or BAD_PACKET.
    """
    *texts, rest = body.split(b"\0")
    if rest or len(texts) % 2 == 0 or texts.pop() or b"" in texts[::2]:
        return BAD_PACKET
    names, values = texts[::2], texts[1::2]
    for name in (b"user", b"database"):
        if names.count(name) > 1:
            return BAD_PACKET
    said = dict(zip(names, values, strict=True))
    user = said.get(b"user", b"")
    if not user:
        return BAD_PACKET
    # The user, because the server does the same (libpq's documentation, "dbname").
    return {"user": user, "database": said.get(b"database") or user}


POSTGRES: Final = Sniffer(
    name="postgres",
    sniff=sniff,
    fields=("database", "user"),
    made=(CANCEL_KEY,),
    limit=LONGEST + 1,
    refuse=refuse,
    about="PostgreSQL: the database, the user; a CancelRequest finds its session",
)
