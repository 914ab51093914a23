"""Jobs that ended and left the manager's memory: the log still has them."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import wal
from titan import events as ev
from titan.errors import OutOfRange, StillReading
from titan.lookback.past import READ_RECORDS, Past
from titan.queries.mentions import find_forgetting_mentions
from titan.state.cluster import ClusterState

# How far it was looked for so many jobs is remembered: a few numbers for each.
SEARCHES_KEPT: Final = 1_000


@dataclass(slots=True)
class _Search:
    """The search for the record by which a job was forgotten, from the end of the log backwards."""

    before_lsn: int = 0
    """From here on it is not; 0: nothing was looked through yet."""
    lsn: int = 0
    """It is there; 0: not found yet."""


class ForgottenJobs:
    """Finds them. What was found, and how far was looked, is kept for the next question."""

    def __init__(
        self,
        past: Past,
        *,
        look_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """One question looks for so many seconds, and for one segment at least."""
        self._past = past
        self._look_seconds = look_seconds
        self._clock = clock
        self._searches: OrderedDict[int, _Search] = OrderedDict()

    def state_with(self, job_id: int) -> ClusterState:
        """A state in which the job has ended and is still remembered.

        Raises OutOfRange when the log does not reach back so far, PastUnreadable, and StillReading
        when the time was over: the next question goes on.
        """
        kept = self._past.find_kept_with_end_of(job_id)
        if kept is not None:
            return kept
        search = self._searches.pop(job_id, None) or _Search()
        self._searches[job_id] = search
        if len(self._searches) > SEARCHES_KEPT:
            self._searches.popitem(last=False)
        self._look_on(job_id, search)
        return self._past.state_with_end_of(job_id, search.lsn)

    def _look_on(self, job_id: int, search: _Search) -> None:
        end = self._clock() + self._look_seconds
        while not search.lsn:
            # Older ones may have been removed since the last time.
            firsts = self._past.read(self._past.list_segments)
            left = [each for each in firsts if not search.before_lsn or each < search.before_lsn]
            if not left:
                raise OutOfRange(
                    f"job {job_id} ended and was forgotten, and what the log told of it is gone"
                )
            search.lsn = self._past.read(partial(self._look_through, job_id, search, left[-1]))
            search.before_lsn = left[-1]
            if not search.lsn and len(left) > 1 and self._clock() >= end:
                raise StillReading(
                    f"job {job_id} ended and was forgotten; it is looked for in the log, "
                    f"{len(left) - 1} of {len(firsts)} segments are left"
                )

    def _look_through(self, job_id: int, search: _Search, first_lsn: int) -> int:
        directory = self._past.log_directory
        return find_forgetting(directory, job_id, first_lsn, search.before_lsn)


def find_forgetting(directory: Path, job_id: int, from_lsn: int, before_lsn: int) -> int:
    """The LSN of the record between these two by which the job was forgotten; 0: it is not there.

    `before_lsn` 0: up to the end of the log. Raises wal.WalError, EventError.
    """
    may_tell = find_forgetting_mentions(job_id)
    with wal.Reader(directory, from_lsn=from_lsn) as reader:
        while records := reader.read(READ_RECORDS):
            for lsn, payload in records:
                if before_lsn and lsn >= before_lsn:
                    return 0
                if may_tell(payload) and _forgets(payload, job_id):
                    return lsn
    return 0


def _forgets(payload: bytes, job_id: int) -> bool:
    _, events = ev.decode_record(payload)
    return any(type(each) is ev.JobsForgotten and job_id in each.job_ids for each in events)
