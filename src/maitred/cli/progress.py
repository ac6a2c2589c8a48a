"""
How a command that takes its time is followed: bars on a terminal, lines elsewhere.

Invariant: what is printed here is for people; programs read the answer, on standard
output, which with a terminal or ``--json`` has nothing else.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

Progress = Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def telling(*, lasting: bool, as_json: bool) -> Iterator[Progress]:
    """
    Give what tells people how it goes.

    Args:
        lasting: The command takes its time.
        as_json: Standard output is for one object.
    """
    if lasting and sys.stderr.isatty():
        # Only now: it takes a while to load.
        from .bars import bars  # noqa: PLC0415

        with bars() as progress:
            yield progress
        return

    def tell(line: dict[str, Any]) -> None:
        """Print the sentences; how each worker is would be too much of it."""
        if "progress" in line:
            click.echo(line["progress"], err=as_json)

    yield tell
