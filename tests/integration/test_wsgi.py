"""
WSGI applications whose clients leave: each thread is free again, and soon.

An answer without an end is closed when nobody reads it any more; who leaves in the
middle of an upload, or while waiting for a thread, holds none; and when all are busy,
that is shown, said, and answered in time.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from driver import wait_until
from maitred.routing.refusal import CAUSES
from raw_http import ask, connect, get

WSGI = ("--kind", "wsgi")
FRAMEWORKS = {"flask": "endless:flasky", "django": "endless:djangoed"}
POST = b"POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n"


def threads(server):
    """Give what is told of the threads of the first worker."""
    return server.status()["slots"][0]["threads"]


def idle(server, most=2):
    """Wait until no thread is busy."""
    free = {"most": most, "busy": 0, "waiting": 0}
    wait_until("all threads are free", lambda: threads(server) == free)


@pytest.fixture(params=FRAMEWORKS)
def framework(request, serve):
    """Serve one framework by one worker with two threads."""
    return serve(FRAMEWORKS[request.param], *WSGI, "--threads", "2", workers=1)


@pytest.mark.parametrize("path", ["/events", "/camera"])
def test_stream_is_closed_when_its_client_leaves(framework, path):
    """Six clients leave two threads' streams; generators end, and others are served."""
    for number in range(1, 7):
        with connect(framework.port) as client:
            client.send(get(path))
            assert client.head()[0] == 200
            assert client.read(64)
        wait_until(
            "its generator was closed",
            lambda n=number: ask(framework.port, "/ended").json["ended"] == n,
        )
    idle(framework)


def test_stream_is_written_to_its_end_for_whoever_stays(framework):
    """A client that reads goes on while others come and leave."""
    with connect(framework.port) as stays:
        stays.send(get("/events"))
        assert stays.head()[0] == 200
        for _ in range(4):
            with connect(framework.port) as leaves:
                leaves.send(get("/events"))
                assert leaves.head()[0] == 200
            for _ in range(5):
                assert stays.read(5)
        assert threads(framework)["busy"] >= 1
    idle(framework)


def test_who_leaves_in_the_middle_of_an_upload_holds_no_thread(framework):
    """Closed or only half-closed, before the two seconds that an answer may take."""
    for half in (False, True):
        with connect(framework.port) as client:
            client.send(POST + b"x" * 500)
            wait_until("it is in a thread", lambda: threads(framework)["busy"] == 1)
            began = time.monotonic()
            if half:
                client.sock.shutdown(1)
                assert client.at_end()
        idle(framework)
        assert time.monotonic() - began < 2
    assert connect_and_upload(framework) == b"1000"


def connect_and_upload(server):
    """Upload all of it; give the answer."""
    with connect(server.port) as client:
        return client.ask(POST + b"x" * 1000).body


def test_half_closed_client_is_answered_all_the_same(framework):
    """Who has said all gets the answer, after its FIN."""
    with connect(framework.port) as client:
        client.send(get("/poll?for=0.2"))
        client.sock.shutdown(1)
        assert client.answer().body == b"polled"


def test_long_poll_whose_client_has_left_is_not_answered_but_ends(framework):
    """Its thread is busy until the application returns, and then free."""
    with connect(framework.port) as client:
        client.send(get("/poll?for=1"))
        wait_until("it is in a thread", lambda: threads(framework)["busy"] == 1)
    idle(framework)
    assert ask(framework.port, "/").body == b"ok"


