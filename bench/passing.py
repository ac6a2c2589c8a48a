"""
Descriptors passed a second from one process to another, in several ways.

A way is a pair of ends and what either process does with its own. Every descriptor is
received, owned and closed one by one; time ends when the receiver says that it has
closed the last one.
"""

import contextlib
import functools
import itertools
import os
import socket
import subprocess
import time
from collections.abc import Callable
from multiprocessing import connection, reduction
from typing import Any, NamedTuple

from maitred.wire import Channel
from maitred.wire.messages import U64, Passed


class Item(NamedTuple):
    """What is sent here: a descriptor and a number, as HANDOFF has."""

    passed: Passed
    number: U64


class Way(NamedTuple):
    """One way to pass descriptors: ``count`` of them through ``pair()``."""

    pair: Callable[[], tuple[Any, Any]]
    send: Callable[[Any, socket.socket, int], None]
    receive: Callable[[Any, int], None]


def channel(batch: int) -> Way:
    """Pass them through a ``Channel``, *batch* in a packet."""

    def send(end: Channel, passed: socket.socket, count: int) -> None:
        numbers = itertools.count()
        for _ in range(0, count, batch):
            end.send(*[Item(passed, next(numbers)) for _ in range(batch)], timeout=60)

    def receive(end: Channel, count: int) -> None:
        while count > 0:
            for item in end.receive(timeout=60):
                item.passed.close()
                count -= 1

    return Way(
        functools.partial(Channel.pair, sends={1: Item}, receives={}), send, receive
    )


def send_fds(batch: int) -> Way:
    """Pass them through ``socket.send_fds``, *batch* in a message."""

    def send(end: socket.socket, passed: socket.socket, count: int) -> None:
        for _ in range(0, count, batch):
            socket.send_fds(end, [b"x"], [passed.fileno()] * batch)

    def receive(end: socket.socket, count: int) -> None:
        while count > 0:
            for fd in socket.recv_fds(end, 1, batch)[1]:
                os.close(fd)
                count -= 1

    return Way(lambda: socket.socketpair(type=socket.SOCK_SEQPACKET), send, receive)


def send_handle() -> Way:
    """Pass them through ``multiprocessing.reduction``, always one at a time."""

    def send(end: connection.Connection, passed: socket.socket, count: int) -> None:
        for _ in range(count):
            reduction.send_handle(end, passed.fileno(), 0)

    def receive(end: connection.Connection, count: int) -> None:
        for _ in range(count):
            os.close(reduction.recv_handle(end))

    return Way(lambda: connection.Pipe(duplex=True), send, receive)


def per_second(way: Way, count: int) -> float:
    """Pass *count* descriptors or a few more; say how many that were a second."""
    ours, theirs = way.pair()
    told, tell = os.pipe()
    with contextlib.closing(ours), socket.socket() as passed:
        child = os.fork()
        if not child:
            ours.close()
            status = 1
            try:
                way.receive(theirs, count)
                os.write(tell, b"x")
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        os.close(tell)
        start = time.perf_counter()
        way.send(ours, passed, count)
        done = os.read(told, 1)
        seconds = time.perf_counter() - start
        os.close(told)
        os.waitpid(child, 0)
    if not done:
        raise RuntimeError("the receiver did not get them all")
    return count / seconds


def c_per_second(program: str, batch: int, count: int) -> float:
    """Pass *count* descriptors or a few less with reference/passing.c."""
    command = [program, str(count // batch * batch), str(batch)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)
