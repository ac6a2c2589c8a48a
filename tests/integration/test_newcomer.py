"""
What a newcomer does with the README: serve, watch, reload, read, look up.

The program is the README's, taken from the page; so are the commands.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import httpx
import pytest
import socketio

import chromium
from driver import COMMAND, DEADLINE, wait_until

README = Path(__file__).parents[2] / "README.md"
CLIENTS = 12


def block(title):
    """Give the README's file of that name."""
    text = README.read_text(encoding="utf-8")
    return re.search(rf'(?ms)^```python title="{title}"\n(.*?)^```$', text)[1]


def maitred(server, *words):
    """Run a command of the README against *server*; give what it prints."""
    result = subprocess.run(
        [COMMAND, *words, "--control", server.control],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def metrics(server):
    """Give the plain numbers of /metrics by name."""
    text = httpx.get(server.status()["admin"][0] + "/metrics", trust_env=False).text
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value, *_ in lines}


@pytest.fixture
def rooms(serve, tmp_path):
    """Serve the README's Socket.IO application with four workers, as it says."""
    (tmp_path / "rooms.py").write_text(block("rooms.py"))
    words = ("--affinity", "socketio", "--no-access-log", "--admin", "127.0.0.1:0")
    return serve("rooms:app", *words, workers=4, cwd=tmp_path)


async def connected(url):
    """Give a client that has a session."""
    client = socketio.AsyncClient(reconnection=False)
    await client.connect(url, transports=["polling"], wait_timeout=DEADLINE)
    return client


async def left(client):
    """Leave without waiting for the timeouts of the client's loops."""
    await client.eio.disconnect(abort=True)
    for loop in filter(None, [client.eio.write_loop_task, client.eio.read_loop_task]):
        loop.cancel()
        await asyncio.wait([loop])


async def requests(url, enough):
    """Ask again and again on one connection until *enough*; give the failures."""
    failures = []
    async with httpx.AsyncClient(timeout=DEADLINE, trust_env=False) as http:
        while not enough.is_set():
            try:
                # A page that is not there: the application answers, and keeps nothing.
                answer = await http.get(f"{url}/nothing")
                if answer.status_code != httpx.codes.NOT_FOUND:
                    failures.append(answer.status_code)
            except httpx.HTTPError as exc:
                failures.append(repr(exc))
    return failures


def test_newcomer_sees_and_steers(rooms):
    """Every step by the real command, a real client and a real browser."""

    async def steps():
        """Serve, look up, reload under load."""
        clients = [await connected(rooms.url) for _ in range(CLIENTS)]
        homes = {c.get_sid(): await c.call("where", timeout=DEADLINE) for c in clients}
        ids = {c.eio.sid: homes[c.get_sid()] for c in clients}
        # Which worker owns a session? By the command, and in the browser below.
        for name, pid in ids.items():
            said = await asyncio.to_thread(maitred, rooms, "whereis", name)
            assert f"pid {pid}" in said
        table = await asyncio.to_thread(maitred, rooms, "top", "--once")
        assert all(str(pid) in table for pid in rooms.worker_pids())

        for client in clients:
            await left(client)
        enough = asyncio.Event()
        load = [asyncio.create_task(requests(rooms.url, enough)) for _ in range(6)]
        told = await asyncio.to_thread(maitred, rooms, "reload")
        enough.set()
        assert re.search(r"generation 2 serves: .* lost 0|\b0 lost", told)
        assert await asyncio.gather(*load) == [[]] * 6
        return ids

    before = rooms.worker_pids()
    ids = asyncio.run(steps())
    assert set(ids.values()) <= set(before)
    assert not set(rooms.worker_pids()) & set(before)

    numbers = metrics(rooms)
    assert numbers["maitred_connections_lost_total"] == 0
    assert numbers["maitred_connections_accepted_total"] > CLIENTS


@pytest.mark.skipif(chromium.PROGRAM is None, reason="there is no chromium")
def test_newcomer_watches_in_the_browser(rooms):
    """The page shows the reload, that nothing was lost, and who owns a session."""

    async def begin():
        """Make a session that lives as long as nobody ends it."""
        client = await connected(rooms.url)
        pid = await client.call("where", timeout=DEADLINE)
        name = client.eio.sid
        await left(client)
        return name, pid

    name, pid = asyncio.run(begin())
    slot = rooms.worker_pids().index(pid)
    with chromium.opened() as page:
        page.goto(rooms.status()["admin"][0] + "/")
        page.wait_for_selector("#state:text('serving')")
        page.fill("#key", name)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#owner:has-text('slot {slot}, pid {pid}')")
        maitred(rooms, "reload")
        page.wait_for_selector("#events li:has-text('generation 2 serves')")
        wait_until(
            "the new workers are shown",
            lambda: str(pid) not in page.inner_text("#workers"),
        )
        assert re.search(r"lost\s+0", page.inner_text("#facts"))
