"""``maitred upgrade``: let the running master become the program that is on disk."""

from __future__ import annotations

import json
from typing import Any

import click

from maitred.control import ask, default_path
from maitred.errors import CommandFailed


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@click.option(
    "--control", metavar="PATH", default=None, help="The master's control socket."
)
def upgrade(as_json: bool, control: str | None) -> None:
    """
    Let the running master become the program that is on disk now.

    Its workers, their connections and its pid stay. The new code is tried first: where
    it cannot take over, the old code serves on, the reason is printed, and the exit
    code is 7.
    """
    try:
        answer = ask(control or default_path(), "upgrade")
    except CommandFailed as exc:
        if exc.traceback:
            click.echo(exc.traceback, err=True)
        raise
    click.echo(json.dumps(answer, indent=2) if as_json else render(answer))


def render(answer: dict[str, Any]) -> str:
    """Lay out *answer*, what the master says of its upgrade, for people."""
    return (
        f"upgraded from {answer['from']} to {answer['to']}: away for"
        f" {answer['away'] * 1000:.0f} ms, {answer['held']} connections held"
    )
