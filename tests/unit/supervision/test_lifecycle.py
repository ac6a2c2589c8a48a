"""The life of one worker: the tables are total, and say what they should."""

import itertools

import pytest

from maitred.supervision.lifecycle import (
    IGNORED,
    IMPOSSIBLE,
    TRANSITIONS,
    IllegalTransition,
    WorkerEvent,
    WorkerState,
    next_state,
)

S, E = WorkerState, WorkerEvent
PAIRS = list(itertools.product(S, E))


def name(pair):
    """Name a pair for pytest."""
    return "-".join(each.name for each in pair)


@pytest.mark.parametrize("pair", PAIRS, ids=name)
def test_every_pair_is_in_exactly_one_table(pair):
    """What happens in which state is decided for every pair, once."""
    tables = [TRANSITIONS, IGNORED, IMPOSSIBLE]
    assert sum(pair in table for table in tables) == 1


def test_tables_hold_nothing_else():
    """Nothing is listed that does not exist."""
    assert {*TRANSITIONS, *IGNORED, *IMPOSSIBLE} == set(PAIRS)


@pytest.mark.parametrize("pair", TRANSITIONS, ids=name)
def test_transition_leads_on(pair):
    """A transition goes where the table says, and never stays where it was."""
    assert next_state(*pair) is TRANSITIONS[pair]
    assert TRANSITIONS[pair] is not pair[0]


@pytest.mark.parametrize("pair", sorted(IGNORED, key=name), ids=name)
def test_ignored_event_changes_nothing(pair):
    """What comes too late or twice is no harm."""
    assert next_state(*pair) is pair[0]


@pytest.mark.parametrize("pair", sorted(IMPOSSIBLE, key=name), ids=name)
def test_impossible_event_is_our_bug(pair):
    """What cannot happen is said loudly, with state and event."""
    with pytest.raises(IllegalTransition) as bug:
        next_state(*pair)
    assert str(bug.value) == f"{pair[1].name} while {pair[0].name}"


def test_life_has_one_direction():
    """No worker ever becomes younger."""
    age = {state: number for number, state in enumerate(S)}
    assert all(age[before] < age[after] for (before, _), after in TRANSITIONS.items())


def test_only_what_said_ready_is_ready():
    """There is one way to be handed connections."""
    ways = [pair for pair, after in TRANSITIONS.items() if after is S.READY]
    assert ways == [(S.STARTING, E.SAID_READY)]


def test_every_state_can_end():
    """A worker may die at any moment."""
    for state in S:
        if state is not S.GONE:
            assert next_state(state, E.EXITED) is S.GONE
