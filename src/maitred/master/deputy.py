"""
A deputy: an acceptor in a process of its own, which does what the master says.

It accepts from the master's listeners, has a channel to every worker and to every other
acceptor, and is the home of its share of the keys. It supervises nobody.

Invariants: what the master says is done in its order. That there is a worker, and that
it is to fill its slot, is noted as soon as it is read, for a worker's word may depend
on it. When the master is gone the deputy ends at once; the kernel closes what it has.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from maitred import logs
from maitred.acceptor.listeners import Listener
from maitred.config import Settings
from maitred.errors import ChannelClosed, DescriptorsLost
from maitred.routing import Seal
from maitred.upgrade import serialize as plain
from maitred.wire import Channel
from maitred.wire import messages as wire

from . import mesh, orders
from .desk import Desk, router_of
from .dispatcher import GRACE
from .errands import Errands
from .line import Line
from .processes import Process
from .watching import Watch
from .workers import Worker

PART: Final = 64 * 1024
"Bytes of an answer in one packet."


class Remote(Process):
    """A worker's process, whose parent is the master; this acceptor can condemn it."""

    def __init__(self, condemn: Callable[[], None]) -> None:
        """Start with *condemn*, which is called instead of a signal."""
        self._condemn = condemn

    def kill(self) -> None:
        """Condemn the process."""
        self._condemn()


