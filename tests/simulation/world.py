"""Time, chance and the record of a run: what all parts of the simulation share."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, deque
from collections.abc import Callable
from random import Random

START_US = 1_750_000_000_000_000
# What of the trace a failure shows.
TRACE_LINES_KEPT = 60


class Violation(AssertionError):
    """Something that must hold does not."""


class World:
    """The virtual clock with what is to happen, in order of time and then of planning."""

    def __init__(self, seed: int) -> None:
        self.now_us = START_US
        self.random = Random(seed)
        self.counts: Counter[str] = Counter()
        self.recent: deque[str] = deque(maxlen=TRACE_LINES_KEPT)
        self.steps = 0
        self._hasher = hashlib.blake2b(digest_size=16)
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0

    @property
    def elapsed_us(self) -> int:
        """Since the start of the run."""
        return self.now_us - START_US

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        """It happens so much later; what is planned for one moment happens in that order."""
        self._planned += 1
        heapq.heappush(self._queue, (self.now_us + max(delay_us, 0), self._planned, action))

    def step(self) -> None:
        """The next thing happens."""
        self.now_us, _, action = heapq.heappop(self._queue)
        self.steps += 1
        action()

    def chance(self, percent: int) -> bool:
        """True in so many of a hundred cases."""
        return percent > 0 and self.random.randrange(100) < percent

    def note(self, text: str) -> None:
        """A line of the trace."""
        line = f"{self.elapsed_us / 1e6:.6f} {text}"
        self.recent.append(line)
        self._hasher.update(line.encode())

    def count(self, kind: str, times: int = 1) -> None:
        """That kind of thing happened; the tests ask that each does somewhere."""
        self.counts[kind] += times

    def trace_hash(self) -> str:
        """The same for the same run."""
        return self._hasher.hexdigest()


def check(holds: bool, what: str) -> None:
    """Raises Violation when it does not hold."""
    if not holds:
        raise Violation(what)
