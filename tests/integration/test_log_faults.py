"""Whatever happens to the log, clients notice nothing, and the gap is told later."""

from __future__ import annotations

import os
import re
import select

import pytest

from driver import wait_until
from raw_http import connect_unix, get

REQUESTS = 150
LONG = "x" * 12_000
"In the path of each request: more than the pipe and what waits for it can hold."


@pytest.fixture
def pipe():
    """Make a pipe that nobody reads, filled to the brim: its two ends."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def check_serving(server, path):
    """Have requests answered that are all logged, and a worker replaced."""
    with connect_unix(path) as client:
        for _ in range(REQUESTS):
            assert client.ask(get(f"/{LONG}")).status == 200
    pid = server.kill_worker(0)
    wait_until("it is replaced", lambda: server.status()["slots"][0]["pid"] != pid)
    server.wait_until_serving()
    with connect_unix(path) as client:
        for _ in range(REQUESTS):
            assert client.ask(get(f"/{LONG}")).status == 200


def start(serve, tmp_path, **details):
    """Start a server whose log cannot be read, and give its socket."""
    path = str(tmp_path / "socket")
    server = serve(
        "probe:app",
        "--head-limit",
        "20000",
        bind=f"unix:{path}",
        workers=1,
        ready=False,
        **details,
    )
    server.wait_until_serving()
    return server, path


def test_full_disk(serve, tmp_path):
    """When there is no room for the log, all is served and the loss is counted."""
    full = os.open("/dev/full", os.O_WRONLY)
    server, path = start(serve, tmp_path, stderr=full)
    os.close(full)
    check_serving(server, path)
    assert server.status()["dropped_log_lines"] > 0


def test_closed_log(serve, tmp_path):
    """Without a standard error all is served, and no connection is taken for it."""
    server, path = start(
        serve, tmp_path, wrap=["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh"]
    )
    check_serving(server, path)
    for pid in (server.pid, *server.worker_pids()):
        assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (1, 2)} == {"/dev/null"}


def test_reader_that_left(serve, tmp_path):
    """When nobody is there to read the log, all is served and the loss is counted."""
    reading, writing = os.pipe()
    server, path = start(serve, tmp_path, stderr=writing)
    os.close(writing)
    os.close(reading)
    check_serving(server, path)
    assert server.status()["dropped_log_lines"] > 0


def test_reader_that_sleeps(serve, tmp_path, pipe):
    """When nobody reads the log, all is served; who reads on is told of the gap."""
    reading, writing = pipe
    server, path = start(serve, tmp_path, stderr=writing)
    check_serving(server, path)
    said = bytearray()

    def is_told(what):
        while select.select([reading], [], [], 0)[0]:
            said.extend(os.read(reading, 1 << 20))
        return re.search(what, said)

    loss = rb"WARNING \[\d+\] \d+ lines of this log were dropped"
    wait_until("the loss is told", lambda: is_told(loss))
    replaced = rb"was ended by SIGKILL; replaced"
    wait_until("the master's lines are there", lambda: is_told(replaced))


def test_stop_does_not_wait_for_the_reader(serve, tmp_path, pipe):
    """A server whose log is stuck can be stopped."""
    server, path = start(serve, tmp_path, stderr=pipe[1])
    with connect_unix(path) as client:
        assert client.ask(get()).status == 200
    assert server.stop() == 0


def test_failure_is_told_after_the_log(serve, tmp_path):
    """Of a server that cannot start, the reason is the last line."""
    server = serve("broken:app", ready=False)
    assert server.wait() == 3
    assert server.log.splitlines()[-1].startswith("maitred: ")
    server.expect_log("")
