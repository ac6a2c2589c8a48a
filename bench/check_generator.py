"""
Compare our own generator with wrk, where both can do the same.

What each can draw from one and the same server, turn by turn. They agree where wrk
needs one thread. A session of its own for each connection costs it a thread for each,
which is why we do that ourselves; and it copies long bodies, which we let the kernel
drop.
"""

import tempfile
from pathlib import Path
from statistics import median

from contenders import CONTENDERS
from generators import load, sessions, wrk
from loads import CLOSE, LARGE_AT_ONCE, SESSIONS, WORKERS, heads
from servers import serving


def ours(mode, path, connections, fields=()):
    return lambda port, seconds: load(
        mode, port, connections, seconds, heads(port, path, connections, fields)
    )


def theirs(path, connections, fields=(), *, own=False):
    return lambda port, seconds: wrk(
        port, connections, seconds, path, sessions(connections), fields, own=own
    )


PAIRS = {
    "own session for each connection": (
        ours("keepalive", "/", SESSIONS),
        theirs("/", SESSIONS, own=True),
    ),
    "random session for each request": (
        ours("hop", "/", SESSIONS),
        theirs("/", SESSIONS),
    ),
    "new connection for each request": (
        ours("connect", "/", SESSIONS, CLOSE),
        theirs("/", SESSIONS, CLOSE),
    ),
    "10 MB": (
        ours("keepalive", "/large", LARGE_AT_ONCE),
        theirs("/large", LARGE_AT_ONCE, own=True),
    ),
}


def check_generator(seconds, rounds, name="uvicorn"):
    """Give the lines of a table."""
    yield f"Requests/s that each draws from {CONTENDERS[name].title}, medians:"
    yield ""
    yield "| | our own | wrk | ratio | p99 ms | p99 ms of wrk |"
    yield "|---|---:|---:|---:|---:|---:|"
    with (
        tempfile.TemporaryDirectory(prefix="maitred-bench-") as scratch,
        serving(CONTENDERS[name], WORKERS, Path(scratch)) as served,
    ):
        for title, pair in PAIRS.items():
            turns = [
                [each(served.port, seconds) for each in pair] for _ in range(rounds)
            ]
            own, other = (
                median(each["requests"] / each["seconds"] for each in side)
                for side in zip(*turns, strict=True)
            )
            late, other_late = (
                median(each["p99_ms"] for each in side)
                for side in zip(*turns, strict=True)
            )
            yield (
                f"| {title} | {own:,.0f} | {other:,.0f} | {own / other:.2f}"
                f" | {late:.2f} | {other_late:.2f} |"
            )
