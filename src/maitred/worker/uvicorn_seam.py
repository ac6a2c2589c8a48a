"""
The only file that knows uvicorn from the inside.

uvicorn serves connections that it has accepted itself. We give it connections that
somebody else accepted, and have to know three moments of each: when its first bytes
are read, when it opens and closes, and when a request begins. For each attribute of
uvicorn used here there is a contract test; the version is pinned in pyproject.toml.

Invariant: nothing of uvicorn is patched; its classes are extended and its hooks used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.server import Server

from maitred import logs
from maitred.config import NOWHERE
from maitred.routing import NoMatch
from maitred.routing.http1 import RawHead
from maitred.routing.refusal import answer
from maitred.unread import TO_READ, has_unread
from maitred.wire.scoreboard import Scoreboard

from .access import Access
from .gate import ANSWERING, ANYWHERE, ASKING, BETWEEN, Asked, Elsewhere, Gate
from .marks import READ_SIZE, STARTED, Mark, Unmarked
from .parking import Parking
from .parsers import stepping
from .transports import Corked, Intake
from .visits import HttpVisit

PROTOCOLS: Final = {
    "httptools": "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol",
    "h11": "uvicorn.protocols.http.h11_impl:H11Protocol",
}


class StartupFailed(Exception):
    """The application's lifespan startup failed; the text is what uvicorn logged."""


class OpenConnections(set[Any]):
    """
    uvicorn's set of open connections, which also keeps the scoreboard.

    HTTP and WebSocket protocols enter and leave it themselves, an upgrade included.
    """

    def __init__(self, board: Scoreboard) -> None:
        """Start empty; every change is written on *board*."""
        super().__init__()
        self._board = board

    def add(self, item: Any) -> None:
        """Add an opened connection."""
        super().add(item)
        self._board.connections = len(self)

    def discard(self, item: Any) -> None:
        """Remove a closed connection, if it was not removed before."""
        super().discard(item)
        self._board.connections = len(self)

    def remove(self, item: Any) -> None:
        """Remove a closed connection."""
        super().remove(item)
        self._board.connections = len(self)


