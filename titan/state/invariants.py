"""What must hold in every state, checked from scratch: for tests and tools.

Each check derives a thing again that `apply` keeps up to date, or states a promise.
"""

from __future__ import annotations

from collections.abc import Iterable

from titan.model import TASK_ENDS, Resources, State, WorkerState
from titan.scheduling import SAME_INDEX, WHOLE_JOB
from titan.state.attempts import Attempt
from titan.state.cluster import ClusterState
from titan.state.job import NO_ATTEMPTS, NONE_WAITS, ONE_WAITS, Job, task_end, weigh_live
from titan.state.job_changes import deadline_entry
from titan.state.tables import ALL_TASKS, environment_bytes
from titan.state.worker import Worker


class InvariantViolated(AssertionError):
    """The state contradicts itself or a promise."""


def check_invariants(state: ClusterState) -> None:
    """Raises InvariantViolated. Costs a walk over the whole state."""
    _check(
        ONE_WAITS.ranges == [range(1)] and not NONE_WAITS.ranges and not NO_ATTEMPTS,
        "what plain jobs share is never changed",
    )
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
        for attempt in job.active.values():
            if attempt.job_class is not job.job_class:
                stray = attempt.job_class.class_id
                strays[stray] = strays.get(stray, 0) + 1
        if len(job.pending) and job.may_start:
            waiting.setdefault(class_id, []).append(job.job_id)
        for what in (class_id, job.environment):
            jobs_of[what] = jobs_of.get(what, 0) + 1
        if not job.has_ended:
            live.append(job.job_id)
    for worker in state.workers.values():
        _check_worker(state, worker)
    held = sum(len(worker.attempts) for worker in state.workers.values())
    _check(active == held, "every attempt under way is on one worker")
    _check(state.task_counts == tasks, "the tasks by state add up")
    _check(state.job_counts == jobs, "the jobs by state add up")
    _check(live == list(state.live_jobs), "the jobs that have not ended are listed")
    weight = sum(map(weigh_live, state.live_jobs.values()))
    _check(weight == state.jobs.live_weight, "their weights add up")
    _check_classes(state, waiting, strays)
    classes = {each.class_id: each.jobs for each in state.classes.values() if each.jobs}
    # An environment may be known that no job refers to yet; a class may be kept for strays alone.
    known = {digest: jobs for digest, jobs in state.environment_jobs.items() if jobs}
    _check(classes | known == jobs_of, "classes and environments are kept while jobs refer to them")
    _check(
        state.environments.keys() == state.environment_jobs.keys(), "every environment is counted"
    )
    size_bytes = sum(map(environment_bytes, state.environments.values()))
    _check(size_bytes == state.environment_bytes, "the bytes of environments are counted")
    _check_user_cpus(state)
    _check_waiting(state)


def check_invariants_of(state: ClusterState, jobs: Iterable[int], workers: Iterable[int]) -> None:
    """What must hold of these jobs and workers by themselves, as far as there are such.

    Raises InvariantViolated. Costs by their tasks.
    """
    for job_id in jobs:
        if job_id in state.jobs:
            _check_job(state, state.get_job(job_id))
    for number in workers:
        if number in state.workers:
            _check_worker(state, state.get_worker(number))


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
    exclusive = limited = preemptible = 0
    for (job_id, index), attempt in worker.attempts.items():
        job = state.get_job(job_id)
        _check(job.active.get(index) is attempt, f"{name} holds {job_id}.{index} as its job does")
        job_class = attempt.job_class
        here = worker.classes[job_class.class_id]
        key = (job_id, index)
        _check((key in here.ahead) == attempt.ahead, f"{name}: ahead attempts are listed")
        unstarted = attempt.state is State.SCHEDULED and not attempt.ahead
        _check((key in here.unstarted) == unstarted, f"{name}: unstarted attempts are listed")
        _check(
            (worker.suspended.get(key) is attempt) == attempt.suspended,
            f"{name}: suspended attempts are listed",
        )
        stands = attempt.suspended and attempt.state is State.RUNNING and attempt.was_suspended
        _check(stands or not attempt.suspended, f"{name}: only what runs is suspended")
        if not attempt.ahead:
            used = used.plus(_promised(worker, attempt))
            slots[job_class.class_id] = slots.get(job_class.class_id, 0) + 1
            exclusive += job_class.exclusive
            limited += attempt.limit_ms > 0
            preemptible += job_class.preemptible
    _check(worker.suspended.keys() <= worker.attempts.keys(), f"{name} suspends what it holds")
    counted = (worker.exclusive, worker.limited, worker.preemptible)
    _check(
        counted == (exclusive, limited, preemptible),
        f"{name}: exclusive, limited and preemptible attempts are counted",
    )
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


def _promised(worker: Worker, attempt: Attempt) -> Resources:
    """What a slot attempt takes: one that stands still leaves its cpus to others.

    Unless somebody waits ahead behind it, who would have them at its end.
    """
    demand = attempt.job_class.demand
    if attempt.suspended and not worker.classes[attempt.job_class.class_id].ahead:
        return demand._replace(cpus_milli=0)
    return demand


