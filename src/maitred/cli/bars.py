"""A bar for each worker, on a terminal, while a command takes its time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

FINISHED: Final = frozenset({"ready", "gone"})
"States in which a worker with a bar has nothing more to do."


@contextlib.contextmanager
def bars() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show bars on standard error; yield a function that takes the master's lines."""
    console = Console(stderr=True, highlight=False, markup=False)
    columns = (
        TextColumn("slot {task.fields[slot]:>3}  pid {task.fields[pid]:<8}"),
        TextColumn("generation {task.fields[generation]:<4} {task.description:<9}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console) as shown:
        tasks: dict[int, TaskID] = {}

        def tell(line: dict[str, Any]) -> None:
            """Print a sentence above the bars, or update the bar of a worker."""
            if "progress" in line:
                console.print(line["progress"])
            if "worker" in line:
                _show(shown, tasks, line["worker"])

        yield tell


def _show(shown: Progress, tasks: dict[int, TaskID], worker: dict[str, Any]) -> None:
    pid, state = worker["pid"], worker["state"]
    if pid not in tasks:
        if state in FINISHED:
            return  # it is not affected, or not yet
        tasks[pid] = shown.add_task(state, total=None, pid=pid, text="", **_who(worker))
    left, of = worker["left"], worker["of"]
    text = f"{left} of {of} connections left" if of else ""
    if state == "starting":  # how long that takes nobody knows
        shown.update(tasks[pid], description=state)
        return
    if state in FINISHED:
        total, left, text = max(of, 1), 0, ""
    else:
        total = of or 1
    shown.update(
        tasks[pid],
        description=state,
        total=total,
        completed=total - left,
        text=text,
    )


def _who(worker: dict[str, Any]) -> dict[str, Any]:
    return {"slot": worker["slot"], "generation": worker["generation"]}
