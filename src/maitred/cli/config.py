"""``maitred config``: the settings that hold, and where each was said."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

import click

from .effective import Effective, effective
from .options import said
from .serve import serving
from .sources import unknown_variables


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: a JSON object.")
@serving
def config(as_json: bool, **options: Any) -> None:
    """
    Show the settings that `maitred serve` would have here, and where each comes from.

    Takes what `maitred serve` takes. Settings are read from maitred.toml, from
    [tool.maitred] in pyproject.toml, from variables such as MAITRED_WORKERS, and from
    options; each overrides the one before.
    """
    for sentence in unknown_variables(os.environ):
        click.echo(f"maitred: {sentence}", err=True)
    found = effective(**options)
    click.echo(as_object(found) if as_json else render(found))


def as_object(found: Effective) -> str:
    """Return *found* as JSON."""
    values = asdict(found.settings)
    rows = {
        name: {"value": values[name], "from": origin}
        for name, origin in found.origins.items()
    }
    return json.dumps(rows, indent=2)


def render(found: Effective) -> str:
    """Return *found* as a table."""
    values = asdict(found.settings)
    rows = [
        (name.replace("_", "-"), said(values[name]) or "-", origin)
        for name, origin in found.origins.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}"
        for name, value, origin in rows
    )
