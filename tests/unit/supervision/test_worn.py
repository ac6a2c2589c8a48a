"""Workers that have served enough: one at a time gets an heir."""

from maitred.supervision import (
    Drain,
    Exited,
    Promote,
    Report,
    SaidReady,
    Spawn,
    Stop,
    Supervisor,
    Times,
    Worn,
)


class Most:
    """Draws the highest number: the first backoff is 0.5 s, the next 1 s."""

    def uniform(self, _low, high):
        """Give the upper end."""
        return high


def running(slots=2):
    """Make a supervisor whose workers 1, 2, ... are ready."""
    supervisor = Supervisor(slots, Times(), Most())
    supervisor.start(0.0)
    for worker in range(1, slots + 1):
        supervisor.handle(SaidReady(worker), 1.0)
    return supervisor


def worn(slots=2):
    """Make one whose worker 1 is worn since 10.0: worker SLOTS + 1 is its heir."""
    supervisor = running(slots)
    supervisor.handle(Worn(1, 500), 10.0)
    return supervisor


def test_heir_is_started_beside_who_is_worn():
    """Of the same generation, for the same slot; it is no reload."""
    supervisor = running()
    assert supervisor.handle(Worn(1, 500), 10.0) == [
        Report("worker of slot 0 has served 500 requests: replacing it"),
        Spawn(3, 0, 1),
    ]
    assert supervisor.current(0) == 1
    assert not supervisor.reloading


def test_heir_that_is_ready_has_the_slot_and_then_the_other_leaves():
    """In this order."""
    assert worn().handle(SaidReady(3), 11.0) == [
        Promote(3, 0),
        Report("worker of slot 0 is replaced"),
        Drain(1, 30.0),
    ]


def test_there_are_never_two_at_a_time():
    """Not until the one before has left."""
    supervisor = worn()
    assert supervisor.handle(Worn(1, 501), 10.5) == []
    assert supervisor.handle(Worn(2, 500), 10.5) == []
    supervisor.handle(SaidReady(3), 11.0)
    assert supervisor.handle(Worn(2, 510), 11.5) == []
    supervisor.handle(Exited(1, "exited with code 0"), 12.0)
    assert Spawn(4, 1, 1) in supervisor.handle(Worn(2, 520), 12.5)


def test_nobody_is_replaced_where_somebody_is_missing():
    """A slot that is not filled is enough to wait for."""
    supervisor = running()
    supervisor.handle(Exited(2, "was ended by SIGKILL"), 10.0)
    assert supervisor.handle(Worn(1, 500), 10.5) == []


def test_heir_that_does_not_come_up_is_tried_again_later():
    """What serves, serves on, and no reload has failed."""
    supervisor = worn()
    assert supervisor.handle(Exited(3, "exited with code 1"), 11.0) == [
        Report(
            "new worker of slot 0 exited with code 1 before it was ready; next try in"
            " 0.5 s",
            problem=True,
        )
    ]
    assert supervisor.current(0) == 1
    assert supervisor.handle(Worn(1, 600), 11.4) == []
    assert Spawn(4, 0, 1) in supervisor.handle(Worn(1, 600), 11.5)
    supervisor.handle(Exited(4, "exited with code 1"), 12.0)
    assert supervisor.handle(Worn(1, 600), 12.9) == []
    assert supervisor.handle(Worn(1, 600), 13.0)


def test_reload_waits_until_who_is_worn_has_left():
    """Otherwise three would be alive for a slot."""
    supervisor = worn()
    assert supervisor.reload(10.5) == []
    assert supervisor.reloading
    supervisor.handle(SaidReady(3), 11.0)
    said = supervisor.handle(Exited(1, "exited with code 0"), 12.0)
    assert said[1:] == [Spawn(4, 0, 2), Spawn(5, 1, 2)]


def test_reload_waits_for_an_heir_that_dies():
    """And begins then, with code that may be better."""
    supervisor = worn()
    supervisor.reload(10.5)
    said = supervisor.handle(Exited(3, "exited with code 1"), 11.0)
    assert said[2:] == [Spawn(4, 0, 2), Spawn(5, 1, 2)]


def test_nobody_is_replaced_during_a_reload():
    """The reload replaces everybody."""
    supervisor = running()
    supervisor.reload(10.0)
    assert supervisor.handle(Worn(1, 500), 10.5) == []


def test_heir_fills_a_slot_that_was_left_meanwhile():
    """Whoever was started for the dead one leaves."""
    supervisor = worn(1)
    assert Spawn(3, 0, 1) in supervisor.handle(Exited(1, "was ended by SIGKILL"), 10.5)
    assert supervisor.handle(SaidReady(2), 11.0) == [
        Promote(2, 0),
        Report("worker of slot 0 is replaced"),
        Stop(3),
    ]


def test_heir_of_a_slot_that_goes_leaves_too():
    """Fewer workers are wanted."""
    supervisor = running()
    supervisor.handle(Worn(2, 500), 10.0)
    assert supervisor.resize(1, 10.5) == [Drain(2, 30.0), Stop(3)]
    assert supervisor.handle(SaidReady(3), 11.0) == []
    for worker in (2, 3):
        assert supervisor.handle(Exited(worker, "exited with code 0"), 12.0) == []


def test_nobody_is_replaced_at_the_end():
    """Who stops starts nothing."""
    supervisor = running()
    supervisor.stop(10.0)
    assert supervisor.handle(Worn(1, 500), 10.5) == []
    assert supervisor.handle(Worn(99, 500), 10.5) == []
