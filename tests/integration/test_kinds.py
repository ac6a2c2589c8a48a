"""
Every kind of application, held to the same promises through the real command line.

What is sent is answered; what has one key reaches one process; what the application
raises is logged and ends one connection; a worker's death ends its own; and a stop
waits for what is under way. Flask and Django run as they are.
"""

import contextlib
import os
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from driver import DEADLINE, wait_until


class Lines:
    """A client of kinds handler, protocol and socket."""

    def __init__(self, server, key):
        """Connect."""
        self.key = key
        self.sock = socket.create_connection(("127.0.0.1", server.port), DEADLINE)
        self.file = self.sock.makefile("rwb")

    def ask(self, words):
        """Give what is answered; empty: the connection was closed."""
        with contextlib.suppress(ConnectionError):
            self.file.write(f"{self.key} {words}\n".encode())
            self.file.flush()
            return self.file.readline().decode().strip()
        return ""

    def close(self):
        """Leave."""
        with contextlib.suppress(ConnectionError):
            self.file.close()
        self.sock.close()


class Requests:
    """A client of kinds asgi and wsgi."""

    def __init__(self, server, key):
        """Connect."""
        self.client = httpx.Client(
            base_url=server.url, headers={"x-key": key}, timeout=DEADLINE
        )

    def ask(self, words):
        """Give what is answered; empty: an error."""
        response = self.client.post("/", content=words)
        return response.text if response.status_code == 200 else ""

    def close(self):
        """Leave."""
        self.client.close()


class Messages:
    """A client of kind websocket."""

    def __init__(self, server, key):
        """Connect."""
        url = f"ws://127.0.0.1:{server.port}/{key}"
        self.context = connect(url, open_timeout=DEADLINE)
        self.websocket = self.context.__enter__()

    def ask(self, words):
        """Give what is answered; empty: the WebSocket was closed."""
        try:
            self.websocket.send(words)
            return self.websocket.recv(DEADLINE)
        except ConnectionClosed:
            return ""

    def close(self):
        """Leave."""
        self.context.__exit__(None, None, None)


LINES = ("--protocol", "kinds:LINES")
HEADER = ("--affinity", "header:x-key")
KINDS = {
    "handler": ("kinds:handler", Lines, ("--kind", "handler", *LINES)),
    "handler on asyncio": (
        "kinds:handler", Lines, ("--kind", "handler", *LINES, "--loop", "asyncio"),
    ),
    "protocol": ("kinds:Protocol", Lines, ("--kind", "protocol", *LINES)),
    "buffered": ("kinds:Buffered", Lines, ("--kind", "protocol", *LINES)),
    "socket": ("kinds:plain", Lines, ("--kind", "socket", *LINES)),
    "asgi": ("kinds:asgi", Requests, HEADER),
    "wsgi": ("kinds:wsgi", Requests, ("--kind", "wsgi", *HEADER)),
    "websocket": (
        "kinds:websocket", Messages, ("--kind", "websocket", "--affinity", "path:1"),
    ),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request, serve):
    """Serve one kind; give the server and what makes a client of a key."""
    target, client, options = KINDS[request.param]
    # In turn, so that both workers have some of a few keys.
    server = serve(target, *options, "--policy", "round-robin")
    with contextlib.ExitStack() as stack:

        def make(key="k"):
            made = client(server, key)
            stack.callback(made.close)
            return made

        yield server, make


def test_one_key_reaches_one_process(kind):
    """Twelve keys, three connections each: one process a key, and both have some."""
    server, make = kind
    pids = {}
    for number in [*range(12)] * 3:
        client = make(f"k{number}")
        pid, words = client.ask("hello").split()
        assert words == "hello"
        assert pids.setdefault(number, pid) == pid
        client.close()
    assert {int(pid) for pid in pids.values()} == set(server.worker_pids())


def test_many_exchanges_on_a_connection_are_answered_in_order(kind):
    """What is asked a hundred times is answered a hundred times, by one process."""
    _, make = kind
    client = make()
    answers = [client.ask(f"n{number}").split() for number in range(100)]
    assert [words for _, words in answers] == [f"n{number}" for number in range(100)]
    assert len({pid for pid, _ in answers}) == 1


def test_what_the_application_raises_is_logged_and_ends_one(kind):
    """The others are answered, before and after."""
    server, make = kind
    server.expect_log("raised|Exception in|ValueError|Traceback|INTERNAL")
    bystander, victim = make("a"), make("a")
    assert bystander.ask("before").endswith("before")
    assert not victim.ask("raise")
    assert bystander.ask("after").endswith("after")
    assert make("b").ask("hello").endswith("hello")
    server.wait_for_log("ValueError: as I was told")


def test_a_killed_worker_ends_its_own_and_is_replaced(kind):
    """The other worker's connection goes on, and a new one is served."""
    server, make = kind
    server.expect_log("was ended by SIGKILL")
    clients = {}
    for number in range(12):
        client = make(f"k{number}")
        clients.setdefault(int(client.ask("hi").split()[0]), client)
    victim, other = server.worker_pids()
    os.kill(victim, 9)
    server.wait_for_log("SIGKILL")
    assert clients[other].ask("still") == f"{other} still"
    wait_until("it is replaced", lambda: victim not in server.worker_pids())
    wait_until(
        "it is ready",
        lambda: all(s["state"] == "ready" for s in server.status()["slots"]),
    )
    (heir,) = set(server.worker_pids()) - {other}
    served = {make(f"new{number}").ask("hi") for number in range(2)}
    assert served == {f"{heir} hi", f"{other} hi"}
    # Those that died with their worker, and were not between two requests.
    server.expected_lost = server.status()["connections"]["lost"]


