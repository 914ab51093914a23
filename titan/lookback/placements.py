"""Where in the log attempts were assigned."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import wal
from titan import events as ev
from titan.errors import OutOfRange, StillReading
from titan.lookback.past import Past, record_time
from titan.lookback.story import find_first_lsn, read_story
from titan.model import IndexRange, task_name
from titan.queries.explanations import Placing
from titan.queries.stories import Story

# How far it was looked for so many attempts is remembered: a few numbers for each.
SEARCHES_KEPT: Final = 1_000


class Placements:
    """Finds them. How far was looked is kept for the next question."""

    def __init__(
        self,
        past: Past,
        *,
        look_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """One question looks for so many seconds; then StillReading says to ask again."""
        self._past = past
        self._look_seconds = look_seconds
        self._clock = clock
        # Up to which record each is not.
        self._looked: OrderedDict[tuple[int, int, int], int] = OrderedDict()

    def find(self, placing: Placing) -> tuple[int, ev.TaskAssigned]:
        """The record and the event. Raises OutOfRange, StillReading, PastUnreadable."""
        return self._past.read(lambda: self._find(placing))

    def _find(self, placing: Placing) -> tuple[int, ev.TaskAssigned]:
        key = placing[:3]
        after_lsn = self._looked.pop(key, None)
        if after_lsn is None:
            after_lsn = max(placing.after_lsn, self._lsn_before(placing.not_before_us))
        story = Story(
            placing.job_id,
            (IndexRange(placing.index, placing.index + 1),),
            after_lsn,
            last_lsn=placing.last_lsn,
        )
        end = self._clock() + self._look_seconds
        for lsn, _, events in read_story(self._past.log_directory, story):
            for event in events:
                if type(event) is ev.TaskAssigned and event[:3] == key:
                    self._keep(key, lsn - 1)
                    return lsn, event
            if self._clock() >= end and lsn < placing.last_lsn:
                self._keep(key, lsn)
                raise StillReading(
                    f"it is looked for in the log how {_name(placing)} was placed, from LSN "
                    f"{after_lsn + 1} on, up to {placing.last_lsn}; it came to {lsn}"
                )
        first_lsn = find_first_lsn(self._past.log_directory)
        raise OutOfRange(
            f"how {_name(placing)} was placed is not in the log any more: it begins with LSN "
            f"{first_lsn}"
        )

    def _keep(self, key: tuple[int, int, int], lsn: int) -> None:
        self._looked[key] = lsn
        if len(self._looked) > SEARCHES_KEPT:
            self._looked.popitem(last=False)

    def _lsn_before(self, time_us: int) -> int:
        """A record of which it is certain that all of that time are behind it; 0: the first."""
        if not time_us:
            return 0
        firsts = self._past.list_segments()
        # The last of those that are empty yet has no time, and everything is before it.
        place = bisect_left(firsts, time_us, key=self._time_of)
        return firsts[place - 1] - 1 if place else 0

    def _time_of(self, first_lsn: int) -> int:
        with wal.Reader(self._past.log_directory, from_lsn=first_lsn) as reader:
            found = reader.read(1)
        return record_time(found[0].payload) if found else 1 << 62


def _name(placing: Placing) -> str:
    return f"attempt {placing.attempt} of {task_name(placing.job_id, placing.index, True)}"
