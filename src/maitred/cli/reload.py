"""``maitred reload``: new workers, and the news whether they serve."""

from __future__ import annotations

import click

from maitred.control import ask, default_path
from maitred.errors import CommandFailed


@click.command()
@click.option(
    "--control", metavar="PATH", default=None, help="The master's control socket."
)
def reload(control: str | None) -> None:
    """
    Start a new generation of workers, and wait until it serves.

    If that fails, what serves now serves on, the reason is printed, with the
    application's own traceback, and the exit code is 7. A reload that is under way is
    waited for, and followed by another.
    """
    try:
        answer = ask(control or default_path(), "reload", progress=click.echo)
    except CommandFailed as exc:
        if exc.traceback:
            click.echo(exc.traceback.rstrip("\n"), err=True)
        raise
    click.echo(f"generation {answer['generation']} serves")