def test_who_leaves_while_waiting_for_a_thread_takes_none(framework):
    """Twenty clients that wait, and leave, keep nobody from being served."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(connect(framework.port)) for _ in range(2)]
        for client in streams:
            client.send(get("/events"))
            client.head()
        waiting = [stack.enter_context(connect(framework.port)) for _ in range(20)]
        for client in waiting:
            client.send(get("/poll?for=60"))
        wait_until("they wait", lambda: threads(framework)["waiting"] == 20)
        framework.expect_log("all 2 threads are busy, requests waiting for one: 20")
        framework.wait_for_log("all 2 threads are busy")
        for client in waiting:
            client.close()
        wait_until("nobody waits", lambda: threads(framework)["waiting"] == 0)
        assert threads(framework)["busy"] == 2
    idle(framework)
    assert ask(framework.port, "/").body == b"ok"


def test_who_waits_too_long_for_a_thread_is_told_so(serve):
    """503 after --wait-timeout; the connection stays, and is served later."""
    server = serve(
        "endless:flasky", *WSGI, "--threads", "1", "--wait-timeout", "1", workers=1
    )
    server.expect_log("all 1 threads are busy")
    with connect(server.port) as stream, connect(server.port) as client:
        stream.send(get("/events"))
        stream.head()
        answer = client.ask(get("/"))
        assert answer.status == 503
        assert answer.body == f"{CAUSES['no_thread'].why}\n".encode()
        assert server.status()["connections"]["refused_by_workers"] == {"no_thread": 1}
        stream.close()
        idle(server, 1)
        assert client.ask(get("/")).body == b"ok"
    server.wait_for_log("all 1 threads are busy, requests waiting for one: ")


def test_every_thread_is_free_after_many_left_at_any_time(framework):
    """A hundred clients that leave before, between and after the chunks."""
    framework.expect_log("threads are busy")

    def leave(number):
        with connect(framework.port) as client:
            client.send(get("/camera" if number % 3 else "/events"))
            time.sleep(number % 10 * 0.005)
            if number % 2:
                client.read(number % 7)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(leave, range(100)))
    idle(framework)
    assert ask(framework.port, "/").body == b"ok"


def test_written_stream_is_ended_too(serve):
    """The callable that start_response gives raises OSError."""
    server = serve("endless:by_hand", *WSGI, "--threads", "1", workers=1)
    for number in range(1, 3):
        with connect(server.port) as client:
            client.send(get("/written"))
            assert client.head()[0] == 200
        wait_until(
            "its generator was closed",
            lambda n=number: ask(server.port, "/ended").json["ended"] == n,
        )
    idle(server, 1)


@pytest.mark.parametrize("path", ["/short", "/long"])
def test_answer_of_another_length_than_its_head_says_takes_no_thread(serve, path):
    """It is logged, and its connection is closed; the next is served."""
    server = serve("endless:by_hand", *WSGI, "--threads", "1", workers=1)
    server.expect_log("Exception in ASGI|RuntimeError|Traceback")
    for _ in range(2):
        with connect(server.port) as client:
            client.send(get(path))
            assert client.head()[0] == 200
            while client.read(1):
                pass
    idle(server, 1)
    server.wait_for_log("than Content-Length", 2)


def test_streams_are_cut_when_the_time_to_drain_is_over(serve):
    """The stop is as long as it may be, and no longer, and the generator is closed."""
    server = serve(
        "endless:flasky", *WSGI, "--threads", "1", "--drain-timeout", "1", workers=1
    )
    with connect(server.port) as client:
        client.send(get("/events"))
        client.head()
        server.expect_log("cut")
        assert server.stop() == 5


def test_socket_kind_shows_its_threads_too(serve):
    """A worker of kind socket tells how many connections its threads serve."""
    server = serve("kinds:plain", "--kind", "socket", "--threads", "1", workers=1)
    server.expect_log("all 1 threads are busy, connections waiting for one: 1")
    with connect(server.port) as first, connect(server.port) as second:
        first.send(b"k one\n")
        wait_until("one is served", lambda: threads(server)["busy"] == 1)
        second.send(b"k two\n")
        wait_until("one waits", lambda: threads(server)["waiting"] == 1)
        server.wait_for_log("all 1 threads are busy")
    idle(server, 1)


def test_other_kinds_have_no_threads(serve):
    """Nothing is told of what there is not."""
    server = serve("probe:app", workers=1)
    assert threads(server) is None
