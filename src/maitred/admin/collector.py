"""
The metrics as ``prometheus_client`` wants them.

With PROMETHEUS_MULTIPROC_DIR the workers write their own metrics into files there, and
they are told together with ours. What is told of the living alone is forgotten when
they are gone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from . import metrics

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
MOST_ACCEPTED: Final = 8
"Values of Accept for which what was written is kept."
OF_THE_LIVING: Final = re.compile(r"gauge_live[a-z]*_(\d+)\.db")


class Exposition:
    """Writes a snapshot, and what the workers have written, as metrics."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Read in *environment* where workers write their metrics."""
        self._directory = environment.get(VARIABLE, "")
        # The last snapshot, and its text by value of Accept.
        self._snapshot: Mapping[str, Any] | None = None
        self._written: dict[str, tuple[bytes, str]] = {}

    def write(self, snapshot: Mapping[str, Any], accept: str) -> tuple[bytes, str]:
        """
        Return all metrics as text, and its content type; kept for one snapshot.

        Args:
            snapshot: The master's answer.
            accept: The header of the request, by which the format is chosen.
        """
        if snapshot is not self._snapshot:
            self._snapshot, self._written = snapshot, {}
        if (found := self._written.get(accept)) is None:
            found = self._write(snapshot, accept)
            if len(self._written) < MOST_ACCEPTED:
                self._written[accept] = found
        return found

    def _write(self, snapshot: Mapping[str, Any], accept: str) -> tuple[bytes, str]:
        registry = CollectorRegistry()
        registry.register(FromSnapshot(snapshot))
        ProcessCollector(pid=lambda: snapshot["pid"], registry=registry)
        if os.path.isdir(self._directory):
            MultiProcessCollector(registry, self._directory)  # type: ignore[no-untyped-call]
        encoder, content_type = choose_encoder(accept)
        return encoder(registry), content_type

    def bury(self) -> None:
        """Remove the gauges of living workers whose process is gone."""
        if not os.path.isdir(self._directory):
            return
        for name in os.listdir(self._directory):
            pid = OF_THE_LIVING.fullmatch(name)
            if pid and not os.path.exists(f"/proc/{pid[1]}"):
                mark_process_dead(int(pid[1]), self._directory)  # type: ignore[no-untyped-call]


class FromSnapshot(Collector):
    """Collects the metrics of the table from a snapshot."""

    def __init__(self, snapshot: Mapping[str, Any]) -> None:
        """Start with *snapshot*, which ``collect`` reads."""
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        """Return one family for each metric."""
        return [_family(metric, self._snapshot) for metric in metrics.METRICS]

    def describe(self) -> Iterable[Metric]:
        """Return no names: the registry has none to check."""
        return []


def _family(metric: metrics.Metric, snapshot: Mapping[str, Any]) -> Metric:
    name, labels = metric.name, metric.labels
    known = [(at, value) for at, value in metric.read(snapshot) if value is not None]
    match metric.kind:
        case metrics.Kind.COUNTER:
            counter = CounterMetricFamily(name, metric.help, labels=labels)
            for at, value in known:
                counter.add_metric(at, value)
            return counter
        case metrics.Kind.GAUGE:
            gauge = GaugeMetricFamily(name, metric.help, labels=labels)
            for at, value in known:
                gauge.add_metric(at, value)
            return gauge
        case metrics.Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(name, metric.help, labels=labels)
            for at, (buckets, total) in known:
                histogram.add_metric(at, buckets, total)
            return histogram
