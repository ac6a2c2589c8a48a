"""
Starting, signalling and reaping workers, masters, and rehearsals of an upgrade.

Invariant: a signal reaches the process we started or, when that was reaped, nobody. A
worker inherits what it is given here (its end of the channel, its scoreboard, keys that
are lent), a file for its stack, and nothing else; a master inherits listeners and its
end of the keeper's socketpair.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from maitred.acceptor.socket_activation import FIRST
from maitred.errors import SystemRefused
from maitred.upgrade.snapshot import Past, Table

from .notify import MANAGER
from .parent import VARIABLE as KEEPER
from .starting import asking_for, refused_in_sandbox

OURS: Final = frozenset({*MANAGER, KEEPER})
"Variables that say who supervises the master: no child inherits them."
LONGEST_STACK: Final = 64 * 1024
NOT_STARTED: Final = 127
"The exit code of a master that could not even be executed, as a shell has it."


_children: Final[set[int]] = set()
"The processes that are a ``Process``, and not reaped yet."


class Process:
    """One worker process that we started and will reap."""

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        descriptors: Sequence[int],
        *,
        output: int | None = None,
        seconds: int = 0,
        held: Sequence[signal.Signals] = (),
        directory: str = "",
    ) -> None:
        """
        Start *command*.

        Args:
            command: Program and arguments.
            environment: Added to ours.
            descriptors: Inherited under the same numbers; they stay the caller's.
            output: The descriptor it prints to; None: ours. It stays the caller's.
            seconds: Seconds after which the kernel ends it, also when we are dead by
                then; 0: never.
            held: Signals that it begins with blocked, until it unblocks them, so that
                none ends it before it has a handler.
            directory: Where it runs; empty: where we do.

        Raises:
            SystemRefused: It could not be started.
        """
        # In memory and ours: what is written there is read whole after the end.
        with asking_for("memory for a stack (memfd_create)"):
            self._stack = os.memfd_create("maitred-stack", os.MFD_CLOEXEC)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
        try:
            # A process group of its own: the terminal's Ctrl-C is for the master,
            # who then drains the workers.
            popen = subprocess.Popen(
                command,
                env={
                    **{n: v for n, v in os.environ.items() if n not in OURS},
                    **environment,
                    "MAITRED_STACK": str(self._stack),
                },
                pass_fds=(*descriptors, self._stack),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
                cwd=directory or None,
                # An alarm survives exec (alarm(2)). This is one system call, which
                # takes no lock that the thread of the log could have.
                preexec_fn=(  # noqa: PLW1509
                    functools.partial(signal.alarm, seconds) if seconds else None
                ),
            )
        except OSError as exc:
            os.close(self._stack)
            where = f" in {directory}" if directory else ""
            raise SystemRefused(
                f"cannot start {command[0]}{where}: {exc.strerror}"
            ) from exc
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.pid = popen.pid
        try:
            # Readable when the process has ended (pidfd_open(2)); it cannot have been
            # reaped yet, so the number is its own.
            self.pidfd = os.pidfd_open(self.pid)
        except OSError as exc:
            # Nobody could supervise it.
            popen.kill()
            popen.wait()
            os.close(self._stack)
            raise SystemRefused(f"cannot watch {command[0]}: {exc.strerror}") from exc
        _children.add(self.pid)
        # We reap it ourselves, as we do those we did not start: Popen may forget it.
        popen.returncode = 0
        self._reaped = False
        self.stack = ""
        "Where its threads were when it was aborted or crashed, once it is reaped."
        self.refused: SystemRefused | None = None
        "Why it did not become the program in its sandbox, once it is reaped."

    def state(self, table: Table) -> dict[str, Any]:
        """Return the state for a successor, whose child the process will be."""
        return {
            "pid": self.pid,
            "pidfd": table.own(self.pidfd),
            "stack": table.own(self._stack),
        }

    @classmethod
    def restored(cls, state: dict[str, Any], past: Past) -> Process:
        """Return the child that ``state`` wrote; its descriptors come from *past*."""
        process = cls.__new__(cls)
        process.pid, process.pidfd = state["pid"], past.take(state["pidfd"])
        process._stack = past.take(state["stack"])  # noqa: SLF001 - it is one of us
        process._reaped = False  # noqa: SLF001 - likewise
        _children.add(process.pid)
        process.stack = ""
        process.refused = None
        return process

    def stop(self) -> None:
        """Send TERM: the process is asked to leave."""
        self._signal(signal.SIGTERM)

    def abort(self) -> None:
        """Send ABRT: the process writes where its threads are, and ends."""
        self._signal(signal.SIGABRT)

    def reopen_log(self) -> None:
        """Send USR1, at which a program of ours opens its log file anew."""
        self._signal(signal.SIGUSR1)

    def kill(self) -> None:
        """Send KILL."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self._reaped:
            signal.pidfd_send_signal(self.pidfd, number)

    def reap(self) -> int:
        """
        Collect the exit status and the stack of a process that has ended.

        Returns:
            The exit code; -N if signal N ended it.
        """
        result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        self._reaped = True
        _children.discard(self.pid)
        os.close(self.pidfd)
        self.stack = os.pread(self._stack, LONGEST_STACK, 0).decode(errors="replace")
        os.close(self._stack)
        assert result is not None  # only with WNOHANG
        exited = result.si_code == os.CLD_EXITED
        code: int = result.si_status if exited else -result.si_status
        self.refused = refused_in_sandbox(code, self.stack)
        if self.refused is not None:
            self.stack = ""
        return code


