"""
Processes that an application starts: none of them is taken for its worker.

What is sent to a child does not reach the worker, and a child is ended by what ends any
Python process. A program that is executed inherits what it would of any other server.
"""

from __future__ import annotations

import json
import os
import signal
import socket

import pytest

from driver import DEADLINE, is_alive, wait_until
from raw_http import ask

KINDS = {
    "asgi": ("forking:asgi",),
    "asgi on asyncio": ("forking:asgi", "--loop", "asyncio"),
    "wsgi": ("forking:wsgi", "--kind", "wsgi"),
    "handler": ("forking:handler", "--kind", "handler"),
    "socket": ("forking:plain", "--kind", "socket"),
}
ENDED, INTERRUPTED = str(-signal.SIGTERM), str(-signal.SIGINT)
ASKED = {
    "pool": ("[0, 1, 4, 9, 16]",),
    "executor": ("[0, 1, 4, 9, 16]",),
    "terminate": (ENDED,),
    "group": (ENDED,),
    # By KeyboardInterrupt, as multiprocessing has it, or before there was any Python.
    "interrupt": ("1", INTERRUPTED),
    "sleeper": (INTERRUPTED,),
}


def line(server, what):
    """Ask with one line on a connection of its own; give the three words."""
    with (
        socket.create_connection(("127.0.0.1", server.port), DEADLINE) as sock,
        sock.makefile("rwb") as file,
    ):
        file.write(f"{what}\n".encode())
        file.flush()
        return file.readline().decode().strip().split(" ", 2)


def fetch(server, what):
    """Ask with one request; give the three words."""
    answer = ask(server.port, f"/{what}")
    assert answer.status == 200
    return answer.body.decode().split(" ", 2)


@pytest.fixture(params=KINDS)
def served(request, serve):
    """Serve one kind, by one worker; give the server and what asks it."""
    target, *options = KINDS[request.param]
    server = serve(target, *options, workers=1)
    return server, fetch if "gi" in request.param else line


def test_what_ends_a_child_does_not_reach_its_worker(served):
    """One process answers all that is asked, and counts on; every child has ended."""
    server, put = served
    server.expect_log("KeyboardInterrupt|Traceback")  # of the child, on standard error
    (worker,) = server.worker_pids()
    for number, (what, expected) in enumerate(ASKED.items(), 1):
        pid, count, told = put(server, what)
        assert (pid, count) == (str(worker), str(number))
        assert told in expected
    last = str(len(ASKED) + 1)
    assert put(server, "nothing") == [str(worker), last, "nothing"]
    assert server.worker_pids() == [worker]


def test_child_drops_what_is_the_workers(serve):
    """It has another title, no copy of the channel, and no part in the stack file."""
    server = serve("forking:asgi", workers=1)
    assert fetch(server, "title")[2] == "maitred: child of worker 0 gen 1"
    assert fetch(server, "abort")[2] == str(-signal.SIGABRT)
    assert fetch(server, "descriptors")[2] == "1"  # the channel
    server.kill_worker(0)
    server.expect_log("was ended by SIGKILL; replaced")
    server.wait_for_log("was ended by SIGKILL")
    # What the aborted child would have written, the master would tell now.
    assert "Fatal Python error" not in server.log


def test_worker_is_told_to_leave_all_the_same(served):
    """TERM to the worker itself drains it; what it forked stays, and is ended by it."""
    server, put = served
    (worker,) = server.worker_pids()
    child = int(put(server, "leave")[2])
    os.kill(worker, signal.SIGTERM)
    server.expect_log("exited with code 0; replaced")
    server.wait_for_log("of slot 0 exited with code 0; replaced")
    assert is_alive(child)
    os.kill(child, signal.SIGTERM)
    wait_until("the child has ended", lambda: not is_alive(child))


def test_interrupt_to_the_worker_does_nothing(serve):
    """Ctrl-C is for the master, which drains; whatever else sends it, sends it so."""
    server = serve("forking:asgi", workers=1)
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGINT)
    assert fetch(server, "nothing") == [str(worker), "1", "nothing"]


def test_executed_program_inherits_what_it_would_of_any_server(serve, serve_plain):
    """No ignored or blocked signal, no other priority, no variable with a number."""
    servers = serve("forking:asgi", workers=1), serve_plain("forking:asgi")
    told = [json.loads(fetch(server, "inherited")[2]) for server in servers]
    ours = {name for name in told[0].pop("ours") if "TEST" not in name}
    # MAITRED_RUNTIME_DIR is the operator's, and inherited: here the tests set it.
    assert ours - {"MAITRED_RUNTIME_DIR"} == {"MAITRED_GENERATION", "MAITRED_SLOT"}
    del told[1]["ours"]
    assert told[0] == told[1]