class AnnouncingServer(Server):
    """A server that says when it has started, and keeps the scoreboard."""

    def __init__(
        self, config: Config, board: Scoreboard, on_exit: Callable[[], object]
    ) -> None:
        """Start as not ready; call *on_exit* when something asks for the end."""
        super().__init__(config)
        self._on_exit = on_exit
        self.server_state.connections = OpenConnections(board)
        self.ready = asyncio.Event()
        # Whether the main loop is to end. Not ``should_exit``, which others may read:
        # it is true from the begin of a drain on, and connections are served in that.
        self.may_end = False
        self._board = board

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then set ``ready``."""
        await super().startup(sockets=sockets)
        self.ready.set()

    async def on_tick(self, counter: int) -> bool:
        """
        Write, ten times a second, how many requests were answered.

        Returns:
            Whether the main loop is to end.
        """
        self._board.requests = self.server_state.total_requests
        await super().on_tick(counter)
        return self.may_end

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """
        Start the drain: this is what handles TERM, as in uvicorn.

        Libraries that send streams without an end replace ``Server.handle_exit``, or
        look at ``should_exit`` of whoever handles TERM, and end their streams then:
        sse-starlette, and with it the MCP SDK.
        """
        super().handle_exit(sig, frame)
        self._on_exit()

    def announce_exit(self) -> None:
        """Announce the end that was not asked for by a signal, once."""
        if not self.should_exit:
            self.handle_exit(signal.SIGTERM, None)


class Serving:
    """uvicorn, serving connections that are brought to it."""

    def __init__(  # noqa: PLR0913 - what uvicorn is told, each by its name
        self,
        app: Any,
        board: Scoreboard,
        *,
        wrap: Callable[[Any], Any],
        on_exit: Callable[[], object],
        loop: str,
        http: str,
        lifespan: str,
        access_log: bool,
        timeout_keep_alive: float,
        root_path: str = "",
        forwarded_allow_ips: str = "",
        tells_leaving: bool = False,
        passed_on: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Prepare to serve *app*.

        Args:
            app: An ASGI application.
            board: Where open connections and requests are counted.
            wrap: Makes the application that is served out of the ASGI 3 one.
            on_exit: Called, perhaps in a signal handler, when something in this process
                asks for its end; and when the drain begins.
            loop: auto, uvloop or asyncio.
            http: auto, httptools or h11.
            lifespan: auto, on or off.
            access_log: Whether requests are logged.
            timeout_keep_alive: Seconds an idle connection is kept.
            root_path: What a proxy in front took away from the paths.
            forwarded_allow_ips: From where X-Forwarded-For and -Proto are believed;
                "none": from nowhere; empty: as uvicorn does by itself.
            tells_leaving: Whether the scope of each HTTP request has the future LEFT.
            passed_on: Further arguments of ``uvicorn.Config``.
        """
        # What makes connections secure; None: they are plain.
        self.tls: ssl.SSLContext | None = None
        self.config = Config(
            app,
            loop=loop,
            http=PROTOCOLS.get(http, http),
            lifespan=lifespan,  # type: ignore[arg-type]
            log_config=None,
            access_log=access_log,
            timeout_keep_alive=timeout_keep_alive,  # type: ignore[arg-type]
            root_path=root_path,
            workers=1,
            proxy_headers=forwarded_allow_ips != NOWHERE,
            forwarded_allow_ips=forwarded_allow_ips or None,
            **passed_on or {},
        )
        self.config.load()
        self.config.loaded_app = wrap(self.config.loaded_app)
        self._server = AnnouncingServer(self.config, board, on_exit)
        # What handles TERM; libraries find the server by it.
        self.exit_handler = self._server.handle_exit
        self.count_refusal = board.count_refusal
        self.tells_leaving = tells_leaving
        self._connection: Any = adopting(self.config.http_protocol_class)
        # None: this uvicorn has no library for WebSockets.
        self.websocket: Any = self.config.ws_protocol_class and type(
            "AdoptedWebSocket", (WatchedWebSocket, self.config.ws_protocol_class), {}
        )
        # Visits whose connections were not read from yet.
        self.untaken: set[Any] = set()
        self.parking = Parking()
        self._is_handing_back = False
        self._startup_errors = Kept()

    def loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        """Return what makes the event loop that was asked for; None: asyncio's own."""
        return self.config.get_loop_factory()

    async def run(self) -> None:
        """
        Run lifespan and date ticker, without a listener, until ``finish``.

        Raises:
            StartupFailed: The application's lifespan startup failed.
        """
        logger = logging.getLogger("uvicorn.error")
        logger.addFilter(self._startup_errors)
        try:
            await self._server._serve(sockets=[])
        except SystemExit as exc:
            raise StartupFailed(self._startup_errors.text()) from exc

    async def wait_started(self) -> None:
        """Wait until the application has started."""
        await self._server.ready.wait()
        logger = logging.getLogger("uvicorn.error")
        logger.removeFilter(self._startup_errors)
        for record in self._startup_errors.records:
            logger.handle(record)

    async def adopt(self, sock: socket.socket, visit: HttpVisit) -> None:
        """
        Serve the accepted connection *sock*, which belongs to uvicorn from now on.

        Args:
            sock: The connection.
            visit: What is known of it, and who is told what becomes of it.
        """
        loop = asyncio.get_running_loop()
        protocol = self._connection(
            config=self.config,
            server_state=self._server.server_state,
            app_state=self._server.lifespan.state,
            _loop=loop,
        )
        protocol.adopted(visit, sock, self)
        reader: Any = protocol.intake
        details: dict[str, Any] = {}
        if self.tls is not None:
            # The handshake reads, and cannot be taken back. What TLS has read is
            # never given back either, so it may come in pieces of any size.
            protocol.take()
            reader = protocol
            details = {
                "ssl": self.tls,
                "ssl_handshake_timeout": visit.head_timeout,
                "ssl_shutdown_timeout": LINGER,
            }
        try:
            await loop.connect_accepted_socket(lambda: reader, sock, **details)
        except OSError:
            # The client is gone already, or its handshake failed: an ordinary end.
            protocol.never_began()
            sock.close()
        if self._is_handing_back:
            # It has arrived after all others were given back.
            protocol.hand_back()

    @property
    def open(self) -> int:
        """Return how many connections are open."""
        return len(self._server.server_state.connections)

    def hand_back(self) -> None:
        """Return every connection to the master that can be, once it is answered."""
        self._is_handing_back = True
        self.parking.clear()
        self.give_back_each()

    def leaving(self) -> None:
        """Announce to the application that the drain begins."""
        self._server.announce_exit()

    def revoked(self, key: bytes) -> None:
        """Keep all connections: each request is asked for its key when it comes."""

    def give_back_each(self) -> None:
        """Return each connection of now to the master, once no request is under way."""
        for connection in list(self._server.server_state.connections):
            if isinstance(connection, GatedConnection):
                connection.hand_back()

    def finish(self, timeout: float) -> None:
        """
        Finish what is being served, close what is idle, then let ``run`` return.

        Args:
            timeout: Seconds after which what still runs is cancelled.
        """
        logging.getLogger("uvicorn.error").addFilter(_is_no_cut)
        # uvicorn waits with asyncio.wait_for, which takes fractions of a second too.
        self.config.timeout_graceful_shutdown = max(timeout, 0)  # type: ignore[assignment]
        self._server.announce_exit()
        self._server.may_end = True

    def cut(self) -> int:
        """Close what is still open; return how many connections that were."""
        left: list[Any] = list(self._server.server_state.connections)
        for connection in left:
            shut_down(connection.cut, connection.transport)
        return len(left)


