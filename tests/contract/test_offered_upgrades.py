"""
Requests that offer to change the protocol: served whole, each after its check.

Behind the gate stand uvicorn's own protocols, with both parsers. A request that offers
something other than a WebSocket is an ordinary one, with its body, however it is cut
and whatever comes before and after it; and no body is ever read as a request.
"""

import asyncio

import pytest

from maitred.worker import gate, parsers
from seam_kit import PARSERS, Seam, in_pieces

GET = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
FIRST = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n"
EVIL = b"GET /evil HTTP/1.1\r\nHost: other\r\nX-Session: stolen\r\n\r\n"
OFFERS = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n",
    "tls": b"Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
    "websocket by POST": b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
    "a choice": b"Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
    "two lines": b"upgrade: websocket\r\nConnection: upgrade\r\nUPGRADE: h2c\r\n",
    "two lines, websocket last": b"Connection: upgrade\r\nUpgrade: h2c\r\n"
    b"Upgrade: websocket\r\n",
    "space behind": b"Connection: Upgrade \r\nUpgrade: websocket \t\r\n",
    "connection says no in its last line": b"Connection: Upgrade\r\n"
    b"Connection: keep-alive\r\nUpgrade: websocket\r\n",
    "nothing": b"Connection: Upgrade\r\nUpgrade:\r\n",
    "connection alone": b"Connection: Upgrade\r\n",
    "upgrade alone": b"Upgrade: h2c\r\n",
    "proxy": b"Proxy-Connection: upgrade\r\nUpgrade: h2c\r\n",
    "with Expect": b"Connection: Upgrade\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n",
}
METHODS = ["POST", "PUT", "HEAD", "DELETE", "OPTIONS"]
BODIES = {
    "length": lambda body: (b"Content-Length: %d\r\n" % len(body), body),
    "chunked": lambda body: (
        b"Transfer-Encoding: chunked\r\n",
        b"%x\r\n%b\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(body), body),
    ),
}


@pytest.fixture(params=PARSERS)
def http(request):
    """Every parser."""
    return request.param


@pytest.fixture
def seam(http):
    """A serving with that parser."""
    made = Seam(http)
    yield made
    made.close()


def offer(lines, body, kind, method="POST"):
    """Compose a request with *body* that has the header *lines*."""
    length, sent = BODIES[kind](body)
    head = method.encode() + b" /offer HTTP/1.1\r\nHost: a\r\n"
    return head + lines + length + b"\r\n" + sent


def serve(seam, *streams):
    """Serve each of *streams*, which are lists of pieces; return what became of it."""

    async def all_of_them():
        return [await seam.serve(*pieces) for pieces in streams]

    return asyncio.run(all_of_them())


def what(served):
    """Say what the application was asked."""
    assert not served.refused
    assert all(asked.is_whole for asked in served.asked)
    return [(asked.target, asked.body) for asked in served.asked]


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("name", OFFERS)
def test_body_arrives_however_it_is_cut(seam, name, kind):
    """In one piece and cut at every place; alone, as second, and pipelined."""
    data = offer(OFFERS[name], EVIL, kind)
    expected = [(b"/offer", EVIL)]
    # At every place for one offer, which takes long; at every seventh for the others.
    cuts = range(0, len(data), 1 if name == "h2c" else 7)
    for served in serve(seam, *(in_pieces(data, [cut]) for cut in cuts)):
        assert what(served) == expected
    streams = [
        [FIRST, data, GET],
        [FIRST + data + GET],
        [FIRST, *(bytes([byte]) for byte in data), GET],
        [FIRST + data[:-9], data[-9:] + GET],
        [FIRST, *in_pieces(data, [data.index(EVIL)]), GET],
    ]
    expected = [(b"/first", b""), *expected, (b"/next", b"")]
    for served in serve(seam, *streams):
        assert what(served) == expected


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", BODIES)
def test_method_makes_no_difference(seam, method, kind):
    """A body belongs to its request, whatever that asks for."""
    data = offer(OFFERS["h2c"], EVIL, kind, method)
    for served in serve(seam, [data, GET], [data[:-40], data[-40:], GET]):
        assert what(served) == [(b"/offer", EVIL), (b"/next", b"")]


def test_old_version_upgrades_to_nothing(seam):
    """RFC 9110 section 7.8: an offer in HTTP/1.0 is ignored, of a WebSocket too."""
    head = b"GET /offer HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, upgrade\r\n"
    data = head + b"Upgrade: websocket\r\nContent-Length: 2\r\n\r\nhi"
    for served in serve(seam, *(in_pieces(data, [cut]) for cut in range(len(data)))):
        assert what(served) == [(b"/offer", b"hi")]


