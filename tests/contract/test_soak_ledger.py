"""
The ledger of the long mixed load finds whoever lies: the real clients, a lying server.

The server is a few lines that do what ``apps/soak_app.py`` does. It plays three workers
and lies once, in one way; the verdict has to be about just that request.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from pathlib import Path

import pytest

from ledger import Extent
from soak.clients import Client, Request
from soak.plan import DRAIN, PROFILES, WAIT, operations, profile_of
from soak.plays import PLAYS
from soak.verdict import History, Note, Span, judge, read_ledger

AT = 6
"Which request the server lies about."
HEAD = re.compile(rb"x-id: (\S+)\r\n(?:x-session: (\S+)\r\n)?")


class Liar:
    """A server that keeps a ledger as the application does, and lies once."""

    def __init__(self, directory: Path, lie: str) -> None:
        """Write the ledger to *directory*."""
        self._directory = directory
        self._lie = lie
        self._served = 0

    async def serve(self, reader, writer):
        """Answer the requests of one connection."""
        try:
            while await self._one(reader, writer):
                pass
        except EOFError:
            pass
        writer.close()
        await writer.wait_closed()

    async def _one(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        id_, session = (each or b"-" for each in HEAD.search(head).groups())
        size = re.search(rb"content-length: (\d+)", head)
        body = await reader.readexactly(int(size[1])) if size else b""
        self._served += 1
        lie = self._lie if self._served == AT else ""
        if lie == "lose":
            return False
        # Each session has one of three workers.
        pid = 11 + len(session) % 3 + (lie == "stray")
        for _ in range(2 if lie == "start twice" else 1):
            self._note(pid, "started", id_, session)
        if lie == "fail":
            return False
        for _ in range(2 if lie == "finish twice" else 1):
            self._note(pid, "finished", id_, session)
        if lie == "mix":
            id_ = b"another-7"
        if lie == "another session":
            session = b"s999"
        digest = hashlib.sha256(body + (b"!" if lie == "cut" else b"")).hexdigest()
        line = b"%b %d %b 1 %d %b\n" % (
            id_,
            pid,
            session,
            len(body),
            digest[:16].encode(),
        )
        if lie == "garble":
            line = b"what?\n"
        status = b"503 No" if lie == "refuse" else b"200 OK"
        head = b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n" % (status, len(line))
        writer.write(head + line)
        return True

    def _note(self, pid, what, id_, session):
        with (self._directory / str(pid)).open("a") as file:
            line = f"{time.time():.6f} {what} {id_.decode()} {session.decode()} 0 -\n"
            file.write(line)


async def load(directory, lie, kind):
    """Let one client make some requests of a server that tells *lie*."""
    server = await asyncio.start_server(Liar(directory, lie).serve, "127.0.0.1", 0)
    client = Client(kind, 1, server.sockets[0].getsockname()[1], 1, [])
    async with server:
        while len(client.requests) < 2 * AT:
            await PLAYS[kind](client)
        await client.end()
    return client.requests


@pytest.mark.parametrize("kind", ["kept", "hopping", "pipelined"])
@pytest.mark.parametrize(
    ("lie", "expected"),
    [
        ("", {}),
        ("lose", {"lost": 1}),
        ("fail", {"failed": 1}),
        ("start twice", {"doubled": 1}),
        ("finish twice", {"doubled": 1}),
        ("mix", {"wrong": 1}),
        ("garble", {"wrong": 1}),
        ("another session", {"wrong": 1}),
        ("cut", {"wrong": 1}),
        ("refuse", {"failed": 1}),
    ],
)
def test_each_lie_is_found(tmp_path, kind, lie, expected):
    """The verdict is bad for the one request that the lie is about."""
    requests = asyncio.run(load(tmp_path, lie, kind))
    verdict = judge(requests, read_ledger(tmp_path), History())
    found = {name: len(cases) for name, cases in verdict.bad.items()}
    if kind == "pipelined" and lie in ("lose", "fail"):
        # Those behind it on the connection get no answer either, and nobody excuses it.
        assert found.pop("lost", 0) >= (lie == "lose")
        expected = {"failed": 1} if lie == "fail" else {}
    assert found == expected
    assert {case.request.id for cases in verdict.bad.values() for case in cases} >= (
        {f"{kind}1-{AT - 1}"} if lie else set()
    )


def test_a_session_in_two_workers_is_found(tmp_path):
    """It was in one that lives, and a request of it ran in another one."""
    requests = asyncio.run(load(tmp_path, "stray", "kept"))
    (first, second) = judge(requests, read_ledger(tmp_path), History()).wrong
    assert "was in 13, which lived" in first.request.wrong
    assert "was in 14, which lived" in second.request.wrong


def case(**what):
    """Make a request that was sent whole at 100 s and failed at 101 s."""
    request = Request("a-1", Extent.WHOLE, begun=100.0, whole_at=100.0, ended=101.0)
    for name, value in what.items():
        setattr(request, name, value)
    return request


STARTED = Note(100.2, "started", "a-1", "s1", 0, "-", 11)


@pytest.mark.parametrize(
    ("request_", "notes", "history", "cause"),
    [
        (case(), [STARTED], History(killed={11: 100.6}), "worker that was killed"),
        (case(), [STARTED], History(killed={12: 100.6}), None),
        (case(), [], History(killed={11: 100.6}), None),
        (case(), [STARTED], History(killed={11: 98.0}), None),
        (case(), [STARTED], History(killed={11: 110.0}), None),
        (case(status=502), [], History(killed={11: 100.6}), "between its mark"),
        (case(status=502), [], History(), None),
        (case(), [STARTED], History(retired={11: 101 - DRAIN}), "--drain-timeout"),
        (case(), [STARTED], History(retired={11: 100.0}), None),
        (
            case(status=503, ended=100 + WAIT),
            [],
            History(stopped={11: [Span(99.0, 112.0)]}),
            "--wait-timeout",
        ),
        (case(status=503, ended=100 + WAIT), [], History(), None),
        (case(status=503), [], History(stopped={11: [Span(99.0, 112.0)]}), None),
        (case(idle=2.1), [], History(), "--timeout-keep-alive"),
        (case(status=408, begun=96.0), [], History(), "--head-timeout"),
        (case(status=408), [], History(), None),
        (case(idle=2.1), [STARTED], History(), None),
        (case(idle=1.0), [], History(), None),
        (case(own_doing="left"), [], History(), "own doing"),
    ],
)
def test_nothing_is_explained_by_what_was_not_done(request_, notes, history, cause):
    """A cause needs a worker that had this request, and the right time."""
    verdict = judge([request_], notes, history)
    if cause is None:
        assert len(verdict.lost + verdict.failed) == 1
        assert not verdict.explained
    else:
        assert not verdict.bad
        ((found, count),) = verdict.explained.items()
        assert cause in found
        assert count == 1


def test_one_kill_explains_one_request_that_was_never_started():
    """Between the mark and the application is one step, and so one request."""
    requests = [case(status=502), case(status=502)]
    requests[1].id = "a-2"
    verdict = judge(requests, [], History(killed={11: 100.6}))
    assert sum(verdict.explained.values()) == 1
    assert len(verdict.lost) == 1


@pytest.mark.parametrize(
    ("history", "count"),
    [
        (History(), 1),
        (History(ended={11: 100.5}), 0),
        (History(retired={11: 100.5}), 0),
        (History(retired={11: 100.5}, keeps_sessions=True), 1),
        (History(moved={"s1": [Span(100.5, 100.6)]}), 0),
        (History(moved={"s2": [Span(100.5, 100.6)]}), 1),
    ],
)
def test_a_session_may_move_when_there_is_a_reason(history, count):
    """Its worker ended or was to leave, or an operator gave the session away."""
    requests = [
        case(id="a-1"),
        case(id="a-2", begun=102.0, whole_at=102.0, ended=103.0),
    ]
    for request in requests:
        request.answered, request.status = Extent.WHOLE, 200
    notes = [STARTED, STARTED._replace(at=102.2, id="a-2", pid=12)]
    assert len(judge(requests, notes, history).wrong) == count


def test_the_seed_says_what_is_done():
    """The same seed makes the same plan, another one another; ten name all profiles."""
    one = PROFILES["one"]
    assert operations(3, 60, one) == operations(3, 60, one)
    assert operations(3, 60, one) != operations(4, 60, one)
    assert {profile_of(seed) for seed in range(1, 11)} == {*PROFILES}
    names = {each.name for each in operations(3, 600, PROFILES["sessions"])}
    assert not names & PROFILES["sessions"].refused
