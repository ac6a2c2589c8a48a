"""
Exhaustive exploration of a small model: every state that any order of steps leads to.

A model is an initial state and a function that gives the steps out of a state. A step
is *owed* if it happens sooner or later in every fair run, and a *chance* if it may
happen or not: a crash, a client who sends more. A state without a step that is owed is
*at rest*.

Invariant: breadth first, so the trace to a bad state is a shortest one. If ``explore``
finds nothing and no run is endless, every fair run ends at rest, and what was asked of
the states at rest holds at the end of every fair run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple


class Step(NamedTuple):
    """One thing that can happen, and what is then."""

    what: str
    owed: bool
    state: Any


class Result(NamedTuple):
    """What an exploration found: how much there is, and the way to what is wrong."""

    states: int
    at_rest: int
    wrong: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        found = f"{self.states} states, {self.at_rest} at rest"
        lines = [f"{n:3}  {what}" for n, what in enumerate(self.trace, 1)]
        return "\n".join([f"{self.wrong or 'nothing wrong'} ({found})", *lines])


def explore(
    start: Hashable,
    steps: Callable[[Any], Iterator[Step]],
    wrong: Callable[[Any], str],
    wrong_at_rest: Callable[[Any], str],
) -> Result:
    """
    Visit every state.

    Args:
        start: The first state.
        steps: Gives the steps out of a state.
        wrong: Says what is wrong with a state; empty: nothing.
        wrong_at_rest: The same, of a state in which nothing is owed.
    """
    came_from: dict[Any, tuple[Any, str]] = {start: (None, "")}
    ahead: dict[Any, list[Any]] = {}
    waiting = deque([start])
    rests = 0
    while waiting:
        state = waiting.popleft()
        found = list(steps(state))
        why = wrong(state)
        if not any(step.owed for step in found):
            rests += 1
            why = why or wrong_at_rest(state)
        if why:
            return Result(len(came_from), rests, why, _way_to(state, came_from))
        ahead[state] = [step.state for step in found]
        for what, _, after in found:
            if after not in came_from:
                came_from[after] = (state, what)
                waiting.append(after)
    endless = _endless(ahead)
    if endless is not None:
        way = _way_to(endless, came_from)
        return Result(len(came_from), rests, "a run without end", way)
    return Result(len(came_from), rests, "", ())


def _way_to(state: Any, came_from: dict[Any, tuple[Any, str]]) -> tuple[str, ...]:
    way = []
    while (before := came_from[state])[1]:
        state, what = before
        way.append(what)
    return tuple(reversed(way))


def _endless(ahead: dict[Any, list[Any]]) -> Any:
    """Give a state that a run can come back to, or None: take away what has an end."""
    behind: dict[Any, int] = dict.fromkeys(ahead, 0)
    for states in ahead.values():
        for state in states:
            behind[state] += 1
    free = [state for state, count in behind.items() if not count]
    while free:
        for state in ahead.pop(free.pop()):
            behind[state] -= 1
            if not behind[state]:
                free.append(state)
    return next(iter(ahead), None)
