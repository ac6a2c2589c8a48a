"""After very many connections, resets and reloads everything is as it was before."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import Counter
from pathlib import Path

from driver import descriptors, wait_until
from raw_http import ask, connect, crowd, get

CONNECTIONS = int(os.environ.get("MAITRED_TEST_CONNECTIONS", "10000"))
RESETS = 1_000
RELOADS = 5
KEYED = ("--affinity", "header:x-session", "--no-access-log")


def resident(pid):
    """Say how much memory process *pid* has, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def state(server):
    """Say what each process has: of what descriptors how many, and its memory."""
    pids = {"master": server.pid, **dict(enumerate(server.worker_pids()))}
    return (
        {name: Counter(descriptors(pid)) for name, pid in pids.items()},
        {name: resident(pid) for name, pid in pids.items()},
    )


def sockets(server):
    """Say how many sockets each worker has."""
    return [descriptors(pid).count("socket") for pid in server.worker_pids()]


def use(server, count):
    """Have *count* connections, and one that hops from worker to worker."""
    requests = [
        get("/", f"x-session: s{number % 100}", "connection: close")
        for number in range(count)
    ]
    answers = asyncio.run(crowd(server.port, requests, at_once=50))
    assert {answer.status for answer in answers} == {200}
    with connect(server.port) as client:
        for number in range(count // 10):  # from worker to worker and back
            assert client.ask(get("/", f"x-session: s{number % 100}")).status == 200


def resets(server, count):
    """Have *count* connections end by RST: silent, half said, asked, or answered."""
    for number in range(count):
        client = connect(server.port)
        client.send((b"", b"GET /", get(), get())[number % 4])
        if number % 4 == 3:
            client.answer()
        linger = struct.pack("ii", 1, 0)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.close()


def test_nothing_grows(serve):
    """Descriptors are the same ones, and memory is about as much, after all of it."""
    server = serve("probe:app", *KEYED, workers=2)
    own = sockets(server)
    use(server, 2000)  # what is made on first use, and what memory is kept for
    resets(server, 100)
    server.check_at_rest()
    wait_until("workers have closed all", lambda: sockets(server) == own)
    before, memory_before = state(server)
    use(server, CONNECTIONS)
    resets(server, RESETS)
    server.check_at_rest()
    wait_until("workers have what they had", lambda: state(server)[0] == before)
    _, memory = state(server)
    print("memory:", {n: f"{memory_before[n]} -> {memory[n]}" for n in memory})
    for name, size in memory.items():
        assert size < 1.25 * memory_before[name] + 4 * 2**20

    for _ in range(RELOADS):
        server.reload()
        assert ask(server.port).status == 200
    server.check_at_rest()
    wait_until(
        "the master has what it had",
        lambda: state(server)[0]["master"] == before["master"],
    )
    assert resident(server.pid) < 1.25 * memory_before["master"] + 4 * 2**20


def test_nothing_is_inherited(serve):
    """
    A process that a worker starts, with every descriptor it may have, has none but the
    standard ones: no connection, no channel.
    """
    server = serve("probe:app", *KEYED, workers=2)
    with connect(server.port) as idle:
        assert idle.ask(get()).status == 200
        for number in range(10):
            said = ask(server.port, "/grandchild", f"x-session: {number}").json
            assert said["fds"] == ["0", "1", "2"]
