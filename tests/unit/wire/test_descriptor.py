"""The owner of a received descriptor, tried on pipes."""

import os
import sys
import warnings

import pytest

from maitred import Descriptor
from maitred.wire.descriptor import close_all


@pytest.fixture
def pipe():
    """A pipe's two ends, owned."""
    ends = [Descriptor(fd) for fd in os.pipe()]
    yield ends
    close_all(ends)


def is_open(fd):
    """Say whether a number is an open descriptor."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_number_is_said_and_stays_the_owners(pipe):
    """Asking for the number changes nothing."""
    [reader, _] = pipe
    assert reader.fileno() == reader.fileno()
    assert is_open(reader.fileno())
    assert repr(reader) == f"<Descriptor {reader.fileno()}>"


def test_close_closes_once(pipe):
    """Closing a second time closes nothing, whoever has the number by then."""
    [reader, _] = pipe
    number = reader.fileno()
    reader.close()
    assert not is_open(number)
    stranger = os.open("/dev/null", os.O_RDONLY)
    try:
        assert stranger == number
        reader.close()
        assert is_open(stranger)
    finally:
        os.close(stranger)
    assert repr(reader) == "<Descriptor closed>"


def test_detach_gives_the_number_away(pipe):
    """After detach the number is open and the caller's."""
    [reader, _] = pipe
    number = reader.detach()
    reader.close()
    assert is_open(number)
    os.close(number)


@pytest.mark.parametrize("ask", [Descriptor.fileno, Descriptor.detach])
def test_closed_descriptor_has_no_number(pipe, ask):
    """A closed descriptor raises instead of saying a number."""
    [reader, _] = pipe
    reader.close()
    with pytest.raises(ValueError, match=r"^this descriptor was closed or detached$"):
        ask(reader)


def test_with_closes_at_the_end(pipe):
    """A with block closes the descriptor."""
    [reader, _] = pipe
    with reader as same:
        assert same is reader
        number = reader.fileno()
    assert not is_open(number)


def test_dropped_descriptor_is_closed_with_a_warning():
    """Forgetting is no leak, but it is said."""
    reader, writer = os.pipe()
    os.close(writer)
    with pytest.warns(ResourceWarning, match=rf"^unclosed <Descriptor {reader}>$"):
        Descriptor(reader)
    assert not is_open(reader)


def test_dropped_descriptor_is_closed_where_warnings_are_errors(monkeypatch):
    """The warning may be an exception: the descriptor is closed all the same."""
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: raised.append(it.exc_type))
    reader, writer = os.pipe()
    os.close(writer)
    with warnings.catch_warnings(action="error"):
        Descriptor(reader)
    assert raised == [ResourceWarning]
    assert not is_open(reader)


def test_dropped_closed_descriptor_says_nothing(recwarn):
    """Only what is open is worth a warning."""
    Descriptor(-1)
    assert not recwarn.list


def test_close_all_goes_on_after_a_failure(pipe):
    """One that fails to close does not keep the others open."""
    [reader, writer] = pipe
    os.close(reader.fileno())
    number = writer.fileno()
    close_all([reader, writer])
    assert not is_open(number)
