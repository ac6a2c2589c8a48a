"""
Hearing from a framework itself of the sessions it makes.

Some frameworks name a new session only where nobody can look: deep in a page that may
be compressed. A hook follows the constructor of the framework's session, and the
name is claimed when the session is made, before any answer can contain it.

Invariant: a hook changes nothing of what the framework does.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from maitred.errors import AppFailed
from maitred.routing import Affinity

from .keys import OwnKeys

HOOKS: Final = {
    "panel": ("bokeh.server.session", "ServerSession"),
    "bokeh": ("bokeh.server.session", "ServerSession"),
}
"By affinity: module and class of the sessions, each of which has an ``id``."


def install(affinities: Sequence[Affinity], keys: OwnKeys) -> None:
    """
    Claim the names of the sessions that the frameworks of *affinities* make.

    Raises:
        AppFailed: The framework is not installed.
    """
    for affinity in affinities:
        if affinity.name in HOOKS:
            module, name = HOOKS[affinity.name]
            try:
                made = getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError) as exc:
                raise AppFailed(
                    f"--affinity {affinity.name} needs {module}.{name}: {exc}", ""
                ) from exc
            follow(made, functools.partial(_claim, affinity, keys))


def follow(sessions: Any, heard: Callable[[str], None]) -> None:
    """Call *heard* with the ``id`` of each object of class *sessions* that is made."""
    make = sessions.__init__

    @functools.wraps(make)
    def made(self: Any, *args: Any, **details: Any) -> None:
        """Make a session, and pass its id on."""
        make(self, *args, **details)
        heard(self.id)

    sessions.__init__ = made


def _claim(affinity: Affinity, keys: OwnKeys, session: str) -> None:
    keys.made(affinity.key_of(session.encode()))
