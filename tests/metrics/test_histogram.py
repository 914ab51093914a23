"""Distributions by themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from titan.metrics.histogram import LONG_SECONDS, SHORT_SECONDS, Histogram

BOUNDS = (1.0, 2.0, 5.0)


def test_a_value_on_a_bound_belongs_below_it_and_one_above_all_to_the_last() -> None:
    histogram = Histogram(BOUNDS)
    for value in (0.0, 1.0, 1.5, 5.0, 6.0):
        histogram.observe(value)
    bounds, counts, total = histogram.read()
    assert (bounds, counts, total) == (BOUNDS, (2, 1, 1, 1), 13.5)


def test_what_was_read_stays_as_it_was() -> None:
    histogram = Histogram(BOUNDS)
    before = histogram.read()
    histogram.observe(1.0)
    assert before.counts == (0, 0, 0, 0)
    assert histogram.read().counts == (1, 0, 0, 0)


@given(st.lists(st.floats(0, 10)))
def test_it_counts_as_one_would_by_hand(values: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    read = histogram.read()
    for place, bound in enumerate(BOUNDS):
        assert sum(read.counts[: place + 1]) == sum(value <= bound for value in values)
    assert sum(read.counts) == len(values)


def test_the_bounds_in_use_rise() -> None:
    for bounds in (SHORT_SECONDS, LONG_SECONDS):
        assert list(bounds) == sorted(set(bounds))
