"""
What is fuzzed: one function of bytes for each reader of what strangers send.

Each raises AssertionError when an invariant breaks; any other exception is a bug too.
``script/fuzz`` runs them under atheris, which looks for bytes that reach new code;
tests/contract/test_fuzz_corpus.py runs what was found so far.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gate_kit import PARSERS, Gated, Seen, read_with_h11
from maitred.errors import PeerMisbehaved
from maitred.routing import NEED_MORE, NeedMore
from maitred.routing.affinity import cookie
from maitred.routing.body import Chunked
from maitred.routing.http1 import RawHead, sniff_head
from maitred.routing.proxy_protocol import ProxyHeader, sniff_proxy
from maitred.routing.tls import ClientHello, normal_name, sniff_hello
from maitred.wire.codec import HEADER, Codec
from maitred.wire.messages import FROM_MASTER, FROM_WORKER
from maitred.worker.cookies import in_one_line
from readers import COOKIES, Spelled
from seam_kit import PARSERS as SERVERS
from seam_kit import Seam

LIMIT = 4096
LOOP = asyncio.new_event_loop()
SEAMS = [Seam(parser) for parser in SERVERS]
ABSOLUTE = re.compile(rb"(?i)\Ahttps?://[^/?]*")


def one_verdict(sniff, data):
    """Check that the verdict about *data* comes once and stays; give it."""
    last = NEED_MORE
    # Not at every prefix, which would take too long.
    step = max(1, len(data) // 16)
    for size in [*range(0, len(data), step), len(data)]:
        verdict = sniff(data[:size])
        assert isinstance(last, NeedMore) or repr(verdict) == repr(last)
        last = verdict
    return last


def head(data: bytes) -> None:
    """Any bytes have one verdict; what is a head, both parsers read the same."""

    def sniff(part):
        verdict = sniff_head(part, b"", LIMIT)
        if not isinstance(verdict, RawHead):
            return verdict
        return (
            verdict.size,
            verdict.method,
            verdict.path,
            verdict.host,
            verdict.length,
        )

    one_verdict(sniff, data)
    found = sniff_head(data, b"", LIMIT)
    if isinstance(found, RawHead) and found.length == 0:
        agree(data[: found.size], 1)


def gate(data: bytes) -> None:
    """What passes the gate, both parsers take apart as the gate did, however cut."""
    cut = data[0] if data else 0
    data = data[1:]
    whole, pieces = Gated(limit=LIMIT), Gated(limit=LIMIT)
    whole.send(data)
    pieces.send(data[:cut])
    pieces.send(data[cut:])
    assert whole.requests == pieces.requests
    if whole.refusal and not pieces.refusal:
        pieces.send(b"\n")  # the gate looks at a piece of a head when a line ends
    assert whole.refusal == pieces.refusal
    assert whole.gate.stage is pieces.gate.stage
    agree(b"".join(whole.requests), len(whole.requests))


def agree(data: bytes, requests: int) -> None:
    """
    Check that both parsers of the workers read the same requests in *data*.

    One may refuse what we let pass, such as a method that llhttp does not know. It may
    not read something else, nor more.
    """
    ours, theirs = (read(data) for read in PARSERS.values())
    assert max(len(ours), len(theirs)) <= requests, (ours, theirs)
    for one, other in zip(ours, theirs, strict=False):
        assert normal(one) == normal(other), (one, other)


def seam(data: bytes) -> None:
    """
    The application is asked what has passed the gate, in that order, and nothing else.

    Behind the gate stand uvicorn's own protocols. A request may be missing at the end,
    where a parser refuses more than we do, or the connection is closed.
    """
    cut = data[0] if data else 0
    data = data[1:]
    gated = Gated(limit=LIMIT)
    gated.send(data)
    passed = [read_with_h11(request) for request in gated.requests]
    for each in SEAMS:
        served = LOOP.run_until_complete(each.serve(data[:cut], data[cut:]))
        assert "out_of_step" not in served.refused, (each, served.refused)
        # Of one that is not complete, or turns out bad, the application has the head.
        begun = served.asked[len(passed) :]
        assert len(begun) <= 1
        assert not any(asked.is_whole for asked in begun)
        for asked, requests in zip(served.asked, passed, strict=False):
            for one in requests:
                target = ABSOLUTE.sub(b"", one.target.encode())
                expected = (one.method, target.partition(b"#")[0], one.body)
                said = asked.method, ABSOLUTE.sub(b"", asked.target), asked.body
                assert said == expected or not asked.is_whole, (said, expected)


def normal(seen: Seen) -> Seen:
    """Write the coding of *seen* in lower case, as h11 does by itself."""
    headers = [
        (name, value.lower() if name == "transfer-encoding" else value)
        for name, value in seen.headers
    ]
    return replace(seen, headers=headers)


def chunked(data: bytes) -> None:
    """A chunked body ends where llhttp ends it, and at the same byte however cut."""
    cut = data[0] if data else 0
    data = data[1:]
    whole, pieces = Chunked(), Chunked()
    used = whole.take(data)
    first = pieces.take(data[:cut])
    more = pieces.take(data[cut:]) if first == len(data[:cut]) else 0
    assert (whole.done, whole.bad) == (pieces.done, pieces.bad)
    if whole.bad:
        return
    assert used == first + more
    if whole.done:
        request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        agree(request + data[:used], 1)


def proxy(data: bytes) -> None:
    """Any bytes have one verdict, and nothing behind a header counts."""
    verdict = one_verdict(sniff_proxy, data)
    if isinstance(verdict, ProxyHeader):
        assert verdict.size <= len(data)
        assert sniff_proxy(data[: verdict.size]) == verdict
        assert sniff_proxy(data[: verdict.size - 1]) == NEED_MORE


def tls(data: bytes) -> None:
    """Any bytes have one verdict; what is a hello, OpenSSL reads the same name in."""
    verdict = one_verdict(sniff_hello, data)
    if isinstance(verdict, ClientHello):
        assert sniff_hello(data + data) == verdict
        for name in names_openssl_reads(data):
            assert normal_name((name or "").encode()) == (verdict.sni or None)


def names_openssl_reads(data: bytes) -> list[str | None]:
    """Give the name in the hello, None if it has none; nothing if it is refused."""
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    names: list[str | None] = []
    SERVER.sni_callback = lambda _connection, name, _context: names.append(name)
    try:
        SERVER.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    except ssl.SSLError:
        pass  # it has no certificate to go on with
    return names


SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
SERVER.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED


class Nobody:
    """A descriptor that is none."""

    def fileno(self) -> int:
        """Say a number that is none."""
        return -1

    def detach(self) -> int:
        """Give it up."""
        return -1

    def close(self) -> None:
        """Do nothing."""


def codec(data: bytes) -> None:
    """A packet is refused, or is made of messages that encode to it again."""
    try:
        header = WIRE.decode_header(data)
        owners = [Nobody() for _ in range(header.descriptors)]
        messages = WIRE.decode_body(header, data[HEADER.size :], owners)
    except PeerMisbehaved:
        return
    packet, passed = WIRE.encode(messages)
    assert len(messages) == header.records
    assert passed == owners
    assert packet == data


BOTH = {**FROM_MASTER, **FROM_WORKER}
WIRE = Codec(sends=BOTH, receives=BOTH)

FIND = cookie("sid")
UTF_8 = {"django wsgi"}


def names(data: bytes) -> None:
    """What a framework reads for a session's cookie is among what we read."""
    headers = [(b"Cookie", line) for line in data.split(b"\n")]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    head = sniff_head(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % lines, b"", LIMIT)
    if not isinstance(head, RawHead):
        return
    found = FIND(head)
    ours = found if isinstance(found, tuple) else (found,)
    request = Spelled(headers=in_one_line(headers))
    for name in ("starlette", "django asgi", "django wsgi", "werkzeug", "http.cookies"):
        if read := COOKIES[name](request, "sid"):
            codec = "utf-8" if name in UTF_8 else "latin-1"
            assert read.encode(codec, "replace") in ours, (name, read, ours)


TARGETS = {f.__name__: f for f in (head, names, gate, seam, chunked, proxy, tls, codec)}
