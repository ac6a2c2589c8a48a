"""``maitred presets``: what ``--affinity`` can be told, and what each looks at."""

from __future__ import annotations

import itertools
import json
import operator
from typing import Final

import click

from maitred.routing import PLACES, PRESETS

ROWS: Final = (
    *(("preset", name, preset.about) for name, preset in PRESETS.items()),
    *(("affinity", form, about) for form, about in PLACES.items()),
)
"Kind, what is written after ``--affinity``, and what it looks at."


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: a JSON list.")
def presets(as_json: bool) -> None:
    """List what --affinity can be told, and what each looks at."""
    click.echo(as_list() if as_json else render())


def as_list() -> str:
    """Return ROWS as JSON."""
    names = ("kind", "affinity", "looks_at")
    return json.dumps([dict(zip(names, row, strict=True)) for row in ROWS], indent=2)


def render() -> str:
    """Return ROWS as a table."""
    width = max(len(form) for _, form, _ in ROWS)
    lines = []
    for title, rows in itertools.groupby(ROWS, key=operator.itemgetter(0)):
        lines += ["", title.upper()]
        lines += [f"  {form:{width}}  {about}" for _, form, about in rows]
    return "\n".join(lines[1:])
