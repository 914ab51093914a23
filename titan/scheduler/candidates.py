"""Which workers were in question for a task that was placed, in the state just before."""

from __future__ import annotations

from typing import NamedTuple

from titan.scheduler.constraints import could_take
from titan.state.cluster import ClusterState
from titan.state.job_class import JobClass
from titan.state.worker import Worker


class Candidate(NamedTuple):
    """A worker that got tasks, and could have taken this one when empty (F in `policies.py`)."""

    worker: Worker
    had_room: bool
    """Whether it could start there then (C in `policies.py`)."""


def find_candidates(state: ClusterState, job_class: JobClass) -> list[Candidate]:
    """F, by number. Costs a look at each worker.

    Whether a worker had called in is not in the state: all that were healthy count.
    """
    return [
        Candidate(worker, worker.admits(job_class))
        for worker in state.workers.values()
        if worker.takes_tasks and could_take(worker, job_class, state.live_jobs)
    ]
