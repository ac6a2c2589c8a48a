"""
The acceptors that hand this worker connections, and how each is told what.

There is always the master, number 0. Where there are several acceptors, it sends the
ends of the channels to the others.

Invariants: what concerns a connection is said to the acceptor that handed it over, what
concerns a key to the key's home. Before another acceptor is heard, the master is: what
it had said before the other one acted on it comes first. The connections of an acceptor
that is gone are the master's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from maitred import logs
from maitred.errors import (
    ChannelClosed,
    ChannelError,
    ChannelRefused,
    DescriptorsLost,
    MessageTooLarge,
    PeerMisbehaved,
)
from maitred.routing import Homes
from maitred.wire import MAX_PACKET, Channel
from maitred.wire.messages import (
    FROM_MASTER,
    FROM_WORKER,
    Closed,
    Handoff,
    Have,
    Reason,
    Refused,
    Return,
    Taken,
)
from maitred.wire.messages import Link as LinkSaid

from .visits import LinkedVisit

SAY_TIMEOUT: Final = 10.0
"Seconds to wait for room in the channel; the master reads all the time, or is ill."
SHORT_TIMEOUT: Final = 3.0
"The same for another acceptor, without which this worker goes on."
MOST_IDS: Final = 1000
"Connections in one packet, where nothing but their ids is said."
MOST_RETURNS: Final = 64
RECORD: Final = 256
"Bytes of a packet for a RETURN, its addresses included; key and bytes come on top."

Sent = Callable[[], None]


class Link:
    """The channel to one acceptor, and what was not sent on it yet."""

    __slots__ = (
        "_closed",
        "_on_failure",
        "_taken",
        "channel",
        "index",
        "is_done",
        "is_gone",
        "loop",
        "returned",
        "visits",
    )

    loop: asyncio.AbstractEventLoop

    def __init__(
        self, channel: Channel, index: int, on_failure: Callable[[Link], None]
    ) -> None:
        """
        Start with nothing to send; ``Links`` closes *channel*.

        Args:
            channel: Our end.
            index: The acceptor's number; 0 is the master.
            on_failure: Called once, when a message cannot be sent.
        """
        self.channel = channel
        self.index = index
        self.is_gone = False
        # Whether it said DRAIN: nothing new comes from there.
        self.is_done = False
        # The connections from there; not those of the master, with whom we end.
        self.visits: set[LinkedVisit] = set()
        self._on_failure = on_failure
        # Ids that it has yet to be told of.
        self._taken: list[int] = []
        self._closed: list[int] = []
        # Connections that it has yet to be given, and whom to tell when it has them.
        self.returned: list[tuple[LinkedVisit, Return, Sent]] = []

    def say(self, *messages: Any) -> None:
        """
        Send *messages*, in order with all else; block while the channel has no room.

        If they cannot be sent, the acceptor counts as gone: *on_failure* is called, and
        nothing more is sent.
        """
        if self.is_gone:
            return
        try:
            timeout = SHORT_TIMEOUT if self.index else SAY_TIMEOUT
            self.channel.send(*messages, timeout=timeout)
        except (ChannelError, TimeoutError) as exc:
            # These two are faults of the system or of ours; otherwise the acceptor has
            # gone, as each does some time.
            refused = isinstance(exc, (ChannelRefused, MessageTooLarge))
            (logs.worker.error if refused else logs.worker.debug)(
                "acceptor %d does not hear us: %s", self.index, exc
            )
            self.is_gone = True
            self._on_failure(self)

    def say_taken(self, id_: int) -> None:
        """Schedule TAKEN for connection *id_*, which was read from."""
        self._answer_soon()
        self._taken.append(id_)

    def say_closed(self, id_: int) -> None:
        """Schedule CLOSED for connection *id_*, which is over."""
        self._answer_soon()
        self._closed.append(id_)

    def give_back(self, visit: LinkedVisit, said: Return, sent: Sent) -> None:
        """
        Schedule the RETURN *said* of *visit*; *sent* is called when it is sent.

        Until then the descriptor is open here, and the connection may be looked at.
        """
        self._answer_soon()
        self.returned.append((visit, said, sent))

    def take_over(self, other: Link) -> None:
        """
        Move the connections of *other*, which is gone, here, and its unsent RETURNs.

        The acceptor at this link learns by HAVE which connections those are.
        """
        ids = []
        for visit in other.visits:
            visit.move(self)
            ids.append(visit.id)
        other.visits.clear()
        for start in range(0, len(ids), MOST_IDS):
            self.say(*[Have(id_) for id_ in ids[start : start + MOST_IDS]])
        for returned in other.returned:
            self.give_back(*returned)
        other.returned.clear()

    def answer(self) -> None:
        """Send TAKEN, CLOSED and RETURN for all that is scheduled, in this order."""
        taken, self._taken = self._taken, []
        closed, self._closed = self._closed, []
        if taken:
            self.say(*[Taken(id_) for id_ in taken])
        if closed:
            self.say(*[Closed(id_) for id_ in closed])
        for batch in packets([message for _, message, _ in self.returned]):
            self.say(*batch)
            if self.is_gone and self.index:
                return  # the master gets what is left
            for visit, _, sent in self.returned[: len(batch)]:
                self.visits.discard(visit)
                sent()
            del self.returned[: len(batch)]

    def _answer_soon(self) -> None:
        # The application's task is created after this returns and runs after what is
        # scheduled here; connections that become readable together share a packet.
        if not self._taken and not self._closed and not self.returned:
            self.loop.call_soon(self.answer)


class Links:
    """The channels to all acceptors, by their numbers."""

    def __init__(
        self,
        channel: Channel,
        *,
        heed: Callable[[Link, list[Any]], None],
        on_master_gone: Callable[[], None],
        on_lost: Callable[[int], None],
        make_room: Callable[[], None],
    ) -> None:
        """
        Start with the master alone; *channel* is our end of the one to it.

        Args:
            channel: Our end.
            heed: Called with the link and the messages that came on it together.
            on_master_gone: Called once, when the master is gone.
            on_lost: Called with the number of another acceptor that is gone.
            make_room: Called when there was no descriptor for what came.
        """
        self.homes = Homes()
        self._heed = heed
        self._on_master_gone = on_master_gone
        self._on_lost = on_lost
        self._make_room = make_room
        self._at_limit = logs.Seldom()
        self._loop: asyncio.AbstractEventLoop
        self.master = Link(channel, 0, self._on_failure)
        self._links = {0: self.master}

    def __iter__(self) -> Any:
        return iter(list(self._links.values()))

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read from the master from now on; handle what it has sent already."""
        self._loop = self.master.loop = loop
        loop.add_reader(self.master.channel.fileno(), self._on_readable, self.master)
        self._hear(self.master)

    def add(self, said: LinkSaid) -> Link:
        """Add the channel to one more acceptor; close the one it takes the place of."""
        # An acceptor that was started again has the number of the one that died.
        if (before := self._links.get(said.number)) is not None:
            self.lose(before)
        self.homes = Homes(said.of, said.hash_key)
        sock = socket.socket(fileno=said.channel.detach())
        channel = Channel(sock, sends=FROM_WORKER, receives=FROM_MASTER)
        link = self._links[said.number] = Link(channel, said.number, self._on_failure)
        link.loop = self._loop
        self._loop.add_reader(sock.fileno(), self._on_readable, link)
        return link

    def drop(self) -> None:
        """Close our copies of all ends; called in a child that was forked."""
        for link in self:
            link.channel.close()

    def say_of(self, key: bytes, message: Any) -> bool:
        """Send *message* to the home of *key*; return whether that one is there."""
        link = self._links.get(self.homes.of(key))
        if link is None:  # it hears of all our keys when it is there again
            return False
        link.say(message)
        return not link.is_gone

    def lose(self, link: Link) -> None:
        """
        Close the channel to another acceptor, after handling all that it has sent.

        Its connections are the master's from then on. Nothing is done for the master's
        own link, nor for one that was closed before.
        """
        if self._links.get(link.index) is not link or not link.index:
            return
        link.is_gone = True
        self._hear(link)
        del self._links[link.index]
        self._loop.remove_reader(link.channel.fileno())
        link.channel.close()
        self.master.take_over(link)
        self._on_lost(link.index)

    def _on_readable(self, link: Link) -> None:
        if link.index:
            # See the invariants: the other may act on what the master has said.
            self._hear(self.master)
            if self._links.get(link.index) is not link:
                return  # the master has put another in its place, just now
        if not self._hear(link) and link.index:
            self.lose(link)

    def _hear(self, link: Link) -> bool:
        """Handle what *link* has sent; return whether its channel is still open."""
        try:
            while messages := link.channel.receive_nowait():
                self._heed(link, messages)
        except DescriptorsLost as exc:
            self._make_room()
            if self._at_limit.is_due():
                logs.worker.warning("connections were refused: %s", exc)
            # Each is answered, because the acceptor has kept its copy for that case.
            if isinstance(exc.messages[0], Handoff):
                link.say(*(Refused(m.id, Reason.NO_DESCRIPTOR) for m in exc.messages))
        except (ChannelClosed, PeerMisbehaved) as exc:
            # A channel that has merely ended is how acceptors leave.
            is_news = isinstance(exc, (PeerMisbehaved, ChannelRefused))
            if is_news and not link.is_gone:
                logs.worker.error("leaving acceptor %d: %s", link.index, exc)
            link.is_gone = True
            if not link.index:
                self._master_gone()
            return False
        return True

    def _on_failure(self, link: Link) -> None:
        if link.index:
            # Soon, because ``answer`` may be sending what ``lose`` takes away.
            self._loop.call_soon(self.lose, link)
        else:
            self._master_gone()

    def _master_gone(self) -> None:
        self._loop.remove_reader(self.master.channel.fileno())
        self._on_master_gone()


def packets(messages: Sequence[Return]) -> Iterator[Sequence[Return]]:
    """Yield *messages* in as few pieces as there must be for each to fit a packet."""
    start = size = 0
    for end, message in enumerate(messages):
        more = RECORD + len(message.key) + len(message.unread) + len(message.frozen)
        if end - start == MOST_RETURNS or (end > start and size + more > MAX_PACKET):
            yield messages[start:end]
            start, size = end, 0
        size += more
    if messages:
        yield messages[start:]
