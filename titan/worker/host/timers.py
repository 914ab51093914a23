"""When which timer of an attempt is due. Whoever asks reads the clock."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, assert_never

from titan.model import AttemptKey
from titan.worker.host.actions import DropLimit, Purpose, Resume, StartTimer, Suspend

# So many may be left over from attempts that have ended before they are looked through.
_LEFT_OVER_MIN: Final = 1_000


@dataclass(slots=True)
class _Run:
    """A running attempt's own clock: its run time at `now` is `now - since`."""

    since: float
    """Its start, later by all that it was suspended since."""
    suspended_at: float | None = None
    timers: dict[Purpose, StartTimer] = field(default_factory=dict)
    """Those that count its run time and are not over, at most one for each purpose."""

    def due(self, timer: StartTimer) -> float:
        """When it is over, if it is not suspended until then."""
        return self.since + timer.after_ms / 1000


class Timers:
    """A heap by time. O(log timers) for each that is started.

    An attempt that ends leaves its timers behind, as does one whose limit changes or that is
    suspended, and a time limit may be years: they are cleared out each time that their number
    has doubled, so that at most as many are kept for nothing as are waited for.
    """

    def __init__(self, is_live: Callable[[AttemptKey], bool]) -> None:
        """`is_live` tells whether an attempt's grace still matters."""
        self._is_live = is_live
        self._runs: dict[AttemptKey, _Run] = {}
        self._heap: list[tuple[float, StartTimer]] = []
        self._clear_at = _LEFT_OVER_MIN

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_due(self) -> float:
        """When the next one may be due, infinity when there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def begin(self, key: AttemptKey, now: float) -> None:
        """The attempt runs from now on."""
        self._runs[key] = _Run(now)

    def end(self, key: AttemptKey) -> None:
        """It runs no longer, or never did."""
        self._runs.pop(key, None)

    def perform(self, action: StartTimer | DropLimit | Suspend | Resume, now: float) -> None:
        """As the actions say; nothing for an attempt that does not run, but for a grace."""
        if isinstance(action, StartTimer) and action.purpose is Purpose.GRACE:
            self._push(now + action.after_ms / 1000, action)
            return
        run = self._runs.get(action.key)
        if run is None:
            return
        match action:
            case StartTimer():
                run.timers[action.purpose] = action
                if run.suspended_at is None:
                    self._push(run.due(action), action)
            case DropLimit():
                run.timers.clear()
            case Suspend():
                if run.suspended_at is None:
                    run.suspended_at = now
            case Resume():
                self._resume(run, now)
            case _:
                assert_never(action)

    def take_due(self, now: float) -> Iterator[StartTimer]:
        """Those that are due by now, the earliest first; they are gone then."""
        while self._heap and self._heap[0][0] <= now:
            due, timer = heapq.heappop(self._heap)
            if timer.purpose is Purpose.GRACE:
                yield timer
            elif self._counts(due, timer):
                del self._runs[timer.key].timers[timer.purpose]
                yield timer

    def _resume(self, run: _Run, now: float) -> None:
        if run.suspended_at is None:
            return
        run.since += now - run.suspended_at
        run.suspended_at = None
        for timer in run.timers.values():
            self._push(run.due(timer), timer)

    def _push(self, due: float, timer: StartTimer) -> None:
        if len(self._heap) >= self._clear_at:
            # A set: what is resumed at the moment it was suspended is due as it was before.
            self._heap = list({each for each in self._heap if self._counts(*each)})
            heapq.heapify(self._heap)
            self._clear_at = max(_LEFT_OVER_MIN, 2 * len(self._heap))
        heapq.heappush(self._heap, (due, timer))

    def _counts(self, due: float, timer: StartTimer) -> bool:
        """Whether it is not left over."""
        if timer.purpose is Purpose.GRACE:
            return self._is_live(timer.key)
        run = self._runs.get(timer.key)
        if run is None or run.suspended_at is not None:
            return False
        return run.timers.get(timer.purpose) == timer and run.due(timer) == due
