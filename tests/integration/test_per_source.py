"""Connections of one client are limited, and nobody else notices: --max-per-source."""

from __future__ import annotations

import contextlib
import signal

import pytest
import trustme

from driver import Maitred, wait_until
from raw_http import Connection, connect, connect_unix, get
from scenes import names_by_slot, waiting_request, workers_of

MOST = 3
# Several acceptors count each for itself; a test of its own has two.
CAPPED = (
    *("--max-per-source", str(MOST), "--acceptors", "1", "--no-access-log"),
    *("--timeout-keep-alive", "600", "--head-timeout", "600"),
)
NEWS = r"(\S+) has 3 connections and gets no more \(--max-per-source\)"
ELSEWHERE = "127.0.0.2"
REQUEST = get()


@pytest.fixture
def capped(serve):
    """Start a server with further options; a client may have MOST connections."""

    def start(*options: str, **details) -> Maitred:
        server = serve("probe:app", *CAPPED, *options, **details)
        server.expect_log(NEWS)
        return server

    return start


@contextlib.contextmanager
def served(server: Maitred, count: int = MOST, **where):
    """Have *count* connections that were served, and are kept."""
    with contextlib.ExitStack() as stack:
        clients = [connect(server.port, **where) for _ in range(count)]
        for client in map(stack.enter_context, clients):
            assert client.ask(get()).status == 200
        yield clients


@contextlib.contextmanager
def served_again(server: Maitred):
    """Have MOST such connections, as soon as it is heard of that others have ended."""
    with contextlib.ExitStack() as stack:

        def one() -> Connection | None:
            client = stack.enter_context(connect(server.port))
            return client if client.ask(get()).status == 200 else None

        yield [wait_until("one more is served", one) for _ in range(MOST)]


def status_of_one_more(server: Maitred, *lines: str, **where) -> int:
    """Say what one more connection is answered; it is closed then."""
    with connect(server.port, **where) as client:
        return client.ask(get("/", *lines, "connection: close")).status


def check_full(server: Maitred, **where) -> None:
    """Fail if one more connection is served."""
    assert status_of_one_more(server, **where) == 429


def wait_for_room(server: Maitred, **where) -> None:
    """Wait until one more connection is served: that others have ended is heard of."""
    wait_until("one more is served", lambda: status_of_one_more(server, **where) == 200)


def refused(server: Maitred) -> int:
    """Say how many connections were refused."""
    counts: dict[str, int] = server.status()["connections"]["refused"]
    return counts.get("too_many_from_source", 0)


def test_client_gets_no_more_than_its_own(capped):
    """One more is told so; another client, and one that has closed some, is served."""
    server = capped(workers=2)
    with served(server) as clients:
        with connect(server.port) as client:
            answer = client.ask(get())
            assert answer.status == 429
            assert answer.headers["connection"] == "close"
            assert answer.body == b"This address has too many connections.\n"
            assert client.at_end()
        with served(server, source=ELSEWHERE):
            check_full(server)
            check_full(server, source=ELSEWHERE)
            assert all(client.ask(get()).status == 200 for client in clients)
        wait_for_room(server, source=ELSEWHERE)
        assert refused(server) >= 3
        clients.pop().close()
        wait_for_room(server)
        check_open = [client.ask(get()).status for client in clients]
        assert check_open == [200] * (MOST - 1)
    assert server.wait_for_log(NEWS)[1] in {"127.0.0.1", ELSEWHERE}
    assert server.log.count("gets no more") <= refused(server)


