"""
``maitred haproxy``: print what HAProxy in front of several machines has to be told.

Invariant: the affinities are those that ``maitred serve`` would be given here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

import click

from maitred.config import HTTP, Settings, spoken
from maitred.haproxy import configuration, place

from .options import CONFIG
from .sources import gather

READ: Final = (
    *("affinity", "protocol", "kind", "exec", "certfile", "key_ttl", "head_timeout"),
)
"Settings of the service that HAProxy has to go by."
DEFAULTS: Final[Mapping[str, Any]] = {f.name: f.default for f in fields(Settings)}


@click.command()
@click.option(
    "--machine",
    "machines",
    metavar="NAME=HOST:PORT",
    multiple=True,
    help="A machine, and where its maitred listens with --proxy-protocol required. May"
    " be given several times.",
)
@click.option(
    "--peer",
    "peers",
    metavar="NAME=HOST:PORT",
    multiple=True,
    help="One of several HAProxies, and where it tells the others which machine has"
    " which session. May be given several times.",
)
@click.option(
    "--bind",
    metavar="ADDR",
    default="",
    help="Where clients connect, in HAProxy's words.  [default: the usual port of the"
    " protocol, :80 for HTTP]",
)
@click.option(
    "--agent-port",
    type=click.IntRange(0, 0xFFFF),
    default=0,
    metavar="PORT",
    help="Where each machine answers the agent check, the port of its --agent."
    "  [default: no agent check]",
)
@click.option(
    "--affinity",
    metavar="SPEC",
    multiple=True,
    help="As given to maitred serve.  [default: what the settings say]",
)
@click.option(
    "--protocol",
    metavar="NAME",
    help="As given to maitred serve; raw for its --kind handler, protocol and socket."
    "  [default: what the settings say]",
)
@click.option(
    "--certfile",
    metavar="FILE",
    multiple=True,
    help="As given to maitred serve: TLS then passes through HAProxy, which sees its"
    " host name alone.  [default: what the settings say]",
)
@CONFIG
def haproxy(
    machines: tuple[str, ...],
    peers: tuple[str, ...],
    bind: str,
    agent_port: int,
    affinity: tuple[str, ...],
    protocol: str | None,
    certfile: tuple[str, ...],
    config: str | None,
) -> None:
    """
    Print a configuration of HAProxy for several machines.

    Each runs a maitred; HAProxy sends a session to the machine that has it, by the same
    name as maitred goes by. See docs/howto/haproxy.md.
    """
    given = {"affinity": affinity, "protocol": protocol, "certfile": certfile}
    said = gather(given, os.environ, file=config)
    values = {
        name: said[name].value if name in said else DEFAULTS[name] for name in READ
    }
    speaks = spoken(values["protocol"], values["kind"], exec=values["exec"])
    text = configuration(
        [place("--machine", each) for each in machines],
        [place("--peer", each) for each in peers],
        values["affinity"],
        bind=bind,
        ttl=values["key_ttl"],
        agent_port=agent_port,
        protocol="tls" if speaks == HTTP and values["certfile"] else speaks,
        wait=values["head_timeout"],
    )
    click.echo(text, nl=False)
