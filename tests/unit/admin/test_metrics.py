"""The table of metrics keeps the rules of Prometheus."""

import re

import pytest

from maitred.admin.metrics import METRICS, Kind


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
def test_names_follow_practice(metric):
    """A counter ends in _total, and nothing else does; a label is one word."""
    assert re.fullmatch(r"maitred_[a-z]+(_[a-z]+)*", metric.name)
    assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total")
    assert (metric.kind is Kind.HISTOGRAM) <= metric.name.endswith("_seconds")
    assert metric.help.endswith(".")
    assert all(re.fullmatch("[a-z]+", label) for label in metric.labels)


def test_names_are_unique():
    """No metric is listed twice."""
    assert len({metric.name for metric in METRICS}) == len(METRICS)
