"""Draw report.svg: every contender's rate, as a part of maitred's, for each load."""

from statistics import median

from contenders import CONTENDERS, OURS
from figures import ratios
from loads import LOADS

ROW = 0.32
"Inches for each contender."


def plot(results, output):
    """Draw what was measured into *output*; without matplotlib, nothing."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - the tests do without it
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    options = results["options"]
    names = [each for each in options["loads"] if each in LOADS]
    if not names or OURS not in options["contenders"]:
        return
    height = ROW * len(options["contenders"]) + 0.8
    figure = Figure(figsize=(8, height * len(names)), layout="constrained")
    axes = figure.subplots(len(names), squeeze=False)[:, 0]
    for name, axis in zip(names, axes, strict=True):
        draw(axis, results["runs"], name, options["contenders"])
    figure.savefig(output / "report.svg")


def draw(axis, runs, name, contenders):
    """One panel: a bar for each contender, its spread over the rounds as a line."""
    found = {
        each: [1 / value for value in ratios(runs, name, each)] for each in contenders
    }
    for row, (contender, parts) in enumerate(found.items()):
        if not parts:
            axis.text(0.02, row, "failed", va="center")
            continue
        middle = median(parts)
        axis.barh(row, middle, color="tab:blue" if contender == OURS else "tab:gray")
        axis.plot([min(parts), max(parts)], [row, row], color="black", linewidth=1)
        axis.text(max(parts), row, f" {middle:.2f}", va="center")
    axis.axvline(1, color="black", linewidth=0.5)
    axis.set_yticks(range(len(found)), [CONTENDERS[each].title for each in found])
    axis.invert_yaxis()
    axis.margins(x=0.1)
    axis.set_title(f"{LOADS[name].title}: rate, maitred = 1", fontsize="medium")
