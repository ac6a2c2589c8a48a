"""The waits of a leaving worker fit into the grace period."""

import pytest

from maitred.grace import LONGEST, last_words


@pytest.mark.parametrize("grace", [0.1, 0.5, 1.0, 2.0, 3.9, 5.0, 60.0])
def test_both_waits_end_before_the_grace_period(grace):
    """With room for the process to end."""
    assert 2 * last_words(grace) <= 0.8 * grace
    assert 0 < last_words(grace) <= LONGEST


@pytest.mark.parametrize("grace", [5.0, 60.0])
def test_long_grace_period_lengthens_no_wait(grace):
    """Nor does the default shorten it."""
    assert last_words(grace) == LONGEST
