"""
``maitred serve``: from options to settings, then the master.

Invariant: an option is described once, here; defaults come from ``Settings``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

import click

from maitred import failpoints, logs
from maitred.config import Settings, option
from maitred.control import default_path
from maitred.errors import ExitCode
from maitred.master import Master, arrive
from maitred.placement import POLICIES
from maitred.routing import PRESETS

DEFAULTS: Final = {field.name: field.default for field in fields(Settings)}
POLICY_HELP: Final = "; ".join(
    f"{name}: {policy.about}" for name, policy in POLICIES.items()
)


def _setting(name: str, help_text: str, **details: Any) -> Callable[[Any], Any]:
    """Make the option of setting *name*, with the default that ``Settings`` has."""
    return click.option(
        option(name),
        default=DEFAULTS[name],
        show_default=True,
        help=help_text,
        **details,
    )


@click.command()
@click.argument("target")
@click.option(
    "--bind",
    multiple=True,
    metavar="ADDR",
    help="Where to listen: host:port, [v6]:port, :port (every address), unix:/path,"
    " unix:@name (abstract), or fd://N for an inherited socket. `,proxy` after it is"
    " `--proxy-protocol required` for that one. May be given several times."
    "  [default: 127.0.0.1:8000]",
)
@click.option(
    "--workers",
    type=int,
    default=None,
    metavar="N",
    help="How many worker processes.  [default: one per core]",
)
@_setting(
    "acceptors",
    "How many processes accept connections and find their workers. The first is the"
    " master; more help where one core cannot accept fast enough"
    " (see docs/explanation/acceptors.md).",
    type=int,
    metavar="N",
)
@click.option(
    "--affinity",
    multiple=True,
    metavar="SPEC",
    help="Where a request says which session it belongs to, so that all of a session"
    " reaches one worker: header:NAME, cookie:NAME, query:NAME, path:N (N-th segment,"
    " from 1), host, ip, sni (the name in the TLS hello), none; sticky, a cookie of our"
    " own (sticky:NAME: its name); a preset"
    f" ({', '.join(PRESETS)}); or module:attribute, an Affinity of your own."
    " `,learn` after header:NAME or cookie:NAME says that the server makes the name."
    " Given several times, they are tried in order.  [default: none]",
)
@click.option(
    "--certfile",
    multiple=True,
    metavar="PEM",
    help="Serve TLS, on every listener, with this certificate and its chain. Given"
    " several times, each client is shown the one that has the name it asks for, and"
    " the first if none has.  [default: plain HTTP]",
)
@click.option(
    "--keyfile",
    multiple=True,
    metavar="PEM",
    help="The key of each --certfile, in the same order, without a password."
    "  [default: none]",
)
@_setting(
    "policy",
    f"How a worker is chosen for a session that has none yet. {POLICY_HELP}.",
    type=click.Choice(list(POLICIES)),
)
@_setting("app_dir", "Directory in which TARGET's module is looked for.", metavar="DIR")
@click.option(
    "--exec",
    "exec_",
    is_flag=True,
    help="TARGET is a command to run as the worker, in any language, instead of"
    " module:attribute (see docs/reference/channel.md).",
)
@_setting(
    "loop", "The workers' event loop.", type=click.Choice(["auto", "uvloop", "asyncio"])
)
@_setting(
    "http", "The workers' HTTP parser.", type=click.Choice(["auto", "httptools", "h11"])
)
@_setting("lifespan", "ASGI lifespan.", type=click.Choice(["auto", "on", "off"]))
@click.option("--access-log/--no-access-log", default=True, help="Log every request.")
@_setting("log_level", "How much to log.", type=click.Choice(logs.LEVELS), metavar="L")
@click.option(
    "--control",
    metavar="PATH",
    default=None,
    help="The control socket, on which `maitred status` and `maitred reload` ask."
    "  [default: control.sock in $XDG_RUNTIME_DIR/maitred, for root in /run/maitred]",
)
@_setting(
    "uds_permissions",
    "Who may connect to a unix:/path: the mode of its file, in octal.",
    metavar="MODE",
)
@_setting(
    "proxy_protocol",
    "Whether every connection begins with a PROXY header, version 1 or 2, that names"
    " the client. It is never guessed.",
    type=click.Choice(["off", "required"]),
)
@click.option(
    "--proxy-trust",
    multiple=True,
    metavar="CIDR",
    help="From where a PROXY header is believed; all others are closed. A Unix socket"
    " is trusted. May be given several times.  [default: loopback]",
)
@_setting(
    "forwarded_allow_ips",
    "From where X-Forwarded-For and -Proto are believed: addresses and networks with"
    " commas between, *, or none. Left empty, as uvicorn does (127.0.0.1 and ::1), but"
    " from nowhere if PROXY headers name the clients.",
    metavar="LIST",
)
@_setting("backlog", "Connections the kernel may hold for us.", type=int)
@_setting(
    "window", "Connections handed to a worker and not yet answered for.", type=int
)
@_setting(
    "max_keys", "Sessions remembered; the least recently used goes first.", type=int
)
@_setting("key_ttl", "Seconds a session is remembered after its last use.", type=float)
@_setting(
    "sticky_key_file",
    "Keys that sign our own cookie and stamps, one id:base64 a line, mode 0600; the"
    " first signs, all are believed.  [default: one made at every start]",
    metavar="PATH",
)
@_setting("head_timeout", "Seconds a client has to send a request's head.", type=float)
@_setting("head_limit", "Bytes the head of a request may have.", type=int)
@_setting(
    "max_waiting", "Connections that may wait to be decided or for room.", type=int
)
@click.option(
    "--keep-copies/--no-keep-copies",
    default=True,
    help="Keep a descriptor of every connection that a worker serves, so that those it"
    " has not begun to answer outlive it when it is killed.",
)
@_setting(
    "drain",
    "What the old workers keep at a reload: open requests (connections), or the"
    " sessions they have, until these end or the drain timeout is over (sessions).",
    type=click.Choice(["connections", "sessions"]),
)
@_setting(
    "wait_timeout",
    "Seconds a connection waits for its worker before it gets 503.",
    type=float,
)
@_setting("ready_timeout", "Seconds a worker has to start.", type=float)
@_setting(
    "drain_timeout",
    "Seconds a leaving worker has to finish its connections.",
    type=float,
)
@_setting(
    "grace_period",
    "Seconds between asking a worker to leave and ending it.",
    type=float,
)
@_setting(
    "hang_timeout",
    "Seconds of silence of a worker's event loop after which the worker is aborted, its"
    " stack is logged, and it is replaced; 0: never. A worker that is silent for a"
    " second gets no new connection.",
    type=float,
)
@_setting(
    "surge",
    "How many workers a reload starts at a time. With a number, each takes over when it"
    " is ready, and the next follow when the old ones have left; with `all`, all take"
    " over together, or none.",
    metavar="N|all",
)
@_setting(
    "upgrade_timeout",
    "Seconds new code has, in an upgrade, to show that it can take over.",
    type=float,
)
@_setting("timeout_keep_alive", "Seconds an idle connection is kept open.", type=float)
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


def settings_of(
    *,
    bind: tuple[str, ...],
    certfile: tuple[str, ...],
    keyfile: tuple[str, ...],
    workers: int | None,
    control: str | None,
    exec_: bool,
    **options: Any,
) -> Settings:
    """Make settings of what the command line said."""
    return Settings(
        bind=bind or DEFAULTS["bind"],  # type: ignore[arg-type]
        certfile=tuple(map(os.path.abspath, certfile)),
        keyfile=tuple(map(os.path.abspath, keyfile)),
        workers=len(os.sched_getaffinity(0)) if workers is None else workers,
        control=control or default_path(),
        exec=exec_,
        **options,
    )
