"""
What the tests of the channel share: a small vocabulary, and the world's ways.

Nothing here asserts; it counts descriptors, makes them scarce, and runs a function
in a process of its own.
"""

import array
import asyncio
import contextlib
import itertools
import os
import pickle
import resource
import select
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import uvloop

from maitred import (
    U8,
    U32,
    U64,
    Blob,
    Channel,
    ChannelFull,
    Descriptor,
    Passed,
)
from maitred.wire.codec import HEADER, VERSION

DEADLINE = 30.0
"Seconds after which a test gives up; no test is meant to come near."

KINDS = {"seqpacket": socket.SOCK_SEQPACKET, "stream": socket.SOCK_STREAM}


class Text(NamedTuple):
    """A message without descriptor."""

    text: Blob


class Pass(NamedTuple):
    """A message that passes a descriptor, which is not its first field."""

    number: U64
    file: Passed
    label: Blob


class Bye(NamedTuple):
    """A message without any field."""


class Mixed(NamedTuple):
    """A message with two blobs among integers."""

    small: U8
    first: Blob
    large: U32
    second: Blob


TABLE = {1: Text, 2: Pass, 3: Bye, 4: Mixed}


def packet(
    number: int,
    body: bytes = b"",
    *,
    version: int = VERSION,
    descriptors: int = 0,
    records: int = 1,
    zero: int = 0,
    length: int | None = None,
) -> bytes:
    """Return the bytes of a packet, made by hand, so that each part can be wrong."""
    if length is None:
        length = len(body)
    return HEADER.pack(version, number, descriptors, records, zero, length) + body


def raw_send(sock: socket.socket, data: bytes, *fds: int) -> None:
    """Send what a peer could send, right or wrong."""
    numbers = array.array("i", fds)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)] if fds else []
    assert sock.sendmsg([data], rights) == len(data)


class Files:
    """Makes files without a name, and closes what is left of them."""

    def __init__(self) -> None:
        """Start with none."""
        self._made: list[Descriptor] = []

    def __call__(self, count: int) -> list[Descriptor]:
        """Make *count* files, each of them another one."""
        made = [Descriptor(os.memfd_create("test")) for _ in range(count)]
        self._made += made
        return made

    def close(self) -> None:
        """Close all that the test has not closed."""
        for each in self._made:
            each.close()


def is_same(one: Descriptor, other: Descriptor) -> bool:
    """Return whether two descriptors are of the same file."""
    return os.path.sameopenfile(one.fileno(), other.fileno())


def open_descriptors() -> dict[int, str]:
    """Return our open descriptors and what they are of."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        # The one that listed them is closed by now.
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """Limit this process to *count* further descriptors, for the block."""
    taken = open_descriptors()
    free = (number for number in itertools.count() if number not in taken)
    limit = next(itertools.islice(free, count, None))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def fill(channel: Channel, *messages: Any) -> int:
    """Send packets until the channel is full; return how many."""
    sent = 0
    with contextlib.suppress(ChannelFull):
        while True:
            channel.send_nowait(*messages)
            sent += 1
    return sent


def receive_all(receiver: Channel, sender: Channel, count: int) -> list[Any]:
    """Receive and return *count* packets, flushing what *sender* sent in part only."""
    messages: list[Any] = []
    for _ in range(count):
        while not (packet_of := receiver.receive_nowait()):
            assert sender.unsent
            sender.flush()
        messages += packet_of
    assert receiver.receive_nowait() == []
    return messages


class Callbacks:
    """Uses a channel as a loop's callbacks do."""

    def send(self, channel: Channel, *messages: Any) -> None:
        """Send at once."""
        channel.send_nowait(*messages)

    def receive(self, channel: Channel) -> list[Any]:
        """Receive when a selector says so."""
        while not (messages := channel.receive_nowait()):
            assert select.select([channel], [], [], DEADLINE)[0], "nothing came"
        return messages


class Blocking:
    """Uses a channel as a program without a loop does."""

    def send(self, channel: Channel, *messages: Any) -> None:
        """Send, waiting for room."""
        channel.send(*messages, timeout=DEADLINE)

    def receive(self, channel: Channel) -> list[Any]:
        """Wait for a packet."""
        return channel.receive(timeout=DEADLINE)


class Asyncio:
    """Uses a channel as a coroutine does."""

    def __init__(self, loop_factory: Any = None) -> None:
        """Run coroutines in loops of *loop_factory*."""
        self._loop_factory = loop_factory

    def send(self, channel: Channel, *messages: Any) -> None:
        """Send, waiting for room."""
        run(channel.asend(*messages), self._loop_factory)

    def receive(self, channel: Channel) -> list[Any]:
        """Wait for a packet."""
        messages: list[Any] = run(channel.areceive(), self._loop_factory)
        return messages


USES = {
    "callbacks": Callbacks(),
    "blocking": Blocking(),
    "asyncio": Asyncio(),
    "uvloop": Asyncio(uvloop.new_event_loop),
}


def run(coroutine: Any, loop_factory: Any = None) -> Any:
    """Run *coroutine* in a loop of its own, with a deadline; return its result."""

    async def with_deadline() -> Any:
        """Await *coroutine*, or raise TimeoutError in the end."""
        async with asyncio.timeout(DEADLINE):
            return await coroutine

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(with_deadline())


def in_child(function: Callable[[], Any]) -> Any:
    """
    Run *function* in a forked process and return what it returns.

    What it raises, or that it died, becomes an AssertionError here.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                answer = (True, function())
            except BaseException:  # noqa: BLE001 - goes to the parent as text
                answer = (False, traceback.format_exc())
            os.write(writer, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writer)
    try:
        if not select.select([reader], [], [], DEADLINE)[0]:
            os.kill(pid, signal.SIGKILL)
        written = os.read(reader, 65536)
    finally:
        os.close(reader)
        os.waitpid(pid, 0)
    assert written, "the child died or hung"
    returned, result = pickle.loads(written)
    assert returned, result
    return result
