"""The supervisor, one situation after the other: what happened in, what to do out."""

import pytest

from maitred.supervision import (
    AllReady,
    Drain,
    Exited,
    Finish,
    Kill,
    Promote,
    Report,
    SaidReady,
    Spawn,
    Stop,
    Supervisor,
    Tick,
    Times,
    WorkerState,
)

TIMES = Times(ready=60.0, drain=30.0, grace=5.0)


class Most:
    """Draws the highest number: the first backoff is 0.5 s, the next 1 s."""

    def uniform(self, _low, high):
        """Give the upper end."""
        return high


def booting(slots=2):
    """Make a supervisor that has started its workers at 0.0."""
    supervisor = Supervisor(slots, TIMES, Most())
    supervisor.start(0.0)
    return supervisor


def running(slots=2):
    """Make a supervisor whose workers 1, 2, ... are ready."""
    supervisor = booting(slots)
    for worker in range(1, slots + 1):
        supervisor.handle(SaidReady(worker), 1.0)
    return supervisor


def reloading(slots=2):
    """Make a supervisor that is reloading since 10.0; workers 3, 4 are coming."""
    supervisor = running(slots)
    supervisor.reload(10.0)
    return supervisor


def reloaded():
    """Make a supervisor that reloaded at 11.0: worker 1 drains, 2 serves."""
    supervisor = reloading(1)
    supervisor.handle(SaidReady(2), 11.0)
    return supervisor


def exited(worker, **details):
    """Say that *worker* is gone."""
    return Exited(worker, "exited with code 1", **details)


# Boot.


def test_start_spawns_a_worker_for_every_slot():
    """Every slot gets its worker at once."""
    supervisor = Supervisor(3, TIMES, Most())
    assert supervisor.start(0.0) == [Spawn(1, 0, 1), Spawn(2, 1, 1), Spawn(3, 2, 1)]
    assert [supervisor.current(slot) for slot in range(3)] == [1, 2, 3]
    assert supervisor.state(1) is WorkerState.STARTING


def test_ready_worker_fills_its_slot_at_once():
    """Nobody waits for the others to begin."""
    supervisor = booting()
    assert supervisor.handle(SaidReady(2), 1.0) == [Promote(2, 1)]
    assert supervisor.state(2) is WorkerState.READY


def test_last_ready_worker_makes_all_ready():
    """That everybody is ready is said once, with the last of them."""
    supervisor = booting()
    supervisor.handle(SaidReady(2), 1.0)
    assert supervisor.handle(SaidReady(1), 2.0) == [Promote(1, 0), AllReady(1)]


def test_all_ready_is_said_once_a_generation():
    """A worker that was replaced is no news for whoever waits for the start."""
    supervisor = running(1)
    supervisor.handle(exited(1), 2.0)
    assert supervisor.handle(SaidReady(2), 3.0) == [Promote(2, 0)]


def test_application_that_cannot_be_loaded_ends_everything():
    """Where no worker was ever ready, the application's failure is final."""
    supervisor = booting(3)
    assert supervisor.handle(exited(2, app_failed=True), 1.0) == [
        Kill(1, "the application cannot be started"),
        Kill(3, "the application cannot be started"),
    ]
    assert supervisor.handle(exited(1), 1.0) == []
    assert supervisor.handle(exited(3, app_failed=True), 1.0) == [
        Finish(app_failed=True)
    ]


def test_application_failure_of_the_only_worker_finishes_at_once():
    """With nobody left to wait for, it is over."""
    supervisor = booting(1)
    assert supervisor.handle(exited(1, app_failed=True), 1.0) == [
        Finish(app_failed=True)
    ]


def test_application_failure_ends_what_waits_for_its_backoff():
    """Nothing is started any more once the application is known to be broken."""
    supervisor = booting(2)
    supervisor.handle(exited(1), 1.0)
    assert supervisor.handle(exited(2, app_failed=True), 1.1) == [
        Finish(app_failed=True)
    ]
    assert supervisor.wakeup() is None
    assert supervisor.handle(Tick(), 99.0) == []


def test_ready_that_crosses_the_end_is_too_late():
    """A worker that says READY while it is being killed gets no slot."""
    supervisor = booting(2)
    supervisor.handle(exited(1, app_failed=True), 1.0)
    assert supervisor.handle(SaidReady(2), 1.0) == []


