"""
What each signal does to each process of a service: the one table.

The reference (docs/reference/signals.md) is made from it, and a test sends every signal
to every process. No signal that a terminal, an init, a container runtime or a habit
from another server sends may stop or end a process without a meaning that stands here.

Invariant: what is for the master does nothing elsewhere, because ``systemctl kill`` and
a closed terminal send it to all processes at once.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from maitred import logs

NOTHING: Final = "nothing"
STOP: Final = "drains the workers and leaves; a second one stops now"
KERNEL: Final = "the kernel stops it, until CONT"
ENDED: Final = "the kernel ends it; its connections are closed"


class Effects(NamedTuple):
    """
    The effects of one signal.

    Args:
        sender: Who sends it, or what it means elsewhere.
        master: What the master does.
        keeper: What the keeper of ``maitred keep`` does.
        worker: What a worker does that runs a Python application.
        helper: What an acceptor and the admin process do.
    """

    sender: str
    master: str
    keeper: str
    worker: str
    helper: str


def _told(sender: str, master: str) -> Effects:
    """Return the effects of a signal for the master, which the keeper passes on."""
    return Effects(sender, master, "tells the master", NOTHING, NOTHING)


SIGNALS: Final[Mapping[signal.Signals, Effects]] = MappingProxyType(
    {
        signal.SIGTERM: Effects(
            "an init, a container runtime, `kill`",
            STOP,
            "closes its listeners, tells the master, leaves with its exit code",
            "drains and leaves; the master replaces it",
            NOTHING,
        ),
        signal.SIGINT: Effects("Ctrl-C", STOP, "as TERM", NOTHING, NOTHING),
        signal.SIGQUIT: Effects(
            "Ctrl-\\, the stop signal of some images",
            STOP,
            "as TERM",
            NOTHING,
            NOTHING,
        ),
        signal.SIGHUP: _told(
            "a closed terminal, `systemctl reload`", "reloads, as `maitred reload` does"
        ),
        signal.SIGUSR1: Effects(
            "logrotate",
            "opens `--log-file` anew, and tells all processes that have it",
            "opens `--log-file` anew and tells the master",
            "opens `--log-file` anew",
            "opens `--log-file` anew",
        ),
        signal.SIGUSR2: _told(
            "an upgrade of gunicorn", "upgrades itself, as `maitred upgrade` does"
        ),
        signal.SIGTTIN: _told(
            "one worker more, in gunicorn and uvicorn",
            "has one worker more, as `maitred scale` does; says why if it cannot",
        ),
        signal.SIGTTOU: _told(
            "one worker less, in gunicorn and uvicorn",
            "has one worker less, never none; says why if it cannot",
        ),
        signal.SIGTSTP: Effects(
            "Ctrl-Z", "nothing, and says so", "nothing, and says so", NOTHING, NOTHING
        ),
        signal.SIGALRM: Effects(
            "`alarm`",
            "nothing, and says so",
            "nothing, and says so",
            "what the application says; if it says nothing, the worker is ended and"
            " replaced",
            NOTHING,
        ),
        signal.SIGWINCH: Effects(
            "a terminal whose size changes; gunicorn: no workers",
            *[NOTHING] * 4,
        ),
        signal.SIGPIPE: Effects("a reader that left", *[NOTHING] * 4),
        signal.SIGCHLD: Effects(
            "a child that ended",
            "nothing; as process 1 it reaps what others have left behind",
            "looks whether its master has ended",
            "what the application says",
            NOTHING,
        ),
        signal.SIGCONT: Effects("`fg`", *["goes on, if it was stopped"] * 4),
        signal.SIGSTOP: Effects(
            "a debugger, a cgroup that is frozen",
            f"{KERNEL}; workers serve on, new connections wait",
            f"{KERNEL}; the master serves on",
            f"{KERNEL}; the master ends it after `--hang-timeout`",
            KERNEL,
        ),
        signal.SIGKILL: Effects(
            "an out-of-memory killer, an impatient init",
            "the kernel ends it; its workers finish what they have and leave",
            "the kernel ends it; the master drains its workers and leaves",
            "the kernel ends it; the master replaces it, and its untouched connections"
            " go on elsewhere",
            "the kernel ends it; the master replaces it",
        ),
        signal.SIGABRT: Effects(
            "the master, to a worker that hangs; a crash",
            "ends it, with a stack on standard error",
            "ends it",
            "ends it; the master logs where its threads were, and replaces it",
            "ends it; the master logs where its threads were, and replaces it",
        ),
    }
)
"All others have their default action, which for most is the end of the process."

BY_DEFAULT: Final = frozenset(
    {signal.SIGWINCH, signal.SIGPIPE, signal.SIGCHLD, signal.SIGCONT}
)
"What does nothing where nobody handles it; PIPE, because Python ignores it."


def _left(effects: Mapping[signal.Signals, str]) -> frozenset[signal.Signals]:
    """Return the signals that do nothing only if the process ignores them."""
    return frozenset(
        number
        for number, effect in effects.items()
        if effect == NOTHING and number not in BY_DEFAULT
    )


NOT_FOR_HELPERS: Final = _left({n: e.helper for n, e in SIGNALS.items()})
NOT_FOR_WORKERS: Final = _left({n: e.worker for n, e in SIGNALS.items()})
HELD: Final = (
    *(NOT_FOR_HELPERS - {signal.SIGTERM, signal.SIGALRM}),
    signal.SIGUSR1,
)
"What is kept from a process of ours that starts, until it knows what to do then."
SAID: Final = (signal.SIGTSTP, signal.SIGALRM)
"What master and keeper ignore, and say so."


def ignored(number: signal.Signals) -> str:
    """Return the sentence for the log that signal *number* is ignored."""
    return (
        f"{number.name[3:]} is ignored, because clients would wait for a process that"
        " is stopped or ended; see docs/reference/signals.md"
    )


def hear(
    loop: asyncio.AbstractEventLoop,
    acts: Mapping[signal.Signals, Callable[[], object]],
) -> None:
    """Register *acts* as handlers; signals in ``SAID`` log that they do nothing."""
    for number, act in acts.items():
        loop.add_signal_handler(number, act)
    for number in SAID:
        loop.add_signal_handler(number, logs.master.warning, "%s", ignored(number))
    # An "ignore" that was inherited would make the kernel reap our children for us.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def be_helper() -> None:
    """
    Ignore the signals that are for the master, in this process and its children.

    Children inherit that, because an ignored signal stays ignored after exec.
    """
    for number in NOT_FOR_HELPERS:
        signal.signal(number, signal.SIG_IGN)
    begin()


def begin() -> None:
    """Unblock the signals in ``HELD``; the process needs its handlers before."""
    # An "ignore" that was inherited would make the kernel reap our children for us.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
