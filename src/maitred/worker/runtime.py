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
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from maitred import logs
from maitred.certificates import server_context
from maitred.config import WorkerSettings
from maitred.errors import (
    AppFailed,
    ChannelClosed,
    ChannelError,
    DescriptorsLost,
    ExitCode,
    PeerMisbehaved,
)
from maitred.routing import Match, NoMatch, Router, Seal, affinities
from maitred.routing.affinity import named_slot
from maitred.routing.http1 import RawHead
from maitred.routing.seal import parse_keys
from maitred.routing.tls import may_ask_for
from maitred.wire import MAX_PACKET, Channel
from maitred.wire.cookie import connection_of
from maitred.wire.messages import (
    Answer,
    Ask,
    Claim,
    Closed,
    Drain,
    Drained,
    Failed,
    Handoff,
    Quit,
    Ready,
    Reason,
    Refused,
    Release,
    Retire,
    Return,
    Revoke,
    Taken,
)
from maitred.wire.scoreboard import Scoreboard

from . import hooks, target
from .asking import Questions
from .claims import Claims
from .gate import ANYWHERE, MISDIRECTED, Asked, Elsewhere
from .heartbeat import beat
from .keys import OwnKeys
from .marks import Marks
from .stamps import stamp_ids
from .sticky import StickyCookie
from .transports import Ends
from .uvicorn_seam import Serving, StartupFailed

