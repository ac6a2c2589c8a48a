"""
Looking at the first bytes of a connection without touching them: the only MSG_PEEK.

Most connections are decided by the first look. The rest wait in an edge-triggered
epoll: a level-triggered one would report the same unconsumed bytes for ever.

Invariants: one absolute deadline for the whole wait, not one per byte. No more than
``most`` wait; the one that has waited longest goes first. Nothing is consumed but a
PROXY header, where the listener demands one, and exactly its bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Protocol

from maitred import logs
from maitred.routing import (
    NEED_MORE,
    FieldsRouter,
    Match,
    NeedMore,
    NoMatch,
    Reply,
    Router,
    TlsRouter,
    Verdict,
)
from maitred.routing.proxy_protocol import (
    LONGEST,
    BadProxyHeader,
    ProxyHeader,
    sniff_proxy,
)
from maitred.upgrade.snapshot import Past, Table

from . import buffers
from .connection import Connection, restored
from .counters import Counters
from .per_source_limit import TOO_MANY
from .rescue import traffic

EVENTS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
PEEK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)
FAILED = "sniffer_failed"
SMALL = 16 * 1024
"Bytes that every receive buffer holds."
NO_MORE_WILL_COME = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Refuse(Protocol):
    """Answers a connection with an HTTP status, counts the cause and closes it."""

    def __call__(self, connection: Connection, status: int, cause: str) -> None:
        """Answer *connection*, which is owned here from now on."""


class Peeker:
    """Peeks until a connection is decided, and passes it on."""

    def __init__(  # noqa: PLR0913 - what becomes of a connection, each by its name
        self,
        router: Router | TlsRouter | FieldsRouter,
        *,
        trusted: Sequence[IPv4Network | IPv6Network] = (),
        timeout: float,
        most: int,
        dispatch: Callable[[Connection], None],
        refuse: Refuse,
        turn_away: Callable[[Connection, str], None],
        settle: Callable[[], None],
        counters: Counters,
    ) -> None:
        """
        Start with no connection waiting; needs a running loop.

        Args:
            router: Decides what each connection is placed by.
            trusted: Networks from which a PROXY header is believed.
            timeout: Seconds a connection has until it is decided.
            most: How many may wait.
            dispatch: Takes over a connection that may be placed.
            refuse: Takes over a connection that is to be answered here.
            turn_away: Takes over one that is to be closed without a word: a client
                that speaks no PROXY may not speak HTTP either.
            settle: Called after a batch of the above.
            counters: Where to count.
        """
        self._router = router
        self._too_large = (
            "hello_too_large" if isinstance(router, TlsRouter) else "head_too_large"
        )
        self._trusted = tuple(trusted)
        self._timeout = timeout
        self._most = most
        self._dispatch = dispatch
        self._refuse = refuse
        self._turn_away = turn_away
        self._settle = settle
        self._counters = counters
        self._failing = logs.Seldom()
        # Says whether the client that a PROXY header named may have one more
        # connection; set by the desk.
        self.admit: Callable[[Connection], bool] = lambda _: True
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        # By descriptor, in the order of their deadlines.
        self._waiting: dict[int, Connection] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._epoll.fileno(), self._on_ready)

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, connection: Connection) -> None:
        """Take over *connection* until it is decided, which it may be at once."""
        if connection.proxy and not self._trusts(connection.peer):
            self._turn_away(connection, "proxy_untrusted")
            return
        if self._look(connection):
            return
        if len(self._waiting) >= self._most:
            self._shed()
        connection.deadline = self._loop.time() + self._timeout
        self._wait(connection)

    def state(self, table: Table) -> list[Any]:
        """Return the connections that wait, for a successor."""
        return [connection.state(table) for connection in self._waiting.values()]

    def restore(self, state: list[Any], past: Past) -> None:
        """Take over the connections that ``state`` wrote, and wait for them."""
        for each in state:
            # Edge-triggered it may be, because a new epoll reports what has come
            # before it was registered.
            self._wait(restored(each, past))

    def _wait(self, connection: Connection) -> None:
        fd = connection.sock.fileno()
        self._waiting[fd] = connection
        self._epoll.register(fd, EVENTS)
        if self._timer is None:
            self._timer = self._loop.call_at(connection.deadline, self._on_deadline)

    def close(self) -> None:
        """Close every connection that waits, and stop. May be called again."""
        if self._epoll.closed:
            return
        for connection in list(self._waiting.values()):
            self._forget(connection)
            connection.end()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, connection: Connection, *, final: bool = False) -> bool:
        """Peek once; return whether *connection* was decided and is no longer ours."""
        if connection.proxy:
            done = self._look_for_proxy(connection, final=final)
            if done is not None:
                return done
        try:
            verdict = self._verdict(connection)
        except BlockingIOError:
            return False
        except OSError:  # its client has left
            self._part(connection)
            self._counters.client_left += 1
            connection.end()
            return True
        if isinstance(verdict, Match):
            self._part(connection)
            connection.key, connection.learned, _ = verdict
            self._dispatch(connection)
            return True
        if isinstance(verdict, NoMatch):
            self._part(connection)
            self._blame(verdict.cause)
            self._refuse(connection, verdict.status, verdict.cause)
            return True
        if final:
            self._part(connection)
            self._refuse(connection, 400, "head_cut_short")
        elif connection.seen > SMALL:
            with contextlib.suppress(OSError):  # the next look finds it out
                buffers.make_room(connection, self._router.limit)
        return final

    def _verdict(self, connection: Connection) -> Verdict:
        """
        Sniff what there is, and send the replies of a sniffer until it has a verdict.

        Raises:
            BlockingIOError: Nothing has come yet.
            OSError: The client has left.
        """
        router = self._router
        data = b""
        while True:
            if router.limit:  # else nothing is waited for
                data = peek(connection, router.limit)
                if not data:
                    raise ConnectionResetError
            connection.seen = len(data) - len(connection.consumed)
            verdict = router.sniff(data, connection.peer, connection.stage)
            if not isinstance(verdict, Reply):
                return verdict
            self._reply(connection, verdict)

    def _reply(self, connection: Connection, reply: Reply) -> None:
        """
        Consume and send what *reply* says.

        Raises:
            ConnectionResetError: It could not be sent whole.
        """
        consumed, connection.consumed = (
            connection.consumed[: reply.drop],
            connection.consumed[reply.drop :],
        )
        said = -1
        # It is sent whole or the client is gone, because it is less than any buffer
        # holds, and nothing was written before.
        with contextlib.suppress(OSError):
            if rest := reply.drop - len(consumed):
                connection.sock.recv(rest, socket.MSG_DONTWAIT)
            said = connection.sock.send(
                reply.say, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            )
        if said != len(reply.say):
            raise ConnectionResetError
        connection.position += reply.drop
        connection.written += said
        connection.stage += 1

    def _blame(self, cause: str) -> None:
        """Log, now and then, that a user's sniffer has failed."""
        router = self._router
        if (
            isinstance(router, FieldsRouter)
            and cause == FAILED
            and self._failing.is_due()
        ):
            text = "the sniffer of --protocol %s failed, and a client was refused: %s"
            logs.master.error(text, router.sniffer.name, router.failure)

    def _look_for_proxy(self, connection: Connection, *, final: bool) -> bool | None:
        """Consume the PROXY header and return None; until it is there, as ``_look``."""
        try:
            data = peek(connection, LONGEST)
            verdict = sniff_proxy(data)
            if isinstance(verdict, ProxyHeader):
                connection.sock.recv(verdict.size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            data, verdict = b"", NEED_MORE
        if isinstance(verdict, ProxyHeader):
            connection.proxy = False
            connection.position = verdict.size
            if verdict.client is None:
                return None
            connection.peer, connection.peer_port = verdict.client
            if self.admit(connection):
                return None
            self._part(connection)
            self._refuse(connection, *TOO_MANY)
            return True
        if isinstance(verdict, NeedMore) and data and not final:
            return False
        self._part(connection)
        if isinstance(verdict, BadProxyHeader):
            self._turn_away(connection, verdict.cause)
        else:
            self._counters.client_left += 1
            connection.end()
        return True

    def _trusts(self, peer: bytes) -> bool:
        """Return whether *peer* may name another client; a Unix socket's may."""
        if not peer:
            return True
        address = ip_address(peer.partition(b"%")[0].decode())
        return any(address in network for network in self._trusted)

    def _on_ready(self) -> None:
        """Look again at the connections of which epoll reports news."""
        for fd, events in self._epoll.poll(0):
            connection = self._waiting.get(fd)
            if connection is not None:
                self._look(connection, final=bool(events & NO_MORE_WILL_COME))
        self._settle()

    def _on_deadline(self) -> None:
        """Time out the connections whose deadline is over."""
        self._timer = None
        now = self._loop.time()
        while self._waiting:
            oldest = next(iter(self._waiting.values()))
            if oldest.deadline > now:
                self._timer = self._loop.call_at(oldest.deadline, self._on_deadline)
                break
            self._time_out(oldest)
        self._settle()

    def _time_out(self, connection: Connection) -> None:
        # What came while this process was stopped, or busy, is not late.
        if self._look(connection):
            return
        self._forget(connection)
        if connection.seen > SMALL and buffers.is_full(connection):
            self._refuse(connection, 431, self._too_large)
        elif connection.seen:
            self._refuse(connection, 408, "head_timeout")
        else:
            # It never said a word; an answer to no request would confuse a client
            # that opened the connection in advance.
            self._counters.silent += 1
            connection.end()

    def _shed(self) -> None:
        """Answer 503 to the connection that has waited longest, which makes room."""
        oldest = next(iter(self._waiting.values()))
        self._forget(oldest)
        self._refuse(oldest, 503, "too_many_waiting")

    def _part(self, connection: Connection) -> None:
        """Forget *connection* if it was waiting, and record for how long."""
        if self._waiting and connection.sock.fileno() in self._waiting:
            self._forget(connection)
            now = time.monotonic()
            if connection.since:
                self._counters.times.peek.note(now - connection.since)
            connection.since = now

    def _forget(self, connection: Connection) -> None:
        fd = connection.sock.fileno()
        del self._waiting[fd]
        # Before the descriptor is passed on or closed: a registration lives as long
        # as any copy of the connection does.
        self._epoll.unregister(fd)


def peek(connection: Connection, most: int) -> bytes:
    """
    Return up to *most* of the bytes that come next, and leave them where they are.

    Those that were consumed come first, then those that wait in the kernel.

    Raises:
        BlockingIOError: There are none yet.
        OSError: The connection is broken.
    """
    consumed = connection.consumed
    if not consumed:
        return connection.sock.recv(most, PEEK)
    with contextlib.suppress(BlockingIOError):
        consumed += connection.sock.recv(max(most - len(consumed), 1), PEEK)
    return consumed


def untouched(connection: Connection) -> bool:
    """
    Return whether nobody has read from *connection* since it was last peeked at.

    Of TCP the kernel counts what was read. Of a Unix socket it does not: there all
    that was seen has to be there still, which is no proof where the client has sent as
    much again.
    """
    if connection.is_tcp:
        expected = connection.position + len(connection.consumed)
        # A connection that has been ended is not counted any more.
        with contextlib.suppress(OSError):
            return traffic(connection.sock).read == expected
    try:
        return (
            len(connection.sock.recv(max(connection.seen, 1), PEEK)) >= connection.seen
        )
    except BlockingIOError:
        return not connection.seen
    except OSError:
        return False
