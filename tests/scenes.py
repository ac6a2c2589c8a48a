"""Scenes that several tests play: load, a request in progress, who is alive."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from driver import Maitred, is_deputy, processes_of, wait_until
from raw_http import Answer, Connection, ask, connect, get


@contextlib.contextmanager
def load(server: Maitred) -> Iterator[list[Answer]]:
    """Yield the answers that four threads get meanwhile; no request may fail."""
    over = threading.Event()
    answers: list[Answer] = []
    failures: list[BaseException] = []

    def run() -> None:
        while not over.is_set():
            try:
                answers.append(ask(server.port))
            except (OSError, AssertionError, ValueError) as exc:
                failures.append(exc)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert {answer.status for answer in answers} == {200}


@contextlib.contextmanager
def waiting_request(server: Maitred, gate: Path, *lines: str) -> Iterator[Connection]:
    """Yield a request in progress that is answered when *gate* exists."""
    begun = gate.with_name(gate.name + ".begun")
    begun.unlink(missing_ok=True)
    with connect(server.port) as client:
        client.send(get(f"/wait?for={gate}", *lines))
        wait_until("the request has begun", begun.exists)
        yield client


def names_by_slot(server: Maitred) -> dict[int, str]:
    """Return a session's name for every slot."""
    names: dict[int, str] = {}
    for number in range(1000):
        said = ask(server.port, "/", f"x-session: s{number}").json
        names.setdefault(int(said["slot"]), f"s{number}")
        if len(names) == server.workers:
            return names
    raise AssertionError("some slot gets no session")


def workers_of(server: Maitred) -> list[int]:
    """Return the workers that are alive."""
    return [
        pid
        for pid in processes_of(server.run)
        if pid != server.pid and not is_deputy(pid)
    ]


def generations_of(server: Maitred) -> set[int]:
    """Return the generations of which workers are alive."""
    found = set()
    for pid in workers_of(server):
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            if match := re.search(rb"MAITRED_GENERATION=(\d+)\0", environment):
                found.add(int(match[1]))
    return found
