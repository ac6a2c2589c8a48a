"""
What the master and its deputies say to each other.

The master alone supervises. What it does with a worker, it has every deputy do too, by
an order; so each runs the same dispatcher with the same steps in the same order.

    the master says                               a deputy says

    BEGIN, LISTEN ...    what it is, once
    BOARD, ATTACH        there is a worker
    EXPECT, PROMOTE      it fills its slot
    DISMISS, DETACH      it is to leave, is dead
    SERVE                that is all so far       UP       every worker has told me all
    MEET                 another acceptor
    KEYS                 sealing keys anew
    SHUT                 accept no more           REST     nobody waits here any more
    CLOSE                answer those who wait
    ASK                  do an errand             TOLD     what came of it
                                                  CONDEMN  a worker broke the protocol

EXPECT goes to all before PROMOTE goes to anybody. So whoever is told something by a
worker that fills its slot elsewhere, finds in its own channel that it may.

Invariant: both ends are of one version: a deputy is started by its master.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from maitred.wire import U8, U16, U32, Blob, Passed


class Begin(NamedTuple):
    """Be what stands on ``paper`` (plain data)."""

    paper: Blob


class Listen(NamedTuple):
    """Accept from this one; ``paper`` has what is known of it."""

    sock: Passed
    paper: Blob


class Board(NamedTuple):
    """The scoreboard of a worker that follows."""

    board: Passed
    worker: U32


class Attach(NamedTuple):
    """
    There is a worker, with this channel.

    ``serves`` is 1 if it has been serving, and will tell by CLAIM what keys it has.
    """

    channel: Passed
    worker: U32
    slot: U16
    generation: U32
    serves: U8


class Expect(NamedTuple):
    """The worker is about to fill its slot; others may know it before you do."""

    worker: U32


class Promote(NamedTuple):
    """The worker fills its slot."""

    worker: U32


class Dismiss(NamedTuple):
    """The worker gets nothing more; ``quit`` says which farewell it is told."""

    worker: U32
    quit: U8
    timeout_ms: U32
    give_back: U8


class Detach(NamedTuple):
    """The worker is dead, and was reaped."""

    worker: U32


class Serve(NamedTuple):
    """That is all so far."""


class Meet(NamedTuple):
    """The way to acceptor ``number``; whoever was that before is dead."""

    channel: Passed
    number: U16


class Keys(NamedTuple):
    """The keys that seal slots have changed; they stand on ``paper``."""

    paper: Blob


class Shut(NamedTuple):
    """Accept what the kernel has let in, then no more."""


class Close(NamedTuple):
    """Answer whoever waits; place from now on what can be placed at once."""


class Ask(NamedTuple):
    """Do the errand on ``paper`` (errands.py), and say what came of it."""

    question: U32
    paper: Blob


class Up(NamedTuple):
    """Every worker that was serving has told me what keys it has."""


class Rest(NamedTuple):
    """I accept no more, and nobody waits here."""


class Told(NamedTuple):
    """The answer to ASK, or a part of it; ``last`` is 1 in the last part."""

    question: U32
    last: U8
    part: Blob


class Condemn(NamedTuple):
    """The worker has broken the protocol: end it."""

    worker: U32


FROM_MASTER: Final[Mapping[int, type]] = dict(
    enumerate(
        (
            *(Begin, Listen, Board, Attach, Expect, Promote, Dismiss, Detach),
            *(Serve, Meet, Keys, Shut, Close, Ask),
        ),
        start=1,
    )
)
"What the master says: number to message."
FROM_DEPUTY: Final[Mapping[int, type]] = dict(
    enumerate((Up, Rest, Told, Condemn), start=1)
)
"What a deputy says."
