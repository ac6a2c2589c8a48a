"""What has happened to a service, as top notes it."""

from maitred.cli.happened import Happened
from maitred.master.events import MOST, Events, What


def lines(happened, events, pid=1):
    """Return what is new, without the time."""
    return [
        line.split(" ", 1)[1] for line in happened.news({"pid": pid, **events.state()})
    ]


def test_each_event_is_told_once():
    """Also when two have the same time, and when many came between two looks."""
    events, happened = Events(lambda: 1.0), Happened()
    events.note(What.START, "generation 1 serves")
    assert lines(happened, events) == ["start: generation 1 serves"]
    assert lines(happened, events) == []
    for text in ("one", "two"):
        events.note(What.CRASH, text)
    assert lines(happened, events) == ["crash: one", "crash: two"]
    for number in range(2 * MOST):
        events.note(What.DRAIN, str(number))
    assert len(lines(happened, events)) == MOST
    assert lines(happened, events) == []


def test_another_master_begins_anew():
    """It has other events, even if they are as many."""
    happened = Happened()
    for pid in (1, 2):
        events = Events()
        events.note(What.START, "generation 1 serves")
        assert lines(happened, events, pid) == ["start: generation 1 serves"]


def test_line_is_one_line():
    """The first of a traceback, and nothing that a terminal would obey."""
    events = Events()
    events.note(What.RELOAD, "reload failed: \x1b[2J oh\nTraceback")
    assert lines(Happened(), events) == ["reload: reload failed: \\x1b[2J oh"]
