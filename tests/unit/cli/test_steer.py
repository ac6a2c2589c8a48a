"""The commands for a running master: what is asked, what is printed, and where."""

import json

import pytest
from click.testing import CliRunner

from maitred.cli import steer as module
from maitred.cli.main import cli
from maitred.control import COMMANDS
from maitred.errors import CommandFailed


@pytest.fixture
def asked(monkeypatch):
    """Note what the master is asked, and let it answer with ``outcome``."""
    noted = {"lines": (), "outcome": {}}

    def ask(path, command, progress, **arguments):
        noted["asked"] = path, command, arguments
        for line in noted["lines"]:
            progress({"progress": line})
            progress({"worker": {"slot": 0}})
        if isinstance(noted["outcome"], Exception):
            raise noted["outcome"]
        return noted["outcome"]

    monkeypatch.setattr(module, "ask", ask)
    return noted


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_from_the_table(name):
    """What it does, and what it is told."""
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    shown = " ".join(result.output.split())
    assert COMMANDS[name].about in shown
    assert "--json" in shown
    for argument in COMMANDS[name].arguments:
        assert f"{argument.name.upper()}: {argument.about}" in shown


def test_progress_and_success_are_printed(asked):
    """The operator reads how it goes, and that it is done."""
    asked.update(lines=("one ready", "two ready"), outcome={"generation": 4})
    result = CliRunner().invoke(cli, ["reload", "--control", "/run/x.sock"])
    assert asked["asked"] == ("/run/x.sock", "reload", {})
    assert result.output == "one ready\ntwo ready\ngeneration 4 serves\n"
    assert result.exit_code == 0


def test_progress_is_not_mixed_with_json(asked):
    """Standard output is one object."""
    asked.update(lines=("one ready",), outcome={"generation": 4})
    result = CliRunner().invoke(cli, ["reload", "--json"])
    assert json.loads(result.stdout) == {"generation": 4}
    assert result.stderr == "one ready\n"


@pytest.mark.parametrize("traceback", ["Traceback:\n  Boom\n", ""])
def test_failure_shows_the_traceback_of_the_application(asked, traceback):
    """The reason itself is printed by whoever catches the error."""
    asked["outcome"] = CommandFailed("reload failed: boom", traceback)
    result = CliRunner().invoke(cli, ["reload"])
    assert result.stdout == ""
    assert result.stderr == traceback
    assert str(result.exception) == "reload failed: boom"


def test_arguments_are_passed_on_by_name(asked):
    """Numbers are numbers, and what was left out is not said."""
    asked["outcome"] = {"keys": []}
    CliRunner().invoke(cli, ["keys"])
    assert asked["asked"][1:] == ("keys", {})
    CliRunner().invoke(cli, ["keys", "ip="])
    assert asked["asked"][1:] == ("keys", {"prefix": "ip="})
    CliRunner().invoke(cli, ["move", "k", "3"])
    assert asked["asked"][1:] == ("move", {"key": "k", "slot": 3})


@pytest.mark.parametrize(
    "arguments", [["move", "k", "three"], ["move", "k"], ["log-level", "loud"]]
)
def test_what_the_table_does_not_have_is_not_asked(asked, arguments):
    """The command line refuses it by itself."""
    assert CliRunner().invoke(cli, arguments).exit_code == 2
    assert "asked" not in asked


@pytest.mark.parametrize(("cut", "code"), [(False, 0), (True, 5)])
def test_cut_connections_are_an_exit_code(asked, cut, code):
    """As the master's own."""
    asked["outcome"] = {"cut": cut, "open": 2, "lost": 0, "seconds": 1.25}
    result = CliRunner().invoke(cli, ["stop"], standalone_mode=False)
    assert result.return_value == code
    assert result.stdout.startswith("stopped after 1.25 s: ")


@pytest.mark.parametrize("name", ["-lFlZESQY6X0", "-h-lp", "--json-"])
def test_name_of_a_session_may_begin_like_an_option(asked, name):
    """One of 64 does, where names are base 64."""
    asked["outcome"] = CommandFailed("nobody has it")
    words = ["--", name] if name.startswith("--") else [name]
    CliRunner().invoke(cli, ["whereis", "--control", "/run/x.sock", *words])
    assert asked["asked"] == ("/run/x.sock", "whereis", {"key": name})
    CliRunner().invoke(cli, ["move", *words, "1"])
    assert asked["asked"][1:] == ("move", {"key": name, "slot": 1})


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["k", "-lF"], "Got unexpected extra argument (-lF)"),
        (["--jsno", "k"], "No such option '--jsno'"),
        (["-1"], "No such option '-1'"),
    ],
)
def test_what_cannot_be_a_name_is_refused(asked, words, why):
    """As it was typed."""
    result = CliRunner().invoke(cli, ["whereis", *words])
    assert result.exit_code == 2
    assert why in result.output
    assert "asked" not in asked
