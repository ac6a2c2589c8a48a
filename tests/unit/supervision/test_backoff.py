"""The backoff: it grows, it is bounded, and it is not the same for everybody."""

from random import Random

import pytest

from maitred.supervision.backoff import CEILING, delay


class Most:
    """Draws the highest number."""

    def uniform(self, _low, high):
        """Give the upper end."""
        return high


class Least:
    """Draws the lowest number."""

    def uniform(self, low, _high):
        """Give the lower end."""
        return low


@pytest.mark.parametrize(
    ("failures", "most"),
    [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (6, 16), (7, 30), (8, 30), (10**9, 30)],
)
def test_delay_doubles_up_to_its_ceiling(failures, most):
    """It is between one half and the whole of a number that doubles."""
    assert delay(failures, Most()) == most
    assert delay(failures, Least()) == most / 2


def test_delay_is_jittered():
    """Workers that failed together do not come back together."""
    rng = Random(1)
    delays = {delay(7, rng) for _ in range(100)}
    assert len(delays) == 100
    assert all(CEILING / 2 <= each <= CEILING for each in delays)
