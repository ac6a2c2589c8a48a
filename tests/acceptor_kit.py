"""
An acceptor in this process: all its real parts, with the world held still around them.

    clients (TCP) --> the acceptor --> channels --> scripted workers

Clients, connections, channels and scoreboards are real. Not real are the processes of
workers (scripted_worker.py), the clock (stepped_loop.py), and the master who would
supervise: the test says when a worker is ready, leaves or is dead. Only this file knows
of which classes the acceptor is made; tests speak of clients, workers, messages, time.
"""

import contextlib
import gc
import resource
import socket
from unittest import mock

from maitred import Channel, ChannelRefused
from maitred.acceptor.connection import FIELDS, MOST_HOPS
from maitred.acceptor.listeners import Listener
from maitred.acceptor.listeners import restored as restored_listener
from maitred.config import Settings
from maitred.master import dispatcher as dispatching
from maitred.master import workers
from maitred.master.desk import Desk, router_of
from maitred.master.workers import Worker
from maitred.routing.seal import NO_SEAL
from maitred.upgrade import serialize as plain
from maitred.upgrade.key_pages import KeyPages
from maitred.upgrade.snapshot import FORMAT, Past, Table
from maitred.wire.messages import FROM_MASTER, FROM_WORKER, VERSION, Drain, Quit
from maitred.wire.scoreboard import Scoreboard
from scripted_client import Client, Loopback, request
from scripted_worker import ScriptedWorker, StandIn
from stepped_loop import SteppedLoop

MOST_ATTEMPTS = dispatching.MOST_ATTEMPTS
AFFINITY = ("header:x-session", "header:x-made,learn")
"Names that clients make, and names that the application makes."

__all__ = ["MOST_ATTEMPTS", "MOST_HOPS", "InProcessAcceptor", "request"]


