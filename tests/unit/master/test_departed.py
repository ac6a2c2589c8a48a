"""What a dead acceptor had counted stays in the sums."""

from maitred.acceptor.counters import Counters
from maitred.master.departed import Departed


def report(accepted):
    """Give what an acceptor says that accepted as many, and has one worker."""
    counters = Counters(accepted=accepted)
    counters.refused["no_worker"] = 1
    counters.times.take.note(0.5)
    return {
        "connections": counters.statistics(),
        "times": counters.times.statistics(),
        "done": [[0, {"handed_over": 5}]],
        "workers": [
            {"slot": 0, "in_flight": 1, "handed_over": 2, "hops_in": 0, "hops_out": 1}
        ],
        "listeners": [["http://127.0.0.1:8000", accepted]],
        "dropped_log_lines": 3,
    }


def test_last_reports_are_summed_up():
    """Its share of what living workers did belongs to it."""
    departed = Departed()
    departed.add(report(7))
    departed.add(report(4))
    departed.add({})  # it was never asked
    assert departed.counters.accepted == 11
    assert departed.counters.refused == {"no_worker": 2}
    assert sum(departed.counters.times.take.counts) == 2
    assert departed.done.of(0) == {"handed_over": 14, "hops_in": 0, "hops_out": 2}
    assert departed.accepted == {"http://127.0.0.1:8000": 11}
    assert departed.dropped == 6
