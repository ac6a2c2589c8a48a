"""A small limit of open files: whoever there is no room for waits, and is served."""

from __future__ import annotations

import os
import signal
import threading

from driver import wait_until
from raw_http import connect, get

LIMIT = 256
CLIENTS = 600


def test_more_clients_than_descriptors_wait_for_each_other(serve, tmp_path):
    """Two workers can have some 480; the others wait in the kernel's backlog."""
    go = tmp_path / "go"
    server = serve(
        "probe:app", "--no-access-log", "--wait-timeout", "60", workers=2, nofile=LIMIT
    )
    server.expect_log("connections were refused: .* descriptors arrived")
    statuses: list[int] = []

    def visit() -> None:
        with connect(server.port) as client:
            statuses.append(client.ask(get(f"/wait?for={go}")).status)

    threads = [threading.Thread(target=visit) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    wait_until(
        "both are full",
        lambda: server.status()["connections"]["no_descriptor"] > 0,
    )
    go.touch()
    for thread in threads:
        thread.join()
    assert statuses == [200] * CLIENTS
    assert server.status()["connections"]["refused"] == {}


def test_turning_away_is_logged(serve):
    """Once, and not for each: how many wait, and what bounds that."""
    server = serve(
        "probe:app", "--no-access-log", "--window", "1", "--max-waiting", "1",
        "--affinity", "header:x-session", workers=1,
    )  # fmt: skip
    server.expect_log("SIGSTOP|late|silent|heartbeat|heard of|stuck")
    pid = server.kill_worker(0, signal.SIGSTOP)
    clients = []
    try:
        for _ in range(6):
            clients.append(connect(server.port))
            clients[-1].send(get("/", "x-session: s"))
        server.wait_for_log(r"INFO .*connections are answered 503 at once: 1 wait")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert 200 in [client.answer().status for client in clients]
    for client in clients:
        client.close()
