"""Looking up and steering a running service: keys, the log, the end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from driver import COMMAND, DEADLINE, Maitred, wait_until
from maitred.control import ask as ask_master
from maitred.errors import CommandFailed, NoMaster, UsageError
from raw_http import ask, connect, get
from scenes import load, names_by_slot, waiting_request

KEYED = ("--affinity", "header:x-session", "--policy", "round-robin")
LEARNED = ("--affinity", "header:x-session,learn", "--policy", "round-robin")
PATIENT = ("--timeout-keep-alive", "600")
ONE = ("--acceptors", "1")


def run(server: Maitred, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``maitred`` with *arguments* against *server*."""
    return subprocess.run(
        [COMMAND, *arguments, "--control", server.control],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def answer(server: Maitred, *arguments: str) -> dict[str, Any]:
    """Give what the master answers to the command *arguments*, as JSON."""
    done = run(server, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def named(name: str) -> bytes:
    """Make a request of session *name*."""
    return get("/", f"x-session: {name}")


@pytest.fixture(params=["1", "3"], ids=["one acceptor", "three acceptors"])
def acceptors(request) -> tuple[str, ...]:
    """Say how many acceptors there are: it makes no difference for an operator."""
    return ("--acceptors", request.param)


@pytest.fixture
def server(share, acceptors) -> Maitred:
    """Start a server whose clients make the names of sessions."""
    return share("probe:app", *KEYED, *acceptors, workers=3)


def test_keys_are_listed_and_found(server):
    """Each with the worker that answers it."""
    for name in ("ann", "bob", "evé"):
        with connect(server.port) as client:
            pid = client.ask(named(name)).json["pid"]
        where = answer(server, "whereis", name)
        assert where["pid"] == pid
        assert where["slot"] == server.worker_pids().index(pid)
    listed = answer(server, "keys")
    found = {key["key"] for key in listed["keys"]}
    assert {"header:x-session=ann", r"header:x-session=ev\xc3\xa9"} <= found
    assert listed["total"] == len(listed["keys"]) == sum(listed["by_slot"].values())
    assert listed["keys"][0]["key"] == r"header:x-session=ev\xc3\xa9"
    one = answer(server, "keys", "header:x-session=an")
    assert [key["key"] for key in one["keys"]] == ["header:x-session=ann"]
    assert "header:x-session=bob" in run(server, "keys").stdout


def test_unknown_key_is_nowhere(server):
    """Exit code 7 and a sentence."""
    for command in (["whereis", "nobody"], ["move", "nobody", "1"]):
        done = run(server, *command)
        assert done.returncode == 7
        assert done.stderr == "maitred: no worker has a session 'nobody'\n"


def test_open_connection_follows_a_key_that_is_moved(server):
    """At its next request; and so does whoever connects anew."""
    with connect(server.port) as client:
        before = client.ask(named("mover")).json["pid"]
        slot = server.worker_pids().index(before)
        to = (slot + 1) % 3
        moved = answer(server, "move", "mover", str(to))
        assert (moved["from"], moved["slot"]) == (slot, to)
        assert moved["left_behind"] is False
        assert client.ask(named("mover")).json["slot"] == str(to)
        assert client.ask(named("mover")).json["slot"] == str(to)
    assert ask(server.port, "/", "x-session: mover").json["slot"] == str(to)
    assert answer(server, "whereis", "mover")["slot"] == to


def test_what_cannot_be_moved_is_said(server):
    """No such slot: exit code 2."""
    ask(server.port, "/", "x-session: ann")
    for slot in ("3", "1024"):
        done = run(server, "move", "ann", slot)
        assert done.returncode == 2
        assert f"there is no slot {slot}; slots 0 to 2 exist" in done.stderr


def test_session_that_the_application_made_leaves_its_memory_behind(serve, acceptors):
    """That is said, and the key belongs to the other worker."""
    server = serve("probe:app", *LEARNED, *acceptors, workers=2)
    with connect(server.port) as client:
        made = client.ask(get("/learn")).json
        where = answer(server, "whereis", made["name"])
        assert (where["pid"], where["by"]) == (made["pid"], "claimed")
        to = 1 - where["slot"]
        assert answer(server, "move", made["name"], str(to))["left_behind"] is True
        assert client.ask(named(made["name"])).json["slot"] == str(to)


def test_slot_in_a_cookie_is_found_and_not_moved(serve, acceptors):
    """The cookie's value names the worker."""
    server = serve("probe:app", "--affinity", "sticky", *acceptors, workers=2)
    got = ask(server.port)
    token = re.search(r"maitred=([^;]+)", got.headers["set-cookie"])[1]
    assert answer(server, "whereis", token)["pid"] == got.json["pid"]
    done = run(server, "move", token, "0")
    assert done.returncode == 2
    assert "its client carries the slot" in done.stderr


def test_drained_slot_gets_nothing_new_and_keeps_its_sessions(serve, acceptors):
    """Idle connections are given back, sessions stay; undrained, all is as before."""
    server = serve("probe:app", *KEYED, *acceptors, *PATIENT, workers=2)
    names = names_by_slot(server)
    idle = [connect(server.port) for _ in range(6)]
    at_1 = sum(client.ask(get()).json["slot"] == "1" for client in idle)
    with connect(server.port) as session:
        pid = session.ask(named(names[1])).json["pid"]
        done = run(server, "drain", "1", "--json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert (said["slot"], said["lost"], said["kept"]) == (1, 0, 0)
        assert said["moved"] == at_1 + 1
        assert said["sessions"] > 0
        assert "slot 1: 0 connections are left" in done.stderr
        assert {client.ask(get()).json["slot"] for client in idle} == {"0"}
        assert {ask(server.port).json["slot"] for _ in range(4)} == {"0"}
        assert ask(server.port, "/", "x-session: fresh").json["slot"] == "0"
        assert session.ask(named(names[1])).json["pid"] == pid
        assert session.ask(get()).json["slot"] == "0"
        assert ask(server.port, "/", f"x-session: {names[1]}").json["pid"] == pid
    assert server.status()["slots"][1]["drained"] is True
    assert "slot 1: drained" in run(server, "status").stdout
    assert "no other slot takes what is new" in run(server, "drain", "0").stderr
    assert answer(server, "undrain", "1") == {"slot": 1, "was_drained": True}
    assert {ask(server.port).json["slot"] for _ in range(4)} == {"0", "1"}
    with connect(server.port) as session:
        assert session.ask(named(names[1])).json["pid"] == pid
        assert session.ask(get()).json["pid"] == pid
    for client in idle:
        client.close()


def test_slot_stays_drained_whoever_fills_it(serve, acceptors):
    """After a death, a reload and an upgrade, or the death of another acceptor."""
    server = serve("probe:app", *KEYED, *acceptors, workers=2)
    server.expect_log("SIGKILL; replaced|SIGKILL; next try")
    answer(server, "drain", "0")
    server.kill_worker(0)
    wait_until("it is back", lambda: server.status()["slots"][0]["state"] == "ready")
    server.reload()
    others = server.status()["acceptors"][1:]
    if others:
        for other in others:
            os.kill(other["pid"], signal.SIGKILL)
        dead = {other["pid"] for other in others}
        wait_until("they are replaced", lambda: are_replaced(server, dead))
    else:
        server.upgrade()
    assert server.status()["slots"][0]["drained"] is True
    assert {ask(server.port).json["slot"] for _ in range(4)} == {"1"}
    answer(server, "undrain", "0")
    assert {ask(server.port).json["slot"] for _ in range(4)} == {"0", "1"}


def are_replaced(server: Maitred, dead: set[int]) -> bool:
    """Say whether every acceptor serves, and none of *dead* is among them."""
    acceptors = server.status()["acceptors"]
    known = {acceptor["pid"] for acceptor in acceptors}
    up = [each["state"] for each in acceptors] == ["ready"] * 3
    return up and not known & dead


def test_drain_ends_with_what_is_left(serve, acceptors, tmp_path: Path):
    """At the drain timeout; or when somebody undrains it."""
    server = serve(
        "probe:app", *KEYED, *acceptors, "--drain-timeout", "1", workers=2
    )  # fmt: skip
    with waiting_request(server, tmp_path / "gate") as client:
        [slot] = [s["slot"] for s in server.status()["slots"] if s["open"]]
        done = run(server, "drain", str(slot))
        assert re.search(r"0 connections moved, 1 kept, .* 0 lost", done.stdout)
        (tmp_path / "gate").touch()
        assert client.answer().status == 200
        assert client.ask(get()).json["slot"] == str(1 - slot)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--policy", "hash"), "a hash remembers no session"),
        (("--drain", "sessions"), "reload instead"),
    ],
)
def test_what_cannot_be_drained_is_said(serve, options, why):
    """One sentence says why not."""
    server = serve("probe:app", "--affinity", "header:x-session", *options, workers=2)
    for command in ("drain", "undrain"):
        done = run(server, command, "0")
        assert done.returncode == 2
        assert why in done.stderr


def test_slot_that_does_not_exist_is_not_drained(server):
    """One sentence says which there are."""
    for command in ("drain", "undrain"):
        done = run(server, command, "3")
        assert done.returncode == 2
        assert "there is no slot 3; slots 0 to 2 exist" in done.stderr


def test_more_and_fewer_workers(serve, acceptors):
    """Under load nothing is lost; client-made sessions are placed anew."""
    options = (*KEYED, *PATIENT, "--no-access-log", *acceptors)
    server = serve("probe:app", *options, workers=2)
    with load(server) as answers:
        assert answer(server, "scale", "4")["before"] == 2
        server.workers = 4
        names = names_by_slot(server)
        assert sorted(names) == [0, 1, 2, 3]
        said = server.status()
        assert [slot["state"] for slot in said["slots"]] == ["ready"] * 4
        clients = [connect(server.port) for _ in range(4)]
        for slot, client in enumerate(clients):
            assert client.ask(named(names[slot])).json["slot"] == str(slot)
        done = run(server, "scale", "1", "--json")
        fewer = json.loads(done.stdout)
        assert (fewer["workers"], fewer["lost"]) == (1, 0)
        assert fewer["sessions"]["moved"] >= 3
        assert fewer["sessions"]["ended"] == 0
        assert "worker of slot 3 has left" in done.stderr
        for slot, client in enumerate(clients):
            assert client.ask(named(names[slot])).json["slot"] == "0"
            client.close()
        assert len(server.status()["slots"]) == 1
        assert "3 workers serve, before 1" in run(server, "scale", "3").stdout
        server.reload()
    assert {each.status for each in answers} == {200}
    assert len(set(server.worker_pids())) == 3
    server.descriptors_at_start = None


def test_upgrade_keeps_the_number_of_workers(serve):
    """More than at the start, or fewer."""
    server = serve("probe:app", *KEYED, *ONE, workers=2)
    for number in (3, 1, 2):
        answer(server, "scale", str(number))
        pids = server.worker_pids()
        server.upgrade()
        assert server.worker_pids() == pids
        assert len(pids) == number
        assert {ask(server.port).json["slot"] for _ in range(6)} == {
            str(slot) for slot in range(number)
        }


def test_worker_that_does_not_come_up_is_told(serve, acceptors, tmp_path: Path):
    """The command fails; what serves, serves on, and one can scale back."""
    mood = tmp_path / "mood"
    mood.write_text("")
    server = serve("moody:app", *acceptors, workers=1, env={"MOOD": str(mood)})
    server.expect_log("exited with code 9|next try in")
    mood.write_text("die")
    done = run(server, "scale", "2")
    assert done.returncode == 7
    assert re.search("worker of slot 1 exited with code 9 .*scale back", done.stderr)
    assert ask(server.port).json["slot"] == "0"
    assert answer(server, "scale", "1")["workers"] == 1


@pytest.mark.parametrize(
    ("options", "number", "why"),
    [
        ((), "0", "between 1 and 1024 workers are possible"),
        ((), "1025", "between 1 and 1024 workers are possible"),
        (("--affinity", "sticky"), "3", "clients carry slots"),
        (("--policy", "hash"), "3", "a hash would move sessions"),
        (("--drain", "sessions"), "3", "two generations have slots"),
    ],
)
def test_what_cannot_be_scaled_is_said(serve, options, number, why):
    """One sentence says why not, and what to do."""
    server = serve("probe:app", *options, workers=2)
    done = run(server, "scale", number)
    assert done.returncode == 2
    assert why in done.stderr
    assert done.stderr.endswith("; restart with --workers instead\n")


def test_log_level_changes_and_stays(serve):
    """In the master at once, in workers after a reload; an upgrade keeps it."""
    server = serve("probe:app", "--log-level", "warning", *ONE, ready=False, workers=1)
    server.wait_until_serving()
    assert answer(server, "log-level", "info") == {"level": "info", "before": "warning"}
    server.reload()
    server.upgrade()
    server.wait_for_log("upgraded from")
    assert answer(server, "log-level", "info")["before"] == "info"
    assert "log level info, before info" in run(server, "log-level", "info").stdout
    done = run(server, "log-level", "loud")
    assert done.returncode == 2


def test_stop_waits_until_all_is_over(serve, tmp_path: Path):
    """It prints who leaves, and when it exits nothing is left."""
    server = serve("probe:app", workers=2)
    gate = tmp_path / "gate"
    with waiting_request(server, gate) as client:
        command = subprocess.Popen(
            [COMMAND, "stop", "--control", server.control],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert command.stdout.readline() == "draining 2 workers\n"
        wait_until("it drains", lambda: "draining" in server.log)
        assert command.poll() is None
        gate.touch()
        assert client.answer().status == 200
    out, _ = command.communicate(timeout=DEADLINE)
    assert command.returncode == 0
    assert re.search(r"stopped after [\d.]+ s: nothing was cut, 1 connections", out)
    assert server.wait() == 0


def test_stop_says_that_connections_were_cut(serve, acceptors, tmp_path: Path):
    """With the same exit code as the master's."""
    server = serve("probe:app", "--drain-timeout", "0.5", workers=1)
    server.expect_log("cut|cancel|Cancel|Traceback|Exception in ASGI|timeout")
    with waiting_request(server, tmp_path / "never"):
        done = run(server, "stop", "--json")
    assert json.loads(done.stdout)["cut"] is True
    assert done.returncode == server.wait() == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_who_is_let_in_and_no_operator_may_look(serve):
    """By the kernel's word: what changes nothing is answered, the rest refused."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = f"{directory}/control.sock"
        server = serve("probe:app", "--control", path, *ONE, workers=1, ready=False)
        server.control = path
        server.ready()
        os.chmod(directory, 0o755)
        with pytest.raises(NoMaster, match="Permission denied"):
            ask_as_nobody(path, "status")
        os.chmod(path, 0o666)
        assert ask_as_nobody(path, "status")["pid"] == server.pid
        with pytest.raises(UsageError, match="keys is for operators"):
            ask_as_nobody(path, "keys")
        with pytest.raises(UsageError, match="stop is for operators"):
            ask_as_nobody(path, "stop")
        assert ask_master(path, "keys")["total"] == 0
        assert server.stop() == 0


def ask_as_nobody(path: str, command: str) -> dict[str, Any]:
    """Ask as a user who is neither root nor the master's."""
    os.seteuid(65534)
    try:
        return ask_master(path, command)
    finally:
        os.seteuid(0)


def test_master_that_is_asked_by_a_program_answers_alike(server):
    """``ask`` is what the commands use."""
    with pytest.raises(CommandFailed, match="no worker has"):
        ask_master(server.control, "whereis", key="nobody")
    with pytest.raises(UsageError, match="slot has to be a number"):
        ask_master(server.control, "move", key="nobody", slot="x")
