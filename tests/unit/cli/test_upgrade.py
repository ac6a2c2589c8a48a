"""``maitred upgrade``: what it prints."""

from maitred.cli.upgrade import render


def test_upgrade_is_told_in_one_line():
    """Which program it was, which it is, and what it cost."""
    said = {"from": "1.0", "to": "1.1", "away": 0.2104, "held": 12, "upgrades": 1}
    assert render(said) == (
        "upgraded from 1.0 to 1.1: away for 210 ms, 12 connections held"
    )
