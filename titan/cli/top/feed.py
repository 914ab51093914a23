"""What `titan top` asks the manager, and how often. It loads no job that it does not show.

Each look is one answer for the cluster in numbers, one for the workers and two pages of jobs, of
which the manager finds each at once: those that run, and the head of the queue. A million jobs that
wait cost it no more than a screenful.
"""

from __future__ import annotations

import asyncio
from typing import Final

from titan.cli.top.model import Snapshot
from titan.client.aio_session import AioSession
from titan.rpc.v1 import manager_pb2, types_pb2

# After a look that took long, the next one waits so many times as long: whoever looks takes no more
# than a tenth of a manager that is slow to answer, or that has to search long for one user's jobs.
REST: Final = 9.0


class Feed:
    """One look after another at the manager; `session` reconnects for ever."""

    def __init__(self, session: AioSession, wanted: manager_pb2.JobFilter, limit: int) -> None:
        self._session = session
        self.wanted = manager_pb2.JobFilter()
        self.wanted.CopyFrom(wanted)
        self._limit = limit

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
        stats, workers, (jobs, has_more) = await asyncio.gather(
            self._session.stats(), self._session.workers(), self._jobs()
        )
        return Snapshot(stats, workers.workers, jobs, has_more)

    async def _jobs(self) -> tuple[list[manager_pb2.Job], bool]:
        if self.wanted.all or self.wanted.states:
            listed = await self._session.list_jobs(self.wanted, self._limit)
            return list(listed.jobs), listed.more
        # In this order a job that starts meanwhile is in both, never in neither.
        waiting = await self._session.list_jobs(self._in(types_pb2.PENDING), self._limit)
        active = await self._session.list_jobs(
            self._in(types_pb2.SCHEDULED, types_pb2.RUNNING), self._limit
        )
        seen = {job.job_id for job in active.jobs}
        jobs = [*active.jobs, *(job for job in waiting.jobs if job.job_id not in seen)]
        has_more = active.more or waiting.more or len(jobs) > self._limit
        return jobs[: self._limit], has_more

    def _in(self, *states: types_pb2.State.ValueType) -> manager_pb2.JobFilter:
        wanted = manager_pb2.JobFilter()
        wanted.CopyFrom(self.wanted)
        wanted.states.extend(states)
        return wanted


def pause_seconds(interval_seconds: float, took_seconds: float) -> float:
    """How long to wait after a look that took so long."""
    return max(interval_seconds - took_seconds, REST * took_seconds, 0.0)
