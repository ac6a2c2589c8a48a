"""Streams without an end hear that their worker leaves, as they do below uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import pytest
from mcp import Client
from mcp.client.sse import sse_client
from websockets.asyncio.client import connect as connect_websocket

from driver import DEADLINE, wait_until
from raw_http import Connection, connect, get

LONG = "60"
"The drain timeout, which nobody may need."
NO_CLOSE_FRAME = 1006
STREAMS = ("/events", "/hooked", "/asked")
UNFINISHED = "returned without completing response"
"What uvicorn logs where sse-starlette ends a stream, with maitred or without."


@contextlib.contextmanager
def opened(server, path: str):
    """Open the stream at *path*, read the begin of it, and the end if there is one."""
    with connect(server.port) as client:
        client.send(get(path))
        assert client.head()[0] == 200
        client.read(1)
        yield client


def ends(client: Connection) -> bool:
    """Read a stream to its end."""
    return client._file.read() is not None


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("path", STREAMS)
def test_stream_ends_when_the_service_stops(serve, path, loop):
    """Exit code 0: nothing had to be cut."""
    server = serve("eventing:app", "--drain-timeout", LONG, "--loop", loop)
    server.expect_log(UNFINISHED)
    with opened(server, path):
        assert server.stop() == 0


@pytest.mark.parametrize("path", STREAMS)
def test_stream_ends_when_its_worker_is_replaced(serve, path):
    """At a reload, and at the next one, nobody waits for the drain timeout."""
    server = serve("eventing:app", "--drain-timeout", LONG, workers=1)
    server.expect_log(UNFINISHED)
    for _ in range(2):
        with opened(server, path) as client:
            server.reload()
            assert ends(client)


def test_stream_ends_when_its_worker_is_worn(serve):
    """A worker that has served --max-requests is replaced like any other."""
    server = serve(
        "eventing:app", "--drain-timeout", LONG, "--max-requests", "5", workers=1
    )
    server.expect_log(UNFINISHED)
    (pid,) = server.worker_pids()
    with opened(server, "/hooked") as client:
        for _ in range(10):
            with connect(server.port) as other:
                assert other.ask(get("/nothing")).status == 404
        assert ends(client)
    wait_until("it is another one", lambda: server.worker_pids() != [pid])


def test_worker_that_is_told_to_end_drains(serve):
    """TERM to a worker: its streams hear of it, and it is replaced."""
    server = serve("eventing:app", "--drain-timeout", LONG, workers=1)
    server.expect_log(UNFINISHED)
    server.expect_log("exited with code 0")
    with opened(server, "/hooked") as client:
        pid = server.kill_worker(0, signal.SIGTERM)
        assert ends(client)
    wait_until("it is another one", lambda: server.worker_pids() != [pid])
    server.wait_until_serving()


def test_what_has_an_end_is_finished(serve):
    """Only streams hear of it: a request that was begun is answered."""
    server = serve("eventing:app", "--drain-timeout", LONG, workers=1)
    with connect(server.port) as client:
        client.send(get("/pause"))
        wait_until("it has begun", lambda: server.total("open") == 1)
        server.reload()
        assert client.answer().body == b"done"


MCP = {
    "streamable": lambda url: f"{url}/mcp",
    "sse": lambda url: sse_client(f"{url}/sse", timeout=DEADLINE),
}


@pytest.mark.parametrize("transport", MCP)
def test_open_mcp_session_does_not_delay_the_end(serve, transport):
    """With the SDK's own client, whose stream is open; exit code 0."""
    presets = ("--affinity", "mcp", "--affinity", "mcp-sse")
    server = serve("mcp_app:app", *presets, "--drain-timeout", LONG)
    server.expect_log(UNFINISHED)
    # The SDK answers once more where its stream is over; below uvicorn, too.
    server.expect_log("Exception in ASGI application|Traceback|Expected ASGI message")
    codes: list[int] = []

    async def run() -> None:
        """Open a session, and stop the service."""
        async with Client(MCP[transport](server.url), mode="legacy") as client:
            await client.call_tool("count", {})
            codes.append(await asyncio.to_thread(server.stop))

    # The client may find that nobody is there to be told of its end.
    with contextlib.suppress(Exception, BaseExceptionGroup, asyncio.CancelledError):
        asyncio.run(asyncio.wait_for(run(), DEADLINE))
    assert codes == [0]


def test_websocket_of_a_killed_worker_ends(serve):
    """The client reads the end of file, without a close frame, and may come again."""
    server = serve("probe:app", workers=1)
    server.expect_log("was ended by SIGKILL")
    server.expected_lost = 1

    async def run() -> int | None:
        """Talk, and see the end."""
        async with connect_websocket(f"ws://127.0.0.1:{server.port}/") as websocket:
            await websocket.send("hello")
            await websocket.recv()
            server.kill_worker(0)
            await websocket.wait_closed()
            return websocket.close_code

    assert asyncio.run(asyncio.wait_for(run(), DEADLINE)) == NO_CLOSE_FRAME
    server.wait_until_serving()
