"""
What is promised of a connection, for each failpoint and each thing that happens there.

The tests hold the service to it; docs/explanation/failpoints.md is made from it.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Action(enum.Enum):
    """What happens at the failpoint, and to whom."""

    KILL = "kill"
    "whoever is there is killed with -9"
    STOP = "stop"
    "it is stopped; later it goes on"
    EMFILE = "EMFILE"
    "it has no descriptor from the next one on; later it has"
    RESET = "RST"
    "the client resets the connection at that very moment"


class Outcome(enum.Enum):
    """What becomes of the request."""

    ANSWERED = "answered"
    SAME = "answered by the same worker"
    OTHER = "answered by another worker"
    OWNER = "answered by the worker it belongs to"
    TOLD = "502; then closed"
    CLOSED = "closed; never started"
    LEFT = "started once at most"


class Promise(NamedTuple):
    """What becomes of a request when one of four things happens at a failpoint."""

    kill: Outcome
    stop: Outcome
    emfile: Outcome
    reset: Outcome

    def of(self, action: Action) -> Outcome:
        """Return what becomes of the request when *action* is done."""
        return self[list(Action).index(action)]


MASTER = Promise(Outcome.CLOSED, Outcome.ANSWERED, Outcome.ANSWERED, Outcome.LEFT)
WORKER = Promise(Outcome.OTHER, Outcome.SAME, Outcome.SAME, Outcome.LEFT)
RETURN = Promise(Outcome.OWNER, Outcome.OWNER, Outcome.OWNER, Outcome.LEFT)

PROMISES = {
    "accept-queue": MASTER,
    "queue-sendmsg": MASTER,
    "sendmsg-recvmsg": WORKER._replace(emfile=Outcome.OTHER),
    "recvmsg-ack": WORKER,
    "ack-read": WORKER,
    "read-app": WORKER,
    "response-keepalive": WORKER._replace(kill=Outcome.TOLD),
    "keepalive-return": RETURN,
    "return-master": RETURN._replace(kill=Outcome.CLOSED),
}
