"""What `titan top` asks the manager, and how often. It loads no job that it does not show.

Each look is one answer for the cluster in numbers, one for the workers and two pages of jobs, of
which the manager finds each at once: those that run, and the head of the queue. A million jobs that
wait cost it no more than a screenful.
"""

from __future__ import annotations

import time
from typing import Final

from titan.cli.top.model import Snapshot
from titan.client.aio_session import AioSession
from titan.rpc.v1 import manager_pb2, types_pb2

# After a search that took the manager long, the next look waits so many times as long: to find one
# user's jobs among a million takes it half a second, in which it does nothing else.
REST: Final = 19.0
# But no longer than this, else it is not live.
PAUSE_SECONDS_MAX: Final = 10.0


class Feed:
    """One look after another at the manager; `session` reconnects for ever."""

    def __init__(self, session: AioSession, wanted: manager_pb2.JobFilter, limit: int) -> None:
        self._session = session
        self.wanted = manager_pb2.JobFilter()
        self.wanted.CopyFrom(wanted)
        self._limit = limit
        # How long the manager searched for the jobs of the last look: what it took beyond the way
        # there and back, which an answer that costs nothing tells.
        self.search_seconds = 0.0

    @property
    def address(self) -> str:
        """Where the manager is."""
        return self._session.address

    def toggle_ended(self) -> bool:
        """Whether those that have ended are shown too, from now on; the newest first then."""
        self.wanted.all = not self.wanted.all
        return self.wanted.all

    async def look(self) -> Snapshot:
        """How things are now; while the manager is away it waits. Raises TitanError."""
        began = time.monotonic()
        stats = await self._session.stats()
        way = time.monotonic() - began
        workers = await self._session.workers()
        began = time.monotonic()
        jobs, has_more, calls = await self._jobs()
        self.search_seconds = max(0.0, time.monotonic() - began - calls * way)
        return Snapshot(stats, workers.workers, jobs, has_more)

    async def _jobs(self) -> tuple[list[manager_pb2.Job], bool, int]:
        """The jobs, whether there are more, and by how many calls."""
        if self.wanted.all or self.wanted.states:
            listed = await self._session.list_jobs(self.wanted, self._limit)
            return list(listed.jobs), listed.more, 1
        # In this order a job that starts meanwhile is in both, never in neither.
        waiting = await self._session.list_jobs(self._in(types_pb2.PENDING), self._limit)
        active = await self._session.list_jobs(
            self._in(types_pb2.SCHEDULED, types_pb2.RUNNING), self._limit
        )
        seen = {job.job_id for job in active.jobs}
        jobs = [*active.jobs, *(job for job in waiting.jobs if job.job_id not in seen)]
        has_more = active.more or waiting.more or len(jobs) > self._limit
        return jobs[: self._limit], has_more, 2

    def _in(self, *states: types_pb2.State.ValueType) -> manager_pb2.JobFilter:
        wanted = manager_pb2.JobFilter()
        wanted.CopyFrom(self.wanted)
        wanted.states.extend(states)
        return wanted


def pause_seconds(interval_seconds: float, took_seconds: float, search_seconds: float) -> float:
    """How long to wait after a look that took so long, of which the manager searched so long."""
    rest = min(REST * search_seconds, PAUSE_SECONDS_MAX)
    return max(interval_seconds - took_seconds, rest, 0.0)