def _check_user_cpus(state: ClusterState) -> None:
    cpus: dict[str, int] = {}
    for worker in state.workers.values():
        for attempt in worker.attempts.values():
            if not attempt.ahead:
                user = attempt.job_class.user
                cpus[user] = cpus.get(user, 0) + _promised(worker, attempt).cpus_milli
    used = {user: cpus_milli for user, cpus_milli in cpus.items() if cpus_milli}
    _check(used == state.usage.user_cpus_milli, "the cpus of each user add up")


def _check_classes(
    state: ClusterState, waiting: dict[int, list[int]], strays: dict[int, int]
) -> None:
    hosts: dict[int, set[int]] = {}
    for worker in state.workers.values():
        for class_id in worker.classes:
            hosts.setdefault(class_id, set()).add(worker.number)
    for class_id, job_class in state.classes.items():
        _check(
            waiting.get(class_id, []) == list(job_class.pending_jobs),
            "each class knows its pending jobs",
        )
        _check(
            job_class.strays == strays.get(class_id, 0),
            "each class counts its attempts whose job is of another one",
        )
        _check(job_class.jobs > 0 or job_class.strays > 0, "a class that nobody has is forgotten")
        _check(hosts.get(class_id, set()) == set(job_class.hosts), "each class knows its workers")
        _check(state.class_ids[job_class.key] == class_id, "each class is found by its key")
    _check(len(state.class_ids) == len(state.classes), "no two classes have one key")


def _check_waiting(state: ClusterState) -> None:
    """What keeps jobs from starting, and the indexes over it."""
    live = state.live_jobs
    dependents: dict[tuple[int, int], set[int]] = {}
    deadlines: list[tuple[int, int]] = []
    for job in live.values():
        _check_waits(state, job)
        if job.scheduling.deadline_us:
            deadlines.append(deadline_entry(job))
        for each in job.scheduling.after:
            if each.job_id in live:
                dependents.setdefault((each.job_id, each.index), set()).add(job.job_id)
    known = {
        (job_id, index): set(others)
        for job_id, by_index in state.dependents.items()
        for index, others in by_index.items()
    }
    _check(known == dependents, "who waits for whom is listed")
    _check(list(state.deadlines) == sorted(deadlines), "the deadlines of live jobs are listed")
    for table in (state.doomed, state.overfailed):
        _check(table.keys() <= live.keys(), "what is still to be cancelled has not ended")
    for number, hold in state.holds.items():
        worker = state.get_worker(number)
        _check(hold.job_id in live, "a worker is kept for a job that has not ended")
        gone = worker.state in (WorkerState.DISCONNECTED, WorkerState.DEREGISTERED)
        _check(not gone and not worker.is_draining, "a worker that is kept may get tasks again")


def _check_waits(state: ClusterState, job: Job) -> None:
    name, waits = f"job {job.job_id}", job.waits
    if waits is None:
        return
    after = job.scheduling.after
    tasks = set(waits.tasks)
    _check(tasks.isdisjoint(job.pending), f"{name}: what waits for a time or a task waits once")
    _check(not (waits.not_before.keys() & waits.element_unmet.keys()), f"{name} waits for one")
    by_index = sum(each.index == SAME_INDEX for each in after)
    doomed = state.doomed.get(job.job_id, {})
    _check(doomed.keys() <= tasks | {ALL_TASKS}, f"{name}: what can't start waits")
    for index in tasks:
        due_us = waits.not_before.get(index)
        left = waits.element_unmet.get(index, by_index)
        _check(due_us is not None or 0 < left <= by_index, f"{name}.{index} waits for something")
        known = due_us is None or (due_us, job.job_id, index) in state.delayed
        _check(known, f"{name}.{index} is listed by its time")
    for table in (waits.not_before, waits.element_unmet):
        _check(table.keys() <= tasks, f"{name}: what is known of waiting tasks is of such")
    goes_on = tasks | set(job.pending) | job.active.keys()
    for table in (waits.retries_used, waits.losses, waits.failed_on):
        _check(table.keys() <= goes_on, f"{name}: ends are counted of tasks that go on")
    for place in waits.unmet:
        each = after[place]
        other = state.live_jobs.get(each.job_id)
        is_live = other is not None and (
            each.index == WHOLE_JOB or other.find_task_state(each.index) not in TASK_ENDS
        )
        _check(each.index != SAME_INDEX, f"{name} waits as a whole for what is one")
        _check(is_live or ALL_TASKS in doomed, f"{name} waits for what has not ended")
    if waits.delayed:
        entry = (job.scheduling.begin_us, job.job_id, ALL_TASKS)
        _check(entry in state.delayed, f"{name} is listed by its time")


def check_capacity(state: ClusterState) -> None:
    """Invariant 4, where no worker came back smaller. Raises InvariantViolated."""
    for worker in state.workers.values():
        free = worker.free
        room = min([free.cpus_milli, free.memory_bytes, *(count for _, count in free.named)])
        _check(room >= 0, f"worker {worker.name} is promised no more than it has: free {free}")


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantViolated(what)
