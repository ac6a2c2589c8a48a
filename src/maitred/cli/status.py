"""``maitred status``: what the running master and each of its workers are doing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from .units import age, short

COLUMNS: Final = {
    "slot": "SLOT",
    "pid": "PID",
    "generation": "GEN",
    "state": "STATE",
    "uptime": "UPTIME",
    "memory": "MEMORY",
    "restarts": "RESTARTS",
    "open": "OPEN",
    "in_flight": "IN-FLIGHT",
    "queued": "QUEUED",
    "handed_over": "HANDED-OVER",
    "requests": "REQUESTS",
    "claimed_keys": "CLAIMED-KEYS",
}

WRITTEN: Final[Mapping[str, Callable[[float], str]]] = {"uptime": age, "memory": short}
"How columns are written that are not written as they are."
TROUBLES: Final = {
    "lost": "lost",
    "no_descriptor": "refused by a worker without free descriptors",
    "accept_pauses": "pauses of accepting for want of descriptors or memory",
}


def render(answer: dict[str, Any]) -> str:
    """Return *answer*, the master's status, as text."""
    counts = answer["connections"]
    affinity = " ".join(answer["affinity"]) or "none"
    refused = sum(
        sum(counts.get(by, {}).values()) for by in ("refused", "refused_by_workers")
    )
    rules = f"affinity {affinity}, policy {answer['policy']}, {answer['keys']} keys"
    age = f"up {answer['uptime']:g} s, generation {answer['generation']}"
    past = f"{counts['accepted']} accepted, {counts['taken']} taken, {refused} refused"
    now = f"{answer['peeking']} being peeked at, {answer['waiting']} waiting"
    # Nowhere, once it is stopping.
    where = f" on {', '.join(answer['listening'])}" if answer["listening"] else ""
    lines = [
        f"{service(answer)}{where}",
        f"master {answer['pid']}, {answer['state']}, {age}, {rules}",
        f"connections: {past}, {counts['redispatched']} dispatched again; {now}",
    ]
    if len(acceptors := answer["acceptors"]) > 1:
        each = (f"{one['pid']} ({one['accepted']} accepted)" for one in acceptors)
        lines.append(f"acceptors: {', '.join(each)}")
    if troubles := [f"{counts[n]} {text}" for n, text in TROUBLES.items() if counts[n]]:
        lines.append(f"troubles: {', '.join(troubles)}")
    lines.append("")
    columns = dict(COLUMNS)
    if any(slot.get("threads") for slot in answer["slots"]):
        columns["threads"] = "THREADS"
    rows = [list(columns.values())]
    # Those that fill a slot, then those that are coming or leaving.
    workers = [*answer["slots"], *answer["others"]]
    rows += [[_cell(worker, name) for name in columns] for worker in workers]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += ["  ".join(map(str.rjust, row, widths)) for row in rows]
    notes = [note for slot in answer["slots"] for note in _notes(slot)]
    notes += [_kept(elder, len(answer["slots"])) for elder in answer["elders"]]
    if notes:
        lines += ["", *notes]
    return "\n".join(lines)


def service(answer: dict[str, Any]) -> str:
    """Return what is served, and under which name if it has one."""
    name = answer["name"] and f"{answer['name']}: "
    return f"{name}{answer['target']}"


def _cell(slot: dict[str, Any], name: str) -> str:
    """Return the field *name* of *slot* as text; what is not known is a dash."""
    if name == "restarts":
        return str(slot.get("totals", {}).get(name, "-"))
    value = slot.get(name)
    if value is not None and (write := WRITTEN.get(name)):
        return write(value)
    if name == "threads" and (threads := slot.get(name)):
        return f"{threads['busy']}/{threads['most']}"
    return "-" if value is None else str(value)


def _kept(elder: dict[str, Any], slots: int) -> str:
    """Return which sessions an old worker keeps, and for how long, as text."""
    # Of two sets of slots; both are called by the numbers of one.
    slot = elder["slot"] % slots
    count = elder["sessions"]
    sessions = "its sessions" if count is None else f"{count} sessions"
    who = f"process {elder['pid']} of generation {elder['generation']}"
    most = f"for {elder['seconds']:.0f} s at most"
    return f"slot {slot}: {who} keeps {sessions}, {most}"


def _notes(slot: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with *slot*."""
    if slot.get("drained"):
        yield f"slot {slot['slot']}: drained, it is given nothing new"
    if slot.get("late"):
        yield f"slot {slot['slot']}: late, its event loop is stuck or busy"
    if (threads := slot.get("threads")) and threads["waiting"]:
        busy = f"{threads['busy']} of {threads['most']} threads are busy"
        yield f"slot {slot['slot']}: {busy}, {threads['waiting']} wait for one"
    if deaths := slot["early_deaths"]:
        times = f"{deaths} early deaths in a row" if deaths > 1 else "1 early death"
        wait = slot["next_try"]
        then = "" if wait is None else f"; next try in {wait:g} s"
        yield f"slot {slot['slot']}: {times}, the last {slot['why']}{then}"
