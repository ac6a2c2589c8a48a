"""
The workers as placement sees them. Pure.

A slot is the place a worker fills; it survives the worker. What the shell knows of
its worker (is it ready, how loaded is it) stands here as plain numbers; whether a
slot may be given a connection is derived from them each time, never kept.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Slot:
    """
    One slot and the load of its worker.

    Args:
        index: The slot's number, from 0.
        window: Connections that may be handed over and unanswered at once.
        ready: Its worker said READY and is not leaving.
        late: Its worker has missed a heartbeat.
        in_flight: Placed here and not yet answered with TAKEN or REFUSED.
        open: Connections that the worker serves, by its own account.
        resting: Its worker had no descriptor left a moment ago.
        elder: Nothing new comes here: its worker, of the old generation, keeps the
            sessions it has; or the slot waits for the next generation.
        drained: Nothing new comes here, because an operator says so.
        closed: Nobody fills it any more: there are fewer slots now.
    """

    index: int
    window: int
    ready: bool = False
    late: bool = False
    in_flight: int = 0
    open: int = 0
    resting: bool = False
    elder: bool = False
    drained: bool = False
    closed: bool = False

    @property
    def has_room(self) -> bool:
        """Whether a connection may be handed to the slot's worker now."""
        able = self.ready and not self.late and not self.resting
        return able and self.in_flight < self.window

    @property
    def takes_new(self) -> bool:
        """Whether the slot may be given a connection that no slot owns yet."""
        return self.has_room and not (self.elder or self.drained or self.closed)

    @property
    def load(self) -> int:
        """Number of connections that the slot has, those in flight included."""
        return self.open + self.in_flight
