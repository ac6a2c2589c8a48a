"""
The way to the other acceptors: a connection goes to the home of its key.

    PASS     connections, a batch in a packet; whoever sent them has them no more
    CREDIT   how many of those that came may be followed by others

Every acceptor has a channel to every other one. A connection that is to be passed on
waits in a queue for its home, under a deadline and a count, while that one is being
replaced or is overloaded.

Invariants: a key is looked up, remembered and forgotten at its home alone. No acceptor
has more than WINDOW connections on their way to another one, so that a channel never
holds more than the kernel has room for. A connection is passed on once: at its home it
stays.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from maitred import logs
from maitred.acceptor.connection import RECORD, Connection
from maitred.acceptor.counters import Counters
from maitred.acceptor.deadlines import SWEEP, extend_deadlines
from maitred.errors import (
    ChannelClosed,
    ChannelFull,
    ChannelRefused,
    DescriptorsLost,
    MessageTooLarge,
    PeerMisbehaved,
)
from maitred.routing import Homes
from maitred.routing.affinity import named_slot
from maitred.wire import MAX_PACKET, U8, U16, U32, U64, Blob, Channel, Passed

WINDOW: Final = 256
"Connections on their way to another acceptor, at most."
OWED: Final = WINDOW // 2
"As many that came are owed a CREDIT: in time for the other's window not to be empty."
BATCH: Final = 64
PACKETS_AT_ONCE: Final = 64
RETRY_SEND: Final = 0.01


class Pass(NamedTuple):
    """A connection whose key has its home there; fields as in ``Connection``."""

    connection: Passed
    id: U64
    peer: Blob
    peer_port: U16
    local: Blob
    local_port: U16
    key: Blob
    learned: U8
    consumed: Blob
    position: U64
    written: U64
    seen: U32
    attempts: U8
    giver: U32
    hops: U16
    frozen: Blob


class Credit(NamedTuple):
    """The sender takes as many *more*."""

    more: U32


WORDS: Final = {1: Pass, 2: Credit}
"The messages between acceptors: number to message."


class Peer:
    """Another acceptor: the channel to it, and the connections that wait for it."""

    def __init__(self) -> None:
        """Start without a channel."""
        self.channel: Channel | None = None
        # What is to be passed to it; owned here until it is sent.
        self.queue: deque[Connection] = deque()
        # How many more it takes, and how many CREDITs we owe it for what came.
        self.credit = 0
        self.owed = 0
        self.sent = 0

    def meet(self, channel: Channel | None) -> None:
        """
        Close the channel, if there is one, and use *channel*; None: there is none.

        The queue stays: what waits goes to whoever comes next.
        """
        if self.channel is not None:
            self.channel.close()
        self.channel = channel
        # Counts begin anew, because the window is that of one channel.
        self.credit, self.owed = (0 if channel is None else WINDOW), 0

    @property
    def is_stirred(self) -> bool:
        """Whether a message can be sent now."""
        may_pass = self.queue and self.credit
        return self.channel is not None and bool(may_pass or self.owed >= OWED)

    def send(self, *, congested: bool) -> None:
        """
        Send what waits, as far as there is credit; unless *congested*, CREDIT too.

        Raises:
            ChannelFull: Try again soon. What was not sent stays in the queue.
            ChannelClosed: The acceptor is gone; likewise.
        """
        assert self.channel is not None
        while self.queue and self.credit:
            batch = self._batch()
            self.channel.send_nowait(*[said(connection) for connection in batch])
            for connection in batch:
                self.queue.popleft()
                # Closed and not ended, because the receiver has it from now on.
                connection.close()
            self.credit -= len(batch)
            self.sent += len(batch)
        # No CREDIT while we are congested, because what came would only wait here; it
        # waits at its sender, under a deadline and a count.
        if self.owed >= OWED and not congested:
            self.channel.send_nowait(Credit(self.owed))
            self.owed = 0

    def _batch(self) -> list[Connection]:
        """Return the first of the queue, as many as fit one packet and the credit."""
        batch = list(itertools.islice(self.queue, min(BATCH, self.credit)))
        size = 0
        for count, connection in enumerate(batch):
            size += RECORD + connection.luggage
            # The first is always in, because one alone always fits (MOST_LUGGAGE).
            if count and size > MAX_PACKET:
                return batch[:count]
        return batch


class Mesh:
    """Passes connections to the homes of their keys, and receives those that come."""

    def __init__(
        self,
        number: int,
        homes: Homes,
        *,
        remembers: bool,
        most: int,
        wait_timeout: float,
        refuse: Callable[[Connection, int, str], None],
        counters: Counters,
    ) -> None:
        """
        Start without a channel to any acceptor; needs a running loop.

        Args:
            number: The number of this acceptor.
            homes: Computes the home of a key.
            remembers: Whether the policy remembers what the client names; if not, such
                a key has no home, and is placed wherever it comes.
            most: How many may wait for one acceptor.
            wait_timeout: Seconds they wait at most.
            refuse: Called with a connection, a status and a cause; owns the connection
                from then on.
            counters: Where to count.
        """
        self._number = number
        self._homes = homes
        self._remembers = remembers
        self._most = most
        self._wait_timeout = wait_timeout
        self._refuse = refuse
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._peers = {other: Peer() for other in range(homes.count) if other != number}
        # Those to whom a message may have to be sent.
        self._stirred: set[Peer] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._at_limit = logs.Seldom()
        self._closing = False
        self._dispatch: Callable[[Connection], None]
        self._settle: Callable[[], None]
        self._congested: Callable[[], bool]
        self._make_room: Callable[[], bool]

    def connect(
        self,
        *,
        dispatch: Callable[[Connection], None],
        settle: Callable[[], None],
        congested: Callable[[], bool],
        make_room: Callable[[], bool],
    ) -> None:
        """
        Connect the other parts of this acceptor; called once, before any ``meet``.

        Args:
            dispatch: Called with each connection that came; owns it from then on.
            settle: Called after a batch of these.
            congested: Returns whether there is no room for more.
            make_room: Closes a descriptor that can be missed; returns whether there
                was one.
        """
        self._dispatch = dispatch
        self._settle = settle
        self._congested = congested
        self._make_room = make_room

    @property
    def waiting(self) -> int:
        """How many connections wait to be passed on."""
        return sum(len(peer.queue) for peer in self._peers.values())

    def meet(self, number: int, channel: Channel) -> None:
        """
        Take over *channel*, the way to acceptor *number* from now on.

        What the acceptor before it has sent is read first, because those connections
        are nobody else's.
        """
        peer = self._peers[number]
        while self._hear(peer):
            pass
        self._part(peer)
        peer.meet(channel)
        self._loop.add_reader(channel.fileno(), self._on_channel, peer)
        self._stir(peer)
        self._settle()

    def takes(self, connection: Connection) -> bool:
        """
        Take over *connection* if its key's home is elsewhere; return whether it is.

        Then it waits for that acceptor, or is refused.
        """
        key = connection.key
        # Such a key has no home, because it stands in no table: it is placed where it
        # comes in.
        if key is None or not (self._remembers or connection.learned):
            return False
        home = self._homes.of(key)
        # A key that names its slot has nothing to be looked up.
        if home == self._number or named_slot(key) is not None:
            return False
        peer = self._peers[home]
        # Nothing is waited for, because no acceptor is replaced while the service
        # stops.
        if self._closing and peer.channel is None:
            self._refuse(connection, 503, "stopping")
        elif len(peer.queue) >= self._most:
            self._refuse(connection, 503, "no_worker")
        else:
            connection.deadline = self._loop.time() + self._wait_timeout
            peer.queue.append(connection)
            self._stir(peer)
        return True

    def flush(self) -> None:
        """Send what there is to send."""
        for peer in tuple(self._stirred):
            self._flush(peer)

    def close(self) -> None:
        """Answer with 503 what waits, and later what cannot be passed on at once."""
        self._closing = True
        self.flush()
        for peer in self._peers.values():
            while peer.queue:
                self._refuse(peer.queue.popleft(), 503, "stopping")
        for timer in (self._sweeping, self._retry):
            if timer is not None:
                timer.cancel()
        self._sweeping = self._retry = None

    def leave(self) -> None:
        """Close the channels to all others, after ``close``."""
        self.close()
        for peer in self._peers.values():
            self._part(peer)

    def _part(self, peer: Peer) -> None:
        if peer.channel is not None:
            self._loop.remove_reader(peer.channel.fileno())
            peer.meet(None)

    def _stir(self, peer: Peer) -> None:
        self._stirred.add(peer)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(SWEEP, self._sweep)

    def _flush(self, peer: Peer) -> None:
        before = peer.sent
        try:
            if peer.is_stirred:
                peer.send(congested=self._congested())
        except ChannelFull:
            if self._retry is None:
                # A timer and not a writer, because at some limits (descriptors in
                # flight, kernel memory) the channel is writable and refuses all the
                # same.
                self._retry = self._loop.call_later(RETRY_SEND, self._try_again)
        except (ChannelRefused, MessageTooLarge) as exc:
            assert peer.channel is not None
            logs.master.error("another acceptor is left: %s", exc)
            peer.channel.hang_up()  # of which both ends hear
        except ChannelClosed:
            pass  # its end is heard in order; what it did not take waits for the next
        finally:
            self._counters.passed += peer.sent - before
        if not peer.is_stirred:
            self._stirred.discard(peer)

    def _try_again(self) -> None:
        self._retry = None
        self.flush()

    def _sweep(self) -> None:
        """Answer with 503 whoever has waited for longer than the wait timeout."""
        now = self._loop.time()
        queues = (peer.queue for peer in self._peers.values())
        # Because nobody could be passed on while this process stood still.
        extend_deadlines(self._sweeping, now, queues)
        self._sweeping = None
        for peer in self._peers.values():
            while peer.queue and peer.queue[0].deadline <= now:
                self._refuse(peer.queue.popleft(), 503, "no_worker")
        if self.waiting:
            self._sweeping = self._loop.call_later(SWEEP, self._sweep)
        self._settle()

    def _on_channel(self, peer: Peer) -> None:
        # A bounded number, because others have to have their turn; what is left is
        # reported again, as the reader is level-triggered.
        for _ in range(PACKETS_AT_ONCE):
            if not self._hear(peer):
                break
        self._settle()

    def _hear(self, peer: Peer) -> bool:
        """Read and handle one packet of *peer*; return whether there may be more."""
        if peer.channel is None:
            return False
        try:
            packet = peer.channel.receive_nowait()
        except DescriptorsLost as exc:
            self._lose(peer, exc)
        except ChannelClosed:
            self._part(peer)
        except PeerMisbehaved as exc:
            logs.master.error("another acceptor is left: %s", exc)
            self._part(peer)
        else:
            self._heed(peer, packet)
            return bool(packet)
        return True

    def _heed(self, peer: Peer, packet: list[Any]) -> None:
        if not packet:
            return
        if isinstance(packet[0], Credit):
            peer.credit += sum(message.more for message in packet)
            self._stirred.add(peer)
            return
        self._owe(peer, len(packet))
        now = time.monotonic()
        for message in packet:
            connection = received(message)
            connection.since = now
            self._dispatch(connection)

    def _owe(self, peer: Peer, count: int) -> None:
        self._counters.received += count
        peer.owed += count
        if peer.owed >= OWED:
            self._stirred.add(peer)

    def _lose(self, peer: Peer, exc: DescriptorsLost) -> None:
        """Count what came when we had no descriptor for it, and make room."""
        count = len(exc.messages)
        # Owed all the same, because the sender's window counts whatever it has sent.
        self._owe(peer, count)
        self._counters.lost += count
        while count and self._make_room():
            count -= 1
        if self._at_limit.is_due():
            logs.master.warning(
                "connections passed on by another acceptor were lost: Too many open"
                " files (see ulimit -n)"
            )


def said(connection: Connection) -> Pass:
    """Return the PASS of *connection*, which keeps its descriptor."""
    return Pass(
        connection.sock,
        connection.id,
        connection.peer,
        connection.peer_port,
        *connection.local,
        connection.key or b"",
        int(connection.learned),
        connection.consumed,
        connection.position,
        connection.written,
        connection.seen,
        connection.attempts,
        connection.giver,
        connection.hops,
        connection.frozen,
    )


def received(message: Pass) -> Connection:
    """Return the connection that another acceptor has passed on, with its socket."""
    # Its family is no more than a label here, and to ask for it takes a system call.
    family = socket.AF_INET6 if b":" in message.local else socket.AF_INET
    if not message.local:
        family = socket.AF_UNIX
    connection = Connection(
        socket.socket(
            family, socket.SOCK_STREAM, 0, fileno=message.connection.detach()
        ),
        message.id,
        (message.peer, message.peer_port),
        (message.local, message.local_port),
    )
    connection.key = message.key
    connection.learned = bool(message.learned)
    connection.consumed = message.consumed
    connection.position = message.position
    connection.written = message.written
    connection.seen = message.seen
    connection.attempts = message.attempts
    connection.giver = message.giver
    connection.hops = message.hops
    connection.frozen = message.frozen
    return connection
