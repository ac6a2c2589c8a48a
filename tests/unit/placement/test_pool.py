"""The slots: what may be handed over is derived each time."""

import pytest

from maitred.placement import Slot


@pytest.mark.parametrize(
    ("ready", "in_flight", "room"),
    [
        (True, 0, True),
        (True, 1, True),
        (True, 2, False),
        (True, 3, False),
        (False, 0, False),
    ],
)
def test_slot_has_room_while_it_is_ready_and_below_its_window(ready, in_flight, room):
    """The window counts what was handed over and not answered."""
    assert Slot(0, window=2, ready=ready, in_flight=in_flight).has_room is room


def test_slot_of_a_late_worker_has_no_room():
    """Whoever does not turn is handed nothing, however little it has."""
    slot = Slot(0, window=2, ready=True, late=True)
    assert not slot.has_room
    slot.late = False
    assert slot.has_room


def test_slot_that_rests_has_no_room():
    """Its worker had no descriptor left; it is asked again in a moment."""
    assert not Slot(0, window=2, ready=True, resting=True).has_room


def test_open_connections_do_not_fill_the_window():
    """What a worker serves was answered long ago."""
    assert Slot(0, window=1, ready=True, open=1000).has_room


def test_load_counts_what_is_under_way():
    """Connections that will be open in a moment count as if they were."""
    assert Slot(0, window=9, in_flight=2, open=3).load == 5


def test_new_slot_is_empty():
    """Until a worker fills it, a slot gets nothing."""
    assert not Slot(0, window=64).has_room
