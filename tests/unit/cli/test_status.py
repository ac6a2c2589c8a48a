"""``maitred status``: the page for people."""

import json

from click.testing import CliRunner

from maitred.cli import steer as module
from maitred.cli.main import cli
from maitred.cli.status import render

SLOT = {
    "slot": 0,
    "pid": 1234,
    "generation": 2,
    "state": "ready",
    "open": 5,
    "in_flight": 0,
    "queued": 0,
    "handed_over": 100,
    "requests": 4321,
    "uptime": 3723.4,
    "memory": 34_000_000,
    "totals": {"deaths": 3, "restarts": 2},
    "claimed_keys": 7,
    "late": False,
    "early_deaths": 0,
    "why": "",
    "next_try": None,
}
EMPTY = {
    "slot": 10,
    "state": "empty",
    "queued": 2,
    "early_deaths": 0,
    "why": "",
    "next_try": None,
}
ANSWER = {
    "target": "app:app",
    "name": "",
    "state": "ready",
    "listening": ["http://127.0.0.1:8000", "unix:/run/app.sock"],
    "pid": 1230,
    "uptime": 12.5,
    "generation": 2,
    "affinity": ["mcp", "ip"],
    "policy": "least",
    "keys": 9,
    "peeking": 1,
    "waiting": 2,
    "connections": {
        "accepted": 110,
        "taken": 100,
        "redispatched": 3,
        "no_descriptor": 0,
        "lost": 0,
        "accept_pauses": 0,
        "refused": {"bad_request": 4, "tls": 1},
    },
    "acceptors": [{"number": 0, "pid": 1230, "accepted": 110}],
    "slots": [SLOT, EMPTY],
    "others": [],
    "elders": [],
}


def test_page_shows_master_and_slots():
    """Columns are as wide as what stands in them, and what is unknown is a dash."""
    assert render(ANSWER) == (
        "app:app on http://127.0.0.1:8000, unix:/run/app.sock\n"
        "master 1230, ready, up 12.5 s, generation 2, affinity mcp ip, policy least,"
        " 9 keys\n"
        "connections: 110 accepted, 100 taken, 5 refused,"
        " 3 dispatched again; 1 being peeked at, 2 waiting\n"
        "\n"
        "SLOT   PID  GEN  STATE  UPTIME  MEMORY  RESTARTS  OPEN  IN-FLIGHT  QUEUED"
        "  HANDED-OVER  REQUESTS  CLAIMED-KEYS\n"
        "   0  1234    2  ready   1h 2m     34M         2     5          0       0"
        "          100      4321             7\n"
        "  10     -    -  empty       -       -         -     -          -       2"
        "            -         -             -"
    )


def test_page_shows_who_is_leaving():
    """Those that drain have a row each, and those that keep sessions a line."""
    draining = SLOT | {"pid": 1200, "generation": 1, "state": "draining"}
    elder = {"pid": 1200, "slot": 2, "generation": 1, "sessions": 3, "seconds": 59.7}
    more = {"others": [draining], "elders": [elder, elder | {"sessions": None}]}
    page = render(ANSWER | more).splitlines()
    assert page[7].split()[:4] == ["0", "1200", "1", "draining"]
    who = "slot 0: process 1200 of generation 1 keeps"
    assert page[-2:] == [
        f"{who} 3 sessions, for 60 s at most",
        f"{who} its sessions, for 60 s at most",
    ]


def test_page_says_what_the_service_is_doing():
    """One that stops listens nowhere."""
    page = render(ANSWER | {"state": "stopping", "listening": []})
    assert page.startswith("app:app\nmaster 1230, stopping, up 12.5 s, ")


def test_page_names_the_acceptors_where_there_are_several():
    """With how many connections each has accepted."""
    other = {"number": 1, "pid": 1231, "accepted": 2}
    page = render(ANSWER | {"acceptors": [*ANSWER["acceptors"], other]})
    assert "\nacceptors: 1230 (110 accepted), 1231 (2 accepted)\n" in page


def test_page_ends_with_what_is_wrong():
    """A slot whose workers die, and one whose worker is stuck, have a line each."""
    why = "exited with code 9 before it was ready"
    dying = EMPTY | {"early_deaths": 3, "why": why, "next_try": 2.5}
    late = SLOT | {"late": True, "early_deaths": 1, "why": why}
    assert render(ANSWER | {"slots": [late, dying]}).splitlines()[-4:] == [
        "",
        "slot 0: late, its event loop is stuck or busy",
        f"slot 0: 1 early death, the last {why}",
        f"slot 10: 3 early deaths in a row, the last {why}; next try in 2.5 s",
    ]


def test_page_names_troubles_only_where_there_are_any():
    """What an operator should look into stands in a line of its own."""
    counts = ANSWER["connections"] | {"no_descriptor": 7, "accept_pauses": 2}
    [line] = set(render(ANSWER | {"connections": counts}).splitlines()) - set(
        render(ANSWER).splitlines()
    )
    assert line == (
        "troubles: 7 refused by a worker without free descriptors,"
        " 2 pauses of accepting for want of descriptors or memory"
    )


def test_page_says_that_there_is_no_affinity():
    """An empty list would look like a mistake."""
    assert ", affinity none, " in render(ANSWER | {"affinity": []})


def test_command_asks_the_control_socket(monkeypatch):
    """The socket named is the one that is asked, and its answer is shown."""
    asked = []

    def ask(*arguments):
        asked.append(arguments)
        return ANSWER

    monkeypatch.setattr(module, "ask", ask)
    result = CliRunner().invoke(cli, ["status", "--control", "/run/x.sock"])
    assert [arguments[:2] for arguments in asked] == [("/run/x.sock", "status")]
    assert result.output == render(ANSWER) + "\n"


def test_command_prints_json_for_programs(monkeypatch):
    """The answer is passed on whole, from the default socket."""
    monkeypatch.setattr(module, "find", lambda _name: "/run/default.sock")
    monkeypatch.setattr(module, "ask", lambda path, *_: ANSWER | {"path": path})
    result = CliRunner().invoke(cli, ["status", "--json"])
    assert json.loads(result.output) == ANSWER | {"path": "/run/default.sock"}


def test_threads_are_shown_where_there_are_some():
    """A column for all, and a note for a worker that requests wait for."""
    assert "THREADS" not in render(ANSWER)
    threads = {"most": 8, "busy": 8, "waiting": 3}
    text = render(ANSWER | {"slots": [SLOT | {"threads": threads}, EMPTY]})
    assert "THREADS" in text
    assert " 8/8\n" in text
    assert "slot 0: 8 of 8 threads are busy, 3 wait for one" in text
    idle = {"most": 8, "busy": 2, "waiting": 0}
    assert "wait for one" not in render(ANSWER | {"slots": [SLOT | {"threads": idle}]})
