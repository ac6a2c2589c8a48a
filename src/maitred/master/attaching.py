"""
Workers that nobody here has started: they attach, and are handed connections.

    --attach PATH   a socket, mode 0600, whose connections are channels
    ATTACH          name, nonce, capacity                  the worker says it first
    ATTACHED        slot, generation, scoreboard           it fills an empty slot
    REJECTED        a sentence                             it does not, as the log says

The supervisor asks for a worker as ever; what is then asked for is a vacancy, until
somebody attaches.

Invariants: nobody but our own user and root gets a slot; nobody waits for longer than
PATIENCE before it has said ATTACH, and no more than MOST wait. The process is known by
a pidfd from here on: what it never took goes to others when it is dead, not before.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from maitred import logs
from maitred.acceptor.listeners import inode_of, remove_stale
from maitred.config import NAME
from maitred.errors import ChannelError, ChannelFull, SystemRefused
from maitred.wire import Channel, Descriptor
from maitred.wire.messages import (
    FROM_MASTER,
    FROM_WORKER,
    Attach,
    Attached,
    Rejected,
)
from maitred.wire.scoreboard import Scoreboard

from .processes import AttachedProcess, foreign_pidfd
from .starting import asking_for, open_scoreboard, refused_for_good
from .workers import Worker

PATIENCE: Final = 5.0
"Seconds until a newcomer must have sent ATTACH."
MOST: Final = 64
PAUSE: Final = 0.5
"Seconds without accepting after the system said that it has nothing left."
ONLY_US: Final = 0o600
CREDENTIALS: Final = struct.Struct("=iII")
"pid, uid and gid, as SO_PEERCRED gives them (unix(7))."
NONCES: Final = 1024
"Nonces remembered: none attaches twice."
NONCE: Final = range(8, 65)
"Bytes that a nonce may have."
TAKEN: Final = frozenset({errno.EADDRINUSE, errno.EPROTOTYPE})


class Vacancy(NamedTuple):
    """A worker that the supervisor has asked for."""

    number: int
    slot: int
    generation: int


class Attaching:
    """The socket, connections that have not sent ATTACH, and the vacancies."""

    def __init__(self, path: str, *, window: int, ready_timeout: float) -> None:
        """
        Listen at *path*.

        Args:
            path: The path of the socket.
            window: Connections that a worker may have on their way, at most.
            ready_timeout: Seconds to say READY after ATTACHED.

        Raises:
            SystemRefused: It cannot be listened on, or no worker that attaches could
                be watched or given a scoreboard.
        """
        self._path, self._window, self._ready_timeout = path, window, ready_timeout
        self._vacancies: deque[Vacancy] = deque()
        self._nonces: OrderedDict[bytes, None] = OrderedDict()
        self._newcomers: dict[Channel, asyncio.TimerHandle] = {}
        self._names: dict[str, Worker] = {}
        _try_what_each_needs()
        try:
            remove_stale(path)
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._sock.bind(path)
            os.chmod(path, ONLY_US)  # nobody can connect before it listens
            self._sock.listen(MOST)
            self._sock.setblocking(False)
        except OSError as exc:
            why = exc.strerror or str(exc)
            if exc.errno in TAKEN:
                why = "something listens there: stop it, or choose another path"
            raise SystemRefused(f"cannot listen on --attach {path}: {why}") from exc
        self._inode = inode_of(path)

    def serve(
        self,
        attached: Callable[[Worker], None],
        next_vacancy: Callable[[], float | None],
    ) -> None:
        """
        Accept newcomers from now on; needs a running loop.

        Args:
            attached: Called with each that fills a vacancy.
            next_vacancy: Returns the seconds until an empty slot is for a worker again;
                None: no slot is empty.
        """
        self._attached = attached
        self._next_vacancy = next_vacancy
        self._loop = asyncio.get_running_loop()
        self._listen()

    def _listen(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock.fileno(), self._on_connect)

    def want(self, number: int, slot: int, generation: int) -> None:
        """Add a vacancy: worker *number* is wanted for *slot*."""
        self._vacancies.append(Vacancy(number, slot, generation))
        text = "slot %d, generation %d, is for a worker that attaches at %s"
        logs.master.info(text, slot, generation, self._path)

    def give_up(self, number: int) -> bool:
        """Remove the vacancy of worker *number*; return whether it was still vacant."""
        found = [each for each in self._vacancies if each.number == number]
        for each in found:
            self._vacancies.remove(each)
        return bool(found)

    def forget(self, worker: Worker) -> None:
        """Forget *worker*, which is dead: its name may attach again."""
        self._names = {n: w for n, w in self._names.items() if w is not worker}

    def close(self) -> None:
        """Close the socket and what has not attached; remove the file if it is ours."""
        for channel in list(self._newcomers):
            self._part(channel)
        if self._sock.fileno() >= 0:
            with contextlib.suppress(AttributeError):  # it never served
                self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            with contextlib.suppress(OSError):
                if inode_of(self._path) == self._inode:
                    os.unlink(self._path)

    def _on_connect(self) -> None:
        for _ in range(MOST):
            try:
                sock, _ = self._sock.accept()
            except BlockingIOError:
                return
            except OSError:  # out of descriptors: who waits, waits on
                self._loop.remove_reader(self._sock.fileno())
                self._loop.call_later(PAUSE, self._listen)
                return
            self._meet(sock)

    def _meet(self, sock: socket.socket) -> None:
        """Wait for ATTACH on *sock*, if its user is root or ours."""
        credentials = sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size
        )
        pid, uid, _ = CREDENTIALS.unpack(credentials)
        channel = Channel(sock, sends=FROM_MASTER, receives=FROM_WORKER)
        if uid not in {0, os.geteuid()}:
            self._reject(channel, f"process {pid}", f"user {uid} is not the master's")
        elif len(self._newcomers) >= MOST:
            self._reject(channel, f"process {pid}", "too many are attaching")
        else:
            self._newcomers[channel] = self._loop.call_later(
                PATIENCE, self._on_silence, channel, pid
            )
            self._loop.add_reader(channel.fileno(), self._on_words, channel, pid)

    def _on_silence(self, channel: Channel, pid: int) -> None:
        self._part(channel, close=False)
        self._reject(channel, f"process {pid}", "it did not say ATTACH in time")

    def _on_words(self, channel: Channel, pid: int) -> None:
        try:
            said = channel.receive_nowait()
        except ChannelError as exc:
            self._part(channel)
            logs.master.warning("process %d did not attach: %s", pid, exc)
            return
        if not said:
            return
        self._part(channel, close=False)
        for message in said:  # nothing of a newcomer's is kept
            for value in message:
                if isinstance(value, Descriptor):
                    value.close()
        if len(said) != 1 or not isinstance(said[0], Attach):
            self._reject(channel, f"process {pid}", "its first word is not ATTACH")
        else:
            self._hear(channel, pid, said[0])

    def _hear(self, channel: Channel, pid: int, said: Attach) -> None:
        """Fill a vacancy with the worker that sent ATTACH, or reject it."""
        name = said.name.decode(errors="replace")
        who = f"worker {name!a:.40}, process {pid},"
        if why := self._fault(name, said):
            self._reject(channel, who, why)
            return
        vacancy = self._vacancies[0]
        try:
            with contextlib.ExitStack() as unless_all:
                pidfd = foreign_pidfd(channel.fileno(), pid)
                unless_all.callback(os.close, pidfd)
                memory = Scoreboard.create()
                unless_all.callback(os.close, memory)
                board = Descriptor(os.dup(memory))
                unless_all.pop_all()
        except OSError as exc:
            self._reject(channel, who, f"it cannot be watched ({exc.strerror})")
            return
        attached = Attached(board, vacancy.slot, vacancy.generation, said.nonce)
        try:
            channel.send_nowait(attached)
        except ChannelError as exc:  # who cannot be handed this, can be handed nothing
            os.close(pidfd)
            os.close(memory)
            self._reject(channel, who, f"it cannot be told its slot: {exc}")
            return
        finally:
            board.close()
        self._vacancies.popleft()
        self._nonces[said.nonce] = None
        if len(self._nonces) > NONCES:
            self._nonces.popitem(last=False)
        worker = Worker(*vacancy, channel, memory, AttachedProcess(pid, pidfd))
        worker.window = min(self._window, said.capacity)
        self._names[name] = worker
        text = "%s attached: slot %d, generation %d, capacity %d"
        logs.master.info(text, who, vacancy.slot, vacancy.generation, said.capacity)
        self._loop.call_later(self._ready_timeout, self._expect_ready, name, worker)
        self._attached(worker)

    def _fault(self, name: str, said: Attach) -> str:
        """Return why *said* is rejected; empty: it is not."""
        if not NAME.fullmatch(name):
            return "its name is not up to 32 lower-case letters, digits, - and _"
        if len(said.nonce) not in NONCE or not said.capacity:
            return (
                f"a nonce of {NONCE.start} to {NONCE.stop - 1} bytes and a capacity"
                " above 0 are needed"
            )
        if said.nonce in self._nonces:
            return "its nonce has attached before"
        if name in self._names:
            return "a worker of that name is attached"
        if not self._vacancies:
            wait = self._next_vacancy()
            if wait is None:
                return "every slot has its worker"
            return (
                f"the empty slot is for a worker again in {wait:.1f} s, because the"
                " last one failed; attach again then"
            )
        return ""

    def _expect_ready(self, name: str, worker: Worker) -> None:
        if self._names.get(name) is worker and not worker.is_ready:
            text = "worker %s of slot %d did not say READY in time, and is killed"
            logs.master.warning(text, name, worker.slot)
            worker.process.kill()

    def _reject(self, channel: Channel, who: str, why: str) -> None:
        logs.master.warning("%s is rejected: %s", who, why)
        with contextlib.suppress(ChannelFull, ChannelError):
            channel.send_nowait(Rejected(why.encode()))
        channel.close()

    def _part(self, channel: Channel, *, close: bool = True) -> None:
        self._newcomers.pop(channel).cancel()
        self._loop.remove_reader(channel.fileno())
        if close:
            channel.close()


def _try_what_each_needs() -> None:
    """
    Try what is done for each worker that attaches, and undo it.

    Raises:
        SystemRefused: The system does not have it.
    """
    try:
        with contextlib.ExitStack() as stack, asking_for("a pidfd (pidfd_open)"):
            for each in (pair := socket.socketpair(type=socket.SOCK_SEQPACKET)):
                stack.enter_context(each)
            os.close(foreign_pidfd(pair[0].fileno(), os.getpid()))
        os.close(open_scoreboard())
    except SystemRefused as exc:
        raise (refused_for_good(exc) or exc) from exc.__cause__
