"""What the operator decides for uvicorn reaches it: WebSockets and headers."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

from driver import DEADLINE
from raw_http import ask, connect, get

NORMAL = 1000
LIBRARIES = ("websockets", "websockets-sansio", "wsproto")
UPGRADE = (
    "connection: Upgrade",
    "upgrade: websocket",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version: 13",
)


def say(server, *messages: str) -> list[str | int]:
    """Say *messages*, each in a WebSocket of its own; give answers, or close codes."""

    async def run() -> list[str | int]:
        """Talk."""
        found: list[str | int] = []
        for message in messages:
            async with connect_websocket(
                f"ws://127.0.0.1:{server.port}/", max_size=None, open_timeout=DEADLINE
            ) as websocket:
                with contextlib.suppress(ConnectionClosed):
                    await websocket.send(message)
                    found.append((await websocket.recv()).split(" ", 1)[1])
            if websocket.close_code != NORMAL:
                found.append(websocket.close_code)
        return found

    return asyncio.run(asyncio.wait_for(run(), DEADLINE))


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_speaks_and_has_its_limit(share, library):
    """A message may be as long as was said, and no longer: then 1009."""
    server = share("probe:app", "--ws", library, "--ws-max-size", "1000", workers=1)
    assert say(server, "hello", "x" * 2000) == ["hello", 1009]


def test_message_may_be_longer_than_by_default(share):
    """17 MiB, where the default is 16."""
    server = share("probe:app", "--ws-max-size", "20000000", workers=1)
    long = "x" * (17 * 1024 * 1024)
    assert say(server, long) == [long]


@pytest.mark.parametrize("library", LIBRARIES)
def test_refused_handshake_leaves_nothing(share, library):
    """Whichever library refuses it."""
    server = share("probe:app", "--ws", library, "--ws-max-size", "1000", workers=1)
    for _ in range(3):
        with connect(server.port) as client:
            client.send(get("/ws", *UPGRADE[:2]))
            assert client.head()[0] in (400, 426)


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_without_websockets_a_handshake_is_a_request(share, http):
    """As in uvicorn: the application is asked over HTTP."""
    server = share("probe:app", "--ws", "none", "--http", http, workers=1)
    server.expect_log("Unsupported upgrade request|No supported WebSocket library")
    with connect(server.port) as client:
        answer = client.ask(get("/ws", *UPGRADE))
        assert answer.status == 200
        assert answer.json["path"] == "/ws"


def test_pings_come_as_often_as_was_said(share):
    """A client that does not answer is closed, or may be silent for ever."""
    impatient = share(
        "probe:app", "--ws-ping-interval", "0.2", "--ws-ping-timeout", "0.2", workers=1
    )
    with connect(impatient.port) as client:
        client.send(get("/", *UPGRADE))
        assert client.head()[0] == 101
        opcode, length = client.read(2)
        assert (opcode & 0x0F, client.read(length)) != (8, b"")
        assert opcode & 0x0F == 9  # a ping, which is not answered
        opcode, length = client.read(2)
        assert opcode & 0x0F == 8
        assert int.from_bytes(client.read(length)[:2]) == 1011


@pytest.mark.parametrize("deflates", [True, False])
def test_compression_is_agreed_on_where_it_was_said(share, deflates):
    """The handshake's answer says so."""
    switch = "--ws-per-message-deflate" if deflates else "--no-ws-per-message-deflate"
    server = share("probe:app", switch, workers=1)
    offer = "sec-websocket-extensions: permessage-deflate"
    with connect(server.port) as client:
        client.send(get("/", *UPGRADE, offer))
        assert ("sec-websocket-extensions" in client.head()[1]) is deflates


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_headers_are_those_that_were_said(share, http):
    """None that was not wanted, and each that was."""
    options = ("--no-server-header", "--no-date-header", "--header", "X-Served-By: a b")
    headers = ask(share("probe:app", *options, "--http", http, workers=1).port).headers
    assert headers["x-served-by"] == "a b"
    assert not {"server", "date"} & set(headers)
    headers = ask(
        share("probe:app", "--header", "Server: mine", workers=1).port
    ).headers
    assert headers["server"] == "mine"
    assert "date" in headers