def test_application_failure_of_a_later_worker_is_tried_again():
    """An application that was ready once may be again: its failure may be passing."""
    supervisor = running(1)
    supervisor.handle(exited(1), 2.0)
    assert supervisor.handle(exited(2, app_failed=True), 3.0) == [
        Report(
            "worker of slot 0 exited with code 1 before it was ready;"
            " next try in 0.5 s",
            problem=True,
        )
    ]


# Death.


def test_early_death_waits_for_backoff():
    """A worker that exits before it was ready is respawned only after its backoff."""
    supervisor = booting(1)
    assert supervisor.handle(exited(1), 10.0) == [
        Report(
            "worker of slot 0 exited with code 1 before it was ready;"
            " next try in 0.5 s",
            problem=True,
        )
    ]
    assert supervisor.current(0) is None
    assert supervisor.wakeup() == 10.5
    assert supervisor.handle(Tick(), 10.4) == []
    assert supervisor.handle(Tick(), 10.5) == [Spawn(2, 0, 1)]
    assert supervisor.current(0) == 2


def test_backoff_grows_until_a_worker_is_ready():
    """Each early death in a row doubles the wait, and READY forgets them all."""
    supervisor = booting(1)
    now, waits = 0.0, []
    for worker in range(1, 4):
        supervisor.handle(exited(worker), now)
        waits.append(supervisor.wakeup() - now)
        now = supervisor.wakeup()
        supervisor.handle(Tick(), now)
    assert waits == [0.5, 1.0, 2.0]
    supervisor.handle(SaidReady(4), now)
    supervisor.handle(exited(4), now)
    supervisor.handle(exited(5), now)
    assert supervisor.wakeup() - now == 0.5


def test_death_after_ready_is_replaced_at_once():
    """A worker that served leaves a slot that is filled without delay."""
    supervisor = running()
    assert supervisor.handle(exited(1), 5.0) == [
        Report("worker of slot 0 exited with code 1; replaced", problem=True),
        Spawn(3, 0, 1),
    ]
    assert supervisor.state(1) is WorkerState.GONE
    assert supervisor.current(0) == 3


def test_worker_that_is_never_ready_is_killed():
    """Not ready in time: it is killed once, and its end is an early death."""
    supervisor = booting(1)
    assert supervisor.wakeup() == 60.0
    assert supervisor.handle(Tick(), 59.9) == []
    assert supervisor.handle(Tick(), 60.0) == [Kill(1, "not ready after 60 s")]
    assert supervisor.handle(Tick(), 61.0) == []
    assert supervisor.handle(exited(1), 61.0)[0].text.endswith("next try in 0.5 s")


def test_ready_that_crosses_its_kill_is_too_late():
    """A worker that says READY a moment after its deadline dies early all the same."""
    supervisor = booting(1)
    supervisor.handle(Tick(), 60.0)
    assert supervisor.handle(SaidReady(1), 60.1) == []
    assert [type(a) for a in supervisor.handle(exited(1), 60.2)] == [Report]
    assert supervisor.wakeup() == 60.7


# Reload.


def test_reload_starts_a_whole_generation():
    """Every slot gets a coming worker, and keeps the one it has."""
    supervisor = running()
    assert supervisor.reload(10.0) == [
        Report("reload: starting generation 2"),
        Spawn(3, 0, 2),
        Spawn(4, 1, 2),
    ]
    assert [supervisor.current(slot) for slot in range(2)] == [1, 2]
    assert supervisor.generation == 1


def test_reload_waits_until_all_are_ready():
    """The last worker that is ready lets the new generation take over, as one."""
    supervisor = reloading()
    assert supervisor.handle(SaidReady(4), 11.0) == []
    assert supervisor.current(1) == 2
    assert supervisor.handle(SaidReady(3), 12.0) == [
        Promote(3, 0),
        Promote(4, 1),
        Drain(1, 30.0),
        Drain(2, 30.0),
        AllReady(2),
    ]
    assert [supervisor.current(slot) for slot in range(2)] == [3, 4]
    assert supervisor.state(1) is WorkerState.DRAINING
    assert supervisor.generation == 2


def test_drained_worker_may_go():
    """Nobody replaces what was asked to leave."""
    supervisor = reloaded()
    assert supervisor.handle(exited(1), 12.0) == []
    assert supervisor.current(0) == 2


