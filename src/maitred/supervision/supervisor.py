"""
Who should be alive. Pure: ``(event, now)`` in, actions out.

The supervisor knows workers by id, never by pid. Each slot has one current worker,
and during a reload one that will succeed it. The shell performs the actions and
reports what happens as events; nothing here waits.

Invariants: at most one current and one coming worker per slot. A worker is spawned
at once if its predecessor had been ready, otherwise only after its backoff. A reload
either replaces every worker or none. A kill follows a deadline that was set, or the
order to stop now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from .backoff import delay
from .lifecycle import WorkerEvent, WorkerState, next_state

if TYPE_CHECKING:
    from random import Random

# What happened


@dataclass(frozen=True, slots=True)
class SaidReady:
    """The worker can serve."""

    worker: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The worker was reaped; ``why`` says how it ended, ``cut`` what it cut off."""

    worker: int
    why: str
    app_failed: bool = False
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; see ``Supervisor.wakeup``."""


Event = SaidReady | Exited | Tick

# What to do


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker process."""

    worker: int
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Promote:
    """Let the worker fill its slot: it is the one that gets connections."""

    worker: int
    slot: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Ask the worker to finish within ``timeout`` seconds and leave."""

    worker: int
    timeout: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the worker to leave (TERM)."""

    worker: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End the worker (KILL)."""

    worker: int
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the operator. ``problem`` says that somebody should look."""

    text: str
    problem: bool = False


@dataclass(frozen=True, slots=True)
class AllReady:
    """Every slot has a ready worker, for the first time or after a reload."""

    generation: int


@dataclass(frozen=True, slots=True)
class Finish:
    """All workers are gone and none is to come."""

    app_failed: bool = False
    cut: bool = False


Action = Spawn | Promote | Drain | Stop | Kill | Report | AllReady | Finish


@dataclass(slots=True)
class _Worker:
    id: int
    slot: int
    generation: int
    state: WorkerState = WorkerState.STARTING
    # When it is killed if it has not got any further; None: never.
    deadline: float | None = None
    overdue: str = ""
    served: bool = False  # was READY: connections may depend on it


@dataclass(slots=True)
class _SlotPlan:
    current: int | None = None
    coming: int | None = None
    failures: int = 0  # early deaths in a row
    spawn_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """
    How long things may take, in seconds.

    Args:
        ready: From spawn to READY.
        drain: From DRAIN to the worker's end.
        grace: From TERM, or from the end of the drain, to KILL.
    """

    ready: float = 60.0
    drain: float = 30.0
    grace: float = 5.0


