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
    Yield a function that shows people the master's lines.

    Args:
        lasting: Whether the command takes its time.
        as_json: Whether standard output is for one object.
    """
    if lasting and sys.stderr.isatty():
        # Only now: it takes a while to load.
        from .bars import bars  # noqa: PLC0415

        with bars() as progress:
            yield progress
        return

    def tell(line: dict[str, Any]) -> None:
        """Print the sentences, and leave out the lines about each worker."""
        if "progress" in line:
            click.echo(line["progress"], err=as_json)

    yield tell
