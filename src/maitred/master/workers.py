"""
A worker as the master sees it: its process, its channel, and what it was handed.

Invariants: what was handed over and not answered stands in ``in_flight``, which
belongs to this object, so that nothing is forgotten when the worker dies. A worker that
breaks the protocol is ended, alone.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from maitred.errors import ChannelFull, DescriptorsLost, PeerMisbehaved
from maitred.wire import MAX_PACKET, Channel
from maitred.wire.messages import (
    FROM_MASTER,
    FROM_WORKER,
    MAY_BE_SAID,
    Answer,
    Drain,
    Handoff,
    Phase,
    Quit,
    Return,
    Revoke,
)
from maitred.wire.scoreboard import Scoreboard

from .connection import Connection
from .processes import Process
from .secret import lend

BATCH: Final = 64
"Connections in one packet."
RECORD: Final = 256
"Bytes of a packet for a connection, its addresses included; key and bytes come on top."
PACKETS_AT_ONCE: Final = 512
"""
Packets read from one worker before the others have their turn: more than a channel
can hold (278 with Linux's default buffer), so one round hears all that was said.
"""

PYTHON_WORKER: Final = (sys.executable, "-P", "-m", "maitred.worker")


class Worker:
    """One worker process and the master's end of its channel."""

    def __init__(
        self,
        number: int,
        slot: int,
        generation: int,
        command: Sequence[str],
        keys: dict[str, bytes] | None = None,
    ) -> None:
        """
        Start *command* as a worker.

        Args:
            number: The worker's id, unique in this master.
            slot: The slot it fills or will fill.
            generation: The reload it was born in.
            command: Program and arguments.
            keys: Those that seal slots, if any are sealed.

        Raises:
            SystemRefused: It could not be started.
        """
        self.id = number
        self.slot = slot
        self.generation = generation
        self.phase = Phase.STARTING
        # Placed here and not yet sent; sent and not yet answered.
        self.outbox: deque[Connection] = deque()
        self.in_flight: dict[int, Connection] = {}
        # Ids of what it has taken and neither closed nor given back.
        self.granted: set[int] = set()
        # Answers to what it asked, said before it is told what it lost since.
        self.answers: deque[Answer] = deque()
        # Keys that it has to be told it lost.
        self.revoked: deque[bytes] = deque()
        # What is said after all that, once.
        self.farewell: Drain | Quit | None = None
        self.handed_over = 0
        # What it said when it could not start, or when it left.
        self.failure: tuple[str, str] | None = None
        self.cut = 0
        # Nothing more is heard from it: it closed its end, or broke the protocol.
        self.silent = False
        self.channel, theirs = Channel.pair(sends=FROM_MASTER, receives=FROM_WORKER)
        board = Scoreboard.create()
        lent: dict[str, int] = {}
        try:
            if keys:
                lent["MAITRED_SECRET"] = lend(keys)
            self.board = Scoreboard(board)
            self.process = Process(
                command,
                {
                    "MAITRED_CHANNEL": str(theirs.fileno()),
                    "MAITRED_SCOREBOARD": str(board),
                    "MAITRED_SLOT": str(slot),
                    "MAITRED_GENERATION": str(generation),
                    **{name: str(fd) for name, fd in lent.items()},
                },
                (theirs.fileno(), board, *lent.values()),
            )
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()
            os.close(board)
            for fd in lent.values():
                os.close(fd)

    def send_outbox(self) -> bool:
        """
        Hand over what waits in the outbox, a batch a packet, then say farewell.

        Returns:
            Whether all of it is out; otherwise the channel is full.

        Raises:
            ChannelClosed: The worker is gone. What was not sent stays in the outbox.
        """
        while self.outbox:
            batch = self._batch()
            try:
                self.channel.send_nowait(*map(handoff, batch))
            except ChannelFull:
                return False
            for connection in batch:
                self.in_flight[connection.id] = connection
                self.outbox.popleft()
            self.handed_over += len(batch)
        try:
            while self.answers:
                self.channel.send_nowait(self.answers[0])
                self.answers.popleft()
            while self.revoked:
                self.channel.send_nowait(
                    *map(Revoke, itertools.islice(self.revoked, BATCH))
                )
                for _ in range(min(BATCH, len(self.revoked))):
                    self.revoked.popleft()
            if self.farewell is not None:
                self.channel.send_nowait(self.farewell)
                self.farewell = None
        except ChannelFull:
            return False
        return self.channel.flush()

    def _batch(self) -> list[Connection]:
        """Give the first of the outbox, as many as fit one packet."""
        batch = list(itertools.islice(self.outbox, BATCH))
        size = 0
        for count, connection in enumerate(batch):
            size += RECORD + len(connection.key or b"") + len(connection.consumed)
            if count and size > MAX_PACKET:
                return batch[:count]
        return batch

    def messages(self) -> Iterator[Any]:
        """
        Give what the worker has said, as long as there is something and it is fair.

        Raises:
            ChannelClosed: It is gone, and everything it said was given.
            PeerMisbehaved: It said what it may not say in this phase, or nonsense.
        """
        for _ in range(PACKETS_AT_ONCE):
            try:
                packet = self.channel.receive_nowait()
            except DescriptorsLost as exc:
                raise PeerMisbehaved("descriptors were sent to us") from exc
            if not packet:
                return
            try:
                if self.phase not in MAY_BE_SAID[type(packet[0])]:
                    name = type(packet[0]).__name__.upper()
                    raise PeerMisbehaved(f"{name} while {self.phase.value}")
                yield from packet
            finally:
                # What nobody took over, because an earlier one was wrong.
                if isinstance(packet[0], Return):
                    for message in packet:
                        message.connection.close()

    def say_goodbye(self, farewell: Drain | Quit) -> None:
        """Say *farewell* after all that is in the outbox, and nothing after it."""
        if self.phase is Phase.SERVING:
            self.phase = Phase.DRAINING
        self.farewell = farewell

    def left_over(self) -> list[Connection]:
        """Give up everything it was handed and never took; the caller owns it."""
        connections = [*self.in_flight.values(), *self.outbox]
        self.in_flight.clear()
        self.outbox.clear()
        return connections

    def close(self) -> None:
        """Close our end of the channel and unmap the scoreboard."""
        self.channel.close()
        if hasattr(self, "board"):
            self.board.close()


def handoff(connection: Connection) -> Handoff:
    """Say all that travels with *connection*, which keeps its descriptor."""
    return Handoff(
        connection.sock,
        connection.id,
        connection.peer,
        connection.peer_port,
        *connection.local,
        connection.key or b"",
        int(connection.once),
        connection.consumed,
    )
