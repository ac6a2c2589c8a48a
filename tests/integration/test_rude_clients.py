"""Clients that reset their connection, wherever it stands, or that say no more."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct

import pytest

from driver import wait_until
from raw_http import ask, connect, get


@pytest.fixture(params=["uvloop", "asyncio"])
def server(share, request):
    """Start a server of one worker, which takes one connection at a time."""
    return share(
        "probe:app", "--window", "1", "--loop", request.param, workers=1
    )  # with the access log: it says whose the request was


@contextlib.contextmanager
def stopped(server):
    """Have the worker stand still."""
    [pid] = server.worker_pids()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def reset(client):
    """Send RST instead of FIN."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def ended(server):
    """Give how many connections were taken by a worker or left before."""
    counts = server.status()["connections"]
    return counts["taken"] + counts["client_left"]


def check_well(server, before, resets):
    """Wait until as many resets were noticed; see that the worker serves on."""
    wait_until("all are accounted for", lambda: ended(server) == before + resets)
    assert ask(server.port).status == 200
    assert server.status()["connections"]["lost"] == 0


def test_reset_before_the_first_look(server):
    """Whether its request is seen or not, the connection is accounted for."""
    before = ended(server)
    for _ in range(50):
        client = connect(server.port)
        client.send(get())
        reset(client)
    check_well(server, before, 50)


def test_reset_in_flight_and_queued(server):
    """
    One was handed over and not received, the other waits in the master; the worker
    is told whose they were, for the kernel no longer knows.
    """
    before = ended(server)
    with stopped(server):
        ports = []
        clients = []
        for place, count in (("in_flight", 1), ("waiting", 1)):
            clients.append(connect(server.port))
            ports.append(clients[-1].sock.getsockname()[1])
            clients[-1].send(get(f"/{place}"))

            def stands(place=place, count=count):
                status = server.status()
                return status.get(place, status["slots"][0].get(place)) == count

            wait_until(f"it is {place}", stands)
        for client in clients:
            reset(client)
    check_well(server, before, 2)
    server.wait_for_log(rf'127\.0\.0\.1:{ports[0]} - "GET /in_flight HTTP/1\.1" 200')


def test_reset_while_it_is_served(server, tmp_path):
    """The application's answer finds nobody; nothing else happens."""
    before = ended(server)
    gate = tmp_path / "gate"
    client = connect(server.port)
    client.send(get(f"/wait?for={gate}"))
    wait_until("it is served", lambda: ended(server) == before + 1)
    reset(client)
    wait_until("it is closed", lambda: server.total("open") == 0)
    gate.touch()
    check_well(server, before, 1)


def test_reset_of_an_idle_connection(server):
    """Between two requests a reset is an end like others."""
    before = ended(server)
    client = connect(server.port)
    assert client.ask(get()).status == 200
    reset(client)
    wait_until("it is closed", lambda: server.total("open") == 0)
    check_well(server, before, 1)


@pytest.mark.parametrize("count", [1, 3])
def test_half_closed_connection_is_answered(server, count):
    """A client that has said all it wants to say still hears the answers."""
    with connect(server.port) as client:
        client.send(get("/stream?n=200") * count)
        client.sock.shutdown(socket.SHUT_WR)
        for _ in range(count):
            answer = client.answer()
            assert answer.status == 200
            assert len(answer.body.split()) == 200
        assert client.at_end()


def test_half_closed_connection_is_not_kept_for_long(server, tmp_path):
    """Who will say no more may have left; the application hears that soon."""
    before = ended(server)
    with connect(server.port) as client:
        client.send(get(f"/wait?for={tmp_path / 'gate'}"))
        wait_until("it is served", lambda: ended(server) == before + 1)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.at_end()
    (tmp_path / "gate").touch()
