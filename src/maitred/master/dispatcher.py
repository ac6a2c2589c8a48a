"""
Dispatch: place a connection, hand it over, keep our copy until it is TAKEN.

A connection that the master owns stands in exactly one place:

    peeking       not decided yet                      (acceptor/peek.py)
    waiting room  decided, and no worker has it        (acceptor/waiting_room.py)
    an outbox     placed with a worker, not sent
    in flight     sent to a worker, not answered
    passed on     its key's home is another acceptor   (mesh.py)

and leaves through TAKEN, a refusal (acceptor/refusals.py), or because its client left.

Invariants: every wait is bounded by a deadline and a count. A connection goes to a
second worker only if the first refused it or is dead, and all bytes are still there.
Room is derived from the slots, never noted down. Every callback ends in ``settle``,
which moves what can move; nothing else sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import select
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from maitred import logs
from maitred.acceptor.connection import MOST_HOPS, Connection, returned
from maitred.acceptor.counters import Counters, Done
from maitred.acceptor.deadlines import SWEEP, extend_deadlines
from maitred.acceptor.evictions import Evictions
from maitred.acceptor.peek import Refuse, untouched
from maitred.acceptor.rescue import Left, rescue, traffic
from maitred.acceptor.waiting_room import WaitingRoom
from maitred.errors import (
    ChannelClosed,
    ChannelRefused,
    MessageTooLarge,
    PeerMisbehaved,
)
from maitred.placement import Placement, Slot
from maitred.unread import has_unread
from maitred.upgrade.snapshot import Past, Table
from maitred.wire.messages import (
    Answer,
    Ask,
    Attach,
    Claim,
    Closed,
    Drain,
    Drained,
    Failed,
    Have,
    Phase,
    Quit,
    Ready,
    Reason,
    Refused,
    Release,
    Return,
    Taken,
)

from .mesh import Mesh
from .workers import MOST_UNSAID, Worker

MOST_ATTEMPTS: Final = 4
"Handoffs of one connection before the client is told that nobody takes it."
PAUSE_AFTER_REFUSAL: Final = 0.05
"Seconds until a refused connection is placed again: time for the worker to recover."
MOST_BYTES: Final = 1 << 62
"More bytes no connection carries; a mark that says so is a lie."
MOST_GRANTED: Final = 1 << 20
"Connections that one worker has: no process has more open (fs.nr_open of Linux)."
RETRY_SEND: Final = 0.01
LONGEST_REASON: Final = 1000
LONGEST_TRACEBACK: Final = 64 * 1024
"Bytes of what a worker says about its failure that are kept: the first, and the last."
GRACE: Final = 5.0
"Seconds a worker has to end after it closed its channel, or after we gave that up."
LOOK: Final = 0.05
"Seconds between two checks whether a worker is still answering a request."


class Superior(Protocol):
    """The master as a dispatcher sees it from another process."""

    def hear(self) -> None:
        """
        Read pending messages from the master.

        Board, Attach and Expect take effect at once; the others are queued, because
        they may dispatch connections.
        """

    def expects(self, worker: Worker) -> bool:
        """
        Return whether the master has ordered that *worker* fills its slot.

        Only what was read from the master so far counts.
        """


class Dispatcher:
    """Owns every decided connection until a worker takes it."""

    def __init__(
        self,
        placement: Placement,
        *,
        wait_timeout: float,
        most: int,
        refuse: Refuse,
        look_again: Callable[[Connection], None],
        most_copies: int,
        on_ready: Callable[[Worker], None],
        counters: Counters,
    ) -> None:
        """
        Start without workers; needs a running loop.

        Args:
            placement: Chooses a slot for each connection, and has the key table.
            wait_timeout: Seconds a decided connection waits for room.
            most: How many may wait.
            refuse: Called with a connection, a status and a cause; answers its client,
                and owns the connection from then on.
            look_again: Called with a connection whose next head has to be peeked at,
                and owns it from then on.
            most_copies: Descriptors for copies of what workers serve; 0: keep none.
            on_ready: Called, in a later turn of the loop, when a worker said READY.
            counters: Where to count.
        """
        # The way to other acceptors, and the master if we are not in it.
        self._mesh: Mesh | None = None
        self._superior: Superior | None = None
        self._placement = placement
        self._evictions = Evictions(placement.keys)
        self._window = placement.slots[0].window
        self._most_unsaid = MOST_UNSAID + placement.keys.most_bytes
        self._wait_timeout = wait_timeout
        self._refuse = refuse
        self._look_again = look_again
        self._most_copies = most_copies
        self._copies = 0
        self._on_ready = on_ready
        self._counters = counters
        # What dead workers did.
        self.done = Done()
        self._loop = asyncio.get_running_loop()
        self._workers: dict[int, Worker] = {}
        self._filling: list[Worker | None] = [None] * len(placement.slots)
        self._room = WaitingRoom(
            len(placement.slots), most=most, wait_timeout=wait_timeout
        )
        self._asked: deque[tuple[Worker, Ask]] = deque()  # not answered yet
        self._addressees: set[Worker] = set()  # those that something is to be said to
        # Whether the slots know how many connections their workers have by now.
        self._is_fresh = False
        # All channels in one place, so that asking who has said something is one call.
        self._channels = select.epoll()
        self._by_channel: dict[int, Worker] = {}
        self._loop.add_reader(self._channels.fileno(), self._on_channels)
        self._closing = False
        self._at_limit = logs.Seldom()
        self._heed: dict[type, Callable[[Worker, list[Any]], None]] = {
            Ready: self._heed_ready,
            Failed: self._heed_failed,
            Taken: self._heed_taken,
            Refused: self._heed_refused,
            Closed: self._heed_closed,
            Return: self._heed_return,
            Claim: self._heed_claims,
            Ask: self._heed_ask,
            Release: self._heed_release,
            Drained: self._heed_drained,
            Have: self._heed_have,
            Attach: self._heed_attach,
        }
        self._sweeping: asyncio.TimerHandle | None = None
        self._retry: asyncio.Handle | None = None
        # Called at the end of settle; set by the master, who has the other parts.
        self.on_settled: Callable[[], None] = lambda: None
        # Called with each connection that a worker gave back; set by the desk.
        self.on_returned: Callable[[Connection], None] = lambda _: None

    def join(self, mesh: Mesh, superior: Superior | None) -> None:
        """
        Connect this dispatcher to the other acceptors; called once, before any worker.

        Args:
            mesh: The way to the others.
            superior: The master; None where this process is the master.
        """
        self._mesh, self._superior = mesh, superior

    # What the master asks

    @property
    def waiting(self) -> int:
        """Return how many decided connections wait for room."""
        return len(self._room)

    @property
    def owned(self) -> int:
        """Return how many decided connections no worker has taken."""
        placed = (len(w.outbox) + len(w.in_flight) for w in self._workers.values())
        return self.waiting + sum(placed)

    @property
    def congested(self) -> bool:
        """
        Return whether to leave new clients in the kernel's backlog for now.

        Connections that wait for one slot do not count, because others can be served.
        """
        if self._room.lobby:
            return True
        # Workers without descriptors refuse whatever they are handed. Asked second,
        # because this is asked all the time and hardly ever anybody rests.
        slots = self._placement.slots
        return self._room.is_rest_full and not any(s.takes_new for s in slots)

    @property
    def workers(self) -> Iterable[Worker]:
        """Return all attached workers, also those that are leaving."""
        return self._workers.values()

    def filling(self, slot: int) -> Worker | None:
        """Return the worker that fills *slot*; None: the slot is empty."""
        return self._filling[slot]

    def has_granted(self, id_: int) -> bool:
        """Return whether a worker is known to have connection *id_*."""
        return any(id_ in worker.granted for worker in self._workers.values())

    def queued(self, slot: int) -> int:
        """Return how many connections wait for *slot* alone."""
        return len(self._room.queues[slot])

    def attach(self, worker: Worker) -> None:
        """Register the channel of *worker*, which is new and fills no slot yet."""
        # A deputy may hear of it before it hears how many slots there are now.
        self._grow(worker.slot + 1)
        self._workers[worker.id] = worker
        self._by_channel[worker.channel.fileno()] = worker
        self._channels.register(worker.channel.fileno(), select.EPOLLIN)

    def hear(self, worker: Worker) -> None:
        """Read and handle what *worker* has sent."""
        self._listen(worker)

    def promote(self, worker: Worker) -> None:
        """
        Make *worker*, which is ready, fill its slot.

        What was placed with the worker before, and not sent, is placed anew.
        """
        previous = self._fill(worker)
        if previous is not None:
            self._give_back_outbox(previous)
        self.settle()

    def _fill(self, worker: Worker) -> Worker | None:
        """Make *worker* fill its slot; return the one that did, with its outbox."""
        slot = self._placement.slots[worker.slot]
        previous = self._filling[worker.slot]
        if previous is worker:
            return None
        if previous is not None:
            self._vacate(previous)
        self._filling[worker.slot] = worker
        slot.ready, slot.in_flight, slot.open = True, 0, worker.board.connections
        # A new worker is neither, because both were said of the slot before it came.
        slot.elder = False
        slot.late = False
        slot.window = worker.window or self._window
        # A drained slot stays drained whoever fills it, so the new worker has to hear
        # of it.
        if slot.drained:
            worker.relief = True
            self._addressees.add(worker)
        return previous

    def _catch_up(self, worker: Worker) -> bool:
        """
        Make *worker* fill its slot if the master has ordered so.

        Another acceptor may have read that order before this one, and handed the worker
        the connection on which it made the key of its message. Returns whether the
        worker fills its slot now.
        """
        if self._superior is None:
            return False
        self._superior.hear()
        if worker.silent or not self._superior.expects(worker):
            return False
        previous = self._fill(worker)
        if previous is not None:
            self._room.coming_back.extend(previous.give_up_outbox())
        self._loop.call_soon(self.settle)
        return True

    def dismiss(self, worker: Worker, farewell: Drain | Quit) -> None:
        """
        Take its slot from *worker*, and send it *farewell*.

        What was placed with it, and not sent, is placed anew.
        """
        self._vacate(worker)
        self._give_back_outbox(worker)
        worker.say_goodbye(farewell)
        self._flush(worker)
        self.settle()

    def retire(self, worker: Worker) -> None:
        """Send RETIRE to *worker*; its slot gets nothing but old sessions now."""
        self._placement.slots[worker.slot].elder = True
        worker.retire()
        self._flush(worker)

    def abandon(self, index: int) -> None:
        """
        Forget the keys of slot *index*, which no worker fills any more.

        What waits for that slot is placed anew.
        """
        slot = self._placement.slots[index]
        slot.elder = True
        self._let_go(slot)
        self.settle()

    def relieve(self, index: int, *, relieved: bool) -> None:
        """Drain slot *index*, which gets nothing new from then on; or end that."""
        self._placement.slots[index].drained = relieved
        worker = self._filling[index]
        if worker is not None and worker.phase is Phase.SERVING:
            worker.relief = relieved
            if relieved and worker.moves:
                # Its sessions are revoked, because such a worker gives their
                # connections back with all that they are, frozen.
                for key in self._placement.keys.take_all(index):
                    worker.revoke(key)
            self._addressees.add(worker)
        self.settle()

    def resize(self, count: int) -> None:
        """
        Change the number of slots: open or add what is missing, close the rest.

        The caller dismisses the workers of closed slots before it does anything else.
        """
        self._grow(count)
        for slot in self._placement.slots:
            was_closed, slot.closed = slot.closed, slot.index >= count
            if slot.closed and not was_closed:
                slot.drained = False
                if self._filling[slot.index] is None:
                    self._let_go(slot)

    def _grow(self, count: int) -> None:
        slots = self._placement.slots
        for index in range(len(slots), count):
            slots.append(Slot(index, self._window))
            self._filling.append(None)
        self._room.grow(len(slots))
        self._placement.keys.resize(len(slots))

    def detach(self, worker: Worker) -> None:
        """
        Remove *worker*, which is dead, and close its channel.

        What it never took, and what can be rescued of the rest, is placed anew.
        """
        self._vacate(worker)
        # A worker whose channel fails now is distrusted, because there is no later
        # moment to read it.
        worker.is_given_up = True
        self._listen(worker)
        self._stop_listening(worker)
        del self._workers[worker.id]
        self._copies -= worker.copies
        self._counters.orphaned += worker.copies
        self.done.note(worker.slot, worker.did)
        for connection in worker.left_over():
            if connection.mark:
                self._rescue(connection, worker)
            else:
                connection.attempts += 1
                self._again(connection)
        worker.close()
        self.settle()

    def close(self) -> None:
        """Answer with 503 what waits, and later what cannot be placed at once."""
        self._closing = True
        for connection in self._room.take_all():
            self._turn_away(connection, 503, "stopping")
        for timer in (self._sweeping, self._retry):
            if timer is not None:
                timer.cancel()
        # Farewells are still to be said, and a full channel wants another try.
        self._sweeping = self._retry = None

    # What a successor is told

    def state(self, table: Table) -> dict[str, Any]:
        """Return the state for a successor, without the workers themselves."""
        return {
            "filling": [worker and worker.id for worker in self._filling],
            "slots": [
                [s.ready, s.in_flight, s.open, s.elder] for s in self._placement.slots
            ],
            "drained": [s.index for s in self._placement.slots if s.drained],
            **self._room.state(table),
            "copies": self._copies,
            "asked": [[worker.id, *ask] for worker, ask in self._asked],
        }

    def restore(
        self, state: dict[str, Any], past: Past, workers: Mapping[int, Worker]
    ) -> None:
        """Restore *state*, with *workers*; nothing is read or sent yet."""
        for worker in workers.values():
            self._workers[worker.id] = worker
            if worker.silent:
                self._loop.call_later(GRACE, self._end, worker)
            elif worker.is_given_up:
                self._end_soon(worker)
            else:
                self.attach(worker)
        count = len(self._placement.slots)
        self._grow(len(state["slots"]))
        for slot in self._placement.slots[count:]:
            # They were closed before, because a smaller number of workers closes slots
            # and removes none.
            slot.closed = True
        self._filling = [n and workers[n] for n in state["filling"]]
        for slot, numbers in zip(self._placement.slots, state["slots"], strict=True):
            slot.ready, slot.in_flight, slot.open, slot.elder = numbers
        for index in state.get("drained", ()):
            self._placement.slots[index].drained = True
        self._copies = state["copies"]
        self._room.restore(
            state,
            past,
            lambda connection: self._loop.call_later(
                PAUSE_AFTER_REFUSAL, self._rested, connection
            ),
        )
        self._asked.extend((workers[n], Ask(*ask)) for n, *ask in state["asked"])
        self._retry = self._loop.call_soon(self._flush_all)
        self._sweeping = self._loop.call_later(SWEEP, self._sweep)

    # The way of a connection

    def dispatch(self, connection: Connection) -> None:
        """Place *connection*, whose key is known; or queue it, or answer 503."""
        if self._mesh is not None and self._mesh.takes(connection):
            return
        now = self._loop.time()
        slot = self._place(connection, now)
        if slot is not None and slot.has_room:
            self._assign(connection, slot, now)
            return
        if self._closing:
            self._turn_away(connection, 503, "stopping")
        elif self._room.add(connection, None if slot is None else slot.index, now):
            self._expect_sweep()
        else:
            self._turn_away(connection, 503, "no_worker")

    def _expect_sweep(self) -> None:
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(SWEEP, self._sweep)

    def settle(self) -> None:
        """Move what can move: from lobby and queues to outboxes, from there out."""
        while coming_back := self._room.coming_back:
            self._come_back(coming_back.popleft())
        while self._asked:
            self._decide(*self._asked.popleft())
        if self._sweeping is not None:  # as long as somebody waits
            self._let_in()
        if lost := self._placement.keys.take_lost():
            self._evictions.look(self._loop.time())
        for key, index in lost:
            loser = self._filling[index]
            if loser is not None:
                loser.revoke(key)
                self._addressees.add(loser)
            self._follow(key, index)
        while self._addressees:
            worker = self._addressees.pop()
            if self._filling[worker.slot] is worker:
                self._flush(worker)
        self._is_fresh = False
        if self._mesh is not None:
            self._mesh.flush()
        self.on_settled()

    def _let_in(self) -> None:
        """Place what waits in the queues and the lobby, as far as there is room."""
        slots, now = self._placement.slots, self._loop.time()
        for slot, queue in zip(slots, self._room.queues, strict=True):
            while queue and slot.has_room:
                connection = queue.popleft()
                # Its session may have been given away, or evicted, since it waits.
                if self._place(connection, now) is slot:
                    self._assign(connection, slot, now)
                else:
                    self.dispatch(connection)
        lobby = self._room.lobby
        for _ in range(len(lobby)):
            if not any(slot.has_room for slot in slots):
                break
            self.dispatch(lobby.popleft())

    def _follow(self, key: bytes, index: int) -> None:
        """Place anew what waits for slot *index* because that slot owned *key*."""
        # One that was evicted has no new owner to go to; it waits for its turn.
        if (
            self._room.queues[index]
            and self._placement.owner(key, self._loop.time()) is not None
        ):
            for connection in self._room.take(index, key):
                self.dispatch(connection)

    def _refresh(self) -> None:
        """Read the scoreboards, which say how many connections each worker has."""
        self._is_fresh = True
        for slot, worker in zip(self._placement.slots, self._filling, strict=True):
            if worker is not None:
                slot.open = worker.board.connections

    def _place(self, connection: Connection, now: float) -> Slot | None:
        key, home = connection.key, connection.home
        # An idle connection goes back to the slot that it comes from, because its next
        # request may well belong there.
        if key is None and home is not None and self._placement.slots[home].takes_new:
            return self._placement.slots[home]
        if key is not None:
            slot = self._placement.owner(key, now)
            if slot is None and connection.learned:
                # The claim for this key, if there was one, was sent before the
                # client could know the key: it is in a channel by now at the latest.
                self._hear_all()
                slot = self._placement.owner(key, now)
            if slot is not None:
                return slot
        # Only now, because most connections have a key whose slot is known, and reading
        # all scoreboards each time is a noticeable part of a turn.
        if not self._is_fresh:
            self._refresh()
        return self._placement.choose(key, learned=connection.learned, now=now)

    def _decide(self, worker: Worker, ask: Ask) -> None:
        """Answer the ASK of *worker* about a request that cannot be moved."""
        now = self._loop.time()
        key, learned = ask.key, bool(ask.learned)
        if learned and self._placement.owner(key, now) is None:
            self._hear_all()  # as in _place
        if self._filling[worker.slot] is not worker:
            self._catch_up(worker)
        if worker.id not in self._workers or worker.phase is not Phase.SERVING:
            return  # it leaves, and answers itself
        yes = self._filling[worker.slot] is worker and self._placement.concede(
            key, worker.slot, now, learned=learned
        )
        worker.answer(Answer(int(yes), key))
        if self._filling[worker.slot] is not worker:  # settle does the others
            self._flush(worker)
        self._addressees.add(worker)

    def _assign(self, connection: Connection, slot: Slot, now: float) -> None:
        worker = self._filling[slot.index]
        assert worker is not None
        key = connection.key
        # For one request only, because the key names another slot by itself, or because
        # keys of its kind enter the table by a claim and nobody has claimed it.
        connection.once = key is not None and (
            self._placement.strays(key, slot.index)
            or (connection.learned and self._placement.owner(key, now) is not slot)
        )
        slot.in_flight += 1
        connection.deadline = now + self._wait_timeout
        worker.outbox.append(connection)
        self._addressees.add(worker)

    def _come_back(self, connection: Connection) -> None:
        """
        Place *connection*, which a worker gave back or left at its death.

        Its next head is peeked at first if the key is not known.
        """
        if (
            connection.key is None
            and connection.consumed
            and not (connection.frozen or self._closing)
        ):
            self._look_again(connection)
        else:
            self.dispatch(connection)

    def _rescue(self, connection: Connection, worker: Worker) -> None:
        """Rescue, answer or end *connection*, a kept copy whose *worker* is dead."""
        left = rescue(connection, worker.board)
        # A client that waits for nothing has not been handed over in vain.
        connection.attempts += not connection.idle
        if left is Left.STARTED:
            self._refuse(connection, 502, "worker_died")
        elif left is Left.LOST:
            self._counters.lost += 1
            connection.end()
        elif left is Left.ENDED:
            self._counters.client_left += 1
            connection.end()
        elif connection.attempts >= MOST_ATTEMPTS:
            self._turn_away(connection, 503, "no_worker")
        else:
            self._counters.redispatched += 1
            connection.hops = min(connection.hops + 1, MOST_HOPS)
            if connection.idle or connection.consumed:
                # Whatever it was handed over for was served; what comes is not known.
                connection.key, connection.learned = None, False
            self._come_back(connection)

    def _turn_away(self, connection: Connection, status: int, cause: str) -> None:
        """Answer *connection*, which nobody can take, or end it without a word."""
        if connection.frozen:  # it is in the middle of something
            self._counters.lost += 1
            connection.end()
        # It was idle when it came back; its next request may have come since.
        elif connection.idle and not has_unread(connection.sock):
            self._counters.silent += 1
            connection.end()
        else:
            self._refuse(connection, status, cause)

    def _again(self, connection: Connection) -> None:
        """Place *connection* once more, if no worker has read from it."""
        is_over = 0 < connection.starved <= self._loop.time()
        # Where something was read the connection is lost, because a second worker would
        # begin in the middle of a request.
        if not untouched(connection):
            self._counters.lost += 1
            connection.end()
        elif connection.attempts >= MOST_ATTEMPTS or is_over:
            self._turn_away(connection, 503, "no_worker")
        else:
            self._counters.redispatched += 1
            self.dispatch(connection)

    def _give_back_outbox(self, worker: Worker) -> None:
        for connection in worker.give_up_outbox():
            self.dispatch(connection)

    def _vacate(self, worker: Worker) -> None:
        """Mark the slot of *worker* as empty, if it is the one that fills it."""
        if self._filling[worker.slot] is worker:
            self._filling[worker.slot] = None
            slot = self._placement.slots[worker.slot]
            slot.ready, slot.in_flight, slot.open = False, 0, 0
            # What the application made lived in that process. A key that the client
            # made stays with the slot.
            if not (slot.elder or slot.closed):
                self._placement.keys.release_claimed(worker.slot)
                return
            self._let_go(slot)

    def _let_go(self, slot: Slot) -> None:
        """
        Forget the keys of *slot*, which no worker will fill.

        What waits for that slot is placed anew.
        """
        self._placement.keys.release_all(slot.index)
        self._room.release(slot.index)

    def _flush(self, worker: Worker) -> None:
        before = worker.handed_over
        try:
            done = worker.send_outbox(self._counters.times)
        except (ChannelRefused, MessageTooLarge) as exc:
            # Nothing will ever reach it, as where it has SO_PASSRIGHTS off.
            self._give_up_channel(worker, str(exc))
            self._give_back_outbox(worker)
            worker.hush()
            self._loop.call_soon(self.settle)
            return
        except ChannelClosed:
            # It ends, which the kernel reports and detach settles, or is ended.
            self._vacate(worker)
            self._loop.call_later(GRACE, self._end, worker)
            self._give_back_outbox(worker)
            worker.hush()
            self._loop.call_soon(self.settle)
            return
        finally:
            self._counters.handed_over += worker.handed_over - before
        if not done and self._retry is None:
            # A timer and not a writer: at some limits (descriptors in flight, kernel
            # memory) the channel is writable and refuses all the same. The window
            # keeps a channel from being full for any other reason.
            self._retry = self._loop.call_later(RETRY_SEND, self._flush_all)
            self._expect_sweep()
        # Such a worker is ended, because it has to hear which keys it has lost, and
        # because what waits for it may not fill the memory.
        if not (done or worker.silent) and worker.unsaid > self._most_unsaid:
            self._distrust(worker, "it does not read which keys it has lost")
            self._loop.call_soon(self.settle)

    def _flush_all(self) -> None:
        self._retry = None
        for worker in self._workers.values():
            if worker.has_to_hear:
                self._flush(worker)

    def _sweep(self) -> None:
        """Answer with 503 whoever has waited for longer than the wait timeout."""
        now = self._loop.time()
        if self._allow_for_standstill(now):
            self.settle()
            return
        self._sweeping = None
        for connection in self._room.take_late(now):
            self._turn_away(connection, 503, "no_worker")
        # What is placed has a deadline too, because the kernel may refuse to pass it
        # for as long as it lacks memory, or too many descriptors are under way.
        for worker in filter(None, self._filling):
            while worker.outbox and worker.outbox[0].deadline <= now:
                connection = worker.outbox.popleft()
                worker.unmark(connection)
                self._placement.slots[worker.slot].in_flight -= 1
                self._turn_away(connection, 503, "no_worker")
        if self.waiting or self._retry is not None:
            self._expect_sweep()
        self.settle()

    def _allow_for_standstill(self, now: float) -> bool:
        """
        Move all deadlines, and the next sweep, if that is late; return whether it is.

        A late sweep means that this process stood still, in which time it could not
        hand over anybody.
        """
        handed_over = (
            (worker.outbox, worker.in_flight.values())
            for worker in self._workers.values()
        )
        groups = itertools.chain(self._room.with_deadlines(), *handed_over)
        if self._sweeping is None or not extend_deadlines(self._sweeping, now, groups):
            return False
        self._sweeping.cancel()
        self._sweeping = self._loop.call_later(SWEEP, self._sweep)
        return True

    # What workers say

    def _on_channels(self) -> None:
        self._listen_to_all()
        self.settle()

    def _hear_all(self) -> None:
        """
        Read what the master and all workers have sent.

        The master comes first, because it may have sent the channels of workers.
        """
        if self._superior is not None:
            self._superior.hear()
        self._listen_to_all()

    def _listen_to_all(self) -> None:
        """Read and handle what all workers have sent."""
        for fd, _ in self._channels.poll(0):
            if worker := self._by_channel.get(fd):  # who was heard before may end it
                self._listen(worker)

    def _listen(self, worker: Worker) -> None:
        # Not again, because a worker that lied, or has ended its channel, would be
        # ended, or signalled, a second time.
        if worker.silent:
            return
        try:
            for packet in worker.packets():
                self._heed[type(packet[0])](worker, packet)
        except ChannelRefused as exc:
            self._give_up_channel(worker, str(exc))
        except ChannelClosed:
            self._fall_silent(worker)
            # It is killed then, because its slot would stay empty if it did not end.
            self._loop.call_later(GRACE, self._end, worker)
        except PeerMisbehaved as exc:
            self._distrust(worker, str(exc))
        # Because a worker's words must harm no other worker, whatever we overlooked.
        except Exception as exc:  # noqa: BLE001
            logs.master.exception("a message of worker %d cannot be heeded", worker.id)
            self._distrust(worker, f"{type(exc).__name__}: {exc}")

    def _give_up_channel(self, worker: Worker, why: str) -> None:
        """
        Kill *worker*, soon, because the system does not pass messages to it or from it.

        The worker has done nothing wrong: it may finish the answers that it is writing,
        its marks are believed, and its messages are read when it is dead. A channel
        that fails then as well has the worker distrusted.
        """
        if worker.is_given_up:
            self._distrust(worker, why)
            return
        worker.is_given_up = True
        self._report_end(worker, why)
        self._stop_listening(worker)
        self._vacate(worker)
        self._end_soon(worker)

    def _end_soon(self, worker: Worker) -> None:
        """Schedule the end of *worker*: when it answers no request, or after GRACE."""
        until = self._loop.time() + GRACE
        self._loop.call_later(LOOK, self._end_when_answered, worker, until)

    def _end_when_answered(self, worker: Worker, until: float) -> None:
        """Kill *worker* when it answers no request, at *until* at the latest."""
        if worker.id not in self._workers:
            return
        if worker.is_answering and self._loop.time() < until:
            self._loop.call_later(LOOK, self._end_when_answered, worker, until)
        else:
            worker.process.kill()

    def _report_end(self, worker: Worker, why: str) -> None:
        text = "worker %d of slot %d is ended: %s"
        logs.master.error(text, worker.id, worker.slot, why)

    def _distrust(self, worker: Worker, why: str) -> None:
        """
        Kill *worker*, which broke the protocol.

        No message and no mark of it is believed from now on.
        """
        self._report_end(worker, why)
        self._fall_silent(worker)
        self._copies -= worker.copies
        worker.distrust()
        worker.process.kill()

    def _fall_silent(self, worker: Worker) -> None:
        worker.silent = True
        self._stop_listening(worker)
        self._vacate(worker)

    def _stop_listening(self, worker: Worker) -> None:
        if self._by_channel.pop(worker.channel.fileno(), None) is not None:
            self._channels.unregister(worker.channel.fileno())

    # Each notes what *worker* said, in one packet. None of them places anything:
    # placing may lead to listening.

    def _heed_ready(self, worker: Worker, messages: list[Ready]) -> None:
        worker.phase = Phase.SERVING
        worker.marks = bool(messages[0].marks) and self._most_copies > 0
        worker.moves = bool(messages[0].moves)
        self._loop.call_soon(self._on_ready, worker)

    def _heed_failed(self, worker: Worker, messages: list[Failed]) -> None:
        why, traceback = messages[0]
        worker.failure = (
            why[:LONGEST_REASON].decode(errors="replace"),
            traceback[-LONGEST_TRACEBACK:].decode(errors="replace"),
        )

    def _heed_drained(self, worker: Worker, messages: list[Drained]) -> None:
        worker.cut = messages[0].cut

    def _heed_ask(self, worker: Worker, messages: list[Ask]) -> None:
        self._asked.extend((worker, message) for message in messages)

    def _heed_release(self, worker: Worker, messages: list[Release]) -> None:
        for message in messages:
            self._placement.keys.release(message.key, worker.slot)

    def _heed_taken(self, worker: Worker, messages: list[Taken]) -> None:
        now = time.monotonic()
        for (id_,) in messages:
            connection = self._answered(worker, id_)
            self._counters.taken += 1
            if connection.since:
                self._counters.times.take.note(now - connection.since)
                connection.since = 0.0
            connection.starved = 0.0
            if connection.giver:
                worker.hops_in += connection.giver != worker.id
                connection.giver = 0
            if worker.grant(connection):
                self._copies += 1
                # Half of the descriptors may go to copies, because new connections need
                # the others.
                if self._copies > self._most_copies:
                    self.spare_copy()
        self._forget_surplus(worker)

    def _forget_surplus(self, worker: Worker) -> None:
        """Forget what *worker* took longest ago, beyond what a process can have."""
        while len(worker.granted) > MOST_GRANTED:
            self._forget(worker, next(iter(worker.granted)))

    def _heed_attach(self, worker: Worker, messages: list[Attach]) -> None:
        raise PeerMisbehaved("ATTACH, and it has its slot")

    def _heed_have(self, worker: Worker, messages: list[Have]) -> None:
        if self._mesh is None:
            raise PeerMisbehaved("HAVE, and there is no other acceptor")
        for (id_,) in messages:
            # Without a copy, because the one that was kept died with its acceptor.
            worker.granted.setdefault(id_, None)
        self._forget_surplus(worker)

    def _heed_closed(self, worker: Worker, messages: list[Closed]) -> None:
        for (id_,) in messages:
            self._forget(worker, id_)

    def _heed_return(self, worker: Worker, messages: list[Return]) -> None:
        for message in messages:
            if message.connection is None:
                self._take_back_copy(worker, message)
            else:
                self._take_back(worker, message)

    def _heed_refused(self, worker: Worker, messages: list[Refused]) -> None:
        for id_, reason in messages:
            connection = self._answered(worker, id_)
            worker.unmark(connection)
            if reason == Reason.DRAINING:  # asked to leave by somebody else
                self._vacate(worker)
            elif reason == Reason.NO_DESCRIPTOR:
                self._counters.no_descriptor += 1
                # Because it would be handed the same connection again at once, and
                # refuse that too.
                self._leave_alone(self._placement.slots[worker.slot])
            self._rest(connection, reason)

    def _heed_claims(self, worker: Worker, messages: list[Claim]) -> None:
        for ttl, made, key in messages:
            self._heed_claim(worker, key, ttl, made=bool(made))

    def _heed_claim(self, worker: Worker, key: bytes, ttl: int, *, made: bool) -> None:
        """Record *key* as owned by *worker*'s slot, or revoke it."""
        now = self._loop.time()
        if self._filling[worker.slot] is not worker and not self._catch_up(worker):
            return  # it left its slot, and cannot be reached by key any more
        if made:
            self._counters.claims += 1
            self._placement.claim(key, worker.slot, now, ttl)
        elif not self._placement.renew(key, worker.slot, now):
            worker.revoke(key)
            self._addressees.add(worker)

    def _take_back(self, worker: Worker, message: Return) -> None:
        """Take over a connection that *worker* gave back, to be placed at settle."""
        connection = returned(message)
        if connection.id not in worker.granted:
            connection.close()
            raise PeerMisbehaved(
                f"RETURN of connection {connection.id}, which it does not have"
            )
        # Read before the connection is forgotten, because its mark may be given to
        # another one then.
        marked = worker.traffic(connection.id)
        self._forget(worker, connection.id)
        worker.returned += 1
        connection.giver = worker.id
        connection.since = time.monotonic()
        # Where that cannot be known, nothing will be proved by it.
        read = 0
        with contextlib.suppress(OSError):
            read, connection.written = marked or traffic(connection.sock)
            connection.position = read - len(connection.consumed)
        if connection.position < 0 or max(read, connection.written) > MOST_BYTES:
            connection.close()
            raise PeerMisbehaved(
                f"RETURN of connection {connection.id} with more than was read from it"
            )
        if connection.idle:
            connection.home = worker.slot
        self._counters.returned += 1
        self._counters.drained += worker.phase is Phase.DRAINING
        self.on_returned(connection)
        if logs.traces(logs.master):
            logs.master.debug(
                "given back by worker %d of slot %d",
                worker.id,
                worker.slot,
                extra=logs.about(conn=connection.id, slot=worker.slot),
            )
        self._room.coming_back.append(connection)

    def _take_back_copy(self, worker: Worker, message: Return) -> None:
        """
        Handle a RETURN whose descriptor was lost: we had none left for it.

        Our copy takes its place if there is one; otherwise the connection is lost.
        """
        before = worker.copies
        copy = worker.take_copy(message.id)
        self._copies += worker.copies - before
        if copy is not None:
            self._take_back(worker, message._replace(connection=copy))
            return
        self._forget(worker, message.id)
        self._counters.returned += 1
        self._counters.lost += 1
        if self._at_limit.is_due():
            logs.master.warning(
                "a connection given back could not be received: Too many open files"
                " (see ulimit -n)"
            )

    def _forget(self, worker: Worker, id_: int) -> None:
        """Remove a connection that *worker* has no more, and close our copy."""
        if id_ in worker.granted:
            before = worker.copies
            worker.forget(id_)
            self._copies += worker.copies - before

    def spare_copy(self) -> bool:
        """Close the kept copy that is missed the least; return whether one was."""
        worker = max(self._workers.values(), key=lambda w: w.copies, default=None)
        if worker is None or not worker.spare():
            return False
        self._copies -= 1
        return True

    def _answered(self, worker: Worker, id_: int) -> Connection:
        connection = worker.in_flight.pop(id_, None)
        if connection is None:
            raise PeerMisbehaved(
                f"an answer for connection {id_}, which it was not handed"
            )
        if self._filling[worker.slot] is worker:
            self._placement.slots[worker.slot].in_flight -= 1
        return connection

    def _rest(self, connection: Connection, reason: int) -> None:
        """Schedule *connection*, which a worker refused, to be placed again."""
        logs.master.debug(
            "refused by its worker for reason %d",
            reason,
            extra=logs.about(conn=connection.id),
        )
        self._room.resting.add(connection)
        # A worker that leaves does not recover, so waiting for that is of no use.
        pause = 0.0 if reason == Reason.DRAINING else PAUSE_AFTER_REFUSAL
        if reason != Reason.NO_DESCRIPTOR:
            connection.attempts += 1
        elif not connection.starved:
            # It is tried for as long as others wait for room.
            connection.starved = self._loop.time() + self._wait_timeout
            # The sweep that is late tells that this process stood still meanwhile.
            self._expect_sweep()
        self._loop.call_later(pause, self._rested, connection)

    def _leave_alone(self, slot: Slot) -> None:
        """Place nothing with *slot* for a moment; others may have descriptors."""
        if not slot.resting:
            slot.resting = True
            self._loop.call_later(PAUSE_AFTER_REFUSAL, self._wake, slot)

    def _wake(self, slot: Slot) -> None:
        slot.resting = False
        self.settle()

    def _end(self, worker: Worker) -> None:
        """Kill *worker*, which closed its channel, if it is still alive."""
        if worker.id in self._workers:
            logs.master.warning(
                "worker %d of slot %d closed its channel and did not leave",
                worker.id,
                worker.slot,
            )
            worker.process.kill()

    def _rested(self, connection: Connection) -> None:
        # Because this timer may be heard before that of the sweep.
        self._allow_for_standstill(self._loop.time())
        self._room.resting.discard(connection)
        self._again(connection)
        self.settle()
