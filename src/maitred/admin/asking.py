"""
Asking the master, so seldom that it does not notice.

Invariant: at most one question is under way, and one begins at the earliest FRESH
seconds after the one before it did, however many ask us. They share the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from maitred.control import ask
from maitred.errors import CommandFailed, MaitredError, NoMaster, UsageError

FRESH: Final = 0.25
"Seconds for which an answer serves everybody."
PATIENCE: Final = 5.0
"Seconds that a request waits for the master."
PACE: Final = 0.05
"Seconds between two questions where a key lives."
MOST_WAITING: Final = 32
"Questions of that kind that may wait for their turn."

Snapshot = dict[str, Any]


class Busy(Exception):
    """Too many questions wait; this one was not asked."""


class Asker:
    """Asks one master; belongs to one event loop."""

    def __init__(
        self,
        control: str,
        *,
        question: Callable[..., dict[str, Any]] = ask,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Start without an answer.

        Args:
            control: The path of the master's control socket.
            question: Asks the master; may block.
            clock: Returns seconds.
        """
        self._control = control
        self._question = question
        self._clock = clock
        self._answer: asyncio.Future[Snapshot] | None = None
        self._asked = float("-inf")
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def snapshot(self) -> Snapshot:
        """
        Return the answer to ``status``, and with it ``time``, when that was.

        Raises:
            NoMaster: The master does not answer, or not in time.
        """
        if self._answer is None or (
            self._answer.done() and self._clock() - self._asked >= FRESH
        ):
            self._asked = self._clock()
            self._answer = asyncio.ensure_future(asyncio.to_thread(self._status))
            # Its error is read here, because nobody may wait for it by then, of which
            # asyncio would complain.
            self._answer.add_done_callback(lambda f: f.cancelled() or f.exception())
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.shield(self._answer)
        except TimeoutError as exc:
            why = f"no answer within {PATIENCE:g} s"
            raise NoMaster(self._control, why) from exc
        except (UsageError, CommandFailed) as exc:
            raise NoMaster(self._control, str(exc)) from exc

    async def whereis(self, key: str) -> dict[str, Any]:
        """
        Return where *key* lives.

        Raises:
            Busy: Too many questions wait.
            MaitredError: No worker has it, or the master does not answer.
        """
        if self._waiting >= MOST_WAITING:
            raise Busy
        self._waiting += 1
        try:
            async with self._turn:
                # The next one waits a moment even if this one is over at once.
                pause = asyncio.get_running_loop().create_task(asyncio.sleep(PACE))
                try:
                    return await asyncio.to_thread(
                        self._question, self._control, "whereis", key=key
                    )
                finally:
                    await pause
        finally:
            self._waiting -= 1

    def _status(self) -> Snapshot:
        return {"time": time.time(), **self._question(self._control, "status")}


__all__ = ["FRESH", "Asker", "Busy", "MaitredError", "Snapshot"]
