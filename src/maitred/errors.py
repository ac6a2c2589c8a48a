"""
Everything that can go wrong, in one tree.

    MaitredError
    ├── UsageError              the user asked for something impossible   (exit 2)
    ├── SystemRefused           the operating system said no              (exit 4)
    ├── AppFailed               the application cannot be started         (exit 3)
    ├── NoMaster                no master answers on the control socket   (exit 6)
    ├── CommandFailed           the master could not do what was asked    (exit 7)
    │   └── UpgradeRefused      the master stays the program that it is
    └── ChannelError
        ├── MessageTooLarge     we tried to send more than a packet holds
        ├── ChannelFull         the kernel takes no more now; nothing was sent
        ├── ChannelClosed       the peer is gone
        │   └── ChannelRefused  the system does not pass what is said here
        ├── DescriptorsLost     a packet came, its descriptors did not
        └── PeerMisbehaved      the peer broke the protocol; do not go on

Invariant: the text of each is one sentence that says what was wrong, where, and
what to do. Expected outcomes (need more bytes, no match) are values, not errors.
"""

from __future__ import annotations

import enum
import errno
from typing import Any


class ExitCode(enum.IntEnum):
    """The exit codes of ``maitred``. The documentation's table is made from this."""

    OK = 0
    "stopped in order, or the command did what was asked"
    INTERNAL = 1
    "a bug in maitred: please report it"
    USAGE = 2
    "an option, target or affinity that cannot be used"
    APP = 3
    "the application could not be loaded or failed to start"
    SYSTEM = 4
    "the system refused: port, permission, program, control socket of another master"
    CUT = 5
    "stopped, but connections were cut: a second signal, or the drain timeout passed"
    NO_MASTER = 6
    "no master answers on the control socket"
    FAILED = 7
    "the master could not do what it was asked, and serves on"


class MaitredError(Exception):
    """The root of all errors that maitred raises on purpose."""

    exit_code = ExitCode.INTERNAL


class UsageError(MaitredError):
    """The user asked for something that cannot be done; the text says what to do."""

    exit_code = ExitCode.USAGE


class SystemRefused(MaitredError):
    """The operating system refused what was asked; the text says what and where."""

    exit_code = ExitCode.SYSTEM


class AppFailed(MaitredError):
    """
    The application could not be loaded, or failed to start.

    ``why`` is one sentence, ``traceback`` the application's own, as text.
    """

    exit_code = ExitCode.APP

    def __init__(self, why: str, traceback: str) -> None:
        """Store *why* and the application's *traceback*."""
        super().__init__(why, traceback)
        self.why = why
        self.traceback = traceback

    def __str__(self) -> str:
        return self.why


class NoMaster(MaitredError):
    """Nobody answers on the control socket."""

    exit_code = ExitCode.NO_MASTER

    def __init__(self, path: str, why: str) -> None:
        """Store *path* of the control socket and *why* nobody answered."""
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return (
            f"no master answers on control socket {self.path} ({self.why}); start one"
            " with `maitred serve`, or name its socket with --control"
        )


class CommandFailed(MaitredError):
    """
    The master could not do what it was asked, and serves on.

    ``why`` is one sentence; ``traceback`` is the application's own, as text, or empty.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, why: str, traceback: str = "") -> None:
        """Store *why* and the application's *traceback*, if it has one."""
        super().__init__(why, traceback)
        self.why = why
        self.traceback = traceback

    def __str__(self) -> str:
        return self.why


class UpgradeRefused(CommandFailed):
    """
    The new code does not take over; the old one serves on as if nothing had happened.

    ``why`` is a clause, ``traceback`` what the new code printed before it failed.
    """

    def __str__(self) -> str:
        return f"upgrade refused: {self.why}; the old code serves on"


class ChannelError(MaitredError):
    """The root of all errors of channels."""


class MessageTooLarge(ChannelError):
    """
    The messages do not fit one packet. Nothing was sent.

    The descriptors still belong to the caller.
    """

    def __init__(self, what: str, size: int, limit: int) -> None:
        """Store that *what* (bytes, records or descriptors) is *size* > *limit*."""
        super().__init__(what, size, limit)
        self.what = what
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"{self.size} {self.what} do not fit one packet, which holds {self.limit};"
            " send them in several"
        )


class ChannelFull(ChannelError):
    """
    The kernel takes no more at the moment. Nothing was sent.

    The descriptors still belong to the caller, who may try again or choose
    another channel. ``poll_helps`` is false when the channel may be writable
    and the sender still at a limit (too many descriptors in flight, no kernel
    memory): then wait a moment instead of polling.
    """

    def __init__(self, error: OSError | None = None) -> None:
        """Store the *error* with which the kernel refused; None: it was not asked."""
        super().__init__(error)
        self.error = error
        self.poll_helps = error is None or isinstance(error, BlockingIOError)

    def __str__(self) -> str:
        why = self.error.strerror if self.error else "the rest of a packet is waiting"
        return f"the channel takes no more now: {why}"


class ChannelClosed(ChannelError):
    """
    The peer closed its end, or is dead.

    ``undelivered`` is true when the kernel said that the peer left without
    reading everything that had been sent to it.
    """

    def __init__(self, *, undelivered: bool = False) -> None:
        """Store whether messages to the peer were *undelivered*."""
        super().__init__(undelivered)
        self.undelivered = undelivered

    def __str__(self) -> str:
        tail = " with messages still unread" if self.undelivered else ""
        return f"the peer closed the channel{tail}"


class ChannelRefused(ChannelClosed):
    """
    The system does not pass what is said here, now or later. Close the channel.

    Nothing was sent. ``error`` is what the system said: EPERM where the receiver has
    the option SO_PASSRIGHTS off, which it needs to be handed descriptors.
    """

    def __init__(self, error: OSError) -> None:
        """Store the *error* with which the system refused."""
        super().__init__()
        self.args = (error,)
        self.error = error

    def __str__(self) -> str:
        why = self.error.strerror or str(self.error)
        if self.error.errno == errno.EPERM:
            why += " (is SO_PASSRIGHTS off at the other end?)"
        return f"the system refuses to pass messages of this channel: {why}"


class DescriptorsLost(ChannelError):
    """
    A packet arrived whole, its descriptors did not (``MSG_CTRUNC``).

    The receiver is at its descriptor limit. What did arrive has been closed, the
    channel is still usable, and ``messages`` are the records without their
    descriptors: refuse each, so that the sender, who kept its copies, can act.
    """

    def __init__(self, messages: list[Any], expected: int, arrived: int) -> None:
        """Store the *messages*, and how many descriptors *arrived* of *expected*."""
        super().__init__(messages, expected, arrived)
        self.messages = messages
        self.expected = expected
        self.arrived = arrived

    def __str__(self) -> str:
        return (
            f"{self.arrived} of {self.expected} descriptors arrived: this process is at"
            " its limit of open files (ulimit -n)"
        )


class PeerMisbehaved(ChannelError):
    """
    The peer sent what the protocol does not allow. Close the channel.

    Every descriptor that came with it has been closed.
    """

    def __init__(self, why: str) -> None:
        """Store *why*, a clause such as ``version 7, we speak 1``."""
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the peer broke the channel protocol: {self.why}"