def test_handshake_is_one_with_connection_in_two_lines(seam):
    """Lines of one name are one list, in whatever order they stand."""
    head = (
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
        b"Connection: keep-alive\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    [served] = serve(seam, [head])
    assert [(asked.type, asked.target) for asked in served.asked] == [
        ("websocket", b"/ws")
    ]


def handshake(*lines):
    """Compose a handshake with *lines* beside what it has to have."""
    return b"\r\n".join(
        [
            b"GET /ws HTTP/1.1",
            b"Host: a",
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *lines,
            b"\r\n",
        ]
    )


@pytest.mark.parametrize(
    "line", [b"Content-Length: %d" % len(EVIL), b"Transfer-Encoding: chunked"]
)
def test_handshake_with_a_body_is_refused(seam, line):
    """What would be a body is nobody's: neither frames nor a request."""
    body = EVIL if b"Length" in line else b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVIL), EVIL)
    data = handshake(line) + body
    for served in serve(seam, *(in_pieces(data, [cut]) for cut in range(len(data)))):
        assert served.asked == []
        assert served.refused == {"handshake_body": 1}
        assert served.written.startswith(b"HTTP/1.1 400 ")
        assert served.is_closed
    [served] = serve(seam, [handshake(b"Content-Length: 0")])
    assert [asked.type for asked in served.asked] == ["websocket"]


def test_server_without_websockets_serves_the_handshake_as_it_is(seam):
    """Where uvicorn has no library for them, a WebSocket is one offer like another."""
    seam.serving.websocket = None
    seam.serving.config.ws_protocol_class = None
    data = handshake(b"Content-Length: %d" % len(EVIL)) + EVIL
    for served in serve(seam, *(in_pieces(data, [cut]) for cut in range(len(data)))):
        assert what(served) == [(b"/ws", EVIL)]


def test_application_sees_every_line_but_the_offer(seam):
    """Both parsers show it the same head: nobody offers it what is not to be had."""
    [served] = serve(seam, [offer(OFFERS["h2c"], b"x", "length")])
    [asked] = served.asked
    names = [name for name, _ in asked.headers]
    assert names == [b"host", b"connection", b"http2-settings", b"content-length"]


# A parser that is out of step.


def test_parser_that_ends_early_is_stopped(http, monkeypatch, caplog):
    """Should an offer reach httptools all the same, what follows is no request."""
    monkeypatch.setattr(gate, "without_upgrade", lambda data: data)
    seam = Seam(http)
    data = offer(OFFERS["h2c"], EVIL, "length")
    cut = data.index(EVIL)
    for pieces in ([data], in_pieces(data, [cut]), in_pieces(data, [cut - 4, cut + 4])):
        caplog.clear()
        [served] = serve(seam, [*pieces, GET])
        assert b"/evil" not in [asked.target for asked in served.asked]
        if http == "h11":  # takes the offer for what it is
            assert what(served) == [(b"/offer", EVIL), (b"/next", b"")]
            continue
        assert not any(asked.is_whole for asked in served.asked)
        assert served.refused == {"out_of_step": 1}
        assert served.is_closed
        assert "the HTTP parser and the gate disagree" in caplog.text
    seam.close()


@pytest.mark.parametrize("extra", [EVIL, EVIL[:20]])
def test_request_that_has_not_passed_closes_the_connection(http, extra):
    """Whatever the reason: what begins in the parser alone reaches no application."""
    seam = Seam(http)

    async def attack():
        serving = asyncio.ensure_future(seam.serve(FIRST, b"", b"", GET))
        await asyncio.sleep(0)
        await seam.turn()
        seam.connection.pass_on(extra)
        return await serving

    served = asyncio.run(attack())
    assert [asked.target for asked in served.asked] == [b"/first"]
    assert served.refused == {"out_of_step": 1}
    assert served.is_closed
    seam.close()


def test_parser_that_waits_for_more_gets_no_other_request(seam, monkeypatch):
    """Who has not read the last request to its end is told of no other."""
    monkeypatch.setattr(gate.Gate, "ended", lambda _gate: True)
    # What follows httptools asks the gate without that call.
    monkeypatch.setattr(
        parsers.HttptoolsStep,
        "on_message_complete",
        lambda step: step.complete_message(),
    )
    [served] = serve(seam, [FIRST, GET])
    assert [asked.target for asked in served.asked] == [b"/first"]
    assert served.refused == {"out_of_step": 1}
    assert served.is_closed
