"""Who connects to the admin process and to the control socket, and stays."""

import asyncio
import contextlib
import json
import os
import socket
import time

import pytest
import uvicorn

from driver import DEADLINE
from maitred.admin.serving import protocol
from maitred.admin.visitors import LONGEST_HEAD, Visitors
from maitred.control import ControlServer
from maitred.control import server as module

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def app(scope, receive, send):
    """Answer with as much as the path says."""
    size = int(scope["path"].strip("/") or 2)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(size // 1000):
        await send(
            {"type": "http.response.body", "body": b"x" * 1000, "more_body": True}
        )
    await send({"type": "http.response.body", "body": b"ok"})


def play(act, **limits):
    """Serve with *limits*, and await *act* with the port and the visitors."""

    async def main():
        visitors = Visitors(**limits)
        config = uvicorn.Config(
            app,
            http=protocol(visitors),
            ws="none",
            lifespan="off",
            log_config=None,
            h11_max_incomplete_event_size=LONGEST_HEAD,
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            serving = asyncio.create_task(server.serve([listener]))
            try:
                async with asyncio.timeout(DEADLINE):
                    await act(port, visitors)
            finally:
                server.should_exit = server.force_exit = True
                await serving
        assert len(visitors) == 0

    asyncio.run(main())


@contextlib.asynccontextmanager
async def line(port):
    """Connect."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ended(reader):
    """Read to the end, however it comes; return what was read."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def status(reader):
    """Read the first line of an answer."""
    return int((await reader.readline()).split()[1])


def test_silent_ones_make_room_for_whoever_asks():
    """However many hold a connection, the oldest of them goes for a new one."""

    async def act(port, visitors):
        async with contextlib.AsyncExitStack() as stack:
            silent = [await stack.enter_async_context(line(port)) for _ in range(12)]
            for _ in range(3):
                async with line(port) as (reader, writer):
                    writer.write(GET)
                    assert await status(reader) == 200
            assert len(visitors) <= 5
            assert await ended(silent[0][0]) == b""

    play(act, most=5)


@pytest.mark.parametrize("said", [b"", b"GET / HT", GET + b"GET /"])
def test_head_has_a_deadline(said):
    """A connection that asks nothing more is closed, answered before or not."""

    async def act(port, visitors):
        async with line(port) as (reader, writer):
            writer.write(said)
            assert (b"200 OK" in await ended(reader)) == said.startswith(GET)

    play(act, head_timeout=0.2)


def test_request_that_came_while_the_process_stood_still_is_answered():
    """It was read by nobody, and is not late."""

    async def act(port, visitors):
        async with line(port) as (reader, writer):
            while not len(visitors):
                await asyncio.sleep(0.01)
            writer.write(GET)
            time.sleep(2)  # as a process that is stopped, or busy
            assert await status(reader) == 200

    play(act, head_timeout=1)


def test_answer_has_a_deadline():
    """A client that does not read is not waited for."""

    async def act(port, visitors):
        async with line(port) as (_, writer):
            writer.write(GET.replace(b"/ ", b"/50000000 ", 1))
            while not len(visitors):
                await asyncio.sleep(0.01)
            while len(visitors):
                await asyncio.sleep(0.01)

    play(act, answer_timeout=0.3)


def test_head_has_a_size():
    """One of a megabyte is refused before it has come."""

    async def act(port, visitors):
        async with line(port) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 2**20)
            assert await status(reader) == 400
        async with line(port) as (reader, writer):
            writer.write(GET)
            assert await status(reader) == 200

    play(act)


# The control socket.


@pytest.fixture
def members(monkeypatch, tmp_path):
    """A control server to which we are no operators; give its path."""
    monkeypatch.setattr(module, "operators", lambda: {os.geteuid() + 1})
    return str(tmp_path / "control.sock")


def converse(path, act):
    """Answer on *path* while *act* runs."""

    async def main():
        server = ControlServer(path, lambda request: {"said": request.command})
        server.serve()
        try:
            async with asyncio.timeout(DEADLINE):
                await act(server)
        finally:
            server.close()
            await asyncio.sleep(0)

    asyncio.run(main())


async def said(path):
    """Ask for the status; return the answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(b'{"command": "status"}\n')
        return json.loads(await reader.readline())
    finally:
        writer.close()
        await writer.wait_closed()


def test_member_has_few_conversations_at_once(members):
    """One more is refused in a sentence; when one has ended, another may begin."""

    async def act(server):
        held = [
            await asyncio.open_unix_connection(members)
            for _ in range(module.MOST_OF_MEMBER)
        ]
        while len(server._conversations) < module.MOST_OF_MEMBER:
            await asyncio.sleep(0)
        reader, writer = await asyncio.open_unix_connection(members)
        refused = json.loads(await reader.readline())
        writer.close()
        assert refused == {"ok": False, "error": module.TOO_MANY}
        assert len(server._conversations) == module.MOST_OF_MEMBER
        for _, each in held:
            each.close()
            await each.wait_closed()
        while server._conversations:
            await asyncio.sleep(0)
        assert await said(members) == {"ok": True, "said": "status"}

    converse(members, act)


def test_operator_is_answered_whoever_looks(members, monkeypatch):
    """What others hold is theirs."""

    async def act(server):
        held = [
            await asyncio.open_unix_connection(members)
            for _ in range(module.MOST_OF_MEMBER)
        ]
        while len(server._conversations) < module.MOST_OF_MEMBER:
            await asyncio.sleep(0)
        monkeypatch.setattr(module, "operators", lambda: {os.geteuid()})
        for _ in range(module.MOST_OF_MEMBERS):
            assert (await said(members))["ok"]
        for _, each in held:
            each.close()
            await each.wait_closed()

    converse(members, act)
