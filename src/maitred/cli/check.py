"""``maitred check``: whether a start would succeed, without one."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from typing import Any

import click

from maitred import logs, sandbox
from maitred.errors import AppFailed, SystemRefused
from maitred.master import checking
from maitred.no_new_privs import gain_no_privileges

from .privileges import become
from .serve import serving, settings_of
from .sources import read_environment, unknown_variables
from .without_root import try_access


@click.command()
@serving
def check(**options: Any) -> None:
    """
    Load all that `maitred serve` would, and serve nothing.

    Takes what `maitred serve` takes: settings, files, keys, certificates and affinities
    are read as by a master, and the application is loaded as by a worker, in a process
    of its own. Its lifespan does not run, because that may change something, and
    nothing is listened on, so it may be asked while the service runs. Exits as a start
    would, with the same sentence.
    """
    settings = settings_of(**options)
    if settings.env_file:
        read_environment(settings.env_file)
    if settings.sandbox and (lack := sandbox.lack()):
        raise SystemRefused(f"--sandbox: {lack}; leave it out, or use a newer kernel")
    logs.begin(replace(settings, log_file=""), "master")
    for sentence in unknown_variables(os.environ):
        logs.master.warning("%s", sentence)
    sys.path.insert(0, os.path.abspath(settings.code))
    keys = checking.look(settings)
    if settings.user or settings.group:
        become(settings.user, settings.group)
        # There is no control socket that the admin process could need.
        try_access(replace(settings, admin="", admin_token_file=""), lambda: None)
        partial(settings_of, **options)()
    if not settings.allow_new_privileges:
        gain_no_privileges()
    try:
        checking.load(settings, keys)
    except AppFailed as failure:
        if failure.traceback:
            logs.flush()
            click.echo(failure.traceback.rstrip("\n"), err=True)
        raise
    logs.flush()
    served = settings.target or "the service"
    left_out = ""
    if not (settings.exec or settings.attach):
        left_out = "; its lifespan was not run"
    click.echo(f"{served} can be served: all that a start needs was loaded{left_out}")
