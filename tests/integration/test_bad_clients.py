"""Clients that send nonsense, nothing, or without end harm nobody, and are told why."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from driver import DEADLINE, Maitred, cpu_seconds, wait_until
from raw_http import Answer, Connection, ask, connect, crowd, fetch, get

CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(189))
HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
HOST = b"Host: test\r\n"

NONSENSE = {
    "garbage": (b"\x00\xff\x80 hello\r\n\r\n", 400, "bad_request"),
    "empty line": (b"\r\n\r\n", 400, "bad_request"),
    "words": (b"hello, is anybody there?\r\n\r\n", 400, "bad_request"),
    "no version": (b"GET /\r\n\r\n", 400, "bad_request"),
    "HTTP/2 preface": (HTTP_2, 505, "bad_version"),
    "HTTP/3.0": (b"GET / HTTP/3.0\r\n" + HOST + b"\r\n", 505, "bad_version"),
    "TLS": (CLIENT_HELLO, 400, "tls"),
    "bare LF": (b"GET / HTTP/1.1\nHost: test\n\n", 400, "bad_request"),
    "bare LF later": (b"GET / HTTP/1.1\r\nHost: test\n\r\n", 400, "bad_request"),
    "bare CR": (b"GET / HTTP/1.1\r\nHost: test\rX: y\r\n\r\n", 400, "bad_request"),
    "NUL": (b"GET / HTTP/1.1\r\nHost: tes\0t\r\n\r\n", 400, "bad_request"),
    "folded line": (
        b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b\r\n c\r\n\r\n", 400, "bad_request"
    ),
    "space in a name": (b"GET / HTTP/1.1\r\nHost : test\r\n\r\n", 400, "bad_request"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_host"),
    "two hosts": (b"GET / HTTP/1.1\r\n" + HOST * 2 + b"\r\n", 400, "bad_host"),
    "two hosts in one": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, "bad_host"),
    "another host": (b"GET http://x/ HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_host"),
    "long line": (b"GET /" + b"x" * 20_000, 431, "head_too_large"),
    "many lines": (
        b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 5000, 431, "head_too_large"
    ),
    "1 MiB": (
        b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 2**20 + b"\r\n\r\n",
        431,
        "head_too_large",
    ),
}  # fmt: skip


@pytest.fixture
def server(share) -> Maitred:
    """Start a server with patience."""
    return share("probe:app", "--no-access-log")


@pytest.fixture
def impatient(share) -> Maitred:
    """Start a server that waits for a head one second."""
    return share("probe:app", "--no-access-log", "--head-timeout", "1")


def refused(server: Maitred, cause: str) -> int:
    """Say how many connections were refused for *cause*."""
    return server.status()["connections"]["refused"].get(cause, 0)


def check_goodbye(client: Connection, status: int) -> Answer:
    """Read an answer with *status* and a reason, then the end."""
    answer = client.answer()
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert answer.body.endswith(b".\n")
    assert client.at_end()
    return answer


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_is_answered(server, case):
    """The client can read why it is not served, and is counted."""
    data, status, cause = NONSENSE[case]
    before = refused(server, cause)
    with connect(server.port) as client:
        client.send(data)
        check_goodbye(client, status)
    assert refused(server, cause) == before + 1


def test_answer_can_be_read_by_a_client_that_goes_on_sending(server):
    """What the client still sends does not destroy the answer on its way."""
    with connect(server.port) as client:
        client.send(b"nonsense\r\n\r\n")
        for _ in range(32):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.send(b"x" * 65536)
        assert client.answer().status == 400


def test_silence_is_closed_at_the_deadline(impatient):
    """A client that says nothing gets nothing, and is counted."""
    before = impatient.status()["connections"]["silent"]
    with connect(impatient.port) as client:
        assert client.at_end()
    assert impatient.status()["connections"]["silent"] == before + 1


@pytest.mark.parametrize("data", [b"G", b"GET / HTTP/1.1\r\nHost: test\r\nX-Half: "])
def test_half_a_head_is_answered_at_the_deadline(impatient, data):
    """A client that does not finish is told 408."""
    before = refused(impatient, "head_timeout")
    with connect(impatient.port) as client:
        client.send(data)
        check_goodbye(client, 408)
    assert refused(impatient, "head_timeout") == before + 1


def test_dripping_does_not_move_the_deadline(impatient):
    """A client that sends byte after byte is told 408 all the same."""
    with connect(impatient.port) as client:
        client.send(b"GET / HTTP/1.1\r\nX-Drip: ")
        end = time.monotonic() + DEADLINE
        while not select.select([client.sock], [], [], 0.01)[0]:
            client.send(b"x")
            assert time.monotonic() < end
        assert client.answer().status == 408


def test_half_a_head_and_no_more_is_answered_at_once(server):
    """A client that closes its half in the middle of the head is told 400."""
    before = refused(server, "head_cut_short")
    with connect(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: loc")
        client.sock.shutdown(socket.SHUT_WR)
        check_goodbye(client, 400)
    assert refused(server, "head_cut_short") == before + 1


def test_request_of_a_client_that_closed_its_half_is_handed_over(server):
    """A whole request is the worker's, although the client will send no more."""
    before = server.status()["connections"]["taken"]
    with connect(server.port) as client:
        client.send(get("/", "connection: close"))
        client.sock.shutdown(socket.SHUT_WR)
        wait_until(
            "it is taken", lambda: server.status()["connections"]["taken"] > before
        )


