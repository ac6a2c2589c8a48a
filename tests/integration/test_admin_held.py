"""Who holds connections of the admin server keeps no health probe from its answer."""

from __future__ import annotations

import contextlib
import socket

import httpx

from driver import DEADLINE, wait_until
from raw_http import Connection

SILENT = 300
"More than the admin server has places for."


def test_probes_are_answered_whoever_says_nothing(serve):
    """Silent connections give way, and a head without end is refused."""
    server = serve("probe:app", "--admin", "127.0.0.1:0", workers=1)
    url = server.status()["admin"][0]
    address = ("127.0.0.1", int(url.rpartition(":")[2].strip("/")))
    server.expect_log("Invalid HTTP request received")
    # What the admin process knows of the start may be a quarter of a second old.
    ready = url.rstrip("/") + "/readyz"
    wait_until("it is ready", lambda: httpx.get(ready, timeout=DEADLINE).is_success)
    with contextlib.ExitStack() as stack:
        for _ in range(SILENT):
            stack.enter_context(socket.create_connection(address, DEADLINE))
        for path in ("/healthz", "/readyz", "/metrics") * 2:
            answer = httpx.get(url.rstrip("/") + path, timeout=DEADLINE)
            assert answer.status_code == 200, (path, answer.text)
        with Connection(socket.create_connection(address, DEADLINE)) as client:
            with contextlib.suppress(ConnectionError):  # it was refused by then
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 2**20)
            with contextlib.suppress(ConnectionError):
                assert client.answer().status == 400
        assert httpx.get(url.rstrip("/") + "/healthz").status_code == 200
