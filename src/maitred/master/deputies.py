"""
The deputies as the master sees them, and all acceptors as one.

Whatever is to be done with a worker is ordered here once: the master's own desk does
it, and every deputy is told. Without deputies nothing is told to anybody.

Invariants: a deputy that dies is replaced, and the keys whose home it was are told to
the new one by the workers, before any other acceptor passes it a connection. EXPECT has
been said to all before anybody lets a worker fill its slot. A deputy does not outlive
the master: its channel ends.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from maitred import logs, signal_effects
from maitred.acceptor.listeners import Listener
from maitred.config import Settings
from maitred.errors import ChannelClosed, ChannelFull, PeerMisbehaved, SystemRefused
from maitred.supervision.backoff import delay
from maitred.upgrade import serialize as plain
from maitred.wire import Channel, Descriptor
from maitred.wire.messages import Drain, Link, Phase, Quit

from . import mesh, orders
from .departed import Departed
from .desk import Desk
from .errands import Came, Errands
from .line import RETRY, Line
from .processes import Process, how_it_ended
from .workers import Worker

COMMAND: Final = (sys.executable, "-P", "-m", "maitred.cli.acceptor")
SETTLED: Final = 1.0
"Seconds after which a deputy has served; one that dies sooner waits for its next try."
PATIENCE: Final = 5.0
"Seconds that a deputy has to leave when the service ends, or to say how it stands."


class Question(NamedTuple):
    """An errand that a deputy was asked to do, and the parts of its answer so far."""

    what: str
    answer: asyncio.Future[Came]
    parts: list[bytes]


class Deputy:
    """One deputy: its process and the line to it."""

    def __init__(self, number: int, process: Process, line: Line, now: float) -> None:
        """
        Start with a deputy that is not up, whose process began at *now*.

        Args:
            number: The number of this acceptor.
            process: Its process.
            line: Our end of the channel to it.
            now: The time in seconds.
        """
        self.number = number
        self.process = process
        self.line = line
        self.started = now
        self.is_up = False
        self.is_resting = False
        # Questions that it has not answered, by number.
        self.questions: dict[int, Question] = {}
        # Its last report; empty: it has sent none.
        self.report: Came = {}


class Deputies:
    """Starts the deputies, and orders all acceptors as one; needs a running loop."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        desk: Desk,
        listeners: Sequence[Listener],
        workers: Mapping[int, Worker],
        *,
        hash_key: bytes,
        keys: Callable[[], dict[str, bytes]],
        on_news: Callable[[], None],
    ) -> None:
        """
        Start without any deputy; needs a running loop.

        Args:
            settings: Returns the settings that hold now.
            desk: The master's own.
            listeners: From which all accept; they stay the caller's.
            workers: All that are alive; the caller keeps it up to date.
            hash_key: Keys every hash, the same in all acceptors.
            keys: Returns the keys that seal slots.
            on_news: Called when a deputy is up, at rest, or gone.
        """
        self._settings = settings
        self._desk = desk
        self._dispatcher = desk.dispatcher
        self._listeners = listeners
        self._workers = workers
        self._hash_key = hash_key
        self._keys = keys
        self._on_news = on_news
        self._loop = asyncio.get_running_loop()
        self._deputies: dict[int, Deputy] = {}
        self._failures = dict.fromkeys(range(1, desk.acceptors), 0)
        self._timers: set[asyncio.TimerHandle] = set()
        self._questions = 0
        self._errands = Errands(desk)
        # Tasks that gather the answers to errands.
        self._asking: set[asyncio.Task[dict[int, Came | None]]] = set()
        self._stopping = False
        # The last counts of dead deputies.
        self.departed = Departed()
        # Done when the last has left, after it was told to.
        self._left: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> None:
        """Start all deputies."""
        for number in self._failures:
            self._start(number)

    # All acceptors as one

    def attach(self, worker: Worker) -> None:
        """Register *worker*, which was just started, with every acceptor."""
        self._desk.attach(worker)
        for number in self._failures:
            self._link(worker, self._deputies.get(number), number)

    def promote(self, worker: Worker) -> None:
        """Make *worker*, which is ready, fill its slot in every acceptor."""
        # EXPECT goes to all before anybody promotes, because the first acceptor that
        # does may hand the worker a connection, and the claim that follows may reach
        # another acceptor before PROMOTE.
        self._tell(orders.Expect(worker.id))
        self._dispatcher.promote(worker)
        self._tell(orders.Promote(worker.id))

    def dismiss(self, worker: Worker, farewell: Drain | Quit) -> None:
        """Take its slot from *worker* in every acceptor, and send it *farewell*."""
        self._tell(_dismissal(worker, farewell))
        self._dispatcher.dismiss(worker, farewell)

    def reopen_logs(self) -> None:
        """Signal every deputy to open its log file anew."""
        for deputy in self._deputies.values():
            deputy.process.reopen_log()

    def detach(self, worker: Worker) -> None:
        """Remove *worker*, which is dead, from every acceptor."""
        self._tell(orders.Detach(worker.id))
        self._dispatcher.detach(worker)

    def renew_keys(self, keys: dict[str, bytes]) -> None:
        """Send the deputies the *keys* that seal slots from now on."""
        self._tell(orders.Keys(plain.write(keys)))

    def shut(self) -> None:
        """Stop accepting in every acceptor, after what the kernel has let in."""
        self._stopping = True
        self._tell(orders.Shut())
        self._desk.acceptor.close()

    def turn_away(self) -> None:
        """Answer what waits in every acceptor, and later what cannot be placed."""
        self._tell(orders.Close())
        self._desk.turn_away()

    def ask(self, what: str, **arguments: Any) -> asyncio.Task[dict[int, Came | None]]:
        """
        Send every acceptor on an errand, in the order of all other orders.

        Args:
            what: One of ``ERRANDS``.
            arguments: Plain data.

        Returns:
            A task, which need not be awaited. Its result: what came of the errand, by
            the acceptor's number; None: it did not answer in time.
        """
        asked = {
            number: self._ask(deputy, what, arguments)
            for number, deputy in self._deputies.items()
        }
        came = self._errands.do(what, arguments)
        task = self._loop.create_task(self._gather(came, asked))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return task

    async def ask_one(self, number: int, what: str, **arguments: Any) -> Came | None:
        """Send acceptor *number* on an errand that takes no time, as ``ask``."""
        deputy = self._deputies.get(number)
        if number and deputy is None:
            return None
        if deputy is None:
            came = self._errands.do(what, arguments)
            return (await self._gather(came, {}))[0]
        asked = {number: self._ask(deputy, what, arguments)}
        return (await self._gather({}, asked))[number]

    async def _gather(
        self,
        came: Came | Coroutine[Any, Any, Came],
        asked: Mapping[int, asyncio.Future[Came]],
    ) -> dict[int, Came | None]:
        own = came if isinstance(came, dict) else await came
        if asked:
            await asyncio.wait(asked.values(), timeout=PATIENCE)
        return {0: own} | {
            number: answer.result()
            if answer.done() and not answer.cancelled()
            else None
            for number, answer in asked.items()
        }

    # The state of the deputies

    @property
    def are_up(self) -> bool:
        """Whether every deputy serves."""
        up = sum(deputy.is_up for deputy in self._deputies.values())
        return up == len(self._failures)

    @property
    def are_resting(self) -> bool:
        """Whether no deputy accepts, and no connection waits in any."""
        return all(deputy.is_resting for deputy in self._deputies.values())

    async def reports(self) -> list[Came]:
        """
        Return the last report of every deputy, after it was asked for a new one.

        One that does not answer in time is ``silent``.
        """
        asked = list(self._deputies.values())
        came = await self.ask("report")
        reports = []
        for deputy in asked:
            state = "ready" if deputy.is_up else "starting"
            if came[deputy.number] is None:
                state = "silent"
            # Without its counts of before, those of all would go down.
            if deputy.report and deputy in self._deputies.values():
                known = {"number": deputy.number, "pid": deputy.process.pid}
                reports.append(deputy.report | known | {"state": state})
        return reports

    def _ask(
        self, deputy: Deputy, what: str, arguments: Mapping[str, Any]
    ) -> asyncio.Future[Came]:
        self._questions = question = (self._questions + 1) % 2**32
        answer: asyncio.Future[Came] = self._loop.create_future()
        deputy.questions[question] = Question(what, answer, [])
        paper = {"what": what, "arguments": arguments}
        deputy.line.say(orders.Ask(question, plain.write(paper)))
        return answer

    # The end

    async def leave(self) -> None:
        """Close all lines, at which deputies leave, and wait until they have."""
        self._stopping = True
        for deputy in self._deputies.values():
            deputy.line.close()
        if self._deputies:
            await asyncio.wait({self._left}, timeout=PATIENCE)
        self.close()

    def close(self) -> None:
        """Kill the deputies that are left."""
        self._stopping = True
        for timer in self._timers:
            timer.cancel()
        for deputy in list(self._deputies.values()):
            deputy.process.kill()
            self._bury(deputy)

    # One deputy

    def _start(self, number: int) -> None:
        if self._stopping:
            return
        try:
            ours, theirs = Channel.pair(
                sends=orders.FROM_MASTER, receives=orders.FROM_DEPUTY
            )
        except OSError as exc:
            self._try_later(number, f"could not be started ({exc})")
            return
        try:
            process = Process(
                COMMAND,
                {"MAITRED_CHANNEL": str(theirs.fileno())},
                (theirs.fileno(),),
                held=signal_effects.HELD,
            )
        except (SystemRefused, OSError) as exc:
            ours.close()
            self._try_later(number, f"could not be started ({exc})")
            return
        else:
            line = Line(ours)
            deputy = Deputy(number, process, line, self._loop.time())
        finally:
            theirs.close()
        self._deputies[number] = deputy
        self._loop.add_reader(process.pidfd, self._on_exit, deputy)
        line.listen(lambda: self._on_line(deputy))
        self._brief(deputy)

    def _brief(self, deputy: Deputy) -> None:
        """Send *deputy* all there is to know: settings, listeners, workers, drains."""
        paper = {
            "settings": asdict(self._settings()),
            "number": deputy.number,
            "hash_key": self._hash_key,
            "keys": self._keys(),
            "listeners": len(self._listeners),
        }
        deputy.line.say(orders.Begin(plain.write(paper)))
        for listener in self._listeners:
            what = {
                "name": listener.name,
                "local": listener.local,
                "proxy": listener.proxy,
            }
            sock = listener.sock.dup()
            deputy.line.say(orders.Listen(sock, plain.write(what)), sock)
        for worker in self._workers.values():
            if worker.phase is not Phase.DRAINING:
                self._link(worker, deputy, deputy.number)
        for slot in self._desk.placement.slots:
            if slot.drained:
                self._ask(deputy, "relieve", {"slot": slot.index, "relieved": True})
        deputy.line.say(orders.Serve())

    def _link(self, worker: Worker, deputy: Deputy | None, number: int) -> None:
        """
        Connect *worker* and acceptor *number* by a channel.

        Where *deputy* is None that acceptor does not run: the worker has a channel that
        has ended, until the next LINK.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if deputy is None:
            ours.close()
        else:
            serves = self._dispatcher.filling(worker.slot) is worker
            board = Descriptor(os.dup(worker.board_fd))
            deputy.line.say(orders.Board(board, worker.id), board)
            order = orders.Attach(
                ours, worker.id, worker.slot, worker.generation, int(serves)
            )
            deputy.line.say(order, ours)
            if serves:
                deputy.line.say(orders.Promote(worker.id))
        link = Link(theirs, number, self._desk.acceptors, self._hash_key)
        self._say(worker, link)

    def _say(self, worker: Worker, link: Link) -> None:
        """Send *link* to *worker*, as soon as its channel has room."""
        try:
            worker.channel.send_nowait(link)
        except ChannelFull:
            self._later(RETRY, lambda: self._say(worker, link))
            return
        except (ChannelClosed, OSError):
            pass  # it is dead, and there will be another
        link.channel.close()

    def _tell(self, order: Any) -> None:
        for deputy in self._deputies.values():
            deputy.line.say(order)

    def _on_line(self, deputy: Deputy) -> None:
        try:
            while packet := deputy.line.receive():
                for message in packet:
                    self._heed(deputy, message)
        except ChannelClosed:
            deputy.line.close()  # its end is told by the kernel
        except PeerMisbehaved as exc:
            logs.master.error("acceptor %d is ended: %s", deputy.number, exc)
            deputy.line.close()
            deputy.process.kill()

    def _heed(self, deputy: Deputy, message: Any) -> None:
        match message:
            case orders.Up():
                self._on_up(deputy)
            case orders.Rest():
                deputy.is_resting = True
                self._on_news()
            case orders.Told(question, last, part):
                asked = deputy.questions[question]
                asked.parts.append(part)
                if last:
                    del deputy.questions[question]
                    self._on_told(deputy, asked)
            case orders.Condemn(number):
                if number in self._workers:
                    self._workers[number].process.kill()

    def _on_told(self, deputy: Deputy, asked: Question) -> None:
        came = plain.read(b"".join(asked.parts))
        if asked.what == "report":
            deputy.report = came
        if not asked.answer.done():
            asked.answer.set_result(came)

    def _on_up(self, deputy: Deputy) -> None:
        """Connect *deputy*, which knows the keys whose home it is, with all others."""
        for other in self._deputies.values():
            if other.is_up:
                one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                deputy.line.say(orders.Meet(one, other.number), one)
                other.line.say(orders.Meet(two, deputy.number), two)
        deputy.is_up = True
        one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        deputy.line.say(orders.Meet(one, 0), one)
        assert self._desk.mesh is not None
        self._desk.mesh.meet(
            deputy.number, Channel(two, sends=mesh.WORDS, receives=mesh.WORDS)
        )
        logs.master.debug(
            "acceptor %d is process %d", deputy.number, deputy.process.pid
        )
        self._on_news()

    def _on_exit(self, deputy: Deputy) -> None:
        code = self._bury(deputy)
        if not self._stopping:
            why = how_it_ended(code)
            if deputy.process.stack:
                stack = deputy.process.stack.rstrip("\n")
                text = "acceptor %d was here when it ended:\n%s"
                logs.master.warning(text, deputy.number, stack)
            if self._loop.time() - deputy.started >= SETTLED and deputy.is_up:
                self._failures[deputy.number] = 0
                text = "acceptor %d (process %d) %s; replaced"
                logs.master.warning(text, deputy.number, deputy.process.pid, why)
                self._start(deputy.number)
            else:
                self._try_later(deputy.number, why)
        elif not self._deputies and not self._left.done():
            self._left.set_result(None)
        self._on_news()

    def _bury(self, deputy: Deputy) -> int:
        self._loop.remove_reader(deputy.process.pidfd)
        code = deputy.process.reap()
        deputy.line.close()
        for asked in deputy.questions.values():
            asked.answer.cancel()
        self.departed.add(deputy.report)
        del self._deputies[deputy.number]
        return code

    def _try_later(self, number: int, why: str) -> None:
        self._failures[number] += 1
        wait = delay(self._failures[number], random.Random())
        text = "acceptor %d %s; next try in %.1f s"
        logs.master.warning(text, number, why, wait)
        self._later(wait, lambda: self._start(number))

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        def due() -> None:
            self._timers.discard(timer)
            act()

        timer = self._loop.call_later(seconds, due)
        self._timers.add(timer)


def _dismissal(worker: Worker, farewell: Drain | Quit) -> orders.Dismiss:
    if isinstance(farewell, Quit):
        return orders.Dismiss(worker.id, 1, 0, 0)
    return orders.Dismiss(worker.id, 0, farewell.timeout_ms, farewell.give_back)