@pytest.mark.parametrize(
    ("data", "reset", "counted"),
    [
        (b"", False, "client_left"),
        (b"GET / HTTP/1.1\r\n", False, "head_cut_short"),
        (b"GET / HTTP/1.1\r\n", True, "head_cut_short"),
    ],
    ids=["silent", "talking", "rude"],
)
def test_client_that_leaves_is_forgotten(server, data, reset, counted):
    """A client that goes away too early is counted, and leaves nothing."""

    def count() -> int:
        connections = server.status()["connections"]
        return connections["refused"].get(counted, 0) + connections.get(counted, 0)

    before = count()
    with connect(server.port) as client:
        client.send(data)
        if reset:
            linger = struct.pack("ii", 1, 0)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    wait_until("it is counted", lambda: count() == before + 1)


def test_nonsense_after_a_request_is_the_workers_to_answer(server):
    """What follows a good request on its connection is answered by the worker."""
    server.expect_log("Invalid HTTP request received")
    with connect(server.port) as client:
        assert client.ask(get()).status == 200
        client.send(b"nonsense\r\n\r\n")
        assert client.answer().status == 400
        assert client.at_end()


def test_crowd_of_bad_clients_leaves_good_ones_alone(server):
    """While 300 clients misbehave in every way, good requests are answered."""
    cases = list(NONSENSE.values())
    before = server.status()["connections"]

    async def bad(number: int, over: asyncio.Event) -> int:
        """Misbehave in one way; give 0 if the answer was the right one."""
        if number % 3 == 0:  # half a head, to the end
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: loc")
            await over.wait()
            writer.close()
            return 0
        data, status, _ = cases[number % len(cases)]
        answer = await fetch(server.port, data)
        return answer.status - status

    async def run() -> list[Answer]:
        """Run good clients among bad ones."""
        over = asyncio.Event()
        crowd_of_bad = asyncio.gather(*(bad(n, over) for n in range(300)))
        good = await crowd(
            server.port, [get("/", "connection: close")] * 200, at_once=4
        )
        over.set()
        assert set(await crowd_of_bad) == {0}
        return good

    answers = asyncio.run(run())
    assert [answer.status for answer in answers] == [200] * 200
    after = server.status()["connections"]
    assert after["accepted"] - before["accepted"] == 500
    assert after["taken"] - before["taken"] == 200
    wait_until(
        "all others are counted",
        lambda: (
            sum(server.status()["connections"]["refused"].values())
            == sum(before["refused"].values()) + 300
        ),
    )
    assert (
        refused(server, "head_cut_short") - before["refused"].get("head_cut_short", 0)
        == 100
    )


# At the limits


def test_too_many_waiting_clients_push_out_the_oldest(serve):
    """Beyond ``--max-waiting`` the client that has waited longest is told 503."""
    server = serve("probe:app", "--max-waiting", "10", "--no-access-log", workers=1)
    clients = [connect(server.port) for _ in range(15)]
    for client in clients:
        client.send(b"GET /")
    wait_until("five are told", lambda: refused(server, "too_many_waiting") == 5)
    told = [c for c in clients if select.select([c.sock], [], [], 0)[0]]
    assert len(told) == 5
    for client in told:
        check_goodbye(client, 503)
    for client in clients:
        client.close()


@contextlib.contextmanager
def half_hearted_clients(server: Maitred) -> Iterator[None]:
    """Have far more clients in the middle of a head than the server has descriptors."""
    with contextlib.ExitStack() as clients:
        for _ in range(600):
            client = clients.enter_context(connect(server.port))
            client.send(b"GET /")
        yield


def test_clients_cannot_use_up_the_descriptors(serve):
    """However many come, enough is kept for good clients, operators and workers."""
    server = serve("probe:app", "--no-access-log", workers=1, nofile=256)
    server.expect_log("was ended by SIGKILL; replaced")
    with half_hearted_clients(server):
        wait_until("it is too much", lambda: refused(server, "too_many_waiting"))
        server.kill_worker(0)
        assert ask(server.port).status == 200
        assert server.status()["connections"]["accept_pauses"] == 0


def test_master_survives_its_descriptor_limit(serve):
    """With no descriptor left it does not die or spin, and serves again later."""
    server = serve("probe:app", "--no-access-log", workers=1, nofile=24)
    server.expect_log("not accepting for a moment: Too many open files")
    with half_hearted_clients(server):
        server.wait_for_log("not accepting for a moment")
        used, at = cpu_seconds(server.pid), time.monotonic()
        server.wait_for_log("not accepting for a moment", 3)
        used, passed = cpu_seconds(server.pid) - used, time.monotonic() - at
        assert used < passed / 2
    assert ask(server.port).status == 200
