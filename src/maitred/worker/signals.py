"""
The signals of a worker, and what a process that its application forks drops of it.

An application may fork at any time, from any thread: multiprocessing does so, and
whoever has such a child ends it with TERM. The child begins as a copy of the worker.

Invariants: TERM, INT and what is for the master mean to a forked child what they mean
to any Python process.
No signal to a child reaches the worker, and nothing that a child does is taken for the
worker's own: its channel, its title, the file for its stack. A program that is executed
inherits no ignored signal of ours.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from maitred.signal_effects import NOT_FOR_WORKERS

Handler = Callable[[int, FrameType | None], object]

DEFAULTS: Final[dict[int, Any]] = {
    signal.SIGTERM: signal.SIG_DFL,
    **dict.fromkeys(NOT_FOR_WORKERS, signal.SIG_DFL),
    signal.SIGINT: signal.default_int_handler,
}
"What Python itself does at the signals that mean something else to a worker."
_before = threading.local()
"The signals that the thread which forks had blocked before."
_ours: dict[int, Handler] = {}
"The handlers that were set here; an application may have put its own in their place."
_dropped: list[Callable[[], object]] = []


def heed(number: signal.Signals, handler: Handler) -> None:
    """
    Call *handler* in the main thread when signal *number*, one of DEFAULTS, comes.

    This is no ``loop.add_signal_handler``, because that works by a descriptor which
    forked children share: a signal to a child would be heard by the worker's loop.
    """
    signal.signal(number, handler)
    # System calls of the application's libraries go on where they were interrupted.
    signal.siginterrupt(number, False)
    _ours[number] = handler


def pass_over() -> None:
    """
    Register handlers that do nothing for what is for the master, as Ctrl-C is.

    The signals are not ignored, because what is ignored stays so in every program that
    the application executes; a handler does not.
    """
    for number in NOT_FOR_WORKERS:
        heed(number, _do_nothing)


def drop_in_children(drop: Callable[[], object]) -> None:
    """Call *drop* in each child that is forked from now on, before it does anything."""
    if not _dropped:
        os.register_at_fork(
            before=_hold, after_in_parent=_release, after_in_child=_become_a_child
        )
    _dropped.append(drop)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def _hold() -> None:
    """Block signals until the child knows what they mean to it."""
    _before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, DEFAULTS)


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _before.mask)


def _become_a_child() -> None:
    """Drop in a forked child what is the worker's; runs first in its main thread."""
    # uvloop, and whoever uses add_signal_handler, is woken through it.
    signal.set_wakeup_fd(-1)
    # The application's own handlers stay; they are no matter of ours.
    ours = [n for n, handler in _ours.items() if signal.getsignal(n) is handler]
    for number in ours:
        signal.signal(number, signal.SIG_DFL)
    # It would write into the file in which the master looks for the worker's stack.
    faulthandler.disable()
    for drop in _dropped:
        drop()
    # A signal that has come meanwhile ends the child here. A KeyboardInterrupt would be
    # lost, because nothing that is raised gets out of this function.
    _release()
    for number in ours:
        signal.signal(number, DEFAULTS[number])