class AttachedProcess:
    """The process of a worker that attached: no child of ours, not reaped here."""

    stack = ""
    refused = None

    def __init__(self, pid: int, pidfd: int) -> None:
        """Take over *pidfd*, of process *pid*; ``reap`` closes it."""
        self.pid = pid
        self.pidfd = pidfd

    def state(self, table: Table) -> dict[str, Any]:
        """Return what a child would; unused, because an upgrade is refused before."""
        return {"pid": self.pid, "pidfd": table.own(self.pidfd)}

    def stop(self) -> None:
        """Send nothing: QUIT was sent, and what TERM would do there is not known."""

    def reopen_log(self) -> None:
        """Send nothing: its log is its own."""

    def abort(self) -> None:
        """Send KILL: where its threads are would be written for its own parent."""
        self.kill()

    def kill(self) -> None:
        """Send KILL, if the process is still there and may be signalled."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> int:
        """Close the pidfd; how the process ended is known to its parent alone."""
        os.close(self.pidfd)
        self.pidfd = -1
        return 0


def reap_orphans() -> bool:
    """
    Reap the children that we did not start: process 1 inherits those of the dead.

    Returns:
        Whether all of them were reaped. Not those behind a process of ours which has
        ended and is reaped by its owner, who has yet to hear of it.
    """
    while True:
        try:
            # Left as it is, because its status may be somebody's.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        if ended is None:
            return True
        if ended.si_pid in _children:
            return False
        os.waitpid(ended.si_pid, os.WNOHANG)


def how_it_ended(code: int) -> str:
    """Return the exit code of ``Process.reap`` in words."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


class KeptMaster:
    """
    One master process that we started, as its keeper.

    It finds the listeners by the protocol of socket activation (sd_listen_fds(3)),
    which wants numbers from 3 on and the master's own pid in its environment: that is
    why this is a fork and no ``subprocess``. The keeper has no threads.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        listeners: Sequence[int],
        link: int,
    ) -> None:
        """
        Start *command*, with our blocked signals blocked until it unblocks them.

        Args:
            command: Program, with its path, and arguments.
            environment: All of it but what names the descriptors.
            listeners: Passed as 3 and upwards; they stay the caller's.
            link: Its end of the socketpair (``parent``); it stays the caller's.

        Raises:
            SystemRefused: There is no room for another process.
        """
        try:
            self.pid = os.fork()
        except OSError as exc:
            raise SystemRefused(f"cannot start a master: {exc.strerror}") from exc
        if self.pid == 0:
            _become(command, environment, listeners, link)
        self._reaped = False

    def tell(self, number: int) -> None:
        """Send signal *number*, if the master is still there."""
        # No pidfd: until we, who alone can, have reaped it, the number is its own.
        if not self._reaped:
            os.kill(self.pid, number)

    def reap(self) -> int | None:
        """
        Reap all children that have ended, the master among them perhaps.

        There may be others, because process 1 of a container inherits the children of
        the dead.

        Returns:
            The master's exit code if it is over, -N if signal N ended it; None: it
            is not.
        """
        code = None
        while not self._reaped:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                self._reaped = True
        return code


def _become(
    command: Sequence[str],
    environment: Mapping[str, str],
    listeners: Sequence[int],
    link: int,
) -> NoReturn:
    """
    Child side of fork(): move the descriptors into place and exec the master.

    Never returns, because nothing of the keeper may run in this process.
    """
    try:
        # In its own process group, because the terminal's Ctrl-C is for the keeper,
        # which passes it on.
        os.setpgid(0, 0)
        above = FIRST + len(listeners) - 1
        # First above all targets, because one dup2 would close what another needs.
        copies = [_copy_above(fd, above) for fd in (link, *listeners)]
        os.set_inheritable(copies[0], True)
        for index, fd in enumerate(copies[1:]):
            os.dup2(fd, FIRST + index)
        said = {
            "LISTEN_FDS": str(len(listeners)),
            "LISTEN_PID": str(os.getpid()),
            KEEPER: str(copies[0]),
        }
        os.execve(command[0], list(command), {**environment, **said})  # noqa: S606 - no shell
    except BaseException:  # noqa: BLE001 - nothing may get out of this process
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(NOT_STARTED)


def _copy_above(fd: int, above: int) -> int:
    """Copy *fd* to a number larger than *above*, which does not survive exec."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above + 1)


SO_PEERPIDFD: Final = 77
"asm-generic/socket.h, Linux 6.5; CPython 3.11 has no name for it."


def foreign_pidfd(connection: int, pid: int) -> int:
    """
    Open a pidfd of the process that made a Unix connection.

    Args:
        connection: The descriptor of our end.
        pid: Its peer, as SO_PEERCRED says. On older kernels the number is all there is;
            it is that process's, for whoever connected was there a moment ago.

    Returns:
        The pidfd, which the caller owns.

    Raises:
        OSError: There is no such process any more, or no descriptor left.
    """
    with socket.socket(fileno=os.dup(connection)) as sock:
        try:
            fd: int = sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
        except OSError:
            return os.pidfd_open(pid)
    os.set_inheritable(fd, False)
    return fd


def try_pidfd() -> None:
    """
    Open a pidfd of our own process, and close it.

    Raises:
        OSError: The system refuses (pidfd_open(2)).
        AttributeError: It has none.
    """
    os.close(os.pidfd_open(os.getpid()))
