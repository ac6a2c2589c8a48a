"""Connections that outlive their worker: killed, or replaced by a reload."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

from driver import DEADLINE, Maitred, descriptors, wait_until
from raw_http import Connection, connect, connect_unix, get
from scenes import generations_of, names_by_slot

KILLED = r"worker of slot \d was ended by SIGKILL"
LOOPS = ("asyncio", "uvloop")
PATIENT = ("--timeout-keep-alive", "60")
"So that a slow machine closes nothing that is idle."


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Make the name of a file; requests that wait for it end when it is there."""
    return tmp_path / "gate"


def begin(client: Connection, gate: Path) -> None:
    """Send a request, and wait until the application has begun with it."""
    begun = gate.with_name(gate.name + ".begun")
    begun.unlink(missing_ok=True)
    client.send(get(f"/wait?for={gate}"))
    wait_until("the request has begun", begun.exists)


def kill_pid(server: Maitred, pid: int) -> None:
    """Kill worker *pid*, and wait until it is replaced."""
    slot = server.worker_pids().index(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(
        "it is replaced",
        lambda: (
            (state := server.status()["slots"][slot])["state"] == "ready"
            and state["pid"] != pid
        ),
    )


def counts(server: Maitred) -> dict[str, int]:
    """Give the counters of connections."""
    return server.status()["connections"]


# A worker is killed


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_idle_connection_outlives_its_worker(serve, loop, http):
    """The client's next request is answered on the same connection, many times."""
    server = serve("probe:app", *PATIENT, "--loop", loop, "--http", http, workers=2)
    server.expect_log(KILLED)
    with connect(server.port) as client:
        seen = set()
        for _ in range(4):
            pid = client.ask(get()).json["pid"]
            assert pid not in seen
            seen.add(pid)
            kill_pid(server, pid)
        assert client.ask(get()).json["pid"] not in seen
    assert counts(server)["orphaned"] == counts(server)["redispatched"] == 4


@pytest.mark.parametrize("loop", LOOPS)
def test_half_a_head_outlives_its_worker(serve, loop):
    """What a worker had read of a request, and not begun, is not lost with it."""
    server = serve("probe:app", *PATIENT, "--loop", loop, workers=2)
    server.expect_log(KILLED)
    request = get("/whole", "x-one: 1", "x-two: 2")
    with connect(server.port) as client:
        for cut in (1, 20, len(request) - 1):
            pid = client.ask(get()).json["pid"]
            client.send(request[:cut])
            # An answer on another connection: this worker has read by now, or will not.
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wait_until("it is read", lambda: unread(client) == 0)
            kill_pid(server, pid)
            answer = client.ask(request[cut:])
            assert answer.json["path"] == "/whole"
            assert answer.json["pid"] != pid


def unread(client: Connection) -> int:
    """Say how many bytes of *client* the server has not read, as the kernel knows."""
    here, there = client.sock.getsockname()[1], client.sock.getpeername()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(f.partition(":")[2], 16) for f in fields[1:3])
        if (local, remote) == (there, here):
            return int(fields[4].partition(":")[2], 16)
    raise AssertionError("no such connection")


def test_body_that_was_read_outlives_its_worker_when_nothing_began(serve):
    """A pipelined request waits for the answer to the first; it was not begun."""
    server = serve("probe:app", *PATIENT, workers=2)
    server.expect_log(KILLED)
    with connect(server.port) as client:
        pid = client.ask(get()).json["pid"]
        head = b"POST /hash HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n"
        client.send(head)
        wait_until("it is read", lambda: unread(client) == 0)
        kill_pid(server, pid)
        assert client.ask(b"\r\nhello").json["sha256"].startswith("2cf24dba")


@pytest.mark.parametrize("loop", LOOPS)
def test_request_that_was_begun_is_not_repeated(serve, gate, loop):
    """Nobody can know what it did; the client is told so, once."""
    server = serve("probe:app", *PATIENT, "--loop", loop, workers=2)
    server.expect_log(KILLED)
    with connect(server.port) as client:
        pid = client.ask(get()).json["pid"]
        begin(client, gate)
        kill_pid(server, pid)
        answer = client.answer()
        assert answer.status == 502
        assert b"not repeated" in answer.body
        assert client.at_end()
    assert counts(server)["refused"] == {"worker_died": 1}


