"""A session that is given away while its requests wait for the worker it had."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from driver import Maitred, wait_until
from maitred.control import ask
from raw_http import Connection, connect, get
from scenes import names_by_slot

OPTIONS = (
    *("--affinity", "header:x-session", "--policy", "round-robin"),
    *("--window", "1", "--acceptors", "1", "--timeout-keep-alive", "600"),
)


@pytest.fixture
def server(serve) -> Maitred:
    """Start a server that hands a worker one connection at a time."""
    return serve("probe:app", *OPTIONS)


@pytest.fixture
def send() -> Iterator[Callable[[Maitred, bytes], Connection]]:
    """Give a function that sends a request on a connection of its own."""
    with contextlib.ExitStack() as opened:

        def on_a_new_one(server: Maitred, request: bytes) -> Connection:
            connection = opened.enter_context(connect(server.port))
            connection.send(request)
            return connection

        yield on_a_new_one


def handed_over(server: Maitred) -> int:
    """Return how many connections the worker of slot 0 was handed."""
    return server.status()["slots"][0]["handed_over"]


def test_what_waits_for_a_stopped_worker_follows_its_session(server, send):
    """What waits goes at once; then so does all that comes, on whatever connection."""
    name = names_by_slot(server)[0]
    request = get("/", f"x-session: {name}")
    loser, winner = server.worker_pids()
    before = handed_over(server)
    os.kill(loser, signal.SIGSTOP)
    try:
        handed = send(server, request)
        wait_until("it is on its way", lambda: handed_over(server) == before + 1)
        waits = send(server, request)
        wait_until("the next one waits", lambda: server.status()["waiting"])
        ask(server.control, "move", key=f"header:x-session={name}", slot=1)
        assert waits.answer().json["pid"] == winner
    finally:
        os.kill(loser, signal.SIGCONT)
    assert handed.answer().json["pid"] in {loser, winner}
    for connection in (waits, handed):
        assert connection.ask(request).json["pid"] == winner


def test_what_waits_for_a_starting_worker_follows_its_session(serve, send, tmp_path):
    """The worker that comes never had the session, and is not taken for its owner."""
    mood, go = tmp_path / "mood", tmp_path / "mood.go"
    mood.write_text("good")
    server = serve("moody:app", *OPTIONS, env={"MOOD": str(mood)})
    server.expect_log(r"ended by SIGKILL")
    name = names_by_slot(server)[0]
    request = get("/", f"x-session: {name}")
    mood.write_text("dawdle")
    server.kill_worker(0)
    wait_until("it is dead", lambda: server.status()["slots"][0]["state"] != "ready")
    waits = send(server, request)
    wait_until("it waits", lambda: server.status()["waiting"])
    ask(server.control, "move", key=f"header:x-session={name}", slot=1)
    winner = server.worker_pids()[1]
    assert waits.answer().json["pid"] == winner
    go.touch()
    server.wait_until_serving()
    assert waits.ask(request).json["pid"] == winner
