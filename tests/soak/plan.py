"""
What a run of the long mixed load is: its settings, its clients, its operations. Pure.

Everything is drawn from the seed: the same seed makes the same plan. Which worker an
operation meets is known only when it is carried out, so the plan names it by a number.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

KEEP_ALIVE: Final = 2.0
HEAD_TIMEOUT: Final = 3.0
DRAIN: Final = 4.0
WAIT: Final = 10.0
HANG: Final = 6.0
WORKERS: Final = 3
MOST_WORKERS: Final = 4
SETTINGS: Final = (
    *("--affinity", "header:x-session", "--affinity", "cookie:cart,learn"),
    *("--timeout-keep-alive", f"{KEEP_ALIVE:g}", "--head-timeout", f"{HEAD_TIMEOUT:g}"),
    *("--drain-timeout", f"{DRAIN:g}", "--wait-timeout", f"{WAIT:g}"),
    *("--hang-timeout", f"{HANG:g}", "--grace-period", "2"),
    *("--log-format", "plain", "--access-log-format", "plain"),
)


class Profile(NamedTuple):
    """How maitred is started, and which operations it is known to refuse."""

    options: tuple[str, ...]
    refused: frozenset[str] = frozenset()


PROFILES: Final = {
    "one": Profile(()),
    "acceptors": Profile(("--acceptors", "2"), frozenset({"upgrade"})),
    "sessions": Profile(
        ("--drain", "sessions"), frozenset({"scale", "drain", "undrain"})
    ),
    "surge": Profile(("--surge", "1")),
    "h11": Profile(("--http", "h11")),
}

# How many clients of each kind there are, in a whole load.
CLIENTS: Final = {
    "kept": 8,
    "learning": 6,
    "new": 4,
    "hopping": 6,
    "pipelined": 3,
    "events": 3,
    "upload": 4,
    "websocket": 4,
    "reset": 3,
    "half_closed": 2,
    "slow_head": 4,
    "http10": 2,
    "idle": 5,
}

# How often each operation is drawn.
OPERATIONS: Final = {
    "reload": 10,
    "kill": 14,
    "upgrade": 8,
    "scale": 8,
    "drain": 8,
    "undrain": 8,
    "move": 20,
    "pause": 12,
    "long_pause": 6,
    "hang": 1,
    "more": 3,
    "fewer": 3,
}


class Operation(NamedTuple):
    """Something that is done to the service ``at`` seconds after the start."""

    at: float
    name: str
    number: int
    "Which worker, key or count it is, once it is known how many there are."
    seconds: float
    "How long a worker is stopped."


def profile_of(seed: int) -> str:
    """Return the name of the profile that *seed* stands for."""
    return list(PROFILES)[(seed - 1) % len(PROFILES)]


def operations(seed: int, seconds: float, profile: Profile) -> list[Operation]:
    """
    Return the operations of a run of *seconds*, in the order of their times.

    Three in ten begin while the one before them has hardly begun.
    """
    chance = random.Random(f"operations {seed}")
    names = [name for name in OPERATIONS if name not in profile.refused]
    weights = [OPERATIONS[name] for name in names]
    drawn = []
    at = 0.0
    while True:
        hurry = chance.random() < 0.3
        at += chance.uniform(0, 0.15) if hurry else chance.uniform(0.4, 2.6)
        if at > seconds:
            return drawn
        (name,) = chance.choices(names, weights)
        seconds_stopped = {
            "pause": chance.uniform(0.05, 0.8),
            "long_pause": chance.uniform(KEEP_ALIVE + 0.3, KEEP_ALIVE + 1.5),
            "hang": HANG + 30,  # it ends when the master has killed the worker
        }.get(name, 0)
        drawn.append(
            Operation(at, name, chance.randrange(1 << 20), round(seconds_stopped, 3))
        )
