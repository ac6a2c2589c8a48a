"""Clients of kind websocket that use what RFC 6455 allows, to no good end."""

import select
import socket

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

from driver import DEADLINE
from maitred.worker.websocket import MOST_FRAMES

NOBODY_BUFFERS_SO_MUCH = 64 * 2**20


@pytest.fixture
def client(serve):
    """A WebSocket whose messages are answered."""
    server = serve("kinds:websocket", "--kind", "websocket", workers=1)
    url = f"ws://127.0.0.1:{server.port}/k"
    with connect(url, open_timeout=DEADLINE, compression=None) as websocket:
        yield websocket


def frame(opcode, data, *, fin):
    """Give a frame as a client sends it."""
    return Frame(opcode, data, fin=fin).serialize(mask=True)


def test_a_message_may_come_in_many_frames(client):
    """One less than there may be, and it is answered."""
    pieces = ["x"] + [""] * (MOST_FRAMES - 2)
    client.send(piece for piece in pieces)
    assert client.recv(DEADLINE).endswith(" x")


def test_a_message_in_frames_without_end_is_refused(client):
    """Also frames that bring nothing would fill the memory: 1009."""
    first = frame(Opcode.TEXT, b"x", fin=False)
    client.socket.sendall(first + MOST_FRAMES * frame(Opcode.CONT, b"", fin=False))
    with pytest.raises(ConnectionClosedError) as caught:
        client.recv(DEADLINE)
    assert caught.value.rcvd.code == 1009


def test_empty_line_before_the_handshake_is_skipped(serve):
    """One, as the master skips it (RFC 9112 section 2.2)."""
    server = serve("kinds:websocket", "--kind", "websocket", workers=1)
    with server.connect() as sock:
        sock.sendall(
            b"\r\nGET /k HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert sock.recv(12) == b"HTTP/1.1 101"


def test_who_does_not_read_is_not_read_from(serve):
    """Pings are answered unasked: whoever reads no answers, sends no more of them."""
    server = serve("kinds:websocket", "--kind", "websocket", workers=1)
    head = (
        b"GET /k HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"\r\n"
    )
    with server.connect() as sock:
        sock.sendall(head)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += sock.recv(1)
        pings = 500 * frame(Opcode.PING, b"x" * 125, fin=True)
        sent = 0
        sock.setblocking(False)
        while select.select([], [sock], [], 2)[1]:
            sent += sock.send(pings[sent % len(pings) :])
            assert sent < NOBODY_BUFFERS_SO_MUCH
        # It reads now, and is heard again.
        expected = sent // (len(pings) // 500) * 127
        rest = pings[sent % len(pings) :]
        heard = 0
        sock.settimeout(DEADLINE)
        while heard < expected:
            heard += len(sock.recv(2**16))
        sock.sendall(rest + frame(Opcode.TEXT, b"hello", fin=True))
        last = b""
        while b"hello" not in last:
            last = last[-200:] + sock.recv(2**16)
        sock.shutdown(socket.SHUT_RDWR)
