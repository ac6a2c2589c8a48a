"""
The limit: maitred's master against one in C that makes the same system calls.

    python -m bench.limit [--rounds N] [--seconds S]

Every dispatcher is up all the time. In each round each of them gets a load of new
connections, one after the other; what counts is the ratio within a round.
"""

import argparse
import contextlib
import shlex
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from bench import cost

TARGET = 1.8
"What maitred may cost, as a multiple of the reference that makes its system calls."


class Reference(NamedTuple):
    """A way to run reference/dispatcher.c."""

    name: str
    batch: int
    extras: str


class Ours(NamedTuple):
    """A way to run maitred, and the reference that makes the same system calls."""

    options: tuple[str, ...]
    against: str


REFERENCES = (
    Reference("C, one at a time", 1, ""),
    Reference("C, in batches", 64, ""),
    Reference("C, as without copies", 64, "nit"),
    Reference("C, as with copies", 64, "nic"),
    Reference("C, as with a worker in C", 64, "nits"),
)
AFFINITY = ("--workers", "2", "--affinity", "header:x-session", "--no-access-log")
OURS = {
    "maitred --no-keep-copies": Ours(
        ("app:app", *AFFINITY, "--no-keep-copies"), "C, as without copies"
    ),
    "maitred": Ours(("app:app", *AFFINITY), "C, as with copies"),
    "maitred, worker in C": Ours(
        ("WORKER", "--exec", *AFFINITY), "C, as with a worker in C"
    ),
}

Found = dict[str, list[cost.Cost]]


def measure(ours: Sequence[str], rounds: int, seconds: float) -> Found:
    """Give what a connection cost *ours*, and the references, in each round."""
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        program = start(cost.compiled(cost.REFERENCE / "dispatcher.c"))
        worker = shlex.quote(start(cost.compiled(cost.EXAMPLES / "worker.c")))
        sites = {
            name: start(cost.dispatcher(program, batch, extras))
            for name, batch, extras in REFERENCES
        }
        for name in ours:
            options = [worker if o == "WORKER" else o for o in OURS[name].options]
            sites[name] = start(cost.maitred(*options))
        found: Found = {name: [] for name in sites}
        for site in sites.values():
            cost.load(site, 1)
        for number in range(rounds):
            for name in cost.in_turn(number, sites):
                found[name].append(cost.load(sites[name], seconds))
    return found


def report(found: Found) -> str:
    """Write a table, and what it says of the target."""
    against = {name: OURS[name].against for name in OURS if name in found}
    rows = []
    for name, costs in found.items():
        columns = list(zip(*costs, strict=True))
        rate, _, user, system, per_wakeup = map(statistics.median, columns)
        ratio = (
            ""
            if name not in against
            else cost.spread(ratios(found, name, against[name]))
        )
        rows.append(
            [name, f"{rate:,.0f}", cost.spread(columns[1], 1), f"{user:.1f}",
             f"{system:.1f}", f"{per_wakeup:.1f}", ratio]
        )  # fmt: skip
    head = ["dispatcher", "connections/s", "CPU us per connection", "user", "system",
            "connections per wakeup", "ratio to its C"]  # fmt: skip
    lines = [cost.table(head, rows), ""]
    for name, reference in against.items():
        ratio = statistics.median(ratios(found, name, reference))
        verdict = "met" if ratio <= TARGET else "missed"
        lines.append(f"- {name} / {reference}: {ratio:.2f}, target {TARGET}: {verdict}")
    return "\n".join(lines)


def ratios(found: Found, name: str, reference: str) -> list[float]:
    """Give what *name* cost as a multiple of *reference*, round by round."""
    return [
        ours.cpu_us / theirs.cpu_us
        for ours, theirs in zip(found[name], found[reference], strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="script/bench --limit", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load")
    parser.add_argument("--ours", choices=OURS, action="append", help="all of them")
    options = parser.parse_args(argv)
    print(cost.machine(), end="\n\n", flush=True)
    print(report(measure(options.ours or [*OURS], options.rounds, options.seconds)))


if __name__ == "__main__":
    main()
