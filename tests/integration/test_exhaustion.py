"""Whatever runs out, in master or workers: nothing is lost, and all is well again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from driver import DEADLINE, cpu_seconds, wait_until
from limits import at_its_limit
from raw_http import ask, connect, crowd, get

KEYED = ("--affinity", "header:x-session", "--no-access-log")


def name_of(server, slot):
    """Find a session's name for *slot*."""
    for number in range(1000):
        if ask(server.port, "/", f"x-session: s{number}").json["slot"] == str(slot):
            server.check_at_rest()
            return f"s{number}"
    raise AssertionError("some slot gets no session")


def in_background(call, *arguments):
    """Call in a thread; give what gives the value, once there is one."""
    values = []
    thread = threading.Thread(target=lambda: values.append(call(*arguments)))
    thread.start()

    def value():
        thread.join()
        return values[0]

    return value


@contextlib.contextmanager
def stopped(pid):
    """Have process *pid* stand still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# A worker without descriptors


def test_worker_without_descriptors_is_stood_in_for(serve):
    """Connections that it cannot take are served by others; nothing is lost."""
    server = serve("probe:app", *KEYED, workers=2)
    server.expect_log("connections were refused: .* limit of open files")
    victim = server.worker_pids()[0]
    name_of(server, 0)  # what is opened for the first request
    with at_its_limit(victim):
        request = get("/", "connection: close")
        answers = asyncio.run(crowd(server.port, [request] * 300, at_once=30))
    assert {answer.status for answer in answers} == {200}
    counts = server.status()["connections"]
    assert counts["no_descriptor"] == counts["redispatched"] > 0
    said = server.log.count("connections were refused")
    assert 0 < said < 30
    # It is one like the others again.
    wait_until("it serves", lambda: ask(server.port).json["pid"] == victim)


def test_sessions_of_a_worker_without_descriptors_wait(serve):
    """Who belongs to it waits, and is served when it has descriptors again."""
    server = serve("probe:app", *KEYED, workers=2)
    server.expect_log("connections were refused: .* limit of open files")
    name = name_of(server, 0)
    request = get("/", f"x-session: {name}", "connection: close")
    with at_its_limit(server.worker_pids()[0]):
        answers = in_background(asyncio.run, crowd(server.port, [request] * 100))
        wait_until(
            "they were refused again and again",
            lambda: server.status()["connections"]["no_descriptor"] > 1000,
        )
        assert ask(server.port).status == 200
    assert {(a.status, a.json["slot"]) for a in answers()} == {(200, "0")}


def test_sessions_wait_no_longer_than_to_their_deadline(serve):
    """A worker that gets no descriptors at all: its sessions are told 503."""
    server = serve("probe:app", *KEYED, "--wait-timeout", "1", workers=2)
    server.expect_log("connections were refused: .* limit of open files")
    name = name_of(server, 0)
    with at_its_limit(server.worker_pids()[0]):
        answer = ask(server.port, "/", f"x-session: {name}")
    assert answer.status == 503
    assert server.status()["connections"]["refused"] == {"no_worker": 1}


# A channel that is full


def queued(server, slot):
    """Say how many wait for *slot*."""
    return server.status()["slots"][slot]["queued"]


def test_stopped_worker_holds_up_nobody_else(serve):
    """
    Of 1,000 connections those that belong elsewhere are served at once; those of a
    stopped worker wait, and those that it was not handed to their deadline.
    """
    server = serve(
        "probe:app", *KEYED, "--wait-timeout", "8", "--max-waiting", "400", workers=2
    )
    names = [name_of(server, slot) for slot in (0, 1)]
    requests = [get("/", f"x-session: {name}", "connection: close") for name in names]
    with contextlib.ExitStack() as clients:
        with stopped(server.worker_pids()[0]):
            held_up = [clients.enter_context(connect(server.port)) for _ in range(600)]
            for client in held_up:
                client.send(requests[0])
            wait_until("half of the room is theirs", lambda: queued(server, 0) == 200)
            # Neither these nor the operator notice.
            answers = asyncio.run(crowd(server.port, [requests[1]] * 400, at_once=20))
            assert {(a.status, a.json["slot"]) for a in answers} == {(200, "1")}
            assert queued(server, 0) == 200
            wait_until(
                "those who waited are told",
                lambda: server.status()["connections"]["refused"]["no_worker"] == 536,
            )
        said = [client.answer() for client in held_up]
    assert [answer.status for answer in said].count(200) == 64
    assert [answer.status for answer in said].count(503) == 536


# A master without descriptors

PATIENT = ("--timeout-keep-alive", "60")
"So that a slow machine closes nothing that is idle."


def test_master_without_descriptors_waits_and_recovers(serve):
    """
    It rests, says so once a second, serves whom it has accepted, and goes on when it
    can; who came meanwhile is served then.
    """
    server = serve("probe:app", "--no-access-log", workers=2)
    server.expect_log("not accepting for a moment: Too many open files")
    with contextlib.ExitStack() as clients:
        early = [clients.enter_context(connect(server.port)) for _ in range(20)]
        for client in early:
            client.send(b"GET / HTTP/1.1\r\n")
        wait_until("they are peeked at", lambda: server.status()["peeking"] == 20)
        with at_its_limit(server.pid):
            late = [clients.enter_context(connect(server.port)) for _ in range(20)]
            for client in late:
                client.send(get())
            server.wait_for_log("not accepting for a moment")
            before, at = cpu_seconds(server.pid), time.monotonic()
            server.wait_for_log("not accepting for a moment", 4)
            passed = time.monotonic() - at
            share = (cpu_seconds(server.pid) - before) / passed
            print(f"CPU at the limit: {share:.1%}")
            assert share < 0.1
            assert server.log.count("not accepting") <= passed + 2
            # Whoever was accepted before is served.
            for client in early:
                client.send(b"host: test\r\n\r\n")
                assert client.answer().status == 200
        for client in late:
            assert client.answer().status == 200
    assert server.status()["connections"]["accept_pauses"] > 0


def test_master_without_descriptors_gives_up_copies_first(serve):
    """Who comes is served at once; who is idle has only lost its insurance."""
    server = serve("probe:app", "--no-access-log", *PATIENT, workers=2)
    with contextlib.ExitStack() as clients:
        idle = [clients.enter_context(connect(server.port)) for _ in range(20)]
        for client in idle:
            assert client.ask(get()).status == 200
        with at_its_limit(server.pid):
            for client in [
                clients.enter_context(connect(server.port)) for _ in "12345"
            ]:
                assert client.ask(get()).status == 200
        for client in idle:
            assert client.ask(get()).status == 200
    assert server.status()["connections"]["accept_pauses"] == 0


@pytest.mark.parametrize("keeps", [True, False])
def test_connection_given_back_to_a_master_without_descriptors(serve, keeps):
    """
    It cannot be received: the master's copy is used, and without one it is lost; the
    worker is not to blame.
    """
    options = () if keeps else ("--no-keep-copies",)
    server = serve("probe:app", *KEYED, *options, workers=2)
    server.expect_log("given back could not be received|not accepting for a moment")
    names = [name_of(server, slot) for slot in (0, 1)]
    server.expected_lost = 0 if keeps else 1
    pids = server.worker_pids()
    with connect(server.port) as client:
        assert client.ask(get("/", f"x-session: {names[0]}")).status == 200
        with at_its_limit(server.pid):
            for name in names[::-1]:
                client.send(get("/", f"x-session: {name}"))
                if not keeps:
                    assert client.at_end()
                    break
                assert client.answer().status == 200
    counts = server.status()["connections"]
    assert counts["lost"] == server.expected_lost
    assert counts["returned"] > 0
    assert server.worker_pids() == pids


# A kernel that refuses


@contextlib.contextmanager
def injected(pid, error, when="3+7"):
    """Let sendmsg of process *pid* fail with *error*, again and again."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), "-e", "trace=sendmsg", "-e",
         f"inject=sendmsg:error={error}:when={when}"],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        said = b""
        while b"attached" not in said:
            piece = os.read(tracer.stderr.fileno(), 4096)
            assert piece, said
            said += piece
        # Read on, lest the tracer waits for us.
        log = in_background(tracer.stderr.read)
        yield log
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(DEADLINE)
        assert b"(INJECTED)" in log()
        tracer.stderr.close()