class Deputy:
    """Runs one acceptor until the master is gone."""

    def __init__(self, sock: socket.socket) -> None:
        """
        Read from the master what this acceptor is; blocks until all has come.

        Args:
            sock: Our end of the channel to the master; owned from now on.
        """
        self._channel = channel = Channel(
            sock, sends=orders.FROM_DEPUTY, receives=orders.FROM_MASTER
        )
        begin = _one(channel)
        self._paper: dict[str, Any] = plain.read(begin.paper)
        self.number: int = self._paper["number"]
        self.settings = settings_on(self._paper["settings"])
        self._listeners = [
            listener_of(_one(channel)) for _ in range(self._paper["listeners"])
        ]

    async def run(self) -> None:
        """Serve until the master is gone."""
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._line = Line(self._channel)
        seal = Seal(self._paper["keys"], self.settings.slots)
        self._router = router_of(self.settings, seal)
        self._desk = Desk(
            self.settings,
            self._router,
            self._listeners,
            hash_key=self._paper["hash_key"],
            on_ready=self._on_ready,
            number=self.number,
            superior=self,
        )
        self._dispatcher = self._desk.dispatcher
        self._dispatcher.on_settled = self._on_settled
        self._workers: dict[int, Worker] = {}
        self._watch = Watch(
            self._workers,
            self._desk.placement.slots,
            hang_timeout=0,
            filling=self._dispatcher.filling,
            settle=self._dispatcher.settle,
            on_hung=lambda _worker, _silent: None,
            tell=logs.master.debug,  # the master tells
        )
        # Descriptors of scoreboards, by the worker whose ATTACH follows.
        self._boards: dict[int, int] = {}
        self._expected: set[int] = set()
        # Workers that have not claimed their keys here yet.
        self._awaited: set[int] = set()
        self._todo: deque[Any] = deque()
        self._errands = Errands(self._desk)
        self._lasting: set[asyncio.Task[dict[str, Any]]] = set()
        self._is_briefed = self._is_up = self._is_shut = self._is_resting = False
        self._line.listen(self._on_line)
        await self._gone

    # What the master says

    def hear(self) -> None:
        """
        Read pending messages from the master.

        Board, Attach and Expect take effect at once; the others are queued, because
        they may dispatch connections.
        """
        try:
            while packet := self._line.receive():
                for message in packet:
                    self._note(message)
        except ChannelClosed:
            self._leave()
        except DescriptorsLost as exc:
            logs.master.error("acceptor %d leaves: %s", self._desk.number, exc)
            self._leave()

    def expects(self, worker: Worker) -> bool:
        """Return whether the master has ordered that *worker* fills its slot."""
        return worker.id in self._expected

    def _leave(self) -> None:
        self._line.close()
        if not self._gone.done():
            self._gone.set_result(None)

    def _on_line(self) -> None:
        self.hear()
        self._do_all()

    def _note(self, message: Any) -> None:
        match message:
            case orders.Board(board, number):
                self._boards[number] = board.detach()
            case orders.Attach():
                self._attach(message)
            case orders.Expect(number):
                self._expected.add(number)
            case _:
                # At once, because a worker's message may be handled before this order
                # is.
                if isinstance(message, orders.Promote):
                    self._expected.add(message.worker)
                if not self._todo:
                    self._loop.call_soon(self._do_all)
                self._todo.append(message)

    def _attach(self, order: orders.Attach) -> None:
        number = order.worker
        sock = socket.socket(fileno=order.channel.detach())
        self._workers[number] = worker = Worker(
            number,
            order.slot,
            order.generation,
            Channel(sock, sends=wire.FROM_MASTER, receives=wire.FROM_WORKER),
            self._boards.pop(number),
            Remote(lambda: self._condemn(worker)),
        )
        if order.serves:
            self._awaited.add(number)
        self._desk.attach(worker)

    def _do_all(self) -> None:
        while self._todo:
            self._do(self._todo.popleft())

    def _do(self, order: Any) -> None:
        match order:
            case orders.Serve():
                self._is_briefed = True
                self._check_up()
            case orders.Meet(channel, number):
                assert self._desk.mesh is not None
                sock = socket.socket(fileno=channel.detach())
                self._desk.mesh.meet(
                    number, Channel(sock, sends=mesh.WORDS, receives=mesh.WORDS)
                )
            case orders.Keys(paper):
                seal = Seal(plain.read(paper), self.settings.slots)
                self._router.affinities = router_of(self.settings, seal).affinities
            case orders.Shut():
                self._is_shut = True
                self._desk.acceptor.close()
            case orders.Close():
                self._desk.turn_away()
            case orders.Ask(question, paper):
                self._do_errand(question, **plain.read(paper))
            case _:
                # A worker that was leaving when we came was never told of us.
                if (worker := self._workers.get(order.worker)) is not None:
                    self._do_with(worker, order)

    def _do_with(self, worker: Worker, order: Any) -> None:
        match order:
            case orders.Promote():
                # Read its READY first, because that says whether it marks connections.
                self._dispatcher.hear(worker)
                self._dispatcher.promote(worker)
                self._expected.discard(worker.id)
            case orders.Dismiss(_, leave_now, timeout_ms, give_back):
                self._dispatcher.dismiss(
                    worker,
                    wire.Quit() if leave_now else wire.Drain(timeout_ms, give_back),
                )
            case orders.Detach():
                self._expected.discard(worker.id)
                del self._workers[worker.id]
                self._dispatcher.detach(worker)
                self._told(worker)

    def _do_errand(self, question: int, what: str, arguments: dict[str, Any]) -> None:
        came = self._errands.do(what, arguments)
        if isinstance(came, dict):
            self._tell(question, came)
            return
        task = self._loop.create_task(came)
        self._lasting.add(task)
        task.add_done_callback(self._lasting.discard)
        task.add_done_callback(lambda done: self._tell(question, done.result()))

    # Messages to the master

    def _tell(self, question: int, came: dict[str, Any]) -> None:
        """Send what came of an errand, in parts that a packet can hold."""
        paper = plain.write(came)
        for start in range(0, len(paper), PART):
            part = paper[start : start + PART]
            last = start + PART >= len(paper)
            self._line.say(orders.Told(question, int(last), part))

    def _on_ready(self, worker: Worker) -> None:
        self._told(worker)

    def _told(self, worker: Worker) -> None:
        """Record that *worker* has claimed all its keys, or never will."""
        self._awaited.discard(worker.id)
        self._check_up()

    def _check_up(self) -> None:
        if self._is_briefed and not self._awaited and not self._is_up:
            self._is_up = True
            self._line.say(orders.Up())
            self._dispatcher.settle()

    def _on_settled(self) -> None:
        """Update what depends on the dispatcher; called at the end of its settle."""
        if not self._is_up:
            return
        if not self._is_shut:
            self._desk.acceptor.update()
        elif not self._is_resting and self._desk.is_at_rest:
            self._is_resting = True
            self._line.say(orders.Rest())

    def _condemn(self, worker: Worker) -> None:
        """Send CONDEMN, or leave if it is this acceptor alone that *worker* left."""
        if worker.distrusted or worker.is_given_up:
            self._line.say(orders.Condemn(worker.id))
        else:
            # Only after a moment, because the master ends a worker that has closed all
            # its channels, and then nothing is wrong with this acceptor.
            self._loop.call_later(GRACE, self._give_up, worker)

    def _give_up(self, worker: Worker) -> None:
        if self._workers.get(worker.id) is worker:
            text = "acceptor %d leaves: worker %d of slot %d does not speak to it"
            number = self._desk.number
            logs.master.error(text, number, worker.id, worker.slot)
            self._leave()


def _one(channel: Channel) -> Any:
    (message,) = channel.receive()
    return message


def settings_on(paper: dict[str, Any]) -> Settings:
    """Return the settings that stand on *paper*."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in paper.items()
    }
    return Settings(**values)


def listener_of(order: orders.Listen) -> Listener:
    """Return the listener of *order*, with its socket; its file is the master's."""
    paper = plain.read(order.paper)
    local = paper["local"] and tuple(paper["local"])
    sock = socket.socket(fileno=order.sock.detach())
    sock.setblocking(False)
    return Listener(sock, paper["name"], local, proxy=paper["proxy"])
