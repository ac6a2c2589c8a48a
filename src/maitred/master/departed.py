"""
What acceptors counted that are dead, so that no sum goes down when one dies.

It is what they said when they were last asked. What they counted since is not known,
and what they had is gone: these counts are shown apart from those of the living, which
account for every connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from maitred.acceptor.counters import Counters, Done


class Departed:
    """Sums of the last reports of dead deputies."""

    def __init__(self) -> None:
        """Start without sums."""
        self.counters = Counters()
        self.done = Done()
        self.dropped = 0
        # By the name of the listener.
        self.accepted: Counter[str] = Counter()

    def add(self, report: Mapping[str, Any]) -> None:
        """Add the last *report* of a dead deputy; empty: it never sent one."""
        if not report:
            return
        self.counters.add(report["connections"])
        self.counters.times.add(report["times"])
        self.dropped += report["dropped_log_lines"]
        self.done.add(report["done"])
        # Its share of what living workers did as well, so that no sum goes down.
        for share in report["workers"]:
            did = {name: share[name] for name in ("handed_over", "hops_in", "hops_out")}
            self.done.note(share["slot"], did)
        self.accepted.update(dict(report["listeners"]))
