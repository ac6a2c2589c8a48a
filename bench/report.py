"""
Make Markdown of what was measured: results.json and report.md.

The ratio of two contenders is that of their rates within one round; shown is the median
over the rounds, and the smallest and the largest.
"""

import json
from statistics import median

from contenders import CONTENDERS
from figures import good, rate, ratios, reasons, values
from loads import LOADS
from measures import MEASURES
from targets import TARGETS


def write_report(results, output):
    """Write results.json and report.md into *output*."""
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (output / "report.md").write_text("\n".join(report(results)) + "\n")


def report(results):
    """Give the lines of the report."""
    runs, options = results["runs"], results["options"]
    yield "# maitred and others, on one machine"
    yield ""
    yield from machine(results)
    yield from targets(runs)
    for name in options["loads"]:
        names = asked(runs, name, options["contenders"])
        if name in LOADS:
            yield f"## {LOADS[name].title}"
            yield ""
            yield from load_table(runs, name, names)
        else:
            yield f"## {MEASURES[name].title}"
            yield ""
            yield from measure_table(runs, name, names)
        yield ""


def machine(results):
    facts = dict(results["machine"])
    versions = facts.pop("versions")
    rounds = 1 + max(each["round"] for each in results["runs"])
    yield f"* {rounds} rounds of {results['options']['seconds']:g} s"
    others = [each["others"] for each in results["runs"]]
    yield (
        f"* cores in use by others before a run: {median(others):.0%}, "
        f"at most {max(others):.0%}"
    )
    for name, value in facts.items():
        yield f"* {name}: {value}"
    for name, value in versions.items():
        note = CONTENDERS[name].note
        yield f"* {CONTENDERS[name].title}: {value}{f' ({note})' if note else ''}"
    yield ""


def targets(runs):
    yield "## Targets"
    yield ""
    yield "| | target | median | spread | met |"
    yield "|---|---|---:|---|---|"
    for target in TARGETS:
        found = target.found(runs)
        result = (
            f"{median(found):.2f} | {spread(found, '.2f')}"
            f" | {'yes' if target.is_met(found) else 'no'}"
            if found
            else "not measured | |"
        )
        yield f"| {target.title} | {target.bound} | {result} |"
    yield ""


def asked(runs, name, contenders):
    """Those of *contenders* who were asked *name*, in their order."""
    found = {each["contender"] for each in runs if each["load"] == name}
    return [each for each in contenders if each in found]


def load_table(runs, name, contenders):
    yield (
        "| contender | affinity | requests/s | spread | maitred to it | spread"
        " | p50 ms | p99 ms | errors |"
    )
    yield "|---|---|---:|---|---:|---|---:|---:|---:|"
    for contender in contenders:
        affinity = "yes" if CONTENDERS[contender].affinity else "no"
        start = f"| {CONTENDERS[contender].title} | {affinity}"
        mine = good(runs, name, contender)
        failed = failure(runs, name, contender)
        if not mine:
            yield f"{start} | {failed} | | | | | | |"
            continue
        rates = [rate(each) for each in mine]
        ratio = ratios(runs, name, contender)
        errors = sum(each["errors"] + each["timeouts"] for each in mine)
        yield " | ".join(
            [start, middle(rates, ",.0f"), middle(ratio, ".2f"),
             f"{median(each['p50_ms'] for each in mine):.2f}",
             f"{median(each['p99_ms'] for each in mine):.2f}",
             f"{errors:,} {failed}".strip() + " |"]
        )  # fmt: skip


def measure_table(runs, name, contenders):
    unit = MEASURES[name].unit
    yield f"| contender | {unit or 'ratio'} | spread |"
    yield "|---|---:|---|"
    for contender in contenders:
        found = values(runs, name, contender)
        failed = failure(runs, name, contender)
        start = f"| {CONTENDERS[contender].title}"
        yield f"{start} | {middle(found, ',.2f')} {failed} |"


def failure(runs, name, contender):
    found = reasons(runs, name, contender)
    return f"failed: {'; '.join(found).replace('|', '/')}" if found else ""


def middle(found, form):
    """The median and the spread, as two cells."""
    return f"{median(found):{form}} | {spread(found, form)}" if found else " | "


def spread(found, form):
    return f"{min(found):{form}} to {max(found):{form}}"
