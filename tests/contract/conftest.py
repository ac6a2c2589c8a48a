"""Every contract test ends with as many open descriptors as it began with."""

import asyncio
import contextlib
import gc

import pytest
import uvloop

from acceptor_kit import InProcessAcceptor
from channel_kit import KINDS, TABLE, USES, Files, open_descriptors, run
from maitred import Channel


@pytest.fixture(autouse=True, scope="module")
def _earlier_garbage_is_gone():
    """What others left to the collector or keep for ever does not confuse the count."""
    # Its first loop opens a pipe that the process keeps.
    run(asyncio.sleep(0), uvloop.new_event_loop)
    gc.collect()


@pytest.fixture(autouse=True)
def _no_descriptor_is_left(_earlier_garbage_is_gone):
    """No descriptor is left open, and none is closed that is not ours."""
    before = open_descriptors()
    yield
    if open_descriptors() != before:
        gc.collect()
    assert open_descriptors() == before


@pytest.fixture
def start():
    """Make acceptors in this process, which are closed at the end."""
    with contextlib.ExitStack() as made:

        def start(**settings):
            acceptor = InProcessAcceptor(**settings)
            made.callback(acceptor.close)
            return acceptor

        yield start


@pytest.fixture(params=KINDS)
def kind(request):
    """SOCK_SEQPACKET, then SOCK_STREAM."""
    return KINDS[request.param]


@pytest.fixture(params=USES)
def use(request):
    """The ways to send and receive."""
    return USES[request.param]


@pytest.fixture
def pair(kind):
    """A channel of each kind; both ends may say everything in TABLE."""
    ours, theirs = Channel.pair(sends=TABLE, receives=TABLE, kind=kind)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def files():
    """Files to pass, closed at the end."""
    made = Files()
    yield made
    made.close()
