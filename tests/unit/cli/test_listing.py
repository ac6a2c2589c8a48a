"""``maitred list``: what it shows of each service, and of one that does not answer."""

from __future__ import annotations

import json

from click.testing import CliRunner

from maitred.cli import listing as module
from maitred.cli.main import cli
from maitred.errors import NoMaster

STATUS = {
    "pid": 7,
    "state": "ready",
    "uptime": 61.4,
    "generation": 3,
    "target": "app:app",
    "listening": ["http://127.0.0.1:8000", "unix:/run/app.sock"],
    "slots": [{"state": "ready"}, {"state": "empty"}],
}


def told(monkeypatch, services, *options):
    """Give what is printed where *services* run; of them, "mute" does not answer."""

    def ask(path, _command):
        if path == "/mute":
            raise NoMaster(path, "timed out")
        return STATUS

    monkeypatch.setattr(module, "services", lambda: services)
    monkeypatch.setattr(module, "ask", ask)
    result = CliRunner().invoke(cli, ["list", *options])
    assert result.exit_code == 0
    return result.output


def test_one_line_for_each(monkeypatch):
    """One that does not answer is shown with the socket, which says more."""
    output = told(monkeypatch, {"mute": "/mute", "": "/c"})
    where = ", ".join(STATUS["listening"])
    assert output.splitlines() == [
        "NAME  PID  STATE   UP    GEN  WORKERS  TARGET   LISTENING",
        f"-     7    ready   61 s  3    1        app:app  {where}",
        "mute  -    silent  -     -    -        -        /mute",
    ]


def test_programs_get_a_list(monkeypatch):
    """With why a service does not answer."""
    ready, mute = json.loads(told(monkeypatch, {"": "/c", "mute": "/mute"}, "--json"))
    assert ready == {
        "name": "",
        "control": "/c",
        "workers": 1,
        **{name: STATUS[name] for name in STATUS if name != "slots"},
    }
    assert (mute["state"], mute["control"]) == ("silent", "/mute")
    assert "timed out" in mute["error"]


def test_nothing_to_list(monkeypatch):
    """An empty table would say less."""
    assert told(monkeypatch, {}) == "no service is running\n"
    assert told(monkeypatch, {}, "--json") == "[]\n"
