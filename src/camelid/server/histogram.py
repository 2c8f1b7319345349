"""Histograms of seconds that cost a token next to nothing.

The client library's own takes a lock for each of three numbers and walks all buckets, 8 µs a token; a server of one
event loop needs neither.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

LABEL = "model_name"


class Series:
    """The seconds seen of one model."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)  # of each bucket alone; the last is beyond all bounds
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def add_to(self, family: HistogramMetricFamily, model: str) -> None:
        """Add what was seen, each bucket with all below it, to what Prometheus reads."""
        bounds = (*map(floatToGoString, self._bounds), "+Inf")
        family.add_metric([model], list(zip(bounds, accumulate(self._counts), strict=True)), self._sum)


class Histogram(Collector):
    """One metric: a series for each model."""

    def __init__(self, name: str, meaning: str, bounds: Sequence[float]) -> None:
        self._name, self._meaning, self._bounds = name, meaning, bounds
        self._series: dict[str, Series] = {}

    def of(self, model: str) -> Series:
        """Return a model's series."""
        return self._series.setdefault(model, Series(self._bounds))

    def describe(self) -> Iterator[Metric]:
        """Yield the metric without its values."""
        yield HistogramMetricFamily(self._name, self._meaning, labels=[LABEL])

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        family = HistogramMetricFamily(self._name, self._meaning, labels=[LABEL])
        for model, series in self._series.items():
            series.add_to(family, model)
        yield family
