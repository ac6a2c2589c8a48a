"""What an operator reads of one connection, of each request, and after a rotation."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from websockets.sync.client import connect as connect_websocket

from driver import ACCEPTORS, COMMAND, descriptors, processes_of, wait_until
from raw_http import ask, connect, connect_unix, crowd, get

KEYED = ("--affinity", "header:x-session")
IN_JSON = ("--log-format", "json")


def records(text):
    """Read every line of *text* as JSON."""
    return [json.loads(line) for line in text.splitlines()]


def requests_in(text):
    """Give what the access log in *text* says, a record for each request."""
    return [record for record in records(text) if "status" in record]


def logged(server, target):
    """Wait for the request of *target* in a log of JSON; give its record."""

    def found():
        said = [r for r in requests_in(server.log) if r.get("target") == target]
        return said[0] if said else None

    return wait_until(f"{target} is logged", found)


def start(serve, *options, workers=2):
    """Serve the probe with a log of JSON."""
    server = serve("probe:app", *IN_JSON, *options, ready=False, workers=workers)
    server.wait_until_serving()

    def line():
        said = [r for r in records(server.log) if "listening" in r["message"]]
        return said[0] if said else None

    # It is written by a thread, perhaps after the master has answered.
    listening = wait_until("it is written", line)
    server.port = int(re.search(r"127\.0\.0\.1:(\d+)", listening["message"])[1])
    return server


def two_sessions(server):
    """Give two names whose owners are two workers."""
    names = [f"s{n}" for n in range(8)]
    owners = {n: ask(server.port, "/", f"x-session: {n}").json["pid"] for n in names}
    other = next(n for n in names if owners[n] != owners["s0"])
    return "s0", other


def test_one_connection_has_one_number_everywhere(serve):
    """Hand-overs, a hop, requests and the end: one number finds all of it."""
    server = start(serve, *KEYED, "--log-level", "debug")
    one, other = two_sessions(server)
    with connect(server.port) as client:
        client.ask(get("/first", f"x-session: {one}"))
        client.ask(get("/second", f"x-session: {other}"))
    first, second = logged(server, "/first"), logged(server, "/second")
    conn = first["conn"]

    def way():
        said = [r for r in records(server.log) if r.get("conn") == conn]
        texts = [r.get("message", r.get("target")) for r in said]
        return said if "closed" in texts else None

    said = wait_until("it is closed", way)
    assert {r["role"] for r in said if "role" in r} >= {"worker"}
    texts = Counter(
        re.sub(r"\d+", "N", r.get("message", r.get("target"))) for r in said
    )
    assert texts == {
        "handed to worker N of slot N, hop N": 2,
        "received from acceptor N": 2,
        "/first": 1,
        "given back": 1,
        "given back by worker N of slot N": 1,
        "/second": 1,
        "closed": 1,
    }
    assert (second["conn"], first["hops"], second["hops"]) == (conn, 0, 1)
    assert first["slot"] != second["slot"]


def test_hash_of_a_key_is_what_whereis_says(serve):
    """The log names the session without its name."""
    server = start(serve, *KEYED)
    ask(server.port, "/mine", "x-session: secret-name")
    said = logged(server, "/mine")
    assert "secret-name" not in server.log
    if ACCEPTORS == "1":
        done = subprocess.run(
            [COMMAND, "whereis", "secret-name", "--json", "--control", server.control],
            capture_output=True,
            check=True,
        )
        where = json.loads(done.stdout)
        assert (said["key"], said["slot"]) == (where["hash"], where["slot"])


HOSTILE = b'x" 200 "\xff\t\\n2026-11-23 00:00:00 \xc2\x85\xc2\x9b31m status=500 conn=1'
"What the gate lets pass: no control characters but tabs."


@pytest.mark.parametrize("form", ["plain", "combined", "logfmt", "json"])
def test_no_byte_of_a_client_forges_anything(serve, form):
    """Referer, agent and forwarded address may say what they like, as far as HTTP."""
    believed = ("--forwarded-allow-ips", "*")
    server = serve("probe:app", "--access-log-format", form, *believed, workers=1)
    bad = HOSTILE
    request = b"\r\n".join(
        [b"GET /marked?a=%22 HTTP/1.1", b"host: x", b"referer: " + bad,
         b"user-agent: " + bad, b"x-forwarded-for: " + bad, b"", b""]
    )  # fmt: skip
    with connect(server.port) as client:
        assert client.ask(request).status == 200
    server.wait_for_log("/marked")
    [line] = [line for line in server.log.splitlines() if "marked" in line]
    assert re.fullmatch("[ -~]+", line)
    assert server.log.count("forged") == 0
    if form == "json":
        said = json.loads(line)
        assert said["status"] == 200
        assert said["agent"].encode("latin-1") == bad
    elif form == "combined":
        parts = re.fullmatch(
            r'(\S+) - - \[[^]]+\] "([^"]*)" 200 \d+ "([^"]*)" "([^"]*)" conn=.*', line
        )
        assert parts, line
        assert parts[2] == "GET /marked?a=%22 HTTP/1.1"
        assert parts[3] == parts[4]
    elif form == "logfmt":
        assert re.search(r" status=200 ", re.sub(r'"([^"\\]|\\.)*"', '""', line))
        assert "status=500" not in re.sub(r'"([^"\\]|\\.)*"', '""', line)
    else:
        quotes = [at for at, letter in enumerate(line) if letter == '"']
        assert line[quotes[0] : quotes[1] + 5] == '"GET /marked?a=%22 HTTP/1.1" 200'


def test_request_that_cannot_be_read_is_logged(serve):
    """By the master, which answers it; no byte of it is written."""
    server = start(serve, workers=1)
    with connect(server.port) as client:
        assert client.ask(b"GET /\x1bforged HTTP/1.1\r\nhost: x\r\n\r\n").status == 400
    said = wait_until("it is logged", lambda: requests_in(server.log))[0]
    assert (said["status"], said["client"]) == (400, "127.0.0.1")
    assert said["conn"]
    assert "forged" not in server.log


def test_websocket_and_request_cut_short_are_logged(serve, tmp_path):
    """When they are over: 101, and no status where there was no answer."""
    server = start(serve, workers=1)
    with connect_websocket(f"ws://127.0.0.1:{server.port}/ws") as client:
        client.send("hello")
        client.recv()
    said = logged(server, "/ws")
    assert (said["status"], said["method"]) == (101, "GET")
    target = f"/wait?for={tmp_path}/go"
    with connect(server.port) as client:
        client.send(get(target))
        wait_until("it has begun", (tmp_path / "go.begun").exists)
    said = logged(server, target)
    assert said["status"] == 0
    (tmp_path / "go").touch()


def test_requests_of_health_checks_can_be_filtered(serve, tmp_path):
    """What applications do to the logger of uvicorn for that still works."""
    (tmp_path / "filtered.py").write_text(
        "import logging\n"
        "from probe import app\n"
        "logger = logging.getLogger('uvicorn.access')\n"
        "logger.addFilter(lambda record: record.args[2] != '/health')\n"
    )
    server = serve("filtered:app", env={"PYTHONPATH": str(tmp_path)}, workers=1)
    for path in ("/health", "/other"):
        assert ask(server.port, path).status == 200
    server.wait_for_log("GET /other")
    assert "GET /health" not in server.log


async def load(server, rounds, between):
    """Ask for /0 to as many paths as there are, and do *between* all the while."""
    number = 0
    for round_ in range(rounds):
        paths = [f"/n{number + each}x" for each in range(50)]
        number += 50
        requests = [get(path, "connection: close") for path in paths]
        answers = await crowd(server.port, requests, 20)
        assert all(answer.status == 200 for answer in answers)
        between(round_)
    return number


def test_rotation_loses_and_doubles_no_line(serve, tmp_path):
    """Renamed under load again and again: each request has one line in one file."""
    path = tmp_path / "access.log"
    server = serve(
        "probe:app", "--log-file", str(path), "--acceptors", "2",
        "--admin", f"unix:{tmp_path}/admin.sock",
        ready=False, workers=2, bind="127.0.0.1:0",
    )  # fmt: skip
    server.wait_until_serving()
    said = wait_until(
        "it says where", lambda: re.search(r"127\.0\.0\.1:(\d+)", path.read_text())
    )
    server.port = int(said[1])

    def rotate(number):
        os.rename(path, tmp_path / f"access.log.{number}")
        server.tell(signal.SIGUSR1)
        wait_until("it is there again", path.exists)

    count = asyncio.run(load(server, 12, rotate))
    files = [path, *tmp_path.glob("access.log.*")]

    def text():
        return "".join(each.read_text() for each in files)

    wait_until("all are logged", lambda: len(re.findall(r"/n\d+x ", text())) >= count)
    found = Counter(re.findall(r"GET (/n\d+x) ", text()))
    assert found == Counter(f"/n{number}x" for number in range(count))
    assert server.log == ""
    # Nobody holds on to a file that was renamed: master, acceptor, admin, two workers.
    wait_until("all write into the newest", lambda: holders(server, path) == 5)
    assert server.stop() == 0


def holders(server, path):
    """Count the processes of *server* that have *path* open, if none has an old one."""
    pids = processes_of(server.run)
    held = [fd for pid in pids for fd in descriptors(pid) if fd.startswith(str(path))]
    return len(held) if set(held) == {str(path)} else 0


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")
def test_worker_of_another_language_is_not_signalled(serve, tmp_path):
    """USR1 would end what does not know it."""
    path = tmp_path / "log"
    binary = tmp_path / "worker"
    source = Path(__file__).parents[2] / "examples" / "worker.c"
    subprocess.run(["cc", "-std=c11", "-O2", "-o", binary, source], check=True)
    server = serve(
        str(binary), "--exec", "--log-file", str(path), ready=False, workers=1
    )
    server.wait_until_serving()
    pid = server.worker_pids()[0]
    path.unlink()
    server.tell(signal.SIGUSR1)
    wait_until("it is there again", path.exists)
    assert server.worker_pids() == [pid]


def test_log_file_that_cannot_be_opened_is_one_sentence(tmp_path):
    """At the start, with the exit code of what the system refuses."""
    done = subprocess.run(
        [COMMAND, "serve", "probe:app", "--log-file", str(tmp_path / "no" / "log")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stderr == (
        f"maitred: cannot open the log file {tmp_path}/no/log: No such file or"
        " directory\n"
    )


@pytest.mark.parametrize("kind", ["full", "fifo"])
def test_log_file_that_takes_nothing(serve, tmp_path, kind):
    """A full disk, a pipe that nobody reads: clients notice nothing."""
    path = tmp_path / "log"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path = "/dev/full"
    socket_path = tmp_path / "socket"
    server = serve(
        "probe:app", "--log-file", str(path),
        ready=False, workers=1, bind=f"unix:{socket_path}",
    )  # fmt: skip
    server.wait_until_serving()

    with connect_unix(str(socket_path)) as client:
        for _ in range(20):
            assert client.ask(get("/")).status == 200
    assert server.status()["dropped_log_lines"] > 0
    if kind == "fifo":
        # Somebody reads from now on.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(number, "rb", buffering=0) as pipe:
            with connect_unix(str(socket_path)) as client:
                assert client.ask(get("/heard")).status == 200
            heard = []

            server.tell(signal.SIGHUP)  # so that the master has something to say

            def is_heard():
                heard.append((pipe.read() or b"").decode())
                said = ("GET /heard", "lines of this log were dropped", "listening on")
                return all(each in "".join(heard) for each in said)

            wait_until("it is heard", is_heard)
