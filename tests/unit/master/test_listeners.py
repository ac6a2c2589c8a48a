"""What can be said of ``--bind`` before any socket is opened."""

import pytest

from maitred.acceptor.listeners import TCP, open_listeners
from maitred.errors import UsageError


@pytest.mark.parametrize(
    ("bind", "host", "port"),
    [
        ("127.0.0.1:8000", "127.0.0.1", 8000),
        ("localhost:80", "localhost", 80),
        ("example.org:0", "example.org", 0),
        (":65535", None, 65535),
        ("[::1]:8000", "::1", 8000),
        ("[::]:80", "::", 80),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
    ],
)
def test_address_is_host_and_port(bind, host, port):
    """The last colon outside brackets separates them; an empty host means all."""
    match = TCP.fullmatch(bind)
    assert (match["v6"] or match["host"] or None, int(match["port"])) == (host, port)


@pytest.mark.parametrize(
    "bind",
    [
        *("", ":", "8000", "localhost", "localhost:", "localhost:http", "::1:80"),
        *("[::1]", "[::1]80", "[]:80", "a:-1", "a:65536", "a:123456", "a:80/"),
        *("http://a:80", "unix/run/x", "UNIX:/run/x", "a:80\n", "a:\uff18\uff10"),
    ],
)
def test_address_that_cannot_be_read_is_refused(bind):
    """The sentence says which forms there are."""
    with pytest.raises(UsageError) as refusal:
        open_listeners((bind,), 1)
    assert str(refusal.value) == (
        f"--bind {bind} is not host:port, [v6]:port, :port, unix:/path or fd://N"
    )


def test_unix_needs_a_path():
    """An empty path would be a socket that nobody finds."""
    with pytest.raises(UsageError) as refusal:
        open_listeners(("unix:",), 1)
    assert str(refusal.value) == ("--bind unix: needs a path, as in unix:/run/app.sock")


@pytest.mark.parametrize("number", ["", "x", "-1", "3.0", " 3"])
def test_descriptor_needs_a_number(number):
    """What is no number is no descriptor."""
    with pytest.raises(UsageError) as refusal:
        open_listeners((f"fd://{number}",), 1)
    assert str(refusal.value) == (
        f"--bind fd://{number}: fd:// needs a number, as in fd://3"
    )


def test_nothing_to_listen_on_is_nothing():
    """No address, no listener."""
    assert open_listeners((), 1) == []
