"""Which jobs a user means: by number, the last one, by name, or by a filter. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from titan.errors import InvalidJob, NotFound
from titan.model import TASK_ENDS, IndexRange, State
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.packed_job import JobHead

RANGES_MAX: Final = 1_000


class JobForgotten(NotFound):
    """The job ended, and the log alone remembers it."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"job {job_id} ended and was forgotten")
        self.job_id = job_id


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSelector:
    """Names one job in one of three ways, and perhaps only some of its tasks."""

    job_id: int = 0
    last_of_user: str = ""
    name: str = ""
    indexes: tuple[IndexRange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Jobs that match all of it. Without `all` and states: those that have not ended."""

    states: tuple[State, ...] = ()
    user: str = ""
    name: str = ""
    all: bool = False

    @property
    def wants_ended(self) -> bool:
        """Whether it names states in which jobs have ended."""
        return any(each in TASK_ENDS for each in self.states)


def select_job(state: ClusterState, selector: JobSelector) -> Job:
    """The one job that is meant, with tasks that it has.

    Raises NotFound, InvalidJob, and JobForgotten where only the log still knows it.
    """
    job = _select_whole(state, selector)
    check_indexes(job, selector.indexes)
    return job


def filter_jobs(
    state: ClusterState,
    wanted: JobFilter,
    *,
    after_id: int | None = None,
    before_id: int | None = None,
    newest_first: bool = False,
) -> Iterator[Job]:
    """Those that match, by number; without `all` and states those that have not ended.

    Only between two numbers, both excluded, if they are given. An ended job is unpacked only if
    it matches. With states it looks no further than the last job that is in one of them: what runs
    is found at once before a million jobs that wait. The state must not change meanwhile.
    """
    between, neither = (after_id, before_id), (False, False)
    # Attempts have states that no job is in.
    left = sum(state.job_counts[each - 1] for each in set(wanted.states) if each <= State.CANCELLED)
    if wanted.states and not left:
        return
    if wanted.all or wanted.wants_ended:
        jobs = state.jobs
        for job_id in jobs.ids.irange(*between, neither, reverse=newest_first):
            head = jobs.head(job_id)
            if matches(head, wanted):
                yield jobs[job_id]
            left -= head.state in wanted.states
            if wanted.states and not left:
                return
    else:
        live = state.live_jobs
        for job_id in state.jobs.live_ids.irange(*between, neither, reverse=newest_first):
            job = live[job_id]
            if matches(job, wanted):
                yield job
            left -= job.state in wanted.states
            if wanted.states and not left:
                return


def matches(job: Job | JobHead, wanted: JobFilter) -> bool:
    """Whether the filter lets the job through; that it has ended is for the caller to ask."""
    return (
        (not wanted.user or job.user == wanted.user)
        and (not wanted.name or job.name == wanted.name)
        and (not wanted.states or job.state in wanted.states)
    )


def _select_whole(state: ClusterState, selector: JobSelector) -> Job:
    if selector.name:
        return _select_by_name(state, selector.name)
    job_id = selector.job_id
    if selector.last_of_user:
        job_id = state.last_job_of.get(selector.last_of_user, 0)
        if not job_id:
            raise NotFound(f"{selector.last_of_user} has submitted no job yet")
    job: Job | None = state.jobs.get(job_id)
    if job is None:
        raise unknown_job(state, job_id)
    return job


def unknown_job(state: ClusterState, job_id: int) -> NotFound:
    """The error for a number that the state has no job for."""
    if state.is_forgotten(job_id):
        return JobForgotten(job_id)
    return NotFound(f"there is no job {job_id}; `titan queue --all` lists them")


def check_indexes(job: Job, indexes: tuple[IndexRange, ...]) -> None:
    """Raises NotFound for tasks that the job does not have, InvalidJob for what are none."""
    if len(indexes) > RANGES_MAX:
        raise InvalidJob(f"at most {RANGES_MAX} ranges of tasks can be chosen at once")
    for each in indexes:
        if each.step != 1 or each.start >= each.stop:
            raise InvalidJob(f"tasks are chosen as FROM-TO, not {tuple(each)}")
        if not any(_meet(each, wanted) for wanted in job.array or (IndexRange(0, 1),)):
            raise NotFound(f"job {job.job_id} has no task {job.job_id}.{each.start}")


def _meet(span: IndexRange, wanted: IndexRange) -> bool:
    steps = max(-(-(span.start - wanted.start) // wanted.step), 0)
    return wanted.start + steps * wanted.step < min(span.stop, wanted.stop)


def _select_by_name(state: ClusterState, name: str) -> Job:
    found = [head for head in state.jobs.heads() if head.name == name]
    if not found:
        raise NotFound(f"there is no job of the name {name!r}")
    if len(found) > 1:
        ids = ", ".join(str(head.job_id) for head in found[-3:])
        raise InvalidJob(f"{len(found)} jobs have the name {name!r}, the latest are {ids}")
    return state.jobs[found[0].job_id]
