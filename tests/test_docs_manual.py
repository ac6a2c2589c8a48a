"""The man page: roff that can be read, with every command and every option."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from maitred.cli.main import cli

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "contrib" / "man" / "maitred.1"
MANUAL = runpy.run_path(str(ROOT / "docs" / "manual.py"))


def plain() -> str:
    """Give the page as its reader sees it, more or less, and as one line."""
    text = re.sub(r"\\f[BIR]", "", PAGE.read_text(encoding="utf-8"))
    return " ".join(text.replace(r"\-", "-").replace(r"\&", "").split())


@pytest.mark.parametrize("name", cli.commands)
def test_every_option_is_there(name):
    """Each command, and each spelling of each of its options."""
    _, _, rest = plain().partition(f".SS maitred {name} ")
    part = rest.partition(".SS ")[0]
    for option in cli.commands[name].params:
        if isinstance(option, click.Option):
            for spelling in [*option.opts, *option.secondary_opts]:
                assert re.search(rf" {re.escape(spelling)}(,|$| )", part), spelling


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
def test_roff_is_without_fault():
    """The formatter has nothing to warn of, and prints what was meant."""
    done = subprocess.run(
        ["groff", "-ww", "-man", "-Tascii", "-P-cbou", str(PAGE)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stderr
    assert "maitred serve app:app" in done.stdout
    assert "--no-keep-copies" in done.stdout


def test_odd_text_is_printed_as_it_is():
    """A dot at the beginning is no request, and a backslash no escape."""
    escaped = MANUAL["escaped"](r".toml and \n and --bind")
    assert escaped == r"\&.toml and \en and \-\-bind"
