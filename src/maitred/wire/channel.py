"""
The channel: typed messages with descriptors over a Unix socketpair.

This is the only file that calls sendmsg and recvmsg, because passing
descriptors has more traps than calls, and one file has to know them all.

Invariants:

* A packet is sent whole or not at all; on SOCK_STREAM a rest that the kernel did
  not take goes out, without descriptors, before anything else.
* A descriptor belongs to the packet it came with. A read never reaches beyond one
  packet, so nothing is ever matched by position or by luck.
* What is received is owned by a ``Descriptor`` or closed before we return. What is
  sent stays the caller's: the kernel passes a copy.
* Received descriptors do not survive exec. The socket never blocks; every wait
  has a deadline.

One gap is CPython's: an exception from a signal handler (such as KeyboardInterrupt) may
strike after recvmsg and before there is an owner. Where that matters, use handlers that
do not raise, such as asyncio's.

Logs nothing: whoever owns the channel knows what its failures mean.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import math
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from maitred.errors import (
    ChannelClosed,
    ChannelFull,
    ChannelRefused,
    DescriptorsLost,
    MessageTooLarge,
    PeerMisbehaved,
)

from .ancillary import ROOM, SCM_RIGHTS, SOL_SOCKET, descriptors_in
from .codec import HEADER, MAX_PACKET, Codec, Header
from .descriptor import Descriptor, close_all
from .errnos import Meaning, meaning

# Linux has it; elsewhere close-on-exec is set right after the receive.
MSG_CMSG_CLOEXEC: Final = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
# A dead peer is an error for us to raise, not a signal; CPython, which ignores
# SIGPIPE, may be told otherwise.
MSG_NOSIGNAL: Final = int(getattr(socket, "MSG_NOSIGNAL", 0))
# As numbers: with Python's flags, one "&" takes as long as a small system call.
MSG_TRUNC: Final = int(socket.MSG_TRUNC)
MSG_CTRUNC: Final = int(socket.MSG_CTRUNC)

PAUSE: Final = 0.01
"""
Seconds between two tries to send. A channel may take a packet long before poll calls it
writable, which is when three quarters of it have been read (unix_writable); and at some
limits it is writable and refuses all the same.
"""

LONGEST_POLL: Final = 3600.0
"Seconds; poll(2) takes no infinity."

# macOS knows the name SOCK_SEQPACKET, and has no Unix sockets of that kind.
DEFAULT_KIND: Final = (
    socket.SOCK_STREAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET
)


class Channel:
    """
    One end of a channel.

    The same object serves blocking code (``send``, ``receive``), asyncio
    (``asend``, ``areceive``) and callbacks (``send_nowait``, ``receive_nowait``
    with the loop's own readers). One user at a time for each direction.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        sends: Mapping[int, type],
        receives: Mapping[int, type],
    ) -> None:
        """
        Own *sock*, one end of a connected Unix socketpair.

        Args:
            sock: SOCK_SEQPACKET or SOCK_STREAM; made non-blocking and
                close-on-exec, and closed by ``close``.
            sends: Number to message type, what we may send.
            receives: Number to message type, what the peer may send.

        Raises:
            ValueError: *sock* is of another kind and stays the caller's. TCP, for
                example, would drop descriptors without a word.
            TypeError: A message cannot stand on the wire; *sock* stays likewise.
        """
        kinds = (socket.SOCK_SEQPACKET, socket.SOCK_STREAM)
        if sock.family != socket.AF_UNIX or sock.type not in kinds:
            raise ValueError(
                "a channel needs SEQPACKET or STREAM sockets of a Unix pair"
            )
        self._tables = dict(sends), dict(receives)
        self._codec = Codec(sends=sends, receives=receives)
        sock.setblocking(False)
        sock.set_inheritable(False)
        self._sock = sock
        self._stream = sock.type == socket.SOCK_STREAM
        # Of a packet that SOCK_STREAM took in part: what is left to send.
        self._rest = memoryview(b"")
        # Of a packet that is arriving: its bytes so far, its checked header once
        # there are enough of them, and its descriptors, which come with the first.
        self._buffer = memoryview(bytearray(MAX_PACKET))
        self._arrived = 0
        # Where what may be read at once ends. SEQPACKET gives a packet whole or cut, so
        # we ask for all there can be. A read of STREAM must not reach into the next
        # packet, whose descriptors would then be lost or taken for ours.
        self._first = HEADER.size if self._stream else MAX_PACKET
        self._room = [self._buffer[: self._first]]
        self._end = self._first
        self._header: Header | None = None
        self._owners: list[Descriptor] = []
        self._truncated = False
        # What the kernel or the peer said once and what holds from then on.
        self._reset = False
        self._broken: PeerMisbehaved | None = None
        # Tasks that wait for the socket in a loop; close wakes them.
        self._sleepers: set[Callable[[], None]] = set()

    @classmethod
    def pair(
        cls,
        *,
        sends: Mapping[int, type],
        receives: Mapping[int, type],
        kind: int = DEFAULT_KIND,
    ) -> tuple[Channel, Channel]:
        """
        Make a channel; the second end's tables are those of the first, swapped.

        Args:
            sends: Number to message type, what the first end may send.
            receives: What the second end may send.
            kind: socket.SOCK_SEQPACKET or socket.SOCK_STREAM.
        """
        with contextlib.ExitStack() as on_error:
            ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
            on_error.callback(ours.close)
            on_error.callback(theirs.close)
            channels = (
                cls(ours, sends=sends, receives=receives),
                cls(theirs, sends=receives, receives=sends),
            )
            on_error.pop_all()
            return channels

    def __reduce__(self) -> tuple[Any, ...]:
        """
        Return how another process makes this end, as an argument of multiprocessing.

        The other process gets a copy of the descriptor: close this end when it has been
        started, so that whoever has the other end hears when that process is gone.

        Raises:
            ValueError: A packet was sent or received in part.
            TypeError: Something else than multiprocessing pickles; a descriptor can
                only be passed to a process.
        """
        if self._rest or self._arrived:
            raise ValueError("a channel in the middle of a packet cannot be passed on")
        return _rebuilt, (self._sock, *self._tables)

    def fileno(self) -> int:
        """Say the socket's number, for a selector; it stays ours."""
        return self._sock.fileno()

    def close(self) -> None:
        """
        Close our end, and what has arrived of an unfinished packet.

        Tasks that wait in ``asend`` or ``areceive`` get OSError (EBADF).
        """
        # First, because the number may soon be a stranger's.
        for wake in tuple(self._sleepers):
            wake()
        self._drop_owners()
        self._sock.close()

    def hang_up(self) -> None:
        """Shut the connection down, so that both ends hear that it is over."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Sending

    @property
    def unsent(self) -> int:
        """Bytes of a half-sent packet that ``flush`` still has to send."""
        return len(self._rest)

    def send_nowait(self, *messages: Any) -> None:
        """
        Send one packet of *messages*, all of one type, or nothing.

        On SOCK_STREAM the kernel may take only a part: the packet counts as sent
        and ``unsent`` says how much of it ``flush`` has to send; the next send
        does so too. The caller keeps its descriptors in every case.

        Raises:
            ChannelFull: Nothing was sent; try later or elsewhere.
            ChannelClosed: The peer is gone; nothing was sent.
            ChannelRefused: The system does not pass it, now or later; likewise. It is
                a ChannelClosed, because the channel is of no use any more.
            MessageTooLarge: Too much for one packet; nothing was sent.
            TypeError: Not messages that we may send; nothing was sent.
            ValueError: A descriptor was closed before; nothing was sent.
        """
        if self._rest:
            self._send_rest()
        packet, owners = self._codec.encode(messages)
        # Numbers are looked up here and nowhere earlier: a number that waits in a
        # queue may be closed meanwhile and then names a stranger's socket.
        numbers = array.array("i", [owner.fileno() for owner in owners])
        if -1 in numbers:  # what a closed socket says
            raise ValueError("a descriptor to be sent was closed before")
        ancillary = [(SOL_SOCKET, SCM_RIGHTS, numbers)] if owners else []
        sent = self._sendmsg(packet, ancillary)
        if sent < len(packet):
            # The descriptors went with the first byte; sending them again would
            # pass them twice.
            self._rest = memoryview(packet)[sent:]

    def flush(self) -> bool:
        """
        Send the rest of a half-sent packet; say whether all of it is out.

        Raises:
            ChannelClosed: The peer is gone.
        """
        if self._rest:
            with contextlib.suppress(ChannelFull):
                self._send_rest()
        return not self._rest

    def _send_rest(self) -> None:
        """Send all of the rest or raise ChannelFull."""
        while self._rest:
            self._rest = self._rest[self._sendmsg(self._rest, []) :]

    def _sendmsg(
        self,
        data: bytes | memoryview,
        ancillary: list[tuple[int, int, array.array[int]]],
    ) -> int:
        try:
            return self._sock.sendmsg([data], ancillary, MSG_NOSIGNAL)
        except OSError as exc:
            match meaning(exc.errno):
                case Meaning.RETRY:
                    raise ChannelFull(exc) from exc
                case Meaning.GONE:
                    # SEQPACKET says ECONNRESET once, to whoever asks first: remember
                    # it for the receiver.
                    self._reset = self._reset or exc.errno == errno.ECONNRESET
                    raise ChannelClosed(undelivered=self._reset) from exc
                case Meaning.TOO_LARGE:
                    limit = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
                    raise MessageTooLarge("bytes", len(data), limit - 32) from exc
                case Meaning.REFUSED:
                    raise self._refusal(exc) from exc

    def _refusal(self, error: OSError) -> Exception:
        """Return what to raise for *error*: itself, if we have closed the channel."""
        return error if self._sock.fileno() < 0 else ChannelRefused(error)

    def send(self, *messages: Any, timeout: float | None = None) -> None:
        """
        Send one packet of *messages*, waiting for room up to *timeout* seconds.

        When time runs out after SOCK_STREAM took a part, the packet counts as
        sent, as with ``send_nowait``; ``unsent`` tells.

        Raises:
            TimeoutError: There was no room in time. Nothing was sent.
            ChannelClosed, MessageTooLarge, TypeError, ValueError: As
                ``send_nowait``.
        """
        deadline = Deadline(timeout)
        self._retry(lambda: self.send_nowait(*messages), deadline)
        with contextlib.suppress(TimeoutError):
            self._retry(self._send_rest, deadline)

    def _retry(self, send: Callable[[], None], deadline: Deadline) -> None:
        """Call *send* until the channel is not full."""
        while True:
            try:
                return send()
            except ChannelFull as full:
                events = select.POLLOUT if full.poll_helps else 0
                self._wait(events, deadline, PAUSE)

    async def asend(self, *messages: Any) -> None:
        """
        Send one packet of *messages*, waiting for room. Use asyncio.timeout.

        If it is cancelled, nothing was sent. Only on SOCK_STREAM a part may have
        been: the packet then counts as sent, as with ``send_nowait``.

        Raises:
            ChannelClosed, MessageTooLarge, TypeError, ValueError: As
                ``send_nowait``.
        """
        await self._aretry(lambda: self.send_nowait(*messages))
        await self._aretry(self._send_rest)

    async def _aretry(self, send: Callable[[], None]) -> None:
        """Call *send* until the channel is not full."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return send()
            except ChannelFull as full:
                if not full.poll_helps:
                    await asyncio.sleep(PAUSE)
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE):
                        await self._ready(loop.add_writer, loop.remove_writer)

    # Receiving

    def receive_nowait(self) -> list[Any]:
        """
        Take one packet, if one is there.

        Returns:
            Its messages, all of one type; the caller owns their descriptors.
            An empty list: nothing, or not all of a packet, has arrived.

        Raises:
            ChannelClosed: The peer is gone and everything it said has been read.
            DescriptorsLost: We are at our limit of open files; the error has the
                messages. The channel is still usable.
            PeerMisbehaved: Close this channel; what came was closed. Nothing is
                received any more.
        """
        if self._broken is not None:
            raise PeerMisbehaved(self._broken.why)
        try:
            while self._header is None or self._arrived < self._end:
                if not self._read():
                    return []
            return self._take(self._header)
        except BaseException as exc:
            self._drop_owners()
            if isinstance(exc, PeerMisbehaved):
                self._broken = exc
            raise

    def _read(self) -> bool:
        """Read a piece of a packet; say whether something was there."""
        try:
            count, ancillary, flags, _ = self._sock.recvmsg_into(
                [self._buffer[self._arrived : self._end]]
                if self._arrived
                else self._room,
                ROOM,
                MSG_CMSG_CLOEXEC,
            )
        except OSError as exc:
            return self._could_not_read(exc)
        passed = bool(ancillary) and self._own(descriptors_in(ancillary))
        if not count:
            # Our packets are never empty, so 0 bytes are the end of the stream.
            raise ChannelClosed(undelivered=self._reset)
        if flags & MSG_TRUNC:
            raise PeerMisbehaved(f"a packet longer than {MAX_PACKET} bytes")
        truncated = bool(flags & MSG_CTRUNC)
        if self._arrived and (passed or truncated):
            raise PeerMisbehaved("descriptors in the middle of a packet")
        self._truncated = self._truncated or truncated
        self._arrived += count
        if self._header is None and (not self._stream or self._arrived == HEADER.size):
            self._header = self._codec.decode_header(self._buffer[: self._arrived])
            self._end = HEADER.size + self._header.length
            if not self._stream and self._arrived != self._end:
                raise PeerMisbehaved(
                    f"a packet of {self._arrived} bytes whose header says {self._end}"
                )
        return True

    def _could_not_read(self, error: OSError) -> bool:
        """Return whether to read on in spite of *error*; raise what it means if not."""
        match meaning(error.errno):
            case Meaning.RETRY:
                return False
            case Meaning.GONE if error.errno == errno.ECONNRESET:
                # The peer left without reading all we sent. Linux says so once, and
                # what the peer had said before is still there: read on to the end.
                self._reset = True
                return True
            case Meaning.GONE:
                raise ChannelClosed(undelivered=self._reset) from error
        raise self._refusal(error) from error

    def _own(self, fds: array.array[int]) -> bool:
        """Own all of *fds*; say whether there was one."""
        self._owners += map(Descriptor, fds)
        if not MSG_CMSG_CLOEXEC:
            for fd in fds:
                os.set_inheritable(fd, False)
        return bool(fds)

    def _take(self, header: Header) -> list[Any]:
        """Make the messages of the packet that is here, and get ready for the next."""
        body = self._buffer[HEADER.size : self._arrived]
        truncated, self._truncated = self._truncated, False
        self._header = None
        self._arrived = 0
        self._end = self._first
        due, came = header.descriptors, len(self._owners)
        if truncated and came < due:
            messages = self._codec.decode_body(header, body, [None] * due)
            raise DescriptorsLost(messages, due, came)
        if truncated or came != due:
            more = " and more" if truncated else ""
            raise PeerMisbehaved(f"{came}{more} descriptors came, {due} were announced")
        messages = self._codec.decode_body(header, body, self._owners)
        self._owners = []
        return messages

    def _drop_owners(self) -> None:
        owners, self._owners = self._owners, []
        close_all(owners)

    def receive(self, timeout: float | None = None) -> list[Any]:
        """
        Wait for a packet up to *timeout* seconds and return its messages.

        Raises:
            TimeoutError: None came in time.
            ChannelClosed, DescriptorsLost, PeerMisbehaved: As ``receive_nowait``.
        """
        deadline = Deadline(timeout)
        while not (messages := self.receive_nowait()):
            self._wait(select.POLLIN, deadline)
        return messages

    async def areceive(self) -> list[Any]:
        """
        Wait for a packet and return its messages. Use asyncio.timeout.

        Raises:
            ChannelClosed, DescriptorsLost, PeerMisbehaved: As ``receive_nowait``.
        """
        loop = asyncio.get_running_loop()
        while not (messages := self.receive_nowait()):
            await self._ready(loop.add_reader, loop.remove_reader)
        return messages

    # Waiting

    def _wait(
        self, events: int, deadline: Deadline, longest: float = LONGEST_POLL
    ) -> None:
        """Wait for *events*, or for *longest* seconds; TimeoutError at the deadline."""
        left = min(deadline.left(), longest)
        if not events:
            time.sleep(left)
            return
        poll = select.poll()
        poll.register(self._sock, events)
        poll.poll(left * 1000)

    async def _ready(
        self, add: Callable[..., None], remove: Callable[[int], bool]
    ) -> None:
        """Wait until the loop says that the socket is ready, or until ``close``."""
        fd = self.fileno()
        ready = asyncio.get_running_loop().create_future()

        def wake() -> None:
            # Once only: after close, the number is not ours to remove.
            if wake in self._sleepers:
                self._sleepers.remove(wake)
                remove(fd)
            if not ready.done():
                ready.set_result(None)

        add(fd, wake)
        self._sleepers.add(wake)
        try:
            await ready
        finally:
            wake()


class Deadline:
    """A moment on the monotonic clock, made from a timeout."""

    def __init__(self, timeout: float | None) -> None:
        """Lie *timeout* seconds ahead; None is never."""
        self._at = math.inf if timeout is None else time.monotonic() + timeout

    def left(self) -> float:
        """Say the seconds left, perhaps infinity; TimeoutError when there are none."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the channel was not ready in time")
        return left


def _rebuilt(
    sock: socket.socket, sends: Mapping[int, type], receives: Mapping[int, type]
) -> Channel:
    """Return the channel that was passed to this process as *sock*."""
    return Channel(sock, sends=sends, receives=receives)
