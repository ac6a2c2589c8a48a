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
import signal
import sys
import tempfile
from http.client import HTTPException
from pathlib import Path
from subprocess import SubprocessError

from check_generator import check_generator
from contenders import CONTENDERS, descriptors
from generators import GeneratorFailed
from loads import LOADS
from machine import describe, load_average, wait_until_quiet
from measures import MEASURES
from plot import plot
from report import write_report
from servers import Failed

ROOT = Path(__file__).parents[1]
QUESTIONS = {**LOADS, **MEASURES}
FAILURES = (
    Failed,
    GeneratorFailed,
    HTTPException,
    OSError,
    SubprocessError,
    ValueError,
)


def main():
    options = arguments()
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors(), descriptors()))
    if options.check_generator:
        say("\n".join(check_generator(options.seconds, options.rounds)))
        return
    options.output.mkdir(parents=True, exist_ok=True)
    contenders = [CONTENDERS[name] for name in options.contenders]
    results = {"machine": describe(contenders), "options": shown(options), "runs": []}
    for number in range(options.rounds):
        for name in options.loads:
            for contender in order(number, name, contenders):
                others = wait_until_quiet(options.patience)
                run = measure(QUESTIONS[name], contender, options.seconds)
                run |= {"others": others, "load_average": load_average()}
                run |= {"round": number, "load": name, "contender": contender.name}
                results["runs"].append(run)
                say(f"round {number + 1} {name} {contender.name}: {brief(run)}")
        write_report(results, options.output)
    plot(results, options.output)
    say((options.output / "report.md").read_text())


def order(number, name, contenders):
    """Give those who are asked *name* in an order of this round's own."""
    asked = QUESTIONS[name].contenders
    found = [each for each in contenders if asked is None or each.name in asked]
    random.Random(f"{number} {name}").shuffle(found)
    return found


def arguments():
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loads", type=names_of(QUESTIONS), default=[*QUESTIONS])
    parser.add_argument("--contenders", type=names_of(CONTENDERS),
                        default=[*CONTENDERS])  # fmt: skip
    parser.add_argument("--output", type=Path, default=ROOT / ".bench")
    parser.add_argument(
        "--patience",
        type=float,
        default=20.0,
        help="seconds to wait before each run until others are quiet",
    )
    parser.add_argument(
        "--check-generator",
        action="store_true",
        help="compare our generator with wrk, and nothing else",
    )
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


def measure(question, contender, seconds):
    """Give the figures of *contender*, or why there are none."""
    with tempfile.TemporaryDirectory(prefix="maitred-bench-") as scratch:
        try:
            return question.run(contender, seconds, Path(scratch))
        except FAILURES as error:
            return {"failed": f"{type(error).__name__}: {error}"}


def brief(run):
    if "failed" in run:
        return f"failed: {run['failed']}"
    if "value" in run:
        return f"{run['value']:.3f}"
    return (
        f"{run['requests'] / run['seconds']:,.0f}/s, {run['errors']} errors, "
        f"{run['timeouts']} timeouts, p99 {run['p99_ms']:.1f} ms"
    )


def say(text):
    print(text, flush=True)


if __name__ == "__main__":
    # Whoever ends us, the contenders have to go too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        main()
        sys.exit(0)
    sys.exit(130)
