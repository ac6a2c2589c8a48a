"""What a master answers, laid out for people: a function for each command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from . import status


def keys(answer: dict[str, Any]) -> str:
    """Return the keys that are listed as a table, and how many there are."""
    listed, total = answer["keys"], answer["total"]
    if not listed:
        return "no keys"
    names = ("KEY", "SLOT", "BY", "EXPIRES-IN")
    rows = [
        (key["key"], str(key["slot"]), key["by"], f"{key['expires_in']:g} s")
        for key in listed
    ]
    counts = ", ".join(f"slot {slot}: {n}" for slot, n in answer["by_slot"].items())
    shown = "" if total == len(listed) else f", of which {len(listed)} are shown"
    return "\n".join([*table(names, rows), "", f"{total} keys{shown}; {counts}"])


def whereis(answer: dict[str, Any]) -> str:
    """Return which worker has a key, and for how long, as text."""
    until = ""
    if answer["expires_in"] is not None:
        until = f", for {answer['expires_in']:g} s after its last use"
    where = f"{answer['key']}: {_worker(answer)}, {answer['by']}{until}"
    return f"{where}; key={answer['hash']} in the access log"


def move(answer: dict[str, Any]) -> str:
    """Return where a key was, and where it is, as text."""
    behind = ""
    if answer["left_behind"]:
        behind = "; the application made it there, and what it remembers stays there"
    return f"{answer['key']}: from slot {answer['from']} to {_worker(answer)}{behind}"


def scale(answer: dict[str, Any]) -> str:
    """Return how many workers there are, and what became of the sessions."""
    sessions = answer["sessions"]
    text = f"{answer['workers']} workers serve, before {answer['before']}"
    if answer["workers"] < answer["before"]:
        moved, ended = sessions["moved"], sessions["ended"]
        text += f": {moved} sessions are placed anew, {ended} ended with their worker"
    return f"{text}; {answer['lost']} connections lost"


def drain(answer: dict[str, Any]) -> str:
    """Return what became of the connections and sessions of a drained slot."""
    slot, moved = answer["slot"], answer["moved"]
    gone = "its worker was replaced" if moved is None else f"{moved} connections moved"
    kept = f"{answer['kept']} kept, for {answer['sessions']} sessions"
    return f"slot {slot} is drained: {gone}, {kept}, {answer['lost']} lost"


def undrain(answer: dict[str, Any]) -> str:
    """Return a sentence: a slot takes what is new again."""
    again = "again" if answer["was_drained"] else "as it did: it was not drained"
    return f"slot {answer['slot']} takes what is new {again}"


def machine(answer: dict[str, Any]) -> str:
    """Return a sentence: where new sessions go."""
    if answer["state"] == "drain":
        return "new sessions go to other machines; those that are here stay"
    return "new sessions come here again"


def log_level(answer: dict[str, Any]) -> str:
    """Return the log level, and the one before."""
    return (
        f"log level {answer['level']}, before {answer['before']}: in the master, and in"
        " workers that are started from now on"
    )


def reload(answer: dict[str, Any]) -> str:
    """Return which generation serves, and what became of connections."""
    text = f"generation {answer['generation']} serves"
    if "lost" not in answer:  # the master was upgraded meanwhile
        return text
    moved, kept = answer["moved"], answer["kept"]
    lost = f"{answer['lost']} lost"
    return f"{text}: {moved} connections moved, {kept} kept by old workers, {lost}"


def upgrade(answer: dict[str, Any]) -> str:
    """Return the version before and now, and what the upgrade cost."""
    return (
        f"upgraded from {answer['from']} to {answer['to']}: away for"
        f" {answer['away'] * 1000:.0f} ms, {answer['held']} connections held"
    )


def stop(answer: dict[str, Any]) -> str:
    """Return how the service ended."""
    how = "connections were cut" if answer["cut"] else "nothing was cut"
    return (
        f"stopped after {answer['seconds']:g} s: {how}, {answer['open']} connections"
        f" were open, {answer['lost']} lost"
    )


RENDER: Final[Mapping[str, Callable[[dict[str, Any]], str]]] = {
    "status": status.render,
    "whereis": whereis,
    "keys": keys,
    "move": move,
    "scale": scale,
    "drain": drain,
    "undrain": undrain,
    "machine": machine,
    "log-level": log_level,
    "reload": reload,
    "upgrade": upgrade,
    "stop": stop,
}
"For each command, what lays out its answer."


def _worker(answer: dict[str, Any]) -> str:
    slot = f"slot {answer['slot']}"
    if answer["pid"] is None:
        return f"{slot}, whose worker is missing"
    return f"{slot}, pid {answer['pid']}"


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return *rows* below their columns' *names*, a line each."""
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in [names, *rows]]
