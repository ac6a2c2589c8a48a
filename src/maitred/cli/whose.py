"""
Which of the services on this machine a command asks: said alike for every command.

Invariant: --control names a socket and is asked whatever else is said; without it the
service is found by its name, or as the only one.
"""

from __future__ import annotations

from typing import Final

import click

from .sources import VARIABLE

WHOSE: Final = (
    click.Option(
        ["--name"],
        default="",
        metavar="NAME",
        envvar=f"{VARIABLE}NAME",
        help="The service to ask, as `maitred list` calls it, where there are several.",
    ),
    click.Option(
        ["--control"],
        default="",
        metavar="PATH",
        envvar=f"{VARIABLE}CONTROL",
        help="The control socket of the service to ask.",
    ),
)
