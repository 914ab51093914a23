"""Who watches which jobs.

Level-triggered: a watcher that is slow sees fewer steps, never old ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from titan.errors import Busy

# A watcher of everything that falls behind by so many jobs is cut off; it comes back
# with its last LSN. About 10 MiB of ids.
DIRTY_JOBS_MAX: Final = 100_000
# By number, of all watchers that name more than a few: each takes some 125 bytes.
WATCHED_BY_NUMBER_MAX: Final = 1_000_000
FEW_JOBS: Final = 100


class Watcher:
    """One stream: the jobs that changed since it was asked last."""

    def __init__(self, job_ids: frozenset[int]) -> None:
        """Without ids it watches every job."""
        self.job_ids = job_ids
        self.is_cut = False
        self._dirty: dict[int, None] = {}
        self._changed = asyncio.Event()

    def note(self, job_ids: Iterable[int]) -> None:
        """These jobs changed."""
        if not self.is_cut:
            self._dirty.update(dict.fromkeys(job_ids))
            self.is_cut = len(self._dirty) > DIRTY_JOBS_MAX
        if self.is_cut:
            # It may be long before its stream turns again: until whoever reads it does.
            self._dirty.clear()
        self._changed.set()

    async def wait_changed(self) -> list[int]:
        """The jobs that changed since the last call, in order; waits for the first."""
        await self._changed.wait()
        self._changed.clear()
        changed = list(self._dirty)
        self._dirty.clear()
        return changed


class Feed:
    """All watchers. A change costs by those that it concerns."""

    def __init__(self, lsn: int) -> None:
        # All changes up to this record were told. The state may be further on: what a turn has
        # decided so far is in it, and more of the same record may follow.
        self.lsn = lsn
        self._of_all: dict[Watcher, None] = {}
        self._of_job: dict[int, dict[Watcher, None]] = {}
        self._many_watched = 0
        self._listeners: list[Callable[[list[int], int], None]] = []

    def listen(self, listener: Callable[[list[int], int], None]) -> None:
        """It is called with every change, at once: the jobs, and the record up to which."""
        self._listeners.append(listener)

    def add(self, watcher: Watcher) -> None:
        """It hears of every change from now on. Raises Busy: too many are watched by number."""
        jobs = len(watcher.job_ids)
        if jobs > FEW_JOBS:
            if self._many_watched + jobs > WATCHED_BY_NUMBER_MAX:
                raise Busy(
                    f"{self._many_watched} jobs are watched by number, the most is "
                    f"{WATCHED_BY_NUMBER_MAX}: try again, or watch all of them"
                )
            self._many_watched += jobs
        if not watcher.job_ids:
            self._of_all[watcher] = None
        for job_id in watcher.job_ids:
            self._of_job.setdefault(job_id, {})[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        """It hears no more. It was added."""
        if len(watcher.job_ids) > FEW_JOBS:
            self._many_watched -= len(watcher.job_ids)
        self._of_all.pop(watcher, None)
        for job_id in watcher.job_ids:
            watchers = self._of_job.get(job_id, {})
            watchers.pop(watcher, None)
            if not watchers:
                self._of_job.pop(job_id, None)

    def changed(self, job_ids: list[int], lsn: int) -> None:
        """These jobs changed, by records up to that one."""
        self.lsn = lsn
        if not job_ids:
            return
        for listener in self._listeners:
            listener(job_ids, lsn)
        for watcher in self._of_all:
            watcher.note(job_ids)
        if self._of_job:
            for job_id in job_ids:
                for watcher in self._of_job.get(job_id, ()):
                    watcher.note((job_id,))
