"""
How long to wait before a worker that died early is started again. Pure.

Exponential with a ceiling, and jittered, so that the workers of a broken
application do not all come back in the same instant for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

FIRST: Final = 0.5
CEILING: Final = 30.0


def delay(failures: int, rng: Random) -> float:
    """
    Return the seconds to wait after the *failures*-th early death in a row, from 1.

    They are between one half and the whole of 0.5, 1, 2, 4, ... 30.
    """
    # The exponent is bounded, because a power of many failures has no float.
    whole = min(CEILING, FIRST * 2.0 ** min(failures - 1, 16))
    return whole * rng.uniform(0.5, 1.0)
