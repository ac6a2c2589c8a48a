"""
Which workers should be alive. Pure: events and the time in, actions out.

Read ``lifecycle`` (the life of one worker), ``vocabulary`` (what happens, and what is
to be done), then ``supervisor``; ``heartbeat`` says whether an event loop turns.
"""

from .heartbeat import Pulse
from .lifecycle import WorkerState
from .supervisor import Failures, Supervisor, Times
from .vocabulary import (
    Abort,
    Action,
    AllReady,
    Drain,
    Exited,
    Finish,
    Hung,
    Kill,
    Order,
    Promote,
    ReloadFailed,
    Report,
    SaidReady,
    Spawn,
    Stop,
    Tick,
    Worn,
)

__all__ = [
    "Abort",
    "Action",
    "AllReady",
    "Drain",
    "Exited",
    "Failures",
    "Finish",
    "Hung",
    "Kill",
    "Order",
    "Promote",
    "Pulse",
    "ReloadFailed",
    "Report",
    "SaidReady",
    "Spawn",
    "Stop",
    "Supervisor",
    "Tick",
    "Times",
    "WorkerState",
    "Worn",
]
