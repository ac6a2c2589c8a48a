"""
What is asked of the contenders: one table, a line for each load.

A load takes a port and a number of seconds, and gives the generator's figures.
"""

from collections.abc import Callable
from dataclasses import dataclass

from generators import head, load, sessions, wrk

SESSIONS = 32


@dataclass(frozen=True)
class Load:
    """One kind of traffic."""

    name: str
    title: str
    run: Callable[[int, float], dict]
    "(port, seconds) -> figures"
    generator: str


def heads(port, path, count=SESSIONS, fields=()):
    return [head(path, name, port, fields) for name in sessions(count)]


def keepalive(port, seconds):
    return load("keepalive", port, SESSIONS, seconds, heads(port, "/"))


def hop(port, seconds):
    return wrk(port, SESSIONS, seconds, "/", sessions(SESSIONS))


def connect(port, seconds):
    return wrk(port, SESSIONS, seconds, "/", sessions(SESSIONS), CLOSE)


CLOSE = {"connection": "close"}

TABLE = (
    Load("keepalive", "keep-alive, 32 sessions", keepalive, "own"),
    Load("hop", "keep-alive, every request another session", hop, "wrk"),
    Load("connect", "a new connection for each request", connect, "wrk"),
)
LOADS = {each.name: each for each in TABLE}
