"""Distributions by themselves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan.metrics import histogram as module
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


@given(st.lists(st.integers(-1_000, 10_000)), st.lists(st.integers(-1_000, 10_000)))
def test_it_counts_as_one_would_by_hand(values: list[int], more: list[int]) -> None:
    one_by_one, together = (Histogram(BOUNDS, per_unit=1_000) for _ in range(2))
    for value in (*values, *more):
        one_by_one.observe(max(value, 0))
    together.gather(values)
    together.gather(more)
    read = together.read()
    assert read == one_by_one.read()
    seconds = [max(value, 0) / 1_000 for value in (*values, *more)]
    for place, bound in enumerate(BOUNDS):
        assert sum(read.counts[: place + 1]) == sum(value <= bound for value in seconds)
    assert sum(read.counts) == len(seconds)
    assert math.isclose(read.total, sum(seconds), abs_tol=1e-9)


def test_what_is_gathered_takes_no_more_memory_than_a_few_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GATHERED_MAX", 10)
    histogram = Histogram(BOUNDS)
    for _ in range(25):
        histogram.gather([1.0])
    assert len(histogram._gathered) < 10
    assert histogram.read() == (BOUNDS, (25, 0, 0, 0), 25.0)


def test_the_bounds_in_use_rise() -> None:
    for bounds in (SHORT_SECONDS, LONG_SECONDS):
        assert list(bounds) == sorted(set(bounds))
