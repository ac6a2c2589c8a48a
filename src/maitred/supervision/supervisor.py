"""
Who should be alive. Pure: ``(event, now)`` in, actions out.

The supervisor knows workers by id, never by pid. Each slot has one current worker,
and during a reload one that will succeed it. The shell performs the actions and
reports what happens as events; nothing here waits.

Invariants: at most one current and one coming worker per slot. A worker is spawned
at once if its predecessor had served, otherwise only after its backoff. A reload of all
at once replaces every worker or none; one of a few at a time never has more than
``surge`` workers beyond those that fill the slots. A worker that is worn leaves when
its heir, of the same generation, has its slot: one at a time, and never during a
reload. A kill follows a deadline that was set, or the order to stop now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, assert_never

from .backoff import delay
from .lifecycle import WorkerEvent, WorkerState, next_state
from .vocabulary import (
    Abort,
    Action,
    AllReady,
    Drain,
    Event,
    Exited,
    Finish,
    Hung,
    Kill,
    Promote,
    ReloadFailed,
    Report,
    SaidReady,
    Spawn,
    Stop,
    Tick,
    Worn,
)

if TYPE_CHECKING:
    from random import Random

SETTLED: Final = 1.0
"""
Seconds after READY from which on a worker has served. One that dies sooner, twice in a
row, is as broken as one that never was ready, and waits for its next try.
"""


@dataclass(slots=True)
class _Worker:
    id: int
    slot: int
    generation: int
    state: WorkerState = WorkerState.STARTING
    # When it is killed if it has not got any further; None: never.
    deadline: float | None = None
    overdue: str = ""
    ended_for: str = ""  # why we ended it, if we did
    hung: bool = False
    ready_at: float | None = None

    @property
    def served(self) -> bool:
        """Whether the worker was READY, so that connections may depend on it."""
        return self.ready_at is not None


@dataclass(slots=True)
class _SlotPlan:
    generation: int  # of the worker that fills it, or will
    current: int | None = None
    coming: int | None = None
    failures: int = 0  # early deaths in a row
    spared: bool = False  # one soon after READY was not counted
    why: str = ""  # the last of them
    spawn_at: float | None = None


class Failures(NamedTuple):
    """The early deaths of a slot's workers: the last, and when the next is started."""

    in_a_row: int
    why: str
    next_try: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """
    The time limits of a worker's life, in seconds.

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
        surge: How many workers a reload starts at a time, each taking over when it is
            ready; None: all at once, and all of them take over together.
    """

    SETTINGS: ClassVar = ("slots", "times", "rng", "surge")
    "What was decided from outside; all else is what came of it."

    slots: int
    times: Times
    rng: Random
    surge: int | None = None
    generation: int = 0  # the last that filled every slot
    _newest: int = 0  # of the last reload, whether it succeeded or not
    _workers: dict[int, _Worker] = field(default_factory=dict)
    _plans: list[_SlotPlan] = field(default_factory=list)
    _last_id: int = 0
    _ever_ready: bool = False
    _announced: int = 0
    _to_renew: deque[int] = field(default_factory=deque)  # slots a reload has yet to do
    _reload_again: bool = False
    _heirs_died: int = 0  # in a row, before they were ready
    _no_heir_before: float = 0.0
    _stopping: bool = False
    _finished: bool = False
    _hopeless: bool = False
    _cut: bool = False

    # What the shell asks and says

    def start(self, now: float) -> list[Action]:
        """Start the first generation; called once, before everything else."""
        self.generation = self._newest = 1
        self._plans = [_SlotPlan(self.generation) for _ in range(self.slots)]
        return [self._spawn(slot, now) for slot in range(self.slots)]

    def reload(self, now: float) -> list[Action]:
        """
        Start a new generation, ``surge`` workers at a time.

        A reload that is asked for during another one follows, once, when the last
        worker of the old generation has left: no more than two are ever alive.
        """
        if self._stopping:
            return [Report("reload ignored: stopping")]
        if self._rolling or not self._ever_ready:
            self._reload_again = self._ever_ready
            return []
        self._reload_again = False
        self._newest += 1
        self._to_renew.extend(range(self.slots))
        return [
            Report(f"reload: starting generation {self._newest}"),
            *self._renew(now),
        ]

    def resize(self, slots: int, now: float) -> list[Action]:
        """
        Change the number of slots to *slots*: drain the last ones, or add new ones.

        It must be called only when every slot is filled and no reload is under way.
        """
        before, self.slots = self.slots, slots
        leaving = []
        for plan in self._plans[slots:before]:
            if plan.current is not None:
                leaving.append(self._workers[plan.current])
            if plan.coming is not None:  # an heir, because no reload is under way
                leaving.append(self._workers[plan.coming])
            plan.current = plan.coming = plan.spawn_at = None
        actions = self._retire(leaving, now)
        for slot in range(before, slots):
            # The plan of a slot that was there once, whose worker may still be leaving.
            self._plans[slot : slot + 1] = [_SlotPlan(self.generation)]
            actions.append(self._spawn(slot, now))
        return actions

    @property
    def obstacle(self) -> str:
        """Why a reload that is asked for now would not happen; empty: it would."""
        if self._stopping:
            return "the service is stopping"
        return "" if self._ever_ready else "the first generation is still starting"

    @property
    def next_reload(self) -> int:
        """The generation that the reload which was asked for last makes."""
        return self._newest + self._reload_again

    def stop(self, now: float) -> list[Action]:
        """Drain every worker; Finish follows when the last of them has left."""
        self._start_nothing_more()
        return [*self._retire(self._workers.values(), now), *self._finish()]

    def stop_now(self) -> list[Action]:
        """Kill every worker; Finish follows when the last of them was reaped."""
        self._start_nothing_more()
        return [*self._kill_all("asked to stop now"), *self._finish()]

    def handle(self, event: Event, now: float) -> list[Action]:
        """Return what to do about *event*, in this order."""
        match event:
            case SaidReady(worker):
                return self._ready(self._workers[worker], now)
            case Exited():
                return self._exited(event, now)
            case Hung(worker, silent):
                return self._hung(worker, silent, now)
            case Worn(worker, requests):
                return self._worn(worker, requests, now)
            case Tick():
                return self._tick(now)
            case _:
                assert_never(event)

    @property
    def reloading(self) -> bool:
        """Whether a new generation is being started, or asked for."""
        return bool(
            self._reload_again
            or self._to_renew
            or any(not self._is_heir(worker) for worker in self._coming())
        )

    def state(self, worker: int) -> WorkerState:
        """Return the state of *worker*; GONE if it was reaped."""
        known = self._workers.get(worker)
        return known.state if known else WorkerState.GONE

    def spawned(self) -> list[Spawn]:
        """Return all workers that were not reaped yet, as they were spawned."""
        return [Spawn(w.id, w.slot, w.generation) for w in self._workers.values()]

    def current(self, slot: int) -> int | None:
        """Return the worker that fills *slot*, ready or not; None: none does."""
        return self._plans[slot].current

    def failures(self, slot: int, now: float) -> Failures:
        """
        Return how often in a row the workers of *slot* died early, and why.

        The count is 0 as soon as a worker there has served for SETTLED seconds.
        """
        plan = self._plans[slot]
        worker = None if plan.current is None else self._workers.get(plan.current)
        since = None if worker is None else worker.ready_at
        if not plan.failures or (since is not None and now - since >= SETTLED):
            return Failures(0, "", None)
        return Failures(plan.failures, plan.why, plan.spawn_at)

    def wakeup(self) -> float | None:
        """Return the time at which the next Tick is due; None: none is needed."""
        moments = [w.deadline for w in self._workers.values() if w.deadline is not None]
        moments += [plan.spawn_at for plan in self._plans if plan.spawn_at is not None]
        return min(moments, default=None)

    # What follows

    @property
    def _rolling(self) -> bool:
        """Whether any worker is coming or leaving, or slots wait to be renewed."""
        return bool(self._beyond or self._to_renew)

    @property
    def _beyond(self) -> int:
        """Number of workers beyond those that fill the slots: coming or leaving."""
        plans = self._plans
        return sum(plans[w.slot].current != w.id for w in self._workers.values())

    def _renew(self, now: float) -> list[Action]:
        """Start the next workers of the new generation, as many as surge allows."""
        room = (self.slots if self.surge is None else self.surge) - self._beyond
        return [
            self._spawn(self._to_renew.popleft(), now, coming=self._newest)
            for _ in range(min(room, len(self._to_renew)))
        ]

    def _spawn(self, slot: int, now: float, *, coming: int | None = None) -> Spawn:
        """
        Start a worker that fills *slot* at once.

        With *coming*, a generation, it is one that succeeds the current worker later.
        """
        self._last_id += 1
        plan = self._plans[slot]
        generation = plan.generation if coming is None else coming
        worker = _Worker(self._last_id, slot, generation)
        worker.deadline = now + self.times.ready
        worker.overdue = f"not ready after {self.times.ready:g} s"
        self._workers[worker.id] = worker
        if coming is not None:
            # A backoff of the slot goes on, because this one may never be ready.
            plan.coming = worker.id
        else:
            plan.current, plan.spawn_at = worker.id, None
        return Spawn(worker.id, slot, worker.generation)

    def _ready(self, worker: _Worker, now: float) -> list[Action]:
        worker.state = next_state(worker.state, WorkerEvent.SAID_READY)
        if worker.state is not WorkerState.READY:
            return []
        worker.ready_at = now
        worker.deadline = None
        plan = self._plans[worker.slot]
        if plan.coming == worker.id:
            if self._is_heir(worker):
                return self._inherit(worker, now)
            # Without a surge all of them at once, so that no two generations serve.
            together = [worker] if self.surge is not None else self._coming()
            if any(other.state is not WorkerState.READY for other in together):
                return []
            return self._take_over(together, now)
        self._ever_ready = True
        return [Promote(worker.id, worker.slot), *self._announce()]

    def _announce(self) -> list[Action]:
        """Return AllReady once per generation, when every slot is filled."""
        if self._announced == self.generation or not self._is_whole:
            return []
        self._announced = self.generation
        return [AllReady(self.generation)]

    @property
    def _is_whole(self) -> bool:
        """Whether every slot is filled by a ready worker."""
        return all(
            plan.current is not None and self.state(plan.current) is WorkerState.READY
            for plan in self._plans[: self.slots]
        )

    def _coming(self) -> list[_Worker]:
        return [self._workers[p.coming] for p in self._plans if p.coming is not None]

    def _take_over(self, ready: list[_Worker], now: float) -> list[Action]:
        """Promote *ready*, of the new generation; drain the workers they succeed."""
        actions: list[Action] = []
        leaving = []
        for worker in ready:
            plan = self._plans[worker.slot]
            if plan.current is not None:
                leaving.append(self._workers[plan.current])
            plan.current, plan.coming = worker.id, None
            plan.generation = worker.generation
            plan.failures, plan.spared, plan.spawn_at = 0, False, None
            actions.append(Promote(worker.id, worker.slot))
        actions += self._retire(leaving, now)
        if self._to_renew or self._coming():
            return [*actions, *self._renew(now)]
        self.generation = self._announced = self._newest
        actions.append(AllReady(self.generation))
        if self._reload_again:
            actions += self.reload(now)
        return actions

    def _roll_back(self, now: float, why: str) -> list[Action]:
        """
        Stop the workers of the new generation that have not taken over yet.

        Those that have, with *surge*, and all others serve on.
        """
        actions: list[Action] = [
            ReloadFailed(self._newest, f"{why}; {self._who_serves_on()}")
        ]
        coming = self._coming()
        self._to_renew.clear()
        for plan in self._plans:
            plan.coming = None
        actions += self._stop(coming, now)
        if self._reload_again:
            actions += self.reload(now)
        return actions

    def _who_serves_on(self) -> str:
        generations = [plan.generation for plan in self._plans[: self.slots]]
        if renewed := generations.count(self._newest):
            return (
                f"{renewed} of {self.slots} workers are of generation {self._newest},"
                " the others serve on"
            )
        served = [str(generation) for generation in sorted(set(generations))]
        if len(served) == 1:
            return f"generation {served[0]} serves on"
        return f"generations {', '.join(served)} serve on"

    def _exited(self, event: Exited, now: float) -> list[Action]:
        worker = self._workers.pop(event.worker)
        worker.state = next_state(worker.state, WorkerEvent.EXITED)
        plan = self._plans[worker.slot]
        # One that was never ready has nothing to cut, however it ended.
        self._cut |= self._stopping and event.cut and worker.served
        if self._stopping:
            return self._finish()
        why = event.why + (f" ({worker.ended_for})" if worker.ended_for else "")
        if plan.coming == worker.id:
            plan.coming = None
            if worker.generation == plan.generation:
                return self._try_heir_later(worker.slot, why, now)
            return self._roll_back(now, f"worker of slot {worker.slot} {why}")
        if plan.current != worker.id:
            text = f"worker of slot {worker.slot} {why} while it was leaving"
            crash = [Report(text, problem=True)] if worker.hung else []
            # It was leaving; perhaps the rest of a reload waited for that, or the next.
            if self._to_renew:
                return [*crash, *self._renew(now)]
            return [*crash, *(self.reload(now) if self._reload_again else [])]
        plan.current = None
        if worker.ready_at is not None:
            return self._replace(worker, why, now - worker.ready_at, now)
        # Only at the start, because later a reload may bring code that works.
        if event.hopeless and not self._ever_ready:
            self._hopeless = True
            self._start_nothing_more()
            return [
                *self._kill_all("no worker can be started"),
                *self._finish(),
            ]
        plan.failures += 1
        return self._try_later(worker.slot, f"{why} before it was ready", now)

    def _replace(
        self, worker: _Worker, why: str, lived: float, now: float
    ) -> list[Action]:
        """
        Replace *worker*, which was ready for *lived* seconds, at once or later.

        It is replaced later if it is the second in a row that lived less than SETTLED.
        """
        plan = self._plans[worker.slot]
        if lived >= SETTLED:
            plan.failures, plan.spared = 0, False
        elif plan.spared or plan.failures:
            plan.failures += 1
            return self._try_later(
                worker.slot, f"{why} {lived:.1f} s after it was ready", now
            )
        else:
            plan.spared = True
        text = f"worker of slot {worker.slot} {why}; replaced"
        return [Report(text, problem=True), self._spawn(worker.slot, now)]

    def _try_later(self, slot: int, why: str, now: float) -> list[Action]:
        plan = self._plans[slot]
        wait = delay(plan.failures, self.rng)
        plan.spawn_at, plan.why = now + wait, why
        text = f"worker of slot {slot} {why}; next try in {wait:.1f} s"
        return [Report(text, problem=True)]

    def _worn(self, number: int, requests: int, now: float) -> list[Action]:
        """
        Start an heir for worker *number*, unless another worker comes or leaves.

        Then nothing happens: the shell reports the worker again at its next look.
        """
        worker = self._workers.get(number)
        if (
            worker is None
            or self._stopping
            or self._rolling
            or not self._is_whole
            or now < self._no_heir_before
        ):
            return []
        # This worker fills its slot, because every slot is filled and nobody is beyond.
        slot, generation = worker.slot, worker.generation
        text = f"worker of slot {slot} has served {requests} requests: replacing it"
        return [Report(text), self._spawn(slot, now, coming=generation)]

    def _is_heir(self, worker: _Worker) -> bool:
        """Return whether *worker*, which is coming, is of its slot's generation."""
        return worker.generation == self._plans[worker.slot].generation

    def _inherit(self, heir: _Worker, now: float) -> list[Action]:
        """Promote *heir*, which is ready, and drain the worker that it succeeds."""
        plan = self._plans[heir.slot]
        leaving = [] if plan.current is None else [self._workers[plan.current]]
        plan.current, plan.coming, plan.spawn_at = heir.id, None, None
        self._heirs_died = 0
        return [
            Promote(heir.id, heir.slot),
            Report(f"worker of slot {heir.slot} is replaced"),
            *self._retire(leaving, now),
            *self._reload_that_waited(now),
        ]

    def _try_heir_later(self, slot: int, why: str, now: float) -> list[Action]:
        """Wait before the next heir; the worker that fills *slot* serves on."""
        self._heirs_died += 1
        wait = delay(self._heirs_died, self.rng)
        self._no_heir_before = now + wait
        text = f"new worker of slot {slot} {why} before it was ready"
        return [
            Report(f"{text}; next try in {wait:.1f} s", problem=True),
            *self._reload_that_waited(now),
        ]

    def _reload_that_waited(self, now: float) -> list[Action]:
        """Start the reload that was asked for, if nobody comes or leaves any more."""
        if self._reload_again and not self._rolling:
            return self.reload(now)
        return []

    def _hung(self, number: int, silent: float, now: float) -> list[Action]:
        worker = self._workers.get(number)
        if worker is None:
            return []
        was, worker.state = worker.state, next_state(worker.state, WorkerEvent.HUNG)
        if worker.state is was:
            return []
        worker.hung = True
        why = f"its event loop has been silent for {silent:.1f} s"
        return [self._abort(worker, why, now)]

    def _retire(self, workers: Iterable[_Worker], now: float) -> list[Action]:
        """Drain those of *workers* that are ready; stop those that are starting."""
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

    def _abort(self, worker: _Worker, why: str, now: float) -> Abort:
        """Send ABRT to *worker*, which is stuck, so that it leaves its stacks."""
        self._cut |= self._stopping and worker.served
        worker.state = next_state(worker.state, WorkerEvent.STOP_ASKED)
        worker.deadline = now + self.times.grace
        worker.overdue = f"still there {self.times.grace:g} s after ABRT"
        worker.ended_for = why
        return Abort(worker.id, why)

    def _kill(self, worker: _Worker, why: str) -> Kill:
        """Send KILL to *worker*; what it said before, READY included, is ignored."""
        self._cut |= self._stopping and worker.served
        worker.state = next_state(worker.state, WorkerEvent.STOP_ASKED)
        worker.deadline = None
        worker.ended_for = worker.ended_for or why
        return Kill(worker.id, why)

    def _kill_all(self, why: str) -> list[Action]:
        return [self._kill(worker, why) for worker in self._workers.values()]

    def _start_nothing_more(self) -> None:
        self._stopping = True
        self._to_renew.clear()
        for plan in self._plans:
            plan.spawn_at = None

    def _tick(self, now: float) -> list[Action]:
        actions: list[Action] = [
            self._abort(worker, worker.overdue, now)
            if worker.state is WorkerState.STARTING
            else self._kill(worker, worker.overdue)
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
        return [Finish(hopeless=self._hopeless, cut=self._cut)]
