"""
The keeper: a parent that holds the listeners and starts a master again when it dies.

It never accepts: a connection that comes while there is no master waits in the backlog.
It is so small that there is little in it that could end it, and it never sees the
application.

    signal to the keeper    what it does
    TERM, INT, QUIT         closes its listeners, tells the master, leaves when that has
                            left, with its exit code
    one of them again       tells the master, and ends it (KILL) if it is slow to go
    HUP, USR1, USR2,        tells the master
    TTIN, TTOU
    TSTP, ALRM              nothing, and says so

Invariants: at most one master. After a stop that was asked for there is never another.
Signals are blocked all the time and taken one by one: none interrupts anything, and
one that comes while a master starts reaches it when it can hear.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Sequence
from typing import Final

from maitred import logs, signal_effects
from maitred.acceptor.listeners import Listener
from maitred.errors import ExitCode, SystemRefused
from maitred.supervision.keeping import Keeping, Leave

from .parent import was_ready
from .processes import KeptMaster, how_it_ended

STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
PASSED_ON: Final = (
    *(signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGTTIN, signal.SIGTTOU),
)
HEARD: Final = frozenset({*STOPS, *PASSED_ON, *signal_effects.SAID, signal.SIGCHLD})
PATIENCE: Final = 10.0
"Seconds that a master has to leave at once, when it was told to, before it is ended."
ORDERLY: Final = frozenset({int(ExitCode.OK), int(ExitCode.CUT)})


class Keeper:
    """Keeps one service: one master after another."""

    def __init__(self, command: Sequence[str], listeners: Sequence[Listener]) -> None:
        """
        Take over *listeners*, for masters that are started as *command*.

        Args:
            command: Program, with its path, and arguments.
            listeners: In the order of the binds.
        """
        self._command = list(command)
        self._listeners = listeners
        self._keeping = Keeping(ORDERLY, random.Random())
        self._master: KeptMaster | None = None
        self._link: socket.socket | None = None
        self._start_at: float | None = None
        self._kill_at: float | None = None

    def run(self) -> int:
        """
        Keep a master running until it leaves in order.

        Returns:
            Its exit code.
        """
        # An inherited "ignore" would make the kernel reap our children for us.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        try:
            names = ", ".join(listener.name for listener in self._listeners)
            logs.keeper.info("keeping %s", names)
            self._start()
            while True:
                leave = self._next()
                if leave is not None:
                    return ExitCode.CUT if leave.code is None else leave.code
        finally:
            self._close_listeners()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _next(self) -> Leave | None:
        """Wait for the next event and handle it; return how to leave, if it is time."""
        number = self._wait()
        if number in STOPS:
            return self._stop(number)
        if number == signal.SIGCHLD:
            return self._look()
        if number in signal_effects.SAID:
            logs.keeper.warning("%s", signal_effects.ignored(signal.Signals(number)))
        elif number is not None:
            if number == signal.SIGUSR1:
                logs.reopen()
            if self._master is not None:
                self._master.tell(number)
        elif self._start_at is not None:
            self._start()
        elif self._master is not None:
            logs.keeper.warning("the master does not leave: it is killed")
            self._kill_at = None
            self._master.tell(signal.SIGKILL)
        return None

    def _wait(self) -> int | None:
        """Return the next signal; None: the time of a start or a kill has come."""
        at = self._kill_at if self._start_at is None else self._start_at
        if at is None:
            return signal.sigwaitinfo(HEARD).si_signo
        heard = signal.sigtimedwait(HEARD, max(0.0, at - time.monotonic()))
        return None if heard is None else heard.si_signo

    def _stop(self, number: int) -> Leave | None:
        again, self._keeping.stopping = self._keeping.stopping, True
        self._start_at = None
        self._close_listeners()
        if self._master is None:
            return Leave(ExitCode.OK)
        if again and self._kill_at is None:
            self._kill_at = time.monotonic() + PATIENCE
        self._master.tell(number)
        return None

    def _look(self) -> Leave | None:
        """Reap what has ended; if the master has, decide what follows."""
        code = None if self._master is None else self._master.reap()
        if code is None or self._link is None:
            return None
        served = was_ready(self._link)
        self._link.close()
        self._master = self._link = None
        decided = self._keeping.ended(code, served=served)
        if isinstance(decided, Leave):
            return decided
        why = how_it_ended(code)
        self._start_at = time.monotonic() + decided.wait
        if decided.wait:
            text = "the master %s before it served; next try in %.1f s"
            logs.keeper.warning(text, why, decided.wait)
        else:
            logs.keeper.warning("the master %s; started again", why)
        return None

    def _start(self) -> None:
        """Start a master; at the limit of processes, schedule another try."""
        self._start_at = None
        self._link, theirs = socket.socketpair()
        try:
            self._master = KeptMaster(
                self._command,
                os.environ,
                [listener.sock.fileno() for listener in self._listeners],
                theirs.fileno(),
            )
        except SystemRefused as exc:
            self._link.close()
            self._link = None
            wait = self._keeping.not_started().wait
            logs.keeper.warning("%s; next try in %.1f s", exc, wait)
            self._start_at = time.monotonic() + wait
        else:
            logs.keeper.debug("the master is process %d", self._master.pid)
        finally:
            theirs.close()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []
