"""Connections that workers give back: taken for what they are, not what is said."""

from __future__ import annotations

import os
import socket

import pytest

from maitred import Descriptor, PeerMisbehaved
from maitred.acceptor.connection import returned
from maitred.master.workers import handoff
from maitred.wire.cookie import cookie
from maitred.wire.messages import Return


def give_back(owner, id_, *, key=b"key", learned=1, unread=b"GET"):
    """Make a RETURN."""
    return Return(
        owner, id_, b"192.0.2.7", 50123, b"198.51.100.1", 443, key, learned, unread
    )


@pytest.fixture
def pair():
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with client, accepted:
        yield client, accepted


def owner_of(fd):
    """Own a copy of *fd* as the channel does."""
    return Descriptor(os.dup(fd))


def test_returned_connection_is_as_it_was_handed_over(pair):
    """Addresses, key and bytes travel back, and out again."""
    _, accepted = pair
    message = give_back(owner_of(accepted.fileno()), cookie(accepted))
    connection = returned(message)
    with pytest.raises(ValueError, match="detached"):
        message.connection.fileno()
    assert (connection.id, connection.attempts) == (cookie(accepted), 0)
    assert (connection.key, connection.learned) == (b"key", True)
    out = handoff(connection)
    assert out[1:] == (
        cookie(accepted), b"192.0.2.7", 50123, b"198.51.100.1", 443,
        b"key", 0, b"GET", 0, 0, 1, b"",
    )  # fmt: skip
    connection.once = True
    assert handoff(connection).once == 1
    connection.close()


def test_returned_connection_may_have_no_key(pair):
    """Empty means none."""
    _, accepted = pair
    connection = returned(
        give_back(owner_of(accepted.fileno()), cookie(accepted), key=b"", learned=0)
    )
    assert (connection.key, connection.learned) == (None, False)
    connection.close()


def refused(owner, id_):
    """Check that a RETURN is refused and its descriptor closed."""
    fd = owner.fileno()
    with pytest.raises(PeerMisbehaved):
        returned(give_back(owner, id_))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_another_connection_is_refused(pair):
    """The kernel's cookie tells which connection it is."""
    client, accepted = pair
    refused(owner_of(client.fileno()), cookie(accepted))


def test_what_is_no_socket_is_refused():
    """A directory, say."""
    refused(Descriptor(os.open("/", os.O_RDONLY)), 1)
