"""
Micro: what the parts of maitred cost, each compared with something next to it.

    python -m bench.micro [--rounds N] [--part P]

passing   descriptors a second through Channel, the standard library, and C
sniffing  the master's look at a head: small, a browser's, always the same, always new
hop       one connection whose requests alternate between the sessions of two workers
check     the worker's look at each request: a connection with affinity, one without

In each round everything of a part is measured once, one after the other; what counts is
the ratio, or the difference, within a round.
"""

import argparse
import contextlib
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from bench import asking, cost, passing

from maitred.routing import Router
from maitred.routing.spec import affinity

Figures = tuple[float, ...]
Found = dict[str, list[Figures]]

PASSED = 64_000
BATCHES = {"one at a time": 1, "8 at once": 8, "64 at once": 64, "250 at once": 250}
BATCHED, ALONE = "Channel, 64 at once", "C, one at a time"
BARE = "socket.send_fds, 64 at once"
"Without messages and owners: no channel in Python can be faster."
TARGET = 4.0
"Times as many descriptors a second through Channel as C passes one at a time."
HEADS = 5_000


def measure(ways: Mapping[str, Callable[[], Figures]], rounds: int) -> Found:
    """Take the figures of *ways* in each round, after one that does not count."""
    found: Found = {name: [] for name in ways}
    for number in range(-1, rounds):
        for name in cost.in_turn(number, ways):
            figures = ways[name]()
            if number >= 0:
                found[name].append(figures)
    return found


def ratios(found: Found, name: str, base: str) -> list[float]:
    """Give the first figure of *name* as a multiple of that of *base*, by round."""
    return [a[0] / b[0] for a, b in zip(found[name], found[base], strict=True)]


# Passing


def pass_descriptors(rounds: int) -> str:
    """Say how many descriptors a second each way passes."""
    with cost.compiled(cost.REFERENCE / "passing.c") as program:
        ways = {}
        for name, batch in BATCHES.items():
            by_c = functools.partial(passing.c_per_second, program, batch)
            through_channel = functools.partial(
                passing.per_second, passing.channel(batch)
            )
            through_fds = functools.partial(passing.per_second, passing.send_fds(batch))
            ways |= {f"C, {name}": by_c, f"Channel, {name}": through_channel,
                     f"socket.send_fds, {name}": through_fds}  # fmt: skip
        ways["multiprocessing.reduction, one at a time"] = functools.partial(
            passing.per_second, passing.send_handle()
        )
        found = measure(
            {name: lambda way=way: (way(PASSED),) for name, way in ways.items()}, rounds
        )
    head = ["passing", "descriptors a second", f"ratio to {ALONE}"]
    lines = [
        [name, cost.spread([each for (each,) in figures], 0),
         cost.spread(ratios(found, name, ALONE))]
        for name, figures in found.items()
    ]  # fmt: skip
    ratio, most = (
        statistics.median(ratios(found, name, ALONE)) for name in (BATCHED, BARE)
    )
    verdict = "met" if ratio >= TARGET else "missed"
    return (
        f"{cost.table(head, lines)}\n\n"
        f"{BATCHED} / {ALONE}: {ratio:.2f}, target {TARGET}: {verdict}."
        f" {BARE} / {ALONE}: {most:.2f}"
    )


# Sniffing

SMALL = b"GET / HTTP/1.1\r\nHost: example.org\r\nX-Session: %020d\r\n\r\n"
BROWSER = (
    b"GET /rooms/lobby?since=17 HTTP/1.1\r\n"
    b"Host: example.org\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\n"
    b"X-Session: %020d\r\n"
    b"Connection: keep-alive\r\n"
    b"Cookie: theme=dark; consent=1; _ga=GA1.2.1234567890\r\n"
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"Cache-Control: max-age=0\r\n\r\n"
)


def sniff(rounds: int) -> str:
    """Say how long the master looks at a head."""
    router = Router([affinity("header:x-session")])
    numbers = itertools.count(1)

    def look(head: bytes, *, same: bool) -> Figures:
        heads = [head % (0 if same else next(numbers)) for _ in range(HEADS)]
        start = time.perf_counter()
        for each in heads:
            router.sniff(each, b"127.0.0.1")
        return ((time.perf_counter() - start) / HEADS * 1e6,)

    ways = {
        f"{name} ({len(head % 0)} bytes), {which}": functools.partial(
            look, head, same=same
        )
        for name, head in {"small": SMALL, "a browser's": BROWSER}.items()
        for which, same in {"always the same": True, "each another": False}.items()
    }
    found = measure(ways, rounds)
    first = next(iter(ways))
    lines = [
        [name, cost.spread([each for (each,) in figures]),
         cost.spread(ratios(found, name, first))]
        for name, figures in found.items()
    ]  # fmt: skip
    return cost.table(["sniffing", "us a head", "ratio to the first"], lines)


# Requests


def compare(
    part: str,
    asked: Callable[
        [], contextlib.AbstractContextManager[Mapping[str, Callable[[], Figures]]]
    ],
    rounds: int,
) -> str:
    """Say what a request costs in each of two ways, and how much more in the second."""
    with asked() as ways:
        found = measure(ways, rounds)
    lines = [
        [name, *(cost.spread(column, 1) for column in zip(*figures, strict=True))]
        for name, figures in found.items()
    ]
    first, second = found.values()
    more = [
        [b - a for a, b in zip(one, two, strict=True)]
        for one, two in zip(first, second, strict=True)
    ]
    lines.append(
        ["more", *(cost.spread(column, 1) for column in zip(*more, strict=True))]
    )
    return cost.table([part, "us a request", "CPU us a request"], lines)


PARTS = {
    "passing": pass_descriptors,
    "sniffing": sniff,
    "hop": functools.partial(compare, "hop", asking.hops),
    "check": functools.partial(compare, "check", asking.checks),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="script/bench --micro", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--part", choices=PARTS, action="append", help="all of them")
    options = parser.parse_args(argv)
    print(cost.machine(), end="\n\n", flush=True)
    for part in options.part or PARTS:
        print(PARTS[part](options.rounds), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
