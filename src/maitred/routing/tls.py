"""
The ClientHello of a TLS connection, recognised in peeked bytes. Pure.

    record      22, version, length, payload      as many as the message needs
    message     1, length, hello                  may be cut anywhere into records
    hello       version, random[32], session id, cipher suites, compression methods,
                extensions: type, length, body    server_name is 0, ALPN is 16

Only what says where a connection goes is looked at: the host name (RFC 6066 section 3)
and the protocols (RFC 7301). With an encrypted hello (RFC 9849) that is the outer name,
the only one that can be read here. Whatever else is in the hello, GREASE (RFC 8701)
included, is for the worker's TLS library, which reads the same bytes again.

Invariant: a hello that is cut short, overlong, has an extension twice or names no name
that can be a host's is bad, and nobody guesses what its sender meant.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .frame import Frame, Malformed
from .verdict import NEED_MORE, NeedMore, NoMatch

HELLO_LIMIT: Final = 64 * 1024
"""
Bytes a ClientHello may have, its records included: several times what post-quantum
keys, a ticket and an encrypted hello take together. OpenSSL reads up to 128 KiB.
"""

HANDSHAKE: Final = 22
CLIENT_HELLO: Final = 1
SSL3_OR_LATER: Final = 3
RECORD_HEADER: Final = 5
MESSAGE_HEADER: Final = 4
LONGEST_RECORD: Final = 2**14
FIXED: Final = 34
"Bytes of version and random, at the start of every hello."
LONGEST_SESSION_ID: Final = 32
SERVER_NAME: Final = 0
ALPN: Final = 16
LONGEST_NAME: Final = 255

NAME: Final = re.compile(rb"[A-Za-z0-9_.-]+")
"Letters, digits, hyphen, dot (RFC 6066 section 3), and the underscore that is in use."
ADDRESS: Final = re.compile(rb"\[.*\]|[0-9.]+")

NOT_TLS: Final = NoMatch(400, "not_tls")
BAD_HELLO: Final = NoMatch(400, "bad_hello")
TOO_LARGE: Final = NoMatch(431, "hello_too_large")


class ClientHello(NamedTuple):
    """
    The parts of a ClientHello that say where its connection goes.

    ``sni`` is the host name in lower case without a trailing dot, empty if it gives
    none; ``alpn`` the protocols it offers, in order, none if it says nothing.
    """

    sni: bytes
    alpn: tuple[bytes, ...]


def sniff_hello(
    data: bytes, limit: int = HELLO_LIMIT
) -> NeedMore | ClientHello | NoMatch:
    """
    Parse the ClientHello at the start of *data*.

    Args:
        data: All bytes peeked so far.
        limit: Number of bytes it may have, with the headers of its records.
    """
    # Cut, because the answer must not depend on how many bytes came at once.
    if len(data) > limit:
        data = data[:limit]
    message = _message(data)
    if message is None:
        return TOO_LARGE if len(data) == limit else NEED_MORE
    if isinstance(message, NoMatch):
        return message
    try:
        return _hello(Frame(message))
    except Malformed:
        return BAD_HELLO


def normal_name(name: bytes) -> bytes | None:
    """Return host *name* in lower case without trailing dot; None if it is no name."""
    if len(name) > LONGEST_NAME or not NAME.fullmatch(name):
        return None
    return name.lower().removesuffix(b".") or None


def may_ask_for(sni: bytes, host: bytes) -> bool:
    """
    Return whether a request for *host* may come on a connection made for *sni*.

    A client that connects to an address sends no name (RFC 6066 section 3), and asks
    for that address; one of HTTP/1.0 need not name a host at all.

    Args:
        sni: The name in the ClientHello, in normal form, or empty.
        host: The name that the request is for, in normal form, or empty.
    """
    if not host or sni == host:
        return True
    return not sni and ADDRESS.fullmatch(host) is not None


def _message(data: bytes) -> bytes | NoMatch | None:
    """Return the hello, put together from its records; None if more has to come."""
    message = b""
    at = announced = 0
    while at <= len(data):
        size = _record(data[at : at + RECORD_HEADER])
        if isinstance(size, NoMatch):
            # Only at the first, because what follows a record of TLS is bad TLS.
            return size if at == 0 else BAD_HELLO
        if size is None:
            return None
        at += RECORD_HEADER
        message += data[at : at + size]
        at += size
        announced += size
        if message and message[0] != CLIENT_HELLO:
            return BAD_HELLO
        if len(message) >= MESSAGE_HEADER:
            length = MESSAGE_HEADER + int.from_bytes(message[1:MESSAGE_HEADER], "big")
            # Nothing else may be in the hello's last record, because the keys may
            # change after it (RFC 8446 section 5.1).
            if announced > length:
                return BAD_HELLO
            if len(message) == length:
                return message[MESSAGE_HEADER:]
    return None


def _record(header: bytes) -> int | NoMatch | None:
    """
    Return the payload's size of the record that begins with *header*.

    None if *header* is cut short and right so far; otherwise why it is none.
    """
    if header[:1] and header[0] != HANDSHAKE:
        return NOT_TLS
    if header[1:2] and header[1] != SSL3_OR_LATER:
        return NOT_TLS
    if len(header) < RECORD_HEADER:
        return None
    size = int.from_bytes(header[3:], "big")
    return size if 0 < size <= LONGEST_RECORD else BAD_HELLO


def _hello(frame: Frame) -> ClientHello | NoMatch:
    """Read the name and the protocols in a whole hello, and check its structure."""
    frame.take(FIXED)
    session_id = frame.vector(1)
    suites = frame.vector(2, least=2)
    frame.vector(1, least=1)  # compression methods
    if len(session_id) > LONGEST_SESSION_ID or len(suites) % 2:
        return BAD_HELLO
    extensions: dict[int, bytes] = {}
    if frame:
        body = Frame(frame.vector(2))
        while body:
            kind = body.number(2)
            if kind in extensions:
                return BAD_HELLO
            extensions[kind] = body.vector(2)
    if frame:
        return BAD_HELLO
    sni = b""
    alpn: tuple[bytes, ...] = ()
    if SERVER_NAME in extensions:
        name = normal_name(_server_name(extensions[SERVER_NAME]))
        if name is None:
            return BAD_HELLO
        sni = name
    if ALPN in extensions:
        alpn = _protocols(extensions[ALPN])
    return ClientHello(sni, alpn)


def _server_name(body: bytes) -> bytes:
    """Return the host name in a server_name extension, which holds exactly one."""
    frame = Frame(body)
    names = Frame(frame.vector(2, least=1))
    if frame or names.number(1):
        raise Malformed
    name = names.vector(2, least=1)
    if names:
        raise Malformed
    return name


def _protocols(body: bytes) -> tuple[bytes, ...]:
    """Return the names in an ALPN extension: at least one, none of them empty."""
    frame = Frame(body)
    names = Frame(frame.vector(2, least=2))
    if frame:
        raise Malformed
    found = []
    while names:
        found.append(names.vector(1, least=1))
    return tuple(found)
