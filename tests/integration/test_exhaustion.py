"""Whatever runs out, in master or workers: nothing is lost, and all is well again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from driver import DEADLINE, cpu_seconds, wait_until
from raw_http import ask, connect, crowd, get

KEYED = ("--affinity", "header:x-session", "--no-access-log")


def first_free(pid):
    """Say the lowest number that is no descriptor of process *pid*."""
    numbers = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    return min(set(range(len(numbers) + 1)) - numbers)


@contextlib.contextmanager
def at_its_limit(pid):
    """Leave process *pid* no descriptor more than it has."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # Whoever was answered a moment ago may not be closed yet.
    readings = [first_free(pid)]
    while len(readings) < 10 or len(set(readings[-10:])) > 1:
        time.sleep(0.01)
        readings.append(first_free(pid))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (readings[-1], limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


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
