"""
Compare maitred with others on this machine: see script/bench.

For each round and each load, every contender is put up, checked, measured and taken
down, one after the other and each round in another order: what disturbs the machine
disturbs all of them. What counts is the ratio within one round.

Invariant: a contender that cannot do something is in the results with its reason.
"""

import argparse
import contextlib
import random
import resource
import sys
import tempfile
from pathlib import Path

from contenders import CONTENDERS
from generators import GeneratorFailed, sessions
from loads import LOADS, SESSIONS
from machine import describe, load_average
from report import write_report
from servers import Failed, serving

ROOT = Path(__file__).parents[1]
WORKERS = 2
WARM_UP = 0.5


def main():
    options = arguments()
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    options.output.mkdir(parents=True, exist_ok=True)
    contenders = [CONTENDERS[name] for name in options.contenders]
    results = {"machine": describe(contenders), "options": shown(options), "runs": []}
    for number in range(options.rounds):
        for name in options.loads:
            order = list(contenders)
            random.Random(f"{number} {name}").shuffle(order)
            for contender in order:
                before = load_average()
                found = measure(contender, LOADS[name], options.seconds)
                results["runs"].append(
                    {"round": number, "load": name, "contender": contender.name,
                     "load_average": before, **found}
                )  # fmt: skip
                say(f"round {number + 1} {name} {contender.name}: {brief(found)}")
        write_report(results, options.output)
    say((options.output / "report.md").read_text())


def arguments():
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loads", type=names_of(LOADS), default=[*LOADS])
    parser.add_argument("--contenders", type=names_of(CONTENDERS),
                        default=[*CONTENDERS])  # fmt: skip
    parser.add_argument("--output", type=Path, default=ROOT / ".bench")
    return parser.parse_args()


def names_of(table):
    """Make what reads names of *table*, with commas between."""

    def names(text):
        found = text.split(",")
        if unknown := [each for each in found if each not in table]:
            raise argparse.ArgumentTypeError(
                f"no {', '.join(unknown)}; there are {', '.join(table)}"
            )
        return found

    return names


def shown(options):
    return {name: str(value) if isinstance(value, Path) else value
            for name, value in vars(options).items()}  # fmt: skip


def measure(contender, load, seconds):
    """Give the figures of *contender* under *load*, or why there are none."""
    with tempfile.TemporaryDirectory(prefix="maitred-bench-") as scratch:
        try:
            with serving(contender, WORKERS, Path(scratch)) as served:
                served.check(sessions(SESSIONS), affinity=contender.affinity)
                load.run(served.port, min(seconds, WARM_UP))
                return load.run(served.port, seconds)
        except (Failed, GeneratorFailed, OSError, ValueError) as error:
            return {"failed": f"{type(error).__name__}: {error}"}


def brief(found):
    if "failed" in found:
        return f"failed: {found['failed']}"
    return (
        f"{found['requests'] / found['seconds']:,.0f}/s, {found['errors']} errors, "
        f"{found['timeouts']} timeouts, p99 {found['p99_ms']:.1f} ms"
    )


def say(text):
    print(text, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
        sys.exit(0)
    sys.exit(130)
