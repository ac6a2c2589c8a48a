"""
What a master makes of its settings before it starts anything.

That is the program that a worker is, and what places connections.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, fields

from maitred import logs
from maitred.certificates import server_context
from maitred.config import Settings, WorkerSettings
from maitred.routing import Seal
from maitred.sandbox import confined

from .desk import AnyRouter, router_of
from .workers import PYTHON_WORKER


def command_of(settings: Settings, *arguments: str) -> list[str]:
    """
    Return the command that starts a worker, in its sandbox if it has one.

    Args:
        settings: What the operator wants.
        arguments: Arguments of a worker of ours, besides its settings.
    """
    command = shlex.split(settings.target)
    if not settings.exec:
        told = WorkerSettings(
            **{f.name: getattr(settings, f.name) for f in fields(WorkerSettings)}
            | {"forwarded_allow_ips": settings.forwarded, "workers": settings.slots}
        )
        command = [*PYTHON_WORKER, json.dumps(asdict(told)), *arguments]
    if settings.sandbox:
        write, log_file = settings.sandbox_write, settings.log_file
        return confined(command, write=write, log_file=log_file)
    return command


def checked_router(settings: Settings, seal: Seal) -> AnyRouter:
    """
    Return what places connections; log a warning of what it cannot see.

    Raises:
        UsageError: An affinity, a protocol or a certificate cannot be used.
    """
    router = router_of(settings, seal)
    if settings.certfile:
        # For its mistakes: the workers serve with it.
        server_context(settings.certfile, settings.keyfile)
        hidden = [
            affinity.name
            for affinity in router.affinities
            if not affinity.of_connection
        ]
        if hidden:
            logs.master.warning(
                "affinity %s is inside TLS: a connection is placed before it can be"
                " seen, and a request on the wrong one is answered 421; see"
                " docs/howto/tls.md",
                " ".join(hidden),
            )
    return router