SAY_TIMEOUT: Final = 10.0
"Seconds to wait for room in the channel; the master reads all the time, or is ill."
SETTLE: Final = 0.02
MOST_RETURNS: Final = 64
RECORD: Final = 256
"Bytes of a packet for a RETURN, its addresses included; key and bytes come on top."
LAST_WORDS: Final = 2.0
"Seconds for a WebSocket to be closed when the time to drain is over."
LONGEST_TRACEBACK: Final = 32 * 1024


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
        self._channel = channel
        self._board = board
        self._draining = False
        self._master_gone = False
        # Ids that the master has yet to be told of.
        self._taken: list[int] = []
        self._closed: list[int] = []
        # Connections that it has yet to be given, and whom to tell when it has them.
        self._returned: list[tuple[Return, Callable[[], None]]] = []
        self._at_limit = logs.Seldom()
        self.slot = slot
        self.settings = settings
        # Whether a successor has come, who gets what names no session of ours.
        self.retired = False
        self.marks = Marks(board)
        self.keys = OwnKeys(
            ttl=settings.key_ttl,
            claim=lambda key, made: self._say(
                Claim(math.ceil(settings.key_ttl), int(made), key)
            ),
            release=lambda key: self._say(Release(key)),
        )
        self.questions = Questions(lambda key, learned: self._say(Ask(learned, key)))
        self._leaving: asyncio.Task[None]
        self._adoptions: set[asyncio.Task[None]] = set()
        app = target.load(settings.target, settings.app_dir)
        keys = parse_keys(secret, "MAITRED_SECRET") if secret else {}
        self.seal = Seal(keys, settings.workers)
        # Affinities of the user's own may stand beside the application.
        self.router = Router(affinities(settings.affinity, self.seal))
        self.by_sni = any(a.name == "sni" for a in self.router.affinities)
        if self.seal.signs and any(a.stampable for a in self.router.affinities):
            stamp_ids(self.seal, slot)
        hooks.install(self.router.affinities, self.keys)
        self.serving = Serving(
            app,
            board,
            wrap=self._wrap,
            loop=settings.loop,
            http=settings.http,
            lifespan=settings.lifespan,
            access_log=settings.access_log,
            timeout_keep_alive=settings.timeout_keep_alive,
            forwarded_allow_ips=settings.forwarded_allow_ips,
        )
        if settings.certfile:
            self.serving.tls = server_context(settings.certfile, settings.keyfile)

    def _wrap(self, app: Any) -> Any:
        affinities = self.router.affinities
        slots = self.settings.workers
        twin = None
        if self.settings.drain == "sessions":
            twin = (self.slot + slots // 2) % slots
        if learned := [a for a in affinities if a.learn is not None]:
            app = Claims(app, learned, self.keys)
        # Several affinities may be the same cookie.
        cookies = {a.sets: a for a in affinities if a.sets}
        if self.seal.signs:
            for affinity in cookies.values():
                app = StickyCookie(app, affinity, self.seal, self.slot, twin)
        return app

    async def run(self) -> None:
        """
        Serve until told to leave, or until the master is gone.

        Raises:
            AppFailed: The application's startup failed.
        """
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(
            signal.SIGTERM, self._drain, self.settings.drain_timeout
        )
        running = asyncio.ensure_future(self.serving.run())
        started = asyncio.ensure_future(self.serving.wait_started())
        await asyncio.wait({running, started}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            started.cancel()
            self._explain(running)
        self._loop.add_reader(self._channel.fileno(), self._on_channel)
        beat(self._board, self._loop)
        # What TLS knows of a connection cannot be left to anybody.
        self._say(Ready(os.getpid(), marks=int(self.serving.tls is None)))
        await running
        await self._leaving

    def _explain(self, running: asyncio.Future[None]) -> None:
        try:
            running.result()
        except StartupFailed as exc:
            why = f"the lifespan startup of {self.settings.target} failed"
            raise AppFailed(why, str(exc)) from exc

    # What the master says

    def _on_channel(self) -> None:
        try:
            while messages := self._channel.receive_nowait():
                self._heed(messages)
        except DescriptorsLost as exc:
            self.serving.parking.clear()
            if self._at_limit.is_due():
                logs.worker.warning("connections were refused: %s", exc)
            self._say(*(Refused(m.id, Reason.NO_DESCRIPTOR) for m in exc.messages))
        except ChannelClosed:
            self._on_master_gone()
        except PeerMisbehaved as exc:
            logs.worker.error("leaving: %s", exc)
            self._on_master_gone()

    def _heed(self, messages: list[Any]) -> None:
        match messages[0]:
            case Handoff():
                self._take_over(messages)
            case Drain(timeout_ms, give_back):
                self._drain(timeout_ms / 1000, give_back=bool(give_back))
            case Revoke():
                for message in messages:
                    self.keys.revoke(message.key)
            case Answer():
                for message in messages:
                    self.questions.answer(message.key, yes=bool(message.yes))
            case Retire():
                self.retired = True
            case Quit():
                self._drain(0)

    def _take_over(self, handoffs: list[Handoff]) -> None:
        refused = []
        for handoff in handoffs:
            if self._draining:
                handoff.connection.close()
                refused.append(Refused(handoff.id, Reason.DRAINING))
                continue
            parked = self.serving.parking.take(handoff.id)
            if parked is not None:
                handoff.connection.close()
                parked.resume(Visit(self, handoff))
                continue
            sock = connection_of(handoff.connection, handoff.id, handoff.local)
            if sock is None:
                refused.append(Refused(handoff.id, Reason.WRONG_DESCRIPTOR))
                continue
            visit = Visit(self, handoff)
            adoption = self._loop.create_task(self.serving.adopt(sock, visit))
            self._adoptions.add(adoption)
            adoption.add_done_callback(self._adoptions.discard)
        if refused:
            self._say(*refused)

    # What we say

    def ask(self, key: bytes, visit: Visit, *, learned: bool) -> Asked | NoMatch:
        """Ask for *visit* whether *key* is ours; who leaves asks no more."""
        if self._draining:
            return MISDIRECTED

        def answered(yes: bool) -> None:
            """Remember what we may serve, then go on."""
            if yes:
                visit.grant(key, learned=learned)
            visit.told(yes)

        self.questions.put(key, answered, learned=learned)
        # Asking showed, perhaps, that the master is gone: then nobody answers.
        return MISDIRECTED if self._master_gone else Asked()

    def say_taken(self, id_: int) -> None:
        """Tell the master, soon, that connection *id_* was read from."""
        # The application's task is created after this returns and runs after what is
        # scheduled here; connections that become readable together share a packet.
        self._answer_soon()
        self._taken.append(id_)

    def say_closed(self, id_: int) -> None:
        """Tell the master, soon, that connection *id_* is over."""
        self._answer_soon()
        self._closed.append(id_)

    def say_returned(self, message: Return, sent: Callable[[], None]) -> None:
        """Give a connection back, soon; until *sent* is called we may look at it."""
        self._answer_soon()
        self._returned.append((message, sent))

    def _answer_soon(self) -> None:
        if not self._taken and not self._closed and not self._returned:
            self._loop.call_soon(self._answer)

    def _answer(self) -> None:
        taken, self._taken = self._taken, []
        closed, self._closed = self._closed, []
        returned, self._returned = self._returned, []
        if taken:
            self._say(*[Taken(id_) for id_ in taken])
        if closed:
            self._say(*[Closed(id_) for id_ in closed])
        for batch in packets([message for message, _ in returned]):
            self._say(*batch)
        for _, sent in returned:
            sent()

    def _say(self, *messages: Any) -> None:
        """Send *messages*, in order with everything else we say; wait if we must."""
        if self._master_gone:
            return
        try:
            self._channel.send(*messages, timeout=SAY_TIMEOUT)
        except (ChannelError, TimeoutError) as exc:
            logs.worker.debug("the master does not hear us: %s", exc)
            self._on_master_gone()

    # How it ends

    def _on_master_gone(self) -> None:
        if not self._master_gone:
            self._master_gone = True
            self._loop.remove_reader(self._channel.fileno())
            self._drain(self.settings.drain_timeout)

    def _drain(self, timeout: float, *, give_back: bool = False) -> None:
        """Take nothing more; finish what there is within *timeout* seconds; leave."""
        if not self._draining:
            self._draining = True
            self.questions.give_up()
            self._leaving = self._loop.create_task(self._leave(timeout, give_back))

    async def _leave(self, timeout: float, give_back: bool) -> None:
        deadline = self._loop.time() + timeout
        cut = 0
        if give_back:
            self.serving.hand_back()
            # What stays is being answered, a stream or a WebSocket.
            while self._loop.time() < deadline and not self._master_gone:
                if not self._adoptions and not self.serving.open:
                    break
                await asyncio.sleep(SETTLE)
            deadline = max(deadline, self._loop.time() + LAST_WORDS)
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
        self._answer()
        self._say(Drained(cut))


class Visit:
    """One connection's stay in this worker (``uvicorn_seam.Visit``)."""

    __slots__ = (
        "_found",
        "_handoff",
        "_head",
        "_once",
        "_worker",
        "client",
        "ends",
        "head_limit",
        "head_timeout",
        "id",
        "idle",
        "mark",
        "peer",
        "prefix",
        "sni",
        "told",
    )

    def __init__(self, worker: Worker, handoff: Handoff) -> None:
        """Stay with *worker*, who was handed *handoff*, and its key with it."""
        self._worker = worker
        self._handoff = handoff
        # The last head that was looked at, and its key; the gate knows repeated ones.
        self._head: RawHead | None = None
        self._found: Match | NoMatch = Match(None)
        # A key nobody claimed: the master sent it here for one request.
        self._once = handoff.key if handoff.once else b""
        if handoff.key and not handoff.once and named_slot(handoff.key) is None:
            worker.keys.grant(handoff.key)
        self.id = handoff.id
        self.peer = handoff.peer
        # A Unix socket's ends have no addresses.
        self.client: tuple[str, int] | None = None
        self.ends: Ends | None = None
        if handoff.peer:
            self.client = handoff.peer.decode(), handoff.peer_port
            self.ends = Ends((handoff.local.decode(), handoff.local_port), self.client)
        self.prefix = handoff.consumed
        self.idle = bool(handoff.idle)
        self.mark = worker.marks.of(handoff.mark)
        self.head_limit = worker.settings.head_limit
        self.head_timeout = worker.settings.head_timeout
        # The name in the ClientHello; None: a connection without TLS.
        self.sni: bytes | None = None
        self.told: Callable[[bool], None]

    def taken(self) -> None:
        """It is marked or idle, was read from, or ended before."""
        self._worker.say_taken(self._handoff.id)

    def closed(self) -> None:
        """It is over."""
        self._worker.say_closed(self._handoff.id)

    def grant(self, key: bytes, *, learned: bool) -> None:
        """Note that a request with *key* may be served, or each of them."""
        if learned:
            self._once = key
        else:
            self._worker.keys.grant(key)

    def belongs(self, head: RawHead) -> Elsewhere | Asked | NoMatch | None:
        """Say where a request belongs: here, if its key is ours or it has none."""
        worker = self._worker
        if self.sni is not None:
            head.sni = self.sni
            if worker.by_sni and not may_ask_for(self.sni, head.host):
                return MISDIRECTED
        if head is not self._head:
            self._head, self._found = head, worker.router.place(head)
        found = self._found
        if isinstance(found, NoMatch):
            return found
        key, learned = found
        if key is None:
            retires = worker.retired and self.sni is None
            return ANYWHERE if retires else None
        if worker.keys.has(key) or named_slot(key) == worker.slot:
            return None
        if key == self._once:
            self._once = b""
            return None
        if self.sni is not None:
            return worker.ask(key, self, learned=learned)
        return Elsewhere(key, learned)

    def returned(
        self,
        sock: socket.socket,
        to: Elsewhere,
        unread: bytes,
        sent: Callable[[], None],
    ) -> None:
        """Give the connection back to the master, soon, then say so."""
        handoff = self._handoff
        self._worker.say_returned(
            Return(
                sock,
                handoff.id,
                handoff.peer,
                handoff.peer_port,
                handoff.local,
                handoff.local_port,
                to.key,
                int(to.learned),
                unread,
            ),
            sent,
        )


def packets(messages: Sequence[Return]) -> Iterator[Sequence[Return]]:
    """Give *messages* in as few pieces as there must be for each to fit a packet."""
    start = size = 0
    for end, message in enumerate(messages):
        more = RECORD + len(message.key) + len(message.unread)
        if end - start == MOST_RETURNS or (end > start and size + more > MAX_PACKET):
            yield messages[start:end]
            start, size = end, 0
        size += more
    if messages:
        yield messages[start:]


def fail(channel: Channel, failure: AppFailed) -> ExitCode:
    """Tell the master why there will be no worker; give our exit code."""
    with contextlib.suppress(ChannelError, TimeoutError):
        text = failure.traceback.encode()[-LONGEST_TRACEBACK:]
        channel.send(Failed(failure.why.encode(), text), timeout=SAY_TIMEOUT)
    return failure.exit_code
