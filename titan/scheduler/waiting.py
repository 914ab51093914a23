"""What a task waits for besides room: a hold, a dependency, a time, a limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from titan.model import TASK_ENDS
from titan.scheduler.rules import is_over_limit
from titan.scheduling import SAME_INDEX, WHOLE_JOB, Dependency, DependencyCondition
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.job_class import JobClass
from titan.units import format_age

# So many dependencies are named; one job may have a thousand.
NAMED_MAX: Final = 5
_ENDS: Final = {
    DependencyCondition.OK: "to complete",
    DependencyCondition.ANY: "to end",
    DependencyCondition.FAILED: "to fail",
}


class Wait(NamedTuple):
    """One thing that has to happen first."""

    what: str
    """After "waits for"."""
    in_short: str
    """By itself, in a list of jobs."""
    until_us: int = 0
    """When it will have happened; 0: nobody can say."""


def waits_of_job(job: Job, now_us: int) -> list[Wait]:
    """What none of its tasks can start before."""
    waits = job.waits
    found: list[Wait] = []
    if waits is not None:
        if waits.held:
            found.append(Wait(f"a release: it is held (`titan release {job.job_id}`)", "held"))
        if waits.suspended:
            found.append(resume_wait(job.job_id))
        if waits.delayed:
            found.append(begin_wait(job.scheduling.begin_us, now_us))
        found += dependency_waits([job.scheduling.after[place] for place in waits.unmet])
    limit = job.scheduling.array_limit
    under_way = job.counts[1] + job.counts[2]
    if limit and under_way >= limit:
        text = f"{under_way} of at most {limit} of its tasks are under way"
        found.append(Wait(f"one of its tasks to end: {text}", f"limit: {text}"))
    return found


def waits_of_task(state: ClusterState, job: Job, index: int, now_us: int) -> list[Wait]:
    """The same of one of its tasks that are pending."""
    found = waits_of_job(job, now_us)
    waits = job.waits
    if waits is None or index not in waits.tasks:
        return found
    due_us = waits.not_before.get(index)
    if due_us is not None:
        again = "its next attempt" if job.next_attempt(index) > 1 else "its time"
        text = _in(due_us, now_us)
        found.append(Wait(f"{again} {text}", f"{again} {text}", due_us))
    else:
        # Which of several have happened is not kept for each task; those that have are seen.
        found += dependency_waits(
            [each for each in job.scheduling.after if _is_open(state, each, index)], index
        )
    return found


def limit_waits(state: ClusterState, job_class: JobClass, limits: dict[str, int]) -> list[Wait]:
    """Whether its user has as many cpus as he may have at once."""
    if not is_over_limit(state, limits, job_class):
        return []
    user = job_class.user
    limit = limits.get(user, limits.get("", 0))
    needed = job_class.demand.cpus_milli
    if needed > limit:
        text = f"{user} may have {limit / 1000:g} cpus at once, and it needs {needed / 1000:g}"
        return [Wait(f"a higher limit: {text}", f"limit: {text}")]
    used = state.usage.user_cpus_milli.get(user, 0)
    text = (
        f"{user} uses {used / 1000:g} of at most {limit / 1000:g} cpus, "
        f"and it needs {needed / 1000:g}"
    )
    return [Wait(f"other tasks of {user} to end: {text}", f"limit: {text}")]


def resume_wait(job_id: int) -> Wait:
    """For the end of a suspension that somebody asked for."""
    return Wait(f"a resume: it is suspended (`titan resume {job_id}`)", "suspended")


def begin_wait(begin_us: int, now_us: int) -> Wait:
    """For the time at which a job is to begin."""
    text = _in(begin_us, now_us)
    return Wait(f"its begin {text}", f"begins {text}", begin_us)


def dependency_waits(unmet: list[Dependency], index: int = 0) -> list[Wait]:
    """For other jobs; `index` is the task's of which they are the dependencies."""
    found = []
    for each in unmet[:NAMED_MAX]:
        text = dependency_text(each, index)
        found.append(Wait(text, f"dependency: {text}"))
    if len(unmet) > NAMED_MAX:
        more = f"{len(unmet) - NAMED_MAX} more jobs"
        found.append(Wait(more, f"{more}"))
    return found


def dependency_text(dependency: Dependency, index: int) -> str:
    """As: 41 to complete."""
    which = dependency.index
    task = index if which == SAME_INDEX else which
    what = str(dependency.job_id) if which == WHOLE_JOB else f"task {task} of {dependency.job_id}"
    return f"{what} {_ENDS[dependency.condition]}"


def first_waiting(job: Job) -> int | None:
    """The first of its tasks that are pending; None: there is none."""
    firsts = list(_firsts(job))
    return min(firsts) if firsts else None


def _firsts(job: Job) -> Iterator[int]:
    if job.pending.count:
        yield job.pending.first()
    if job.waits is not None and len(job.waits.tasks):
        yield job.waits.tasks.first()


def _is_open(state: ClusterState, dependency: Dependency, index: int) -> bool:
    """Whether it is one on the task of that index, which has not ended."""
    if dependency.index != SAME_INDEX:
        return False
    other: Job | None = state.jobs.get(dependency.job_id)
    return other is not None and other.find_task_state(index) not in TASK_ENDS


def _in(when_us: int, now_us: int) -> str:
    return f"in {format_age(-(-(when_us - now_us) // 1_000_000))}" if when_us > now_us else "now"
