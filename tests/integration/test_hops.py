"""Connections whose requests belong to different workers: each reaches its own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import socket
import time
from collections import Counter

import pytest

from driver import DEADLINE, descriptors, wait_until
from raw_http import Answer, ask, connect, get

BY_HEADER = ("--affinity", "header:x-session", "--no-access-log")
LEARNING = ("--affinity", "header:x-session,learn", "--no-access-log")

MANY = int(os.environ.get("MAITRED_TESTS_REQUESTS", "20000"))
"Requests of the long test; 100000 takes a minute or two."
RACES = int(os.environ.get("MAITRED_TESTS_RACES", "2000"))
"Rounds of the race for a name just learned; 10000 takes a minute."


def request(name: str, body: bytes = b"", *lines: str, path: str = "/session?new=1"):
    """Compose a request of session *name* with *body*."""
    length = f"content-length: {len(body)}"
    return get(path, f"x-session: {name}", length, *lines, method="POST") + body


def chunked(name: str, body: bytes, size: int, path: str = "/session?new=1") -> bytes:
    """Compose a request of session *name* with *body* in chunks of *size* bytes."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    head = get(path, f"x-session: {name}", "transfer-encoding: chunked", method="POST")
    chunks = b"".join(b"%x;n=1\r\n%b\r\n" % (len(p), p) for p in pieces)
    return head + chunks + b"0\r\nx-trailer: 1\r\n\r\n"


def owners(port: int, count: int) -> dict[str, str]:
    """Give *count* sessions, and make each known to a worker."""
    return {
        f"s{n}": ask(port, "/", f"x-session: s{n}").json["pid"] for n in range(count)
    }


def two(server) -> tuple[str, str]:
    """Give the names of two sessions in two workers."""
    for n in itertools.count():
        first, second = f"left{n}-{server.run}", f"right{n}-{server.run}"
        pids = [pid_of(server.port, name) for name in (first, second)]
        if pids[0] != pids[1]:
            return first, second
    raise AssertionError


def pid_of(port: int, name: str) -> int:
    """Say in which process session *name* is."""
    pid: int = ask(port, "/", f"x-session: {name}").json["pid"]
    return pid


def check_descriptors(server, before: dict[int, list[str]]) -> None:
    """Wait until each worker has open what it had before."""
    for pid, had in before.items():
        wait_until(
            f"worker {pid} has closed what it had",
            lambda pid=pid, had=had: descriptors(pid) == had,
        )


def warm(server) -> dict[int, list[str]]:
    """Let every worker serve, then say what each has open."""
    pids = set(server.worker_pids())
    wait_until(
        "all have served",
        lambda: not pids.discard(ask(server.port).json["pid"]) and not pids,
    )
    wait_until("none is open", lambda: server.total("open") == 0)
    return {pid: descriptors(pid) for pid in server.worker_pids()}


# The promise.


def test_sessions_share_connections(serve):
    """400 requests of 40 sessions on 3 kept connections: each in its own process."""
    # In turn, so that three of four requests hop.
    server = serve("probe:app", *BY_HEADER, "--policy", "round-robin", workers=4)
    before = warm(server)
    rng = random.Random(3)
    names = [f"s{n}" for n in range(40)]
    seen: dict[str, list[Answer]] = {}
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(connect(server.port)) for _ in range(3)]
        for _ in range(400):
            name = rng.choice(names)
            body = rng.randbytes(rng.choice([0, 1, 1_000, rng.randrange(70_000)]))
            made = (
                request(name, body)
                if rng.random() < 0.5
                else chunked(name, body, rng.randrange(1, 20_000))
            )
            seen.setdefault(name, []).append(rng.choice(lines).ask(made))
    for answers in seen.values():
        assert [answer.status for answer in answers] == [200] * len(answers)
        # One process, and it counted every request once: none was lost or repeated.
        assert len({answer.json["pid"] for answer in answers}) == 1
        assert [a.json["count"] for a in answers] == [*range(1, len(answers) + 1)]
    assert sum(map(len, seen.values())) == 400
    assert {a[0].json["pid"] for a in seen.values()} == set(before)
    counts = server.status()["connections"]
    assert counts["accepted"] - 3 == counts["taken"] - counts["returned"] - 3
    assert counts["returned"] > 200
    check_descriptors(server, before)


def clients(port: int, connections: int, count: int, seed: int, out) -> None:
    """Make *count* requests in this process; tell what went wrong."""
    out.put(asyncio.run(make_requests(port, connections, count, seed)))


