"""
A worker: it loads the application, says READY, takes what it is handed, drains, leaves.

Invariants: TAKEN goes out before the application sees the first request of a
connection, a CLAIM before the response with its key. What cannot be served is refused.
When the master is gone, the worker finishes what it has and leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from maitred import logs, uvicorn_settings
from maitred.certificates import server_context
from maitred.config import HTTP_KINDS, WorkerSettings
from maitred.errors import (
    AppFailed,
    ChannelError,
    ExitCode,
)
from maitred.grace import last_words
from maitred.routing import Match, NoMatch, Router, Seal, affinities
from maitred.routing.affinity import Affinity, named_slot
from maitred.routing.http1 import AMBIGUOUS, RawHead
from maitred.routing.seal import parse_keys
from maitred.routing.tls import may_ask_for
from maitred.wire import Channel
from maitred.wire.cookie import connection_of
from maitred.wire.messages import (
    Answer,
    Ask,
    Claim,
    Drain,
    Drained,
    Failed,
    Handoff,
    Quit,
    Ready,
    Reason,
    Refused,
    Release,
    Relieve,
    Retire,
    Return,
    Revoke,
)
from maitred.wire.messages import Link as LinkSaid
from maitred.wire.scoreboard import Scoreboard

from . import cookies, hooks, signals, target
from .asking import Questions
from .claims import Claims
from .gate import AFRESH, ANYWHERE, MISDIRECTED, Asked, Elsewhere
from .heartbeat import beat
from .keys import OwnKeys
from .limit import Limit
from .links import SAY_TIMEOUT, Link, Links
from .marks import Marks
from .stamps import stamp_ids
from .sticky import StickyCookie, sticky_attributes, when_secure
from .transports import Ends
from .uvicorn_seam import Serving, StartupFailed

if TYPE_CHECKING:
    from .raw import RawServing
    from .sockets import SocketServing

SETTLE: Final = 0.02
LONGEST_TRACEBACK: Final = 32 * 1024
MOVING: Final = ("handler", "protocol", "websocket")
"Kinds whose connections go on in another worker, where the application allows it."
CLAIMS: Final = 64
"Keys in one packet, when an acceptor is told all that it is the home of."


class Worker:
    """Serves what the master hands over."""

    def __init__(
        self,
        settings: WorkerSettings,
        channel: Channel,
        board: Scoreboard,
        *,
        slot: int,
        secret: bytes = b"",
    ) -> None:
        """
        Load the application.

        Args:
            settings: What the master said.
            channel: Our end, owned from now on.
            board: Where to count.
            slot: The slot we fill.
            secret: The keys that seal slots, as in a key file; empty if none are.

        Raises:
            AppFailed: It cannot be loaded.
            UsageError: A certificate cannot be used any more.
        """
        self.links = Links(
            channel,
            heed=self._heed,
            on_master_gone=self._on_master_gone,
            on_lost=self._on_lost,
            make_room=self._make_room,
        )
        self._board = board
        self._is_ready = False
        self._farewell: Drain | None = None
        self._draining = False
        self.slot = slot
        self.settings = settings
        # Whether a successor has come, who gets what names no session of ours.
        self.retired = False
        # Whether others get it for the time being.
        self.relieved = False
        self.marks = Marks(board)
        self.keys = OwnKeys(
            ttl=settings.key_ttl,
            claim=lambda key, made: self.links.say_of(key, self._claim(key, made)),
            release=lambda key: self.links.say_of(key, Release(key)),
        )
        self.questions = Questions(
            lambda key, learned: self.links.say_of(key, Ask(learned, key))
        )
        self._leaving: asyncio.Task[None]
        self._adoptions: set[asyncio.Task[None]] = set()
        app = target.load(
            settings.target,
            settings.app_dir,
            kind=settings.kind,
            factory=settings.factory,
        )
        keys = parse_keys(secret, "MAITRED_SECRET") if secret else {}
        self.seal = Seal(keys, settings.workers)
        # Affinities of the user's own may stand beside the application.
        # Only requests are looked at here; a connection stays what it was placed by.
        checks = settings.kind in HTTP_KINDS
        found = affinities(settings.affinity, self.seal) if checks else ()
        self.router = Router(found)
        self.by_sni = any(a.name == "sni" for a in self.router.affinities)
        if self.seal.signs and any(a.stampable for a in self.router.affinities):
            stamp_ids(self.seal, slot)
        hooks.install(self.router.affinities, self.keys)
        self.serving = self._make_serving(app)
        if settings.certfile:
            self.serving.tls = server_context(settings.certfile, settings.keyfile)

    def _make_serving(self, app: Any) -> Serving | RawServing | SocketServing:
        """
        Return what serves *app*, by its kind.

        Only what that kind needs is loaded: a worker starts the sooner for it.
        """
        settings, board = self.settings, self._board
        if settings.kind == "wsgi":
            from .threads import Threads  # noqa: PLC0415
            from .wsgi import WSGI  # noqa: PLC0415

            pool = Threads(settings.threads, settings.wait_timeout, board)
            app = WSGI(app, pool, board.count_refusal)
        if settings.kind in HTTP_KINDS:
            return Serving(
                app,
                board,
                wrap=self._wrap,
                on_exit=self._on_exit,
                loop=settings.loop,
                http=settings.http,
                lifespan="off" if settings.kind == "wsgi" else settings.lifespan,
                access_log=settings.access_log,
                root_path=settings.root_path,
                timeout_keep_alive=settings.timeout_keep_alive,
                passed_on=uvicorn_settings.arguments(settings),
                forwarded_allow_ips=settings.forwarded_allow_ips,
                tells_leaving=settings.kind == "wsgi",
            )
        keys, ttl = self.keys, settings.key_ttl
        if settings.kind == "socket":
            from .sockets import SocketServing  # noqa: PLC0415

            return SocketServing(
                app,
                board,
                loop=settings.loop,
                threads=settings.threads,
                patience=settings.wait_timeout,
                keys=keys,
                ttl=ttl,
            )
        from .raw import RawServing  # noqa: PLC0415

        return RawServing(
            app, settings.kind, board, loop=settings.loop, keys=keys, ttl=ttl
        )

    def _wrap(self, app: Any) -> Any:
        """Return *app* in all that the settings put around it, the limit outermost."""
        affinities = self.router.affinities
        slots = self.settings.workers
        twin = None
        # Two generations serve side by side then, each in its own half of the slots.
        if self.settings.drain == "sessions":
            twin = (self.slot + slots // 2) % slots
        if learned := [a for a in affinities if a.learn is not None]:
            app = Claims(app, learned, self.keys)
        # Several affinities may be the same cookie.
        sticky = {a.sets: a for a in affinities if a.sets}
        if self.seal.signs:
            for affinity in sticky.values():
                app = StickyCookie(
                    *(app, affinity, self.seal, self.slot, twin),
                    secure=when_secure(self.settings),
                    rest=sticky_attributes(self.settings),
                )
        app = cookies.wrapped(app, affinities)
        if most := self.settings.limit_concurrency:
            app = Limit(app, most, self._board.count_refusal)
        return app

    async def run(self) -> None:
        """
        Serve until told to leave, or until the master is gone.

        Raises:
            AppFailed: The application's startup failed.
        """
        self._loop = asyncio.get_running_loop()
        handler = self.serving.exit_handler or (lambda *_: self._on_exit())
        signals.heed(signal.SIGTERM, handler)
        running = asyncio.ensure_future(self.serving.run())
        started = asyncio.ensure_future(self.serving.wait_started())
        await asyncio.wait({running, started}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            started.cancel()
            self._explain(running)
        if not self._draining:  # else we were told to leave before we were ready
            self.links.open(self._loop)
            beat(self._board, self._loop)
            self._is_ready = True
            # The master last: what it does about it comes after the others know.
            for link in reversed(list(self.links)):
                self._say_ready(link)
        await running
        await self._leaving

    def _explain(self, running: asyncio.Future[None]) -> None:
        try:
            running.result()
        except StartupFailed as exc:
            why = f"the lifespan startup of {self.settings.target} failed"
            raise AppFailed(why, str(exc)) from exc

    # What acceptors say

    def _heed(self, link: Link, messages: list[Any]) -> None:
        """Handle the *messages* of one packet, which are all of one type."""
        match messages[0]:
            case Handoff():
                self._take_over(link, messages)
            case Drain():
                link.is_done = True
                self._farewell = messages[0]
                self._drain_if_all_say_so()
            case Retire():
                self.retired = True
            case Relieve():
                # Several may have come; the last one is how things are now.
                self.relieved = bool(messages[-1].relieved)
                if self.relieved:
                    self.serving.give_back_each()
            case Quit():
                self._drain(0)
            case LinkSaid():
                for message in messages:
                    self._meet(self.links.add(message))
            case _:
                for message in messages:
                    self._heed_of_key(message)

    def _heed_of_key(self, message: Any) -> None:
        match message:
            case Revoke(key):
                self.keys.revoke(key)
                self.serving.revoked(key)
            case Answer(yes, key):
                self.questions.answer(key, yes=bool(yes))

    def _take_over(self, link: Link, handoffs: list[Handoff]) -> None:
        """Serve each connection that was handed over, or refuse it."""
        refused = []
        for handoff in handoffs:
            if self._draining:
                # It was sent before the acceptor knew; another worker gets it.
                handoff.connection.close()
                refused.append(Refused(handoff.id, Reason.DRAINING))
                continue
            parked = self.serving.parking.take(handoff.id)
            if parked is not None:
                # What served it has a descriptor of its own.
                handoff.connection.close()
                parked.resume(self._receive(handoff, link))
                continue
            sock = connection_of(handoff.connection, handoff.id, handoff.local)
            # To serve another connection under this id would mix up two clients.
            if sock is None:
                refused.append(Refused(handoff.id, Reason.WRONG_DESCRIPTOR))
                continue
            visit = self._receive(handoff, link)
            adoption = self._loop.create_task(self.serving.adopt(sock, visit))
            self._adoptions.add(adoption)
            adoption.add_done_callback(self._adoptions.discard)
        if refused:
            link.say(*refused)

    def _receive(self, handoff: Handoff, link: Link) -> Visit:
        if logs.traces(logs.worker):
            text = "received from acceptor %d"
            logs.worker.debug(text, link.index, extra=logs.about(conn=handoff.id))
        visit = Visit(self, link, handoff)
        if link.index:
            link.visits.add(visit)
        return visit

    def _make_room(self) -> None:
        self.serving.parking.clear()

    def _meet(self, link: Link) -> None:
        """
        Send an acceptor the keys it is the home of, then READY if we are.

        It places nothing before it has both.
        """
        known = self.keys.tell(lambda key: self.links.homes.of(key) == link.index)
        claims = [self._claim(key, made) for key, made in known]
        for start in range(0, len(claims), CLAIMS):
            link.say(*claims[start : start + CLAIMS])
        if self._is_ready:
            self._say_ready(link)

    def _on_lost(self, index: int) -> None:
        """Answer no to what acceptor *index* was asked: it is gone."""
        self.questions.give_up(lambda key: self.links.homes.of(key) == index)
        self._drain_if_all_say_so()

    def _drain_if_all_say_so(self) -> None:
        """Start the drain once each acceptor has said that it sends nothing more."""
        if self._farewell is not None and all(link.is_done for link in self.links):
            timeout_ms, give_back = self._farewell
            self._drain(timeout_ms / 1000, give_back=bool(give_back))

    # What we say

    def _claim(self, key: bytes, made: bool) -> Claim:
        return Claim(math.ceil(self.settings.key_ttl), int(made), key)

    def _say_ready(self, link: Link) -> None:
        # What TLS knows of a connection cannot be left to anybody.
        settings = self.settings
        marks = settings.kind in HTTP_KINDS and self.serving.tls is None
        moves = settings.kind in MOVING
        link.say(Ready(os.getpid(), marks=int(marks), moves=int(moves)))

    def ask(self, key: bytes, visit: Visit, *, learned: bool) -> Asked | NoMatch:
        """Ask for *visit* whether *key* is ours; refuse if nobody can answer."""
        if self._draining:
            return MISDIRECTED

        def answered(yes: bool) -> None:
            """Record what may be served, then pass the answer on to the gate."""
            if yes:
                visit.grant(key, learned=learned)
            visit.told(yes)

        # Asking may show that there is nobody to answer.
        heard = self.questions.put(key, answered, learned=learned)
        return Asked() if heard else MISDIRECTED

    def ask_for_other(
        self, key: bytes, visit: Visit, *, learned: bool
    ) -> Asked | NoMatch | Elsewhere:
        """Ask for *visit* whether another worker owns *key*, a second reading."""
        if self._draining:
            # What TLS knows of a connection cannot be given back.
            return MISDIRECTED if visit.sni is not None else ANYWHERE

        def answered(yes: bool) -> None:
            """Record the answer; then the gate asks the visit again."""
            if not yes and self._draining:
                visit.told(False)  # nobody was asked
                return
            visit.concede(key, ours=yes, learned=learned)
            visit.told(True)

        heard = self.questions.put(key, answered, learned=learned)
        return Asked() if heard else MISDIRECTED

    # How it ends

    def _on_exit(self) -> None:
        """Schedule the drain; may run in a signal handler, or after the loop."""
        if self._loop.is_closed():
            return  # Python waits for the application's threads, and raising ends that
        self._loop.call_soon_threadsafe(self._drain, self.settings.drain_timeout)

    def _on_master_gone(self) -> None:
        self._drain(self.settings.drain_timeout)

    def _drain(self, timeout: float, *, give_back: bool = False) -> None:
        """
        Start to leave: take nothing more, finish what there is in *timeout* seconds.

        A second call changes nothing.
        """
        if not self._draining:
            self._draining = True
            self.questions.give_up()
            self.serving.leaving()
            self._leaving = self._loop.create_task(self._leave(timeout, give_back))

    async def _leave(self, timeout: float, give_back: bool) -> None:
        """Finish what is served, or cut it after *timeout* seconds; send DRAINED."""
        deadline = self._loop.time() + timeout
        cut = 0
        if give_back:
            self.serving.hand_back()
            # What stays is being answered, a stream or a WebSocket. Without a master,
            # nobody is there to take what is given back.
            while self._loop.time() < deadline and not self.links.master.is_gone:
                if not self._adoptions and not self.serving.open:
                    break
                await asyncio.sleep(SETTLE)
            # Also where giving back took all the time there was, those that are left
            # have a moment, for example to close a WebSocket.
            last = last_words(self.settings.grace_period)
            deadline = max(deadline, self._loop.time() + last)
        try:
            async with asyncio.timeout_at(deadline):
                # uvicorn would close a connection that it has not read from. Its
                # request is there already: let it be read, then finish.
                while self._adoptions or self.serving.untaken:  # noqa: ASYNC110
                    await asyncio.sleep(SETTLE)
                self.serving.finish(deadline - self._loop.time())
                while self.serving.open:  # noqa: ASYNC110
                    await asyncio.sleep(SETTLE)
        except TimeoutError:
            self.serving.finish(0)
            cut = self.serving.cut()
        if self._is_ready:
            for link in self.links:
                link.answer()
            self.links.master.say(Drained(cut))


class Visit:
    """One connection's stay in this worker (``visits``)."""

    __slots__ = (
        "_conceded",
        "_found",
        "_handoff",
        "_head",
        "_is_known",
        "_link",
        "_once",
        "_worker",
        "client",
        "ends",
        "frozen",
        "head_limit",
        "head_timeout",
        "hops",
        "id",
        "idle",
        "mark",
        "peer",
        "prefix",
        "sni",
        "told",
    )

    def __init__(self, worker: Worker, link: Link, handoff: Handoff) -> None:
        """Record what *handoff* says, which *worker* got over *link*; grant its key."""
        self._worker = worker
        self._link = link
        self._handoff = handoff
        # Whether whoever is behind the link knows, untold, that we have taken it.
        self._is_known = False
        # The last head that was looked at, and its key; the gate knows repeated ones.
        self._head: RawHead | None = None
        self._found: Match | NoMatch = Match(None)
        # Keys that a framework could read in that head, and that are nobody else's.
        self._conceded: set[bytes] = set()
        # A key nobody claimed: the master sent it here for one request.
        self._once = handoff.key if handoff.once else b""
        # A key that names its slot needs no grant: whoever reads it knows.
        if handoff.key and not handoff.once and named_slot(handoff.key) is None:
            worker.keys.grant(handoff.key)
        self.id = handoff.id
        self.hops = handoff.hops
        self.peer = handoff.peer
        # A Unix socket's ends have no addresses.
        self.client: tuple[str, int] | None = None
        self.ends: Ends | None = None
        if handoff.peer:
            self.client = handoff.peer.decode(), handoff.peer_port
            self.ends = Ends((handoff.local.decode(), handoff.local_port), self.client)
        self.prefix = handoff.consumed
        self.frozen = handoff.frozen
        self.idle = bool(handoff.idle)
        self.mark = worker.marks.of(handoff.mark)
        self.head_limit = worker.settings.head_limit
        self.head_timeout = worker.settings.head_timeout
        # The name in the ClientHello; None: a connection without TLS.
        self.sni: bytes | None = None
        self.told: Callable[[bool], None]

    def taken(self) -> None:
        """Send TAKEN, soon, unless whoever is behind the link knows it."""
        if not self._is_known:
            self._link.say_taken(self.id)

    def refused(self) -> None:
        """Send REFUSED: nothing was read from the connection, and we are leaving."""
        self._link.say(Refused(self.id, Reason.DRAINING))

    def closed(self) -> None:
        """Send CLOSED, soon: the connection is over."""
        if logs.traces(logs.worker):
            logs.worker.debug("closed", extra=logs.about(conn=self.id))
        self._link.visits.discard(self)
        self._link.say_closed(self.id)

    def move(self, link: Link) -> None:
        """Use *link* from now on: the acceptor that handed this over is gone."""
        self._link = link
        self._is_known = True
        self.mark.abandon()

    @property
    def slot(self) -> int:
        """Return the slot of this worker."""
        return self._worker.slot

    @property
    def key(self) -> bytes:
        """Return the key of the last request, or of the connection; empty: none."""
        if self._worker.settings.kind not in HTTP_KINDS:
            return b"" if self._handoff.once else self._handoff.key
        return b"" if isinstance(self._found, NoMatch) else self._found.key or b""

    def grant(self, key: bytes, *, learned: bool) -> None:
        """Record that requests with *key* may be served: one if *learned*, else all."""
        if learned:
            self._once = key
        else:
            self._worker.keys.grant(key)

    def belongs(self, head: RawHead) -> Elsewhere | Asked | NoMatch | None:
        """Return where a request belongs; None: here, with our key or with none."""
        worker = self._worker
        if self.sni is not None:
            head.sni = self.sni
            # The connection was placed by that name, so other hosts may live elsewhere.
            if worker.by_sni and not may_ask_for(self.sni, head.host):
                return MISDIRECTED
        before = self._found
        # The gate passes the same head again for the same bytes.
        if head is not self._head:
            self._head, self._found = head, worker.router.place(head)
            self._conceded = set()
        found = self._found
        if isinstance(found, NoMatch):
            return found
        key, learned, others = found
        if key is None:
            return self._nameless(before)
        if worker.keys.has(key) or named_slot(key) == worker.slot:
            return self._unless_theirs(others, learned=learned) if others else None
        if key == self._once:
            if others and (asked := self._unless_theirs(others, learned=learned)):
                return asked
            self._once = b""
            return None
        if self.sni is not None:
            # Because a connection with TLS cannot be given back.
            return worker.ask(key, self, learned=learned)
        return Elsewhere(key, learned)

    def _unless_theirs(
        self, others: tuple[bytes, ...], *, learned: bool
    ) -> Asked | NoMatch | Elsewhere | None:
        """
        Return why a request that is ours may not be served here; None: it may.

        Some framework reads one of *others* for the name of its session. The request
        is refused where another worker owns that.
        """
        worker = self._worker
        for key in others:
            if key in self._conceded or named_slot(key) == worker.slot:
                continue
            if not worker.keys.has(key):
                return worker.ask_for_other(key, self, learned=learned)
        return None

    def concede(self, key: bytes, *, ours: bool, learned: bool) -> None:
        """Record whether *key*, one of the others of the last request, is ours."""
        if not ours:
            self._found = AMBIGUOUS
        elif learned:
            self._conceded.add(key)
        else:
            self._worker.keys.grant(key)

    def _nameless(self, before: Match | NoMatch) -> Elsewhere | None:
        """
        Return where a request without a name belongs; None: here.

        Where the server makes the names, such a request after one with a name, which
        *before* says, begins another session: a proxy keeps the connection, for many
        clients. Were it served where the connection is, one worker would get all that
        is new.
        """
        worker = self._worker
        if self.sni is not None:
            return None
        if worker.retired or worker.relieved:
            return ANYWHERE
        begins = isinstance(before, Match) and before.key is not None
        return AFRESH if begins and worker.router.server_made else None

    def moved(
        self,
        sock: socket.socket,
        unread: bytes,
        frozen: bytes,
        sent: Callable[[], None],
    ) -> None:
        """Return the connection, to go on elsewhere, soon; then call *sent*."""
        self.returned(sock, Elsewhere(self.key, False), unread, sent, frozen)

    def claim(self, field: str, value: bytes) -> None:
        """Claim for this worker the connections in which *field* is *value*."""
        self._worker.keys.made(key_of(field, value))

    def release(self, field: str, value: bytes) -> None:
        """Release what ``claim`` has claimed."""
        self._worker.keys.over(key_of(field, value))

    def returned(
        self,
        sock: socket.socket,
        to: Elsewhere,
        unread: bytes,
        sent: Callable[[], None],
        frozen: bytes = b"",
    ) -> None:
        """
        Schedule the connection's RETURN; *sent* is called when it is sent.

        The connection's descriptor stays open, and the caller's to close, until then.
        """
        handoff = self._handoff
        said = Return(
            sock,
            handoff.id,
            handoff.peer,
            handoff.peer_port,
            handoff.local,
            handoff.local_port,
            to.key,
            int(to.learned),
            unread,
            handoff.hops,
            frozen,
        )
        if logs.traces(logs.worker):
            logs.worker.debug("given back", extra=logs.about(conn=self.id))
        self._link.give_back(self, said, sent)


def key_of(field: str, value: bytes) -> bytes:
    """Return the key of what is called *value* in *field*, as the master makes it."""
    return Affinity(name=field, find=lambda _: None).key_of(value)


def fail(channel: Channel, failure: AppFailed) -> ExitCode:
    """Send FAILED, with why there will be no worker; return our exit code."""
    with contextlib.suppress(ChannelError, TimeoutError):
        text = failure.traceback.encode()[-LONGEST_TRACEBACK:]
        channel.send(Failed(failure.why.encode(), text), timeout=SAY_TIMEOUT)
    return failure.exit_code
