"""Whoever was accepted is answered, also by an admin process that has a successor."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import uvicorn

from maitred.admin.serving import Server


async def app(scope, receive, send):
    """Answer everything."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here\n"})


def test_goodbye_hears_who_was_accepted_a_moment_ago():
    """
    In whatever turn of the loop it comes, nobody falls between the two processes.

    The loop goes round between seeing that somebody waits, accept, the transport, and
    the server's first look at the connection.
    """

    async def answers(turns):
        """Say goodbye *turns* after somebody called: do we answer, or the successor?"""
        config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None)
        config.load()
        server = Server(config)
        server.lifespan = config.lifespan_class(config)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        with (
            contextlib.closing(listener.dup()) as successor,
            contextlib.closing(socket.socket()) as client,
        ):
            await server.startup(sockets=[listener])
            client.connect(successor.getsockname())
            for _ in range(turns):
                await asyncio.sleep(0)
            await server.say_goodbye()
            assert not await server.on_tick(1)
            for _ in range(3):
                await asyncio.sleep(0)
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError), successor.accept()[0]:
                assert not server.server_state.connections
                return False
            assert server.server_state.connections
            assert not await server.on_tick(2)
            answer = await asyncio.get_running_loop().sock_recv(client, 4096)
            assert answer.startswith(b"HTTP/1.1 200")
        while server.server_state.connections:
            await asyncio.sleep(0.01)
        assert [await server.on_tick(tick) for tick in (3, 4)] == [False, True]
        return True

    answered = [asyncio.run(answers(turns)) for turns in range(6)]
    assert answered == sorted(answered)
    assert set(answered) == {False, True}
