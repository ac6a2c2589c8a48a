"""What status, metrics and events tell of failed reloads and of workers that end."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest

from driver import COMMAND, Maitred, wait_until
from raw_http import connect, get


@pytest.fixture
def mood(tmp_path: Path) -> Path:
    """Make the file that says how the moody application feels: well."""
    file = tmp_path / "mood"
    file.write_text("")
    return file


def page(server: Maitred) -> str:
    """Ask for the status as people do."""
    done = subprocess.run(
        [COMMAND, "status", "--control", server.control],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def metric(server: Maitred, name: str, label: str) -> float | None:
    """Ask the admin process for what it counts."""
    # It answers only who asks it by its name.
    with urlopen(f"{server.status()['admin'][0]}/metrics") as answer:
        text = answer.read().decode()
    found = re.search(rf"{name}\{{[^}}]*{label}[^}}]*\}} (\S+)", text)
    return None if found is None else float(found[1])


def test_failed_reload_looks_failed(serve, mood):
    """It is a kind of event of its own, and counted apart from one that went well."""
    server = serve(
        "moody:app", "--no-access-log", "--admin", "127.0.0.1:0", workers=1,
        env={"MOOD": str(mood)},
    )  # fmt: skip
    server.expect_log("reload failed|Traceback|LookupError")
    mood.write_text("raise")
    server.tell(signal.SIGHUP)
    server.wait_for_log("reload failed")
    status = server.status()
    [event] = [e for e in status["events"] if e["kind"] == "reload-failed"]
    assert event["text"].startswith("reload failed: ")
    assert status["event_counts"]["reload-failed"] == 1
    wait_until(
        "it is counted",
        lambda: metric(server, "maitred_events_total", 'kind="reload-failed"') == 1,
    )
    assert metric(server, "maitred_events_total", 'kind="reload"') == 1


def test_restarts_are_of_those_that_were_not_asked_to_leave(serve):
    """One that dies is one; a reload, a stop and fewer workers are none."""
    server = serve("probe:app", "--no-access-log", "--admin", "127.0.0.1:0")
    server.expect_log("SIGKILL")
    server.kill_worker(0)
    server.wait_for_log("was ended by SIGKILL; replaced")
    wait_until("both serve", lambda: states(server) == ["ready"] * 2)
    server.reload()
    wait_until("the old are gone", lambda: not server.status()["others"])
    totals = [slot["totals"] for slot in server.status()["slots"]]
    assert [each["restarts"] for each in totals] == [1, 0]
    assert [each["deaths"] for each in totals] == [2, 1]
    wait_until(
        "it is counted",
        lambda: metric(server, "maitred_worker_restarts_total", 'slot="0"') == 1,
    )
    rows = [line.split() for line in page(server).splitlines()]
    [title] = [row for row in rows if row[:2] == ["SLOT", "PID"]]
    place = title.index("RESTARTS")
    # An uptime above a minute has two words, of which none is there yet.
    assert [row[place] for row in rows[rows.index(title) + 1 :][:2]] == ["1", "0"]


def states(server: Maitred) -> list[str]:
    """Give the state of each slot."""
    return [slot["state"] for slot in server.status()["slots"]]


def test_status_while_stopping_shows_who_drains(serve, tmp_path):
    """What the service is doing, and what it waits for."""
    server = serve("probe:app", "--no-access-log", workers=1)
    go = tmp_path / "go"
    with connect(server.port) as client:
        client.send(get(f"/wait?for={go}"))
        wait_until("it is served", (tmp_path / "go.begun").exists)
        server.tell(signal.SIGTERM)
        wait_until("it drains", lambda: "draining" in page(server))
        first, second, *_ = page(server).splitlines()
        assert first == "probe:app"
        assert f"master {server.pid}, stopping, up " in second
        go.touch()
        assert client.answer().status == 200
    assert server.wait() == 0
