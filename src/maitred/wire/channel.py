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
        Take over *sock*, one end of a connected Unix socketpair; ``close`` closes it.

        Args:
            sock: SOCK_SEQPACKET or SOCK_STREAM; it is made non-blocking and
                close-on-exec.
            sends: Number to message type, for what this end may send.
            receives: Number to message type, for what the peer may send.

        Raises:
            ValueError: *sock* is of another kind; the caller still owns it. TCP, for
                example, would drop descriptors without an error.
            TypeError: A message type has no layout on the wire; the caller still owns
                *sock*.
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
        Create a socketpair and return both ends of a channel; the caller owns them.

        Args:
            sends: Number to message type, for what the first end may send.
            receives: The same for what the second end may send.
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
        Pickle this end as an argument of a process that multiprocessing starts.

        The new process gets a copy of the descriptor. Close this end once the process
        has been started: otherwise the other end never sees that the process is gone.

        Raises:
            ValueError: A packet was sent or received in part.
            TypeError: The pickling is not multiprocessing's; only a process that is
                being started can be passed a descriptor.
        """
        if self._rest or self._arrived:
            raise ValueError("a channel in the middle of a packet cannot be passed on")
        return _rebuilt, (self._sock, *self._tables)

    def fileno(self) -> int:
        """Return the socket's number, for a selector; the channel still owns it."""
        return self._sock.fileno()

    def close(self) -> None:
        """
        Close the socket, and the descriptors that came with an unfinished packet.

        Tasks that wait in ``asend`` or ``areceive`` get OSError (EBADF).
        """
        # First, because the number may be another socket's as soon as ours is closed,
        # and the loop would then watch that one.
        for wake in tuple(self._sleepers):
            wake()
        self._drop_owners()
        self._sock.close()

    def hang_up(self) -> None:
        """
        Shut the connection down, so that both ends find it closed.

        The socket stays open until ``close``.
        """
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Sending

    @property
    def unsent(self) -> int:
        """Number of bytes of a half-sent packet that ``flush`` still has to send."""
        return len(self._rest)

    def send_nowait(self, *messages: Any) -> None:
        """
        Send one packet of *messages*, all of one type, or nothing.

        On SOCK_STREAM the kernel may take only a part: the packet counts as sent, and
        ``flush`` or the next send sends the ``unsent`` bytes. The caller still owns the
        descriptors, whether they were sent or not.

        Raises:
            ChannelFull: Nothing was sent; try later or elsewhere.
            ChannelClosed: The peer is gone; nothing was sent.
            ChannelRefused: The system does not pass the packet, now or later; nothing
                was sent. It is a ChannelClosed, because the channel is of no use any
                more.
            MessageTooLarge: The messages do not fit one packet; nothing was sent.
            TypeError: The table of this end does not have these messages; nothing was
                sent.
            ValueError: A descriptor was closed before; nothing was sent.
        """
        if self._rest:
            # First, because the peer would read a new packet as the rest of the old.
            self._send_rest()
        packet, owners = self._codec.encode(messages)
        # Numbers are looked up here and nowhere earlier: a number that waits in a
        # queue may be closed meanwhile and then names a stranger's socket.
        numbers = array.array("i", [owner.fileno() for owner in owners])
        if -1 in numbers:  # the fileno() of a closed socket
            raise ValueError("a descriptor to be sent was closed before")
        ancillary = [(SOL_SOCKET, SCM_RIGHTS, numbers)] if owners else []
        sent = self._sendmsg(packet, ancillary)
        if sent < len(packet):
            # The descriptors went with the first byte; sending them again would
            # pass them twice.
            self._rest = memoryview(packet)[sent:]

    def flush(self) -> bool:
        """
        Send the rest of a half-sent packet; return whether nothing is left of it.

        Raises:
            ChannelClosed: The peer is gone.
        """
        if self._rest:
            with contextlib.suppress(ChannelFull):
                self._send_rest()
        return not self._rest

    def _send_rest(self) -> None:
        """Send the rest of a half-sent packet; raise ChannelFull if a part remains."""
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
                    # Remembered for the receiver, because SEQPACKET reports ECONNRESET
                    # only once, to the first call.
                    self._reset = self._reset or exc.errno == errno.ECONNRESET
                    raise ChannelClosed(undelivered=self._reset) from exc
                case Meaning.TOO_LARGE:
                    limit = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
                    raise MessageTooLarge("bytes", len(data), limit - 32) from exc
                case Meaning.REFUSED:
                    raise self._refusal(exc) from exc

    def _refusal(self, error: OSError) -> Exception:
        """
        Return the exception to raise for *error*.

        It is *error* itself if this end was closed, because that is a mistake of the
        caller's and no refusal of the system's.
        """
        return error if self._sock.fileno() < 0 else ChannelRefused(error)

    def send(self, *messages: Any, timeout: float | None = None) -> None:
        """
        Send one packet of *messages*, waiting for room up to *timeout* seconds.

        If time runs out after SOCK_STREAM took a part, the packet counts as sent, as
        with ``send_nowait``, and ``unsent`` is not 0.

        Raises:
            TimeoutError: There was no room in time. Nothing was sent.
            ChannelClosed, MessageTooLarge, TypeError, ValueError: As
                ``send_nowait``.
        """
        deadline = Deadline(timeout)
        self._retry(lambda: self.send_nowait(*messages), deadline)
        # No TimeoutError from here on, because it would mean that nothing was sent.
        with contextlib.suppress(TimeoutError):
            self._retry(self._send_rest, deadline)

    def _retry(self, send: Callable[[], None], deadline: Deadline) -> None:
        """Call *send* until it does not raise ChannelFull, or until *deadline*."""
        while True:
            try:
                return send()
            except ChannelFull as full:
                events = select.POLLOUT if full.poll_helps else 0
                self._wait(events, deadline, PAUSE)

    async def asend(self, *messages: Any) -> None:
        """
        Send one packet of *messages*, waiting for room. Use asyncio.timeout.

        If it is cancelled, nothing was sent; but SOCK_STREAM may have taken a part, and
        then the packet counts as sent, as with ``send_nowait``.

        Raises:
            ChannelClosed, MessageTooLarge, TypeError, ValueError: As
                ``send_nowait``.
        """
        await self._aretry(lambda: self.send_nowait(*messages))
        await self._aretry(self._send_rest)

    async def _aretry(self, send: Callable[[], None]) -> None:
        """Call *send* until it does not raise ChannelFull."""
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
        Read one packet, if all of one has arrived.

        Returns:
            The packet's messages, all of one type; the caller owns their descriptors.
            An empty list: nothing, or not all of a packet, has arrived.

        Raises:
            ChannelClosed: The peer is gone, and all that it sent has been read.
            DescriptorsLost: This process is at its limit of open files; the error has
                the messages. The channel is still usable.
            PeerMisbehaved: Close this channel, which receives nothing any more. The
                descriptors that came were closed.
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
        """
        Read the next piece of a packet into the buffer.

        Return whether to try again: False means that nothing has arrived yet.
        """
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
            # The kernel delivers descriptors with the first byte they were sent with:
            # a peer that keeps to the protocol sends none in the middle.
            raise PeerMisbehaved("descriptors in the middle of a packet")
        self._truncated = self._truncated or truncated
        self._arrived += count
        # Of SEQPACKET all of the packet is here, of STREAM no more than the header.
        if self._header is None and (not self._stream or self._arrived == HEADER.size):
            self._header = self._codec.decode_header(self._buffer[: self._arrived])
            self._end = HEADER.size + self._header.length
            if not self._stream and self._arrived != self._end:
                raise PeerMisbehaved(
                    f"a packet of {self._arrived} bytes whose header says {self._end}"
                )
        return True

    def _could_not_read(self, error: OSError) -> bool:
        """Return whether to read on in spite of *error*, or raise ChannelClosed."""
        match meaning(error.errno):
            case Meaning.RETRY:
                return False
            case Meaning.GONE if error.errno == errno.ECONNRESET:
                # The peer left without reading all we sent. Read on to the end, because
                # Linux reports that only once, and what the peer sent is still there.
                self._reset = True
                return True
            case Meaning.GONE:
                raise ChannelClosed(undelivered=self._reset) from error
        raise self._refusal(error) from error

    def _own(self, fds: array.array[int]) -> bool:
        """Hold *fds* until their packet is complete; return whether there was one."""
        self._owners += map(Descriptor, fds)
        if not MSG_CMSG_CLOEXEC:
            for fd in fds:
                os.set_inheritable(fd, False)
        return bool(fds)

    def _take(self, header: Header) -> list[Any]:
        """
        Return the messages of the complete packet, which then own its descriptors.

        The buffer is ready for the next packet, also where this raises.
        """
        body = self._buffer[HEADER.size : self._arrived]
        truncated, self._truncated = self._truncated, False
        self._header = None
        self._arrived = 0
        self._end = self._first
        due, came = header.descriptors, len(self._owners)
        # Fewer than announced, and cut: only the kernel cuts, because this process has
        # no free descriptor. That is no fault of the peer.
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
        """
        Wait for *events* of poll(2), at most *longest* seconds; no events: only sleep.

        Raises:
            TimeoutError: *deadline* had passed before.
        """
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
        """Wait until the event loop finds the socket ready, or until ``close``."""
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
        """Start with *timeout* seconds left; None: there is no deadline."""
        self._at = math.inf if timeout is None else time.monotonic() + timeout

    def left(self) -> float:
        """Return the seconds left, perhaps infinity; raise TimeoutError at 0."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the channel was not ready in time")
        return left


def _rebuilt(
    sock: socket.socket, sends: Mapping[int, type], receives: Mapping[int, type]
) -> Channel:
    """Return the end of a channel that multiprocessing passed as *sock*."""
    return Channel(sock, sends=sends, receives=receives)
