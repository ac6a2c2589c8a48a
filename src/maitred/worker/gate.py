"""
The gate of one connection: every request is checked before the server sees it.

Bytes come in from the client and go on to the server inside the worker, one request at
a time. Between two requests the gate reads the next head itself, with the sniffer the
master uses, and decides:

    it belongs here         it passes, then its body, then the gate waits for the answer
    it belongs elsewhere    the connection is given back, with every byte not passed on
    it cannot be read       it is refused
    that is not known       it waits for the master's answer

        between --head--> inside --end of body--> answering --answered--> between
           `-> asking --told--> between
                  `-> closed (given back, refused or upgraded: nothing passes any more)

Invariants: the server never holds more than one request of a connection, so between
two requests nothing of the client's is anywhere but here and in the kernel. What is
given back is every byte since the end of the last request, in order. Sans-IO.

The first of them is checked while it runs: the server says of each request when its
parser begins to read it (``begun``) and when it has read all of it (``ended``). Out of
step is a parser that begins without a request having passed, or ends elsewhere than the
gate does; then the connection is closed before anything else reaches it.

        nothing --a head passes--> due --begun--> open --ended--> nothing
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

from maitred.routing import NeedMore, NoMatch
from maitred.routing.body import Body, body_of
from maitred.routing.http1 import RawHead, sniff_head

from .handshake import is_handshake, without_upgrade


class Stage(Enum):
    """Where a connection stands."""

    BETWEEN = auto()
    ASKING = auto()
    INSIDE = auto()
    ANSWERING = auto()
    CLOSED = auto()


class Reading(Enum):
    """What the server's parser has of the request that passed last."""

    NOTHING = auto()
    DUE = auto()
    OPEN = auto()


# By name in the module: Python finds a member of an enum slowly.
BETWEEN, ASKING, INSIDE, ANSWERING, CLOSED = Stage
NOTHING, DUE, OPEN = Reading


class Elsewhere(NamedTuple):
    """
    A request belongs to another worker: to the one that owns ``key``.

    Where it has no key, any worker may have it; ``may_come_again`` says whether this
    one may, too, or leaves.
    """

    key: bytes
    learned: bool
    may_come_again: bool = True


class Asked(NamedTuple):
    """Whether a request belongs here was asked; ``told`` comes with the answer."""


ANYWHERE: Final = Elsewhere(b"", learned=False, may_come_again=False)
"Where a connection goes whose worker leaves."
AFRESH: Final = Elsewhere(b"", learned=False)
"Where one goes whose client has begun anew: perhaps here again."
MISDIRECTED: Final = NoMatch(421, "misdirected")
"What belongs elsewhere, on a connection that cannot be given back."
HANDSHAKE_BODY: Final = NoMatch(400, "handshake_body")
"A body where frames of a WebSocket would follow."


class Server(Protocol):
    """What stands behind a gate."""

    def belongs(self, head: RawHead) -> Elsewhere | Asked | NoMatch | None:
        """
        Return where a request belongs, or why it is refused; None: here.

        Called again for the same request after a yes.
        """

    def pass_on(self, data: bytes) -> None:
        """Parse *data*, bytes of a request that belongs here."""

    def give_back(self, to: Elsewhere, unread: bytes) -> None:
        """Return the connection to the master, with the bytes not passed on."""

    def refuse(self, status: int, cause: str) -> None:
        """Answer with *status*, count *cause*, and close."""

    def drop(self) -> None:
        """Close without an answer: the request that turned out bad has one."""

    def out_of_step(self) -> None:
        """Close: the parser takes for a request what is none, or has not passed."""


class Gate:
    """Lets requests through that belong here."""

    __slots__ = (
        "_answered",
        "_body",
        "_head",
        "_head_bytes",
        "_instead",
        "_limit",
        "_peer",
        "_speaks_websocket",
        "pending",
        "reading",
        "server",
        "stage",
        "upgrades",
    )

    def __init__(
        self, server: Server, *, peer: bytes, limit: int, websockets: bool = True
    ) -> None:
        """
        Start between two requests.

        Args:
            server: Stands behind the gate. It refers to the gate too, so that whoever
                frees the two has to delete this attribute.
            peer: The client's address as text.
            limit: Bytes a head may have.
            websockets: Whether the server can speak them.
        """
        self.server = server
        self.stage = BETWEEN
        self.reading = NOTHING
        self.pending = b""
        # Whether the last request that passed is the handshake of a WebSocket.
        self.upgrades = False
        self._speaks_websocket = websockets
        self._peer = peer
        self._limit = limit
        # The last head: clients on kept connections often repeat it byte by byte.
        self._head: RawHead | None = None
        self._head_bytes = b""
        # What passes in the place of the head's bytes; None: they do.
        self._instead: bytes | None = None
        self._body: Body
        self._answered = False

    @property
    def idle(self) -> bool:
        """Return whether no request is under way and no byte of the next is here."""
        return self.stage is BETWEEN and not self.pending

    def receive(self, data: bytes) -> None:
        """Check *data* from the client; pass on what may reach the server now."""
        if self.stage is CLOSED:
            return
        if not self.pending:
            self.pending = data
        else:
            self.pending += data
            if b"\n" not in data and len(self.pending) < self._limit:
                return  # no head comes without, and a bad one is told by then
        # Mostly this is one request, and nothing follows.
        if self.stage is not BETWEEN or (self._begin() and self.pending):
            self._advance()

    def look(self) -> None:
        """Check what is in ``pending`` without having come by ``receive``."""
        if self.stage is BETWEEN:
            self._advance()

    def answered(self) -> None:
        """Record that the server has written the whole answer; check what follows."""
        if self.stage is INSIDE:
            self._answered = True  # early: the rest of its body is still to pass
        elif self.stage is ANSWERING:
            self.stage = BETWEEN
            if self.pending:
                self._advance()

    def begun(self) -> bool:
        """Record that the parser begins a request; return whether one has passed."""
        if self.reading is not DUE:
            return False
        self.reading = OPEN
        return True

    def ended(self) -> bool:
        """Record that the parser ends a request; return whether the gate does, too."""
        if self.reading is not OPEN or self.stage is INSIDE:
            return False
        self.reading = NOTHING
        return True

    def told(self, mine: bool) -> None:
        """Check again the request that waits if it is *mine*; refuse it otherwise."""
        # The connection may have ended while the master was asked.
        if self.stage is not ASKING:
            return
        self.stage = BETWEEN
        if mine:
            self._advance()
        else:
            self.take_all()
            self.server.refuse(MISDIRECTED.status, MISDIRECTED.cause)

    def take_all(self) -> bytes:
        """Close the gate and return the bytes that were not passed on."""
        self.stage = CLOSED
        pending, self.pending = self.pending, b""
        return pending

    def _advance(self) -> None:
        """Pass on what is pending, until something has to be waited for."""
        while self.pending:
            stage = self.stage
            if stage is INSIDE:
                self._go_on(0)
            elif stage is not BETWEEN or not self._begin():
                return

    def _begin(self) -> bool:
        """Check the next head; return whether its request has passed."""
        # The same bytes have the same reading.
        if self._head is not None and self.pending.startswith(self._head_bytes):
            head = self._head
        else:
            verdict = sniff_head(self.pending, self._peer, self._limit)
            if isinstance(verdict, NeedMore):
                return False
            if isinstance(verdict, NoMatch):
                self.take_all()
                self.server.refuse(verdict.status, verdict.cause)
                return False
            self._head = head = verdict
            self._head_bytes = self.pending[: head.size]
            self.upgrades, self._instead = False, None
            if head.has(b"\nupgrade:") or self._head_bytes.startswith(b"\r\n"):
                self._settle_bytes(head)
        # Its body would be read as frames, which nobody has checked.
        if self.upgrades and head.length != 0:
            self._turn_away(HANDSHAKE_BODY)
            return False
        elsewhere = self.server.belongs(head)
        if elsewhere is not None:
            self._turn_away(elsewhere)
            return False
        # The parser is still in the request before this one, whose end the gate has
        # seen: it would read this head as a part of that.
        if self.reading is not NOTHING:
            self.take_all()
            self.server.out_of_step()
            return False
        self._answered = False
        self.reading = DUE
        size = head.size
        if self._instead is not None:
            self.pending = self._instead + self.pending[size:]
            size = len(self._instead)
        if head.length == 0:
            self.stage = ANSWERING
            pending = self.pending
            self.pending = pending[size:]
            self.server.pass_on(pending[:size] if self.pending else pending)
        else:
            self.stage = INSIDE
            self._body = body_of(head)
            self._go_on(size)
        return True

    def _settle_bytes(self, head: RawHead) -> None:
        """Decide what passes for *head*: no empty line first, no offer to upgrade."""
        data = self._head_bytes
        if data.startswith(b"\r\n"):  # h11 takes it for an error
            self._instead = data = data.removeprefix(b"\r\n")
        if head.has(b"\nupgrade:"):
            self.upgrades = self._speaks_websocket and is_handshake(head, data)
            if not self.upgrades:
                self._instead = without_upgrade(data)

    def _turn_away(self, elsewhere: Elsewhere | Asked | NoMatch) -> None:
        """Return, hold or refuse a request that is not known to belong here."""
        if isinstance(elsewhere, Elsewhere):
            self.server.give_back(elsewhere, self.take_all())
        elif isinstance(elsewhere, Asked):
            self.stage = ASKING
        else:
            self.take_all()
            self.server.refuse(elsewhere.status, elsewhere.cause)

    def _go_on(self, start: int) -> None:
        """Pass on the request up to its end, or all there is of it."""
        body, pending = self._body, self.pending
        end = start + (
            body.take(pending[start:] if start else pending) if not body.done else 0
        )
        self.pending = pending[end:]
        if body.bad:
            self.take_all()
            # A second answer would be taken for that to the next request.
            if self._answered:
                self.server.drop()
            else:
                self.server.refuse(400, "bad_body")
            return
        if body.done:
            self.stage = BETWEEN if self._answered else ANSWERING
        self.server.pass_on(pending[:end] if self.pending else pending)
