"""
The supervisor in a world where anything may happen in any order.

Hypothesis plays the world: workers become ready, hang, die or ignore what they are
asked; operators reload and stop; time passes, punctually or not. After every step the
invariants of the supervisor are checked against what it ordered.
"""

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from maitred.supervision import (
    Abort,
    AllReady,
    Drain,
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
    Supervisor,
    Tick,
    Times,
    WorkerState,
    Worn,
)

TIMES = Times(ready=10.0, drain=6.0, grace=2.0)


class Process:
    """One worker process, as the world sees it."""

    def __init__(self, spawn, now):
        self.id, self.slot, self.generation = spawn.worker, spawn.slot, spawn.generation
        self.deadline = now + TIMES.ready
        self.said_ready = self.promoted = self.replaced = False
        self.asked = self.killed = self.hung = False
        self.ready_at = None


class World(RuleBasedStateMachine):
    """Carries out what the supervisor orders, and checks that it may order it."""

    in_order = False  # carried out without a complaint

    @initialize(
        slots=st.integers(1, 3),
        seed=st.integers(0, 9),
        surge=st.sampled_from([None, None, 1, 2, 4]),
    )
    def start(self, slots, seed, surge):
        """Begin."""
        self.now = 0.0
        self.slots = slots
        self.surge = surge
        self.supervisor = Supervisor(slots, TIMES, Random(seed), surge=surge)
        self.alive = {}
        self.filling = dict.fromkeys(range(slots))
        self.serving = 1  # the generation that was complete last
        self.newest = 1  # the generation that began last
        self.generations = dict.fromkeys(range(slots), 1)  # of each slot
        self.early = dict.fromkeys(range(slots), 0)  # deaths in a row
        self.may_spawn_at = dict.fromkeys(range(slots), 0.0)
        self.ever_ready = self.stopping = self.stopped_now = self.hopeless = False
        self.finished = 0
        self.heirs = set()
        self.carry_out(self.supervisor.start(self.now))

    # What the supervisor orders

    def carry_out(self, actions):
        """Do what is ordered, in order."""
        self.in_order = False
        assert not (actions and self.finished), actions
        for action in actions:
            match action:
                case Spawn():
                    self.spawn(action)
                case Promote(worker):
                    self.promote(self.alive[worker], action.slot)
                case Drain(worker):
                    self.ask(worker, action.timeout + TIMES.grace)
                    assert self.alive[worker].said_ready
                    assert action.timeout == TIMES.drain
                case Stop(worker):
                    self.ask(worker, TIMES.grace)
                case Abort(worker) | Kill(worker):
                    self.end(self.alive[worker], aborts=isinstance(action, Abort))
                case AllReady(generation):
                    self.check_all_ready(generation)
                case ReloadFailed(generation, why):
                    self.check_failed(generation, why)
                case Finish(hopeless):
                    assert self.alive == {}
                    assert hopeless is self.hopeless
                    self.finished += 1
        self.in_order = True

    def spawn(self, spawn):
        """Start a process, if one may be started now."""
        assert not self.stopping
        assert not self.hopeless
        assert spawn.worker not in self.alive
        if self.supervisor.current(spawn.slot) == spawn.worker:
            assert self.now >= self.may_spawn_at[spawn.slot]
            assert spawn.generation == self.generations[spawn.slot]
        elif spawn.generation == self.generations[spawn.slot]:
            assert self.beyond() == []
            self.heirs.add(spawn.worker)
        else:
            assert spawn.generation >= self.newest
            self.newest = spawn.generation
        self.alive[spawn.worker] = Process(spawn, self.now)

    def promote(self, process, slot):
        """Let *process*, which is ready and stays, fill its slot."""
        assert process.slot == slot
        assert process.said_ready
        assert not process.asked
        assert not process.killed
        assert not self.stopping
        process.promoted = True
        self.filling[slot] = process.id
        self.may_spawn_at[slot] = self.now  # it was ready: no backoff, at first
        if process.generation > self.generations[slot]:
            self.generations[slot], self.early[slot] = process.generation, 0

    def ask(self, worker, timeout):
        """Ask *worker* once to leave within *timeout* seconds."""
        process = self.alive[worker]
        assert not process.asked
        process.asked = True
        process.deadline = self.now + timeout

    def end(self, process, *, aborts):
        """Abort or kill *process*."""
        (self.abort if aborts else self.kill)(process)

    def abort(self, process):
        """End *process*, which hangs or has not become ready in time, but once."""
        assert not process.killed
        assert process.hung or not process.said_ready
        assert process.hung or process.deadline <= self.now
        process.killed = True
        process.deadline = self.now + TIMES.grace

    def kill(self, process):
        """End *process*, if its time is over or everybody's is."""
        late = process.deadline <= self.now
        assert late or self.stopped_now or self.hopeless
        process.killed = True
        process.deadline = float("inf")

    def check_all_ready(self, generation):
        """Every slot is, or was a moment ago, filled by a ready worker of it."""
        self.serving = generation
        assert self.supervisor.generation == generation
        if generation > 1:  # a start may be done while a reload is under way
            assert generation == self.newest
            assert set(self.generations.values()) == {generation}
        if self.surge is None:
            for slot in range(self.slots):
                current = self.supervisor.current(slot)
                assert self.supervisor.state(current) is WorkerState.READY
                assert self.filling[slot] == current

    def check_failed(self, generation, why):
        """After a reload that failed, what filled the slots fills them."""
        assert generation == self.newest
        assert self.supervisor.generation == self.serving < generation
        renewed = list(self.generations.values()).count(generation)
        assert renewed < self.slots
        assert renewed == 0 or self.surge is not None
        assert (f"{renewed} of {self.slots} workers" in why) is (renewed > 0)

    # What may happen

    def pick(self, data, condition):
        """Choose one of the processes for which *condition* holds."""
        able = [each for each in self.alive.values() if condition(each)]
        return data.draw(st.sampled_from(able)) if able else None

    @rule(data=st.data())
    def worker_says_ready(self, data):
        """A worker is ready; it may have been asked to leave, or killed, meanwhile."""
        process = self.pick(data, lambda each: not each.said_ready)
        if process is not None:
            process.said_ready = True
            if not process.asked and not process.killed:
                process.deadline, process.ready_at = float("inf"), self.now
                self.ever_ready = True
            self.carry_out(self.supervisor.handle(SaidReady(process.id), self.now))

    @rule(data=st.data())
    def worker_hangs(self, data):
        """A worker's heartbeat has been missing for long, whatever it is doing."""
        process = self.pick(data, lambda _: True)
        if process is not None:
            process.hung = True
            said = self.supervisor.handle(Hung(process.id, 30.0), self.now)
            aborts = process.ready_at is not None and not process.killed
            assert bool(said) is aborts or (process.asked and not said)
            self.carry_out(said)

    @rule(data=st.data())
    def worker_is_worn(self, data):
        """A worker has served enough; it is said again and again."""
        process = self.pick(data, lambda _: True)
        if process is not None:
            said = self.supervisor.handle(Worn(process.id, 1000), self.now)
            if said:
                assert [type(each) for each in said] == [Report, Spawn]
                assert all(each.ready_at is not None for each in self.alive.values())
                assert said[1].slot == process.slot
            self.carry_out(said)

    @rule()
    def everybody_says_ready(self):
        """All goes well for once."""
        for process in list(self.alive.values()):
            if not process.said_ready and not process.asked and not process.killed:
                process.said_ready = True
                process.deadline, process.ready_at = float("inf"), self.now
                self.ever_ready = True
                self.carry_out(self.supervisor.handle(SaidReady(process.id), self.now))

    @rule(data=st.data(), hopeless=st.booleans(), cut=st.booleans())
    def worker_dies(self, data, hopeless, cut):
        """A worker is gone, whether it was asked to go or not."""
        process = self.pick(data, lambda _: True)
        if process is not None:
            self.reap(process, hopeless=hopeless and not process.said_ready, cut=cut)

    @rule(data=st.data())
    def asked_worker_leaves(self, data):
        """A worker does what it is told."""
        process = self.pick(data, lambda each: each.asked or each.killed)
        if process is not None:
            self.reap(process)

    def reap(self, process, *, hopeless=False, cut=False):
        """Report the end of *process*."""
        del self.alive[process.id]
        current = self.supervisor.current(process.slot) == process.id
        if self.filling[process.slot] == process.id:
            self.filling[process.slot] = None
        if hopeless and not self.ever_ready and not self.stopping:
            self.hopeless = True
        if current and self.must_wait(process):
            # The shortest first backoff there is.
            self.may_spawn_at[process.slot] = self.now + 0.25
        event = Exited(process.id, "exited with code 0", hopeless, cut)
        self.carry_out(self.supervisor.handle(event, self.now))

    def must_wait(self, process):
        """Say whether whoever comes after *process* has to wait."""
        if process.ready_at is not None and self.now - process.ready_at >= 1.0:
            self.early[process.slot] = 0
            return False
        self.early[process.slot] += 1
        return process.ready_at is None or self.early[process.slot] > 1

    @rule(late=st.floats(0, 5))
    def time_comes(self, late):
        """The next thing is due, and is noticed a moment later."""
        at = self.supervisor.wakeup()
        if at is not None:
            self.now = max(self.now, at) + late
            self.carry_out(self.supervisor.handle(Tick(), self.now))

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds):
        """Somebody looks at the clock for no reason."""
        self.now += seconds
        self.carry_out(self.supervisor.handle(Tick(), self.now))

    @rule(times=st.integers(1, 3))
    def operator_reloads(self, times):
        """New code, perhaps in a hurry."""
        for _ in range(times):
            said = self.supervisor.reload(self.now)
            if self.stopping or self.hopeless:
                assert said == [Report("reload ignored: stopping")]
            else:
                self.carry_out(said)

    @precondition(lambda self: self.now > 5)
    @rule()
    def operator_stops(self):
        """The first signal, or one more of its kind."""
        self.stopping = True
        self.carry_out(self.supervisor.stop(self.now))

    @precondition(lambda self: self.now > 9)
    @rule()
    def operator_stops_now(self):
        """The second signal."""
        self.stopping = self.stopped_now = True
        self.carry_out(self.supervisor.stop_now())

    # What always holds

    @invariant()
    def slots_are_not_crowded(self):
        """A slot has at most one current and one coming worker."""
        for slot in range(self.slots):
            living = [
                each
                for each in self.alive.values()
                if each.slot == slot and not each.asked and not each.killed
            ]
            current = self.supervisor.current(slot)
            coming = [each for each in living if each.id != current]
            assert len(coming) <= 1
            if any(each.id in self.heirs for each in coming):
                assert coming[0].generation == self.generations[slot]
                assert len(self.beyond()) == 1
                continue
            assert all(each.generation == self.newest for each in coming)
            assert all(self.newest > self.generations[slot] for each in coming)

    def beyond(self):
        """Give those who fill no slot: they come, or they leave."""
        return [
            each
            for each in self.alive.values()
            if self.supervisor.current(each.slot) != each.id
        ]

    @invariant()
    def no_more_are_alive_than_surge_allows(self):
        """Those who come and those who leave are few."""
        most = self.slots if self.surge is None else self.surge
        assert len(self.beyond()) <= most

    @invariant()
    def current_worker_is_the_one_that_fills_its_slot(self):
        """What the supervisor calls ready is what gets the connections."""
        for slot in range(self.slots):
            current = self.supervisor.current(slot)
            if self.supervisor.state(current) is WorkerState.READY:
                assert self.filling[slot] == current
                assert self.alive[current].generation == self.generations[slot]

    @invariant()
    def nothing_is_overlooked(self):
        """While there is something to wait for, there is a time to wake up."""
        if self.finished:
            assert self.finished == 1
            assert self.supervisor.wakeup() is None
            return
        if any(
            each.deadline < float("inf") and not each.killed
            for each in self.alive.values()
        ):
            assert self.supervisor.wakeup() is not None
        if not self.stopping and not self.hopeless:
            for slot in range(self.slots):
                current = self.supervisor.current(slot)
                assert current in self.alive or self.supervisor.wakeup() is not None

    def teardown(self):
        """However it stood: a stop, with workers that leave, comes to its end."""
        if not self.in_order:
            return
        self.operator_stops()
        for process in list(self.alive.values()):
            self.reap(process)
        assert self.finished == 1
        assert self.supervisor.handle(Tick(), self.now + 999) == []


World.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestSupervisor = World.TestCase
