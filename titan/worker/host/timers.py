"""When which timer of an attempt is due. Whoever asks reads the clock."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from typing import Final

from titan.model import AttemptKey
from titan.worker.host.actions import Purpose

# So many may be left over from attempts that have ended before they are looked through.
_LEFT_OVER_MIN: Final = 1_000


class Timers:
    """A heap by time. O(log timers) for each that is started.

    An attempt that ends leaves its timers behind, and a time limit may be years: they are
    cleared out each time that their number has doubled, so that at most as many are kept
    for nothing as are waited for.
    """

    def __init__(self, is_live: Callable[[AttemptKey], bool]) -> None:
        """`is_live` tells whether an attempt's timers still matter."""
        self._is_live = is_live
        self._heap: list[tuple[float, AttemptKey, Purpose]] = []
        self._clear_at = _LEFT_OVER_MIN

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_due(self) -> float:
        """When the next one is due, infinity when there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def start(self, due: float, key: AttemptKey, purpose: Purpose) -> None:
        """It is due then."""
        if len(self._heap) >= self._clear_at:
            self._heap = [each for each in self._heap if self._is_live(each[1])]
            heapq.heapify(self._heap)
            self._clear_at = max(_LEFT_OVER_MIN, 2 * len(self._heap))
        heapq.heappush(self._heap, (due, key, purpose))

    def take_due(self, now: float) -> Iterator[tuple[AttemptKey, Purpose]]:
        """Those that are due by now, the earliest first; they are gone then."""
        while self._heap and self._heap[0][0] <= now:
            _, key, purpose = heapq.heappop(self._heap)
            yield key, purpose
