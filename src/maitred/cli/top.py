"""
``maitred top``: the running service, looked at again and again.

Invariant: it only asks what `maitred status` asks, once in an interval, until the
operator wants something.
"""

from __future__ import annotations

import sys
import time

import click

from maitred.control import ask, find
from maitred.errors import ExitCode, UsageError

from .rates import Rates, page
from .whose import WHOSE

SHORTEST = 0.1


@click.command(params=list(WHOSE))
@click.option(
    "--interval",
    type=float,
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks.",
)
@click.option(
    "--once",
    is_flag=True,
    help="Look twice, print a table, and end; so it does where there is no terminal.",
)
def top(interval: float, *, once: bool, control: str, name: str) -> ExitCode:
    """
    Watch the service, and steer it.

    A line for each worker: what it has and does, and what it costs. Keys sort, drain
    and undrain a slot, reload and scale, each after a question; `?` shows them all.
    """
    if not SHORTEST <= interval < float("inf"):
        raise UsageError(
            f"--interval {interval:g}: at least {SHORTEST:g} seconds are needed"
        )
    path = control or find(name)
    rates = Rates()
    rates.look(ask(path, "status"), time.monotonic())
    if once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        time.sleep(interval)
        rates.look(ask(path, "status"), time.monotonic())
        click.echo(page(rates))
        return ExitCode.OK
    # Only now: it takes a while to load, and nothing else needs it.
    from .screen import Top  # noqa: PLC0415

    Top(path, rates, interval).run()
    return ExitCode.OK
