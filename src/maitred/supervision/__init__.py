"""
Which workers should be alive. Pure: events and the time in, actions out.

Read ``lifecycle`` (the life of one worker), then ``supervisor``.
"""

from .lifecycle import WorkerState
from .supervisor import (
    Action,
    AllReady,
    Drain,
    Exited,
    Finish,
    Kill,
    Promote,
    Report,
    SaidReady,
    Spawn,
    Stop,
    Supervisor,
    Tick,
    Times,
)

__all__ = [
    "Action",
    "AllReady",
    "Drain",
    "Exited",
    "Finish",
    "Kill",
    "Promote",
    "Report",
    "SaidReady",
    "Spawn",
    "Stop",
    "Supervisor",
    "Tick",
    "Times",
    "WorkerState",
]
