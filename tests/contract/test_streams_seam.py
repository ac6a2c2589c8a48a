"""
What is reached into, of asyncio's streams and of websockets' sans-IO core.

Each attribute that ``worker.talks`` and ``worker.websocket`` use is named here; when a
new version of either has others, this is where it shows.
"""

import asyncio
import socket
from unittest.mock import MagicMock

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CLOSED, OPEN
from websockets.server import ServerProtocol

from maitred.worker.talks import Handling

HEAD = (
    b"GET /lobby/ann HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)
HELLO = b"\x81\x85\x00\x00\x00\x00hello"


def test_reader_says_who_waits_and_what_is_there():
    """StreamReader._waiter and ._buffer."""

    async def main():
        reader = asyncio.StreamReader()
        assert reader._waiter is None
        task = asyncio.ensure_future(reader.readline())
        await asyncio.sleep(0)
        assert reader._waiter is not None
        reader.feed_data(b"half a li")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # Still not a line: it waits, and all that came is there.
        assert reader._waiter is not None
        assert bytes(reader._buffer) == b"half a li"
        reader.feed_data(b"ne\nrest")
        assert await task == b"half a line\n"
        assert reader._waiter is None
        assert bytes(reader._buffer) == b"rest"

    asyncio.run(main())


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_connection_that_broke_is_reported_by_its_reader_alone(is_cancelled):
    """StreamReaderProtocol._get_close_waiter; whatever is collected first."""
    reported = []

    async def app(reader, writer):
        await reader.readline()

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            talk = Handling(app, MagicMock(prefix=b""), ours, MagicMock())
            talk.connection_made(MagicMock())
            talk.begin()
            talk.go()
            await asyncio.sleep(0)
            if is_cancelled:  # the application's wait for the end was
                talk._flow._closed.cancel()
            talk.connection_lost(BrokenPipeError())
            await talk._task
            # The future is collected here while its protocol is still referenced.
            del talk._flow._closed
            await asyncio.sleep(0)

    asyncio.run(main())
    assert not reported


def test_core_shakes_hands_and_frames():
    """receive_data, events_received, accept, send_response, data_to_send, state."""
    core = ServerProtocol(max_size=100)
    core.receive_data(HEAD)
    (request,) = core.events_received()
    assert isinstance(request, Request)
    assert request.path == "/lobby/ann"
    assert request.headers["Host"] == "x"
    core.send_response(core.accept(request))
    assert core.state is OPEN
    assert b"".join(core.data_to_send()).startswith(b"HTTP/1.1 101 ")
    core.receive_data(HELLO)
    (frame,) = core.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, bytes(frame.data), frame.fin) == (Opcode.TEXT, b"hello", True)


def test_core_can_begin_where_another_was():
    """ServerProtocol(state=OPEN) speaks and hears at once."""
    core = ServerProtocol(state=OPEN, max_size=100)
    core.receive_data(HELLO)
    (frame,) = core.events_received()
    assert bytes(frame.data) == b"hello"
    core.send_text(b"hi")
    core.send_binary(b"\x00")
    assert core.data_to_send() == [b"\x81\x02hi", b"\x82\x01\x00"]
    core.receive_data(b"\x89\x80\x00\x00\x00\x00")
    assert core.data_to_send() == [b"\x8a\x00"]


def test_core_says_how_it_ended():
    """send_close, receive_eof, close_exc, close_rcvd, close_sent and their order."""
    core = ServerProtocol(state=OPEN)
    core.send_close(1012, "later")
    assert core.close_sent == Close(1012, "later")
    with pytest.raises(AssertionError):
        _ = core.close_exc
    assert core.close_rcvd is None
    assert core.close_rcvd_then_sent is None
    core.receive_eof()
    assert core.state is CLOSED
    assert isinstance(core.close_exc, ConnectionClosed)
    assert ConnectionClosedError(None, core.close_sent, None).sent.code == 1012


def test_core_refuses_what_is_too_long_or_no_text():
    """By itself after the length; fail() says the rest. An empty piece is the end."""
    core = ServerProtocol(state=OPEN, max_size=3)
    core.receive_data(HELLO)
    assert core.close_sent.code == 1009
    core = ServerProtocol(state=OPEN)
    core.fail(1007, "no UTF-8")
    assert core.close_sent.code == 1007
    core.receive_data(b"\x88\x82\x00\x00\x00\x00\x03\xef")
    assert core.data_to_send()[-1] == b""
