"""The jobs that a command is about, and what became of them."""

from __future__ import annotations

from typing import Final, NamedTuple

from titan.checks import check_user
from titan.errors import InvalidJob, PermissionDenied
from titan.manager.kernel.commands import Changed, WhichJobs
from titan.queries.selection import JobSelector, filter_jobs, select_job
from titan.state.cluster import ClusterState
from titan.state.job import Job

# Each is looked up by itself, and an ended one unpacked.
SELECTORS_MAX: Final = 10_000

__all__ = ["Changed", "Chosen", "choose_jobs", "choose_tasks"]


class Chosen(NamedTuple):
    """Jobs that are meant as a whole."""

    live: list[Job]
    changed: Changed


def choose_tasks(state: ClusterState, which: WhichJobs) -> list[tuple[Job, JobSelector]]:
    """All that is meant, each with what chose it. Raises NotFound, InvalidJob, PermissionDenied."""
    # The log is to keep who said so.
    check_user(which.user)
    own = which.only_of
    if which.filter is not None:
        # What matches and is not his is not meant, as if he had said so.
        chosen = filter_jobs(state, which.filter)
        return [(job, JobSelector()) for job in chosen if own in (None, job.user)]
    if len(which.selectors) > SELECTORS_MAX:
        raise InvalidJob(
            f"at most {SELECTORS_MAX} jobs can be named at once: send several requests"
        )
    if not which.selectors:
        raise InvalidJob("no job is named")
    named = [(select_job(state, each), each) for each in which.selectors]
    for job, _ in named:
        check_owner(own, job.user, job.job_id)
    return named


def check_owner(only_of: str | None, user: str, job_id: int) -> None:
    """Raises PermissionDenied for another's job, where somebody may mean only his own."""
    if only_of not in (None, user):
        raise PermissionDenied(
            f"job {job_id} is {user}'s, and you are {only_of}: ask {user}, or an admin"
        )


def choose_jobs(state: ClusterState, which: WhichJobs) -> Chosen:
    """The same for what is done to whole jobs. Raises NotFound, InvalidJob."""
    chosen = choose_tasks(state, which)
    if any(selector.indexes for _, selector in chosen):
        raise InvalidJob("this is done to whole jobs: leave out the index")
    jobs = list({job.job_id: job for job, _ in chosen}.values())
    return Chosen(
        [job for job in jobs if not job.has_ended],
        Changed([job.job_id for job in jobs], [job.job_id for job in jobs if job.has_ended]),
    )
