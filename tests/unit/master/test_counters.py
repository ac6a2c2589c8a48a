"""The counters, as status shows them."""

import json

from maitred.acceptor.counters import Counters


def test_everything_begins_at_nothing():
    """A master that has just started has counted nothing."""
    counts = Counters().statistics()
    assert counts.pop("refused") == counts.pop("refused_by_workers") == {}
    assert set(counts.values()) == {0}


def test_statistics_are_a_snapshot_by_name():
    """What is counted later does not change what was said."""
    counters = Counters()
    counters.accepted += 2
    counters.refused["tls"] += 1
    said = counters.statistics()
    counters.accepted += 1
    counters.refused["tls"] += 1
    assert said["accepted"] == 2
    assert said["refused"] == {"tls": 1}


def test_statistics_can_be_told_to_programs():
    """Every count is a number, or a table of numbers."""
    assert json.loads(json.dumps(Counters().statistics())) == Counters().statistics()