# What the protocol classes of uvicorn are mixed with.
AnyConnection: Any = asyncio.Protocol
AnyWebSocket: Any = asyncio.Protocol

MOST_PENDING: Final = 16 * 1024
"""
Bytes that may wait for an answer before reading pauses. uvicorn may undo the pause
once, when a large body was heard; so no more than these and two reads wait, and what a
connection is returned with fits one packet of the channel.
"""
MOST_UNREAD: Final = MOST_PENDING + 2 * READ_SIZE
LEFT: Final = "maitred.left"
"In a scope: a future that is done when the client of this request has left."
LINGER: Final = 2.0
HALF_CLOSED: Final = 2.0
"""
Seconds in which an answer may end after the client said that it will say no more. It
may have left altogether, and the application that streams to it waits to hear so.
"""
FLUSH: Final = 0.005
LATE: Final = 0.1
"Seconds by which a timer may be late in an event loop that turns."


class Complete(list[tuple[bytes, bytes]]):
    """The header lines of a request, to which none is added."""

    def append(self, _line: tuple[bytes, bytes]) -> None:
        """Drop what stands in no head: a trailer."""


class GatedConnection(AnyConnection):  # type: ignore[misc]
    """
    One connection that was handed over; each request passes the gate first.

    Mixed into whichever HTTP protocol class of uvicorn is in use.
    """

    # uvicorn's own, as is whatever else is not defined here.
    ws_protocol_class: Any
    app: Any
    headers: list[tuple[bytes, bytes]]
    # uvicorn's data_received: what passed the gate goes there and nowhere else.
    pass_on: Callable[[bytes], None]

    _is_taken = False
    _is_heard = False
    _is_leaving = False
    _is_returned = False
    _is_held = False
    _is_wanted_back = False
    _may_come_again = False
    _is_half_closed = False
    # Who has this connection since it was upgraded.
    _successor: Any = None
    # For the rest of a head; for what is done before the connection ends here.
    _head_timer: asyncio.TimerHandle | None = None
    _end_timer: asyncio.TimerHandle | None = None
    # Writes the access log, if there is one.
    _access: Access | None = None
    # Done when the client of the last request has left, if the application asks.
    _left: asyncio.Future[None] | None = None

    def adopted(self, visit: HttpVisit, sock: socket.socket, serving: Serving) -> None:
        """Start to serve *sock* for *visit*; called before ``connection_made``."""
        self._sock = sock
        self._serving = serving
        self._application = self.app
        self._gate = Gate(
            self,
            peer=visit.peer,
            limit=visit.head_limit,
            websockets=serving.websocket is not None,
        )
        self.intake = Intake(self)
        if (log := logs.access()) is not None:
            self._access = self.access_logger = Access(log)
            self.access_log = True
        if serving.websocket is not None:
            self.ws_protocol_class = self._make_websocket
        self._receive(visit)

    def _receive(self, visit: HttpVisit) -> None:
        """Serve on behalf of *visit* from now on, with its mark and what was read."""
        self._visit = visit
        self._mark = mark = visit.mark
        self.intake.write_on(mark)
        self.belongs = visit.belongs
        if self._access is not None:
            self._access.visit = visit
            self.belongs = self._note_arrival
        visit.told = self._told
        self.app = self._application
        if self._serving.tells_leaving:
            self.app = self._begin_telling
        elif mark.kept:
            self.app = self._begin
        if mark.kept:
            mark.put(visit.prefix)
        if not visit.idle:
            self._serving.untaken.add(visit)
        # TAKEN at once, because the mark says what was begun, and nothing was
        # asked on an idle connection.
        if mark.kept or visit.idle:
            self.take()

    def resume(self, visit: HttpVisit) -> None:
        """Serve again, for *visit*, after having been parked."""
        self._is_taken = self._is_heard = self._is_leaving = self._is_returned = False
        self._is_held = False
        self._head_timer = self._end_timer = None
        self._corked.count = 0
        self._gate.stage = BETWEEN
        self._receive(visit)
        self.connections.add(self)
        self.transport.resume_reading()
        self._serve()

    def abandon(self) -> None:
        """Close our copy of what others serve; the client notices nothing."""
        self.transport.abort()

    def _let_go(self) -> None:
        """
        Remove the references that go in a circle, so that all is freed at once.

        Otherwise every connection leaves a heap for Python's collector, which then
        takes a quarter of the time of a worker with many short connections.
        """
        del self._gate.server, self.belongs, self.intake
        self._corked.ending = nothing
        self.app = self._application
        self.ws_protocol_class = None
        self._visit.told = nothing

    def _begin(self, scope: Any, receive: Any, send: Any) -> Any:
        """Run the application, and mark that it begins."""
        self._mark.started()
        return self._application(scope, receive, send)

    def _begin_telling(self, scope: Any, receive: Any, send: Any) -> Any:
        """Run an application that wants to know when the client leaves."""
        if scope["type"] == "http":
            self._left = scope[LEFT] = self.loop.create_future()
        return self._begin(scope, receive, send)

    def _note_arrival(self, head: RawHead) -> Elsewhere | Asked | NoMatch | None:
        """Return where a request belongs, and record when it came."""
        assert self._access is not None
        self._access.arrived(self._corked.count)
        return self._visit.belongs(head)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start; what was read already comes before anything the socket gives."""
        self._corked = Corked(transport, self.loop, self._on_ending, self._visit.ends)
        super().connection_made(self._corked)
        # uvicorn asks the socket, which no longer knows once the client is gone.
        if self._visit.client is not None:
            self.client = self._visit.client
        secured = transport.get_extra_info("ssl_object")
        if secured is not None:
            self._visit.sni = secured.sni
            # A connection without TLS came with the first bytes of its request.
            self._await_head()
        if self._visit.prefix:
            # The gate checks these bytes in a later call, because uvloop begins to read
            # when connection_made returns, paused or not. If the connection had been
            # given back here, uvloop would take from the next worker what the client
            # sends.
            self._hear()
            self._gate.pending = self._visit.prefix
            self.loop.call_soon(self._begin_to_read)
        else:
            self._serve()

    def _begin_to_read(self) -> None:
        """Check what was read already, and perhaps more by now."""
        self._gate.look()
        self._attend()

    def _serve(self) -> None:
        """Start with what was read already, or to wait."""
        if self._visit.prefix:
            self._hear()
            self._gate.receive(self._visit.prefix)
            self._attend()
        elif self._visit.idle:
            self._is_heard = True
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def data_received(self, data: bytes) -> None:
        """Check *data* at the gate; TAKEN is sent before the first bytes pass."""
        if not self._is_heard:
            self._hear()
        self._gate.receive(data)
        self._attend()

    def on_headers_complete(self) -> None:
        """
        Start with the request that httptools has found the head of.

        uvicorn would add trailers to the headers that the application holds: a name of
        a session there was never checked (RFC 9110 section 6.5.1).
        """
        super().on_headers_complete()
        self.headers = Complete(self.headers)

    def on_response_complete(self) -> None:
        """Mark the end of an answer; pass the next request if the way is open."""
        super().on_response_complete()
        if self._access is not None:
            self._access.ended(self.cycle.scope, self._corked.count)
        if self._visit.sni is not None:
            # Because TLS drops what is written after the client's FIN, which may be
            # read before this turn of the event loop is over. It has no mark to wait
            # for.
            self._corked.flush()
        gate = self._gate
        if self.transport.is_closing():
            return
        if gate.stage is ANSWERING:
            self._mark.settled(gate.pending, self._corked.count)
            if self._is_wanted_back:
                self.give_back(ANYWHERE, gate.take_all())
                return
        gate.answered()
        self._attend()
        # Because the client has said that it asks nothing more.
        if self._is_half_closed and gate.stage is BETWEEN and not self._is_leaving:
            self.drop()

    def eof_received(self) -> bool | None:
        """Return whether to stay open: for an answer, or for the next worker."""
        super().eof_received()
        self._is_half_closed = True
        # What came with the connection may not have been looked at: see
        # ``connection_made``.
        self._gate.look()
        if self._is_returned:
            return True  # the next worker reads that nothing more comes
        # The event loop closes the connection itself where this returns nothing; so
        # what is held for the end of the turn has to leave before.
        self._corked.flush()
        if (
            self.transport.get_extra_info("ssl_object") is not None  # has no halves
            # Nothing is asked, or the rest of the request will never come.
            or self._gate.stage not in {ANSWERING, ASKING}
            or self._is_leaving
        ):
            return None
        if self._end_timer is None:
            self._end_timer = self.loop.call_later(HALF_CLOSED, self.transport.close)
        return True

    def timeout_keep_alive_handler(self) -> None:
        """
        Close what was idle for long enough, unless its next request is here.

        A timer that is late says that this process did not run, and perhaps has not
        written its last answer until now: the client had no time to ask again.
        """
        late = self.loop.time() - self.timeout_keep_alive_task.when()
        if late > LATE or has_unread(self._sock):
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """
        Finish as uvicorn does, with the request that is here already as the last one.

        Nothing is done for a connection that is on its way out.
        """
        self._gate.look()  # what came with it may not have been looked at
        if self._is_leaving or self.transport.is_closing():
            return
        if self._gate.stage is BETWEEN and has_unread(self._sock):
            # It is read in this turn of the event loop or the next. Looked at again
            # before the application runs, it is answered with `Connection: close`.
            self.loop.call_soon(self.shutdown)
        else:
            shut_down(super().shutdown, self.transport)

    def cut(self) -> None:
        """
        Close at once; a request to which nothing was answered gets 503.

        Because clients and proxies send a request again by themselves when a kept
        connection ends without a byte: it would be run twice.
        """
        cycle = self.cycle
        if (
            cycle is None  # nothing was asked
            or cycle.response_started
            or self._is_leaving
            or self.transport.is_closing()
        ):
            self._corked.flush()
            self.transport.abort()
        else:
            self.refuse(503, "cut")

    def connection_lost(self, exc: Exception | None) -> None:
        """Close; TAKEN and CLOSED are sent also of what was never read from."""
        self._gate.take_all()
        for timer in (self._head_timer, self._end_timer):
            if timer is not None:
                timer.cancel()
        if not self._is_heard:
            self._hear()
        # What was returned lives on, with a mark that may be another's by now.
        if not self._is_returned:
            if self._access is not None and self._access.is_open and self.cycle:
                self._access.ended(self.cycle.scope, self._corked.count)
            shut(self._sock, self._mark)
            self._visit.closed()
        super().connection_lost(exc)
        if self._left is not None:
            self._left.set_result(None)
        self._let_go()

    def take(self) -> None:
        """Send TAKEN, once."""
        if not self._is_taken:
            self._is_taken = True
            self._visit.taken()

    def never_began(self) -> None:
        """Close before ``connection_made`` was called."""
        self._hear()
        shut(self._sock, self._mark)
        self._visit.closed()

    def hand_back(self) -> None:
        """Return this connection to the master as soon as no request is under way."""
        if self.transport is None or self.transport.is_closing() or self._is_leaving:
            return
        if self.transport.get_extra_info("ssl_object") is not None:
            # What TLS knows of a connection cannot travel; so it finishes here.
            self.shutdown()
            return
        self._is_wanted_back = True
        if self._successor is None and self._gate.stage is BETWEEN:
            self.give_back(ANYWHERE, self._gate.take_all())

    def _hear(self) -> None:
        """Record that the first request begins, or that there will be none."""
        self._is_heard = True
        self._serving.untaken.discard(self._visit)
        self.take()

    def _told(self, mine: bool) -> None:
        """Pass the master's answer on to the gate, where the request has waited."""
        if not self.transport.is_closing():
            self._gate.told(mine)
            self._attend()

    def _attend(self) -> None:
        """Mark or return what is between two requests; hold back what waits."""
        gate = self._gate
        if gate.stage is BETWEEN:
            if self._mark.stage == STARTED:
                self._mark.settled(gate.pending, self._corked.count)
            if self._is_wanted_back:
                self.give_back(ANYWHERE, gate.take_all())
        if (  # which is seldom, and this is done for every request
            gate.pending
            or self._head_timer is not None
            or self._is_held
            or self._successor is not None
            or gate.stage is ASKING
        ):
            self._hold_back()

    def _hold_back(self) -> None:
        """Limit the time and the bytes of what waits at the gate."""
        gate = self._gate
        if self._successor is not None:
            # It said more before it knew of the upgrade.
            if unread := gate.take_all():
                self._successor.data_received(unread)
        elif gate.pending and gate.stage is BETWEEN:
            if self._head_timer is None:
                # The keep-alive timer is for silence between two requests.
                self._unset_keepalive_if_required()
                self._await_head()
            return
        elif gate.stage is ASKING:
            self._unset_keepalive_if_required()
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        # Not by uvicorn's flow, which is set going whenever the application listens.
        if len(gate.pending) > MOST_PENDING:
            self._is_held = True
            self.transport.pause_reading()
        elif self._is_held:
            self._is_held = False
            if not self._is_leaving and not self.flow.read_paused:
                self.transport.resume_reading()

    def _on_ending(self) -> None:
        """Mark that nothing is owed any more, unless an answer is cut short here."""
        cycle = self.cycle
        if cycle is None or cycle.response_started == cycle.response_complete:
            self._mark.ended(self._corked.count)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(
            self._visit.head_timeout, self._on_head_timeout
        )

    def _on_head_timeout(self) -> None:
        """End the time for a head, once all that has come is read."""
        if has_unread(self._sock):
            self._head_timer = self.loop.call_later(TO_READ, self._give_up_head)
        else:
            self._give_up_head()

    def _give_up_head(self) -> None:
        """Refuse a client who began a request; drop one who never said a word."""
        if self._gate.pending.strip(b"\r\n"):
            self.refuse(408, "head_timeout")
        else:
            self._gate.take_all()
            self.drop()

    def _make_websocket(self, **arguments: Any) -> Any:
        """Return the protocol that takes this connection over: it is upgraded."""
        self._successor = self._serving.websocket(**arguments)
        self._successor.visit = self._visit
        self._successor.sock = self._sock
        if self._access is not None:
            self._successor.access = self._access
            self._successor.app = self._access.watching(self._successor.app)
        self._successor.app = marking(self._mark, self._successor.app)
        return self._successor

    def refuse(self, status: int, cause: str) -> None:
        """Answer in the application's place; read on for a moment, then close."""
        self._gate.take_all()
        self._unset_keepalive_if_required()
        self._is_leaving = True
        self._serving.count_refusal(cause)
        if self.cycle is not None and not self.cycle.response_complete:
            # The application has begun with this request; it learns that it ends.
            if self._access is not None:
                self._access.interrupted(self.cycle.scope, status, cause)
            if not self.cycle.response_started:
                self.transport.write(answer(status, cause))
            self.transport.close()
            return
        if self._access is not None:
            self._access.refused(status, len(answer(status, cause)), cause)
        self.transport.write(answer(status, cause))
        # Closed while bytes of the client are unread, the kernel would send RST,
        # and the client might lose the answer.
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._end_timer = self.loop.call_later(LINGER, self.transport.close)
        else:  # TLS itself says goodbye, and hears the client out
            self.transport.close()

    def drop(self) -> None:
        """Close; what was written still leaves."""
        self._is_leaving = True
        self._unset_keepalive_if_required()
        self.transport.close()

    def out_of_step(self) -> None:
        """Close: the parser has read what the gate has not passed. Log and count it."""
        self._gate.take_all()
        text = "the HTTP parser and the gate disagree about a request: closed"
        about = logs.about(conn=self._visit.id, cause="out_of_step")
        logs.worker.error(text, extra=about)
        self._serving.count_refusal("out_of_step")
        if self._access is not None:
            self._access.refused(0, 0, "out_of_step")
        if self.cycle is not None:
            # It may have been given half a body as the whole one: that is no request.
            self.cycle.disconnected = True
        self.drop()

    def give_back(self, to: Elsewhere, unread: bytes) -> None:
        """Return this connection, for another worker, once all is written."""
        self._unset_keepalive_if_required()
        # It would not fit one packet of the channel.
        if len(unread) > MOST_UNREAD:
            self.refuse(421, "misdirected")
            return
        self._is_leaving = True
        self._return_when_written(to, unread, 0)

    def _return_when_written(self, to: Elsewhere, unread: bytes, looks: int) -> None:
        """Return the connection, or look again soon, after so many *looks*."""
        transport = self.transport
        if transport.is_closing():
            return
        if not transport.get_write_buffer_size():
            self._is_returned = True
            self.connections.discard(self)
            # What comes from now on is for the next worker to read. The transport's
            # own descriptor is sent: there may be none for a second one.
            transport.pause_reading()
            self._may_come_again = to.may_come_again and not self._is_half_closed
            self._visit.returned(self._sock, to, unread, self._on_sent)
        # Looks and not time, because a process that was stopped has looked at nothing.
        elif looks * FLUSH < self._visit.head_timeout:
            # The end of the last answer is still here; it cannot travel.
            transport.pause_reading()
            self._end_timer = self.loop.call_later(
                FLUSH, self._return_when_written, to, unread, looks + 1
            )
        elif unread:
            self.refuse(421, "misdirected")
        else:
            self.drop()

    def _on_sent(self) -> None:
        """Park or close our copy: the master has the connection."""
        self._mark.given_back()
        # Parked, because the client's next request may be for here again.
        if self._may_come_again and not self.transport.is_closing():
            self._serving.parking.put(self._visit.id, self)
        else:
            self.abandon()