async def make_requests(port: int, connections: int, count: int, seed: int):
    """Make *count* requests over *connections*, each of a random session."""
    wrong: list[str] = []
    home: dict[bytes, bytes] = {}
    left = [count]

    async def run(rng: random.Random) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        done = 0
        while left[0] > 0:
            left[0] -= 1
            name = b"s%d" % rng.randrange(1000)
            token = b"%d" % rng.getrandbits(40)
            writer.write(
                b"GET /?%b HTTP/1.1\r\nHost: test\r\nX-Session: %b\r\n\r\n"
                % (token, name)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            body = json.loads(await reader.readexactly(length))
            done += 1
            if body["query"].encode() != token:
                wrong.append(f"{name!r} {token!r}: {body}")
            if home.setdefault(name, body["pid"]) != body["pid"]:
                wrong.append(f"{name!r} is in {home[name]!r} and in {body['pid']}")
        writer.close()
        return done

    runs = [run(random.Random(seed * 1000 + n)) for n in range(connections)]
    done = sum(await asyncio.gather(*runs))
    return done, wrong[:10], home


def test_many_requests_each_with_a_random_session(serve):
    """50 connections, a random session for each request: none wrong, none lost."""
    server = serve("probe:app", *BY_HEADER, workers=4)
    before = warm(server)
    processes, connections = 2, 50
    results: multiprocessing.Queue = multiprocessing.get_context("spawn").Queue()
    started = time.monotonic()
    running = [
        multiprocessing.get_context("spawn").Process(
            target=clients,
            args=(server.port, connections // processes, MANY // processes, n, results),
        )
        for n in range(processes)
    ]
    for process in running:
        process.start()
    said = [results.get(timeout=DEADLINE + MANY / 200) for _ in running]
    for process in running:
        process.join(DEADLINE)
        process.close()
    results.close()
    results.join_thread()
    took = time.monotonic() - started
    assert [wrong for _, wrong, _ in said] == [[]] * processes
    assert sum(done for done, _, _ in said) == MANY
    home = said[0][2]
    assert all(home.get(name, pid) == pid for name, pid in said[1][2].items())
    counts = server.status()["connections"]
    print(f"{MANY} requests in {took:.1f} s, {counts['returned']} returns")
    assert counts["returned"] > MANY / 2
    assert counts["lost"] == counts["redispatched"] == 0
    check_descriptors(server, before)


# Every way in which requests come. All of it on both loops and with both parsers.

KINDS = list(itertools.product(("asyncio", "uvloop"), ("h11", "httptools")))


@pytest.fixture(params=KINDS, ids="-".join)
def server(request, share):
    """Three workers, on every loop and with every parser."""
    loop, http = request.param
    return share(
        "probe:app", *BY_HEADER, "--loop", loop, "--http", http,
        "--head-timeout", "0.5", workers=3,
    )  # fmt: skip


@pytest.fixture
def names(server):
    """Two sessions in two workers, and their processes."""
    return two(server)


def test_bodies_of_every_kind_hop(server, names):
    """Sized and chunked, small and large, to the one and to the other."""
    rng = random.Random(1)
    pids = [pid_of(server.port, name) for name in names]
    with connect(server.port) as line:
        for size in (0, 1, 100, 65_536, 300_000):
            body = rng.randbytes(size)
            for name, pid in zip(names, pids, strict=True):
                for made in (
                    request(name, body, path="/"),
                    chunked(name, body, 1 + size // 3, path="/"),
                ):
                    answer = line.ask(made)
                    assert answer.status == 200, (answer, size)
                    said = answer.json
                    assert (said["pid"], said["body"]) == (pid, size)


def test_client_that_waits_to_be_asked_for_its_body_hops(server, names):
    """``Expect: 100-continue`` is answered by whoever serves the request."""
    pids = [pid_of(server.port, name) for name in names]
    with connect(server.port) as line:
        for name, pid in zip(names * 2, pids * 2, strict=True):
            made = request(name, b"x" * 1000, "expect: 100-continue", path="/")
            line.send(made[:-1000])
            assert line.head()[0] == 100
            said = line.ask(made[-1000:]).json
            assert (said["pid"], said["body"]) == (pid, 1000)


def test_pipelined_requests_are_answered_in_order(server, names):
    """Requests of different sessions in one segment: one answer each, in order."""
    pids = [pid_of(server.port, name) for name in names]
    rng = random.Random(2)
    order = [rng.randrange(2) for _ in range(40)]
    with connect(server.port) as line:
        line.send(
            b"".join(
                request(names[n], b"b" * (at * 7), path=f"/?{at}")
                for at, n in enumerate(order)
            )
        )
        for at, n in enumerate(order):
            said = line.answer().json
            assert (said["query"], said["pid"], said["body"]) == (
                str(at), pids[n], at * 7,
            )  # fmt: skip


def test_more_is_pipelined_than_fits_a_packet(server, names):
    """A client that sends 400 kB ahead is heard piece by piece, and all of it."""
    pids = [pid_of(server.port, name) for name in names]
    count = 4000
    made = b"".join(
        get(f"/?{at}", f"x-session: {names[at // 1000 % 2]}") for at in range(count)
    )
    with connect(server.port) as line:
        line.sock.setblocking(True)

        def send() -> None:
            line.send(made)

        import threading

        sender = threading.Thread(target=send)
        sender.start()
        for at in range(count):
            said = line.answer().json
            assert (said["query"], said["pid"]) == (str(at), pids[at // 1000 % 2])
        sender.join()


def test_head_in_a_hundred_segments_hops(server, names):
    """The second request arrives byte by byte."""
    one, other = names
    made = request(other, b"end", path="/")
    with connect(server.port) as line:
        line.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.ask(request(one))
        size = max(len(made) // 100, 1)
        for at in range(0, len(made), size):
            line.send(made[at : at + size])
            time.sleep(0.0005)
        said = line.answer().json
        assert (said["pid"], said["body"]) == (pid_of(server.port, other), 3)


def test_websocket_after_a_hop(server, names):
    """An upgrade goes where its session is, and stays there."""
    import base64

    one, other = names
    key = base64.b64encode(b"0123456789abcdef").decode()
    upgrade = get(
        "/ws", f"x-session: {other}", "connection: Upgrade", "upgrade: websocket",
        f"sec-websocket-key: {key}", "sec-websocket-version: 13",
    )  # fmt: skip
    with connect(server.port) as line:
        line.ask(request(one))
        line.send(upgrade)
        assert line.head()[0] == 101
        for text in (b"hello", b"again"):
            mask = b"\1\2\3\4"
            masked = bytes(b ^ mask[i % 4] for i, b in enumerate(text))
            line.send(bytes([0x81, 0x80 | len(text)]) + mask + masked)
            first, length = line.read(2)
            assert first == 0x81
            said = line.read(length).split()
            assert said == [b"%d" % pid_of(server.port, other), text]


def test_upgrade_that_is_not_granted_opens_nothing(server, names):
    """What asks for another protocol is a request; the next one is checked."""
    one, other = names
    for upgrade in ("h2c", "websocket, h2c"):
        with connect(server.port) as line:
            lines = ("connection: upgrade", f"upgrade: {upgrade}")
            assert line.ask(get("/", f"x-session: {one}", *lines)).status == 200
            said = line.ask(request(other, path="/")).json
            assert said["pid"] == pid_of(server.port, other)
    with connect(server.port) as line:
        lines = ("connection: upgrade", "upgrade: websocket", "upgrade: h2c")
        line.ask(get("/", f"x-session: {one}", *lines))
        said = line.ask(request(other, path="/")).json
        assert said["pid"] == pid_of(server.port, other)


INVALID = {
    "space before the colon": (400, b"%b HTTP/1.1\r\nHost: a\r\n%b\r\nX : 1\r\n\r\n"),
    "two hosts": (400, b"%b HTTP/1.1\r\nHost: a\r\nHost: b\r\n%b\r\n\r\n"),
    "length and chunks": (
        400,
        (
            b"%b HTTP/1.1\r\nHost: a\r\n%b\r\nContent-Length: 3\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
    ),
    "bare line feed": (400, b"%b HTTP/1.1\nHost: a\n%b\n\n"),
    "other version": (505, b"%b HTTP/2.0\r\nHost: a\r\n%b\r\n\r\n"),
    "bad chunks": (
        400,
        b"%b HTTP/1.1\r\nHost: a\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    ),
    "too large": (
        431,
        b"%b HTTP/1.1\r\nHost: a\r\n%b\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_request_is_refused_wherever_it_stands(server, names, name):
    """As the second and as a pipelined request: answered, and the connection ends."""
    status, data = INVALID[name]
    session = names[0]
    data %= (b"POST /session", b"X-Session: %b" % session.encode())
    invalid = data + request(session)
    with connect(server.port) as line:
        count = line.ask(request(session)).json["count"]
        line.send(invalid)
        assert line.answer().status == status
        assert line.at_end()
    with connect(server.port) as line:
        line.send(request(session) + invalid)
        assert line.answer().json["count"] == count + 1
        assert line.answer().status == status
        assert line.at_end()
    # Neither it nor what followed it was served.
    assert ask(server.port, "/session", f"x-session: {session}").json["count"] == (
        count + 2
    )


def test_second_head_has_a_deadline(server, names):
    """It is not the keep-alive timeout, and is answered."""
    with connect(server.port) as line:
        assert line.ask(request(names[0])).status == 200
        line.send(b"GET / HTTP/1.1\r\nHos")
        assert line.answer().status == 408
        assert line.at_end()


def test_deadline_of_a_head_ends_with_it(server, names, tmp_path):
    """A request that came with the end of the one before does not inherit its time."""
    flag = tmp_path / "go"
    first = get(f"/wait?for={flag}", f"x-session: {names[0]}")
    with connect(server.port) as line:
        assert line.ask(request(names[0])).status == 200
        line.send(first[:10])
        time.sleep(0.1)
        line.send(first[10:] + request(names[0]))
        time.sleep(0.7)  # longer than --head-timeout
        flag.touch()
        assert line.answer().status == 200
        assert line.answer().status == 200


def test_early_answers_leave_the_order(server, names):
    """An application that does not wait for the body spoils nothing."""
    one, other = names
    body = b"x" * 200_000
    with connect(server.port) as line:
        line.send(request(one, body, path="/early")[:-100_000])
        assert line.answer().status == 200
        line.send(body[-100_000:] + request(other, b"abc", path="/"))
        said = line.answer().json
        assert (said["pid"], said["body"]) == (pid_of(server.port, other), 3)


def test_client_that_sends_while_its_connection_is_returned(server, names):
    """The stream is cut at random places, at random moments: no byte is lost."""
    rng = random.Random(4)
    rounds = 1000 // len(KINDS)
    pids = {name: pid_of(server.port, name) for name in names}
    with connect(server.port) as line:
        line.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(rounds):
            bodies = [rng.randbytes(rng.randrange(3000)) for _ in range(3)]
            order = [names[(at + n) % 2] for n in range(3)]
            stream = b"".join(
                request(name, body, path="/hash")
                for name, body in zip(order, bodies, strict=True)
            )
            cut = rng.randrange(len(stream))
            line.send(stream[:cut])
            if rng.random() < 0.5:
                time.sleep(rng.random() / 1000)
            line.send(stream[cut:])
            for name, body in zip(order, bodies, strict=True):
                said = line.answer().json
                assert said["sha256"] == hashlib.sha256(body).hexdigest()
                assert said["pid"] == pids[name]


# Names that the server makes.


async def exchange(line, data: bytes) -> Answer:
    """Send *data* on *line* and read one answer with a length."""
    reader, writer = line
    writer.write(data)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(x.lower().split(": ", 1) for x in head[1:-2])
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(head[0].split()[1]), headers, body)


def test_name_just_made_is_known_on_other_kept_connections(serve):
    """The answer that makes a name and its first use are microseconds apart."""
    server = serve("probe:app", *LEARNING)
    before = warm(server)
    rng = random.Random(5)
    found: dict[int, str] = {}  # a name in every worker
    while len(found) < server.workers:
        made = ask(server.port, "/learn").json
        found[made["pid"]] = made["name"]
    places = list(found.values())

    async def race(rounds: int) -> list[bool]:
        lines = [
            await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)
        ]
        met = []
        for _ in range(rounds):
            # Put the two into different workers, else nothing would have to hop.
            first, second = lines
            for line, place in zip(lines, rng.sample(places, 2), strict=True):
                await exchange(line, get("/", f"x-session: {place}"))
            made = await exchange(first, get("/learn"))
            again = await exchange(
                second, get("/session", f"x-session: {made.json['name']}")
            )
            met.append(again.json == {"pid": made.json["pid"], "count": 1})
        for _, writer in lines:
            writer.close()
        return met

    async def run() -> Counter[bool]:
        met = await asyncio.gather(*(race(RACES // 8) for _ in range(8)))
        return Counter(itertools.chain.from_iterable(met))

    assert asyncio.run(run()) == {True: RACES // 8 * 8}
    counts = server.status()["connections"]
    assert counts["claims"] >= RACES // 8 * 8
    assert counts["returned"] > RACES
    check_descriptors(server, before)


def test_claimed_name_is_served_without_hopping(serve):
    """A name that is known to be a worker's stays there, request after request."""
    server = serve("probe:app", *LEARNING, "--key-ttl", "1", workers=2)
    with connect(server.port) as line:
        name = line.ask(get("/learn")).json["name"]
        time.sleep(0.6)  # the worker has given it up, the master has not
        for count in range(1, 4):
            said = line.ask(get("/session", f"x-session: {name}")).json
            assert said["count"] == count
    assert server.status()["connections"]["returned"] == 1


def test_name_nobody_made_is_served_somewhere(serve):
    """It owns nothing, and hops no more than once for each request."""
    server = serve("probe:app", *LEARNING, workers=2)
    with connect(server.port) as line:
        for _ in range(20):
            assert (
                line.ask(get("/session", "x-session: invented")).json["count"] is None
            )
    assert server.status()["keys"] == 0
    assert server.status()["connections"]["returned"] <= 20


# What becomes of keys.


def test_key_whose_worker_dies_finds_the_next(serve):
    """A kept connection in another worker brings its requests to the successor."""
    server = serve("probe:app", *BY_HEADER, workers=2)
    server.expect_log("was ended by SIGKILL; replaced")
    one, other = two(server)
    with connect(server.port) as line:
        slot = line.ask(request(one, path="/")).json["slot"]
        assert line.ask(request(other, path="/")).json["slot"] != slot
        died = server.kill_worker(int(slot))
        said = line.ask(request(one, path="/")).json
        assert said["slot"] == slot
        assert said["pid"] != died
        assert line.ask(request(other, path="/")).json["slot"] != slot


def test_full_table_keeps_one_owner(serve):
    """With room for 5 keys and 50 sessions, no old owner serves an evicted key."""
    server = serve("probe:app", *BY_HEADER, "--max-keys", "5", workers=3)
    server.expect_log("the key table is full")
    before = warm(server)
    rng = random.Random(6)
    names = [f"s{n}" for n in range(50)]
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(connect(server.port)) for _ in range(6)]
        for _ in range(600):
            name = rng.choice(names)
            line, other = rng.sample(lines, 2)
            said = line.ask(request(name, path="/")).json
            # Used a moment ago, so it is in the table: every connection agrees.
            assert other.ask(request(name, path="/")).json["pid"] == said["pid"]
            assert server.status()["keys"] <= 5 if rng.random() < 0.05 else True
    check_descriptors(server, before)


def test_hash_policy_needs_no_table(serve):
    """The key alone decides, on kept connections too."""
    server = serve("probe:app", *BY_HEADER, "--policy", "hash", workers=3)
    home: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(connect(server.port)) for _ in range(3)]
        for at in range(200):
            name = f"s{at * 7 % 20}"
            said = lines[at % 3].ask(request(name, path="/")).json
            assert home.setdefault(name, said["pid"]) == said["pid"]
    assert server.status()["keys"] == 0


def test_clients_that_leave_while_hopping_leave_nothing(serve):
    """Connections that end at any moment of a hop are closed everywhere."""
    server = serve("probe:app", *BY_HEADER, workers=3)
    before = warm(server)
    one, other = two(server)
    rng = random.Random(7)
    for _ in range(200):
        with connect(server.port) as line:
            for name in (one, other):
                line.send(request(name, b"x" * 2000))
                if rng.random() < 0.7:
                    line.answer()
            if rng.random() < 0.5:
                time.sleep(rng.random() / 500)
    check_descriptors(server, before)
    assert server.status()["connections"]["lost"] == 0


def test_draining_worker_returns(serve, tmp_path):
    """What belongs elsewhere leaves a worker that is leaving, at a reload."""
    server = serve("probe:app", *BY_HEADER, workers=2)
    one, other = two(server)
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(connect(server.port)) for _ in range(20)]
        for line in lines:
            assert line.ask(request(one)).status == 200
        flag = tmp_path / "go"
        waiting = stack.enter_context(connect(server.port))
        waiting.send(get(f"/wait?for={flag}", f"x-session: {one}"))
        for line in lines:
            line.send(request(other))
        server.reload()
        flag.touch()
        assert waiting.answer().status == 200
        assert [line.answer().status for line in lines] == [200] * 20
