"""``maitred status``, and the control socket it asks on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from driver import COMMAND, DEADLINE, Maitred, descriptors_of, wait_until
from maitred.control import ask as ask_master
from maitred.errors import UsageError
from raw_http import ask, connect, get
from scenes import names_by_slot, waiting_request

MOST = 64 * 1024


@pytest.fixture
def server(share) -> Maitred:
    """Start a server whose application makes the names of sessions."""
    return share(
        "probe:app", "--affinity", "header:x-session,learn", "--policy", "round-robin"
    )


def status(server: Maitred, *options: str) -> str:
    """Run ``maitred status``."""
    return subprocess.run(
        [COMMAND, "status", "--control", server.control, *options],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    ).stdout


def converse(server: Maitred, data: bytes, *, close: bool = True) -> bytes:
    """Say *data* on the control socket, and give all that is answered."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(server.control)
        with contextlib.suppress(BrokenPipeError):
            sock.sendall(data)
            if close:
                sock.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := sock.recv(MOST):
                answer += chunk
        return answer


def test_status_counts_what_happened(serve):
    """After known traffic every number is the one that was caused."""
    server = serve(
        "probe:app", "--affinity", "header:x-session,learn", "--policy", "round-robin",
        workers=3,
    )  # fmt: skip
    made = [ask(server.port, "/learn").json for _ in range(6)]
    clients = [connect(server.port) for _ in range(3)]
    for client in clients:
        client.ask(get())
        client.ask(get())

    def settled() -> bool:  # requests are counted ten times a second
        return [slot["requests"] for slot in server.status()["slots"]] == [4, 4, 4]

    wait_until("all requests are counted", settled)
    wait_until("those that left are not open", lambda: server.total("open") == 3)
    said = json.loads(status(server, "--json"))
    pids = [said["pid"] for said in made]
    assert pids[:3] == pids[3:]
    for number, slot in enumerate(said["slots"]):
        assert slot.pop("pid") in pids
        assert 0 <= slot.pop("lag") < DEADLINE
        assert 10**6 < slot.pop("memory") < 10**9
        assert 0 < slot.pop("cpu") < DEADLINE
        assert 0 < slot.pop("uptime") <= said["uptime"]
        totals = slot.pop("totals")
        assert (totals["requests"], totals["deaths"]) == (4, 0)
        assert slot == {
            "slot": number,
            "state": "ready",
            "generation": 1,
            "open": 1,
            "in_flight": 0,
            "queued": 0,
            "handed_over": 3,
            "requests": 4,
            "claimed_keys": 2,
            "hops_in": 0,
            "hops_out": 0,
            "drained": False,
            "late": False,
            "early_deaths": 0,
            "why": "",
            "next_try": None,
            "threads": None,
        }
    assert said["pid"] == server.pid
    assert said["keys"] == 6
    assert said["generation"] == 1
    assert said["affinity"] == ["header:x-session,learn"]
    assert said["policy"] == "round-robin"
    assert said["target"] == "probe:app"
    assert said["listening"] == [server.url]
    assert said["listeners"] == [{"name": server.url, "accepted": 9}]
    assert said["state"] == "ready"
    assert said["max_keys"] == 100_000
    each = ask_master(server.control, "keys")["keys"][0]["key"]
    assert said["key_bytes"] == 6 * (256 + len(each))
    assert said["max_key_bytes"] == 51_200_000
    assert said["others"] == []
    assert said["connections"]["handed_over"] == said["connections"]["taken"] == 9
    assert said["peeking"] == said["waiting"] == 0
    counts = said["connections"]
    assert counts["accepted"] == counts["taken"] == 9
    assert counts["refused"] == {}
    for client in clients:
        client.close()


def test_hops_are_counted_where_they_begin_and_end(serve):
    """A connection whose requests belong elsewhere; an upgrade does not forget."""
    server = serve(
        "probe:app", "--affinity", "header:x-session", "--policy", "round-robin",
        "--acceptors", "1", workers=2,
    )  # fmt: skip
    names = names_by_slot(server)
    with connect(server.port) as client:
        for slot in (0, 1, 0, 1):
            said = client.ask(get("/", f"x-session: {names[slot]}")).json
            assert said["slot"] == str(slot)
        wanted = [(1, 2), (2, 1)]  # it began in slot 0, and left that twice

        def hops() -> bool:
            slots = server.status()["slots"]
            return [(s["hops_in"], s["hops_out"]) for s in slots] == wanted

        wait_until("all hops are counted", hops)
        server.upgrade()
        assert hops()
        [listener] = server.status()["listeners"]
        assert listener["accepted"] == server.status()["connections"]["accepted"]


