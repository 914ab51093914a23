"""Which workers may run a task, whatever room they have: the worker asked for, labels, jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from titan.scheduling import JobAffinity, LabelConstraint
from titan.state.job import Job
from titan.state.job_class import JobClass
from titan.state.worker import Worker

Labels = tuple[tuple[str, str], ...]
_NO_JOBS: Final[Mapping[int, Job]] = {}


def may_run(worker: Worker, job_class: JobClass, jobs: Mapping[int, Job] = _NO_JOBS) -> bool:
    """Whether the worker is one that the class allows, when empty or not.

    `jobs` are the live ones, for `affinities_hold`.
    """
    return (
        worker.may_run(job_class)
        and (not job_class.constraints or labels_match(worker.labels, job_class.constraints))
        and (not job_class.affinities or affinities_hold(worker, job_class, jobs))
    )


def could_take(worker: Worker, job_class: JobClass, jobs: Mapping[int, Job] = _NO_JOBS) -> bool:
    """Whether it could run the task if nothing else were there."""
    return job_class.demand.fits_in(worker.capacity) and may_run(worker, job_class, jobs)


def labels_match(labels: Labels, constraints: Iterable[LabelConstraint]) -> bool:
    """Whether all of the constraints hold."""
    # Of what a worker offers a label has several values, see `isolation.py`.
    return all(
        any(name == each.label and value in each.values for name, value in labels)
        is not each.negated
        for each in constraints
    )


def affinities_hold(
    worker: Worker, job_class: JobClass, jobs: Mapping[int, Job] = _NO_JOBS
) -> bool:
    """Whether the jobs that the class wants near are there, and those that it doesn't are not.

    A class that wants its own job near may begin anywhere: then no worker has a host's role yet,
    nor, as `jobs` tells, had one for the class that the job was of before an update.
    """
    return find_broken_affinity(worker, job_class, jobs) is None


def find_broken_affinity(
    worker: Worker, job_class: JobClass, jobs: Mapping[int, Job] = _NO_JOBS
) -> JobAffinity | None:
    """The first of them that does not hold there."""
    here = {job_id for job_id, _ in worker.attempts}
    for each in job_class.affinities:
        is_here = each.job_id in here
        if each.anti:
            if is_here:
                return each
        elif not is_here and not (
            each.job_id == job_class.key.job_id
            and not job_class.hosts
            and not (each.job_id in jobs and jobs[each.job_id].active)
        ):
            return each
    return None
