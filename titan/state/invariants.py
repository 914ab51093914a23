"""What must hold in every state, checked from scratch: for tests and tools.

Each check derives a thing again that `apply` keeps up to date, or states a promise.
"""

from __future__ import annotations

from titan.model import Resources, State, WorkerState
from titan.state.cluster import ClusterState
from titan.state.job import Job, task_end
from titan.state.worker import Worker


class InvariantViolated(AssertionError):
    """The state contradicts itself or a promise."""


def check_invariants(state: ClusterState) -> None:
    """Raises InvariantViolated. Costs a walk over the whole state."""
    tasks, jobs = [0] * 6, [0] * 6
    active = 0
    waiting: dict[int, list[int]] = {}
    jobs_of: dict[object, int] = {}
    strays: dict[int, int] = {}
    live: list[int] = []
    # Once: an ended job is unpacked at each look.
    for job in state.jobs.values():
        _check_job(state, job)
        class_id = job.job_class.class_id
        jobs[job.state - 1] += 1
        for position, count in enumerate(job.counts):
            tasks[position] += count
        active += len(job.active)
        if len(job.pending) and job.may_start:
            waiting.setdefault(class_id, []).append(job.job_id)
        for what in (class_id, job.environment):
            jobs_of[what] = jobs_of.get(what, 0) + 1
        for attempt in job.active.values():
            if attempt.job_class is not job.job_class:
                class_id = attempt.job_class.class_id
                strays[class_id] = strays.get(class_id, 0) + 1
        if not job.has_ended:
            live.append(job.job_id)
    for worker in state.workers.values():
        _check_worker(state, worker)
    held = sum(len(worker.attempts) for worker in state.workers.values())
    _check(active == held, "every attempt under way is on one worker")
    _check(state.task_counts == tasks, "the tasks by state add up")
    _check(state.job_counts == jobs, "the jobs by state add up")
    _check(live == list(state.live_jobs), "the jobs that have not ended are listed")
    for job_class in state.classes.values():
        _check(
            waiting.get(job_class.class_id, []) == list(job_class.pending_jobs),
            "each class knows its pending jobs",
        )
    classes = {each.class_id: each.jobs for each in state.classes.values() if each.jobs}
    for each in state.classes.values():
        _check(each.strays == strays.get(each.class_id, 0), "strays of a class are counted")
        _check(each.jobs > 0 or each.strays > 0, "a class is forgotten once nothing refers to it")
    # An environment may be known that no job refers to yet.
    known = {digest: jobs for digest, jobs in state.environment_jobs.items() if jobs}
    _check(classes | known == jobs_of, "classes and environments are kept while jobs refer to them")
    _check(
        state.environments.keys() == state.environment_jobs.keys(), "every environment is counted"
    )
    scripts = sum(len(each.script) for each in state.environments.values())
    _check(scripts == state.script_bytes, "the bytes of scripts are counted")


def _check_job(state: ClusterState, job: Job) -> None:
    name = f"job {job.job_id}"
    total = sum(len(each.indexes) for each in job.array) or 1
    _check(job.tasks_total == total, f"{name} has all its tasks")
    waiting = len(job.pending) + (len(job.waits.tasks) if job.waits is not None else 0)
    _check(job.counts[0] == waiting, f"{name}: pending tasks are counted")
    for position, under_way in ((1, State.SCHEDULED), (2, State.RUNNING)):
        count = sum(each.state is under_way for each in job.active.values())
        _check(job.counts[position] == count, f"{name}: {under_way.name} tasks are counted")
    ends: dict[int, State] = {}
    for record in job.ended or ():
        waits = job.is_pending(record.index) or record.index in job.active
        if not waits and (job.cancelled is None or record.index not in job.cancelled):
            ends[record.index] = task_end(record.state)
    for index in job.cancelled or ():
        ends[index] = State.CANCELLED
    # Invariant 2: with the counts below, each task is counted as ended once.
    for position, end in ((3, State.COMPLETED), (4, State.FAILED), (5, State.CANCELLED)):
        count = sum(each is end for each in ends.values())
        _check(job.counts[position] == count, f"{name}: {end.name} tasks are counted")
    for index, attempt in job.active.items():
        _check(index not in ends and not job.is_pending(index), f"{name}.{index} is in one place")
        worker = state.get_worker(attempt.worker)
        _check(
            worker.attempts.get((job.job_id, index)) is attempt,
            f"{name}.{index} is known on its worker",
        )


def _check_worker(state: ClusterState, worker: Worker) -> None:
    name = f"worker {worker.name}"
    used = Resources()
    slots: dict[int, int] = {}
    for (job_id, index), attempt in worker.attempts.items():
        job = state.get_job(job_id)
        _check(job.active.get(index) is attempt, f"{name} holds {job_id}.{index} as its job does")
        # An update may have given its job another class since.
        class_id = attempt.job_class.class_id
        here = worker.classes[class_id]
        key = (job_id, index)
        _check((key in here.ahead) == attempt.ahead, f"{name}: ahead attempts are listed")
        unstarted = attempt.state is State.SCHEDULED and not attempt.ahead
        _check((key in here.unstarted) == unstarted, f"{name}: unstarted attempts are listed")
        if not attempt.ahead:
            # What stands still has its memory and devices, but not its cpus.
            has = job.demand._replace(cpus_milli=0) if attempt.suspended else job.demand
            used = used.plus(has)
            slots[class_id] = slots.get(class_id, 0) + 1
    if worker.is_draining:
        waits = [each for each in worker.attempts.values() if each.state is State.SCHEDULED]
        left = [each for each in waits if not (each.recall_requested or each.cancel_requested)]
        _check(not left, f"{name} is draining, and what waits there is to come back")
    listed = {class_id: here.slots for class_id, here in worker.classes.items()}
    _check(slots == listed, f"{name}: slots are counted, and nobody waits behind none")
    limited = sum(not each.ahead and each.limit_ms > 0 for each in worker.attempts.values())
    _check(limited == worker.limited, f"{name}: slot attempts with time limits are counted")
    _check(used == worker.used, f"{name}: what is promised adds up")
    if worker.state in (WorkerState.DISCONNECTED, WorkerState.DEREGISTERED):
        _check(not worker.attempts, f"{name} is gone and holds nothing")


def check_capacity(state: ClusterState) -> None:
    """Invariant 4, where no worker came back smaller. Raises InvariantViolated."""
    for worker in state.workers.values():
        free = worker.free
        room = min([free.cpus_milli, free.memory_bytes, *(count for _, count in free.named)])
        _check(room >= 0, f"worker {worker.name} is promised no more than it has: free {free}")


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantViolated(what)
