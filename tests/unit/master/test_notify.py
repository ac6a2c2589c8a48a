"""How a service manager says where it listens and what it wants to hear."""

import pytest

from maitred.master.notify import NAME, address_of, watchdog


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("", ""),
        ("/run/systemd/notify", "/run/systemd/notify"),
        ("@/org/freedesktop/notify", "\0/org/freedesktop/notify"),
    ],
)
def test_address_is_a_path_or_abstract(said, address):
    """An abstract one is written with an @ in front."""
    assert address_of(said) == address


def test_other_address_is_said_not_to_be_used(caplog):
    """A machine that is notified over vsock is told nothing, which is said once."""
    assert address_of("vsock:2:1234") == ""
    assert "vsock:2:1234 is neither a path nor an abstract address" in caplog.text


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
    ],
)
def test_life_is_shown_twice_in_each_interval(environment, seconds):
    """If it is wanted, and from us."""
    assert watchdog(environment, 7) == seconds


def test_name_of_a_listener_is_allowed():
    """Names are passed with colons between."""
    assert ":" not in NAME
