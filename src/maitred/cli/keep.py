"""
``maitred keep``: ``maitred serve`` below a parent that starts it again when it dies.

Invariant: what it takes is what ``serve`` takes, and ``serve`` is given it as it was
written.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from maitred import logs, titles
from maitred.errors import SystemRefused, UsageError
from maitred.master import Keeper, open_admin, open_listeners

from .serve import serve, settings_of

SERVE: Final = (sys.executable, "-P", "-m", "maitred", "serve")
WRITTEN: Final = "maitred.written"
"Where the arguments are as they were written."


class Command(click.Command):
    """A command that records how its arguments were written."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Record *args* as they were written, and parse them."""
        ctx.meta[WRITTEN] = tuple(args)
        return super().parse_args(ctx, args)


@click.pass_context
def run(ctx: click.Context, /, **options: Any) -> int:
    """
    Serve TARGET with a keeper, which starts a master that dies again.

    Takes what `maitred serve` takes. The keeper opens what --bind says and never lets
    go of it: while there is no master, connections wait instead of being refused. TERM,
    INT, QUIT, HUP, USR1, USR2, TTIN and TTOU are passed on to the master.
    """
    settings = settings_of(**options)
    titles.show(f"keeper {titles.served(settings.target)}", settings.name)
    logs.begin(settings, "keeper")
    for bind in settings.bind:
        if bind.startswith("fd://"):
            raise UsageError(
                f"--bind {bind}: whoever passed it keeps it; use `maitred serve`, or an"
                " address"
            )
    listeners = open_listeners(
        settings.bind,
        settings.backlog,
        uds_mode=int(settings.uds_permissions, 8),
    )
    try:
        listeners += open_admin(settings)
    except SystemRefused:
        for listener in listeners:
            listener.close()
        raise
    return Keeper([*SERVE, *ctx.meta[WRITTEN]], listeners).run()


keep = Command("keep", params=serve.params, callback=run, help=run.__doc__)
