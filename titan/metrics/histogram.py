"""How often values of which size came: plain numbers, which cost a microsecond each.

Pure. A library's own would take a lock at each value, and its clock at each start.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

# Of what a disk, a loop or a call takes: in seconds.
SHORT_SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
)  # fmt: skip
# Of what a task waits and runs: from a millisecond to a month.
LONG_SECONDS: Final = (
    0.001, 0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0,
    86_400.0, 259_200.0, 604_800.0, 2_592_000.0,
)  # fmt: skip


class Distribution(NamedTuple):
    """A histogram at one moment."""

    bounds: Sequence[float]
    """Upper ends of the buckets, which belong to them; above the last there is one more bucket."""
    counts: Sequence[int]
    """In each bucket, the last one included."""
    total: float
    """The sum of all values."""


class Histogram:
    """Counts the values of one thing. Written to by one thread."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` rise."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """There was one more."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> Distribution:
        """As it is now."""
        return Distribution(self._bounds, tuple(self._counts), self._total)
