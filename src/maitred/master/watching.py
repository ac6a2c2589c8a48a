"""
Watching the heartbeats: who is late gets nothing new, who is silent too long has hung.

A look every BEAT seconds reads one number from each scoreboard; nothing is sent.

Invariant: a slot is late only while the worker that fills it is, by the last look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from maitred import logs
from maitred.placement import Slot
from maitred.supervision import Pulse
from maitred.wire.scoreboard import BEAT

from .workers import Worker


class Watch:
    """Looks at the heartbeat of every worker."""

    def __init__(
        self,
        workers: Mapping[int, Worker],
        slots: Sequence[Slot],
        *,
        hang_timeout: float,
        filling: Callable[[int], Worker | None],
        settle: Callable[[], None],
        on_hung: Callable[[Worker, float], None],
        tell: Callable[..., None] | None = None,
    ) -> None:
        """
        Start looking; needs a running loop.

        Args:
            workers: Those that are alive, by id; the caller keeps it up to date.
            slots: Where it is noted that a worker is late.
            hang_timeout: Seconds of silence after which a worker has hung; 0: never.
            filling: Returns the worker that fills a slot.
            settle: Moves what waited for a worker that is late no more.
            on_hung: Called, at every look, with each that has hung and its silence.
            tell: Logs that a worker is late, or late no more; None: as the master does.
        """
        self._tell = logs.master.info if tell is None else tell
        self._workers = workers
        self._slots = slots
        self._hang_timeout = hang_timeout
        self._filling = filling
        self._settle = settle
        self._on_hung = on_hung
        self._pulses: dict[int, Pulse] = {}
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(BEAT, self._look)

    def close(self) -> None:
        """Stop looking."""
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(BEAT, self._look)
        self._pulses = {
            number: self._pulses.get(number) or Pulse(BEAT) for number in self._workers
        }
        back = [self._judge(worker) for worker in list(self._workers.values())]
        for slot in self._slots:
            worker = self._filling(slot.index)
            pulse = self._pulses.get(worker.id) if worker is not None else None
            slot.late = pulse is not None and pulse.late
        if any(back):
            self._settle()

    def _judge(self, worker: Worker) -> bool:
        """Look at *worker*; return whether it was late and is no more."""
        pulse = self._pulses[worker.id]
        was_late, silent = pulse.late, pulse.silent
        pulse.look(worker.board.beat, self._loop.time())
        if pulse.late and not was_late:
            self._tell(
                "worker %d of slot %d is late: its event loop has been silent for"
                " %.1f s; it gets no new connection meanwhile",
                worker.id,
                worker.slot,
                pulse.silent,
            )
        elif was_late and not pulse.late:
            self._tell(
                "heartbeat of worker %d of slot %d resumed after %.1f s",
                worker.id,
                worker.slot,
                silent,
            )
        if self._hang_timeout and pulse.silent >= self._hang_timeout:
            self._on_hung(worker, pulse.silent)
        return was_late and not pulse.late
