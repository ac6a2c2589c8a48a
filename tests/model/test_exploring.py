"""The exploration finds what is wrong, the shortest way to it, and endless runs."""

from __future__ import annotations

from model.exploring import Step, explore


def counting(most: int, owed: bool = True):
    """Give the steps of a counter that goes up by one or two."""
    return lambda n: (Step(f"+{k}", owed, n + k) for k in (1, 2) if n + k <= most)


def right(_state: object) -> str:
    """Find nothing wrong."""
    return ""


def test_every_state_is_visited():
    """A counter to ten has eleven states, and rests at its end."""
    result = explore(0, counting(10), right, right)
    assert result == (11, 1, "", ())
    assert str(result) == "nothing wrong (11 states, 1 at rest)"


def test_the_trace_is_a_shortest_one():
    """Four is two steps away."""
    result = explore(0, counting(10), lambda n: "four" if n == 4 else "", right)
    assert (result.wrong, result.trace) == ("four", ("+2", "+2"))
    assert str(result).endswith("  1  +2\n  2  +2")


def test_what_rests_is_asked_more():
    """A state without a step that is owed is one in which a run may end."""
    for owed, rest in (True, 3), (False, 0):
        found = explore(0, counting(3, owed), right, lambda n: f"rests at {n}")
        assert found.wrong == f"rests at {rest}"


def test_a_run_without_end_is_found():
    """A step back makes a circle."""
    result = explore(0, lambda n: [Step("turn", True, (n + 1) % 3)], right, right)
    assert result.wrong == "a run without end"