def test_worker_that_does_not_drain_is_killed():
    """The drain has its time, then some grace, then an end."""
    supervisor = reloaded()
    assert supervisor.wakeup() == 46.0
    assert supervisor.handle(Tick(), 46.0) == [
        Kill(1, "not drained 5 s after the drain timeout")
    ]


def test_reload_replaces_what_was_still_starting():
    """A worker of the old generation that never served is stopped, not drained."""
    supervisor = running(1)
    supervisor.handle(exited(1), 5.0)
    supervisor.reload(10.0)
    assert supervisor.handle(SaidReady(3), 11.0) == [
        Promote(3, 0),
        Stop(2),
        AllReady(2),
    ]
    assert supervisor.handle(SaidReady(2), 11.0) == []
    assert supervisor.handle(exited(2), 11.1) == []


def test_reload_fills_a_slot_that_was_waiting():
    """The new generation needs no worker of the old one to take over from."""
    supervisor = running(1)
    supervisor.handle(exited(1), 5.0)
    supervisor.handle(exited(2), 5.0)
    supervisor.reload(5.1)
    assert supervisor.handle(SaidReady(3), 5.2) == [Promote(3, 0), AllReady(2)]
    assert supervisor.wakeup() is None


def test_worker_that_dies_during_a_reload_is_replaced():
    """The old generation is kept whole until the new one takes over."""
    supervisor = reloading(1)
    assert supervisor.handle(exited(1), 10.5)[1:] == [Spawn(3, 0, 1)]
    assert supervisor.handle(SaidReady(3), 10.6) == [Promote(3, 0)]
    assert supervisor.handle(SaidReady(2), 10.7) == [
        Promote(2, 0),
        Drain(3, 30.0),
        AllReady(2),
    ]


def test_reload_before_the_first_worker_is_ready_changes_nothing():
    """What is starting is new enough."""
    supervisor = booting()
    assert supervisor.reload(0.5) == []
    supervisor.handle(SaidReady(1), 1.0)
    assert supervisor.handle(SaidReady(2), 1.0) == [Promote(2, 1), AllReady(1)]


def test_reloads_during_a_reload_are_followed_by_one():
    """However often it is asked for, one more sees every change, when the old left."""
    supervisor = reloading(1)
    assert [supervisor.reload(10.0 + n) for n in range(5)] == [[]] * 5
    assert supervisor.handle(SaidReady(2), 20.0) == [
        Promote(2, 0),
        Drain(1, 30.0),
        AllReady(2),
    ]
    assert supervisor.reload(20.5) == []
    assert supervisor.handle(exited(1), 21.0) == [
        Report("reload: starting generation 3"),
        Spawn(3, 0, 3),
    ]
    assert supervisor.handle(SaidReady(3), 22.0) == [
        Promote(3, 0),
        Drain(2, 30.0),
        AllReady(3),
    ]
    assert supervisor.handle(exited(2), 23.0) == []


def test_generations_are_numbered_upwards():
    """A number that failed is not given again."""
    supervisor = reloading(1)
    supervisor.handle(exited(2), 11.0)
    assert supervisor.reload(12.0)[1] == Spawn(3, 0, 3)


# Roll back.


def test_coming_worker_that_exits_rolls_back():
    """The old generation serves on, and what came of the new one is stopped."""
    supervisor = reloading()
    supervisor.handle(SaidReady(3), 11.0)
    assert supervisor.handle(exited(4), 12.0) == [
        Report(
            "reload failed: worker of slot 1 exited with code 1;"
            " generation 1 serves on",
            problem=True,
        ),
        Stop(3),
    ]
    assert [supervisor.current(slot) for slot in range(2)] == [1, 2]
    assert supervisor.state(1) is WorkerState.READY
    assert supervisor.generation == 1
    assert supervisor.handle(exited(3), 12.5) == []
    assert supervisor.wakeup() is None


def test_coming_worker_whose_application_fails_rolls_back():
    """New code that cannot be loaded changes nothing."""
    supervisor = reloading()
    first, *rest = supervisor.handle(exited(3, app_failed=True), 11.0)
    assert first.problem
    assert rest == [Stop(4)]
    assert supervisor.current(0) == 1


