"""
The life of one worker, as a table.

Everything that decides a worker's state lives here, and nothing here knows about
processes, sockets or time.

Invariants: only a READY worker is handed connections. The tables are total: every
pair of state and event is a transition, is ignored, or is impossible; the tests count.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class WorkerState(Enum):
    """The state of a worker."""

    STARTING = auto()  # spawned; has not said READY
    READY = auto()  # may be handed connections
    DRAINING = auto()  # keeps what it has, gets nothing new
    STOPPING = auto()  # asked or made to leave; the grace period is running
    GONE = auto()  # reaped


class WorkerEvent(Enum):
    """An event in the life of a worker."""

    SAID_READY = auto()
    DRAIN_ASKED = auto()
    STOP_ASKED = auto()
    HUNG = auto()  # its event loop does not turn
    EXITED = auto()


S, E = WorkerState, WorkerEvent

TRANSITIONS: Final[Mapping[tuple[WorkerState, WorkerEvent], WorkerState]] = {
    (S.STARTING, E.SAID_READY): S.READY,
    (S.STARTING, E.DRAIN_ASKED): S.STOPPING,  # it has nothing to finish
    (S.STARTING, E.STOP_ASKED): S.STOPPING,
    (S.STARTING, E.EXITED): S.GONE,
    (S.READY, E.DRAIN_ASKED): S.DRAINING,
    (S.READY, E.STOP_ASKED): S.STOPPING,
    (S.READY, E.HUNG): S.STOPPING,
    (S.READY, E.EXITED): S.GONE,
    (S.DRAINING, E.HUNG): S.STOPPING,
    (S.DRAINING, E.STOP_ASKED): S.STOPPING,
    (S.DRAINING, E.EXITED): S.GONE,
    (S.STOPPING, E.EXITED): S.GONE,
}

IGNORED: Final = frozenset(
    {
        (S.STOPPING, E.SAID_READY),  # it said so before it heard of the stop
        (S.STARTING, E.HUNG),  # it has until its deadline to start
        (S.DRAINING, E.DRAIN_ASKED),
        (S.STOPPING, E.HUNG),
        (S.GONE, E.HUNG),
        (S.STOPPING, E.DRAIN_ASKED),
        (S.STOPPING, E.STOP_ASKED),
        (S.GONE, E.DRAIN_ASKED),
        (S.GONE, E.STOP_ASKED),
    }
)

IMPOSSIBLE: Final = frozenset(
    {
        (S.READY, E.SAID_READY),  # the channel lets a worker say it once
        (S.DRAINING, E.SAID_READY),
        (S.GONE, E.SAID_READY),  # its channel is closed
        (S.GONE, E.EXITED),  # it is reaped once
    }
)


class IllegalTransition(Exception):
    """Something happened to a worker that cannot happen; a bug of ours."""


def next_state(state: WorkerState, event: WorkerEvent) -> WorkerState:
    """
    Return the state of a worker that was in *state* when *event* happened.

    Raises:
        IllegalTransition: The pair is impossible.
    """
    if (state, event) in IGNORED:
        return state
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"{event.name} while {state.name}") from None
