"""Real MCP: the official SDK on both sides, in protocol versions with sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from driver import DEADLINE, Maitred, wait_until

SESSIONS = 20
CALLS = 4

TRANSPORTS = {
    "mcp": lambda url: f"{url}/mcp",
    "mcp-sse": lambda url: sse_client(f"{url}/sse", timeout=DEADLINE),
}
"Preset to what the SDK's client connects to."


@pytest.fixture
def server(share) -> Maitred:
    """Start a server for both transports."""
    presets = [word for preset in TRANSPORTS for word in ("--affinity", preset)]
    return share("mcp_app:app", *presets, "--no-access-log", workers=4)


async def session(
    server: Any,
    *,
    patience: float = DEADLINE,
    between: Callable[[], Any] | None = None,
) -> list[tuple[int, int]]:
    """Run one session; give pid and count of each of its calls."""
    answers = []
    async with asyncio.timeout(patience), Client(server, mode="legacy") as client:
        for number in range(CALLS):
            if number == 1 and between is not None:
                await between()
            result = await client.call_tool("count", {})
            assert not result.is_error, result
            said = result.structured_content
            answers.append((said["pid"], said["count"]))
    return answers


def kept(answers: Any) -> bool:
    """Say whether a session's *answers* all came from the process that holds it."""
    return isinstance(answers, list) and answers == [
        (answers[0][0], count) for count in range(1, CALLS + 1)
    ]


@pytest.mark.parametrize("preset", TRANSPORTS)
def test_every_session_stays_in_its_process(server, preset):
    """Of 20 sessions at once, every call is answered by the session's process."""
    at = TRANSPORTS[preset]

    async def run() -> list[list[tuple[int, int]]]:
        """Run all sessions at once."""
        return await asyncio.gather(*(session(at(server.url)) for _ in range(SESSIONS)))

    answers = asyncio.run(run())
    assert [kept(a) for a in answers] == [True] * SESSIONS
    assert len({a[0][0] for a in answers}) >= 3
    assert {a[0][0] for a in answers} <= set(server.worker_pids())


@pytest.mark.parametrize("preset", TRANSPORTS)
def test_plain_workers_lose_sessions(serve_plain, preset):
    """The same clients lose sessions where any worker may get any connection."""
    at = TRANSPORTS[preset]
    server = serve_plain("mcp_app:app")

    async def run() -> list[Any]:
        """Run all sessions at once."""
        sessions = (session(at(server.url), patience=4.0) for _ in range(SESSIONS))
        return await asyncio.gather(*sessions, return_exceptions=True)

    answers = asyncio.run(run())
    assert sum(map(kept, answers)) < SESSIONS


def test_keys_are_claimed_and_released(server):
    """Status counts a key for each open session, and none after they ended."""
    before = server.total("claimed_keys")
    counts = []

    async def run() -> None:
        """Run all sessions at once."""
        everyone = asyncio.Barrier(5)

        async def look() -> None:
            """Count the keys while every session is open."""
            if await everyone.wait() == 0:
                counts.append(await asyncio.to_thread(server.total, "claimed_keys"))
            await everyone.wait()

        await asyncio.gather(
            *(session(f"{server.url}/mcp", between=look) for _ in range(5))
        )

    asyncio.run(run())
    assert counts == [before + 5]
    wait_until("they are released", lambda: server.total("claimed_keys") == before)


def test_session_outlives_its_connections(server):
    """A client that makes a new connection for every request keeps its session."""

    async def one() -> list[tuple[int, int]]:
        """Run one session without keeping a connection."""
        limits = httpx2.Limits(max_keepalive_connections=0)
        async with httpx2.AsyncClient(limits=limits, timeout=DEADLINE) as http:
            url = f"{server.url}/mcp"
            return await session(streamable_http_client(url, http_client=http))

    async def run() -> list[list[tuple[int, int]]]:
        """Run all sessions at once."""
        return await asyncio.gather(*(one() for _ in range(10)))

    assert [kept(answers) for answers in asyncio.run(run())] == [True] * 10