def test_a_stop_lets_what_was_sent_be_answered(kind):
    """Twenty clients ask while the service stops: whoever was connected is answered."""
    server, make = kind
    clients = [make(f"k{number}") for number in range(8)]
    assert all(client.ask("before") for client in clients)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(client.ask, "during") for client in clients]
        assert all(answer.result().endswith("during") for answer in answers)
    for client in clients:
        client.close()
    assert server.stop() == 0


RAW = [name for name in KINDS if KINDS[name][1] is Lines]


@pytest.mark.parametrize("kind", RAW, indirect=True)
def test_the_application_learns_whom_it_serves(kind):
    """``current()`` knows the key and the client."""
    _, make = kind
    assert re.fullmatch(r"\d+ key=seven 127\.0\.0\.1", make("seven").ask("key"))


@pytest.mark.parametrize("kind", RAW, indirect=True)
def test_the_application_may_close(kind):
    """The client sees the end, and nothing is left of it."""
    _, make = kind
    client = make()
    assert client.ask("one").endswith("one")
    assert client.ask("leave") == ""


@pytest.mark.parametrize("name", [*RAW, "websocket"])
def test_what_is_open_at_the_deadline_is_cut(serve, name):
    """A client that stays is closed, is counted, and the exit code says so."""
    target, make, options = KINDS[name]
    server = serve(target, *options, "--drain-timeout", "1", workers=1)
    server.expect_log("cut")
    client = make(server, "k")
    assert client.ask("hi")
    assert server.stop() == 5
    assert client.ask("more") == ""
    client.close()


def test_threads_bound_what_is_served_at_once(serve):
    """With two threads, the third client waits, and is served when one leaves."""
    server = serve(
        "kinds:plain", "--kind", "socket", *LINES, "--threads", "2", workers=1
    )
    first, second, third = (Lines(server, f"k{n}") for n in range(3))
    assert first.ask("one")
    assert second.ask("two")
    third.file.write(b"k three\n")
    third.file.flush()
    wait_until("it waits", lambda: server.total("in_flight") == 1)
    first.close()
    assert third.file.readline().endswith(b"three\n")
    second.close()
    third.close()


def test_connection_that_gets_no_thread_in_time_is_closed(serve):
    """After --wait-timeout; it is counted and logged, and others are served later."""
    options = ("--kind", "socket", *LINES, "--threads", "1", "--wait-timeout", "1")
    server = serve("kinds:plain", *options, workers=1)
    server.expect_log("all 1 threads are busy")
    first, second = (Lines(server, f"k{n}") for n in range(2))
    assert first.ask("one")
    assert second.ask("two") == ""
    second.close()
    server.wait_for_log("all 1 threads are busy, connections waiting for one: 1")
    server.wait_for_log(r"conn=\d+ .*cause=no_thread")
    assert server.status()["connections"]["refused_by_workers"] == {"no_thread": 1}
    assert server.status()["slots"][0]["threads"]["waiting"] == 0
    assert first.ask("three")
    first.close()
    third = Lines(server, "k3")
    assert third.ask("four")
    third.close()


def test_connection_that_waits_for_a_thread_outlives_a_stop_of_its_worker(serve):
    """No thread could end in that time: it does not count."""
    options = ("--kind", "socket", *LINES, "--threads", "1", "--wait-timeout", "6")
    server = serve("kinds:plain", *options, "--hang-timeout", "0", workers=1)
    server.expect_log("all 1 threads are busy|silent|heard|heartbeat")
    (worker,) = server.worker_pids()
    first, second = (Lines(server, f"k{n}") for n in range(2))
    assert first.ask("one")
    second.file.write(b"k1 two\n")
    second.file.flush()
    wait_until("it waits", lambda: server.total("in_flight") == 1)
    os.kill(worker, signal.SIGSTOP)
    try:
        time.sleep(14)  # longer than it may wait
    finally:
        os.kill(worker, signal.SIGCONT)
    first.close()
    assert second.file.readline().endswith(b"two\n")
    second.close()


def test_server_may_speak_first(serve):
    """--protocol raw, the default of raw kinds, waits for no byte of the client."""
    server = serve("kinds:greeter", "--kind", "handler")
    with (
        socket.create_connection(("127.0.0.1", server.port), DEADLINE) as sock,
        sock.makefile("rwb") as file,
    ):
        assert file.readline().startswith(b"SSH-2.0-here ")
        file.write(b"hello\n")
        file.flush()
        assert file.readline() == b"you said: hello\n"


@pytest.mark.parametrize("target", ["flasky:app", "djangoed:app"])
def test_flask_and_django_keep_state_in_their_process(serve, target):
    """Counters by name: with the affinity, each counts to ten."""
    server = serve(
        target, "--kind", "wsgi", "--affinity", "path:1", "--policy", "round-robin"
    )
    pids = set()
    for number in range(8):
        for expected in range(1, 11):
            answer = httpx.get(f"{server.url}/n{number}", timeout=DEADLINE).json()
            assert answer["count"] == expected
            pids.add(answer["pid"])
    assert pids == set(server.worker_pids())


def test_flask_hears_a_large_body(serve):
    """A megabyte arrives whole."""
    server = serve("flasky:app", "--kind", "wsgi", "--affinity", "path:1")
    answer = httpx.post(f"{server.url}/x", content=b"x" * 1_000_000, timeout=DEADLINE)
    assert answer.json() == {"size": 1_000_000, "name": "x"}
