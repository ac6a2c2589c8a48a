"""
What an application of another kind than asgi and wsgi may ask of its connection.

    from maitred.connection import current

    async def handler(reader, writer):
        current().claim("cancel", b"...")

Invariant: a claim is in the channel before this returns, so that whoever learns the
name from what is written afterwards, and connects with it, finds this worker.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol


class Connection(Protocol):
    """The connection that the running code serves."""

    peer: tuple[str, int] | None
    "The client's address and port; None on a Unix socket."
    key: bytes
    "What it was placed by, as in `maitred keys`; empty if by nothing."

    def claim(self, field: str, value: bytes) -> None:
        """
        Claim connections in which *field* is *value*: they come to this worker.

        Args:
            field: One of those that the sniffer of --protocol lists in ``made``.
            value: What the application made, and is about to tell its client.
        """

    def release(self, field: str, value: bytes) -> None:
        """Release what was claimed; such connections are placed anew from then on."""


CURRENT: ContextVar[Connection] = ContextVar("maitred.connection")
"Set by the worker, in the task or thread that serves."


def current() -> Connection:
    """
    Return the connection that the running code serves.

    Raises:
        LookupError: The code serves none: no worker of maitred has called it.
    """
    return CURRENT.get()