def test_answer_that_was_begun_is_cut(serve, gate):
    """An answer that cannot be finished ends, and nothing is written behind it."""
    server = serve("probe:app", *PATIENT, workers=2)
    server.expect_log(KILLED)
    server.expected_lost = 1
    with connect(server.port) as client:
        pid = client.ask(get()).json["pid"]
        client.send(get(f"/drip?for={gate}"))
        status, _ = client.head()
        assert status == 200
        kill_pid(server, pid)
        assert b"HTTP/1.1" not in client._file.read()


def test_request_that_kills_its_worker_is_not_passed_on_for_ever(serve, tmp_path):
    """A client whose very bytes kill workers is turned away in the end."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, maitred.worker.gate as gate\n"
        "first = gate.Gate._begin\n"
        "def begin(self):\n"
        "    if b'poison' in self.pending:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return first(self)\n"
        "if 'MAITRED_SLOT' in os.environ:\n"
        "    gate.Gate._begin = begin\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    server = serve("probe:app", *PATIENT, workers=1, env={"PYTHONPATH": path})
    server.expect_log(KILLED)
    with connect(server.port) as client, connect(server.port) as other:
        assert other.ask(get()).status == 200
        assert client.ask(get("/poison")).status == 503
        assert client.at_end()
        assert other.ask(get()).status == 200


def test_request_that_nobody_can_take_is_answered(serve, tmp_path):
    """A kept connection whose worker is dead, and no other comes in time."""
    mood = tmp_path / "mood"
    mood.write_text("")
    server = serve(
        "moody:app", *PATIENT, "--wait-timeout", "1", workers=1,
        env={"MOOD": str(mood)},
    )  # fmt: skip
    server.expect_log(KILLED)
    with connect(server.port) as client, connect(server.port) as silent:
        pid = client.ask(get()).json["pid"]
        silent.ask(get())
        mood.write_text("hang")
        os.kill(pid, signal.SIGKILL)
        wait_until("both came back", lambda: counts(server)["redispatched"] == 2)
        assert client.ask(get()).status == 503
        assert client.at_end()
        assert silent.at_end()


def test_without_copies_idle_connections_die_with_their_worker(serve):
    """``--no-keep-copies`` costs no descriptor, and this."""
    server = serve("probe:app", *PATIENT, "--no-keep-copies", workers=2)
    server.expect_log(KILLED)
    before = descriptors(server.pid)
    with connect(server.port) as client:
        pid = client.ask(get()).json["pid"]
        wait_until("it is taken", lambda: descriptors(server.pid) == before)
        kill_pid(server, pid)
        assert client.at_end()


@pytest.mark.parametrize("copies", ["--keep-copies", "--no-keep-copies"])
def test_client_hears_of_the_end_though_a_worker_has_parked_a_copy(serve, gate, copies):
    """Whoever served the connection before cannot keep it alive for long."""
    server = serve(
        "probe:app", *PATIENT, copies, "--affinity", "header:x-session", workers=2
    )
    server.expect_log(KILLED)
    server.expected_lost = int(copies == "--keep-copies")
    names = names_by_slot(server)
    with connect(server.port) as client:
        for _ in range(2):
            for slot, name in names.items():
                answer = client.ask(get("/", f"x-session: {name}"))
                assert int(answer.json["slot"]) == slot
        client.send(get(f"/drip?for={gate}", f"x-session: {names[1]}"))
        status, _ = client.head()
        assert status == 200
        kill_pid(server, server.worker_pids()[1])
        assert b"HTTP/1.1" not in client._file.read()


def test_copies_have_a_limit(serve):
    """With more connections than there is room for, those idle longest have no copy."""
    server = serve("probe:app", *PATIENT, "--no-access-log", workers=1, nofile=256)
    server.expect_log(KILLED)
    clients = [connect(server.port) for _ in range(100)]
    for client in clients:
        assert client.ask(get()).status == 200
    kill_pid(server, server.worker_pids()[0])
    ended = [client.sock.recv(1, socket.MSG_PEEK) == b"" for client in clients[:20]]
    assert all(ended)
    for client in clients[-20:]:
        assert client.ask(get()).status == 200
    for client in clients:
        client.close()


def test_client_hears_of_the_end_though_the_master_has_a_copy(serve):
    """The worker says FIN itself: a busy master delays nothing."""
    server = serve("probe:app", *PATIENT, workers=1)
    with connect(server.port) as client, connect(server.port) as other:
        assert client.ask(get()).status == other.ask(get()).status == 200
        os.kill(server.pid, signal.SIGSTOP)
        try:
            assert client.ask(get("/", "connection: close")).status == 200
            assert client.at_end()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert other.ask(get()).status == 200


def test_connection_of_a_unix_socket_is_not_kept_but_returned(serve, tmp_path):
    """The kernel does not count its bytes, so nothing can be proved of it."""
    path = tmp_path / "s"
    server = serve("probe:app", *PATIENT, "--bind", f"unix:{path}", workers=2)
    server.expect_log(KILLED)
    with connect_unix(str(path)) as client:
        old = client.ask(get()).json["pid"]
        server.reload()
        # The new ones are ready before the old one has given back what is idle.
        wait_until("it was returned", lambda: client.ask(get()).json["pid"] != old)
        pid = client.ask(get()).json["pid"]
        assert pid in server.worker_pids()
        kill_pid(server, pid)
        assert client.at_end()


# A reload


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_reload_returns_what_is_idle(serve, gate, loop, http):
    """Idle, in the middle of a head or of a request: no client notices a reload."""
    server = serve(
        "probe:app", *PATIENT, "--loop", loop, "--http", http,
        workers=2,
    )  # fmt: skip
    old = set(server.worker_pids())
    request = get("/whole", "x-one: 1")
    with (
        connect(server.port) as idle,
        connect(server.port) as halfway,
        connect(server.port) as busy,
        connect(server.port) as silent,
    ):
        for client in (idle, halfway, busy):
            assert client.ask(get()).json["pid"] in old
        halfway.send(request[:20])
        begin(busy, gate)
        busy.send(request)
        server.reload()
        new = set(server.worker_pids())
        assert not new & old
        wait_until("they have it", lambda: idle.ask(get()).json["pid"] in new)
        assert halfway.ask(request[20:]).json["path"] == "/whole"
        assert silent.ask(get()).json["pid"] in new
        gate.touch()
        assert busy.answer().json["pid"] in old
        assert busy.answer().json["path"] == "/whole"
        assert busy.ask(get()).json["pid"] in new
    assert counts(server)["lost"] == 0


def test_idle_connection_lives_through_many_reloads(serve):
    """Whoever has it gives it back."""
    server = serve("probe:app", *PATIENT, workers=2)
    with connect(server.port) as client:
        assert client.ask(get()).status == 200
        for _ in range(5):
            server.reload()
            # The old generation is told when the new one is ready, and not before.
            wait_until("it has left", lambda: len(generations_of(server)) == 1)
            assert client.ask(get()).json["pid"] in server.worker_pids()


def test_idle_connection_is_closed_after_a_reload(serve):
    """It is idle as long as any other."""
    server = serve("probe:app", "--timeout-keep-alive", "1", workers=2)
    with connect(server.port) as client:
        assert client.ask(get()).status == 200
        server.reload()
        assert client.at_end()


def test_websocket_and_stream_live_until_the_drain_timeout(serve, gate):
    """Then a WebSocket is closed with 1012, and a stream is cut."""
    server = serve("probe:app", *PATIENT, "--drain-timeout", "2", workers=1)

    async def run() -> None:
        """Talk across the reload, until the old worker says goodbye."""
        address = f"ws://127.0.0.1:{server.port}/"
        async with connect_websocket(address) as websocket:
            await websocket.send("before")
            before = (await websocket.recv()).split()
            await asyncio.to_thread(server.reload)
            await websocket.send("after")
            assert await websocket.recv() == f"{before[0]} after"
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(websocket.recv(), DEADLINE)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012

    with connect(server.port) as client:
        client.send(get(f"/drip?for={gate}"))
        client.head()
        asyncio.run(run())
        assert b"drop" not in client._file.read()
