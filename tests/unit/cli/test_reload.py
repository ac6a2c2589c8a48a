"""``maitred reload``: what is printed, and where."""

import pytest
from click.testing import CliRunner

from maitred.cli import reload as module
from maitred.cli.main import cli
from maitred.errors import CommandFailed


def answers(monkeypatch, *lines, outcome):
    """Let the master say *lines*, then *outcome*."""

    def ask(_path, command, progress):
        assert command == "reload"
        for line in lines:
            progress(line)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(module, "ask", ask)


def test_progress_and_success_are_printed(monkeypatch):
    """The operator reads how it goes, and that it is done."""
    answers(monkeypatch, "one ready", "two ready", outcome={"generation": 4})
    result = CliRunner().invoke(cli, ["reload", "--control", "/run/x.sock"])
    assert result.output == "one ready\ntwo ready\ngeneration 4 serves\n"
    assert result.exit_code == 0


@pytest.mark.parametrize("traceback", ["Traceback:\n  Boom\n", ""])
def test_failure_shows_the_traceback_of_the_application(monkeypatch, traceback):
    """The reason itself is printed by whoever catches the error."""
    answers(monkeypatch, outcome=CommandFailed("reload failed: boom", traceback))
    result = CliRunner().invoke(cli, ["reload"])
    assert result.stdout == ""
    assert result.stderr == traceback
    assert str(result.exception) == "reload failed: boom"
