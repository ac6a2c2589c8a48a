"""Every kind of affinity and every policy, through the whole of maitred."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from raw_http import Answer, ask, crowd, get

KINDS = {
    "header": lambda name: get("/", f"X-SESSION: {name}", "connection: close"),
    "cookie": lambda name: get("/", f"cookie: a=b; sid={name}", "connection: close"),
    "query": lambda name: get(f"/?a=b&room={name}", "connection: close"),
    "path": lambda name: get(f"/rooms/{name}/etc", "connection: close"),
}
"One server knows all of these, in this order."

SPECS = ("header:x-session", "cookie:sid", "query:room", "path:2")
ALL = [word for spec in SPECS for word in ("--affinity", spec)]


def by_host(name: str) -> bytes:
    """Ask with *name* as the host, written in one of several ways."""
    return (
        f"GET / HTTP/1.1\r\nhost: {name}.example\r\nconnection: close\r\n\r\n".encode()
    )


def pids(port: int, requests: list[bytes]) -> list[int]:
    """Say who answers each of *requests*, made at once."""
    answers: list[Answer] = asyncio.run(crowd(port, requests))
    assert {answer.status for answer in answers} == {200}
    return [answer.json["pid"] for answer in answers]


def check_names(port: int, request, names: int = 16, times: int = 6) -> None:
    """Check that each name has one process, and that not all have the same."""
    called = [f"n{number % names}" for number in range(names * times)]
    who: dict[str, set[int]] = {}
    for name, pid in zip(called, pids(port, list(map(request, called))), strict=True):
        who.setdefault(name, set()).add(pid)
    assert [len(pids) for pids in who.values()] == [1] * names
    assert len(set.union(*who.values())) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_connections_of_a_name_reach_one_worker(share, kind):
    """Connections that name the same session, many at once, reach one process."""
    server = share("probe:app", *ALL, workers=4)
    check_names(server.port, KINDS[kind])


def test_first_affinity_that_finds_a_name_decides(share):
    """Of several affinities the first wins, and its names are not another's."""
    server = share("probe:app", *ALL, workers=4)
    who = {}
    for number in range(12):
        who[number] = ask(server.port, "/", f"x-session: first{number}").json["pid"]
    for number, pid in who.items():
        headers = (f"x-session: first{number}", f"cookie: sid=second{11 - number}")
        said = ask(server.port, f"/rooms/third{number}?room=x", *headers).json
        assert said["pid"] == pid


def test_connections_without_a_name_are_spread(share):
    """Who names no session is served by any process."""
    server = share("probe:app", *ALL, workers=4)
    seen = pids(server.port, [get("/", "connection: close")] * 60)
    assert set(seen) == set(server.worker_pids())


def test_host_decides(share):
    """``host`` keeps a host's connections together."""
    server = share("probe:app", "--affinity", "host", workers=4)
    check_names(server.port, by_host)
    [pid] = set(pids(server.port, [by_host("n1")]))
    for written in ("N1.EXAMPLE", "n1.example:80", "n1.example.", "n1.example.:8080"):
        request = f"GET / HTTP/1.1\r\nhost: {written}\r\nconnection: close\r\n\r\n"
        assert pids(server.port, [request.encode()]) == [pid]


def test_client_address_decides(share):
    """``ip`` keeps the connections of an address together."""
    server = share("probe:app", "--affinity", "ip", workers=4)
    seen: dict[str, set[int]] = {}
    for number in range(45):
        source = f"127.0.1.{number % 15 + 1}"
        said = ask(server.port, source=source).json
        assert said["client"][0] == source
        seen.setdefault(source, set()).add(said["pid"])
    assert [len(pids) for pids in seen.values()] == [1] * 15
    assert len(set.union(*seen.values())) > 1


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("header:x-session,learn", "x-session: {}"),
        ("cookie:sid,learn", "cookie: sid={}"),
    ],
    ids=["header", "cookie"],
)
def test_names_that_the_server_makes_are_learned(serve, spec, line):
    """Whoever connects anew with a name just learned meets the process that made it."""
    server = serve("probe:app", "--affinity", spec, "--no-access-log", workers=4)
    learn = [get("/learn", "connection: close")] * 200

    async def run() -> None:
        """Make names, many at once, and use each of them."""
        made = await crowd(server.port, learn)
        again = [
            get("/", line.format(answer.json["name"]), "connection: close")
            for answer in made
            for _ in range(3)
        ]
        met = await crowd(server.port, again)
        assert [answer.json["pid"] for answer in met] == [
            answer.json["pid"] for answer in made for _ in range(3)
        ]
        assert set(Counter(answer.json["pid"] for answer in made)) == set(
            await asyncio.to_thread(server.worker_pids)
        )

    asyncio.run(run())
    assert server.total("claimed_keys") == 200


