"""
A worker as the master sees it: its process, its channel, and what it was handed.

Invariants: what was handed over and not answered stands in ``in_flight``, which
belongs to this object, so that nothing is forgotten when the worker dies. A worker that
breaks the protocol is ended, alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from maitred import logs
from maitred.acceptor.connection import RECORD, Connection, restored
from maitred.acceptor.rescue import Traffic, is_being_answered
from maitred.acceptor.times import Times
from maitred.errors import ChannelFull, DescriptorsLost, PeerMisbehaved
from maitred.upgrade.snapshot import Past, Table
from maitred.wire import MAX_PACKET, Channel, Descriptor
from maitred.wire.messages import (
    FROM_MASTER,
    FROM_WORKER,
    MAY_BE_SAID,
    Answer,
    Drain,
    Handoff,
    Phase,
    Quit,
    Relieve,
    Retire,
    Return,
    Revoke,
)
from maitred.wire.scoreboard import ENTRIES, Scoreboard

from .account import Account
from .processes import AttachedProcess, Process
from .secret import lend
from .starting import asking_for, open_scoreboard

BATCH: Final = 64
"Connections in one packet."
KEPT: Final = 128
"Bytes that it takes to keep what is to be said, beside the bytes of its key."
MOST_UNSAID: Final = 16 * 1024 * 1024
"""
Bytes of answers and revocations that may wait until a worker reads its channel, beside
those for all keys of the table. Beyond that it is ended, because a worker must hear
which keys it has lost.
"""
PACKETS_AT_ONCE: Final = 512
"""
Packets read from one worker before the others have their turn: more than a channel
can hold (278 with Linux's default buffer), so one round hears all that was said.
"""

FEW: Final = 32
"Copies that are compared when one has to be closed."

PLAIN: Final = (
    *("id", "slot", "generation", "handed_over", "failure", "cut", "silent"),
    "is_given_up",
    *("copies", "marks", "moves", "_free_marks", "_unused_mark", "returned", "hops_in"),
)
"Attributes that a snapshot has as they are; ``state`` writes the others."

PYTHON_WORKER: Final = (sys.executable, "-P", "-m", "maitred.worker")


class Worker:
    """One worker process and the master's end of its channel."""

    def __init__(
        self,
        number: int,
        slot: int,
        generation: int,
        channel: Channel,
        board: int,
        process: Process | AttachedProcess,
    ) -> None:
        """
        Take over a worker that was started: its process and both descriptors.

        Args:
            number: The worker's id, unique in this master.
            slot: The slot it fills or will fill.
            generation: The reload it was born in.
            channel: Our end of its channel.
            board: The descriptor of its scoreboard; closed in ``close``.
            process: Its process.
        """
        self.id = number
        self.slot = slot
        self.generation = generation
        self.channel = channel
        self.process = process
        self.board = Scoreboard(board)
        self.board_fd = board
        self.account = Account(self.board, f"worker {number} of slot {slot}")
        self.phase = Phase.STARTING
        # Placed here and not yet sent; sent and not yet answered.
        self.outbox: deque[Connection] = deque()
        self.in_flight: dict[int, Connection] = {}
        # What it has taken and neither closed nor given back, by id: our copy, or None
        # where we keep none.
        self.granted: dict[int, Connection | None] = {}
        self.copies = 0
        # Whether it marks its connections, and which marks no connection has.
        self.marks = False
        # Whether it gives back, as they are, connections whose key it loses.
        self.moves = False
        self._free_marks: list[int] = []
        self._unused_mark, self._end_of_marks = 1, ENTRIES
        # Answers to what it asked, said before it is told what it lost since.
        self.answers: deque[Answer] = deque()
        # Keys that it has to be told it lost.
        self.revoked: deque[bytes] = deque()
        # Bytes of both, and what it takes to keep them.
        self.unsaid = 0
        # What is sent after all that, once.
        self.farewell: Drain | Quit | Retire | None = None
        # What RELIEVE is to tell it, whether its slot is drained; None: nothing new.
        self.relief: bool | None = None
        # Connections it gave back, and that it took when others had given them back.
        self.returned = 0
        self.hops_in = 0
        self.handed_over = 0
        # Why it could not start, with the traceback; None: it has not said so.
        self.failure: tuple[str, str] | None = None
        # Connections that it closed at the end of its drain, by its DRAINED.
        self.cut = 0
        # Connections that it may be handed ahead; 0: as many as its slot allows.
        self.window = 0
        # Whether its channel is not read any more: it has ended, or the worker lied.
        self.silent = False
        self.distrusted = False
        # Whether it is killed because the system refuses to pass messages.
        self.is_given_up = False

    @classmethod
    def start(
        cls,
        number: int,
        slot: int,
        generation: int,
        command: Sequence[str],
        keys: dict[str, bytes] | None = None,
        held: Sequence[signal.Signals] = (),
        directory: str = "",
    ) -> Worker:
        """
        Start *command* as a worker, with a channel and a scoreboard of its own.

        Args:
            number: The worker's id, unique in this master.
            slot: The slot it fills or will fill.
            generation: The reload it was born in.
            command: Program and arguments.
            keys: Those that seal slots, if any are sealed.
            held: Signals that it begins with blocked, and unblocks once handled.
            directory: Where it runs; empty: the master's.

        Raises:
            SystemRefused: The system refuses what it needs; nothing is left open.
        """
        with contextlib.ExitStack() as on_error, contextlib.ExitStack() as lent:
            with asking_for("a channel (socketpair)"):
                ours, theirs = Channel.pair(sends=FROM_MASTER, receives=FROM_WORKER)
            on_error.callback(ours.close)
            lent.callback(theirs.close)
            board = open_scoreboard()
            on_error.callback(os.close, board)
            inherited = {
                "MAITRED_CHANNEL": theirs.fileno(),
                "MAITRED_SCOREBOARD": board,
            }
            if keys:
                with asking_for("memory for the keys (memfd_create)"):
                    inherited["MAITRED_SECRET"] = secret = lend(keys)
                lent.callback(os.close, secret)
            process = Process(
                command,
                {
                    "MAITRED_SLOT": str(slot),
                    "MAITRED_GENERATION": str(generation),
                    **{name: str(fd) for name, fd in inherited.items()},
                },
                tuple(inherited.values()),
                held=held,
                directory=directory,
            )
            worker = cls(number, slot, generation, ours, board, process)
            on_error.pop_all()
        return worker

    def use_marks(self, part: int, of: int) -> None:
        """
        Use part number *part*, of *of* equal parts, of the marks on the scoreboard.

        Called before anything is handed over: each acceptor has a part of its own.
        """
        size = ENTRIES // of
        # Never mark 0, because a connection with that number has none.
        self._unused_mark = max(part * size, 1)
        self._end_of_marks = (part + 1) * size

    def state(self, table: Table) -> dict[str, Any]:
        """Return the state for a successor; its descriptors go to *table*."""
        return {
            **{name: getattr(self, name) for name in PLAIN},
            "channel": table.own(self.channel.fileno()),
            "board": table.own(self.board_fd),
            "process": self.process.state(table),
            "phase": self.phase.value,
            "granted": [
                [id_, copy and copy.state(table)] for id_, copy in self.granted.items()
            ],
            "revoked": list(self.revoked),
            "answers": [list(answer) for answer in self.answers],
            "farewell": self.farewell and _written(self.farewell),
            "relief": self.relief,
            "born": self.account.born,
            "outbox": [each.state(table) for each in self.outbox],
            "in_flight": [each.state(table) for each in self.in_flight.values()],
        }

    @classmethod
    def restored(cls, state: dict[str, Any], past: Past) -> Worker:
        """Restore the worker that ``state`` wrote; its descriptors come from *past*."""
        worker = cls(
            state["id"],
            state["slot"],
            state["generation"],
            Channel(
                socket.socket(fileno=past.take(state["channel"])),
                sends=FROM_MASTER,
                receives=FROM_WORKER,
            ),
            past.take(state["board"]),
            Process.restored(state["process"], past),
        )
        for name in state.keys() & set(PLAIN):
            setattr(worker, name, state[name])
        worker.phase = Phase(state["phase"])
        worker.granted.update(
            (id_, copy and restored(copy, past)) for id_, copy in state["granted"]
        )
        # By the methods that add them, because these count the bytes that wait
        # (unsaid).
        for key in state["revoked"]:
            worker.revoke(key)
        for fields in state["answers"]:
            worker.answer(Answer(*fields))
        worker.farewell = state["farewell"] and _read(state["farewell"])
        worker.relief = state.get("relief")
        # From a version that did not write it: since the machine was started.
        worker.account.born = state.get("born", 0.0)
        worker.outbox.extend(restored(each, past) for each in state["outbox"])
        for each in state["in_flight"]:
            connection = restored(each, past)
            worker.in_flight[connection.id] = connection
        return worker

    def send_outbox(self, times: Times) -> bool:
        """
        Send what waits in the outbox, a batch a packet, then all else; farewell last.

        Args:
            times: Where to record how long each waited.

        Returns:
            Whether all of it is out; otherwise the channel is full.

        Raises:
            ChannelClosed: The worker is gone. What was not sent stays in the outbox.
        """
        while self.outbox:
            batch = self._batch()
            if self.marks:
                self._mark(batch)
            try:
                # A list, whose length is known: from *map, Python makes tuples of other
                # sizes than it frees, and keeps thousands of them.
                self.channel.send_nowait(*[handoff(each) for each in batch])
            except ChannelFull:
                return False
            now = time.monotonic()
            if logs.traces(logs.master):
                self._trace(batch)
            for connection in batch:
                if connection.since:
                    times.hand_over.note(now - connection.since)
                connection.since = now
                self.in_flight[connection.id] = connection
                self.outbox.popleft()
            self.handed_over += len(batch)
        try:
            self._say_the_rest()
        except ChannelFull:
            return False
        return self.channel.flush()

    def _trace(self, batch: Sequence[Connection]) -> None:
        """Log where each of *batch* was handed to."""
        for connection in batch:
            logs.master.debug(
                "handed to worker %d of slot %d, hop %d",
                self.id,
                self.slot,
                connection.hops,
                extra=logs.about(conn=connection.id, worker=self.id, slot=self.slot),
            )

    def _say_the_rest(self) -> None:
        """
        Send answers, revoked keys, RELIEVE and the farewell, in this order.

        Raises:
            ChannelFull: What was not sent stays to be sent.
        """
        # Before the revocations, because a key that an answer grants may have been lost
        # since.
        while self.answers:
            self.channel.send_nowait(self.answers[0])
            self.unsaid -= KEPT + len(self.answers.popleft().key)
        while self.revoked:
            batch = list(itertools.islice(self.revoked, self._fitting()))
            self.channel.send_nowait(*map(Revoke, batch))
            for key in batch:
                self.revoked.popleft()
                self.unsaid -= KEPT + len(key)
        if self.relief is not None:
            self.channel.send_nowait(Relieve(int(self.relief)))
            self.relief = None
        if self.farewell is not None:
            self.channel.send_nowait(self.farewell)
            self.farewell = None

    def _fitting(self) -> int:
        """Return how many of the revoked keys, from the first on, fit one packet."""
        size = 0
        for count, key in enumerate(itertools.islice(self.revoked, BATCH)):
            size += RECORD + len(key)
            if count and size > MAX_PACKET:
                return count
        return BATCH

    def answer(self, answer: Answer) -> None:
        """Add *answer* to what is sent at the next flush."""
        self.answers.append(answer)
        self.unsaid += KEPT + len(answer.key)

    def revoke(self, key: bytes) -> None:
        """Add a REVOKE of *key* to what is sent at the next flush."""
        self.revoked.append(key)
        self.unsaid += KEPT + len(key)

    @property
    def has_to_hear(self) -> bool:
        """Whether anything waits to be sent."""
        # None is asked for, and not falsehood, because relief is False where RELIEVE is
        # to say that a slot is undrained.
        said = self.outbox or self.answers or self.revoked or self.farewell
        return bool(said) or self.relief is not None

    def _batch(self) -> list[Connection]:
        """Return the first of the outbox, as many as fit one packet."""
        batch = list(itertools.islice(self.outbox, BATCH))
        size = 0
        for count, connection in enumerate(batch):
            size += RECORD + connection.luggage
            # The first is always in, because one alone always fits (MOST_LUGGAGE).
            if count and size > MAX_PACKET:
                return batch[:count]
        return batch

    def _mark(self, batch: Sequence[Connection]) -> None:
        """
        Assign a mark to each of *batch*, so that its copy can be kept.

        One for which no mark is free goes without; no copy of it is kept.
        """
        now = time.monotonic_ns()
        for connection in batch:
            # It has one because the channel was full the last time. Without TCP it gets
            # none, because the kernel counts no bytes by which it could be rescued.
            if connection.mark or not connection.is_tcp:
                continue
            if self._free_marks:
                connection.mark = self._free_marks.pop()
            elif self._unused_mark < self._end_of_marks:
                connection.mark = self._unused_mark
                self._unused_mark += 1
            else:
                continue
            self.board.reset(
                connection.mark, connection.position, connection.written, now
            )

    @property
    def is_ready(self) -> bool:
        """Whether it has said READY."""
        return self.phase is not Phase.STARTING

    @property
    def did(self) -> dict[str, int]:
        """What it did, in numbers that are added up when it is dead."""
        return {
            "handed_over": self.handed_over,
            "hops_in": self.hops_in,
            "hops_out": self.returned,
        }

    @property
    def unanswered(self) -> int:
        """How many connections were placed here and not answered yet."""
        return len(self.in_flight) + len(self.outbox)

    def give_up_outbox(self) -> list[Connection]:
        """Remove and return what was not sent yet; the caller owns it."""
        outbox = list(self.outbox)
        self.outbox.clear()
        for connection in outbox:
            self.unmark(connection)
        return outbox

    def unmark(self, connection: Connection) -> None:
        """Free the mark of *connection*, which this worker does not have."""
        if connection.mark:
            self._free_marks.append(connection.mark)
            connection.mark = 0

    def grant(self, connection: Connection) -> bool:
        """
        Record that *connection* was taken; return whether we keep our copy of it.

        A copy without a mark is closed.
        """
        # Only one with a mark is kept, because without a mark nothing could be proved
        # of it.
        if connection.mark:
            self.granted[connection.id] = connection
            self.copies += 1
            return True
        self.granted[connection.id] = None
        connection.close()
        return False

    def forget(self, id_: int) -> None:
        """
        Remove connection *id_*, which this worker has no more; close our copy.

        Raises:
            KeyError: The worker does not have it.
        """
        connection = self.granted.pop(id_)
        if connection is not None:
            self.unmark(connection)
            # It may be closed or given away, because spare and take_copy leave the
            # entry.
            if connection.sock.fileno() >= 0:
                self.copies -= 1
                connection.close()

    def traffic(self, id_: int) -> Traffic | None:
        """Return how much went through connection *id_*; None: it has no mark."""
        connection = self.granted[id_]
        if connection is None:
            return None
        mark = self.board.mark(connection.mark)
        return Traffic(mark.position, mark.written)

    def take_copy(self, id_: int) -> Descriptor | None:
        """
        Hand our copy of connection *id_* to the caller; None: there is none.

        Raises:
            PeerMisbehaved: This worker does not have that connection.
        """
        if id_ not in self.granted:
            raise PeerMisbehaved(f"RETURN of connection {id_}, which it does not have")
        connection = self.granted[id_]
        if connection is None or connection.sock.fileno() < 0:
            return None
        self.copies -= 1
        return Descriptor(connection.sock.detach())

    @property
    def is_answering(self) -> bool:
        """Whether it is answering a request just now, as far as its marks say."""
        granted = (c for c in self.granted.values() if c is not None)
        return any(
            is_being_answered(connection, self.board)
            for connection in (*granted, *self.in_flight.values())
            if connection.mark and connection.sock.fileno() >= 0
        )

    def distrust(self) -> None:
        """
        Close all kept copies and believe no mark: no other worker gets what it took.

        Its marks may be lies, or speak of a place in the journal that another
        connection has since: it cannot be known any more what was begun.
        """
        self.distrusted = True
        while self.spare():
            pass
        for connection in self.in_flight.values():
            connection.mark = 0

    def spare(self) -> bool:
        """
        Close one copy: of a few, the one whose connection was idle the longest.

        That connection dies with the worker then. Returns whether there was a copy.
        """
        copies = (
            c for c in self.granted.values() if c is not None and c.sock.fileno() >= 0
        )
        few = list(itertools.islice(copies, FEW))
        if not few:
            return False
        oldest = min(few, key=lambda c: self.board.mark(c.mark).since)
        oldest.close()
        self.copies -= 1
        # To the end, so that the next one is found at the beginning.
        self.granted[oldest.id] = self.granted.pop(oldest.id)
        return True

    def packets(self) -> Iterator[list[Any]]:
        """
        Yield the packets that the worker has sent, a bounded number of them.

        A packet holds messages of one type.

        Raises:
            ChannelClosed: The worker is gone, and every packet was yielded.
            PeerMisbehaved: A message is none, or not allowed in this phase.
        """
        for _ in range(PACKETS_AT_ONCE):
            try:
                packet = self.channel.receive_nowait()
            except (
                DescriptorsLost
            ) as exc:  # we are at our limit, and it is not to blame
                packet = exc.messages
            if not packet:
                return
            try:
                if self.phase not in MAY_BE_SAID[type(packet[0])]:
                    name = type(packet[0]).__name__.upper()
                    raise PeerMisbehaved(f"{name} while {self.phase.value}")
                yield packet
            finally:
                # Left over where the caller raised because of an earlier message.
                if isinstance(packet[0], Return):
                    for message in packet:
                        if message.connection is not None:
                            message.connection.close()

    def say_goodbye(self, farewell: Drain | Quit) -> None:
        """Schedule *farewell* to be sent after the outbox, and nothing after it."""
        # A worker that is starting stays so, because it may still say READY or FAILED.
        if self.phase is Phase.SERVING:
            self.phase = Phase.DRAINING
        self.farewell = farewell

    def retire(self) -> None:
        """Schedule RETIRE to be sent after the outbox."""
        self.farewell = Retire()

    def hush(self) -> None:
        """Remove what waits to be sent to a worker that cannot be reached any more."""
        self.answers.clear()
        self.revoked.clear()
        self.unsaid = 0
        self.farewell = self.relief = None

    def left_over(self) -> list[Connection]:
        """
        Remove and return every connection that it had and of which we have a socket.

        The caller owns them.
        """
        copies = [c for c in self.granted.values() if c is not None]
        connections = [*copies, *self.in_flight.values(), *self.outbox]
        for each in (self.granted, self.in_flight, self.outbox):
            each.clear()
        # Without those that were spared, because their copies are closed: they die with
        # the worker.
        return [c for c in connections if c.sock.fileno() >= 0]

    def close(self) -> None:
        """Close our end of the channel and the scoreboard."""
        self.channel.close()
        self.board.close()
        os.close(self.board_fd)


def handoff(connection: Connection) -> Handoff:
    """Return the HANDOFF of *connection*, which keeps its descriptor."""
    return Handoff(
        connection.sock,
        connection.id,
        connection.peer,
        connection.peer_port,
        *connection.local,
        connection.key or b"",
        int(connection.once),
        connection.consumed,
        connection.mark,
        int(connection.idle),
        connection.hops,
        connection.frozen,
    )


def _written(message: Any) -> list[Any]:
    """Return *message*, one of ours without a descriptor, as plain data."""
    (number,) = (n for n, kind in FROM_MASTER.items() if kind is type(message))
    return [number, *message]


def _read(written: list[Any]) -> Any:
    """Return the message that ``_written`` wrote."""
    number, *values = written
    return FROM_MASTER[number](*values)
