"""From families to the text that Prometheus reads; names and forms are its library's to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import assert_never

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from titan.metrics.family import Family, Kind
from titan.metrics.histogram import Distribution


class Exposition:
    """Makes the text from what is told of Titan, and of this process."""

    def __init__(self) -> None:
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def text(self, families: Iterable[Family], accept: str) -> tuple[bytes, str]:
        """The text in the form that the header Accept asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        metrics = [*map(_metric_of, families), *self._process.collect()]
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Told(metrics))
        return encode(registry), content_type


class _Told(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def _metric_of(family: Family) -> Metric:
    name, kind, help_text, labels, samples = family
    match kind:
        case Kind.COUNTER:
            counter = CounterMetricFamily(name, help_text, labels=labels)
            for values, value in samples:
                counter.add_metric(values, _number(value))
            return counter
        case Kind.GAUGE:
            gauge = GaugeMetricFamily(name, help_text, labels=labels)
            for values, value in samples:
                gauge.add_metric(values, _number(value))
            return gauge
        case Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(name, help_text, labels=labels)
            for values, value in samples:
                assert isinstance(value, Distribution)
                histogram.add_metric(values, _buckets(value), value.total)
            return histogram
        case _:
            assert_never(kind)


def _number(value: float | Distribution) -> float:
    assert not isinstance(value, Distribution)
    return value


def _buckets(distribution: Distribution) -> list[tuple[str, float]]:
    ends = [*map(floatToGoString, distribution.bounds), "+Inf"]
    return list(zip(ends, accumulate(distribution.counts), strict=True))
