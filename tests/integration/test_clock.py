"""The wall clock jumps by a day, there and back: no timeout notices."""

from __future__ import annotations

import select
from email.utils import parsedate_to_datetime
from glob import glob

import pytest
from websockets.sync.client import connect as connect_websocket

from driver import DEADLINE, wait_until
from raw_http import ask, connect, get

FAKETIME = glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
DAY = 86_400


@pytest.mark.skipif(
    not FAKETIME, reason="there is no libfaketime; script/bootstrap installs it"
)
@pytest.mark.parametrize("jump", ["+1d", "-1d"])
def test_jump_of_the_wall_clock_fires_no_timeout(serve, tmp_path, jump):
    """
    Half a head, an idle connection, a WebSocket and a session are there after the
    jump as before; timeouts still come when they are due.
    """
    offset = tmp_path / "offset"
    offset.write_text("+0d\n")
    server = serve(
        "probe:app",
        *("--affinity", "header:x-session", "--head-timeout", "15"),
        *("--timeout-keep-alive", "20", "--key-ttl", "600", "--no-access-log"),
        workers=2,
        env={
            "LD_PRELOAD": FAKETIME[0],
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )

    # A sleep ends at an absolute time, which libfaketime makes an impossible one.
    server.expect_log(r"leave_at_last|Traceback|Errno 22")

    def today():
        """Say what the server believes."""
        return parsedate_to_datetime(ask(server.port).headers["date"]).timestamp()

    before = today()
    session = ("/session?new=1", "x-session: one")
    assert ask(server.port, *session).json["count"] == 1
    with (
        connect(server.port) as half,
        connect(server.port) as idle,
        connect_websocket(f"ws://127.0.0.1:{server.port}/") as websocket,
    ):
        half.send(b"GET / HTTP/1.1\r\n")
        assert idle.ask(get()).status == 200
        websocket.send("hello")
        websocket.recv(timeout=DEADLINE)
        wait_until("it waits", lambda: server.status()["peeking"] == 1)
        pids = server.worker_pids()

        offset.write_text(f"{jump}\n")
        wait_until("the clock has jumped", lambda: abs(today() - before) > DAY / 2)
        # Whatever would fire has had its chance.
        assert not select.select([half.sock, idle.sock, websocket.socket], [], [], 2)[0]
        assert ask(server.port, *session).json["count"] == 2
        half.send(b"host: test\r\n\r\n")
        assert half.answer().status == 200
        assert idle.ask(get()).status == 200
        websocket.send("hello")
        websocket.recv(timeout=DEADLINE)
        assert server.worker_pids() == pids
        assert 0 <= server.status()["uptime"] < DAY / 2
        with connect(server.port) as late:
            late.send(b"GET / HTTP/1.1\r\n")
            assert late.answer().status == 408
    counts = server.status()["connections"]
    assert counts["silent"] == 0
    assert counts["refused"] == {"head_timeout": 1}
