"""Node as a worker: the example, through the real command line."""

import os
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from driver import DEADLINE, wait_until

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None, reason="there is no Node (node)"
)
EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = f"{sys.executable} {EXAMPLES}/node_worker.py {EXAMPLES}/app.js"


@pytest.fixture
def server(serve):
    """Two of them."""
    return serve(
        COMMAND, "--exec", "--affinity", "header:x-session",
        "--policy", "round-robin", workers=2,
    )  # fmt: skip


def come(client, name):
    """Ask as session *name*; give the process, and how often it was asked."""
    answer = client.get("/", headers={"x-session": name})
    assert answer.status_code == 200
    pid, _, rest = answer.text.removeprefix("Hello from Node ").partition(": ")
    said, count = rest.split()
    assert said == name
    return int(pid), int(count)


def test_a_session_stays_in_its_process(server):
    """On kept and on new connections, it is counted on."""
    pids = set()
    for number in range(8):
        with httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
            first, _ = come(client, f"s{number}")
            pids.add(first)
            assert come(client, f"s{number}") == (first, 2)
        for count in (3, 4):
            with httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
                assert come(client, f"s{number}") == (first, count)
    assert len(pids) == 2
    wait_until("all are closed", lambda: server.total("open") == 0)


def test_a_process_that_dies_is_replaced(server):
    """Its helper leaves with it, and the other's sessions stay."""
    server.expect_log("worker of slot . (exited|ended|was ended)")
    with httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
        victim, _ = come(client, "ann")
    with httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
        other, _ = come(client, "bob")
    assert victim != other
    os.kill(victim, 9)
    server.wait_for_log("worker of slot")
    with httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
        assert come(client, "bob") == (other, 2)
    with httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
        _, count = come(client, "ann")
    assert count == 1


def test_a_reload_under_load_loses_nothing(server):
    """Sixteen clients, a connection for each request: all are answered."""
    done = threading.Event()
    failed = []

    def ask_on(number):
        count = 0
        while not done.is_set():
            with httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
                try:
                    come(client, f"s{number}")
                except (httpx.HTTPError, AssertionError) as exc:
                    failed.append(repr(exc))
            count += 1
        return count

    with ThreadPoolExecutor(16) as pool:
        counts = [pool.submit(ask_on, number) for number in range(16)]
        try:
            for _ in range(3):
                server.reload()
        finally:
            done.set()
        assert all(count.result() for count in counts)
    assert not failed


def test_a_stop_ends_what_is_idle(server):
    """A client that keeps its connection does not keep the service."""
    with httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
        come(client, "ann")
        assert server.stop() == 0


def test_limits_of_time_count(serve, tmp_path):
    """Although its server does not listen: the application says so to it."""
    limits = (
        "headersTimeout: 500, requestTimeout: 500, connectionsCheckingInterval: 100"
    )
    text = (EXAMPLES / "app.js").read_text()
    assert text.count("createServer(") == 1
    app = tmp_path / "app.js"
    app.write_text(text.replace("createServer(", f"createServer({{ {limits} }}, "))
    server = serve(
        f"{sys.executable} {EXAMPLES}/node_worker.py {app}", "--exec", workers=1
    )
    with server.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nho")
        assert b"408 Request Timeout" in file.read()
    wait_until("it is closed", lambda: server.total("open") == 0)
