"""Names that uvicorn and others use: another name of ours, or what to use instead."""

import click
import pytest
from uvicorn import main as uvicorn

from maitred.cli.familiar import FAMILIAR, aliases
from maitred.cli.main import cli, run
from maitred.cli.options import OPTIONS
from maitred.cli.serve import serve
from maitred.errors import ExitCode

OURS = {spelling for p in serve.params for spelling in (*p.opts, *p.secondary_opts)}


def options_of(command):
    """Give how the options of *command* are spelled."""
    params = [p for p in command.params if isinstance(p, click.Option)]
    return {name for p in params for name in (*p.opts, *p.secondary_opts)}


def test_every_option_of_uvicorn_is_known():
    """Who comes from uvicorn is understood, or told what to do."""
    theirs = options_of(uvicorn) - {"--help", "--version"}
    assert len(theirs) > 50
    assert theirs - OURS - set(FAMILIAR) == set()


@pytest.mark.parametrize("name", FAMILIAR)
def test_other_names_are_options_or_have_a_sentence(name):
    """And never both."""
    familiar = FAMILIAR[name]
    assert bool(familiar.ours) != bool(familiar.instead)
    if familiar.ours:
        assert familiar.ours in OPTIONS
        assert name in OURS
    else:
        assert name not in OURS


def test_aliases_set_what_they_are_another_name_of():
    """A word of theirs, our setting."""
    assert {"-w"} <= set(aliases("workers"))
    said = ["a:b", "-w", "3", "--graceful-timeout", "4", "--ssl-keyfile", "k"]
    # With its parent, as click remembers what it learns of the help option.
    parent = click.Context(cli, **cli.context_settings)
    params = serve.make_context("serve", said, parent=parent).params
    assert (params["workers"], params["drain_timeout"]) == (3, 4.0)
    assert params["keyfile"] == ("k",)


@pytest.mark.parametrize("name", [n for n, f in FAMILIAR.items() if f.instead])
def test_what_we_lack_is_told(name, capsys):
    """What to use instead, in one sentence."""
    assert run(["serve", "a:b", name]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert said == f"maitred: there is no {name}: {FAMILIAR[name].instead}\n"
