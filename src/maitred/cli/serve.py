"""
``maitred serve``: from options to settings, then the master.

Invariant: what an option is stands in ``options``; its default, in ``Settings``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from maitred import failpoints, logs, sandbox, titles
from maitred.config import NOWHERE, Settings
from maitred.cpus import usable
from maitred.errors import ExitCode, SystemRefused
from maitred.master import Master, arrive
from maitred.no_new_privs import gain_no_privileges

from .effective import DEFAULT, effective
from .options import CONFIG, OPTIONS, OTHER_WORDS, make
from .pidfile import PidFile
from .privileges import become
from .sources import TARGET, read_environment, unknown_variables
from .watching import watched
from .without_root import try_access


def serving(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Return *callback* with the arguments and options of ``maitred serve``."""
    for name in reversed(tuple(OPTIONS)):
        callback = make(name)(callback)
    for add in (*OTHER_WORDS, CONFIG, click.argument(TARGET, required=False)):
        callback = add(callback)
    return callback


@click.command()
@serving
def serve(**options: Any) -> ExitCode:
    """
    Serve the ASGI application TARGET, as in `maitred serve app:app`.

    TARGET is module:attribute, found from the current directory. TERM, INT and QUIT
    drain the workers and stop, a second one stops now; HUP reloads, as `maitred reload`
    does; USR2 upgrades the master, as `maitred upgrade` does; USR1 opens --log-file
    anew; TTIN and TTOU have one worker more or less, as `maitred scale` does. Settings
    may stand in maitred.toml and elsewhere: see `maitred config`.
    """
    past = arrive()
    # An upgrade brings another program, a reload brings other settings.
    settings = (past and past.settings) or settings_of(**options)
    if settings.umask:
        os.umask(int(settings.umask, 8))
    if settings.env_file and past is None:  # what it said then is in the environment
        read_environment(settings.env_file)
    if settings.sandbox and (lack := sandbox.lack()):
        raise SystemRefused(f"--sandbox: {lack}; leave it out, or use a newer kernel")
    role = "rehearsal" if past is not None and past.rehearsal else "master"
    titles.show(f"{role} {titles.served(settings.target)}", settings.name)
    logs.begin(settings, "master")
    for sentence in unknown_variables(os.environ):
        logs.master.warning("%s", sentence)
    if failpoints.arm(os.environ):
        logs.master.warning("%s is set: tests make us fail", failpoints.VARIABLE)
    # An affinity of the user's own is found where the application is.
    sys.path.insert(0, os.path.abspath(settings.code))
    if settings.user:  # where it is by default depends on who asks
        options["control"] = settings.control
    read = partial(settings_of, **options)
    master = Master(settings, past, read=read)
    with contextlib.ExitStack() as stack:
        if settings.pid and not (past and past.rehearsal):
            stack.enter_context(PidFile(settings.pid, written=past is not None))
        if past is None:  # all of this survives an upgrade
            _give_up_rights(settings, read)
        if settings.reload and not (past and past.rehearsal):
            stack.enter_context(watched(settings.reload_dir or (settings.code,)))
        # Last, because a start that is refused prints one sentence and no more.
        _log_workers(is_start=past is None, **options)
        return asyncio.run(master.run())


def _log_workers(*, is_start: bool, **options: Any) -> None:
    """Log how many workers there are, and why, if nobody has chosen the number."""
    if not is_start:  # the file may say something else by now
        return
    settings, origins = effective(**options)
    if origins["workers"] == DEFAULT and not settings.attach:
        reason = usable().reason
        logs.master.info("%d workers, by %s", settings.workers, reason)


def _give_up_rights(settings: Settings, read: Callable[[], Settings]) -> None:
    """Become the user of the settings, for good, and check that this is enough."""
    if settings.user or settings.group:
        ours = {settings.control, settings.log_file} - {"", NOWHERE}
        become(settings.user, settings.group, *ours)
        try_access(settings, read)
    if not settings.allow_new_privileges:
        gain_no_privileges()


def settings_of(**options: Any) -> Settings:
    """Return the settings of files, the environment and *options*."""
    return effective(**options).settings
