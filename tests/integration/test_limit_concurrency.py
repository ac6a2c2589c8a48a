"""``--limit-concurrency``: a worker serves no more at once, and says so to the rest."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as connect_websocket

from driver import DEADLINE, wait_until
from maitred.routing.refusal import CAUSES
from raw_http import connect, get


def websocket(server):
    """Connect a WebSocket to *server*."""
    url = f"ws://127.0.0.1:{server.port}/"
    return connect_websocket(url, proxy=None, open_timeout=DEADLINE)


def test_worker_serves_no_more_at_once_than_it_may(serve, tmp_path):
    """Those beyond are told so, and their connections stay; idle ones do not count."""
    server = serve("probe:app", "--limit-concurrency", "2", workers=1)
    end = tmp_path / "end"
    with contextlib.ExitStack() as held:
        for _ in range(3):  # idle
            assert held.enter_context(connect(server.port)).ask(get()).status == 200
        busy = [held.enter_context(connect(server.port)) for _ in range(2)]
        for number, client in enumerate(busy):
            client.send(get(f"/drip?for={end}{number}"))
            assert client.head()[0] == 200
        client = held.enter_context(connect(server.port))
        answer = client.ask(get("/more"))
        assert answer.status == 503
        assert answer.body == f"{CAUSES['too_busy'].why}\n".encode()
        with pytest.raises(InvalidStatus) as refusal, websocket(server):
            pass
        assert refusal.value.response.status_code == 503
        for number in range(len(busy)):
            Path(f"{end}{number}").touch()
        wait_until("there is room", lambda: client.ask(get("/again")).status == 200)


def test_limit_is_not_lost_with_a_worker_that_refused(serve):
    """A 503 is an answer like others: it is not repeated elsewhere after a death."""
    server = serve("probe:app", "--limit-concurrency", "1", workers=1)
    with websocket(server) as held, connect(server.port) as client:
        held.send("hello")
        assert held.recv().endswith("hello")
        assert client.ask(get()).status == 503
        server.kill_worker(0)
        server.expect_log(r"was ended by SIGKILL; replaced")
        server.expected_lost = 1  # the WebSocket
        assert client.ask(get()).status == 200