@pytest.mark.parametrize("error", ["ENOBUFS", "ENOMEM", "EAGAIN", "EINTR"])
def test_handoff_that_the_kernel_refuses_is_tried_again(serve, error):
    """Whatever there is too little of for a moment: all are answered."""
    server = serve("probe:app", "--no-access-log", workers=2)
    request = get("/", "connection: close")
    with injected(server.pid, error):
        answers = asyncio.run(crowd(server.port, [request] * 300, at_once=10))
    assert {answer.status for answer in answers} == {200}
    counts = server.status()["connections"]
    assert counts["taken"] == 300
    assert counts["redispatched"] == 0


@pytest.mark.parametrize("error", ["EPIPE", "ECONNRESET"])
def test_worker_that_cannot_be_reached_is_replaced(serve, error):
    """What was meant for it goes to others, and to its successor."""
    server = serve("probe:app", "--no-access-log", workers=2)
    server.expect_log("closed its channel and did not leave|was ended by SIGKILL")
    pids = server.worker_pids()
    request = get("/", "connection: close")
    with injected(server.pid, error, when="5"):
        answers = asyncio.run(crowd(server.port, [request] * 300, at_once=10))
    assert {answer.status for answer in answers} == {200}
    wait_until(
        "one was replaced",
        lambda: len(set(pids) & set(server.worker_pids())) == 1,
    )
    server.wait_until_serving()


