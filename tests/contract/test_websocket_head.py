"""How long a WebSocket's handshake may take, also where the worker stands still."""

from __future__ import annotations

import asyncio
import socket
import time
from types import SimpleNamespace

import pytest
import uvloop

from driver import DEADLINE
from maitred.worker import websocket

HEAD = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def app(ws):
    """Say hello, and end."""
    await ws.send("hello")


def visit() -> SimpleNamespace:
    """Return what a worker knows of a connection."""
    return SimpleNamespace(
        id=1, prefix=b"", frozen=b"", client=None, key=b"",
        taken=lambda: None, closed=lambda: None,
    )  # fmt: skip


SERVING = SimpleNamespace(opened=lambda _: None, ended=lambda _: None)


def play(loop, act) -> bytes:
    """Await *act* with the client of a connection; return all that it was sent."""

    async def main() -> bytes:
        client, served = socket.socketpair()
        client.setblocking(False)
        speaking = websocket.Speaking(app, visit(), served, SERVING)
        running = asyncio.get_running_loop()
        await running.connect_accepted_socket(lambda: speaking, served)
        speaking.begin()
        await asyncio.sleep(0)
        speaking.go()
        await asyncio.sleep(0.01)
        with client:
            await act(client)
            answer = b""
            async with asyncio.timeout(DEADLINE):
                while data := await running.sock_recv(client, 4096):
                    answer += data
                    client.shutdown(socket.SHUT_WR)
        return answer

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_head_that_came_while_the_worker_stood_still_is_answered(loop, monkeypatch):
    """It lies in the kernel when the time is over."""
    monkeypatch.setattr(websocket, "HEAD_TIMEOUT", 0.5)

    async def act(client: socket.socket) -> None:
        client.send(HEAD)
        time.sleep(1)  # as a process that is stopped, or busy

    answer = play(loop, act)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"hello" in answer


@pytest.mark.parametrize("loop", LOOPS)
def test_head_that_comes_in_the_moment_when_the_time_is_over_is_answered(
    loop, monkeypatch
):
    """It came after this turn of the event loop had read, and before it gave up."""
    monkeypatch.setattr(websocket, "HEAD_TIMEOUT", 0.5)

    async def act(client: socket.socket) -> None:
        # Both timers are due when the event loop goes on: it fires them in one turn.
        asyncio.get_running_loop().call_later(0.6, client.send, HEAD)
        time.sleep(1)

    assert b"hello" in play(loop, act)


@pytest.mark.parametrize("said", [b"", HEAD[:-2]])
@pytest.mark.parametrize("loop", LOOPS)
def test_head_has_a_deadline(loop, monkeypatch, said):
    """A client that does not say all of it is left, with or without a word."""
    monkeypatch.setattr(websocket, "HEAD_TIMEOUT", 0.1)

    async def act(client: socket.socket) -> None:
        client.send(said)

    assert play(loop, act) == b""
