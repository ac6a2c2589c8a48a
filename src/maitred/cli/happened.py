"""What has happened to a service, in lines: each event of its status once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from maitred.logs.formats import cleaned


class Happened:
    """The events that were shown already."""

    def __init__(self) -> None:
        """Start with no event shown."""
        self._pid = 0
        self._seen = 0

    def news(self, status: Mapping[str, Any]) -> Iterator[str]:
        """Return a line for each event of *status* that is new, the oldest first."""
        if status["pid"] != self._pid:
            self._pid, self._seen = status["pid"], 0
        # Not by their times: two may have the same one.
        count = sum(status["event_counts"].values())
        new, self._seen = count - self._seen, count
        for event in status["events"][-new:] if new > 0 else ():
            when = time.strftime("%H:%M:%S", time.localtime(event["time"]))
            # The rest of a long one, such as a traceback, stands in the log.
            first, *_ = event["text"].split("\n", 1)
            yield f"{when} {event['kind']}: {cleaned(first)}"
