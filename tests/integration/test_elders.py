"""A reload with --drain sessions: they end where they began, others begin anew."""

from __future__ import annotations

import os
import signal

import pytest

from driver import Maitred, is_alive, wait_until
from raw_http import Connection, ask, connect, get

QUIET = ("--no-access-log", "--timeout-keep-alive", "60", "--drain", "sessions")
LEARNED = ("--affinity", "header:x-session,learn")
LEAVES = r"worker of slot \d leaves with (\d+ sessions|its sessions): "


def learn(server: Maitred, count: int) -> list[str]:
    """Make *count* sessions."""
    return [ask(server.port, "/learn").json["name"] for _ in range(count)]


def counted(server: Maitred, name: str, *lines: str) -> tuple[int, int]:
    """Use session *name* once; say how often it was used, and where."""
    said = ask(server.port, "/session", f"x-session: {name}", *lines).json
    return said["count"], said["pid"]


def left(server: Maitred) -> list[int]:
    """Say how many sessions each of the old workers has."""
    return [elder["sessions"] for elder in server.status()["elders"]]


def test_learned_sessions_end_where_they_began(serve):
    """On old connections and new ones; what is new goes to the new generation."""
    server = serve("probe:app", *QUIET, *LEARNED, "--drain-timeout", "600", workers=2)
    old = set(server.worker_pids())
    names = learn(server, 12)
    with connect(server.port) as kept:
        kept.ask(get("/session", f"x-session: {names[0]}"))
        server.reload()
        new = set(server.worker_pids())
        assert not new & old
        assert sum(left(server)) == 12
        for turn in (1, 2):
            for name in names[1:]:
                count, pid = counted(server, name)
                assert (count, pid in old) == (turn, True)
        # A connection that stays, with a session of the old ones and without any.
        assert kept.ask(get("/session", f"x-session: {names[0]}")).json["count"] == 2
        assert kept.ask(get()).json["pid"] in new
        assert kept.ask(get("/session", f"x-session: {names[0]}")).json["pid"] in old
        assert {ask(server.port).json["pid"] for _ in range(10)} <= new
        later = learn(server, 4)
        assert {counted(server, name)[1] for name in later} <= new
    assert all(map(is_alive, old))
    assert server.stop() == 0


def test_old_worker_leaves_with_its_last_session(serve):
    """Long before the deadline: its sessions have ended, or were idle for too long."""
    server = serve(
        "probe:app", *QUIET, *LEARNED, "--drain-timeout", "600", "--key-ttl", "3",
        workers=2,
    )  # fmt: skip
    old = server.worker_pids()
    names = learn(server, 6)
    server.reload()
    assert {counted(server, name)[1] for name in names} <= set(old)
    server.wait_for_log(LEAVES + "its last session has ended", 2)
    wait_until("they are gone", lambda: not any(map(is_alive, old)))
    assert server.status()["elders"] == []
    # What is said of them now is for somebody who has never heard of them.
    assert counted(server, names[0])[0] is None
    server.reload()
    assert ask(server.port).json["pid"] in server.worker_pids()


def test_time_to_drain_ends_it(serve):
    """Then the old worker gives back its connections, and its sessions begin anew."""
    server = serve("probe:app", *QUIET, *LEARNED, "--drain-timeout", "2", workers=1)
    [old] = server.worker_pids()
    [name] = learn(server, 1)
    with connect(server.port) as kept:
        assert kept.ask(get("/session", f"x-session: {name}")).json["pid"] == old
        server.reload()
        assert kept.ask(get("/session", f"x-session: {name}")).json["pid"] == old
        server.wait_for_log(LEAVES + "the time to drain is over")
        wait_until("it is gone", lambda: not is_alive(old))
        said = kept.ask(get("/session", f"x-session: {name}")).json
        assert (said["count"], said["pid"]) == (None, *server.worker_pids())


def test_sessions_that_clients_name_stay_as_well(serve):
    """The table knows which worker had them."""
    server = serve(
        "probe:app", *QUIET, "--affinity", "header:x-session", "--drain-timeout", "600",
        workers=2,
    )  # fmt: skip
    old = set(server.worker_pids())
    for number in range(8):
        ask(server.port, "/session?new=1", f"x-session: s{number}")
    server.reload()
    for number in range(8):
        count, pid = counted(server, f"s{number}")
        assert (count, pid in old) == (2, True)
    assert counted(server, "another")[1] not in old
    assert server.stop() == 0


def cookie_of(client: Connection, *lines: str) -> tuple[str, int]:
    """Ask once; give the cookie that was set, or none, and who answered."""
    answer = client.ask(get("/", *lines))
    return answer.headers.get("set-cookie", "").partition(";")[0], answer.json["pid"]


@pytest.mark.parametrize("same", [True, False], ids=["one connection", "new ones"])
def test_sticky_clients_stay_until_the_end(serve, same):
    """Then their cookie names a slot that nobody fills, and they get a new one."""
    server = serve(
        "probe:app", *QUIET, "--affinity", "sticky", "--drain-timeout", "3", workers=2
    )
    with connect(server.port) as first, connect(server.port) as second:
        cookie, old = cookie_of(first)
        server.reload()
        client = first if same else second
        assert cookie_of(client, f"cookie: {cookie}") == ("", old)
        assert server.status()["elders"][0]["sessions"] is None
        server.wait_for_log(LEAVES + "the time to drain is over", 2)
        wait_until("it is gone", lambda: not is_alive(old))
        renewed, pid = cookie_of(client, f"cookie: {cookie}")
        assert renewed not in {"", cookie}
        assert pid in server.worker_pids()
        for _ in range(4):
            assert cookie_of(client, f"cookie: {renewed}") == ("", pid)


def test_killed_elder_takes_only_its_sessions_with_it(serve):
    """Nobody fills its slot for them: they begin anew at once."""
    server = serve("probe:app", *QUIET, *LEARNED, "--drain-timeout", "600", workers=1)
    server.expect_log("SIGKILL")
    [old] = server.worker_pids()
    [name] = learn(server, 1)
    server.reload()
    os.kill(old, signal.SIGKILL)
    wait_until("it is noticed", lambda: not server.status()["elders"])
    assert counted(server, name) == (None, *server.worker_pids())


def test_second_reload_waits_for_the_elders(serve):
    """No more than two generations are ever alive."""
    server = serve("probe:app", *QUIET, *LEARNED, "--drain-timeout", "3", workers=1)
    first = server.worker_pids()
    learn(server, 1)
    server.reload()
    second = server.worker_pids()
    server.reload()
    assert not any(map(is_alive, first))
    assert server.worker_pids() != second
    assert server.status()["generation"] == 3


def test_hash_remembers_nothing(serve):
    """So it cannot keep a session anywhere; the user is told."""
    server = serve("probe:app", *QUIET, "--policy", "hash", ready=False)
    assert server.wait() == 2
    assert "--drain sessions with --policy hash" in server.log