@contextlib.contextmanager
def slow(server: Maitred, beginning: bytes = REQUEST[:3]):
    """Have MOST connections whose first bytes have not all come."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server.port)) for _ in "x" * MOST]
        for client in clients:  # before that the kernel keeps them
            client.send(beginning)
        wait_until("they are there", lambda: server.status()["peeking"] == MOST)
        yield clients


def test_those_that_are_not_decided_count(capped):
    """What is held by half a request is what such a client has."""
    server = capped(workers=1)
    with slow(server) as clients:
        check_full(server)
        clients[0].close()
        wait_for_room(server)


@pytest.mark.parametrize("copies", ["--keep-copies", "--no-keep-copies"])
def test_places_of_a_dead_worker_are_free(capped, copies):
    """Killed, it leaves nothing that counts but what lives on in another worker."""
    server = capped(copies, workers=1)
    server.expect_log("SIGKILL")
    with served(server):
        check_full(server)
        server.kill_worker(0)
        if copies == "--keep-copies":
            wait_until("all live on", lambda: server.total("open") == MOST)
            check_full(server)
        else:
            wait_for_room(server)
            server.expected_lost = 0
    wait_for_room(server)


@pytest.mark.parametrize("copies", ["--keep-copies", "--no-keep-copies"])
@pytest.mark.parametrize("what", ["reload", "upgrade"])
def test_places_are_kept_and_freed(capped, tmp_path, what, copies):
    """After a reload and an upgrade a connection counts as before, until it ends."""
    server = capped(copies, workers=2)
    with waiting_request(server, tmp_path / "gate") as busy, served(server, MOST - 1):
        check_full(server)
        getattr(server, what)()
        check_full(server)
        (tmp_path / "gate").touch()
        assert busy.answer().status == 200
        check_full(server)
    with served_again(server):
        check_full(server)


def test_undecided_ones_count_after_an_upgrade(capped):
    """What the master itself has is passed on with its place."""
    server = capped(workers=1)
    with slow(server) as clients:
        server.upgrade()
        check_full(server)
        assert clients[0].ask(REQUEST[3:]).status == 200
        check_full(server)
        clients[0].close()
        wait_for_room(server)


@pytest.mark.parametrize("copies", ["--keep-copies", "--no-keep-copies"])
def test_connection_that_hops_counts_once(capped, copies):
    """However often it goes from worker to worker, with or without an upgrade."""
    server = capped(
        *("--affinity", "header:x-session", "--policy", "round-robin", copies),
        workers=2,
    )
    names = [f"x-session: {name}" for name in names_by_slot(server).values()]
    with served_again(server) as clients:
        for _ in range(5):
            for name in names:
                assert [c.ask(get("/", name)).status for c in clients] == [200] * MOST
                check_full(server)
        server.upgrade()
        check_full(server)
        for client in clients:
            assert client.ask(get("/", names[0])).status == 200
        clients.pop().close()
        wait_for_room(server)
    assert server.total("hops_in") >= 9


def test_source_is_whom_a_proxy_names(capped):
    """Behind a balancer its clients are counted, and not the balancer."""
    server = capped("--proxy-protocol", "required", workers=1)

    def come(stack: contextlib.ExitStack, address: str) -> Connection:
        """Connect for the client at *address*."""
        family = "TCP6" if ":" in address else "TCP4"
        here = "::1" if ":" in address else "127.0.0.1"
        client = stack.enter_context(connect(server.port))
        client.send(f"PROXY {family} {address} {here} 50000 80\r\n".encode())
        return client

    # The hosts of one network are one client; an IPv4 address is one as well.
    for addresses in (["192.0.2.7"] * 4, [f"2001:db8::{n}" for n in range(1, 5)]):
        with contextlib.ExitStack() as stack:
            clients = [come(stack, address) for address in addresses]
            statuses = [client.ask(get()).status for client in clients]
            assert sorted(statuses) == [200] * MOST + [429]
            assert come(stack, "192.0.2.8").ask(get()).status == 200
            assert come(stack, "2001:db8:0:1::1").ask(get()).status == 200
    with contextlib.ExitStack() as stack:  # checks of the balancer itself
        for _ in range(MOST + 2):
            client = stack.enter_context(connect(server.port))
            assert client.ask(b"PROXY UNKNOWN\r\n" + get()).status == 200


def test_client_on_a_unix_socket_is_not_counted(serve, tmp_path):
    """It has no address; who may connect, the mode of the socket says."""
    path = str(tmp_path / "s")
    server = serve("probe:app", *CAPPED, "--bind", f"unix:{path}", workers=1)
    with contextlib.ExitStack() as stack:
        for _ in range(MOST + 2):
            client = stack.enter_context(connect_unix(path))
            assert client.ask(get()).status == 200
    assert refused(server) == 0


def test_tls_client_is_told_by_an_alert(capped, tmp_path):
    """Before its hello: it is closed, and the refusal is counted."""
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(certificate)
    server = capped("--certfile", certificate, "--keyfile", key, workers=1)
    with slow(server, b"\x16"), connect(server.port) as client:
        client.send(b"\x16")
        assert client.read(2) == bytes((21, 3))
    assert refused(server) == 1


@pytest.mark.parametrize("affinity", [(), ("--affinity", "ip")], ids=["none", "ip"])
def test_each_acceptor_counts_for_itself(serve, affinity):
    """So a client has MOST in each at most; what is passed on counts where it is."""
    server = serve("probe:app", *CAPPED, "--acceptors", "2", *affinity)
    server.expect_log(NEWS)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server.port)) for _ in range(20)]
        statuses = [client.ask(get()).status for client in clients]
        assert MOST <= statuses.count(200) <= 2 * MOST
        assert set(statuses) == {200, 429}
    wait_for_room(server)


def test_worker_that_leaves_at_a_stop_frees_all(capped):
    """A stop with a full house is a stop as any other."""
    server = capped(workers=1)
    with served(server):
        check_full(server)
        assert len(workers_of(server)) == 1
        assert server.stop(signal.SIGTERM) == 0


def test_limit_is_never_below_nothing(serve, tmp_path):
    """Who says a number that cannot be meant reads a sentence."""
    server = Maitred(
        "probe:app", "--max-per-source", "-1", tmp_path=tmp_path, workers=1
    )
    assert server.wait() == 2
    assert (
        "--max-per-source -1: 0 for no limit, or a number of connections" in server.log
    )
