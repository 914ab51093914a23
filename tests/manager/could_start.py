"""Which waiting tasks could start, found by looking at each."""

from __future__ import annotations

from tests.manager.builders import Rig
from titan.manager.kernel.policy import policy_in_force
from titan.model import Resources
from titan.scheduler.constraints import may_run
from titan.scheduling import ORDERS
from titan.state.job import Job
from titan.state.job_class import JobClass
from titan.state.worker import Worker


def could_start(rig: Rig) -> list[tuple[int, int]]:
    """Every (job, worker) where a waiting task would fit now, by looking at each (invariant 6).

    Left out is where somebody may be delayed who goes first: a reservation, a hold, or one that
    stands still. Whether they are is for the tests of the scheduler; that nobody waits for ever
    shows at the end of every history.
    """
    state = rig.state
    waiting = [job for job in state.live_jobs.values() if job.pending.count and job.may_start]
    waiting = [job for job in waiting if not _is_over_limit(rig, job)]
    # Whoever was sent ahead waits, too, and may have been the head of the last pass.
    sent_ahead = [
        job for job in state.live_jobs.values() if any(each.ahead for each in job.active.values())
    ]
    workers = [
        worker
        for number, worker in state.workers.items()
        if number in rig.kernel.outboxes and worker.takes_tasks
    ]
    found = []
    for job in waiting:
        ahead = [each for each in [*waiting, *sent_ahead] if _goes_first(rig, each, job)]
        for worker in workers:
            if _is_kept(rig, worker, job) or not _has_room(rig, worker, job.job_class):
                continue
            heads = [
                each
                for each in ahead
                if any(_could_take(w, each) for w in workers) and _order(rig) != "skip"
            ]
            if _order(rig) == "fcfs" and heads:
                continue
            if worker.limited and any(_could_take(worker, each) for each in heads):
                continue
            found.append((job.job_id, worker.number))
    return found


def _order(rig: Rig) -> str:
    return ORDERS[policy_in_force(rig.state, rig.settings).order - 1]


def _goes_first(rig: Rig, job: Job, other: Job) -> bool:
    """Whether the job may go before the other one in the queue."""
    if job is other:
        return False
    if policy_in_force(rig.state, rig.settings).fair_share or _order(rig) == "easy-sjbf":
        return job.priority >= other.priority
    # Jobs of a class go one after the other: where the first of them stands, the others do.
    return (-job.priority, job.job_id) < (-other.priority, other.job_id)


def _is_over_limit(rig: Rig, job: Job) -> bool:
    limits = dict(policy_in_force(rig.state, rig.settings).user_limits)
    limit = limits.get(job.user, limits.get("", 0))
    used = rig.state.usage.user_cpus_milli.get(job.user, 0)
    return bool(limit) and used + job.demand.cpus_milli > limit


def _could_take(worker: Worker, job: Job) -> bool:
    return job.demand.fits_in(worker.capacity) and may_run(worker, job.job_class)


def _has_room(rig: Rig, worker: Worker, job_class: JobClass) -> bool:
    slots = [each for each in worker.attempts.values() if not each.ahead]
    if any(each.job_class.exclusive for each in slots):
        return False
    if (job_class.exclusive and worker.attempts) or not may_run(
        worker, job_class, rig.state.live_jobs
    ):
        return False
    used = Resources()
    for each in slots:
        demand = each.job_class.demand
        stands = each.suspended and not worker.classes[each.job_class.class_id].ahead
        used = used.plus(demand._replace(cpus_milli=0) if stands else demand)
    return used.plus(job_class.demand).fits_in(worker.capacity)


def _is_kept(rig: Rig, worker: Worker, other: Job) -> bool:
    """Whether somebody who goes first is to have that worker, or runs on there."""
    hold = rig.state.holds.get(worker.number)
    if hold is not None and _goes_first(rig, rig.state.get_job(hold.job_id), other):
        return True
    standing = [rig.state.get_job(each.job_id) for each in worker.suspended.values()]
    return any(job.priority >= other.priority and not job.is_suspended for job in standing)
