"""
Presets of protocols that no framework owns, each with clients of its protocol.

Several sessions run at once, every session on connections of its own. Each answer says
which process gave it, and a count that this process keeps for the session.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import httpx2
import pytest
import websockets
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from driver import DEADLINE, Maitred

SESSIONS = 12
STEPS = 5
Answers = list[tuple[int, int]]


async def rooms(url: str, name: str) -> Answers:
    """Enter a room with several people, who hear each other."""
    async with AsyncExitStack() as stack:
        people, answers = [], []
        for _ in range(STEPS):
            address = f"{url.replace('http', 'ws')}/rooms/{name}"
            person = await stack.enter_async_context(websockets.connect(address))
            people.append(person)
            answers.append(pair(await person.recv()))
        if not kept(answers):
            return answers
        for speaker in people:
            await speaker.send("hello")
            for hearer in people:
                if hearer is not speaker:
                    assert await hearer.recv() == "hello"
    return answers


async def llm(url: str, name: str) -> Answers:
    """Ask a model again and again, each time on a new connection."""
    answers = []
    for _ in range(STEPS):
        async with httpx.AsyncClient(timeout=DEADLINE) as client:
            answer = await client.post(
                f"{url}/v1/chat/completions",
                headers={"X-Session-Id": name},
                json={"stream": True, "messages": []},
            )
            events = answer.text.split("\n\n")
            assert events[1:] == ["data: [DONE]", ""]
            answers.append(pair(events[0].removeprefix("data: ")))
    return answers


async def mcp_modern(url: str, name: str) -> Answers:
    """Call a tool with a handle, through the official SDK, on new connections."""
    answers = []
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(limits=limits, timeout=DEADLINE) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport) as client:
            assert client.protocol_version >= "2026"
            await client.list_tools()
            for _ in range(STEPS):
                result = await client.call_tool("count", {"session": name})
                assert not result.is_error, result
                content: Any = result.structured_content
                answers.append((content["pid"], content["count"]))
    return answers


async def graphql_sse(url: str, _name: str) -> Answers:
    """Make a stream, open it, and run operations whose results come in it."""
    address = f"{url}/graphql/stream"
    answers: Answers = []
    async with httpx.AsyncClient(timeout=DEADLINE) as client:
        token = (await client.put(address)).text
        async with client.stream("GET", address, params={"token": token}) as stream:
            results = events_of(stream)
            for number in range(1, STEPS + 1):
                done = await client.post(
                    address,
                    headers={"X-GraphQL-Event-Stream-Token": token},
                    json={"query": "", "variables": {"number": number}},
                )
                if {stream.status_code, done.status_code} != {200, 202}:
                    return answers
                answers.append(pair(await anext(results)))
    return answers


async def events_of(stream: httpx.Response) -> AsyncIterator[str]:
    """Give the data of each event."""
    async for line in stream.aiter_lines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


PROTOCOLS = {
    "rooms": rooms,
    "llm": llm,
    "mcp-modern": mcp_modern,
    "graphql-sse": graphql_sse,
}
"Preset to what one session of its protocol does."


def pair(text: str | bytes) -> tuple[int, int]:
    """Read process and count."""
    said = json.loads(text)
    return said["pid"], said["count"]


def kept(answers: Answers) -> bool:
    """Say whether one process counted all of *answers*."""
    return answers == [(answers[0][0], n) for n in range(1, len(answers) + 1)]


def run(server: Maitred, preset: str) -> list[Answers]:
    """Run all sessions at once; their names are new to the server."""

    async def all_of_them() -> list[Answers]:
        session = PROTOCOLS[preset]
        async with asyncio.timeout(DEADLINE):
            return await asyncio.gather(
                *(session(server.url, f"{preset}-{n}") for n in range(SESSIONS))
            )

    return asyncio.run(all_of_them())


def whole(answers: Answers) -> bool:
    """Say whether the session lived from its first step to its last."""
    return len(answers) == STEPS and kept(answers)


@pytest.mark.parametrize("preset", PROTOCOLS)
def test_every_session_stays_in_its_process(share, preset):
    """With the preset all sessions survive, and not all in one process."""
    server = share(
        "sessions_app:app", "--affinity", preset, "--no-access-log", workers=4
    )
    answers = run(server, preset)
    assert [whole(each) for each in answers] == [True] * SESSIONS, answers
    assert len({each[0][0] for each in answers}) > 1


@pytest.mark.parametrize("preset", PROTOCOLS)
def test_without_affinity_sessions_are_lost(share, preset):
    """The same sessions on the same workers, placed by the policy alone."""
    server = share(
        "sessions_app:app", "--affinity", "none", "--no-access-log", workers=4
    )
    answers = run(server, preset)
    assert sum(map(whole, answers)) < SESSIONS, answers