def test_too_many_descriptors_under_way_are_waited_for(serve):
    """When a user has too many in flight (ETOOMANYREFS), handing over waits."""
    # Root is exempt from this limit by two capabilities.
    weakly = ["setpriv", "--bounding-set=-sys_admin,-sys_resource"]
    server = serve(
        "probe:app",
        "--no-access-log",
        workers=2,
        nofile=256,
        wrap=weakly if os.geteuid() == 0 else [],
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, contextlib.ExitStack() as clients:
        for _ in range(2):
            socket.send_fds(ours, [b"x"], [ours.fileno()] * 200)
        waiting = [clients.enter_context(connect(server.port)) for _ in range(30)]
        for client in waiting:
            client.send(get())
        wait_until("they are placed", lambda: server.total("in_flight") == 30)
        before, at = cpu_seconds(server.pid), time.monotonic()
        assert not select.select([c.sock for c in waiting], [], [], 1.0)[0]
        share = (cpu_seconds(server.pid) - before) / (time.monotonic() - at)
        print(f"CPU while nothing can be handed over: {share:.1%}")
        assert server.total("handed_over") == 0
        for _ in range(2):
            for fd in socket.recv_fds(theirs, 1, 253)[1]:
                os.close(fd)
        for client in waiting:
            assert client.answer().status == 200
    counts = server.status()["connections"]
    assert counts["taken"] == 30
    assert counts["redispatched"] == 0


def test_handoff_that_is_never_possible_ends_at_the_deadline(serve):
    """Who was placed and cannot be handed over gets 503 like others who wait."""
    server = serve("probe:app", "--no-access-log", "--wait-timeout", "1", workers=1)
    with (
        injected(server.pid, "ENOBUFS", when="1+"),
        connect(server.port) as client,
    ):
        client.send(get())
        assert client.answer().status == 503
    assert server.status()["connections"]["refused"] == {"no_worker": 1}
    assert ask(server.port).status == 200
