"""
Noticing workers that have served as many requests as one is to serve.

A look now and then reads one number from each scoreboard. Every worker has a limit of
its own, so that they are not all worn at the same time.

Invariant: with no limit nothing is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from .workers import Worker

LOOK: Final = 0.5
"Seconds between two looks."


class Wear:
    """Looks at how many requests each worker has answered."""

    def __init__(
        self,
        workers: Mapping[int, Worker],
        *,
        most: int,
        jitter: int,
        rng: Random,
        on_worn: Callable[[Worker], None],
    ) -> None:
        """
        Start looking; needs a running loop.

        Args:
            workers: Those that are alive, by id; the caller keeps it up to date.
            most: Requests after which a worker is worn; 0: it never is.
            jitter: How many more there may be, drawn for each worker.
            rng: Source of the jitter.
            on_worn: Called, at every look, with each that is worn.
        """
        self._workers = workers
        self._most = most
        self._jitter = jitter
        self._rng = rng
        self._on_worn = on_worn
        self._limits: dict[int, int] = {}
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(LOOK, self._look) if most else None

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK, self._look)
        self._limits = {n: self._limits.get(n) or self._draw() for n in self._workers}
        # A copy, because on_worn may start or end workers.
        for number, worker in list(self._workers.items()):
            if worker.account.requests >= self._limits[number]:
                self._on_worn(worker)

    def _draw(self) -> int:
        return self._most + self._rng.randint(0, self._jitter)
