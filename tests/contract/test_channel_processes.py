"""A channel as an argument of multiprocessing, however that starts its processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker

import pytest

from channel_kit import DEADLINE, KINDS, TABLE, Bye, Pass, Text, fill
from maitred import Channel, ChannelClosed, Descriptor

METHODS = ("fork", "forkserver", "spawn")


@pytest.fixture(autouse=True)
def helpers_of_multiprocessing() -> Iterator[None]:
    """Leave no process behind that it has started for its own purposes."""
    yield
    forkserver._forkserver._stop()
    resource_tracker._resource_tracker._stop()


def answer(channel: Channel) -> None:
    """Say in another process what came there, and what the file that was passed is."""
    [message] = channel.receive(DEADLINE)
    link = os.readlink(f"/proc/self/fd/{message.file.fileno()}")
    channel.send(Text(link.encode()), timeout=DEADLINE)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_other_process_gets_its_end(method, kind, tmp_path):
    """It owns a copy: when we have closed ours, its end is what we hear of."""
    ours, theirs = Channel.pair(sends={2: Pass}, receives={1: Text}, kind=kind)
    with ours, Descriptor(os.open(tmp_path, os.O_RDONLY)) as file:
        child = multiprocessing.get_context(method).Process(
            target=answer, args=(theirs,)
        )
        child.start()
        theirs.close()
        ours.send(Pass(1, file, b""), timeout=DEADLINE)
        assert ours.receive(DEADLINE) == [Text(str(tmp_path).encode())]
        with pytest.raises(ChannelClosed):
            ours.receive(DEADLINE)
        child.join(DEADLINE)
        assert child.exitcode == 0


def test_nothing_else_can_have_it():
    """A descriptor cannot be written down."""
    ours, theirs = Channel.pair(sends=TABLE, receives=TABLE)
    with ours, theirs, pytest.raises(TypeError, match="socket"):
        pickle.dumps(ours)


def test_half_a_packet_cannot_be_passed_on(tmp_path):
    """What is left of it would be lost, and the other process read its middle."""
    ours, theirs = Channel.pair(sends=TABLE, receives=TABLE, kind=KINDS["stream"])
    with ours, theirs:
        fill(ours, Text(b"x" * 60_000))
        assert ours.unsent
        with pytest.raises(ValueError, match="middle of a packet"):
            ours.__reduce__()
        theirs.receive_nowait()
        ours.flush()
        assert Bye() not in theirs.receive_nowait()
