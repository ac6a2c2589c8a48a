"""
What is asked of the contenders: one table, a line for each load.

Traffic takes a port and a number of seconds, and gives the generator's figures.
"""

from collections.abc import Callable
from dataclasses import dataclass

from contenders import descriptors
from generators import WEBSOCKET, head, holding, load, sessions, wrk
from servers import serving

WORKERS = 2
WARM_UP = 0.5
SESSIONS = 32
LARGE_AT_ONCE = 8
BUSY = 100
IDLE_START = 1_000
CLOSE = {"connection": "close"}


@dataclass(frozen=True)
class Load:
    """One kind of traffic."""

    name: str
    title: str
    traffic: Callable[[int, float], dict]
    "(port, seconds) -> figures"
    generator: str
    contenders: tuple[str, ...] | None = None
    "Whom to ask; everybody if not said."

    def run(self, contender, seconds, directory):
        """Put *contender* up, see that it answers rightly, and measure it."""
        with serving(contender, WORKERS, directory) as served:
            served.check(affinity=contender.affinity)
            self.traffic(served.port, min(seconds, WARM_UP))
            found = self.traffic(served.port, seconds)
            if contender.affinity:
                found["split"] = served.split(sessions(SESSIONS))
            return found


def heads(port, path, count=SESSIONS, fields=()):
    return [head(path, name, port, fields) for name in sessions(count)]


def keepalive(port, seconds, count=SESSIONS):
    return load("keepalive", port, count, seconds, heads(port, "/", count))


def hop(port, seconds):
    return wrk(port, SESSIONS, seconds, "/", sessions(SESSIONS))


def connect(port, seconds):
    return wrk(port, SESSIONS, seconds, "/", sessions(SESSIONS), CLOSE)


def echo(port, seconds):
    requests = heads(port, "/", fields=WEBSOCKET)
    return load("echo", port, SESSIONS, seconds, requests)


def large(port, seconds):
    requests = heads(port, "/large", LARGE_AT_ONCE)
    return load("keepalive", port, LARGE_AT_ONCE, seconds, requests)


def idle(port, seconds):
    """Requests of 100 sessions, while others hold as many WebSockets as we may."""
    count = idle_websockets()
    requests = [
        head("/", name, port, WEBSOCKET) for name in sessions(count, IDLE_START)
    ]
    with holding(port, count, requests, status=101) as held:
        found = keepalive(port, seconds, BUSY)
    found["errors"] += held["dropped"]
    return {**found, "idle": count}


def idle_websockets():
    # A proxy needs two descriptors for each.
    return min(10_000, (descriptors() - 1_000) // 2)


TABLE = (
    Load("keepalive", "keep-alive, 32 sessions", keepalive, "own"),
    Load("hop", "keep-alive, every request another session", hop, "wrk"),
    Load("connect", "a new connection for each request", connect, "wrk"),
    Load("echo", "WebSocket echo, 32 sessions", echo, "own"),
    Load("large", "responses of 10 MB, 8 sessions", large, "own"),
    Load(
        "idle",
        f"keep-alive, 100 sessions, beside {idle_websockets():,} idle WebSockets",
        idle,
        "own",
    ),
)
LOADS = {each.name: each for each in TABLE}
