"""
How numbers are written for people: short, and of a known width. Pure.

Invariant: two digits say what matters; more would be noise.
"""

from __future__ import annotations

from typing import Final

UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
FACTORS: Final = ((10**9, "G"), (10**6, "M"), (10**3, "k"))
EXACT: Final = 10**4
TEN: Final = 9.95
"From here on, a digit behind the point would be one too many."


def short(number: float) -> str:
    """Return *number* in at most four characters: ``9999``, ``12k``, ``3.4M``."""
    if number < EXACT:
        return f"{number:.0f}"
    factor, unit = next(each for each in FACTORS if number >= each[0])
    return f"{_two_digits(number / factor)}{unit}"


def seconds(number: float) -> str:
    """Return a short time: ``0.4ms``, ``12ms``, ``3.1s``."""
    if number < 1:
        return f"{_two_digits(number * 1000)}ms"
    return f"{_two_digits(number)}s"


def age(number: float) -> str:
    """Return a long time in its two greatest units: ``2d 3h``, ``4m 5s``."""
    rest, parts = int(number), list[str]()
    for size, unit in UNITS:
        if rest >= size or parts or size == 1:
            parts.append(f"{rest // size}{unit}")
            rest %= size
    return " ".join(parts[:2])


def _two_digits(number: float) -> str:
    return f"{number:.1f}" if number < TEN else f"{number:.0f}"
