"""The command line: one sentence and an exit code, whatever goes wrong."""

from importlib.metadata import version

import click
import pytest

from maitred.cli import main as module
from maitred.cli.main import cli, main, run
from maitred.errors import (
    AppFailed,
    ExitCode,
    MaitredError,
    NoMaster,
    SystemRefused,
    UsageError,
)


@pytest.fixture
def command():
    """Add a command ``do`` that does what the test wants."""

    def add(action):
        cli.add_command(click.Command("do", callback=action))

    yield add
    del cli.commands["do"]


def raising(error):
    """Make a function that raises *error*."""

    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UsageError("that cannot be"), ExitCode.USAGE, "that cannot be"),
        (SystemRefused("port taken"), ExitCode.SYSTEM, "port taken"),
        (AppFailed("no such app", "Traceback ..."), ExitCode.APP, "no such app"),
        (MaitredError("a bug"), ExitCode.INTERNAL, "a bug"),
        (click.ClickException("a  file\nis missing."), 2, "a file is missing"),
        (
            click.UsageError("No such thing."),
            ExitCode.USAGE,
            "No such thing; see `maitred --help`",
        ),
    ],
)
def test_error_becomes_a_sentence_and_a_code(command, capsys, error, code, sentence):
    """Every error of ours is told in one line on standard error."""
    command(raising(error))
    assert run(["do"]) == code
    assert capsys.readouterr() == ("", f"maitred: {sentence}\n")


def test_missing_master_has_a_code_of_its_own(command, capsys):
    """Scripts tell a master that is not there from one that refuses."""
    command(raising(NoMaster("/run/m.sock", "refused")))
    assert run(["do"]) == ExitCode.NO_MASTER
    assert capsys.readouterr().err.startswith("maitred: no master answers on ")


def test_bug_is_not_hidden(command):
    """What is not ours to explain shows its traceback."""
    command(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        run(["do"])


@pytest.mark.parametrize(
    ("result", "code"), [(None, 0), (ExitCode.OK, 0), (ExitCode.CUT, 5)]
)
def test_command_says_how_it_ended(command, result, code):
    """The exit code of a command is the exit code."""
    command(lambda: result)
    assert run(["do"]) == code


def test_interrupted_command_ends_quietly(command, capsys):
    """Whoever presses Ctrl-C knows why it ended."""
    command(raising(click.Abort()))
    assert run(["do"]) == ExitCode.OK
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--nope"], "No such option"),
        (["nope"], "No such command"),
        (["serve", "app:app", "--nope"], "No such option"),
        (["serve", "app:app", "--worker", "2"], "'--workers'"),
        (["serve", "app:app", "--workers", "many"], "'many' is not a valid integer"),
        (["serve", "app:app", "--policy", "best"], "'best' is not one of"),
        (["serve", "app:app", "more"], "unexpected extra argument"),
        (["serve", "app:app", "--workers"], "requires an argument"),
        (["status", "--nope"], "No such option"),
    ],
)
def test_unusable_arguments_are_one_sentence(capsys, arguments, sentence):
    """What click complains about is told in our form."""
    assert run(arguments) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("maitred: ")
    assert err.endswith("; see `maitred --help`\n")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["app"], "target 'app' is not module:attribute"),
        (["app:app", "--workers", "0"], "--workers 0: between 1 and 1024"),
        (["app:app", "--window", "0"], "--window 0: at least 1 is needed"),
    ],
)
def test_unusable_settings_are_one_sentence(capsys, arguments, sentence):
    """What Settings refuses is told in the same form."""
    assert run(["serve", "--control", "/nowhere", *arguments]) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith(f"maitred: {sentence}")


def test_no_command_shows_the_help(capsys):
    """Who says nothing learns what could be said."""
    assert run([]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert "Run a stateful Python service on every core" in out + err
    assert "maitred: " not in err


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], ["serve"], ["status"]])
def test_help_is_no_error(capsys, command, flag):
    """Help is what was asked for."""
    assert run([*command, flag]) == ExitCode.OK
    assert "Usage: maitred" in capsys.readouterr().out


def test_version_is_said(capsys):
    """The version is that of the package."""
    assert run(["--version"]) == ExitCode.OK
    assert version("maitred") in capsys.readouterr().out


def test_main_exits_with_the_code(monkeypatch):
    """The entry point ends the process."""
    monkeypatch.setattr(module, "run", lambda arguments: 6)
    with pytest.raises(SystemExit) as end:
        main(["anything"])
    assert end.value.code == 6
