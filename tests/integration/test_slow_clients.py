"""A thousand clients that are silent or slow: others do not notice, and each ends."""

from __future__ import annotations

import asyncio
import resource
import socket
import statistics
import time
from pathlib import Path

import pytest

from driver import wait_until
from raw_http import ask

HEAD_TIMEOUT = 10
SLOW = 1000
REQUESTS = 200


@pytest.fixture(autouse=True)
def _many_descriptors():
    """The clients are ours."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def median_of_a_bystander(server):
    """Say how long a request on a connection of its own takes."""
    taken = []
    for _ in range(REQUESTS):
        begin = time.monotonic()
        assert ask(server.port).status == 200
        taken.append(time.monotonic() - begin)
    return statistics.median(taken)


def resident(pid):
    """Say how much memory process *pid* has, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


async def slow_client(port, kind):
    """
    Be slow until the server has had enough; say how long, and what it said.

    At once in the kernel's queue: our own loop has many others to look after.
    """
    begin = time.monotonic()
    sock = socket.create_connection(("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock)
    answer = asyncio.ensure_future(reader.read())
    if kind:
        writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
    while kind == "drips" and not answer.done():
        writer.write(b"x")
        await asyncio.wait({answer}, timeout=1)
    said = await answer
    writer.close()
    return kind, time.monotonic() - begin, said.split()[1:2]


def test_slow_clients_do_not_starve_others(serve):
    """
    While they wait a bystander is served about as fast as before; each of them is
    closed, or told 408, when its time is over and not earlier.
    """
    server = serve(
        "probe:app",
        *("--no-access-log", "--head-timeout", str(HEAD_TIMEOUT)),
        workers=2,
    )
    median_of_a_bystander(server)
    alone = median_of_a_bystander(server)
    memory = resident(server.pid)
    before = server.status()["connections"]["accepted"]

    async def run():
        """Measure a bystander while the others are slow."""
        kinds = ["", "half", "drips", ""] * (SLOW // 4)
        slow = asyncio.gather(*(slow_client(server.port, kind) for kind in kinds))
        # The kernel passes the silent ones on later.
        await asyncio.to_thread(
            wait_until,
            "all are accepted",
            lambda: server.status()["connections"]["accepted"] == before + SLOW,
        )
        among_them = await asyncio.to_thread(median_of_a_bystander, server)
        assert server.status()["peeking"] > 0
        per_connection = (resident(server.pid) - memory) / SLOW
        return among_them, per_connection, await slow

    among_them, per_connection, ends = asyncio.run(run())
    print(
        f"bystander: {alone * 1000:.2f} ms alone, {among_them * 1000:.2f} ms among"
        f" {SLOW} slow clients; {per_connection:.0f} bytes for each of those"
    )
    assert among_them < 5 * alone
    waited = [waited for _, waited, _ in ends]
    print(f"closed after {min(waited):.1f} to {max(waited):.1f} s")
    assert min(waited) >= HEAD_TIMEOUT
    for kind, _, status in ends:
        assert status == ([b"408"] if kind else [])
    counts = server.status()["connections"]
    assert counts["silent"] == SLOW / 2
    assert counts["refused"] == {"head_timeout": SLOW / 2}
    assert per_connection < 16 * 1024