def test_coming_worker_that_is_never_ready_rolls_back():
    """It is killed at its deadline; what rolls back is its end."""
    supervisor = reloading()
    supervisor.handle(SaidReady(4), 11.0)
    assert supervisor.handle(Tick(), 70.0) == [Kill(3, "not ready after 60 s")]
    assert supervisor.handle(SaidReady(3), 70.0) == []
    assert supervisor.handle(exited(3), 70.1)[1:] == [Stop(4)]
    assert [supervisor.current(slot) for slot in range(2)] == [1, 2]


def test_stopped_worker_that_stays_is_killed():
    """TERM is given its time."""
    supervisor = reloading()
    supervisor.handle(exited(4), 12.0)
    assert supervisor.wakeup() == 17.0
    assert supervisor.handle(Tick(), 17.0) == [Kill(3, "still there 5 s after TERM")]


def test_roll_back_stops_nobody_twice():
    """A coming worker that is being killed already is left to its end."""
    supervisor = reloading(2)
    assert len(supervisor.handle(Tick(), 70.0)) == 2
    assert [type(a) for a in supervisor.handle(exited(3), 70.1)] == [Report]
    assert supervisor.handle(exited(4), 70.2) == []


def test_roll_back_keeps_the_backoff():
    """A slot that was waiting when the reload began goes on waiting, and is filled."""
    supervisor = running(1)
    supervisor.handle(exited(1), 5.0)
    supervisor.handle(exited(2), 5.0)
    supervisor.reload(5.1)
    assert [type(a) for a in supervisor.handle(exited(3), 5.2)] == [Report]
    assert supervisor.wakeup() == 5.5
    assert supervisor.handle(Tick(), 5.5) == [Spawn(4, 0, 1)]


def test_backoff_that_ends_during_a_reload_fills_the_slot():
    """The old generation is kept whole, also while another one is coming."""
    supervisor = running(1)
    supervisor.handle(exited(1), 5.0)
    supervisor.handle(exited(2), 5.0)
    supervisor.reload(5.1)
    assert supervisor.handle(Tick(), 5.5) == [Spawn(4, 0, 1)]


def test_reload_that_was_waiting_follows_a_roll_back():
    """Whoever asked while the failing one was under way gets a try of their own."""
    supervisor = reloading(1)
    supervisor.reload(10.5)
    actions = supervisor.handle(exited(2), 11.0)
    assert actions[1:] == [Report("reload: starting generation 3"), Spawn(3, 0, 3)]


# Stop.


def test_stop_drains_everybody_then_finishes():
    """Those that serve are drained, and the end is when the last is gone."""
    supervisor = running()
    assert supervisor.stop(10.0) == [Drain(1, 30.0), Drain(2, 30.0)]
    assert supervisor.handle(exited(1), 11.0) == []
    assert supervisor.handle(exited(2), 12.0) == [Finish()]
    assert supervisor.wakeup() is None


def test_stop_during_boot_stops_those_that_start():
    """A worker that never served has nothing to drain, and nothing to cut."""
    supervisor = booting()
    supervisor.handle(SaidReady(1), 1.0)
    assert supervisor.stop(2.0) == [Drain(1, 30.0), Stop(2)]
    assert supervisor.handle(SaidReady(2), 2.1) == []
    assert supervisor.handle(exited(1), 3.0) == []
    assert supervisor.handle(exited(2, cut=True), 3.0) == [Finish()]


def test_stop_during_a_reload_ends_both_generations():
    """Whatever state a worker is in, it is asked to leave in the way that fits."""
    supervisor = reloading()
    supervisor.handle(SaidReady(4), 11.0)
    assert supervisor.stop(12.0) == [
        Drain(1, 30.0),
        Drain(2, 30.0),
        Stop(3),
        Drain(4, 30.0),
    ]
    for worker in (1, 2, 3):
        assert supervisor.handle(exited(worker), 13.0) == []
    assert supervisor.handle(exited(4), 13.0) == [Finish()]


def test_stop_after_a_reload_leaves_the_draining_alone():
    """What drains already is not asked again."""
    assert reloaded().stop(12.0) == [Drain(2, 30.0)]


def test_stop_ends_what_waits_for_its_backoff():
    """Nothing is started any more."""
    supervisor = booting(1)
    supervisor.handle(exited(1), 1.0)
    assert supervisor.stop(1.1) == [Finish()]
    assert supervisor.wakeup() is None
    assert supervisor.handle(Tick(), 99.0) == []