class InProcessAcceptor:
    """One acceptor, its clients and its workers."""

    def __init__(self, *, workers=2, **settings):
        self._undo = contextlib.ExitStack()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._undo.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        self._loopback = self._undo.enter_context(contextlib.closing(Loopback()))
        self.settings = Settings(
            target="app:app",
            workers=workers,
            **{"affinity": AFFINITY, "policy": "round-robin", **settings},
        )
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.address = sock.getsockname()
        local = (self.address[0].encode(), self.address[1])
        self.clock = SteppedLoop()
        self._begin([Listener(sock, "here", local)])
        self._desk.acceptor.update()
        # What the master has of each scripted worker, until it is dead and buried.
        self._of = {}
        self._started = []
        self.clients = []
        self.workers = [self.start(slot) for slot in range(workers)]

    def _begin(self, listeners):
        self._listeners = listeners
        self._desk = self.clock.call(
            lambda: Desk(
                self.settings,
                router_of(self.settings, NO_SEAL),
                listeners,
                hash_key=b"k" * 16,
                on_ready=self._on_ready,
            )
        )
        self._dispatcher = self._desk.dispatcher
        self._dispatcher.on_settled = self._desk.acceptor.update

    def turn(self):
        """Run the acceptor until it has nothing to do."""
        self.clock.turn()

    # Clients

    def connect(self, session=None, made=None):
        """Return a client that has sent a request."""
        return self.open().send(request(session, made))

    def open(self):
        """Return a client that has sent nothing yet."""
        self.clients.append(Client(self.address, self._loopback, self.turn))
        return self.clients[-1]

    # Workers, as the master has to do with them

    def start(self, slot, *, ready=True, marks=True):
        """Start a worker of *slot*; it fills the slot at once if nobody else does."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        board = Scoreboard.create()
        number = len(self._started) + 1
        scripted = ScriptedWorker(number, slot, theirs, board, self.turn, marks=marks)
        self._started.append(scripted)
        self._of[scripted] = worker = Worker(
            number,
            slot,
            1,
            Channel(ours, sends=FROM_MASTER, receives=FROM_WORKER),
            board,
            scripted.process,
        )
        self._desk.attach(worker)
        if ready:
            scripted.ready()
            self.turn()
        return scripted

    def _on_ready(self, worker):
        if self._dispatcher.filling(worker.slot) is None and not worker.silent:
            self._dispatcher.promote(worker)

    def promote(self, scripted):
        """Put a worker that is ready in its slot, in the place of whoever fills it."""
        self.turn()
        self._dispatcher.promote(self._of[scripted])

    def drain(self, scripted, *, give_back=True):
        """Ask a worker to finish and leave."""
        self._dispatcher.dismiss(self._of[scripted], Drain(5000, int(give_back)))

    def quit(self, scripted):
        """Ask a worker to leave now."""
        self._dispatcher.dismiss(self._of[scripted], Quit())

    def retire(self, scripted):
        """Keep for a worker the sessions that it has, and send it nothing else."""
        self._dispatcher.retire(self._of[scripted])

    def admit(self, slot):
        """Place what is new in a slot of the other set, whose worker is ready."""
        self._desk.placement.slots[slot].elder = False

    def relieve(self, slot, *, relieved=True):
        """Place nothing new in a slot, or everything again."""
        self._dispatcher.relieve(slot, relieved=relieved)

    def abandon(self, slot):
        """Abandon a slot that nobody will fill."""
        self._dispatcher.abandon(slot)

    def resize(self, count):
        """Set the number of slots to *count*."""
        self._dispatcher.resize(count)
        self.settle()

    def bury(self, scripted):
        """Settle what a dead worker had: the kernel has said that it is dead."""
        scripted.die()
        self._dispatcher.detach(self._of.pop(scripted))

    def passing_nothing(self, scripted):
        """Refuse, as the system would, what is sent to a worker in the with block."""
        channel, refused = self._of[scripted].channel, ChannelRefused(OSError(5, "no"))
        return mock.patch.object(channel, "send_nowait", side_effect=refused)

    def listen(self, scripted):
        """Read what a worker has sent, and act on it no further."""
        self._dispatcher.hear(self._of[scripted])

    def settle(self):
        """Move what can move, as at the end of every callback."""
        self._dispatcher.settle()

    def stop(self):
        """Accept nothing more, and answer whoever waits."""
        self._desk.acceptor.close()
        self._desk.turn_away()

    # What is known

    @property
    def counts(self):
        """Return what happened to connections, as status shows it, without zeros."""
        counts = self._desk.counters.statistics()
        return {name: count for name, count in counts.items() if count}

    def report(self):
        """Return how it stands, as status shows it."""
        return self._desk.report()

    def copies(self):
        """Return of how many connections that workers have the acceptor has a copy."""
        return sum(worker.copies for worker in self._of.values())

    def has_granted(self, scripted):
        """Return the ids of the connections that a worker has, as far as was heard."""
        return [*self._of[scripted].granted]

    def failure(self, scripted):
        """Return what a worker sent when it could not start."""
        return self._of[scripted].failure

    def unsaid(self, scripted):
        """Return how many bytes wait to be sent to a worker."""
        return self._of[scripted].unsaid

    def bound(self, *, unsaid=None, granted=None, copies=None):
        """Lower what is kept: bytes to be sent to a worker, its connections, copies."""
        if copies is not None:
            self._dispatcher._most_copies = copies
        if unsaid is not None:
            self._dispatcher._most_unsaid = unsaid
        if granted is not None:
            patch = mock.patch.object(dispatching, "MOST_GRANTED", granted)
            self._undo.enter_context(patch)

    # Another program in the same process

    def upgrade(self):
        """Continue as a successor, with nothing but the snapshot and descriptors."""
        pages = self.clock.call(KeyPages, self._desk.keys)
        self.clock.run_until_complete(pages.write())
        table, ours = Table(), self._of
        snapshot = {
            "format": FORMAT,
            "protocol": VERSION,
            "fields": FIELDS,
            "listeners": [each.state(table) for each in self._listeners],
            "counters": plain.flatten(self._desk.counters),
            "workers": [worker.state(table) for worker in ours.values()],
            "dispatcher": self._dispatcher.state(table),
            "peeker": self._desk.peeker.state(table),
            "refusals": self._desk.refusals.state(table),
            "key_pages": pages.state(table),
            "descriptors": table.rows,
        }
        paper = plain.write(snapshot)
        self._forget(fd for fd, _ in table.rows)
        past = Past(plain.read(paper), rehearsal=False)
        self.clock = SteppedLoop(self.clock.time())
        state = past.state
        self._begin([restored_listener(each, past) for each in state["listeners"]])
        self.clock.call(KeyPages, self._desk.keys).restore(state, past)
        plain.refill(self._desk.counters, state["counters"])
        with mock.patch.object(workers, "Process", StandIn):
            restored = [Worker.restored(each, past) for each in state["workers"]]
        for scripted, worker in zip(ours, restored, strict=True):
            self._of[scripted] = worker
            scripted.process = worker.process
        by_id = {worker.id: worker for worker in restored}
        self._dispatcher.restore(state["dispatcher"], past, by_id)
        self._desk.peeker.restore(state["peeker"], past)
        self._desk.refusals.restore(state["refusals"], past)
        past.check()
        self._dispatcher.settle()

    def _forget(self, fds):
        """Drop all objects of the acceptor, and leave their descriptors open."""
        fds = set(fds)
        for each in gc.get_objects():
            if isinstance(each, socket.socket) and each.fileno() in fds:
                each.detach()
        self._close_parts()
        self._desk = self._dispatcher = None

    # The end

    def _close_parts(self):
        self._dispatcher._channels.close()
        self.clock.close()
        assert not self.clock.escaped

    def close(self):
        """End everything, and check that no exception has escaped."""
        with self._undo:
            self.turn()
            self.stop()
            for scripted in [*self._of]:
                self.bury(scripted)
            for scripted in self._started:
                scripted.close()
            self.clock.advance(60.0)
            for client in self.clients:
                client.sock.close()
            self._desk.close()
            self.turn()
            self._close_parts()
