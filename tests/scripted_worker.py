"""
A worker that does what a test tells it, at the other end of a real channel.

It speaks the real messages, owns the real connections, and writes the real marks on a
real scoreboard. What it does is not seen by the acceptor before the acceptor's loop
turns; whatever looks (``handed``, ``told``) lets it turn first.
"""

import os
import socket

from channel_kit import raw_send
from maitred import Channel
from maitred.wire.messages import (
    FROM_MASTER,
    FROM_WORKER,
    Ask,
    Closed,
    Handoff,
    Ready,
    Refused,
    Return,
    Taken,
)
from maitred.wire.scoreboard import Scoreboard
from maitred.worker.marks import Marks

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
FULL = 60
"Answers that no channel holds."


class StandIn:
    """Stands where a worker's process stands, and records what is done to it."""

    def __init__(self):
        self.killed = False

    def kill(self):
        """Record that the process would have been killed."""
        self.killed = True

    def state(self, _table):
        """Return what a successor is told of it."""
        return {"killed": self.killed}

    @classmethod
    def restored(cls, state, _past):
        """Return the stand-in that was written down as *state*."""
        found = cls()
        found.killed = state["killed"]
        return found


class Served:
    """One connection, as the worker has it that it was handed to."""

    def __init__(self, worker, handoff):
        self.worker, self.handoff, self.id = worker, handoff, handoff.id
        self.key, self.consumed = handoff.key, handoff.consumed
        self.sock = socket.socket(fileno=handoff.connection.detach())
        self.sock.setblocking(False)
        self.mark = worker.marks.of(handoff.mark)
        self.pending = handoff.consumed  # read, and not begun
        self.written = 0

    def take(self):
        """Send TAKEN, and mark what came with the connection."""
        self.worker.say(Taken(self.id))
        if self.mark.kept:
            self.mark.put(self.consumed)
        return self

    def read(self, most=65536):
        """Read what there is, up to *most*, and mark it; return what is pending."""
        room = self.mark.room()
        count = self.sock.recv_into(room, min(most, len(room)))
        self.pending += self.mark.read(count)
        return self.pending

    def begin(self, size=None):
        """Start to serve *size* bytes of what is pending, or all of it."""
        self.mark.started()
        self.pending = b"" if size is None else self.pending[size:]
        return self

    def write(self, data):
        """Write *data* of an answer."""
        self.sock.sendall(data)
        self.written += len(data)

    def settle(self, written=None):
        """Mark that all but what is pending is answered, with *written* bytes."""
        self.mark.settled(self.pending, self.written if written is None else written)

    def answer(self, data=OK):
        """Serve a request from its first byte to the last of its answer."""
        self.read()
        return self.answer_rest(data)

    def answer_rest(self, data=OK):
        """Serve a request that has been read."""
        self.begin()
        self.write(data)
        self.settle()
        return self

    def refuse(self, reason):
        """Send REFUSED, untouched as the connection is."""
        self.sock.close()
        self.worker.say(Refused(self.id, reason))

    def close(self):
        """Close the connection, and send CLOSED."""
        self.sock.shutdown(socket.SHUT_RDWR)
        self.mark.leave()
        self.sock.close()
        self.worker.say(Closed(self.id))

    def returning(self, **changes):
        """Return the RETURN of this connection, but for *changes*."""
        said = Return(
            self.sock,
            *self.handoff[1:6],
            key=b"",
            learned=0,
            unread=self.pending,
            hops=self.handoff.hops,
        )
        return said._replace(**changes)

    def give_back(self, key=b"", **changes):
        """Send RETURN, with what was read and not begun; close our copy."""
        self.worker.say(self.returning(key=key, **changes))
        self.drop()

    def drop(self):
        """Close our copy, and no more than that."""
        self.mark.given_back()
        self.sock.close()


class ScriptedWorker:
    """One worker; an acceptor kit makes it, and knows what the master has of it."""

    def __init__(self, number, slot, sock, board, turn, *, marks):
        self.number, self.slot = number, slot
        self.process = StandIn()
        self._sock = sock
        self.channel = Channel(sock, sends=FROM_WORKER, receives=FROM_MASTER)
        self.board = Scoreboard(board)
        self.marks = Marks(self.board)
        self.served = []
        self._turn = turn
        self._keeps = marks
        self._heard = []

    def __repr__(self):
        return f"<worker {self.number} of slot {self.slot}>"

    def say(self, *messages):
        """Send one packet."""
        self.channel.send_nowait(*messages)

    def say_bytes(self, data, *fds):
        """Send *data*, right or wrong, as one packet with descriptors."""
        raw_send(self._sock, data, *fds)

    def fill(self):
        """Ask so much, and read nothing, that the channel to us is full."""
        for _ in range(FULL // 20):
            self.say(*[Ask(0, b"k" * 6000)] * 20)
            self._turn()

    def ready(self, *, moves=False):
        """Send READY."""
        self.say(Ready(os.getpid(), int(self._keeps), int(moves)))
        return self

    def hear(self):
        """Return what the master has said since the last time, in its order."""
        self._turn()
        found = []
        while packet := self.channel.receive_nowait():
            for message in packet:
                if isinstance(message, Handoff):
                    found.append(Served(self, message))
                    self.served.append(found[-1])
                else:
                    found.append(message)
        return found

    def handed(self):
        """Return the connections that it was handed since the last time."""
        return self._next(lambda each: isinstance(each, Served))

    def told(self):
        """Return what else it was told since the last time."""
        return self._next(lambda each: not isinstance(each, Served))

    def _next(self, wanted):
        self._heard += self.hear()
        found = [each for each in self._heard if wanted(each)]
        self._heard = [each for each in self._heard if not wanted(each)]
        return found

    def take_all(self):
        """Take all connections that it was handed, and return them."""
        return [each.take() for each in self.handed()]

    def die(self):
        """End as the kernel ends a process: close everything at once."""
        for each in self.served:
            each.sock.close()
        self.channel.close()

    def close(self):
        """Close everything, dead or not."""
        self.die()
        self.marks = None
        for each in self.served:
            each.mark = None
        self.board.close()
