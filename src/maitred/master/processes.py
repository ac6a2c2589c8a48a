"""
Starting, signalling and reaping workers, and masters: the only file that does.

Invariant: a signal reaches the process we started or, when that was reaped, nobody. A
worker inherits what it is given here (its end of the channel, its scoreboard, keys that
are lent), a file for its stack, and nothing else; a master inherits listeners and its
end of the keeper's socketpair.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Final

from maitred.errors import SystemRefused

from .notify import MANAGER

OURS: Final = frozenset(MANAGER)
"What of the master's environment says who it answers to: it is for no worker."
LONGEST_STACK: Final = 64 * 1024


class Process:
    """One worker process that we started and will reap."""

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        descriptors: Sequence[int],
    ) -> None:
        """
        Start *command*.

        Args:
            command: Program and arguments.
            environment: Added to ours.
            descriptors: Inherited under the same numbers; they stay the caller's.

        Raises:
            SystemRefused: It could not be started.
        """
        # In memory and ours: what is written there is read whole after the end.
        self._stack = os.memfd_create("maitred-stack", os.MFD_CLOEXEC)
        try:
            # A process group of its own: the terminal's Ctrl-C is for the master,
            # who then drains the workers.
            self._popen = subprocess.Popen(
                command,
                env={
                    **{n: v for n, v in os.environ.items() if n not in OURS},
                    **environment,
                    "MAITRED_STACK": str(self._stack),
                },
                pass_fds=(*descriptors, self._stack),
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as exc:
            os.close(self._stack)
            raise SystemRefused(f"cannot start {command[0]}: {exc.strerror}") from exc
        self.pid = self._popen.pid
        try:
            # Readable when the process has ended (pidfd_open(2)); it cannot have been
            # reaped yet, so the number is its own.
            self.pidfd = os.pidfd_open(self.pid)
        except OSError as exc:
            # Nobody could supervise it.
            self._popen.kill()
            self._popen.wait()
            os.close(self._stack)
            raise SystemRefused(f"cannot watch {command[0]}: {exc.strerror}") from exc
        self._reaped = False
        self.stack = ""
        "Where its threads were when it was aborted or crashed, once it is reaped."

    def stop(self) -> None:
        """Ask it to leave (TERM)."""
        self._signal(signal.SIGTERM)

    def abort(self) -> None:
        """End it, after it has written where its threads are (ABRT)."""
        self._signal(signal.SIGABRT)

    def kill(self) -> None:
        """End it (KILL)."""
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
        code = self._popen.wait()
        self._reaped = True
        os.close(self.pidfd)
        self.stack = os.pread(self._stack, LONGEST_STACK, 0).decode(errors="replace")
        os.close(self._stack)
        return code


def how_it_ended(code: int) -> str:
    """Put the exit code of ``Process.reap`` in words."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
