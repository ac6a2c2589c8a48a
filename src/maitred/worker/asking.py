"""
Asking the master about a key, where a connection cannot be given back.

Invariant: every question is answered exactly once: by the master, or with no when the
worker leaves, for then the master answers no more.
"""

from __future__ import annotations

from collections.abc import Callable

Answered = Callable[[bool], None]


class Questions:
    """What was asked and is not answered yet."""

    def __init__(self, ask: Callable[[bytes, bool], bool]) -> None:
        """
        Start with no open question.

        Args:
            ask: Asks the master about a key, and tells it whether the server makes such
                keys; returns whether the master, or the key's home, is there to answer.
        """
        self._ask = ask
        self._open: dict[bytes, list[Answered]] = {}

    def put(self, key: bytes, answered: Answered, *, learned: bool) -> bool:
        """
        Ask for *key*; return whether anybody is there to answer.

        Args:
            key: The key.
            answered: Called once with the answer, after this returned true.
            learned: The server makes keys of this kind.
        """
        waiting = self._open.setdefault(key, [])
        waiting.append(answered)
        # One question is enough, because its answer goes to all who wait for it.
        if len(waiting) == 1 and not self._ask(key, learned):
            self._open.pop(key, None)
            return False
        return True

    def answer(self, key: bytes, *, yes: bool) -> None:
        """Pass the master's answer about *key* on to all who wait for it."""
        for answered in self._open.pop(key, ()):
            answered(yes)

    def give_up(self, which: Callable[[bytes], bool] = lambda _: True) -> None:
        """Answer no to the open questions about the keys that *which* selects."""
        for key in list(filter(which, self._open)):
            self.answer(key, yes=False)
