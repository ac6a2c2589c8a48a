"""The ledger of the load tests says what happened, and no more than that."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from driver import wait_until
from ledger import KINDS, Client, Entry, Extent, Load, judge, request

OK = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Give the port where *serve* does with each connection what it wants."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            """Serve one connection after the other, until the listener is shut."""
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    serve(sock)

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def hear(sock: socket.socket) -> str | None:
    """Read a GET; give its id, or None at the end."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        if not (more := sock.recv(4096)):
            return None
        data += more
    return data.partition(b"x-id: ")[2].split(b"\r\n")[0].decode()


def answer(id_: str | None) -> bytes:
    """Compose the answer that ``apps/ledger_app.py`` gives."""
    body = f"{id_} 7 0".encode()
    return OK % len(body) + body


def ask(port: int, times: int = 1) -> Client:
    """Let one client make GETs; give it."""
    client = Client(3, port, 1)

    async def run() -> None:
        """Ask, one request after the other."""
        for _ in range(times):
            await client.ask("get")
            await asyncio.sleep(0.01)
        client.close()

    asyncio.run(run())
    return client


def keep(sock: socket.socket) -> None:
    """Answer every request as it should be."""
    while (id_ := hear(sock)) is not None:
        sock.sendall(answer(id_))


def test_an_answered_request_is_entered_as_good():
    """Ids are those of the client; a connection is kept."""
    with server(keep) as port:
        client = ask(port, 2)
    whole = Extent.WHOLE
    assert client.entries == [
        Entry("3-0", whole, whole, 200, 7),
        Entry("3-1", whole, whole, 200, 7),
    ]
    assert all(entry.good for entry in client.entries)
    assert (client.connections, client.closed_while_idle) == (1, 0)


@pytest.mark.parametrize(
    ("said", "answered", "status"),
    [
        (b"", Extent.NONE, 0),
        (b"HTTP/1.1 2", Extent.NONE, 0),
        (OK % 5, Extent.PART, 0),
        (OK % 5 + b"3-0", Extent.PART, 0),
        (OK % 7 + b"3-9 7 0", Extent.PART, 0),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n", Extent.PART, 0),
        (BUSY, Extent.WHOLE, 503),
    ],
    ids=["none", "half a head", "no body", "half", "another's", "half a chunk", "503"],
)
def test_what_is_no_whole_answer_is_not_entered_as_one(said, answered, status):
    """The entry says how much came; an answer to another request is none."""

    def serve(sock: socket.socket) -> None:
        """Say it, and close."""
        hear(sock)
        sock.sendall(said)

    with server(serve) as port:
        (entry,) = ask(port).entries
    assert (entry.sent, entry.answered) == (Extent.WHOLE, answered)
    assert entry.status == status
    assert not entry.good


def test_who_is_not_there_is_sent_nothing():
    """A request without a connection was never sent."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (entry,) = ask(port).entries
    assert (entry.sent, entry.answered) == (Extent.NONE, Extent.NONE)


def test_a_request_that_nobody_reads_is_sent_in_part():
    """What the kernel has not taken is not sent."""

    def serve(sock: socket.socket) -> None:
        """Read nothing; reset in the middle."""
        told.wait()

    told = threading.Event()

    async def run(port: int) -> Entry:
        """Send more than kernels take."""
        client = Client(3, port, 1)
        asking = asyncio.ensure_future(client.ask("huge"))
        while not client.entries or client.entries[0].sent is Extent.NONE:
            await asyncio.sleep(0.01)
        told.set()
        return await asking

    with pytest.MonkeyPatch.context() as patch, server(serve) as port:
        patch.setattr("ledger.request", lambda *_: [b"x" * (64 << 20)])
        entry = asyncio.run(run(port))
    assert (entry.sent, entry.answered) == (Extent.PART, Extent.NONE)


def test_a_connection_that_was_closed_between_two_requests_is_counted():
    """The client connects again, and has lost nothing."""

    def once(sock: socket.socket) -> None:
        """Answer one request and close."""
        sock.sendall(answer(hear(sock)))

    with server(once) as port:
        client = ask(port, 2)
    assert all(entry.good for entry in client.entries)
    assert (client.connections, client.closed_while_idle) == (2, 1)


def test_a_load_asks_until_the_end(monkeypatch):
    """All clients ask again and again, and each request has an id of its own."""
    monkeypatch.setattr("ledger.KINDS", ("get",))
    with server(keep) as port, Load(port, clients=1, rate=200) as load:
        wait_until("40 requests are made", lambda: len(load.entries) >= 40)
    assert len({entry.id for entry in load.entries}) == len(load.entries)
    assert all(entry.good for entry in load.entries)
    assert load.closed_while_idle == 0


def test_the_seed_says_what_a_client_does():
    """Another client, or another seed, does something else."""

    def first(number: int, seed: int) -> float:
        """Give the first number that the client draws."""
        return Client(number, 1, seed)._random.random()

    assert first(1, 1) == first(1, 1)
    assert len({first(1, 1), first(2, 1), first(1, 2), first(2, 2)}) == 4


@pytest.mark.parametrize("kind", sorted({*KINDS}))
@pytest.mark.parametrize("size", [0, 1, 5000])
def test_requests_are_whole_with_their_last_piece(kind, size):
    """No piece is empty, and only the last one ends the request."""
    pieces = request(kind, "1-2", size)
    assert all(pieces)
    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    assert b"x-id: 1-2" in head
    if kind == "post":
        assert len(body) == size
        assert f"content-length: {size}".encode() in head
    elif kind == "stream":
        assert body.startswith(f"{size + 1:x}\r\n".encode())
        assert body.endswith(b"x\r\n0\r\n\r\n")
    else:
        assert not body


def test_the_verdict_compares_both_sides(tmp_path: Path):
    """Each kind of failure is told apart, and who had started what."""
    whole, part, none = Extent.WHOLE, Extent.PART, Extent.NONE
    entries = [
        Entry("good", whole, whole, 200, 1),
        Entry("lost", whole, none),
        Entry("half", whole, part),
        Entry("cut", part, none),
        Entry("never"),
        Entry("told", whole, whole, 502),
        Entry("again", whole, whole, 200, 2),
    ]
    (tmp_path / "1").write_text(
        "started good\nfinished good\nstarted half\nstarted again\nfinished again\n"
    )
    (tmp_path / "2").write_text("started again\nfinished again\nstarted told\n")
    verdict = judge(entries, tmp_path)
    assert verdict.good == 2
    assert verdict.lost == ["lost", "half"]
    assert verdict.failed == ["lost", "half", "cut", "told"]
    assert verdict.statuses == {200: 2, 502: 1}
    assert verdict.dup == verdict.twice == ["again"]
    assert verdict.started_by["again"] == {1, 2}
    assert verdict.not_started({1, 2}) == ["lost", "cut"]
    assert verdict.not_started({2}) == ["lost", "half", "cut"]
