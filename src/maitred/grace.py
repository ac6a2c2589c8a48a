"""
What a leaving worker may still wait for, when the time to drain is over.

The master kills it at the end of the grace period. Its own waits are parts of that, so
that it has answered whoever is left, and has said so, when the master looks.
"""

from __future__ import annotations

from typing import Final

LONGEST: Final = 2.0
"Seconds for connections to be given back, or for WebSockets to be closed."
PART: Final = 0.4
"The same as a part of the grace period: there are two such waits, one after the other."


def last_words(grace: float) -> float:
    """Return the seconds of one such wait, for a grace period of *grace* seconds."""
    return min(LONGEST, grace * PART)
