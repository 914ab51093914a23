"""A scheduler that looks at every task and every worker, each time anew.

It says what a pass does in the plainest way: no classes, no indexes, no caches, nothing from
titan.scheduler. It knows nothing of tasks sent ahead, of preemption and of what is suspended.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from titan import events as ev
from titan.model import Resources, State, WorkerState
from titan.scheduling import SAME_INDEX, WHOLE_JOB, DependencyCondition
from titan.state import ClusterState
from titan.state.job import Job
from titan.state.worker import Worker

NEVER = 1 << 62
Amounts = dict[str, int]
Task = tuple[Job, int]


def amounts(resources: Resources) -> Amounts:
    """Every resource by its name."""
    return {"cpus": resources.cpus_milli, "memory": resources.memory_bytes} | dict(resources.named)


def free_on(worker: Worker) -> Amounts:
    """What nobody on the worker has."""
    free = amounts(worker.capacity)
    for each in worker.attempts.values():
        for name, count in amounts(each.job_class.demand).items():
            free[name] = free.get(name, 0) - count
    return free


def has(room: Amounts, needed: Amounts) -> bool:
    """Whether there is enough of each; cpus and memory must not be promised twice even so."""
    return all(room.get(name, 0) >= count for name, count in needed.items())


def asked(demand: Resources) -> Amounts:
    """Cpus and memory, and what else is wanted at all."""
    needed = amounts(demand)
    return {name: n for name, n in needed.items() if n or name in ("cpus", "memory")}


@dataclass
class Rules:
    """As the policy in force says it."""

    policy: str
    order: str
    fair_share: bool = False
    reserve_after_us: int = 60_000_000
    user_limits: dict[str, int] = field(default_factory=dict)


@dataclass
class Kept:
    """A worker where whoever goes behind must not delay that job."""

    job: Job
    start_us: int
    # For a hold: where its job stood when the pass began. The head's is for all that come later.
    key: tuple[Any, ...] | None


class DumbScheduler:
    """One pass over a state that is its own to change. `decisions` is what it does, in order."""

    def __init__(
        self, state: ClusterState, called_in: Container[int], rules: Rules, now_us: int
    ) -> None:
        self.state = state
        self.rules = rules
        self.now_us = now_us
        self.workers = [
            each
            for number, each in sorted(state.workers.items())
            if takes_tasks(each) and number in called_in
        ]
        self.called_in = called_in
        self.kept: dict[int, Kept] = {}
        self.head: Job | None = None
        self.decisions: list[tuple[Any, ...]] = []
        state.begin_record(state.lsn + 1, max(state.time_us, now_us))

    def do(self, event: ev.Event, *decision: Any) -> None:
        self.state.apply(event)
        self.decisions.append(decision)

    def run(self) -> list[tuple[Any, ...]]:
        if not self.workers:
            return []
        self.take_up_holds()
        tried: set[tuple[int, int]] = set()
        while waiting := [
            task for task in self.eligible() if (task[0].job_id, task[1]) not in tried
        ]:
            job, index = min(waiting, key=lambda task: (*self.key(task[0]), task[1]))
            tried.add((job.job_id, index))
            if self.start(job, index) or self.head is not None or not self.feasible(job):
                continue
            self.head = job
            if self.rules.order == "fcfs":
                break
            if self.rules.order.startswith("easy"):
                self.reserve(job)
        return self.decisions

    # Who goes first ------------------------------------------------------------------------

    def key(self, job: Job, *, by_limit: bool = True) -> tuple[Any, ...]:
        sorts = by_limit and self.rules.order == "easy-sjbf" and self.head is not None
        limit = (job.job_class.limit_ms or NEVER) if sorts else 0
        cpus = self.cpus_of(job.user) if self.rules.fair_share else 0
        return -job.priority, limit, cpus, job.job_id

    def cpus_of(self, user: str) -> int:
        attempts = [a for w in self.state.workers.values() for a in w.attempts.values()]
        return sum(
            each.job_class.demand.cpus_milli for each in attempts if each.job_class.user == user
        )

    def eligible(self) -> list[Task]:
        jobs = [job for job in self.state.live_jobs.values() if self.may_start(job)]
        return [
            (job, index)
            for job in jobs
            for part in job.array or (range(1),)
            for index in getattr(part, "indexes", part)
            if job.find_task_state(index) is State.PENDING and self.task_may_start(job, index)
        ]

    def may_start(self, job: Job) -> bool:
        limit = self.rules.user_limits.get(job.user, self.rules.user_limits.get("", 0))
        return not (
            job.is_held
            or job.is_suspended
            or job.scheduling.begin_us > self.now_us
            or 0 < job.scheduling.array_limit <= len(job.active)
            or 0 < limit < self.cpus_of(job.user) + job.demand.cpus_milli
        )

    def task_may_start(self, job: Job, index: int) -> bool:
        if job.waits is not None and job.waits.not_before.get(index, 0) > self.now_us:
            return False
        for each in job.scheduling.after:
            other = self.state.get_job(each.job_id)
            if each.index == WHOLE_JOB:
                state = other.state if other.has_ended else None
            else:
                state = other.find_task_state(index if each.index == SAME_INDEX else each.index)
            meets = {
                DependencyCondition.OK: [State.COMPLETED],
                DependencyCondition.FAILED: [State.FAILED],
                DependencyCondition.ANY: [State.COMPLETED, State.FAILED, State.CANCELLED],
            }
            if state not in meets[each.condition]:
                return False
        return True

    # Where ---------------------------------------------------------------------------------

    def feasible(self, job: Job) -> list[Worker]:
        return [each for each in self.workers if self.could_take(each, job)]

    def isolates(self, worker: Worker, job: Job) -> bool:
        """Whether it may run it as the account, and in the sandbox, that it asks for."""
        run_as, sandbox = job.execution.run_as, job.execution.sandbox
        accounts = {run_as, "self"} if run_as == job.user else {run_as}
        granted = {f"{user}:{account}" for user in (job.user, "*") for account in accounts}
        offers = set(worker.labels)
        if run_as and not offers & {("titan.run-as", each) for each in granted}:
            return False
        return not sandbox or ("titan.sandbox", sandbox.name.lower()) in offers

    def could_take(self, worker: Worker, job: Job) -> bool:
        labels = dict(worker.labels)
        scheduling = job.scheduling
        if job.on and job.on not in (worker.name, worker.worker_id.hex()):
            return False
        for constraint in scheduling.constraints:
            if (labels.get(constraint.label) in constraint.values) == constraint.negated:
                return False
        if not self.isolates(worker, job):
            return False
        for affinity in scheduling.affinities:
            is_here = any(job_id == affinity.job_id for job_id, _ in worker.attempts)
            begins = affinity.job_id == job.job_id and not job.active
            if is_here if affinity.anti else not is_here and not begins:
                return False
        return has(amounts(worker.capacity), asked(job.demand))

    def has_room(self, worker: Worker, job: Job) -> bool:
        if worker.attempts and job.scheduling.exclusive:
            return False
        if any(each.job_class.exclusive for each in worker.attempts.values()):
            return False
        return has(free_on(worker), asked(job.demand))

    def start(self, job: Job, index: int) -> bool:
        feasible = self.feasible(job)
        candidates = [
            each for each in feasible if self.has_room(each, job) and not self.delays(each, job)
        ]
        if not candidates:
            return False
        number, rule = self.choose(job, feasible, candidates)
        # Where it failed only if there is nowhere else.
        elsewhere = [each for each in candidates if each.number != number]
        if job.waits is not None and job.waits.failed_on.get(index) == number and elsewhere:
            number, rule = self.choose(job, feasible, elsewhere)
        attempt = job.next_attempt(index)
        self.do(
            ev.TaskAssigned(job.job_id, index, attempt, number, False, 1, 1, rule),
            "place", job.job_id, index, number, rule,
        )  # fmt: skip
        for kept in [n for n, each in self.kept.items() if each.key and n not in self.state.holds]:
            del self.kept[kept]
        return True

    def choose(self, job: Job, feasible: list[Worker], candidates: list[Worker]) -> tuple[int, int]:
        candidates = self.least_used(job, candidates)
        pointer = self.state.round_robin
        return choose(self.rules.policy, feasible, candidates, job.demand, pointer)

    def least_used(self, job: Job, candidates: list[Worker]) -> list[Worker]:
        label = job.scheduling.spread
        if not label:
            return candidates
        values = [
            dict(self.state.get_worker(each.worker).labels).get(label, "")
            for each in job.active.values()
        ]
        counts = [values.count(dict(each.labels).get(label, "")) for each in candidates]
        return [each for each, n in zip(candidates, counts, strict=True) if n == min(counts)]

    # Who is not delayed --------------------------------------------------------------------

    def delays(self, worker: Worker, job: Job) -> bool:
        kept = self.kept.get(worker.number)
        if kept is None or kept.job is job:
            return False
        if kept.key is not None and self.key(job, by_limit=False) < kept.key:
            return False
        limit_us = job.job_class.limit_ms * 1000
        if kept.start_us < NEVER and limit_us and self.now_us + limit_us <= kept.start_us:
            return False
        if kept.job.scheduling.exclusive or job.scheduling.exclusive:
            return True
        beside = free_on(worker)
        for each in worker.attempts.values():
            leaves = each.limit_ms and self.end_us(each) <= kept.start_us < NEVER
            for name, count in amounts(each.job_class.demand).items() if leaves else ():
                beside[name] += count
        for name, count in amounts(kept.job.demand).items():
            beside[name] = beside.get(name, 0) - count
        wanted = {name: count for name, count in amounts(job.demand).items() if count}
        return not has(beside, wanted)

    def end_us(self, attempt: Any) -> int:
        return int(max(self.now_us, attempt.since_us + attempt.limit_ms * 1000))

    def start_us(self, worker: Worker, job: Job) -> int:
        """When the worker has room for the job as time limits run out."""
        attempts = list(worker.attempts.values())
        times = sorted({self.now_us, *(self.end_us(each) for each in attempts if each.limit_ms)})
        for time_us in times:
            left = [a for a in attempts if not a.limit_ms or self.end_us(a) > time_us]
            free = amounts(worker.capacity)
            for each in left:
                for name, count in amounts(each.job_class.demand).items():
                    free[name] = free.get(name, 0) - count
            alone = job.scheduling.exclusive or any(a.job_class.exclusive for a in left)
            if has(free, asked(job.demand)) and not (alone and left):
                return time_us
        return NEVER

    def reserve(self, job: Job) -> None:
        holds = self.state.holds
        if any(hold.job_id == job.job_id for hold in holds.values()):
            return
        starts = [
            (self.start_us(each, job), each.number)
            for each in self.feasible(job)
            if each.number not in holds
        ]
        start_us, number = min(starts, default=(NEVER, 0))
        if start_us < NEVER:
            self.kept[number] = Kept(job, start_us, None)
            return
        since_us = max(job.submit_us, job.waits.eligible_us if job.waits is not None else 0)
        if self.now_us - since_us < self.rules.reserve_after_us:
            return
        for held in list(holds):
            self.lift(held)
        closest = min(self.feasible(job), key=lambda each: (lack(each, job.demand), each.number))
        self.do(ev.Reserved(job.job_id, closest.number), "keep", closest.number, job.job_id)
        self.kept[closest.number] = Kept(job, NEVER, self.key(job, by_limit=False))

    def take_up_holds(self) -> None:
        numbers = {each.number: each for each in self.workers}
        seen: list[int] = []
        for number, hold in sorted(self.state.holds.items()):
            job = self.state.live_jobs.get(hold.job_id)
            seen.append(hold.job_id)
            worker = self.state.workers[number]
            silent = takes_tasks(worker) and number not in self.called_in
            if (
                job is None
                or (number not in numbers and not silent)
                or not self.could_take(worker, job)
                or not self.may_start(job)
                or seen.count(hold.job_id) > job.pending.count
            ):
                self.lift(number)
                continue
            if silent:
                continue
            self.kept[number] = Kept(job, NEVER, self.key(job))

    def lift(self, number: int) -> None:
        self.do(ev.ReservationLifted(number), "lift", number)
        self.kept.pop(number, None)


def takes_tasks(worker: Worker) -> bool:
    return worker.state is WorkerState.HEALTHY and not worker.is_stopping and worker.drain is None


def lack(worker: Worker, demand: Resources) -> Fraction:
    """The largest part of what it has that it lacks of something."""
    free, capacity = free_on(worker), amounts(worker.capacity)
    parts = [
        Fraction(count - free.get(name, 0), max(capacity.get(name, 0), 1))
        for name, count in asked(demand).items()
    ]
    return max(Fraction(0), *parts)


def choose(
    policy: str, feasible: list[Worker], candidates: list[Worker], demand: Resources, pointer: int
) -> tuple[int, int]:
    """The number of the worker and the rule: 1 where it was its turn, 2 where it is the best."""
    numbers = [each.number for each in candidates]
    all_have_room = len(candidates) == len(feasible)
    if policy == "round-robin" or (policy == "round-robin-then-bin-packing" and all_have_room):
        return min([number for number in numbers if number > pointer] or numbers), 1

    def load(name: str) -> Fraction:
        total = sum(amounts(each.capacity).get(name, 0) for each in feasible)
        free = sum(free_on(each).get(name, 0) for each in feasible)
        return Fraction(total - free, total)

    wanted = [name for name, count in amounts(demand).items() if count]
    scarcest = max(wanted, key=load)
    order = [scarcest, *(name for name in wanted if name != scarcest)]
    sign = -1 if policy == "spread" else 1
    best = min(
        candidates,
        key=lambda each: ([sign * free_on(each).get(name, 0) for name in order], each.number),
    )
    return best.number, 2
