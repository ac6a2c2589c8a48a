"""
Growth: what a connection costs maitred's master as keys and workers become many.

    python -m bench.growth [--rounds N] [--seconds S] [--output DIR]

Each series is one master for each of its sizes, all up at the same time, with workers
in C that cost next to nothing. In each round each master gets a load of new
connections, one after the other; what counts is the ratio within a round. The first
size of a series is the one the others are compared with. With many busy workers there
are fewer connections in a packet, which nobody can help: the reference in C shows how
much of the growth that is.
"""

import argparse
import contextlib
import shlex
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import cost

from maitred.control import ask

TARGET = 1.1
"What the largest of a series may cost, as a multiple of the smallest."
ROOT = Path(__file__).parents[1]
MASTER = ("--window", "256", "--max-keys", "200000")


class Case(NamedTuple):
    """One size of a series."""

    size: int
    workers: int
    sessions: int
    affinity: str = "header:x-session"
    "Empty: it is the reference in C."


REFERENCE = "the reference in C, all workers busy"
SERIES = {
    "known keys": [Case(n, 2, n) for n in (10, 1_000, 100_000)],
    "workers, idle but one": [Case(n, n, 1) for n in (2, 16, 64)],
    "workers, all busy": [Case(n, n, 256) for n in (2, 16, 64)],
    REFERENCE: [Case(n, n, 256, "") for n in (2, 16, 64)],
    "workers, names that nobody claimed": [
        Case(n, n, 256, "header:x-session,learn") for n in (2, 16, 64)
    ],
}

Found = dict[str, dict[int, list[cost.Cost]]]


def measure(names: Sequence[str], rounds: int, seconds: float) -> Found:
    """Give what a connection cost in each series, at each size, in each round."""
    found: Found = {}
    for name in names:
        cases = SERIES[name]
        found[name] = {case.size: [] for case in cases}
        with contextlib.ExitStack() as stack:
            sites = {case: stack.enter_context(serving(case)) for case in cases}
            for case, site in sites.items():
                fill(site, case)
            for number in range(rounds):
                for case in cost.in_turn(number, cases):
                    costs = cost.load(sites[case], seconds, case.sessions)
                    found[name][case.size].append(costs)
    return found


@contextlib.contextmanager
def serving(case: Case) -> Iterator[cost.Site]:
    """Run the dispatcher of *case*."""
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        if case.affinity:
            worker = shlex.quote(start(cost.compiled(cost.EXAMPLES / "worker.c")))
            yield start(
                cost.maitred(worker, "--exec", "--workers", str(case.workers),
                             "--affinity", case.affinity, *MASTER)
            )  # fmt: skip
        else:
            program = start(cost.compiled(cost.REFERENCE / "dispatcher.c"))
            yield start(cost.dispatcher(program, 64, "nits", case.workers))


def fill(site: cost.Site, case: Case) -> None:
    """Have every session connect, so that the master knows as many as it ever will."""
    seconds = 1
    cost.load(site, seconds, case.sessions)
    remembers = case.affinity and not case.affinity.endswith("learn")
    while remembers and ask(site.control, "status")["keys"] < case.sessions:
        seconds *= 2
        cost.load(site, seconds, case.sessions)


def report(found: Found) -> str:
    """Write a table for each series, and what it says of the target."""
    lines = []
    for name, by_size in found.items():
        rows = []
        ratios = []
        smallest = next(iter(by_size.values()))
        for size, costs in by_size.items():
            columns = list(zip(*costs, strict=True))
            rate, _, user, system, per_wakeup = map(statistics.median, columns)
            ratios = [c.cpu_us / s.cpu_us for c, s in zip(costs, smallest, strict=True)]
            rows.append(
                [f"{size:,}", f"{rate:,.0f}", cost.spread(columns[1], 1), f"{user:.1f}",
                 f"{system:.1f}", f"{per_wakeup:.1f}", cost.spread(ratios)]
            )  # fmt: skip
        head = [name, "connections/s", "CPU us per connection", "user", "system",
                "connections per wakeup", "ratio to the smallest"]  # fmt: skip
        lines += [cost.table(head, rows), ""]
        if name != REFERENCE:
            verdict = "met" if statistics.median(ratios) <= TARGET else "missed"
            lines += [f"Target {TARGET}: {verdict}", ""]
    return "\n".join(lines)


def plot(found: Found, path: Path) -> None:
    """Draw *found*; without matplotlib, nothing."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - the rest does without
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    figure = Figure(figsize=(3.2 * len(found), 3), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axis, (name, by_size) in zip(panels, found.items(), strict=True):
        values = [[each.cpu_us for each in costs] for costs in by_size.values()]
        middle = [statistics.median(each) for each in values]
        below = [m - min(each) for m, each in zip(middle, values, strict=True)]
        above = [max(each) - m for m, each in zip(middle, values, strict=True)]
        axis.errorbar([*by_size], middle, yerr=[below, above], marker="o", capsize=3)
        axis.set_xscale("log")
        axis.set_xticks([*by_size], [f"{size:,}" for size in by_size])
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
        axis.set_title(name, fontsize="small")
    panels[0].set_ylabel("CPU of the master, us per connection")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(prog="script/bench --growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load")
    parser.add_argument("--series", choices=SERIES, action="append", help="all of them")
    parser.add_argument("--output", type=Path, default=ROOT / ".bench")
    options = parser.parse_args(argv)
    print(cost.machine(), end="\n\n", flush=True)
    found = measure(options.series or [*SERIES], options.rounds, options.seconds)
    print(report(found))
    plot(found, options.output / "growth.svg")


if __name__ == "__main__":
    main()
