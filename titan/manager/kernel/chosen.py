"""The jobs that a command is about, and what became of them."""

from __future__ import annotations

from typing import Final, NamedTuple

from titan.checks import check_user
from titan.errors import InvalidJob
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
    """All that is meant, each with what chose it. Raises NotFound, InvalidJob."""
    # The log is to keep who said so.
    check_user(which.user)
    if which.filter is not None:
        return [(job, JobSelector()) for job in filter_jobs(state, which.filter)]
    if len(which.selectors) > SELECTORS_MAX:
        raise InvalidJob(
            f"at most {SELECTORS_MAX} jobs can be named at once: send several requests"
        )
    if which.selectors:
        return [(select_job(state, each), each) for each in which.selectors]
    raise InvalidJob("no job is named")


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