def test_second_stop_changes_nothing():
    """It is asked once, and finished once."""
    supervisor = running(1)
    supervisor.stop(10.0)
    assert supervisor.stop(11.0) == []
    assert supervisor.handle(exited(1), 12.0) == [Finish()]
    assert supervisor.stop(13.0) == []
    assert supervisor.stop_now() == []


def test_dead_workers_are_not_replaced_while_stopping():
    """A crash during the drain is an end like any other."""
    supervisor = running()
    supervisor.stop(10.0)
    assert supervisor.handle(exited(1), 10.1) == []
    assert supervisor.current(0) == 1
    assert supervisor.state(1) is WorkerState.GONE


def test_reload_while_stopping_is_ignored_and_said():
    """The operator learns why nothing happens."""
    supervisor = running()
    supervisor.stop(10.0)
    assert supervisor.reload(10.1) == [Report("reload ignored: stopping")]


def test_drain_that_is_too_slow_is_cut():
    """Whoever has to be killed while stopping had connections, and that is told."""
    supervisor = running(1)
    supervisor.stop(10.0)
    assert supervisor.wakeup() == 45.0
    assert supervisor.handle(Tick(), 45.0) == [
        Kill(1, "not drained 5 s after the drain timeout")
    ]
    assert supervisor.handle(exited(1), 45.1) == [Finish(cut=True)]


def test_worker_that_cut_connections_is_told():
    """A worker may say itself that it could not finish in time."""
    supervisor = running()
    supervisor.stop(10.0)
    supervisor.handle(exited(1, cut=True), 40.0)
    assert supervisor.handle(exited(2), 41.0) == [Finish(cut=True)]


def test_crash_before_the_stop_is_not_cut_by_it():
    """Only what the stop itself cut counts."""
    supervisor = running(1)
    supervisor.handle(exited(1, cut=True), 5.0)
    supervisor.stop(6.0)
    assert supervisor.handle(exited(2), 6.1) == [Finish()]


def test_killing_a_worker_that_never_served_cuts_nothing():
    """It had no connection."""
    supervisor = booting(1)
    supervisor.stop(1.0)
    assert supervisor.handle(Tick(), 6.0) == [Kill(1, "still there 5 s after TERM")]
    assert supervisor.handle(exited(1, cut=True), 6.1) == [Finish()]


# Stop now.


def test_stop_now_kills_everybody():
    """No deadline is waited for; what served is cut."""
    supervisor = running()
    supervisor.stop(10.0)
    assert supervisor.stop_now() == [
        Kill(1, "asked to stop now"),
        Kill(2, "asked to stop now"),
    ]
    supervisor.handle(exited(1), 10.2)
    assert supervisor.handle(exited(2), 10.2) == [Finish(cut=True)]


def test_stop_now_needs_no_stop_before():
    """It may come first, during boot too, where there is nothing to cut."""
    supervisor = booting(1)
    assert supervisor.stop_now() == [Kill(1, "asked to stop now")]
    assert supervisor.handle(SaidReady(1), 0.1) == []
    assert supervisor.handle(exited(1, cut=True), 0.2) == [Finish()]


def test_stop_now_with_nobody_left_finishes():
    """There is nobody to wait for."""
    supervisor = booting(1)
    supervisor.handle(exited(1), 1.0)
    assert supervisor.stop_now() == [Finish()]


def test_killed_worker_is_not_killed_again_by_its_deadline():
    """Its deadline ended with it."""
    supervisor = running(1)
    supervisor.stop(10.0)
    supervisor.stop_now()
    assert supervisor.wakeup() is None


# Asking.


def test_wakeup_is_the_earliest_moment():
    """Deadlines and backoffs are waited for together."""
    supervisor = booting(2)
    assert supervisor.wakeup() == 60.0
    supervisor.handle(exited(1), 1.0)
    assert supervisor.wakeup() == 1.5
    supervisor.handle(SaidReady(2), 1.1)
    supervisor.handle(Tick(), 1.5)
    assert supervisor.wakeup() == 61.5


def test_nothing_is_waited_for_while_all_is_well():
    """Ready workers have no deadline."""
    assert running().wakeup() is None


@pytest.mark.parametrize("worker", [0, 99])
def test_unknown_worker_is_gone(worker):
    """A worker that nobody remembers is no more."""
    assert running().state(worker) is WorkerState.GONE


def test_times_are_keywords_with_defaults():
    """The defaults are those of the command line."""
    assert Times() == Times(ready=60.0, drain=30.0, grace=5.0)
