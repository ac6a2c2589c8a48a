"""A master that stood still for longer than its clients may wait refuses nobody."""

from __future__ import annotations

import os
import signal
import time

from driver import wait_until
from limits import at_its_limit
from raw_http import connect, get

CLIENTS = 40
STILL = 11.0
"Seconds; longer than --wait-timeout below."


def test_who_waited_for_a_worker_is_served_when_the_master_goes_on(serve):
    """The time in which nobody could hand anything over is no time that they waited."""
    options = ("--wait-timeout", "10", "--window", "8", "--hang-timeout", "0")
    server = serve("probe:app", *options, workers=1)
    server.expect_log("silent|heard|heartbeat|no worker took")
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGSTOP)
    try:
        clients = [connect(server.port) for _ in range(CLIENTS)]
        for client in clients:
            client.send(get())
        wait_until("they wait", lambda: server.status()["waiting"] > 0)
        server.tell(signal.SIGSTOP)
    finally:
        os.kill(worker, signal.SIGCONT)
    try:
        time.sleep(STILL)
    finally:
        server.tell(signal.SIGCONT)
    assert [client.answer().status for client in clients] == [200] * CLIENTS
    for client in clients:
        client.close()


def test_who_waits_for_descriptors_of_a_worker_is_served_when_the_master_goes_on(serve):
    """Likewise where the worker has it, and gives it back: that has a deadline too."""
    options = ("--wait-timeout", "8", "--hang-timeout", "0")
    server = serve("probe:app", *options, workers=1)
    server.expect_log("descriptor|open files|silent|heard|heartbeat|no worker took")
    (worker,) = server.worker_pids()
    with connect(server.port) as client:
        with at_its_limit(worker):
            client.send(get())
            wait_until(
                "it is tried", lambda: server.status()["connections"]["redispatched"]
            )
            server.tell(signal.SIGSTOP)
            time.sleep(STILL)
        server.tell(signal.SIGCONT)
        assert client.answer().status == 200