def test_hops_are_counted_over_all_acceptors(serve):
    """Whoever passes a connection on says who gave it back."""
    server = serve(
        "probe:app", "--affinity", "header:x-session", "--policy", "round-robin",
        "--acceptors", "3", workers=2,
    )  # fmt: skip
    names = names_by_slot(server)
    with connect(server.port) as client:
        for slot in (0, 1) * 5:
            client.ask(get("/", f"x-session: {names[slot]}"))
        wait_until("all hops are counted", lambda: server.total("hops_out") == 9)
        wait_until("and where they end", lambda: server.total("hops_in") == 9)
        [listener] = server.status()["listeners"]
        assert listener["accepted"] == server.status()["connections"]["accepted"]


def test_workers_that_leave_and_come_are_shown(serve, tmp_path):
    """Each with what it has, until it is gone."""
    server = serve("probe:app", workers=1)
    old = server.worker_pids()
    with waiting_request(server, tmp_path / "gate") as client:
        server.reload()
        status = server.status()
        [leaving] = status["others"]
        assert [leaving["pid"]] == old
        assert leaving["slot"] == 0
        assert leaving["generation"] == 1
        assert leaving["state"] == "draining"
        assert leaving["open"] == 1
        assert status["state"] == "ready"  # the new generation serves
        (tmp_path / "gate").touch()
        assert client.answer().status == 200
    wait_until("it is gone", lambda: not server.status()["others"])


def test_status_for_people_shows_the_same(server):
    """What people are shown is a line for each worker, under a line of names."""
    lines = status(server).splitlines()
    assert "probe:app" in lines[0]
    assert server.url in lines[0]
    assert str(server.pid) in lines[1]
    names, *rows = (line.split() for line in lines[-3:])
    for row, slot in zip(rows, server.status()["slots"], strict=True):
        shown = dict(zip(names, row, strict=True))
        assert shown["SLOT"] == str(slot["slot"])
        assert shown["PID"] == str(slot["pid"])
        assert shown["GEN"] == "1"
        assert shown["STATE"] == "ready"
        assert shown["HANDED-OVER"] == str(slot["handed_over"])


def test_status_shows_a_slot_whose_worker_is_missing(serve, tmp_path):
    """While a worker cannot be started its slot is shown, and nothing fails."""
    mood = tmp_path / "mood"
    mood.write_text("")
    server = serve("moody:app", workers=2, env={"MOOD": str(mood)})
    server.expect_log("SIGKILL; replaced|exited with code 9 before it was ready")
    mood.write_text("die")
    server.kill_worker(1)
    server.wait_for_log("next try in", 2)
    shown = status(server)
    assert "empty" in shown or "starting" in shown
    assert re.search(
        r"slot 1: \d early deaths in a row, the last exited with code 9 before it was"
        r" ready(; next try in [\d.]+ s)?$",
        shown,
    )
    assert ask(server.port).json["slot"] == "0"
    mood.write_text("")
    wait_until("it is back", lambda: server.status()["slots"][1]["state"] == "ready")


def test_status_counts_waiting_clients(server):
    """A client whose head is not complete is counted as being looked at."""
    with connect(server.port) as client:
        client.send(b"GET /")
        wait_until("it is seen", lambda: server.status()["peeking"] == 1)
    wait_until("it is gone", lambda: server.status()["peeking"] == 0)


# The socket


def test_control_socket_is_for_its_owner_alone(server):
    """The control socket has mode 0600."""
    mode = os.stat(server.control).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_who_asks_is_one_descriptor_for_as_long(serve):
    """A conversation is open in the master until the asker is gone, and then not."""
    server = serve(workers=1, ready=False)
    server.wait_until_serving()
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(server.control)
        asking.sendall(b"{")
        status = server.status()  # who came later is answered: we have been accepted
        server.ready()
        wait_until(
            "nobody else asks",
            lambda: len(descriptors_of(status)) == len(server.descriptors_at_start) + 1,
        )
    wait_until(
        "it is closed",
        lambda: descriptors_of(status) == server.descriptors_at_start,
    )


