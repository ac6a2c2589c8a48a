"""ClientHellos: recorded ones, and ones made by hand of any parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple


class Recorded(NamedTuple):
    """What a real client sent, and what it was told to say."""

    data: bytes
    sni: bytes
    alpn: tuple[bytes, ...]


def _load() -> dict[str, Recorded]:
    path = Path(__file__).parent / "data" / "client_hellos.json"
    return {
        name: Recorded(
            bytes.fromhex(each["hello"]),
            each["sni"].encode(),
            tuple(protocol.encode() for protocol in each["alpn"]),
        )
        for name, each in json.loads(path.read_text()).items()
    }


RECORDED = _load()
"See data/record_client_hellos.py for where they come from."


def vector(size: int, data: bytes) -> bytes:
    """Return *data* after its length, which takes *size* bytes."""
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, body: bytes) -> bytes:
    """Return an extension."""
    return kind.to_bytes(2, "big") + vector(2, body)


def server_name(name: bytes, kind: int = 0) -> bytes:
    """Return the extension with the host's name."""
    return extension(0, vector(2, bytes([kind]) + vector(2, name)))


def alpn(*protocols: bytes) -> bytes:
    """Return the extension with the protocols."""
    return extension(16, vector(2, b"".join(vector(1, each) for each in protocols)))


def hello(
    *extensions: bytes,
    session_id: bytes = b"s" * 32,
    suites: bytes = b"\x13\x01\x13\x02",
    compression: bytes = b"\0",
    tail: bytes | None = None,
) -> bytes:
    """Return a hello's content; *tail* stands in place of the extensions."""
    if tail is None:
        tail = vector(2, b"".join(extensions))
    return (
        b"\x03\x03"
        + bytes(range(32))
        + vector(1, session_id)
        + vector(2, suites)
        + vector(1, compression)
        + tail
    )


def message(content: bytes, kind: int = 1) -> bytes:
    """Return the handshake message of a hello's *content*."""
    return bytes([kind]) + vector(3, content)


def record(payload: bytes, kind: int = 22, version: bytes = b"\x03\x01") -> bytes:
    """Return one record."""
    return bytes([kind]) + version + vector(2, payload)


def records(data: bytes, size: int = 2**14) -> bytes:
    """Return the message *data*, cut into records of *size* bytes."""
    return b"".join(
        record(data[at : at + size], version=b"\x03\x01" if not at else b"\x03\x03")
        for at in range(0, len(data), size)
    )


NAME = server_name(b"a.example")
KEY_SHARE = extension(51, vector(2, b"\x11\xec" + vector(2, b"k" * 1216)))
"An X25519MLKEM768 key, in the size it has."
GREASE = extension(0x0A0A, b"")
ENCRYPTED = extension(0xFE0D, b"\0\0\1\0\1\7" + vector(2, b"") + vector(2, b"e" * 239))
"An outer hello's encrypted_client_hello."

GOOD = {
    "name": (message(hello(NAME)), b"a.example", ()),
    "nothing": (message(hello()), b"", ()),
    "no extensions at all": (message(hello(tail=b"")), b"", ()),
    "name last": (
        message(hello(GREASE, KEY_SHARE, alpn(b"http/1.1"), NAME)),
        b"a.example",
        (b"http/1.1",),
    ),
    "name first": (
        message(hello(NAME, alpn(b"http/1.1"), KEY_SHARE, GREASE)),
        b"a.example",
        (b"http/1.1",),
    ),
    "GREASE among all": (
        message(
            hello(
                GREASE,
                NAME,
                alpn(b"\x0a\x0a", b"h2"),
                extension(0x1A1A, b"\0"),
                suites=b"\x0a\x0a\x13\x01",
            )
        ),
        b"a.example",
        (b"\x0a\x0a", b"h2"),
    ),
    "outer name of an encrypted hello": (
        message(hello(server_name(b"public.example"), ENCRYPTED)),
        b"public.example",
        (),
    ),
    "post-quantum": (message(hello(KEY_SHARE, NAME)), b"a.example", ()),
    "case and dot": (message(hello(server_name(b"A.eXample."))), b"a.example", ()),
    "underscore": (message(hello(server_name(b"_a.b-1"))), b"_a.b-1", ()),
    "longest name": (message(hello(server_name(b"a" * 255))), b"a" * 255, ()),
    "no session id": (message(hello(NAME, session_id=b"")), b"a.example", ()),
    "large": (
        message(hello(*[extension(1000 + n, b"x" * 9000) for n in range(6)], NAME)),
        b"a.example",
        (),
    ),
}
"Message, name and protocols."

BAD_CONTENT = {
    "empty": b"",
    "random cut": hello()[:30],
    "suites missing": hello(suites=b"", tail=b""),
    "half a suite": hello(suites=b"\x13"),
    "no compression": hello(compression=b""),
    "long session id": hello(session_id=b"s" * 33),
    "bytes after the extensions": hello(NAME) + b"\0",
    "extensions cut": hello(tail=b"\0\x09\0\0"),
    "extension too long": hello(tail=vector(2, b"\0\0\0\x05\0\0")),
    "half an extension": hello(tail=vector(2, b"\0\0\0")),
    "name twice": hello(NAME, NAME),
    "unknown extension twice": hello(GREASE, GREASE),
    "name list empty": hello(extension(0, b"\0\0")),
    "name extension empty": hello(extension(0, b"")),
    "two names": hello(
        extension(0, vector(2, b"\0" + vector(2, b"a") + b"\0" + vector(2, b"b")))
    ),
    "name of another kind": hello(server_name(b"a", kind=1)),
    "name empty": hello(server_name(b"")),
    "name of one dot": hello(server_name(b".")),
    "name with NUL": hello(server_name(b"a\0b")),
    "name with slash": hello(server_name(b"a/b")),
    "name not ascii": hello(server_name("ü.example".encode())),
    "name too long": hello(server_name(b"a" * 256)),
    "bytes after the name list": hello(
        extension(0, vector(2, b"\0" + vector(2, b"a")) + b"\0")
    ),
    "protocols empty": hello(extension(16, b"\0\0")),
    "protocol empty": hello(alpn(b"")),
    "protocol cut": hello(extension(16, vector(2, b"\x09h2"))),
    "bytes after the protocols": hello(extension(16, vector(2, b"\2h2") + b"\0")),
}
"Contents of a hello that mean nothing, or more than one thing."
