"""Time, chance and the record of a run: what all parts of the simulation share."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
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
        # Told each line of the trace, by whoever wants to read along.
        self.on_note: Callable[[str], None] | None = None
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
        if self.on_note is not None:
            self.on_note(line)

    def count(self, kind: str, times: int = 1) -> None:
        """That kind of thing happened; the tests ask that each does somewhere."""
        self.counts[kind] += times

    def trace_hash(self) -> str:
        """The same for the same run."""
        return self._hasher.hexdigest()


class Clockwork:
    """Of a machine or a process, which may stand still.

    What was to happen meanwhile happens once it goes on, in the same order.
    """

    def __init__(self, world: World, outer: Clockwork | None = None) -> None:
        """`outer` is that of its machine: when that stands still, it does too."""
        self._world = world
        self._outer = outer
        self._goes_on_us = 0

    @property
    def goes_on_us(self) -> int:
        """When it does again, or did."""
        outer = self._outer
        return self._goes_on_us if outer is None else max(self._goes_on_us, outer.goes_on_us)

    @property
    def stands_still(self) -> bool:
        """Whether nothing happens there."""
        return self.goes_on_us > self._world.now_us

    def hold(self, for_us: int) -> int:
        """It stands still for so long from now; how much longer than it would have anyway."""
        before_us = max(self._goes_on_us, self._world.now_us)
        self._goes_on_us = max(before_us, self._world.now_us + for_us)
        return self._goes_on_us - before_us

    def release(self) -> int:
        """It goes on now; how much earlier than it would have."""
        early_us = max(self._goes_on_us - self._world.now_us, 0)
        self._goes_on_us = 0
        return early_us

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        """It does that so much later."""
        self._world.after(delay_us, partial(self.run, action))

    def run(self, action: Callable[[], None]) -> None:
        """It does that now, or when it goes on."""
        wait_us = self.goes_on_us - self._world.now_us
        if wait_us > 0:
            self._world.after(wait_us, partial(self.run, action))
        else:
            action()


def check(holds: bool, what: str) -> None:
    """Raises Violation when it does not hold."""
    if not holds:
        raise Violation(what)
