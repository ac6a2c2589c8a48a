"""The errors: each says what was wrong, where, and what to do, in one sentence."""

import errno
import inspect
import os

import pytest

from maitred import errors
from maitred.errors import (
    AppFailed,
    ChannelClosed,
    ChannelError,
    ChannelFull,
    ChannelRefused,
    CommandFailed,
    DescriptorsLost,
    ExitCode,
    MaitredError,
    MessageTooLarge,
    NoMaster,
    PeerMisbehaved,
    SystemRefused,
    UpgradeRefused,
    UsageError,
)


def refused(number):
    """Make the error with which the kernel refused."""
    return OSError(number, os.strerror(number))


SENTENCES = [
    (MaitredError("anything"), "anything"),
    (UsageError("no such preset: x"), "no such preset: x"),
    (SystemRefused("port 80 is in use"), "port 80 is in use"),
    (AppFailed("no module named app", "Traceback"), "no module named app"),
    (
        NoMaster("/run/m.sock", "connection refused"),
        (
            "no master answers on control socket /run/m.sock (connection refused);"
            " start one with `maitred serve`, or name its socket with --control"
        ),
    ),
    (CommandFailed("reload failed: no", "Traceback"), "reload failed: no"),
    (
        UpgradeRefused("another is under way"),
        "upgrade refused: another is under way; the old code serves on",
    ),
    (ChannelError("anything"), "anything"),
    (
        MessageTooLarge("descriptors", 254, 253),
        "254 descriptors do not fit one packet, which holds 253; send them in several",
    ),
    (
        ChannelFull(),
        "the channel takes no more now: the rest of a packet is waiting",
    ),
    (
        ChannelRefused(refused(errno.EACCES)),
        "the system refuses to pass messages of this channel: Permission denied",
    ),
    (
        ChannelRefused(refused(errno.EPERM)),
        (
            "the system refuses to pass messages of this channel: Operation not"
            " permitted (is SO_PASSRIGHTS off at the other end?)"
        ),
    ),
    (
        ChannelFull(refused(errno.EAGAIN)),
        "the channel takes no more now: Resource temporarily unavailable",
    ),
    (
        ChannelFull(refused(errno.ETOOMANYREFS)),
        "the channel takes no more now: Too many references: cannot splice",
    ),
    (ChannelClosed(), "the peer closed the channel"),
    (
        ChannelClosed(undelivered=True),
        "the peer closed the channel with messages still unread",
    ),
    (
        DescriptorsLost(["message"], 5, 2),
        (
            "2 of 5 descriptors arrived: this process is at its limit of open files"
            " (ulimit -n)"
        ),
    ),
    (
        PeerMisbehaved("version 7, we speak 1"),
        "the peer broke the channel protocol: version 7, we speak 1",
    ),
]


@pytest.mark.parametrize(("error", "sentence"), SENTENCES)
def test_error_says_its_sentence(error, sentence):
    """The wording is part of the interface."""
    assert str(error) == sentence


def test_every_error_has_its_sentence_here():
    """No error is left out above, and all have the same root."""
    defined = {
        each
        for _, each in inspect.getmembers(errors, inspect.isclass)
        if issubclass(each, Exception)
    }
    assert {type(error) for error, _ in SENTENCES} == defined
    assert all(issubclass(each, MaitredError) for each in defined)
    assert all(each.__name__ in errors.__doc__ for each in defined)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MaitredError(), ExitCode.INTERNAL),
        (UsageError(), ExitCode.USAGE),
        (SystemRefused(), ExitCode.SYSTEM),
        (AppFailed("why", "traceback"), ExitCode.APP),
        (NoMaster("path", "why"), ExitCode.NO_MASTER),
        (CommandFailed("why"), ExitCode.FAILED),
        (UpgradeRefused("why"), ExitCode.FAILED),
        (ChannelFull(), ExitCode.INTERNAL),
    ],
)
def test_error_knows_its_exit_code(error, code):
    """What escapes to the command line decides what it exits with."""
    assert error.exit_code == code


def test_exit_codes_are_pinned():
    """Scripts and service managers rely on the numbers."""
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "INTERNAL": 1,
        "USAGE": 2,
        "APP": 3,
        "SYSTEM": 4,
        "CUT": 5,
        "NO_MASTER": 6,
        "FAILED": 7,
    }


def test_errors_carry_facts():
    """What a program needs to know is an attribute, not a part of the sentence."""
    lost = DescriptorsLost(["message"], 5, 2)
    assert (lost.messages, lost.expected, lost.arrived) == (["message"], 5, 2)
    large = MessageTooLarge("bytes", 3, 2)
    assert (large.what, large.size, large.limit) == ("bytes", 3, 2)
    assert AppFailed("why", "text").why == "why"
    assert AppFailed("why", "text").traceback == "text"
    assert NoMaster("path", "why").path == "path"
    assert NoMaster("path", "why").why == "why"
    assert CommandFailed("why", "text").traceback == "text"
    assert PeerMisbehaved("why").why == "why"
    assert ChannelClosed(undelivered=True).undelivered
    assert not ChannelClosed().undelivered


@pytest.mark.parametrize(
    ("number", "helps"),
    [
        (errno.EAGAIN, True),
        (errno.ETOOMANYREFS, False),
        (errno.ENOBUFS, False),
        (errno.ENOMEM, False),
    ],
)
def test_full_channel_knows_whether_polling_helps(number, helps):
    """Only EAGAIN ends with the socket becoming writable."""
    error = refused(number)
    assert ChannelFull(error).poll_helps is helps
    assert ChannelFull(error).error is error


def test_full_channel_with_a_rest_waits_for_the_socket():
    """Without an error of the kernel, polling helps."""
    assert ChannelFull().poll_helps
    assert ChannelFull().error is None
