"""What a scrape says: families of samples, as plain numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from titan.metrics.histogram import Distribution


class Kind(Enum):
    """What the values of a family do."""

    COUNTER = "counter"
    """They rise, from 0 at each start of the process."""
    GAUGE = "gauge"
    """They are what is now."""
    HISTOGRAM = "histogram"
    """They are distributions that rise."""


class Family(NamedTuple):
    """Samples of one name."""

    name: str
    """As it is queried: a counter's ends with `_total`, and what has a unit names it before."""
    kind: Kind
    help: str
    labels: tuple[str, ...]
    samples: tuple[tuple[tuple[str, ...], float | Distribution], ...]
    """Values of the labels, and the sample with them; a histogram's are distributions."""


def gauge(name: str, help_text: str, value: float) -> Family:
    """One value of now."""
    return Family(name, Kind.GAUGE, help_text, (), (((), value),))


def gauges(name: str, help_text: str, label: str, values: Mapping[str, float]) -> Family:
    """Values of now, by a label."""
    samples = tuple(((key,), value) for key, value in values.items())
    return Family(name, Kind.GAUGE, help_text, (label,), samples)


def counter(name: str, help_text: str, value: float) -> Family:
    """One count."""
    return Family(name, Kind.COUNTER, help_text, (), (((), value),))


def counters(
    name: str,
    help_text: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], float]],
) -> Family:
    """Counts, by labels."""
    return Family(name, Kind.COUNTER, help_text, labels, tuple(values))


def histogram(name: str, help_text: str, distribution: Distribution) -> Family:
    """One distribution."""
    return Family(name, Kind.HISTOGRAM, help_text, (), (((), distribution),))


def histograms(
    name: str, help_text: str, label: str, distributions: Mapping[str, Distribution]
) -> Family:
    """Distributions, by a label."""
    samples = tuple(((key,), each) for key, each in distributions.items())
    return Family(name, Kind.HISTOGRAM, help_text, (label,), samples)
