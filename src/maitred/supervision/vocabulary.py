"""
What happens to workers, and what is to be done about it: the supervisor's two ends.

Events come in and actions go out, as values. Workers are known by id, never by pid.
"""

from __future__ import annotations

from dataclasses import dataclass

# What happened


@dataclass(frozen=True, slots=True)
class SaidReady:
    """The worker can serve."""

    worker: int


@dataclass(frozen=True, slots=True)
class Exited:
    """
    The worker was reaped, or could not even be started.

    ``why`` says how it ended, ``cut`` what it cut off, ``hopeless`` that another would
    end likewise: its application has said why it cannot start, or the system refuses
    what a worker needs.
    """

    worker: int
    why: str
    hopeless: bool = False
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Hung:
    """The worker's event loop has not been heard of for ``silent`` seconds."""

    worker: int
    silent: float


@dataclass(frozen=True, slots=True)
class Worn:
    """The worker has served as many requests as one is to serve, or more."""

    worker: int
    requests: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; see ``Supervisor.wakeup``."""


Event = SaidReady | Exited | Hung | Worn | Tick

# What to do


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker process."""

    worker: int
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Promote:
    """Promote the worker: it fills its slot, and gets connections from now on."""

    worker: int
    slot: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Ask the worker to finish within ``timeout`` seconds and leave."""

    worker: int
    timeout: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the worker to leave (TERM)."""

    worker: int


@dataclass(frozen=True, slots=True)
class Abort:
    """End the worker, and let it show where it is stuck (ABRT)."""

    worker: int
    why: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End the worker (KILL)."""

    worker: int
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """Log ``text`` for the operator; with ``problem`` as a warning."""

    text: str
    problem: bool = False


@dataclass(frozen=True, slots=True)
class AllReady:
    """Every slot has been filled by a ready worker: the start, or a reload, is done."""

    generation: int


@dataclass(frozen=True, slots=True)
class ReloadFailed:
    """Generation ``generation`` was given up; ``why`` also says who serves on."""

    generation: int
    why: str


@dataclass(frozen=True, slots=True)
class Finish:
    """All workers are gone and none is to come; ``hopeless``: none ever could."""

    hopeless: bool = False
    cut: bool = False


Order = Promote | Drain | Stop | Abort | Kill
"What is to be done with a worker that exists."

Action = Order | Spawn | Report | AllReady | ReloadFailed | Finish
