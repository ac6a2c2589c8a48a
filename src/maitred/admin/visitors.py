"""
Who is connected to the admin process: few, and none for long.

    waiting for a head     HEAD_TIMEOUT, from the connection or the last answer on
    being answered         ANSWER_TIMEOUT, however slowly the client reads

Invariants: never more than MOST are connected. Whoever comes then takes the place of
the one that has waited for a head the longest, so that a health probe is answered
whoever holds the others. No token is needed to connect, so none of this trusts one.
"""

from __future__ import annotations

from typing import Final, Protocol

MOST: Final = 256
HEAD_TIMEOUT: Final = 10.0
ANSWER_TIMEOUT: Final = 30.0
LONGEST_HEAD: Final = 16 * 1024
"Bytes that a head may have; h11 refuses a longer one."


class Visitor(Protocol):
    """One connection to the admin process."""

    def leave(self) -> None:
        """Close the connection at once."""


class Visitors:
    """All connections, those that have waited longest first."""

    def __init__(
        self,
        most: int = MOST,
        head_timeout: float = HEAD_TIMEOUT,
        answer_timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        """Start without connections; *most* may come, for so many seconds."""
        self._most = most
        self.head_timeout = head_timeout
        self.answer_timeout = answer_timeout
        self._waiting: dict[Visitor, None] = {}
        self._answered: dict[Visitor, None] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._answered)

    def wait(self, visitor: Visitor) -> None:
        """Record that *visitor* waits for a request; at the limit the oldest leaves."""
        self.forget(visitor)
        if len(self) >= self._most:
            oldest = next(iter(self._waiting or self._answered))
            self.forget(oldest)
            oldest.leave()
        self._waiting[visitor] = None

    def answer(self, visitor: Visitor) -> None:
        """Record that a request of *visitor* is being answered."""
        self.forget(visitor)
        self._answered[visitor] = None

    def forget(self, visitor: Visitor) -> None:
        """Remove *visitor*, which has left."""
        self._waiting.pop(visitor, None)
        self._answered.pop(visitor, None)
