"""
What two looks at a running master say: rates, and a row for each worker. Pure.

Invariant: a number that cannot be known, because there was no earlier look or the
worker says nothing, is None, and is shown as a dash.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from .status import service
from .units import age, seconds, short

HISTORY: Final = 300
"Looks that are remembered."
DASH: Final = "-"


class Row(NamedTuple):
    """One worker: the fields that are shown, in this order."""

    slot: int
    pid: int | None
    state: str
    generation: int | None
    open: int | None
    rate: float | None
    hops_in: int | None
    hops_out: int | None
    lag: float | None
    memory: int | None
    cpu: float | None
    restarts: int | None


class Column(NamedTuple):
    """How one field of a row is shown: its title, its width, its text."""

    title: str
    width: int
    text: Callable[[Any], str]


COLUMNS: Final[Mapping[str, Column]] = {
    "slot": Column("SLOT", 4, str),
    "pid": Column("PID", 8, str),
    "state": Column("STATE", 9, str),
    "generation": Column("GEN", 5, str),
    "open": Column("CONNS", 7, short),
    "rate": Column("REQ/S", 7, short),
    "hops_in": Column("HOP-IN", 8, short),
    "hops_out": Column("HOP-OUT", 8, short),
    "lag": Column("LAG", 7, seconds),
    "memory": Column("MEM", 6, short),
    "cpu": Column("CPU%", 6, short),
    "restarts": Column("RST", 4, short),
}
"In the order of ``Row``; they fit a line of 80 characters."


def cells(row: Row) -> list[str]:
    """Return the texts of *row*, as wide as their columns."""
    return [
        (DASH if value is None else column.text(value)).rjust(column.width)
        for value, column in zip(row, COLUMNS.values(), strict=True)
    ]


def titles() -> list[str]:
    """Return the titles, as wide as their columns."""
    return [column.title.rjust(column.width) for column in COLUMNS.values()]


@dataclass(slots=True)
class Rates:
    """
    The last answer of the master, and what is shown of those before it.

    Args:
        status: The last answer of the master; None: none yet.
        rows: A row for each worker.
        requests: Requests per second of all workers, look by look.
        connections: Connections that are open, look by look.
        accepted: Connections accepted per second.
    """

    status: dict[str, Any] | None = None
    rows: list[Row] = field(default_factory=list)
    requests: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    connections: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    accepted: float | None = None
    _when: float = 0.0

    def look(self, status: dict[str, Any], now: float) -> None:
        """Record *status*, the master's answer at *now*, in seconds."""
        before, past = self.status, now - self._when
        if before is None or before["pid"] != status["pid"] or past <= 0:
            before = None
        earlier = {} if before is None else {w["pid"]: w for w in workers(before)}
        self.rows = [
            _row(worker, earlier.get(worker.get("pid")), past)
            for worker in [*status["slots"], *status["others"]]
        ]
        self.accepted = None
        if before is not None:
            counts = [s["connections"]["accepted"] for s in (before, status)]
            self.accepted = max(counts[1] - counts[0], 0) / past
            self.requests.append(sum(row.rate or 0.0 for row in self.rows))
        self.connections.append(sum(row.open or 0 for row in self.rows))
        self.status, self._when = status, now


def workers(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every worker that is alive."""
    return [w for w in [*status["slots"], *status["others"]] if "pid" in w]


def _row(worker: dict[str, Any], before: dict[str, Any] | None, past: float) -> Row:
    rate = cpu = None
    if before is not None:
        rate = max(worker["requests"] - before["requests"], 0) / past
        if worker["cpu"] is not None and before["cpu"] is not None:
            cpu = max(worker["cpu"] - before["cpu"], 0.0) / past * 100
    state = worker["state"]
    if worker.get("drained"):
        state = "drained"
    elif worker.get("late"):
        state = "late"
    elif (threads := worker.get("threads")) and threads["waiting"]:
        state = "full"  # of requests that wait for a thread
    names = ("open", "hops_in", "hops_out", "lag", "memory")
    known = {name: worker.get(name) for name in names}
    return Row(
        slot=worker["slot"],
        pid=worker.get("pid"),
        state=state,
        generation=worker.get("generation"),
        rate=rate,
        cpu=cpu,
        restarts=worker.get("totals", {}).get("restarts"),
        **known,
    )


def header(rates: Rates) -> tuple[str, str]:
    """Return two lines: what the service is, and how it is."""
    status = rates.status
    assert status is not None
    per_second = DASH if rates.accepted is None else short(rates.accepted)
    first = (
        f"{service(status)}: {status['state']}, generation {status['generation']},"
        f" up {age(status['uptime'])}, {per_second} accepted/s"
    )
    listeners = ", ".join(
        f"{each['name']} ({short(each['accepted'])})" for each in status["listeners"]
    )
    return first, f"keys {status['keys']} of {status['max_keys']}; {listeners}"


def page(rates: Rates) -> str:
    """Return all of it as text, for a look that is not repeated."""
    rows = ["".join(cells(row)).rstrip() for row in rates.rows]
    return "\n".join([*header(rates), "", "".join(titles()), *rows])
