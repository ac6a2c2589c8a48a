"""
What a sniffer answers. Pure.

A sniffer is a function of the bytes seen so far. Its contract, which one test
suite holds against every sniffer: the answer is the same for every way of cutting
the bytes; it is NeedMore until the deciding byte and never after; it never changes;
no bytes make it raise.
"""

from __future__ import annotations

from typing import NamedTuple


class NeedMore(NamedTuple):
    """These bytes decide nothing yet."""


class Match(NamedTuple):
    """
    The connection may be placed.

    ``key`` is what it is placed by; None when it names nothing. ``learned`` says
    that keys of this kind are made by the server: one that was never claimed is
    not remembered. ``others`` are keys that a framework could read in its stead: who
    serves the request owns them too.
    """

    key: bytes | None
    learned: bool = False
    others: tuple[bytes, ...] = ()


class NoMatch(NamedTuple):
    """The connection is answered with HTTP ``status``; ``cause`` is counted."""

    status: int
    cause: str


Verdict = NeedMore | Match | NoMatch

NEED_MORE = NeedMore()
