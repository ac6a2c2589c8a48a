"""
The service under a long mixed load: what is done to it, and what is seen of it.

Each operation is one method, carried out in a thread of its own, so that several can
be under way. What the master refuses because of another operation is entered as such.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from driver import Maitred, is_alive, wait_until
from maitred.control import ask
from maitred.errors import CommandFailed, NoMaster, UsageError
from soak.plan import HANG, MOST_WORKERS, WORKERS, Operation
from soak.verdict import History, Span

LOOK: Final = 0.05
"Seconds between two looks at the workers."


class Service:
    """One server, what was done to it, and the history that a verdict needs."""

    def __init__(
        self, server: Maitred, ledger: Path, sessions: Callable[[], list[str]]
    ):
        """
        Steer *server*.

        Args:
            server: It is ready.
            ledger: Where its workers keep their files.
            sessions: Gives the names that clients use.
        """
        self.server = server
        self.history = History()
        self.done: list[str] = []
        "One line for each operation."
        self._ledger = ledger
        self._sessions = sessions
        # Whoever was seen to fill a slot.
        self._serving: set[int] = set()
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._stopped: set[int] = set()
        self._watcher.start()

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Ask the master."""
        return ask(self.server.control, command, **arguments)

    def carry_out(self, operation: Operation) -> None:
        """Carry out one operation; enter what came of it."""
        begin = time.time()
        try:
            outcome = str(getattr(self, f"do_{operation.name}")(operation))
        except (UsageError, CommandFailed, NoMaster, ProcessLookupError) as exc:
            outcome = f"{type(exc).__name__}: {exc}"
        line = f"{begin:.3f} to {time.time():.3f} {operation.name} {operation.number}"
        self.done.append(f"{line}: {outcome[:200]}")

    def _worker(self, operation: Operation) -> int:
        pids = [slot.get("pid") for slot in self.ask("status")["slots"]]
        pids = [pid for pid in pids if pid and pid not in self._stopped]
        if not pids:
            raise UsageError("there is no worker")
        return pids[operation.number % len(pids)]

    def do_reload(self, operation: Operation) -> str:
        """Reload: by command, or by HUP and without waiting."""
        if operation.number % 2:
            return str(self.ask("reload"))
        self.server.tell(signal.SIGHUP)
        return "told"

    def do_kill(self, operation: Operation) -> str:
        """Kill a worker."""
        pid = self._worker(operation)
        at = time.time()
        os.kill(pid, signal.SIGKILL)
        self.history.killed.setdefault(pid, at)
        return f"worker {pid}"

    def do_upgrade(self, operation: Operation) -> str:
        """Upgrade the master."""
        return str(self.ask("upgrade"))

    def do_scale(self, operation: Operation) -> str:
        """Have more or fewer workers."""
        count = 2 + operation.number % (MOST_WORKERS - 1)
        return str(self.ask("scale", workers=count))

    def do_drain(self, operation: Operation) -> str:
        """Drain a slot."""
        return str(self.ask("drain", slot=operation.number % WORKERS))

    def do_undrain(self, operation: Operation) -> str:
        """Let a drained slot have again what is new."""
        return str(self.ask("undrain", slot=operation.number % WORKERS))

    def do_move(self, operation: Operation) -> str:
        """Give a session to another worker."""
        names = self._sessions()
        name = names[operation.number % len(names)]
        affinity = "cookie:cart" if name.startswith("c") else "header:x-session"
        begin = time.time()
        spans = self.history.moved.setdefault(name, [])
        spans.append(Span(begin, begin + 60))
        try:
            slot = operation.number // 64 % WORKERS
            return str(self.ask("move", key=f"{affinity}={name}", slot=slot))
        finally:
            spans[-1] = Span(begin, time.time())

    def do_pause(self, operation: Operation) -> str:
        """Stop a worker for a while."""
        pid = self._worker(operation)
        begin = time.time()
        self._stopped.add(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(operation.seconds)
            os.kill(pid, signal.SIGCONT)
        self._stopped.discard(pid)
        spans = self.history.stopped.setdefault(pid, [])
        spans.append(Span(begin, time.time()))
        return f"worker {pid} for {operation.seconds:g} s"

    do_long_pause = do_pause

    def do_hang(self, operation: Operation) -> str:
        """Stop a worker for so long that the master kills it."""
        pid = self._worker(operation)
        begin = time.time()
        self._stopped.add(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            while time.time() < begin + operation.seconds and is_alive(pid):
                time.sleep(LOOK)
            if not is_alive(pid):  # it was as good as dead since it was given up
                self.history.killed.setdefault(pid, begin + HANG)
            os.kill(pid, signal.SIGCONT)
        self._stopped.discard(pid)
        self.history.stopped.setdefault(pid, []).append(Span(begin, time.time()))
        return f"worker {pid}"

    def do_more(self, operation: Operation) -> str:
        """Ask for a worker more, by signal, if the master hears it."""
        return self._signal(signal.SIGTTIN)

    def do_fewer(self, operation: Operation) -> str:
        """Ask for a worker less, by signal, if the master hears it."""
        return self._signal(signal.SIGTTOU)

    def _signal(self, number: signal.Signals) -> str:
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        if not caught & 1 << (number - 1):
            return "the master would be stopped by it"
        workers = len(self.ask("status")["slots"])
        if not 2 <= workers + (1 if number == signal.SIGTTIN else -1) <= MOST_WORKERS:
            return "there are enough"
        self.server.tell(number)
        return "told"

    def come_to_rest(self) -> None:
        """Undo what operations have left; wait until all is as at the start."""

        def settled() -> bool:
            with contextlib.suppress(UsageError, CommandFailed, NoMaster):
                status = self.ask("status")
                for slot in status["slots"]:
                    if slot.get("drained"):
                        self.ask("undrain", slot=slot["slot"])
                if len(status["slots"]) != WORKERS:
                    self.ask("scale", workers=WORKERS)
                    return False
                alive = {int(file.name) for file in self._ledger.iterdir()}
                alive = {pid for pid in alive if is_alive(pid)}
                return alive == {slot.get("pid") for slot in status["slots"]} and all(
                    slot["state"] == "ready" for slot in status["slots"]
                )
            return False

        try:
            wait_until("the service is as at the start", settled)
        finally:
            self._is_over.set()
            self._watcher.join()

    def _watch(self) -> None:
        """Note which workers there are, which of them are to leave, and which ended."""
        history = self.history
        while not self._is_over.wait(LOOK):
            now = time.time()
            for file in self._ledger.iterdir():
                pid = int(file.name)
                history.born.setdefault(pid, now)
                if pid not in history.ended and not is_alive(pid):
                    history.ended[pid] = now
            with contextlib.suppress(UsageError, CommandFailed, NoMaster):
                slots = self.ask("status")["slots"]
                serving = {slot["pid"] for slot in slots if "pid" in slot}
                for pid in self._serving - serving - history.ended.keys():
                    history.retired.setdefault(pid, now)
                self._serving |= serving
