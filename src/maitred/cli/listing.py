"""
``maitred list``: the services on this machine that we may ask.

Invariant: a service that does not answer is shown all the same, and keeps no other
from being shown.
"""

from __future__ import annotations

import json
from typing import Any, Final

import click

from maitred.control import ask, services
from maitred.errors import MaitredError

from .answers import table

COLUMNS: Final = ("NAME", "PID", "STATE", "UP", "GEN", "WORKERS", "TARGET", "LISTENING")
SILENT: Final = "silent"
"The state of a service that lets us in and does not answer."


@click.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="For programs: a JSON list.")
def listing(*, as_json: bool) -> None:
    """
    List the services that run on this machine and that you may ask.

    Looks at the control sockets that are where they are made: one that `--control` put
    elsewhere is not found.
    """
    rows = [look(name, path) for name, path in sorted(services().items())]
    click.echo(json.dumps(rows, indent=2) if as_json else render(rows))


def look(name: str, path: str) -> dict[str, Any]:
    """Return the state of the service called *name* on control socket *path*."""
    row: dict[str, Any] = {"name": name, "control": path, "state": SILENT}
    try:
        status = ask(path, "status")
    except MaitredError as exc:
        return row | {"error": str(exc)}
    told = ("pid", "state", "uptime", "generation", "target", "listening")
    workers = sum(slot["state"] == "ready" for slot in status["slots"])
    return row | {each: status[each] for each in told} | {"workers": workers}


def render(rows: list[dict[str, Any]]) -> str:
    """Return *rows* as a table."""
    if not rows:
        return "no service is running"
    return "\n".join(table(COLUMNS, [_cells(row) for row in rows]))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    name = row["name"] or "-"
    if row["state"] == SILENT:
        return (name, "-", SILENT, "-", "-", "-", "-", row["control"])
    return (
        name,
        str(row["pid"]),
        row["state"],
        f"{row['uptime']:.0f} s",
        str(row["generation"]),
        str(row["workers"]),
        row["target"],
        ", ".join(row["listening"]),
    )
