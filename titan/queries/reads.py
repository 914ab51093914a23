"""The questions of ManagerService that only read, each answered from one state.

The manager asks them of what is now, lookback of what was. Nothing here changes a state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from titan.errors import InvalidJob
from titan.model import Resources, ScriptSource, State, WorkerState
from titan.queries import views
from titan.queries.requests import check_choices, filter_of, selector_of
from titan.queries.selection import JobFilter, filter_jobs, select_job
from titan.rpc.v1 import manager_pb2
from titan.scheduler.summary import Known
from titan.state.cluster import ClusterState
from titan.state.job import Job

LIST_MAX: Final = 1_000
ATTEMPTS_MAX: Final = 10_000
# A command takes up to 1 MiB, a message 16: an answer is full at so many bytes of jobs.
ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024


def get_job_status(
    state: ClusterState, request: manager_pb2.GetJobStatusRequest
) -> manager_pb2.GetJobStatusResponse:
    """One job and some of its attempts. Raises NotFound, InvalidJob."""
    selector = selector_of(request.job)
    job = select_job(state, selector)
    if request.attempts_limit < 0:
        raise InvalidJob("the number of attempts must not be negative")
    check_choices(request.attempt_states)
    limit = min(request.attempts_limit, ATTEMPTS_MAX)
    wanted = [each.indexes for each in selector.indexes]
    attempts = views.attempt_messages(state, job, wanted, frozenset(request.attempt_states))
    is_sent = job.execution.script_source is ScriptSource.SENT
    return manager_pb2.GetJobStatusResponse(
        job=views.job_message(state, job, Known()),
        attempts=_fitting(islice(attempts, limit)) if limit else (),
        lsn=state.lsn,
        script=state.environments[job.environment].script if request.script and is_sent else b"",
    )


class Begun(NamedTuple):
    """An attempt that has begun, and so has output."""

    attempt: int
    worker: int
    """Its number."""
    end_us: int
    """0: it runs."""


def begun_attempts(job: Job, index: int) -> list[Begun]:
    """All of a task that have begun, by number: one that was lost may end after the next."""
    begun = [
        Begun(record.attempt, record.worker, record.end_us)
        for record in (job.ended.of_index(index) if job.ended else ())
        if record.start_us
    ]
    active = job.active.get(index)
    if active is not None and active.state is State.RUNNING:
        begun.append(Begun(active.attempt, active.worker, 0))
    return sorted(begun)


def list_jobs(
    state: ClusterState, request: manager_pb2.ListJobsRequest
) -> manager_pb2.ListJobsResponse:
    """A page of jobs. Raises InvalidJob."""
    wanted = filter_of(request.filter)
    limit = min(request.limit or LIST_MAX, LIST_MAX)
    if limit < 0:
        raise InvalidJob("the limit must not be negative")
    found = list(islice(_listed(state, request, wanted), limit + 1))
    jobs = next(job_pages(state, found[:limit]), [])
    return manager_pb2.ListJobsResponse(jobs=jobs, more=len(found) > len(jobs), lsn=state.lsn)


def list_workers(state: ClusterState) -> manager_pb2.ListWorkersResponse:
    """All workers that have not taken their leave, as the log alone knows them."""
    return manager_pb2.ListWorkersResponse(
        workers=[
            views.worker_message(
                each,
                last_heard_us=each.last_heard_us,
                reason=views.reason_text(each, state.time_us, each.last_heard_us),
            )
            for each in views.listed_workers(state)
        ],
        lsn=state.lsn,
    )


def get_stats(state: ClusterState) -> manager_pb2.GetStatsResponse:
    """The cluster in numbers, as far as they stand in the log."""
    workers = views.listed_workers(state)
    healthy = [each for each in workers if each.state is WorkerState.HEALTHY]
    capacity = free = Resources()
    for worker in healthy:
        capacity, free = capacity.plus(worker.capacity), free.plus(worker.free)
    by_state = {each: sum(worker.state is each for worker in workers) for each in WorkerState}
    del by_state[WorkerState.DEREGISTERED]
    return manager_pb2.GetStatsResponse(
        cluster_id=state.cluster_id,
        version=state.version,
        now_us=state.time_us,
        jobs=views.counts_message(state.job_counts),
        tasks=views.counts_message(state.task_counts),
        workers={each.name.lower(): count for each, count in by_state.items()},
        capacity=views.resources_message(capacity),
        free=views.resources_message(free),
        lsn=state.lsn,
    )


def job_pages(state: ClusterState, jobs: list[Job]) -> Iterator[list[manager_pb2.Job]]:
    """The jobs as messages, as many together as an answer takes; none for no jobs."""
    page: list[manager_pb2.Job] = []
    size_bytes = 0
    known = Known()
    for job in jobs:
        message = views.job_message(state, job, known)
        size_bytes += message.ByteSize()
        if page and (size_bytes > ANSWER_BYTES_MAX or len(page) == LIST_MAX):
            yield page
            page, size_bytes = [], message.ByteSize()
            # The caller may have waited; the state may be another.
            known = Known()
        page.append(message)
    if page:
        yield page


def _fitting(attempts: Iterable[manager_pb2.Attempt]) -> Iterator[manager_pb2.Attempt]:
    """As many as an answer takes; a job's answer says how many there are."""
    size_bytes = 0
    for attempt in attempts:
        size_bytes += attempt.ByteSize()
        if size_bytes > ANSWER_BYTES_MAX:
            return
        yield attempt


def _listed(
    state: ClusterState, request: manager_pb2.ListJobsRequest, wanted: JobFilter
) -> Iterator[Job]:
    if wanted.all:
        before_id = request.before_job_id or None
        return filter_jobs(state, wanted, before_id=before_id, newest_first=True)
    return filter_jobs(state, wanted, after_id=request.after_job_id)
