"""
The admin process as the master sees it: started, watched, started again.

    listeners   ours; it inherits them, so that none is lost when it dies
    lifeline    a socket pair: when our end is closed, it leaves. A byte says that there
                is a successor, who has our end then, and is left the history through it
    token       read here, before anybody gives up the right to; lent in memory

A new token and new code come with a new process, in the place of the old one: who asks
meanwhile waits in the backlog of the listeners.

Invariants: the master waits for it nowhere but at its own end, and there not for long.
It asks over the control socket, as anybody could, and has no other way to us.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from maitred import logs, signal_effects
from maitred.acceptor.listeners import Listener, open_listeners, restored
from maitred.acceptor.socket_activation import Inherited
from maitred.config import Settings
from maitred.errors import SystemRefused, UsageError
from maitred.supervision.backoff import delay
from maitred.upgrade.snapshot import Past, Table

from .processes import Process, how_it_ended
from .secret import demand_secrecy

COMMAND: Final = (sys.executable, "-P", "-m", "maitred.admin")
BACKLOG: Final = 128
ONLY_US: Final = 0o600
"The mode of a Unix socket: whoever gets in needs no token."
SETTLED: Final = 5.0
"Seconds after which it has served; if it dies sooner, it waits for its next try."
PATIENCE: Final = 3.0
"Seconds it has to leave when the service ends."
LONGEST_GOODBYE: Final = 10.0
"Seconds it has to leave when it has a successor, before it is ended."
LONGEST_TOKEN: Final = 4096


def open_admin(
    settings: Settings, inherited: Inherited | None = None
) -> list[Listener]:
    """
    Listen where the admin process is to be asked; return none if there is to be none.

    Raises:
        SystemRefused: The address cannot be listened on.
    """
    binds = (settings.admin,) if settings.admin else ()
    return open_listeners(
        binds, BACKLOG, uds_mode=ONLY_US, inherited=inherited, option="--admin"
    )


def load_token(path: str, user: str = "") -> bytes:
    """
    Return the token in file *path*; empty without one.

    The process is about to become *user*, whom the file may belong to.

    Raises:
        UsageError: It cannot be read, others can read it too, or it holds no token.
    """
    if not path:
        return b""
    where = f"--admin-token-file {path}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            token = file.read(LONGEST_TOKEN + 1) or b""
    except OSError as exc:
        raise UsageError(f"{where}: cannot be read ({exc.strerror})") from exc
    demand_secrecy(found, where, path, user)
    token = token.strip()
    if not 0 < len(token) <= LONGEST_TOKEN or not token.isascii() or b"\n" in token:
        raise UsageError(
            f"{where}: holds no token, one line of ASCII; make one with `openssl rand"
            " -hex 32`"
        )
    return token


class Attendant:
    """Keeps the admin process running, if there is to be one."""

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        token: bytes,
        *,
        may_start: Callable[[], bool],
    ) -> None:
        """
        Start no process yet; needs a running loop.

        Args:
            settings: What the operator wants.
            listeners: Owned from now on; without any there is no admin process.
            token: What clients from elsewhere have to send; empty: all are refused.
            may_start: Returns whether a process may be started just now.
        """
        self._settings = settings
        self._listeners = list(listeners)
        self._token = token
        self._may_start = may_start
        self._loop = asyncio.get_running_loop()
        self._process: Process | None = None
        # Whether the running process has old code or an old token.
        self._is_outdated = False
        # Processes that have a successor and have not left.
        self._former: list[Process] = []
        self._lifeline = -1
        self._began = 0.0
        self._failures = 0
        self._timer: asyncio.TimerHandle | None = None
        self._leaving = False
        self._left: asyncio.Future[None] = self._loop.create_future()

    @property
    def listeners(self) -> Sequence[Listener]:
        """Where it listens."""
        return self._listeners

    def start(self) -> None:
        """Start the process, if one is needed and none runs, or an outdated one."""
        self._timer = None
        runs = self._process is not None and not self._is_outdated
        if not self._listeners or self._leaving or runs:
            return
        if not self._may_start():
            self._timer = self._loop.call_later(SETTLED, self.start)
            return
        former, lifeline = self._process, self._lifeline
        try:
            self._process, self._lifeline = self._spawn()
        except (SystemRefused, OSError) as exc:
            self._try_later(f"could not be started ({exc})")
            return
        self._is_outdated = False
        self._began = self._loop.time()
        self._watch(self._process)
        logs.master.debug("the admin process is %d", self._process.pid)
        if former is not None:
            with contextlib.suppress(OSError):  # it is dead
                os.write(lifeline, b"\n")
            os.close(lifeline)
            self._loop.remove_reader(former.pidfd)
            self._see_off(former)

    def renew_token(self) -> None:
        """Read the token's file again; a process with another token is replaced."""
        try:
            token = load_token(self._settings.admin_token_file)
        except UsageError as exc:
            logs.master.warning("the admin token stays as it was: %s", exc)
            return
        if token == self._token:
            return
        self._token = token
        logs.master.info("admin token changed")
        if self._process is not None:
            self._is_outdated = True
            self.start()

    def _see_off(self, former: Process) -> None:
        """Reap *former*, which has a successor, when it ends; kill it if it is slow."""
        self._former.append(former)

        def bury() -> None:
            timer.cancel()
            self._loop.remove_reader(former.pidfd)
            former.reap()
            self._former.remove(former)

        timer = self._loop.call_later(LONGEST_GOODBYE, former.kill)
        self._loop.add_reader(former.pidfd, bury)

    def _spawn(self) -> tuple[Process, int]:
        """
        Start the process; return our end of its lifeline, too.

        It inherits our end of the lifeline of its predecessor, through which it is left
        the history.

        Raises:
            SystemRefused: It could not be started.
            OSError: There is no descriptor left.
        """
        settings, host = self._settings, self._settings.admin_host
        with contextlib.ExitStack() as lent, contextlib.ExitStack() as undo:
            theirs, ours = (end.detach() for end in socket.socketpair())
            lent.callback(os.close, theirs)
            undo.callback(os.close, ours)
            past = None if self._process is None else self._lifeline
            token = None
            if self._token:
                token = _lend(self._token)
                lent.callback(os.close, token)
            listeners = [each.sock.fileno() for each in self._listeners]
            paper = {
                "control": os.path.abspath(settings.control),
                "listeners": listeners,
                "lifeline": theirs,
                "past": past,
                "token": token,
                "names": [host] if host else [],
                "name": settings.name,
                "target": settings.target,
                "log": [settings.log_level, settings.log_format, settings.log_file],
            }
            perhaps = [fd for fd in (past, token) if fd is not None]
            passed = (*listeners, theirs, *perhaps)
            held = signal_effects.HELD
            process = Process((*COMMAND, json.dumps(paper)), {}, passed, held=held)
            undo.pop_all()
        return process, ours

    def state(self, table: Table) -> dict[str, Any]:
        """Return the state for a successor."""
        process = self._process
        return {
            "listeners": [each.state(table) for each in self._listeners],
            "token": self._token,
            "process": process and process.state(table),
            "lifeline": None if process is None else table.own(self._lifeline),
            "began": self._began,
            "former": [each.state(table) for each in self._former],
        }

    def restore(self, state: dict[str, Any], past: Past) -> None:
        """
        Take over the process that ``state`` wrote, if there was one.

        It counts as outdated, because it runs the code of before: ``start`` replaces
        it.
        """
        for former in state.get("former", ()):
            self._see_off(Process.restored(former, past))
        if state["process"] is not None:
            self._process = Process.restored(state["process"], past)
            self._lifeline = past.take(state["lifeline"])
            self._began = state["began"]
            self._is_outdated = True
            self._watch(self._process)

    def reopen_log(self) -> None:
        """Signal the process to open its log file anew."""
        if self._process is not None:
            self._process.reopen_log()

    async def leave(self) -> None:
        """Ask the process to leave, and wait a moment until it has; then ``close``."""
        self._leaving = True
        if self._process is not None:
            self._cut()
            await asyncio.wait({self._left}, timeout=PATIENCE)
        self.close()

    def close(self) -> None:
        """Kill what is left, and close the listeners."""
        self._leaving = True
        if self._timer is not None:
            self._timer.cancel()
        if self._process is not None:
            self._process.kill()
            self._bury(self._process)
        for former in self._former:
            self._loop.remove_reader(former.pidfd)
            former.kill()
            former.reap()
        self._former.clear()
        for listener in self._listeners:
            listener.close()

    def _watch(self, process: Process) -> None:
        self._loop.add_reader(process.pidfd, self._on_exit, process)

    def _on_exit(self, process: Process) -> None:
        code = self._bury(process)
        if self._leaving:
            self._left.set_result(None)
            return
        why = how_it_ended(code)
        if process.stack:
            stack = process.stack.rstrip("\n")
            logs.master.warning("the admin process was here when it ended:\n%s", stack)
        if self._loop.time() - self._began < SETTLED:
            self._try_later(why)
            return
        self._failures = 0
        logs.master.warning("the admin process %d %s; replaced", process.pid, why)
        self.start()

    def _bury(self, process: Process) -> int:
        self._loop.remove_reader(process.pidfd)
        code = process.reap()
        self._process = None
        self._cut()
        return code

    def _cut(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def _try_later(self, why: str) -> None:
        self._failures += 1
        wait = delay(self._failures, random.Random())
        logs.master.warning("the admin process %s; next try in %.1f s", why, wait)
        self._timer = self._loop.call_later(wait, self.start)


def inherited_from(past: Past) -> tuple[list[Listener], bytes]:
    """Return the listeners and the token that a predecessor has left."""
    state = past.state.get("admin")
    if state is None:
        return [], b""
    return [restored(each, past) for each in state["listeners"]], state["token"]


def _lend(token: bytes) -> int:
    """Write *token* where one process can read it; the caller owns the descriptor."""
    fd = os.memfd_create("maitred-token", os.MFD_CLOEXEC)
    os.write(fd, token)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
