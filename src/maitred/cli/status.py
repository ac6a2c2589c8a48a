"""``maitred status``: what the running master and each of its workers are doing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

COLUMNS: Final = {
    "slot": "SLOT",
    "pid": "PID",
    "generation": "GEN",
    "state": "STATE",
    "open": "OPEN",
    "in_flight": "IN-FLIGHT",
    "queued": "QUEUED",
    "handed_over": "HANDED-OVER",
    "requests": "REQUESTS",
    "claimed_keys": "CLAIMED-KEYS",
}

TROUBLES: Final = {
    "lost": "lost",
    "no_descriptor": "refused by a worker without free descriptors",
    "accept_pauses": "pauses of accepting for want of descriptors or memory",
}


def render(answer: dict[str, Any]) -> str:
    """Lay out *answer*, what the master says of itself, for people."""
    counts = answer["connections"]
    affinity = " ".join(answer["affinity"]) or "none"
    refused = sum(
        sum(counts.get(by, {}).values()) for by in ("refused", "refused_by_workers")
    )
    rules = f"affinity {affinity}, policy {answer['policy']}, {answer['keys']} keys"
    age = f"up {answer['uptime']:g} s, generation {answer['generation']}"
    past = f"{counts['accepted']} accepted, {counts['taken']} taken, {refused} refused"
    now = f"{answer['peeking']} being peeked at, {answer['waiting']} waiting"
    lines = [
        f"{service(answer)} on {', '.join(answer['listening'])}",
        f"master {answer['pid']}, {age}, {rules}",
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
    rows += [[_cell(slot, name) for name in columns] for slot in answer["slots"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += ["  ".join(map(str.rjust, row, widths)) for row in rows]
    if notes := [note for slot in answer["slots"] for note in _notes(slot)]:
        lines += ["", *notes]
    return "\n".join(lines)


def service(answer: dict[str, Any]) -> str:
    """Say what is served, and under which name if it has one."""
    name = answer["name"] and f"{answer['name']}: "
    return f"{name}{answer['target']}"


def _cell(slot: dict[str, Any], name: str) -> str:
    """Write what *slot* says of *name*."""
    if name == "threads" and (threads := slot.get(name)):
        return f"{threads['busy']}/{threads['most']}"
    return str(slot.get(name, "-"))


def _notes(slot: dict[str, Any]) -> Iterator[str]:
    """Say what is wrong with *slot*, if anything is."""
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