def test_name_is_usable_at_once_after_it_was_made(serve):
    """A name works on the next connection, also while all others are making theirs."""
    server = serve(
        "probe:app",
        "--affinity",
        "header:x-session,learn",
        "--no-access-log",
        workers=4,
    )

    async def one() -> bool:
        """Make a name and use it at once."""
        from raw_http import fetch

        made = await fetch(server.port, get("/learn", "connection: close"))
        line = f"x-session: {made.json['name']}"
        again = await fetch(server.port, get("/session", line, "connection: close"))
        return again.json == {"pid": made.json["pid"], "count": 1}

    async def run() -> list[bool]:
        """Make names, many at once, and use each of them."""
        return [
            met
            for _ in range(5)
            for met in await asyncio.gather(*(one() for _ in range(100)))
        ]

    assert asyncio.run(run()) == [True] * 500


def test_name_nobody_made_takes_no_room(serve):
    """With ``learn``, names that clients invent are served and not remembered."""
    server = serve("probe:app", "--affinity", "header:x-session,learn", workers=2)
    for number in range(10):
        assert ask(server.port, "/", f"x-session: invented{number}").status == 200
    assert server.status()["keys"] == 0


def test_affinity_of_the_users_own_decides(share):
    """``module:attribute`` names an Affinity in the user's own code."""
    server = share(
        "probe:app", "--affinity", "own_affinity:Rooms.first_letter", workers=4
    )
    letters = "abcdefghijklmnop"
    called = [letter for letter in letters for _ in range(4)]
    requests = [get(f"/{c}{n}", "connection: close") for n, c in enumerate(called)]
    who: dict[str, set[int]] = {}
    for letter, pid in zip(called, pids(server.port, requests), strict=True):
        who.setdefault(letter, set()).add(pid)
    assert [len(pids) for pids in who.values()] == [1] * len(letters)
    assert len(set.union(*who.values())) > 1


def test_least_remembered_keys_are_bounded(serve):
    """No more than ``--max-keys`` sessions are remembered; the oldest goes first."""
    server = serve(
        "probe:app", "--affinity", "header:x-session", "--max-keys", "10", workers=2
    )
    server.expect_log("the key table is full")
    for number in range(30):
        ask(server.port, "/", f"x-session: s{number}")
    assert server.status()["keys"] == 10


# Policies


def test_round_robin_takes_the_workers_in_turn(share):
    """With ``round-robin`` connections without a name go round."""
    server = share("probe:app", "--policy", "round-robin", workers=4)
    seen = [ask(server.port).json["pid"] for _ in range(12)]
    assert seen[:4] == seen[4:8] == seen[8:]
    assert set(seen) == set(server.worker_pids())


def test_round_robin_keeps_names_together(share):
    """With ``round-robin`` a name keeps the worker of its first turn."""
    server = share(
        "probe:app",
        "--policy",
        "round-robin",
        "--affinity",
        "header:x-session",
        workers=4,
    )
    check_names(server.port, KINDS["header"])


def test_hash_keeps_names_together_without_remembering(share):
    """With ``hash`` the name alone decides, and nothing is remembered."""
    server = share(
        "probe:app", "--policy", "hash", "--affinity", "header:x-session", workers=4
    )
    check_names(server.port, KINDS["header"], names=64, times=3)
    assert server.status()["keys"] == 0


def test_hash_outlives_workers(serve):
    """With ``hash`` a name keeps its slot when workers are replaced."""
    server = serve("probe:app", "--policy", "hash", "--affinity", "header:x-session")
    names = [f"x-session: s{number}" for number in range(20)]
    before = [ask(server.port, "/", name).json["slot"] for name in names]
    server.reload()
    assert [ask(server.port, "/", name).json["slot"] for name in names] == before
