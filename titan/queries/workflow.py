"""The jobs that hang together: what a job waited for, what waits for it, and so on.

A job says what it waits for. Who waits for it the state knows only until it has ended; after that
those are looked for among the jobs that came next, where those of one workflow mostly are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator
from itertools import chain
from typing import Final

from titan.errors import InvalidJob
from titan.queries import reads
from titan.queries.requests import selector_of
from titan.queries.selection import select_job
from titan.rpc.v1 import manager_pb2
from titan.state.cluster import ClusterState

JOBS_MAX: Final = 1_000
# Behind each job, and in all; some hundred thousandths of a second for each.
NEXT_JOBS: Final = 1_000
LOOKED_AT_MAX: Final = 20_000
STEP_JOBS: Final = 100


def get_workflow(
    state: ClusterState, request: manager_pb2.GetWorkflowRequest
) -> Generator[None, None, manager_pb2.GetWorkflowResponse]:
    """Jobs as they are, in steps. Raises NotFound, InvalidJob at the first one."""
    selector = selector_of(request.job)
    if selector.indexes:
        raise InvalidJob("a workflow is one of jobs: name the job alone")
    if request.limit < 0:
        raise InvalidJob("the limit must not be negative")
    job = select_job(state, selector)
    limit = min(request.limit or JOBS_MAX, JOBS_MAX)
    members, more = yield from find_workflow(state, job.job_id, limit)
    jobs = [found for each in members if (found := state.jobs.get(each)) is not None]
    page = next(reads.job_pages(state, jobs), [])
    return manager_pb2.GetWorkflowResponse(
        jobs=page, more=more or len(page) < len(jobs), lsn=state.lsn
    )


def find_workflow(
    state: ClusterState, job_id: int, limit: int
) -> Generator[None, None, tuple[list[int], bool]]:
    """The numbers of at most so many jobs, and whether there are or may be others; in steps."""
    known = _Known(state)
    members = {job_id: None}
    waiting = [job_id]
    while waiting and len(members) <= limit:
        each = waiting.pop()
        yield from known.look_behind(each)
        for other in chain(known.after(each), known.dependents(each)):
            if other not in members and other in state.jobs:
                members[other] = None
                waiting.append(other)
                # A million may wait for one.
                if len(members) > limit:
                    break
        # Those of before may wait for it, or be waited for by what was looked at for its sake.
        for other in known.take_news():
            if other not in members and any(of in members for of in known.after(other)):
                members[other] = None
                waiting.append(other)
    more = len(members) > limit or known.is_exhausted
    return sorted(list(members)[:limit]), more


class _Known:
    """Which jobs wait for which, as far as they were looked at."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._after: dict[int, tuple[int, ...]] = {}
        self._dependents: dict[int, list[int]] = defaultdict(list)
        self._news: list[int] = []
        self.is_exhausted = False

    def after(self, job_id: int) -> tuple[int, ...]:
        """What it waits for."""
        after = self._after.get(job_id)
        if after is None:
            job = self._state.jobs.get(job_id)
            after = tuple(each.job_id for each in job.scheduling.after) if job else ()
            self._after[job_id] = after
            for each in after:
                self._dependents[each].append(job_id)
            if after:
                self._news.append(job_id)
        return after

    def dependents(self, job_id: int) -> Iterator[int]:
        """Those that are known to wait for it; some of them twice."""
        for by_job in self._state.dependents.get(job_id, {}).values():
            yield from by_job
        yield from self._dependents[job_id]

    def take_news(self) -> list[int]:
        """Those that wait for others, and were looked at since this was called last."""
        news, self._news = self._news, []
        return news

    def look_behind(self, job_id: int) -> Generator[None, None, None]:
        """Looks at the jobs that came after it."""
        jobs = self._state.jobs
        end = job_id + NEXT_JOBS
        ids = jobs.ids.irange(job_id, end, (False, True))
        for number, each in enumerate([other for other in ids if other not in self._after]):
            if len(self._after) >= LOOKED_AT_MAX:
                self.is_exhausted = True
                return
            self.after(each)
            if number % STEP_JOBS == STEP_JOBS - 1:
                yield
        # To find that all of them were looked at before takes its time, too.
        yield
