"""
Make a Markdown table and a plot of what was measured.

The ratio of two contenders is that of their rates within one round; shown is the median
over the rounds, and the smallest and the largest.
"""

import json
from statistics import median

from contenders import CONTENDERS, OURS
from loads import LOADS


def write_report(results, output):
    """Write results.json and report.md into *output*."""
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (output / "report.md").write_text("\n".join(report(results)) + "\n")


def report(results):
    yield "# maitred and others, on one machine"
    yield ""
    yield from machine(results)
    options = results["options"]
    for name in options["loads"]:
        yield f"## {LOADS[name].title}"
        yield ""
        yield "| contender | affinity | requests/s | spread | maitred is | spread | p50 ms | p99 ms | errors |"  # noqa: E501
        yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
        for contender in options["contenders"]:
            yield row(results["runs"], name, contender)
        yield ""


def machine(results):
    facts = dict(results["machine"])
    versions = facts.pop("versions")
    for name, value in facts.items():
        yield f"* {name}: {value}"
    for name, value in versions.items():
        yield f"* {name}: {value}"
    yield ""


def row(runs, load, contender):
    mine = [
        each for each in runs if (each["load"], each["contender"]) == (load, contender)
    ]
    good = [each for each in mine if "failed" not in each]
    title = CONTENDERS[contender].title
    affinity = "yes" if CONTENDERS[contender].affinity else "no"
    bad = "; ".join(sorted({each["failed"] for each in mine if "failed" in each}))
    if not good:
        return f"| {title} | {affinity} | failed: {bad} |||||||"
    rates = [rate(each) for each in good]
    ratio = ratios(runs, load, contender)
    errors = sum(each["errors"] + each["timeouts"] for each in good)
    return " | ".join(
        [f"| {title}", affinity, f"{median(rates):,.0f}", spread(rates, ",.0f"),
         f"{median(ratio):.2f}" if ratio else "?", spread(ratio, ".2f"),
         f"{median(each['p50_ms'] for each in good):.2f}",
         f"{median(each['p99_ms'] for each in good):.2f}",
         f"{errors}{' failed: ' + bad if bad else ''} |"]
    )  # fmt: skip


def rate(run):
    return run["requests"] / run["seconds"]


def ratios(runs, load, contender):
    """By what factor maitred is faster than *contender*, in each round."""
    rates = {
        (each["round"], each["contender"]): rate(each)
        for each in runs
        if each["load"] == load and "failed" not in each
    }
    return [
        value / rates[number, contender]
        for (number, who), value in rates.items()
        if who == OURS and rates.get((number, contender))
    ]


def spread(values, form):
    return f"{min(values):{form}} to {max(values):{form}}" if values else ""