def adopting(inner: Any) -> Any:
    """Return the class that serves, with *inner* of uvicorn, what was handed over."""
    followed = stepping(inner)
    return type(
        "AdoptedConnection",
        (GatedConnection, followed),
        {"pass_on": followed.data_received},
    )


class WatchedWebSocket(AnyWebSocket):  # type: ignore[misc]
    """
    A connection after its upgrade, which says when it ends.

    Mixed into whichever WebSocket protocol class of uvicorn is in use.
    """

    visit: HttpVisit
    sock: socket.socket
    access: Access | None = None
    scope: Any

    # uvicorn's own.
    close_sent: bool
    handshake_complete: bool

    async def send(self, message: Any) -> None:
        """
        Send what the application says.

        uvicorn takes an application that has refused a WebSocket by a response for one
        that has said nothing, and logs an error for each.
        """
        await super().send(message)
        if self.close_sent:
            self.handshake_complete = True

    def shutdown(self) -> None:
        """Send the closing frame as uvicorn does, if that is possible."""
        shut_down(super().shutdown, self.transport)

    def connection_made(self, transport: Any) -> None:
        """Start, with the client's address even if the client has left."""
        # The answer to the handshake may be held, and frames are to leave at once.
        if isinstance(transport, Corked):
            transport.flush()
            transport = transport.transport
        super().connection_made(transport)
        if self.visit.client is not None:
            self.client = self.visit.client

    def cut(self) -> None:
        """Close at once: what there was to say was said by ``shutdown``."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close, and send CLOSED; perhaps of one whose handshake was refused."""
        shut(self.sock, self.visit.mark)
        self.visit.closed()
        if self.access is not None:
            if hasattr(self, "scope"):
                self.access.ended(self.scope, 0)
            else:
                self.access.refused(400, 0, "bad_request")
        super().connection_lost(exc)


