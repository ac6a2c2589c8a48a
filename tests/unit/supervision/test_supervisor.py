"""The supervisor, one situation after the other: what happened in, what to do out."""

import pytest

from maitred.supervision import (
    Abort,
    AllReady,
    Drain,
    Exited,
    Failures,
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
    assert supervisor.handle(exited(2, hopeless=True), 1.0) == [
        Kill(1, "no worker can be started"),
        Kill(3, "no worker can be started"),
    ]
    assert supervisor.handle(exited(1), 1.0) == []
    assert supervisor.handle(exited(3, hopeless=True), 1.0) == [Finish(hopeless=True)]


def test_application_failure_of_the_only_worker_finishes_at_once():
    """With nobody left to wait for, it is over."""
    supervisor = booting(1)
    assert supervisor.handle(exited(1, hopeless=True), 1.0) == [Finish(hopeless=True)]


def test_application_failure_ends_what_waits_for_its_backoff():
    """Nothing is started any more once the application is known to be broken."""
    supervisor = booting(2)
    supervisor.handle(exited(1), 1.0)
    assert supervisor.handle(exited(2, hopeless=True), 1.1) == [Finish(hopeless=True)]
    assert supervisor.wakeup() is None
    assert supervisor.handle(Tick(), 99.0) == []


def test_ready_that_crosses_the_end_is_too_late():
    """A worker that says READY while it is being killed gets no slot."""
    supervisor = booting(2)
    supervisor.handle(exited(1, hopeless=True), 1.0)
    assert supervisor.handle(SaidReady(2), 1.0) == []


def test_application_failure_of_a_later_worker_is_tried_again():
    """An application that was ready once may be again: its failure may be passing."""
    supervisor = running(1)
    supervisor.handle(exited(1), 2.0)
    assert supervisor.handle(exited(2, hopeless=True), 3.0) == [
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
    """Each early death in a row doubles the wait, and who has served forgets them."""
    supervisor = booting(1)
    now, waits = 0.0, []
    for worker in range(1, 4):
        supervisor.handle(exited(worker), now)
        waits.append(supervisor.wakeup() - now)
        now = supervisor.wakeup()
        supervisor.handle(Tick(), now)
    assert waits == [0.5, 1.0, 2.0]
    supervisor.handle(SaidReady(4), now)
    now += 1.0
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


def test_worker_that_dies_soon_after_ready_waits_the_second_time():
    """Saying READY and dying, over and over, is no way around the backoff."""
    supervisor = running(1)
    assert supervisor.handle(exited(1), 1.9)[1:] == [Spawn(2, 0, 1)]
    supervisor.handle(SaidReady(2), 3.0)
    assert supervisor.handle(exited(2), 3.2) == [
        Report(
            "worker of slot 0 exited with code 1 0.2 s after it was ready;"
            " next try in 0.5 s",
            problem=True,
        )
    ]
    assert supervisor.wakeup() == 3.7
    supervisor.handle(Tick(), 3.7)
    supervisor.handle(SaidReady(3), 4.0)
    supervisor.handle(exited(3), 4.0)
    assert supervisor.wakeup() == 5.0


def test_crash_loop_starts_one_worker_in_half_a_minute_at_most():
    """Whether it dies before or after READY, the pace ends up the same."""
    for says_ready in (False, True):
        supervisor = booting(1)
        now, starts = 0.0, []
        for worker in range(1, 20):
            starts.append(now)
            if says_ready:
                supervisor.handle(SaidReady(worker), now)
            supervisor.handle(exited(worker), now)
            if supervisor.current(0) is None:
                now = supervisor.wakeup()
                supervisor.handle(Tick(), now)
        assert starts[-1] - starts[-2] == 30.0


def test_early_deaths_are_known_until_a_worker_has_served():
    """An operator sees how often in a row, why, and when the next is tried."""
    supervisor = booting(1)
    assert supervisor.failures(0, 1.0) == Failures(0, "", None)
    supervisor.handle(exited(1), 1.0)
    why = "exited with code 1 before it was ready"
    assert supervisor.failures(0, 1.0) == Failures(1, why, 1.5)
    supervisor.handle(Tick(), 1.5)
    assert supervisor.failures(0, 1.6) == Failures(1, why, None)
    supervisor.handle(SaidReady(2), 2.0)
    assert supervisor.failures(0, 2.5) == Failures(1, why, None)
    assert supervisor.failures(0, 3.0) == Failures(0, "", None)


def test_worker_that_is_never_ready_is_aborted():
    """Not ready in time: it shows once where it is, and its end is an early death."""
    supervisor = booting(1)
    assert supervisor.wakeup() == 60.0
    assert supervisor.handle(Tick(), 59.9) == []
    assert supervisor.handle(Tick(), 60.0) == [Abort(1, "not ready after 60 s")]
    assert supervisor.handle(Tick(), 61.0) == []
    [report] = supervisor.handle(exited(1), 61.0)
    assert report.text == (
        "worker of slot 0 exited with code 1 (not ready after 60 s)"
        " before it was ready; next try in 0.5 s"
    )


def test_worker_that_cannot_be_aborted_is_killed():
    """A stopped process hears no ABRT; KILL ends it all the same."""
    supervisor = booting(1)
    supervisor.handle(Tick(), 60.0)
    assert supervisor.wakeup() == 65.0
    assert supervisor.handle(Tick(), 65.0) == [Kill(1, "still there 5 s after ABRT")]
    [report] = supervisor.handle(exited(1), 65.1)
    assert "(not ready after 60 s)" in report.text


def test_ready_that_crosses_its_kill_is_too_late():
    """A worker that says READY a moment after its deadline dies early all the same."""
    supervisor = booting(1)
    supervisor.handle(Tick(), 60.0)
    assert supervisor.handle(SaidReady(1), 60.1) == []
    assert [type(a) for a in supervisor.handle(exited(1), 60.2)] == [Report]
    assert supervisor.wakeup() == 60.7


# Hanging.


def test_hung_worker_is_aborted_then_killed():
    """It shows where it is stuck, has the grace period, and is ended."""
    supervisor = running()
    assert supervisor.handle(Hung(1, 30.04), 50.0) == [
        Abort(1, "its event loop has been silent for 30.0 s")
    ]
    assert supervisor.state(1) is WorkerState.STOPPING
    assert supervisor.handle(Hung(1, 30.5), 50.5) == []
    assert supervisor.handle(Tick(), 54.9) == []
    assert supervisor.handle(Tick(), 55.0) == [Kill(1, "still there 5 s after ABRT")]
    assert supervisor.handle(Hung(1, 35.1), 55.1) == []


def test_hung_worker_is_replaced_at_once():
    """It had served; its successor need not wait for anything but its end."""
    supervisor = running(1)
    supervisor.handle(Hung(1, 30.0), 50.0)
    assert supervisor.current(0) == 1
    assert supervisor.handle(exited(1), 50.1) == [
        Report(
            "worker of slot 0 exited with code 1"
            " (its event loop has been silent for 30.0 s); replaced",
            problem=True,
        ),
        Spawn(2, 0, 1),
    ]


def test_worker_that_hangs_while_it_starts_has_until_its_deadline():
    """Loading an application may take the loop's whole attention."""
    supervisor = booting(1)
    assert supervisor.handle(Hung(1, 30.0), 40.0) == []
    assert supervisor.state(1) is WorkerState.STARTING


def test_worker_that_hangs_while_it_drains_is_not_waited_for():
    """Nobody waits for the end of a drain that does not go on."""
    supervisor = reloaded()
    assert [type(a) for a in supervisor.handle(Hung(1, 30.0), 41.0)] == [Abort]
    assert supervisor.wakeup() == 46.0
    assert supervisor.handle(exited(1), 41.1) == [
        Report(
            "worker of slot 0 exited with code 1 (its event loop has been silent for"
            " 30.0 s) while it was leaving",
            problem=True,
        )
    ]


def test_worker_that_hangs_while_the_others_come_rolls_back():
    """A generation is not complete with a worker that hangs."""
    supervisor = reloading()
    supervisor.handle(SaidReady(3), 11.0)
    supervisor.handle(Hung(3, 30.0), 41.0)
    assert supervisor.handle(SaidReady(4), 41.0) == []
    failed, stop = supervisor.handle(exited(3), 41.1)
    assert failed.why.startswith("worker of slot 0 exited with code 1 (its event loop")
    assert stop == Stop(4)


def test_hanging_of_the_dead_is_no_news():
    """A look at its scoreboard may cross its end."""
    supervisor = running(1)
    supervisor.handle(exited(1), 5.0)
    assert supervisor.handle(Hung(1, 30.0), 5.0) == []


def test_aborted_worker_is_cut_by_a_stop():
    """Whoever hangs while the service stops had connections, and that is told."""
    supervisor = running(1)
    supervisor.stop(10.0)
    supervisor.handle(Hung(1, 30.0), 20.0)
    assert supervisor.handle(exited(1), 20.1) == [Finish(cut=True)]


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
        ReloadFailed(2, "worker of slot 1 exited with code 1; generation 1 serves on"),
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
    first, *rest = supervisor.handle(exited(3, hopeless=True), 11.0)
    assert first.generation == 2
    assert rest == [Stop(4)]
    assert supervisor.current(0) == 1


def test_coming_worker_that_is_never_ready_rolls_back():
    """It is ended at its deadline; what rolls back is its end."""
    supervisor = reloading()
    supervisor.handle(SaidReady(4), 11.0)
    assert supervisor.handle(Tick(), 70.0) == [Abort(3, "not ready after 60 s")]
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
    """A coming worker that is being ended already is left to its end."""
    supervisor = reloading(2)
    assert len(supervisor.handle(Tick(), 70.0)) == 2
    assert [type(a) for a in supervisor.handle(exited(3), 70.1)] == [ReloadFailed]
    assert supervisor.handle(exited(4), 70.2) == []


def test_roll_back_keeps_the_backoff():
    """A slot that was waiting when the reload began goes on waiting, and is filled."""
    supervisor = running(1)
    supervisor.handle(exited(1), 5.0)
    supervisor.handle(exited(2), 5.0)
    supervisor.reload(5.1)
    assert [type(a) for a in supervisor.handle(exited(3), 5.2)] == [ReloadFailed]
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


# Reload, a few at a time.


def rolling(slots=3, surge=1):
    """Make a supervisor that is reloading *surge* at a time since 10.0."""
    supervisor = Supervisor(slots, TIMES, Most(), surge=surge)
    supervisor.start(0.0)
    for worker in range(1, slots + 1):
        supervisor.handle(SaidReady(worker), 1.0)
    supervisor.reload(10.0)
    return supervisor


def test_one_at_a_time_begins_with_one():
    """The other slots are left alone."""
    supervisor = Supervisor(2, TIMES, Most(), surge=1)
    supervisor.start(0.0)
    supervisor.handle(SaidReady(1), 1.0)
    supervisor.handle(SaidReady(2), 1.0)
    assert supervisor.reload(10.0) == [
        Report("reload: starting generation 2"),
        Spawn(3, 0, 2),
    ]


def test_one_at_a_time_goes_from_slot_to_slot():
    """Ready, take over, drain the old, and when that has left, the next."""
    supervisor = rolling()
    for slot in range(3):
        assert supervisor.handle(SaidReady(4 + slot), 11.0)[:2] == [
            Promote(4 + slot, slot),
            Drain(1 + slot, 30.0),
        ]
        assert supervisor.current(slot) == 4 + slot
        assert supervisor.generation == (1 if slot < 2 else 2)
        after = supervisor.handle(exited(1 + slot), 12.0)
        assert after == ([Spawn(5 + slot, slot + 1, 2)] if slot < 2 else [])


def test_last_of_a_rolling_reload_makes_all_ready():
    """That the new generation serves is said once, with its last worker."""
    supervisor = rolling(1)
    assert supervisor.handle(SaidReady(2), 11.0) == [
        Promote(2, 0),
        Drain(1, 30.0),
        AllReady(2),
    ]


def test_two_at_a_time_are_never_more():
    """Those who come and those who leave count together."""
    supervisor = rolling(3, surge=2)
    assert [supervisor.state(n).name for n in (4, 5, 6)] == [
        "STARTING",
        "STARTING",
        "GONE",
    ]
    assert supervisor.handle(SaidReady(5), 11.0) == [Promote(5, 1), Drain(2, 30.0)]
    assert supervisor.handle(SaidReady(4), 11.5) == [Promote(4, 0), Drain(1, 30.0)]
    assert supervisor.handle(exited(1), 12.0) == [Spawn(6, 2, 2)]
    assert supervisor.handle(exited(2), 12.0) == []


def test_more_at_a_time_than_slots_starts_all():
    """And each takes over when it is ready."""
    supervisor = rolling(2, surge=9)
    assert supervisor.handle(SaidReady(3), 11.0) == [Promote(3, 0), Drain(1, 30.0)]
    assert supervisor.handle(SaidReady(4), 11.0) == [
        Promote(4, 1),
        Drain(2, 30.0),
        AllReady(2),
    ]


def test_empty_slot_of_a_rolling_reload_keeps_nobody_waiting():
    """Where nobody leaves, the next is started at once."""
    supervisor = rolling(2)
    supervisor.handle(exited(1), 10.1)  # replaced by 4
    supervisor.handle(exited(4), 10.2)
    assert supervisor.current(0) is None
    assert supervisor.handle(SaidReady(3), 10.3) == [Promote(3, 0), Spawn(5, 1, 2)]


def test_failure_of_a_rolling_reload_says_how_far_it_got():
    """What was replaced stays so, the rest stays as it is, and nothing more starts."""
    supervisor = rolling()
    supervisor.handle(SaidReady(4), 11.0)
    supervisor.handle(exited(1), 12.0)
    assert supervisor.handle(exited(5), 13.0) == [
        ReloadFailed(
            2,
            "worker of slot 1 exited with code 1;"
            " 1 of 3 workers are of generation 2, the others serve on",
        )
    ]
    assert [supervisor.current(slot) for slot in range(3)] == [4, 2, 3]
    assert supervisor.wakeup() is None
    assert supervisor.generation == 1


def test_failure_of_the_first_of_a_rolling_reload_changes_nothing():
    """The same as with all at once."""
    [failed] = rolling().handle(exited(4), 11.0)
    assert failed.why == "worker of slot 0 exited with code 1; generation 1 serves on"


def test_reload_after_a_rolling_one_that_failed_renews_everybody():
    """No slot is left behind, and all who serve meanwhile are named if it fails."""
    supervisor = rolling(2)
    supervisor.handle(SaidReady(3), 11.0)
    supervisor.handle(exited(1), 12.0)
    supervisor.handle(exited(4), 13.0)
    assert supervisor.reload(14.0)[1:] == [Spawn(5, 0, 3)]
    [failed] = supervisor.handle(exited(5), 15.0)
    assert failed.why.endswith("generations 1, 2 serve on")


def test_death_during_a_rolling_reload_is_replaced_in_its_generation():
    """Each slot has a generation of its own meanwhile."""
    supervisor = rolling(2)
    supervisor.handle(SaidReady(3), 11.0)
    supervisor.handle(exited(1), 12.0)
    assert supervisor.handle(exited(3), 13.0)[1:] == [Spawn(5, 0, 2)]
    assert supervisor.handle(exited(2), 13.0)[1:] == [Spawn(6, 1, 1)]


def test_reload_during_a_rolling_one_follows_it():
    """It begins when everybody was renewed and the last of the old has left."""
    supervisor = rolling(2)
    assert supervisor.reload(10.5) == []
    supervisor.handle(SaidReady(3), 11.0)
    assert supervisor.handle(exited(1), 12.0) == [Spawn(4, 1, 2)]
    assert supervisor.handle(SaidReady(4), 13.0)[-1] == AllReady(2)
    assert supervisor.handle(exited(2), 14.0) == [
        Report("reload: starting generation 3"),
        Spawn(5, 0, 3),
    ]


def test_stop_during_a_rolling_reload_starts_nobody():
    """What had yet to be renewed drains with the rest."""
    supervisor = rolling(2)
    assert supervisor.stop(10.5) == [Drain(1, 30.0), Drain(2, 30.0), Stop(3)]
    assert supervisor.handle(exited(1), 11.0) == []
    assert supervisor.handle(exited(3), 11.0) == []
    assert supervisor.handle(exited(2), 11.0) == [Finish()]


# Asking for a reload.


def test_obstacle_to_a_reload_is_named():
    """Whoever asks in vain learns why."""
    supervisor = booting(1)
    assert supervisor.obstacle == "the first generation is still starting"
    supervisor.handle(SaidReady(1), 1.0)
    assert supervisor.obstacle == ""
    supervisor.stop(2.0)
    assert supervisor.obstacle == "the service is stopping"


def test_generation_to_wait_for_is_the_one_that_follows():
    """Who asks while a reload is under way waits for the next, as all who do."""
    supervisor = reloading(1)
    assert supervisor.next_reload == 2
    supervisor.reload(10.5)
    supervisor.reload(10.6)
    assert supervisor.next_reload == 3
    supervisor.handle(exited(2), 11.0)
    assert supervisor.next_reload == 3


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


# More and fewer slots.


def test_more_slots_are_filled_at_once():
    """Each gets a worker of the generation that serves."""
    supervisor = running()
    assert supervisor.resize(4, 20.0) == [Spawn(3, 2, 1), Spawn(4, 3, 1)]
    assert supervisor.handle(SaidReady(3), 21.0) == [Promote(3, 2)]
    assert supervisor.handle(SaidReady(4), 21.0) == [Promote(4, 3)]
    assert not supervisor.reloading


def test_fewer_slots_let_their_workers_drain():
    """The last go; one that ends is not replaced."""
    supervisor = running(3)
    assert supervisor.resize(1, 20.0) == [Drain(2, 30.0), Drain(3, 30.0)]
    assert supervisor.handle(exited(2), 21.0) == []
    assert supervisor.handle(exited(3), 21.0) == []
    assert supervisor.wakeup() is None
    reports, spawn = supervisor.reload(22.0)
    assert (reports, spawn) == (Report("reload: starting generation 2"), Spawn(4, 0, 2))


def test_slot_that_goes_while_it_is_empty_is_not_filled():
    """Its next try is given up, and a worker that starts is stopped."""
    supervisor = running(3)
    supervisor.handle(exited(2), 1.5)
    supervisor.handle(SaidReady(4), 1.6)
    supervisor.handle(exited(4), 1.7)
    assert supervisor.failures(1, 1.7).next_try is not None
    supervisor.handle(exited(3), 10.0)
    assert supervisor.resize(1, 10.0) == [Stop(5)]
    assert supervisor.handle(SaidReady(5), 10.1) == []
    assert supervisor.handle(exited(5), 10.2) == []
    assert supervisor.wakeup() is None


def test_slot_comes_again_while_its_last_worker_leaves():
    """The new one fills it, and the end of the old one changes nothing."""
    supervisor = running()
    supervisor.resize(1, 20.0)
    assert supervisor.resize(2, 21.0) == [Spawn(3, 1, 1)]
    supervisor.handle(SaidReady(3), 22.0)
    assert supervisor.handle(exited(2), 23.0) == []
    assert supervisor.current(1) == 3
