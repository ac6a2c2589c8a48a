"""Many connections: all are served, evenly, and nothing of them is left."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter

import pytest
from websockets.asyncio.client import ClientConnection, connect

from driver import descriptors, wait_until
from raw_http import crowd, get

CONNECTIONS = 10_000
WEBSOCKETS = 1_000


@pytest.fixture(autouse=True, scope="module")
def _many_descriptors():
    """Both ends are on this machine, and one of them is ours."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_connections_are_answered_and_leave_nothing(serve):
    """Each of 10,000 connections is answered, and no descriptor stays open."""
    server = serve("probe:app", "--no-access-log")
    request = get("/", "connection: close")
    asyncio.run(crowd(server.port, [request] * 200))  # what is made on first use
    before = {pid: descriptors(pid) for pid in server.worker_pids()}
    answers = asyncio.run(crowd(server.port, [request] * CONNECTIONS, at_once=300))
    assert Counter(answer.status for answer in answers) == {200: CONNECTIONS}
    by_worker = Counter(answer.json["pid"] for answer in answers)
    assert set(by_worker) == set(before)
    for pid, had in before.items():
        wait_until(
            f"worker {pid} has closed them",
            lambda pid=pid, had=had: descriptors(pid) == had,
        )
    counts = server.status()["connections"]
    assert counts["accepted"] == counts["taken"] == CONNECTIONS + 200
    assert server.total("handed_over") == CONNECTIONS + 200


def test_open_websockets_are_spread_evenly(serve):
    """Of 1,000 open WebSockets no worker has more than 10 % over the mean."""
    server = serve("probe:app", "--no-access-log")
    url = f"ws://127.0.0.1:{server.port}/"
    turn = asyncio.Semaphore(100)

    async def one() -> ClientConnection:
        """Open one when it is its turn."""
        async with turn:
            return await connect(url, open_timeout=None, compression=None)

    async def run() -> list[int]:
        """Open all, look, and close them."""
        websockets = await asyncio.gather(*(one() for _ in range(WEBSOCKETS)))
        status = await asyncio.to_thread(server.status)
        await asyncio.gather(*(websocket.send("x") for websocket in websockets))
        heard = Counter(
            [(await websocket.recv()).split()[0] for websocket in websockets]
        )
        spread = [slot["open"] for slot in status["slots"]]
        assert sorted(heard.values()) == sorted(spread)
        await asyncio.gather(*(websocket.close() for websocket in websockets))
        return spread

    spread = asyncio.run(run())
    print("open WebSockets by worker:", spread)
    assert sum(spread) == WEBSOCKETS
    assert max(spread) <= 1.1 * WEBSOCKETS / server.workers
    wait_until("none is open", lambda: server.total("open") == 0)
