"""
Flask-SocketIO as it is, in threads: each client that polls holds one.

With enough threads all is served; with too few, everybody is answered in time, and it
is shown why. Whoever wants WebSockets serves the same events by python-socketio.
"""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import pytest
import socketio

from driver import DEADLINE, wait_until
from raw_http import ask, connect, get

CLIENTS = 24
POLL = "/socket.io/?EIO=4&transport=polling"
OPTIONS = ("--kind", "wsgi", "--affinity", "socketio")


async def session(url, transport, meet):
    """Connect, wait until all are connected, count to five; give the answers."""
    async with aiohttp.ClientSession() as http:
        client = socketio.AsyncSimpleClient(http_session=http, reconnection=False)
        await client.connect(url, transports=[transport], wait_timeout=DEADLINE)
        await meet.wait()
        answers = [await client.call("count", timeout=DEADLINE) for _ in range(5)]
        await meet.wait()
        await client.disconnect()
        return answers


class Meeting:
    """Where sessions wait for each other."""

    def __init__(self, size, then):
        """Wait for *size*; when all are there, call *then* in a thread."""
        self.size, self.then, self.there = size, then, 0
        self.full = asyncio.Event()

    async def wait(self):
        """Wait for the others."""
        self.there += 1
        if self.there == self.size:
            await asyncio.to_thread(self.then)
            self.full.set()
        await self.full.wait()


def count_to_five(server, transport, while_connected):
    """Have 24 sessions count; call *while_connected* when all are connected."""

    async def all_of_them():
        meeting = Meeting(CLIENTS, while_connected)
        sessions = (session(server.url, transport, meeting) for _ in range(CLIENTS))
        return await asyncio.gather(*sessions)

    return asyncio.run(all_of_them())


# python-socketio leaves a connection of aiohttp open at the end of a session.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("target", "options", "transport"),
    [
        ("flask_rooms:app", (*OPTIONS, "--threads", "100"), "polling"),
        ("flask_rooms:mounted", ("--affinity", "socketio"), "websocket"),
    ],
)
def test_every_session_is_kept_and_pages_are_served(serve, target, options, transport):
    """24 clients on two workers count to five, each in one process."""
    server = serve(target, *options)

    def look_at_pages():
        answers = [ask(server.port) for _ in range(20)]
        assert [answer.body for answer in answers] == [b"a page"] * 20

    for answers in count_to_five(server, transport, look_at_pages):
        numbers = [answer.rpartition(" ")[2] for answer in answers]
        assert numbers == ["1", "2", "3", "4", "5"]
        assert len({answer.split()[1] for answer in answers}) == 1


def test_too_few_threads_are_shown_and_pages_are_answered_in_time(serve):
    """24 clients that poll on 2 x 8 threads: a warning, and 503 after a second."""
    # Polls whose clients have left go on for up to 25 s: a stop need not wait for them.
    short = ("--wait-timeout", "1", "--drain-timeout", "2")
    server = serve("flask_rooms:app", *OPTIONS, *short)
    server.expect_log("all 8 threads are busy")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server.port)) for _ in range(CLIENTS)]
        paths = []
        for client in clients:
            opened = client.ask(get(POLL)).body.decode()
            sid = opened.partition('"sid":"')[2].partition('"')[0]
            paths.append(path := f"{POLL}&sid={sid}")
            post = get(path, "content-length: 2", method="POST") + b"40"
            assert client.ask(post).body == b"OK"
            assert client.ask(get(path)).body.startswith(b"40{")
        for client, path in zip(clients, paths, strict=True):
            client.send(get(path))  # until there is something to say
        wait_until(
            "all threads of a worker are busy",
            lambda: any(
                slot["threads"]["busy"] == 8 for slot in server.status()["slots"]
            ),
        )
        server.wait_for_log("all 8 threads are busy, requests waiting for one")
        answers = [ask(server.port) for _ in range(4)]
        assert {answer.status for answer in answers} <= {200, 503}
