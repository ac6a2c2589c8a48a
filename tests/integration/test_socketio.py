"""Real Socket.IO: python-socketio on both sides, long polling and upgraded."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import socketio

from driver import DEADLINE

CLIENTS = 30
EVENTS = 5


async def client(
    url: str, transports: list[str], patience: float = DEADLINE
) -> list[tuple[int, int]]:
    """Connect, send events, and give pid and count of each answer."""
    answers = []
    over = asyncio.Event()
    sio = socketio.AsyncClient(reconnection=False)
    sio.on("disconnect", lambda _reason: over.set())
    try:
        async with asyncio.timeout(patience):
            await sio.connect(url, transports=transports, wait_timeout=patience)
            assert sio.transport() == transports[-1]
            for _ in range(EVENTS):
                said = await sio.call("hit", timeout=patience)
                answers.append((said["pid"], said["count"]))
            await sio.emit("leave")
            await over.wait()
    finally:
        await part(sio)
    return answers


async def part(sio: socketio.AsyncClient) -> None:
    """End *sio* without waiting for the timeouts of its loops."""
    await sio.eio.disconnect(abort=True)
    loops = [sio.eio.write_loop_task, sio.eio.read_loop_task]
    for loop in filter(None, loops):
        loop.cancel()
        await asyncio.wait([loop])


def crowd(url: str, transports: list[str], **details: Any) -> list[Any]:
    """Run all clients at once; a failure stands in its client's place."""

    async def run() -> list[Any]:
        """Run all clients."""
        clients = (client(url, transports, **details) for _ in range(CLIENTS))
        return await asyncio.gather(*clients, return_exceptions=True)

    return asyncio.run(run())


def kept(answers: Any) -> bool:
    """Say whether a client's *answers* all came from the process that holds it."""
    return isinstance(answers, list) and answers == [
        (answers[0][0], count) for count in range(1, EVENTS + 1)
    ]


@pytest.mark.parametrize(
    "transports", [["polling"], ["polling", "websocket"]], ids=["polling", "upgraded"]
)
def test_every_client_stays_in_its_process(serve, transports):
    """Of 30 clients at once, every event reaches the process that holds the client."""
    words = ("--affinity", "socketio", "--no-access-log")
    server = serve("socketio_app:app", *words, workers=4)
    answers = crowd(server.url, transports)
    assert [a for a in answers if not kept(a)] == []
    assert len({a[0][0] for a in answers}) >= 3


@pytest.mark.parametrize(
    "transports", [["polling"], ["polling", "websocket"]], ids=["polling", "upgraded"]
)
def test_stamped_ids_need_no_table(serve, transports):
    """The same where the master may remember one key, and remembers none."""
    server = serve(
        *("socketio_app:app", "--affinity", "socketio", "--no-access-log"),
        *("--max-keys", "1"),
        workers=4,
    )
    answers = crowd(server.url, transports)
    assert [a for a in answers if not kept(a)] == []
    assert len({a[0][0] for a in answers}) >= 3
    status = server.status()
    assert status["keys"] == 0
    assert status["connections"]["claims"] == 0


def test_plain_workers_lose_clients(serve_plain):
    """The same clients lose their session where any worker may get any connection."""
    server = serve_plain("socketio_app:app")
    answers = crowd(server.url, ["polling"], patience=4.0)
    assert sum(map(kept, answers)) < CLIENTS


def test_path_without_its_last_slash_is_the_same(share):
    """As clients with ``addTrailingSlash: false`` and some proxies send it."""
    server = share("socketio_app:app", "--affinity", "socketio", workers=4)
    path = "/socket.io?EIO=4&transport=polling"
    with httpx.Client(base_url=server.url, timeout=DEADLINE, trust_env=False) as client:
        for _ in range(12):
            close = {"connection": "close"}
            opened = json.loads(client.get(path, headers=close).text[1:])
            at = f"{path}&sid={opened['sid']}"
            answer = client.post(at, content="40", headers=close)
            assert (answer.status_code, answer.text.upper()) == (200, "OK")
