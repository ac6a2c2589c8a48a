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
    """Start as the acceptor that ``paper`` describes (plain data)."""

    paper: Blob


class Listen(NamedTuple):
    """Accept from this listener; ``paper`` has what is known of it."""

    sock: Passed
    paper: Blob


class Board(NamedTuple):
    """Keep the scoreboard of a worker whose ATTACH follows."""

    board: Passed
    worker: U32


class Attach(NamedTuple):
    """
    Register a worker, with this channel.

    ``serves`` is 1 if it has been serving, and will tell by CLAIM what keys it has.
    """

    channel: Passed
    worker: U32
    slot: U16
    generation: U32
    serves: U8


class Expect(NamedTuple):
    """Expect the worker to fill its slot; other acceptors may know it before you do."""

    worker: U32


class Promote(NamedTuple):
    """Make the worker fill its slot."""

    worker: U32


class Dismiss(NamedTuple):
    """Hand the worker nothing more; ``quit`` says which farewell it is sent."""

    worker: U32
    quit: U8
    timeout_ms: U32
    give_back: U8


class Detach(NamedTuple):
    """Remove the worker, which is dead and was reaped."""

    worker: U32


class Serve(NamedTuple):
    """Start to serve when your workers have told their keys: the briefing is over."""


class Meet(NamedTuple):
    """Use the way to acceptor ``number``; the acceptor before it is dead."""

    channel: Passed
    number: U16


class Keys(NamedTuple):
    """Use other keys that seal slots; they stand on ``paper``."""

    paper: Blob


class Shut(NamedTuple):
    """Accept what the kernel has let in, then no more."""


class Close(NamedTuple):
    """Answer what waits; place from now on what can be placed at once."""


class Ask(NamedTuple):
    """Run the errand on ``paper`` (errands.py), and send what came of it."""

    question: U32
    paper: Blob


class Up(NamedTuple):
    """Report that every worker that was serving has claimed its keys here."""


class Rest(NamedTuple):
    """Report that nothing is accepted any more, and nothing waits here."""


class Told(NamedTuple):
    """Answer an ASK, or a part of it; ``last`` is 1 in the last part."""

    question: U32
    last: U8
    part: Blob


class Condemn(NamedTuple):
    """Ask to end the worker, which has broken the protocol."""

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
"Messages of the master, by number."
FROM_DEPUTY: Final[Mapping[int, type]] = dict(
    enumerate((Up, Rest, Told, Condemn), start=1)
)
"Messages of a deputy, by number."
