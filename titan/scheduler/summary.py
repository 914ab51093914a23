"""What jobs wait for, in a sentence each: for lists, where a look at each worker has to be shared.

It knows the state alone. Who is in whose way on which worker takes a rehearsal (`explain.py`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from titan.model import WorkerState
from titan.scheduler.explain import never_text
from titan.scheduler.filters import FAULTS_MAX, Kind, Tally, drain_text, tally_workers
from titan.scheduler.waiting import Wait, first_waiting, limit_waits, waits_of_job, waits_of_task
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.job_class import ClassKey, JobClass
from titan.state.worker import Worker


class Known:
    """What was found for jobs of the same state, so that a page that asks for the same costs one
    look."""

    def __init__(self) -> None:
        self.rooms: dict[ClassKey, _Room] = {}
        # What stands first in the queue: its priority, negated, and its number.
        self.first: tuple[int, int] | None = None
        # What of a job's message those that are alike in all of it have in common.
        self.terms: dict[tuple[Any, ...], bytes] = {}


class _Room(NamedTuple):
    """What is told of the workers for a class."""

    text: str
    prefix: str
    """Which worker it is about, where only one is in question."""
    has_room: bool


def explain_waiting(state: ClusterState, job: Job, known: Known) -> str:
    """What a job with pending tasks waits for; empty when it has none."""
    if not job.counts[0]:
        return ""
    waits = _waits(state, job)
    if waits:
        return "; ".join(each.in_short for each in waits)
    # What tells workers apart; the rest of a class is the same to all of them.
    key = job.job_class.key._replace(
        user="", priority=0, limit_ms=0, spread="", preemptible=False, at_most_once=False
    )
    room = known.rooms.get(key)
    if room is None:
        room = known.rooms[key] = _find_room(state, job)
    is_next = room.has_room and _is_first(state, job, known)
    return room.prefix + ("it is next to be placed" if is_next else room.text)


def _find_room(state: ClusterState, job: Job) -> _Room:
    """Costs a look at each worker."""
    job_class = job.job_class
    workers = [
        worker
        for worker in state.workers.values()
        if worker.state is not WorkerState.DEREGISTERED and worker.may_run(job_class)
    ]
    prefix = ""
    if job.on:
        prefix = f"only on {workers[0].name if workers else job.on}: "
        if not workers:
            gone = [each.name for each in state.workers.values() if each.may_run(job_class)]
            if gone:
                text = "that worker took its leave; it waits until it is back"
                return _Room(text, f"only on {gone[0]}: ", has_room=False)
            return _Room("no worker has that name any more", prefix, has_room=False)
    tally = tally_workers(workers, job_class, has_called_in=lambda _: True, claims={})
    return _Room(_explain(job_class, tally), prefix, has_room=bool(tally.with_room))


def _waits(state: ClusterState, job: Job) -> list[Wait]:
    """What none of its pending tasks can start before."""
    now_us = state.time_us
    waits = waits_of_job(job, now_us)
    if not waits and not job.pending.count:
        first = first_waiting(job)
        if first is not None:
            waits = waits_of_task(state, job, first, now_us)
    policy = state.policy or state.flags
    if policy is not None:
        waits += limit_waits(state, job.job_class, dict(policy.user_limits))
    return waits


def _explain(job_class: JobClass, tally: Tally) -> str:
    if tally.is_never:
        return never_text(tally, job_class)
    if tally.with_room:
        count = len(tally.with_room)
        return f"room: {count} of {tally.workers} workers have it; those before it go first"
    large_enough = [
        worker
        for reason, workers in tally.reasons.items()
        if reason.kind > Kind.LACKS_NAME
        for worker in workers
    ]
    if not any(worker.takes_tasks for worker in large_enough):
        return _nobody_takes(large_enough)
    sentence = f"room: 0 of {tally.workers} workers can take it now"
    # The silent ones may be gone for good, and what they had free with them.
    kept = [
        worker
        for worker in large_enough
        if (worker.fault or _only_drains(worker)) and worker.admits(job_class)
    ]
    if len(kept) == 1:
        return f"{sentence}; {kept[0].name} with room is {_why_not(kept[0])}"
    return f"{sentence}; {len(kept)} with room are draining or not healthy" if kept else sentence


def _is_first(state: ClusterState, job: Job, known: Known) -> bool:
    """Whether nobody goes before it. Costs by the classes that wait, once."""
    if known.first is None:
        known.first = min(
            (
                (-each.priority, each.pending_jobs.peekitem(0)[0])
                for each in (job.job_class, *state.classes.values())
                if each.pending_jobs
            ),
            # Nobody may start: what waits for what can't happen is cancelled within this turn.
            default=(0, 0),
        )
    return (-job.priority, job.job_id) <= known.first


def _nobody_takes(workers: list[Worker]) -> str:
    """Why none of the workers that are large enough gets tasks."""
    drained = [worker for worker in workers if _only_drains(worker)]
    if len(workers) == 1:
        return f"worker {workers[0].name}, which could take it, is {_why_not(workers[0])}"
    if not drained:
        faults = [f"; {worker.name}: {worker.fault}" for worker in workers if worker.fault]
        return f"the {len(workers)} workers that could take it are not healthy" + "".join(
            faults[:FAULTS_MAX]
        )
    if len(drained) == len(workers):
        return f"the {len(workers)} workers that could take it are draining"
    return (
        f"of the {len(workers)} workers that could take it {len(drained)} "
        f"{'is' if len(drained) == 1 else 'are'} draining, the others are not healthy"
    )


def _why_not(worker: Worker) -> str:
    """What a worker is that gets no tasks."""
    if _only_drains(worker):
        return drain_text(worker)
    if worker.state is WorkerState.DISCONNECTED:
        return "not healthy: it is DISCONNECTED"
    return f"not healthy: {worker.fault}" if worker.fault else "not healthy"


def _only_drains(worker: Worker) -> bool:
    return worker.state is WorkerState.HEALTHY and worker.is_draining
