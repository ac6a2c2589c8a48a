"""
``maitred serve``: from options to settings, then the master.

Invariant: what an option is stands in ``options``; its default, in ``Settings``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from maitred import failpoints, logs
from maitred.config import Settings
from maitred.errors import ExitCode
from maitred.master import Master, arrive

from .options import OPTIONS, make


def _all(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Give *callback* an option for every row of OPTIONS."""
    for name in reversed(tuple(OPTIONS)):
        callback = make(name)(callback)
    return callback


@click.command()
@click.argument("target")
@_all
def serve(**options: Any) -> ExitCode:
    """
    Serve the ASGI application TARGET, as in `maitred serve app:app`.

    TARGET is module:attribute, found from the current directory. TERM, INT and QUIT
    drain the workers and stop, a second one stops now; HUP reloads, as `maitred reload`
    does; USR2 upgrades the master, as `maitred upgrade` does.
    """
    past = arrive()
    settings = settings_of(**options)
    logs.configure(settings.log_level)
    if failpoints.arm(os.environ):
        logs.master.warning("%s is set: tests make us fail", failpoints.VARIABLE)
    # An affinity of the user's own is found where the application is.
    sys.path.insert(0, os.path.abspath(settings.app_dir))
    return asyncio.run(Master(settings, past).run())


def settings_of(*, target: str, **said: Any) -> Settings:
    """Make settings of what was *said*; None and () say nothing."""
    decided = {
        name: row.decide() for name, row in OPTIONS.items() if row.decide is not None
    }
    known = {name: value for name, value in said.items() if value not in (None, ())}
    for name in ("certfile", "keyfile"):
        known[name] = tuple(map(os.path.abspath, known.get(name, ())))
    return Settings(target=target, **decided | known)
