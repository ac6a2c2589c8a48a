"""How a connection ends: whoever has asked is answered, and nobody is asked twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from driver import wait_until
from raw_http import connect, get
from tls_kit import Pki, secure

LOOPS = ("asyncio", "uvloop")
PARSERS = ("httptools", "h11")
TIMES = 50
PATIENT = ("--timeout-keep-alive", "60")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Make the name of a file; requests that wait for it end when it is there."""
    return tmp_path / "gate"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Certificates for all names."""
    return Pki(tmp_path_factory.mktemp("pki"))


def to_the_end(sock: socket.socket) -> bytes:
    """Read all that comes; a reset is an end, too."""
    data = b""
    while True:
        try:
            piece = sock.recv(65536)
        except ConnectionResetError:
            return data + b"reset"
        if not piece:
            return data
        data += piece


def say_no_more(sock: socket.socket) -> None:
    """Send FIN; of TLS without its own goodbye, as clients that are in a hurry do."""
    with socket.socket(fileno=os.dup(sock.fileno())) as plain:
        plain.shutdown(socket.SHUT_WR)


# The client's FIN comes with its request


@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("before", "requests"), [(0, 1), (1, 1), (0, 2)], ids=["new", "kept", "pipelined"]
)
def test_request_that_comes_with_the_end_is_answered(
    share, loop, http, before, requests
):
    """On new and kept connections, one request or two: the client reads each answer."""
    server = share("probe:app", *PATIENT, "--loop", loop, "--http", http)
    for _ in range(TIMES):
        with connect(server.port) as client:
            for _ in range(before):
                assert client.ask(get()).status == 200
            client.send(get() * requests)
            say_no_more(client.sock)
            for _ in range(requests):
                assert client.answer().status == 200
            assert client.at_end()


@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize("loop", LOOPS)
def test_stream_that_is_short_arrives_whole(share, loop, http):
    """An answer in many pieces is not cut where the client has said its last word."""
    server = share("probe:app", *PATIENT, "--loop", loop, "--http", http)
    for _ in range(TIMES):
        with connect(server.port) as client:
            client.send(get("/stream?n=20"))
            say_no_more(client.sock)
            assert client.answer().body.count(b"\n") == 20


def test_wsgi_answers_whoever_says_no_more(share):
    """An application in a thread, too."""
    server = share("flasky:app", *PATIENT, "--kind", "wsgi")
    for _ in range(TIMES):
        with connect(server.port) as client:
            client.send(get("/a"))
            say_no_more(client.sock)
            assert client.answer().status == 200
            assert client.at_end()


@pytest.mark.parametrize("loop", LOOPS)
def test_answer_in_tls_leaves_before_the_end(share, pki, loop):
    """TLS has no halves; what was answered by then arrives."""
    server = share("probe:app", *PATIENT, "--loop", loop, *pki.options)
    for _ in range(TIMES):
        with secure(server, pki) as client:
            client.send(get())
            status, headers = client.head()
            assert status == 200
            say_no_more(client.sock)
            assert len(client.read(int(headers["content-length"])))
            assert client.at_end()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("handler", b"k a\nk b\n"),
        ("protocol", b"k a\nk b\n"),
        ("socket", b"k a\nk b\n"),
    ],
)
def test_kinds_of_raw_connections_answer_too(share, kind, said):
    """What speaks a protocol of its own is answered, whoever says no more."""
    names = {"handler": "handler", "protocol": "Protocol", "socket": "plain"}
    server = share(f"kinds:{names[kind]}", "--kind", kind)
    for _ in range(TIMES):
        with server.connect() as sock:
            sock.sendall(said)
            say_no_more(sock)
            assert to_the_end(sock).count(b"\n") == 2


def test_upload_that_can_never_be_whole_ends_at_once(share):
    """Nobody waits for the rest of a body whose client has said its last word."""
    server = share("probe:app", *PATIENT)
    began = time.monotonic()
    for _ in range(5):
        with connect(server.port) as client:
            client.send(get("/", "content-length: 10", method="POST") + b"half")
            say_no_more(client.sock)
            assert client.at_end()
    # Each of them took two seconds when they were waited for.
    assert time.monotonic() - began < 5 * 2


# A timer runs out, and the next request is here


def stopped(pid: int, seconds: float, meanwhile) -> None:
    """Stop process *pid* for *seconds*, and do something *meanwhile*."""
    os.kill(pid, signal.SIGSTOP)
    try:
        meanwhile()
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("loop", LOOPS)
def test_request_that_waited_for_a_stopped_worker_is_answered(serve, loop):
    """The keep-alive timer has run out, and 20 requests have come before: all live."""
    server = serve("probe:app", "--timeout-keep-alive", "3", "--loop", loop, workers=1)
    clients = [connect(server.port) for _ in range(20)]
    for client in clients:
        assert client.ask(get()).status == 200
    (pid,) = server.worker_pids()
    stopped(pid, 3.5, lambda: [client.send(get()) for client in clients])
    assert [client.answer().status for client in clients] == [200] * 20
    for client in clients:
        client.close()


@pytest.mark.parametrize("who", ["worker", "master"])
def test_head_that_was_complete_in_time_is_not_late(serve, who):
    """Its second half came while nobody read: that is no reason for 408."""
    server = serve("probe:app", "--head-timeout", "3", *PATIENT, workers=1)
    (worker,) = server.worker_pids()
    half = len(get()) // 2
    with connect(server.port) as client:
        if who == "worker":
            assert client.ask(get()).status == 200
        client.send(get()[:half])
        if who == "master":
            wait_until("it is looked at", lambda: server.status()["peeking"])
        else:
            wait_until("it is read", lambda: not server.status()["peeking"])
        pid = server.process.pid if who == "master" else worker
        stopped(pid, 3.5, lambda: client.send(get()[half:]))
        assert client.answer().status == 200


# A handshake that never becomes a WebSocket


BROKEN = {
    "no key": ("connection: Upgrade", "upgrade: websocket"),
    "old version": (
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version: 7",
    ),
}


@pytest.mark.parametrize("log", ["--access-log", "--no-access-log"])
@pytest.mark.parametrize("lines", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("http", PARSERS)
def test_refused_handshakes_leave_nothing(share, http, lines, log):
    """30 of them: each is answered, and its connection is over."""
    server = share("probe:app", *PATIENT, "--http", http, log)
    for _ in range(30):
        with connect(server.port) as client:
            status, _ = client.head_of(get("/ws", *lines))
            assert status in (400, 426)
            to_the_end(client.sock)
    wait_until("none is open", lambda: not server.total("open"))


def test_refused_handshakes_lock_nobody_out(share):
    """Who may have ten connections may have ten more when those are over."""
    server = share("probe:app", *PATIENT, "--max-per-source", "10")
    for _ in range(30):
        with connect(server.port) as client:
            client.send(get("/ws", *BROKEN["no key"]))
            to_the_end(client.sock)
        wait_until("it is over", lambda: not server.total("open"))
    with connect(server.port) as client:
        assert client.ask(get()).status == 200


def test_refused_handshake_is_logged(serve):
    """With a status, as every other request."""
    server = serve("probe:app", *PATIENT, "--access-log-format", "json", workers=1)
    with connect(server.port) as client:
        client.send(get("/ws", *BROKEN["no key"]))
        to_the_end(client.sock)
    server.wait_for_log('"status": ?400')


def test_refused_handshake_in_tls_leaves_nothing(share, pki):
    """The same where TLS stands before it."""
    server = share("probe:app", *PATIENT, *pki.options)
    for _ in range(5):
        with secure(server, pki) as client:
            client.send(get("/ws", *BROKEN["no key"]))
            assert client.head()[0] in (400, 426)
            to_the_end(client.sock)
    wait_until("none is open", lambda: not server.total("open"))


# The drain timeout is over


SLOW = """
import threading, time
from pathlib import Path
BEGUN = Path(__file__).with_name("begun")
async def app(scope, receive, send):
    import asyncio
    if scope["type"] == "http":
        with BEGUN.open("a") as file:
            file.write(scope["method"] + "\\n")
        await asyncio.sleep(60)