@dataclass(slots=True)
class Supervisor:
    """
    Keeps every slot filled.

    Args:
        slots: How many.
        times: How long things may take.
        rng: For the backoff's jitter.
    """

    slots: int
    times: Times
    rng: Random
    generation: int = 0  # of the workers that serve
    _newest: int = 0  # of the last reload, whether it succeeded or not
    _workers: dict[int, _Worker] = field(default_factory=dict)
    _plans: list[_SlotPlan] = field(default_factory=list)
    _last_id: int = 0
    _ever_ready: bool = False
    _announced: int = 0
    _reload_again: bool = False
    _stopping: bool = False
    _finished: bool = False
    _app_failed: bool = False
    _cut: bool = False

    # What the shell asks and says

    def start(self, now: float) -> list[Action]:
        """Start the first generation."""
        self.generation = self._newest = 1
        self._plans = [_SlotPlan() for _ in range(self.slots)]
        return [self._spawn(slot, now) for slot in range(self.slots)]

    def reload(self, now: float) -> list[Action]:
        """
        Start a new generation, which takes over when all of it is ready.

        One that is asked for while another is under way follows, once, when the last
        worker of the old generation has left: no more than two are ever alive.
        """
        if self._stopping:
            return [Report("reload ignored: stopping")]
        if self._rolling or not self._ever_ready:
            self._reload_again = self._ever_ready
            return []
        self._reload_again = False
        self._newest += 1
        return [
            Report(f"reload: starting generation {self._newest}"),
            *(self._spawn(slot, now, coming=True) for slot in range(self.slots)),
        ]

    def stop(self, now: float) -> list[Action]:
        """Drain every worker, then finish."""
        self._start_nothing_more()
        return [*self._retire(self._workers.values(), now), *self._finish()]

    def stop_now(self) -> list[Action]:
        """Kill every worker, then finish."""
        self._start_nothing_more()
        return [*self._kill_all("asked to stop now"), *self._finish()]

    def handle(self, event: Event, now: float) -> list[Action]:
        """Say what is to be done about *event*."""
        match event:
            case SaidReady(worker):
                return self._ready(self._workers[worker], now)
            case Exited():
                return self._exited(event, now)
            case Tick():
                return self._tick(now)
            case _:
                assert_never(event)

    def state(self, worker: int) -> WorkerState:
        """Say where *worker* stands; GONE if it is not known any more."""
        known = self._workers.get(worker)
        return known.state if known else WorkerState.GONE

    def current(self, slot: int) -> int | None:
        """Say which worker fills *slot*, if one does."""
        return self._plans[slot].current

    def wakeup(self) -> float | None:
        """Say when the next Tick is due; None: no need."""
        moments = [w.deadline for w in self._workers.values() if w.deadline is not None]
        moments += [plan.spawn_at for plan in self._plans if plan.spawn_at is not None]
        return min(moments, default=None)

    # What follows

    @property
    def _rolling(self) -> bool:
        """Whether anybody is coming or leaving: two generations are alive."""
        plans = self._plans
        return any(plans[w.slot].current != w.id for w in self._workers.values())

    def _spawn(self, slot: int, now: float, *, coming: bool = False) -> Spawn:
        self._last_id += 1
        worker = _Worker(
            self._last_id, slot, self._newest if coming else self.generation
        )
        worker.deadline = now + self.times.ready
        worker.overdue = f"not ready after {self.times.ready:g} s"
        self._workers[worker.id] = worker
        plan = self._plans[slot]
        if coming:
            # The backoff of the current one, if it is running, runs on.
            plan.coming = worker.id
        else:
            plan.current, plan.spawn_at = worker.id, None
        return Spawn(worker.id, slot, worker.generation)

    def _ready(self, worker: _Worker, now: float) -> list[Action]:
        worker.state = next_state(worker.state, WorkerEvent.SAID_READY)
        if worker.state is not WorkerState.READY:
            return []
        worker.served = True
        worker.deadline = None
        plan = self._plans[worker.slot]
        if plan.coming == worker.id:
            coming = [
                self._workers[p.coming] for p in self._plans if p.coming is not None
            ]
            if any(other.state is not WorkerState.READY for other in coming):
                return []
            return self._roll_over(now)
        plan.failures = 0
        self._ever_ready = True
        return [Promote(worker.id, worker.slot), *self._announce()]

    def _announce(self) -> list[Action]:
        """Say once per generation that every slot is filled."""
        if self._announced == self.generation or not all(
            plan.current is not None and self.state(plan.current) is WorkerState.READY
            for plan in self._plans
        ):
            return []
        self._announced = self.generation
        return [AllReady(self.generation)]

    def _roll_over(self, now: float) -> list[Action]:
        """Let the new generation, ready to the last worker, take over."""
        self.generation = self._newest
        actions: list[Action] = []
        leaving = []
        for plan in self._plans:
            if plan.current is not None:
                leaving.append(self._workers[plan.current])
            assert plan.coming is not None
            plan.current, plan.coming = plan.coming, None
            plan.failures, plan.spawn_at = 0, None
            actions.append(Promote(plan.current, self._workers[plan.current].slot))
        actions += self._retire(leaving, now)
        actions += self._announce()
        if self._reload_again:
            actions += self.reload(now)
        return actions

    def _roll_back(self, now: float, why: str) -> list[Action]:
        """Give up the new generation; the old one serves on."""
        text = f"reload failed: {why}; generation {self.generation} serves on"
        actions: list[Action] = [Report(text, problem=True)]
        coming = [self._workers[p.coming] for p in self._plans if p.coming is not None]
        for plan in self._plans:
            plan.coming = None
        actions += self._stop(coming, now)
        if self._reload_again:
            actions += self.reload(now)
        return actions

    def _exited(self, event: Exited, now: float) -> list[Action]:
        worker = self._workers.pop(event.worker)
        was, worker.state = worker.state, next_state(worker.state, WorkerEvent.EXITED)
        plan = self._plans[worker.slot]
        # One that never served has nothing to cut, however it ended.
        self._cut |= self._stopping and event.cut and worker.served
        if self._stopping:
            return self._finish()
        if plan.coming == worker.id:
            plan.coming = None
            return self._roll_back(now, f"worker of slot {worker.slot} {event.why}")
        if plan.current != worker.id:
            # It was leaving; perhaps a reload waited for that.
            return self.reload(now) if self._reload_again else []
        plan.current = None
        if was is WorkerState.READY:
            return [
                Report(
                    f"worker of slot {worker.slot} {event.why}; replaced", problem=True
                ),
                self._spawn(worker.slot, now),
            ]
        if event.app_failed and not self._ever_ready:
            self._app_failed = True
            self._start_nothing_more()
            return [
                *self._kill_all("the application cannot be started"),
                *self._finish(),
            ]
        plan.failures += 1
        wait = delay(plan.failures, self.rng)
        plan.spawn_at = now + wait
        who = f"worker of slot {worker.slot} {event.why} before it was ready"
        return [Report(f"{who}; next try in {wait:.1f} s", problem=True)]

    def _retire(self, workers: Iterable[_Worker], now: float) -> list[Action]:
        """Drain those that serve, stop those that do not yet."""
        actions: list[Action] = []
        for worker in list(workers):
            if worker.state is WorkerState.STARTING:
                actions += self._stop([worker], now)
            elif worker.state is WorkerState.READY:
                worker.state = next_state(worker.state, WorkerEvent.DRAIN_ASKED)
                worker.deadline = now + self.times.drain + self.times.grace
                worker.overdue = (
                    f"not drained {self.times.grace:g} s after the drain timeout"
                )
                actions.append(Drain(worker.id, self.times.drain))
        return actions

    def _stop(self, workers: Iterable[_Worker], now: float) -> list[Action]:
        actions: list[Action] = []
        for worker in list(workers):
            if worker.state is WorkerState.STOPPING:
                continue
            worker.state = next_state(worker.state, WorkerEvent.STOP_ASKED)
            worker.deadline = now + self.times.grace
            worker.overdue = f"still there {self.times.grace:g} s after TERM"
            actions.append(Stop(worker.id))
        return actions

    def _kill(self, worker: _Worker, why: str) -> Kill:
        """End *worker*; whatever it still says, it is leaving."""
        self._cut |= self._stopping and worker.served
        worker.state = next_state(worker.state, WorkerEvent.STOP_ASKED)
        worker.deadline = None
        return Kill(worker.id, why)

    def _kill_all(self, why: str) -> list[Action]:
        return [self._kill(worker, why) for worker in self._workers.values()]

    def _start_nothing_more(self) -> None:
        self._stopping = True
        for plan in self._plans:
            plan.spawn_at = None

    def _tick(self, now: float) -> list[Action]:
        actions: list[Action] = [
            self._kill(worker, worker.overdue)
            for worker in self._workers.values()
            if worker.deadline is not None and worker.deadline <= now
        ]
        for slot, plan in enumerate(self._plans):
            if plan.spawn_at is not None and plan.spawn_at <= now:
                actions.append(self._spawn(slot, now))
        return actions

    def _finish(self) -> list[Action]:
        if self._workers or self._finished:
            return []
        self._finished = True
        return [Finish(app_failed=self._app_failed, cut=self._cut)]