def test_control_directory_is_made_for_its_owner_alone(serve, tmp_path):
    """Where the socket's directory is missing it is made, with mode 0700."""
    path = tmp_path / "made" / "control.sock"
    server = serve("probe:app", "--control", str(path), workers=1, ready=False)
    server.control = str(path)
    server.ready()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert server.stop() == 0
    assert not path.exists()


def test_control_socket_of_somebody_else_is_left_alone(serve, tmp_path):
    """What stands at the socket's path when we leave is removed only if it is ours."""
    server = serve(workers=1)
    path = Path(server.control)
    path.unlink()
    path.write_text("somebody else's")
    assert server.stop() == 0
    assert path.read_text() == "somebody else's"
    path.unlink()


@pytest.mark.parametrize(
    "line",
    [b"nonsense\n", b"\xff\xfe\x00\n", b"[]\n", b"7\n", b"{}\n", b'{"command": 7}\n',
     b'{"command": ["status"]}\n', b"null\n", b"\n", b'{"command": "dance"}\n',
     b"[" * 60_000 + b"\n"],
    ids=lambda line: line[:12].decode(errors="replace").strip() or "empty",
)  # fmt: skip
def test_nonsense_is_answered_with_a_sentence(server, line):
    """What is no command is answered as such."""
    answer = json.loads(converse(server, line))
    assert answer["ok"] is False
    assert len(answer["error"]) > 10
    assert server.status()["pid"] == server.pid


def test_unknown_command_is_named(server):
    """The client raises what the master objects to."""
    with pytest.raises(UsageError, match=r"'dance'.*status"):
        ask_master(server.control, "dance")


@pytest.mark.parametrize(
    "data",
    [b"", b'{"command": "sta', b"x" * (4 * MOST), b"x" * (4 * MOST) + b"\n"],
    ids=["silence", "half", "endless", "oversize"],
)
def test_what_is_no_line_is_closed(server, data):
    """Silence, half a line, and a line without end get at most an error."""
    answer = converse(server, data)
    assert not answer or json.loads(answer)["ok"] is False
    assert server.status()["pid"] == server.pid


def test_silent_askers_do_not_keep_others_waiting(server):
    """Many who say nothing do not keep the one who asks from an answer."""
    silent = [socket.socket(socket.AF_UNIX) for _ in range(50)]
    for sock in silent:
        sock.connect(server.control)
    assert server.status()["pid"] == server.pid
    for sock in silent:
        sock.close()


def test_asker_who_leaves_before_the_answer_is_forgotten(server):
    """An answer that nobody waits for is dropped."""
    for _ in range(10):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(server.control)
            sock.sendall(b'{"command": "status"}\n')
    assert server.status()["pid"] == server.pid


def test_requests_in_two_parts_are_understood(server):
    """A request that arrives in pieces is one request."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(server.control)
        for part in (b'{"comm', b'and": "status"}', b"\n"):
            sock.sendall(part)
        with sock.makefile("rb") as lines:
            assert json.loads(lines.readline())["ok"] is True


DEFAULTS = {
    "mqtt": ((), "client"),
    "postgres": ((), "database"),
    "rtmp": (("--affinity", "none"), "none"),
    "kinds:LINES": ((), "key"),
    "raw": ((), "none"),
}


@pytest.mark.parametrize("protocol", DEFAULTS)
def test_affinity_that_is_at_work_is_shown(serve, protocol):
    """That of the protocol where nobody says another, here as in the log."""
    words, name = DEFAULTS[protocol]
    server = serve(
        "kinds:handler", "--kind", "handler", "--protocol", protocol, *words, workers=1
    )
    assert server.status()["affinity"] == ([] if protocol == "raw" else [name])
    done = subprocess.run(
        [COMMAND, "status", "--control", server.control],
        check=True, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert f"affinity {name}, policy" in done.stdout
    assert f"affinity {name}, policy" in server.log
