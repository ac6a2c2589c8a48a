"""The pulse: what stands on a scoreboard, look after look, and what is made of it."""

import pytest

from maitred.supervision import Pulse


def pulse_after(*looks):
    """Make a pulse with an interval of 0.5 s that saw *looks*: (beat, now)."""
    pulse = Pulse(0.5)
    for beat, now in looks:
        pulse.look(beat, now)
    return pulse


def test_worker_that_beats_is_never_silent():
    """Every look finds something new."""
    pulse = pulse_after(*((beat, beat / 2) for beat in range(1, 100)))
    assert pulse.silent == 0.0
    assert not pulse.late


def test_one_look_that_finds_nothing_new_is_not_late():
    """The beat may have come just after the look."""
    pulse = pulse_after((1, 0.0), (1, 0.5))
    assert pulse.silent == 0.5
    assert not pulse.late


def test_two_looks_that_find_nothing_new_are_late():
    """A beat is missing, and silence goes on being counted."""
    pulse = pulse_after((1, 0.0), (1, 0.5), (1, 1.0))
    assert pulse.late
    pulse.look(1, 1.5)
    assert pulse.silent == 1.5


def test_beat_ends_the_silence():
    """Whoever is heard of again is as good as new."""
    pulse = pulse_after((1, 0.0), (1, 0.5), (1, 1.0), (2, 1.5))
    assert pulse.silent == 0.0
    assert not pulse.late


@pytest.mark.parametrize("before", [0, 7])
def test_worker_without_a_heartbeat_is_never_late(before):
    """It never began to beat, or it has said that it will no more."""
    looks = [(0, now / 2) for now in range(1, 100)]
    assert not pulse_after((before, 0.0), *looks).late


def test_time_in_which_nobody_looked_is_not_counted():
    """The machine slept, or the master was stopped as well."""
    pulse = pulse_after((1, 0.0), (1, 3600.0))
    assert pulse.silent == 0.5
    pulse.look(1, 7200.0)
    assert pulse.silent == 1.0


def test_looks_that_come_early_count_for_less():
    """What counts is the time that has passed."""
    pulse = pulse_after((1, 0.0), (1, 0.25), (1, 0.25))
    assert pulse.silent == 0.25