def plain(environ, start_response):
    with BEGUN.open("a") as file:
        file.write(environ["REQUEST_METHOD"] + "\\n")
    time.sleep(20)
    start_response("200 OK", [])
    return [b"late"]
"""
POST = get("/", "content-length: 2", method="POST") + b"hi"


@pytest.mark.parametrize(
    "options", [(), ("--no-keep-copies",), ("--loop", "asyncio", "--http", "h11"),
                ("--kind", "wsgi")],
    ids=["default", "no copies", "asyncio and h11", "wsgi"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["stop", "reload"])
def test_request_that_is_cut_is_answered_503(serve, tmp_path, how, options):
    """Not with nothing: clients would send it again, and it would be run twice."""
    (tmp_path / "slow.py").write_text(SLOW)
    name = "slow:plain" if "wsgi" in options else "slow:app"
    server = serve(
        name, *options, *PATIENT, "--drain-timeout", "1", "--app-dir", str(tmp_path),
        workers=1,
    )  # fmt: skip
    server.expect_log("cut")
    begun = tmp_path / "begun"
    with connect(server.port) as client:
        client.send(POST)
        wait_until("it has begun", begun.exists)
        if how == "reload":
            server.reload()
        else:
            server.tell(signal.SIGTERM)
        answer = client.answer()
        assert answer.status == 503
        assert answer.headers["connection"] == "close"
        assert client.at_end()
    if how == "stop":
        assert server.wait() == 5
    assert begun.read_text() == "POST\n"


def test_request_that_is_cut_in_tls_is_answered_503(serve, tmp_path, pki):
    """The same where the connection cannot be moved."""
    (tmp_path / "slow.py").write_text(SLOW)
    server = serve(
        "slow:app", *PATIENT, "--drain-timeout", "1", "--app-dir", str(tmp_path),
        *pki.options, workers=1,
    )  # fmt: skip
    server.expect_log("cut")
    with secure(server, pki) as client:
        client.send(POST)
        wait_until("it has begun", (tmp_path / "begun").exists)
        server.tell(signal.SIGTERM)
        assert client.answer().status == 503
        assert client.at_end()
    assert server.wait() == 5


def test_cut_request_stands_in_the_access_log(serve, tmp_path):
    """With what was asked, and its status."""
    (tmp_path / "slow.py").write_text(SLOW)
    server = serve(
        "slow:app", "--drain-timeout", "1", "--app-dir", str(tmp_path),
        "--access-log-format", "json", workers=1,
    )  # fmt: skip
    server.expect_log("cut")
    with connect(server.port) as client:
        client.send(get("/this"))
        wait_until("it has begun", (tmp_path / "begun").exists)
        assert server.stop() == 5
        assert client.answer().status == 503
    lines = [json.loads(x) for x in server.log.splitlines() if x.startswith("{")]
    assert [(x["target"], x["status"]) for x in lines if "target" in x] == [
        ("/this", 503)
    ]


def test_stream_that_is_cut_has_all_that_was_written(serve, gate):
    """An answer that has begun ends where it is; nothing else is written into it."""
    server = serve("probe:app", "--drain-timeout", "1", workers=1)
    server.expect_log("cut")
    with connect(server.port) as client:
        client.send(get(f"/drip?for={gate}"))
        assert client.head()[0] == 200
        assert server.stop() == 5
        rest = client._file.read()
        assert b"drip" in rest
        assert b"HTTP/1.1" not in rest


def in_thread(do) -> threading.Thread:
    """Begin to *do* something in a thread."""
    thread = threading.Thread(target=do)
    thread.start()
    return thread
