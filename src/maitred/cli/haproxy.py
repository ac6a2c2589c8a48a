"""
``maitred haproxy``: print what HAProxy in front of several machines has to be told.

Invariant: the affinities are those that ``maitred serve`` would be given here.
"""

from __future__ import annotations

import os

import click

from maitred.config import Settings
from maitred.haproxy import configuration, place

from .options import CONFIG
from .sources import gather


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
    default=":80",
    show_default=True,
    help="Where clients connect, in HAProxy's words.",
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
@CONFIG
def haproxy(
    machines: tuple[str, ...],
    peers: tuple[str, ...],
    bind: str,
    agent_port: int,
    affinity: tuple[str, ...],
    config: str | None,
) -> None:
    """
    Print a configuration of HAProxy for several machines.

    Each runs a maitred; HAProxy sends a session to the machine that has it, by the same
    name as maitred goes by. See docs/howto/haproxy.md.
    """
    said = gather({"affinity": affinity}, os.environ, file=config)
    values = {name: each.value for name, each in said.items()}
    text = configuration(
        [place("--machine", each) for each in machines],
        [place("--peer", each) for each in peers],
        values.get("affinity", ()),
        bind=bind,
        ttl=values.get("key_ttl", Settings.__dataclass_fields__["key_ttl"].default),
        agent_port=agent_port,
    )
    click.echo(text, nl=False)