def marking(mark: Mark | Unmarked, app: Any) -> Any:
    """
    Return *app*, for one WebSocket, so that *mark* says when it begins.

    Not when the handshake is read: a turn of the event loop that reads many handshakes
    ends before the first application begins, and a worker that is killed in it has
    begun with none of them.
    """

    def marked(scope: Any, receive: Any, send: Any) -> Any:
        mark.started()
        return app(scope, receive, send)

    return marked


def nothing(*_: Any) -> None:
    """Ignore a call, in the place of somebody who has gone."""


def shut_down(shutdown: Callable[[], None], transport: asyncio.Transport) -> None:
    """
    Call *shutdown* of uvicorn; if it fails, abort the connection, and only this one.

    uvicorn ends all connections in one loop, and an exception would leave the others
    unfinished. One that has both ends closing cannot be told goodbye, for example.
    """
    try:
        shutdown()
    except Exception:  # noqa: BLE001 - whatever it is, the others have their turn
        logs.worker.debug("a connection could not be shut down", exc_info=True)
        if not transport.is_closing():
            transport.abort()


def shut(sock: socket.socket, mark: Mark | Unmarked) -> None:
    """Send FIN: to close *sock* sends none while somebody has a copy of it."""
    # In this order: a mark that says more than the truth would have the client, should
    # we be killed between the two, told that its request had begun.
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    mark.leave()


class Kept(logging.Filter):
    """
    Keeps errors from being logged until it is clear whether the start failed.

    If it did, the master tells them, once for all workers.
    """

    def __init__(self) -> None:
        """Start with none."""
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep *record* if it is an error; return whether to log it now."""
        if record.levelno < logging.ERROR:
            return True
        self.records.append(record)
        return False

    def text(self) -> str:
        """Return all that was kept as text."""
        return "\n".join(map(logging.Formatter().format, self.records))


def _is_no_cut(record: logging.LogRecord) -> bool:
    """Return false for what uvicorn says of a cut request: the master counts those."""
    what = record.exc_info[0] if record.exc_info else None
    return what is not asyncio.CancelledError and not str(record.msg).startswith(
        "Cancel "
    )
