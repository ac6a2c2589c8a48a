"""
What the master tells of itself and of each worker: the answer to ``status``.

Invariant: looking costs nothing until somebody looks. All is read from what is there
anyway, and what the kernel knows of a process is asked only then.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from maitred import logs
from maitred.acceptor.counters import Counters, Done
from maitred.acceptor.times import BOUNDS
from maitred.config import Settings
from maitred.supervision import Supervisor
from maitred.wire.scoreboard import BEAT, Scoreboard

from .departed import Departed
from .desk import Desk
from .elders import Elders
from .usage import usage
from .workers import Worker

BY_ACCEPTOR: Final = ("accepted", "passed", "received")
"Counts that are told of each acceptor."
BY_TABLE: Final = (
    "keys",
    "key_bytes",
    "max_key_bytes",
    "evicted_keys",
    "peeking",
    "waiting",
)
"What is summed up over all acceptors."
SHARES: Final = ("in_flight", "handed_over", "hops_in", "hops_out")
"Counts of a worker of which each acceptor has its share."
DID: Final = ("requests", "handed_over", "hops_in", "hops_out", "cpu")
"What is summed up for a slot, over all workers that have filled it."
BEAT_NS: Final = int(BEAT * 1e9)


class Overview:
    """Computes the answer to ``status``; needs a running loop."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        desk: Desk,
        supervisor: Supervisor,
        workers: Mapping[int, Worker],
        elders: Elders,
    ) -> None:
        """
        Start with what is looked at when somebody asks.

        Args:
            settings: Returns the settings that hold now.
            desk: The master's own.
            supervisor: Returns which worker fills a slot, and its state.
            workers: Those that are alive; the caller keeps it up to date.
            elders: Returns which physical slots are filled, and the old workers.
        """
        self._settings = settings
        self._desk = desk
        self._supervisor = supervisor
        self._workers = workers
        self._elders = elders
        self._loop = asyncio.get_running_loop()

    def status(
        self,
        said: Mapping[str, Any],
        others: Sequence[dict[str, Any]],
        departed: Departed,
    ) -> dict[str, Any]:
        """
        Return the status of this acceptor and of all *others*.

        Args:
            said: What only the master itself knows, by name.
            others: The reports of the other acceptors.
            departed: The last counts of dead deputies.
        """
        settings = self._settings()
        own = {
            "number": 0,
            "pid": os.getpid(),
            "state": "ready",
            **self._desk.report(),
            "dropped_log_lines": logs.dropped(),
        }
        reports = [own, *others]
        counters = Counters()
        counters.times.add(departed.counters.times.statistics())
        for report in reports:
            counters.add(report["connections"])
            counters.times.add(report["times"])
        for worker in self._workers.values():
            counters.refused_by_workers.update(worker.account.refused)
        slots = [self._slot(slot, reports) for slot in range(settings.workers)]
        filling = {slot.get("pid") for slot in slots}
        rest = [
            {"slot": self._number(worker.slot), **self._worker(worker, reports)}
            for worker in self._workers.values()
            if worker.process.pid not in filling
        ]
        did = Done()
        for state in (departed.done.state(), *(report["done"] for report in reports)):
            for index, sums in state:
                did.note(self._number(index), sums)
        for row in (*slots, *rest):
            did.note(row["slot"], {name: row.get(name) or 0 for name in DID})
        for slot in slots:
            slot["totals"] = {"deaths": 0, "restarts": 0, **did.of(slot["slot"])}
        return {
            **said,
            "target": settings.target,
            "generation": self._supervisor.generation,
            "policy": settings.policy,
            "max_keys": settings.max_keys,
            **{name: sum(report[name] for report in reports) for name in BY_TABLE},
            "dropped_log_lines": departed.dropped
            + sum(report["dropped_log_lines"] for report in reports)
            + sum(worker.account.dropped for worker in self._workers.values()),
            "connections": counters.statistics(),
            "departed": departed.counters.statistics(),
            "times": {"bounds": list(BOUNDS), **counters.times.statistics()},
            "listeners": [
                {
                    "name": shares[0][0],
                    "accepted": sum(count for _, count in shares)
                    + departed.accepted[shares[0][0]],
                }
                for shares in zip(*(r["listeners"] for r in reports), strict=True)
            ],
            "acceptors": [_acceptor(report) for report in reports],
            "elders": self._elders.status(),
            "slots": slots,
            "others": rest,
        }

    def _number(self, index: int) -> int:
        """Return the logical slot of physical slot *index*."""
        settings = self._settings()
        return index % settings.workers if settings.drain == "sessions" else index

    def _slot(self, slot: int, reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
        number = self._supervisor.current(slot)
        worker = None if number is None else self._workers.get(number)
        place = self._elders.current(slot)
        status: dict[str, Any] = {
            "slot": slot,
            "state": "empty",
            "queued": sum(share["queued"] for share in _shares(reports, place)),
            **self._early_deaths(slot),
        }
        if worker is None:
            return status
        index = worker.slot
        return status | {
            **self._worker(worker, reports),
            "drained": self._desk.placement.slots[index].drained,
            "late": self._desk.placement.slots[index].late,
            "claimed_keys": sum(
                share["claimed_keys"] for share in _shares(reports, index)
            ),
        }

    def _worker(
        self, worker: Worker, reports: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        board, costs = worker.board, usage(worker.process.pid)
        ours = [s for r in reports for s in r["workers"] if s["id"] == worker.id]
        return {
            "state": self._supervisor.state(worker.id).name.lower(),
            "pid": worker.process.pid,
            "generation": worker.generation,
            "uptime": costs and costs.uptime,
            "open": worker.account.connections,
            "requests": worker.account.requests,
            **{name: sum(share[name] for share in ours) for name in SHARES},
            "threads": _threads(board),
            "lag": _lag(board.beat, board.lag, time.monotonic_ns()),
            "memory": costs and costs.memory,
            "cpu": costs and costs.cpu,
        }

    def _early_deaths(self, slot: int) -> dict[str, Any]:
        now = self._loop.time()
        deaths, why, at = self._supervisor.failures(slot, now)
        wait = None if at is None else round(max(0.0, at - now), 1)
        return {"early_deaths": deaths, "why": why, "next_try": wait}


def _shares(
    reports: Sequence[Mapping[str, Any]], index: int
) -> Iterator[dict[str, Any]]:
    """Yield each acceptor's report of a slot; a silent one may not have it yet."""
    for report in reports:
        if index < len(report["slots"]):
            yield report["slots"][index]


def _acceptor(report: Mapping[str, Any]) -> dict[str, Any]:
    costs = usage(report["pid"])
    return {
        **{name: report[name] for name in ("number", "pid", "state")},
        **{name: report["connections"][name] for name in BY_ACCEPTOR},
        "memory": costs and costs.memory,
        "cpu": costs and costs.cpu,
    }


def _threads(board: Scoreboard) -> dict[str, int] | None:
    """Return how many threads serve requests, if any do, and how many requests wait."""
    if not board.threads:
        return None
    return {
        "most": board.threads,
        "busy": board.threads_busy,
        "waiting": board.threads_waiting,
    }


def _lag(beat: int, lag: int, now: int) -> float | None:
    """
    Return for how many seconds an event loop kept others waiting.

    Args:
        beat: The time of its last beat, in ns; 0: it writes none.
        lag: How late that beat was, in ns.
        now: The time, in ns; a beat that is due and has not come is late by now.
    """
    if not beat:
        return None
    return round(max(lag, now - beat - BEAT_NS, 0) / 1e9, 4)
