"""How often values of which size came: plain numbers, which cost a microsecond each.

Pure. A library's own would take a lock at each value, and its clock at each start.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
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

# A millisecond to count, at most.
GATHERED_MAX: Final = 4_096


class Distribution(NamedTuple):
    """A histogram at one moment."""

    bounds: Sequence[float]
    """Upper ends of the buckets, which belong to them; above the last there is one more bucket."""
    counts: Sequence[int]
    """In each bucket, the last one included."""
    total: float
    """The sum of all values."""


class Histogram:
    """Counts the values of one thing. Used by one thread."""

    __slots__ = ("_bounds", "_counts", "_ends", "_gathered", "_per_unit", "_total")

    def __init__(self, bounds: Sequence[float], *, per_unit: int = 1) -> None:
        """`bounds` rise. Values come in parts of which so many are one unit of theirs."""
        self._bounds = bounds
        self._ends = [bound * per_unit for bound in bounds]
        self._per_unit = per_unit
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0
        # Not counted yet.
        self._gathered: list[float] = []

    def observe(self, value: float) -> None:
        """There was one more."""
        self._counts[bisect_left(self._ends, value)] += 1
        self._total += value

    def gather(self, values: Iterable[float]) -> None:
        """The same for several, of which those below 0 count as 0; cheaper, since it is put off."""
        self._gathered += values
        if len(self._gathered) >= GATHERED_MAX:
            self._count_gathered()

    def read(self) -> Distribution:
        """As it is now."""
        self._count_gathered()
        return Distribution(self._bounds, tuple(self._counts), self._total / self._per_unit)

    def _count_gathered(self) -> None:
        """Sorts them by C, which takes a tenth of what finding each one's place does."""
        values = self._gathered
        values.sort()
        negative = bisect_left(values, 0)
        values[:negative] = [0] * negative
        below = 0
        for place, end in enumerate(self._ends):
            up_to = bisect_right(values, end)
            self._counts[place] += up_to - below
            below = up_to
        self._counts[-1] += len(values) - below
        self._total += sum(values)
        values.clear()
