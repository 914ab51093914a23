"""What happens in a run, as plain data: workers, jobs, faults, and how bad the network is.

A plan is drawn from a seed (`random_plan`) or by hypothesis (`strategies.py`), which can
make a failing one smaller. The smaller choices, such as each message's delay, follow from
`Plan.seed` and the order of events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from random import Random
from typing import NamedTuple

from tests.simulation.wishes import (
    ZONES,
    Change,
    ChangePlan,
    SchedulingPlan,
    random_change,
    random_scheduling,
)

FAULTS_END_MS = 45_000
USERS = ("user0", "user1")
# The delay before the first retry; each further one is up to twice as long.
RETRY_US_MAX = 1_000_000
# As long as the manager's heartbeat timeout allows.
LEASE_US = 4_900_000


class Fault(Enum):
    """What may happen to a part; see the fault model in `__init__`."""

    MANAGER_KILLED = "manager killed"
    MANAGER_POWER_LOST = "manager's power lost"
    MANAGER_DIES_IN_CALL = "manager dies in a call of its file system"
    MANAGER_STALLS = "manager stands still"
    MANAGER_SLEEPS = "manager's machine suspended"
    MANAGER_CLOCK_SET = "manager's wall clock set"
    DISK_FULL = "manager's disk full"
    DISK_SLOW = "manager's disk slow"
    SYNC_FAILS = "a sync fails"
    CALL_FAILS = "a call of the manager's file system fails"
    AGENT_KILLED = "agent killed"
    AGENT_LEAVES = "agent hands back"
    AGENT_DRAINS = "agent runs out"
    HOST_KILLED = "host killed"
    WORKER_KILLED = "agent and host killed"
    AGENT_STALLS = "agent stands still"
    HOST_STALLS = "host stands still"
    WORKER_SLEEPS = "worker's machine suspended"
    REBOOT = "machine rebooted"
    CUT = "network cut"
    CUT_TO_WORKER = "network cut towards the worker"
    CUT_TO_MANAGER = "network cut towards the manager"
    CUT_ALL = "network cut between all workers and the manager"
    CUT_CLIENTS = "network cut between users and the manager"
    CLOCK_SET = "wall clock set"
    WORKER_DISK_FULL = "worker's disk nearly full"


@dataclass(frozen=True, kw_only=True)
class FaultPlan:
    """One fault: when, what, to which worker (modulo their number), for how long.

    `detail` is a number that the fault makes something of, such as in which call.
    """

    at_ms: int
    fault: Fault
    worker: int
    for_ms: int
    detail: int


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """A machine."""

    cpus_milli: int
    gpus: int
    fetches: bool = False
    """It listens nowhere and says so."""
    is_unreachable: bool = False
    """It listens, and the manager finds nobody at its address."""
    zone: str = "a"


@dataclass(frozen=True, kw_only=True)
class CancelPlan:
    """A cancel, so long after the submit was acknowledged; of all tasks or of first … last."""

    after_ms: int
    first: int
    last: int
    grace_ms: int


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """A job. `run_ms` and `exit_codes` go round over the indexes; `tasks` 0: no array.

    `time_limit_ms` 0: none; no task runs for nearly as long as its limit.
    """

    submit_ms: int
    tasks: int
    cpus_milli: int
    gpus: int
    priority: int
    run_ms: tuple[int, ...]
    exit_codes: tuple[int, ...]
    ignores_sigterm: bool = False
    is_launched: bool = True
    cancel: CancelPlan | None = None
    time_limit_ms: int = 0
    grace_ms: int = 0
    warn_before_ms: int = 0
    on: int | None = None
    """The one worker where it may run."""
    scheduling: SchedulingPlan = SchedulingPlan()  # noqa: RUF009 - frozen

    def is_too_long(self, index: int) -> bool:
        """Whether that task runs into its time limit if it is let."""
        return 0 < self.time_limit_ms * 1000 < self.run_us(index)

    @property
    def work_us(self) -> int:
        """How long its tasks take one after the other, tried again and waiting for that, too."""
        retries = self.scheduling.retries
        run_us = sum(self.run_us(index) for index in range(self.tasks or 1))
        delays_us = self.scheduling.begin_ms * 1000 + (RETRY_US_MAX << retries)
        return run_us * (retries + 1) + delays_us

    def run_us(self, index: int) -> int:
        """How long that task runs if it is let."""
        return self.run_ms[index % len(self.run_ms)] * 1000

    def exit_code(self, index: int) -> int:
        """How that task ends if it is let."""
        return self.exit_codes[index % len(self.exit_codes)]


@dataclass(frozen=True, kw_only=True)
class DrainPlan:
    """An administrator drains a worker (modulo their number), and lifts it so much later."""

    at_ms: int
    worker: int
    for_ms: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run."""

    seed: int
    workers: tuple[WorkerPlan, ...]
    jobs: tuple[JobPlan, ...]
    faults: tuple[FaultPlan, ...]
    drains: tuple[DrainPlan, ...] = ()
    changes: tuple[ChangePlan, ...] = ()
    preempt: str = "off"
    lost_percent: int = 0
    doubled_percent: int = 0
    late_percent: int = 0
    detach_ms: int = 600_000
    faults_end_ms: int = FAULTS_END_MS
    """No fault begins later, and a bad network is good again then, or after the last fault."""

    @property
    def calm_ms(self) -> int:
        """From when on nothing fails any more."""
        last_ms = max((each.at_ms + each.for_ms for each in self.faults), default=0)
        is_noisy = self.lost_percent or self.late_percent or self.doubled_percent
        return max(last_ms, self.faults_end_ms) if is_noisy else last_ms

    @property
    def work_us(self) -> int:
        """How long all its tasks take one after the other, with all that makes them run again."""
        again = [each.job for each in self.changes if each.change is Change.REQUEUE]
        runs = (*self.jobs, *(self.jobs[each % len(self.jobs)] for each in again))
        once_us = sum(job.work_us for job in runs)
        return once_us * (2 if self.preempt == "requeue" else 1)


SHORT_RUNS_MS = ((5,), (10,), (20, 20, 20, 5), (10, 10, 10, 10, 10, 1_500), (15, 5, 40))
LONG_RUNS_MS = (
    (300,),
    (1_000, 2_500),
    (8_000,),
    (200, 12_000),
    (30_000,),
    (60_000,),
    (150_000, 300, 2_000, 300, 8_000, 300),
)
# Far enough from every run above.
TIME_LIMITS_MS = (100, 700, 5_000, 20_000)
GRACES_MS = (0, 200, 10_000)
FAULT_LENGTHS_MS = (20, 300, 2_000, 7_000, 13_000, 20_000)


class _Size(NamedTuple):
    """How large a plan is, as the choices for each part of it."""

    faults_end_ms: int
    workers: tuple[int, ...]
    jobs: range
    short_tasks: tuple[int, ...]
    long_runs_ms: tuple[tuple[int, ...], ...]
    faults: tuple[int, ...]
    drains: tuple[int, ...]
    changes: tuple[int, ...]


SMALL = _Size(
    faults_end_ms=15_000,
    workers=(1, 2, 2),
    jobs=range(1, 4),
    short_tasks=(2, 8, 20),
    long_runs_ms=LONG_RUNS_MS[:5],
    faults=(1, 2, 3, 4),
    drains=(0, 0, 0, 1),
    changes=(0, 0, 2),
)
MEDIUM = _Size(
    faults_end_ms=FAULTS_END_MS,
    workers=(1, 2, 2, 3, 3),
    jobs=range(2, 10),
    short_tasks=(8, 20, 60),
    long_runs_ms=LONG_RUNS_MS,
    faults=(0, 2, 5, 9),
    drains=(0, 0, 0, 1, 3),
    changes=(0, 4, 12),
)
LARGE = _Size(
    faults_end_ms=2 * FAULTS_END_MS,
    workers=(3, 5),
    jobs=range(8, 16),
    short_tasks=(20, 60, 200),
    long_runs_ms=LONG_RUNS_MS,
    faults=(9, 20),
    drains=(0, 3),
    changes=(4, 12),
)
# Most mistakes show in small plans, of which many fit in the time of a large one: Jackson, Damon,
# "Elements of style: analyzing a software design feature with a counterexample detector", 1996.
SIZES = (*(SMALL,) * 14, *(MEDIUM,) * 5, LARGE)
EXIT_CODES = ((0,), (0,), (0, 0, 0, 3), (1,))


# Those after which the manager and a worker have most to set right between them.
_OFTEN = (
    Fault.CUT,
    Fault.CUT,
    Fault.CUT_TO_MANAGER,
    Fault.AGENT_KILLED,
    Fault.HOST_KILLED,
    Fault.MANAGER_KILLED,
    Fault.MANAGER_POWER_LOST,
    Fault.MANAGER_DIES_IN_CALL,
    Fault.CLOCK_SET,
)


def random_plan(seed: int, sizes: Sequence[_Size] = SIZES) -> Plan:
    """The plan of that seed: mostly short tasks, mostly long ones under long cuts, or any."""
    random = Random(seed)
    size = random.choice(sizes)
    workers = tuple(
        WorkerPlan(cpus_milli=random.choice((1_000, 2_000, 4_000)), gpus=random.choice((0, 0, 2)))
        for _ in range(random.choice(size.workers))
    )
    short_percent, kinds, lengths = random.choice(
        (
            (90, tuple(Fault), FAULT_LENGTHS_MS),
            (60, (*Fault, *_OFTEN), FAULT_LENGTHS_MS),
            (10, _OFTEN, FAULT_LENGTHS_MS[-2:]),
        )
    )
    faults = [
        FaultPlan(
            at_ms=random.randint(0, size.faults_end_ms),
            fault=random.choice(kinds),
            worker=random.randrange(len(workers)),
            for_ms=random.choice(lengths),
            detail=random.randint(0, 40),
        )
        for _ in range(random.choice(size.faults))
    ]
    jobs = [_random_job(random, size, short_percent) for _ in range(random.choice(size.jobs))]
    limits = Random(f"limits of {seed}")
    places = Random(f"places of {seed}")
    drains = Random(f"drains of {seed}")
    reach = Random(f"reach of {seed}")
    workers = tuple(
        replace(each, fetches=reach.random() < 0.3, is_unreachable=reach.random() < 0.15)
        for each in workers
    )
    zones = Random(f"zones of {seed}")
    workers = tuple(replace(each, zone=zones.choice(ZONES)) for each in workers)
    placed = [_placed(each, places, len(workers)) for each in jobs]
    wishes = Random(f"wishes of {seed}")
    if wishes.random() < 0.6:
        placed = [_scheduled(placed, i, workers, wishes) for i in range(len(placed))]
    once = Random(f"at most once of {seed}")
    placed = [_perhaps_once(each, once) for each in placed]
    return Plan(
        seed=seed,
        workers=workers,
        jobs=tuple(_limited(fitted(each, workers), limits) for each in placed),
        changes=tuple(
            random_change(wishes, size.faults_end_ms) for _ in range(wishes.choice(size.changes))
        ),
        preempt=wishes.choice(("off", "requeue", "suspend", "suspend")),
        faults=tuple(faults),
        drains=tuple(_random_drain(drains, size) for _ in range(drains.choice(size.drains))),
        lost_percent=random.choice((0, 0, 1, 5, 15)),
        doubled_percent=random.choice((0, 2, 10)),
        late_percent=random.choice((0, 1, 5)),
        detach_ms=random.choice((600_000, 600_000, 5_000)),
        faults_end_ms=size.faults_end_ms,
    )


def _scheduled(
    jobs: list[JobPlan], number: int, workers: tuple[WorkerPlan, ...], random: Random
) -> JobPlan:
    """The job of that number, perhaps with wishes when and where it is to run."""
    job = jobs[number]
    scheduling = random_scheduling(random, number, [each.tasks for each in jobs])
    on = random.choice(workers) if job.on is None else workers[job.on]
    zone = random.choice(("", "", on.zone))
    if random.random() < 0.4:
        return job
    priority = random.choice((job.priority, 0, 5, 9))
    return replace(job, priority=priority, scheduling=replace(scheduling, zone=zone))


def _perhaps_once(job: JobPlan, random: Random) -> JobPlan:
    """The job, perhaps so that its tasks run at most once."""
    if random.random() < 0.8:
        return job
    scheduling = replace(job.scheduling, at_most_once=True, retries=0, retry_on=())
    return replace(job, scheduling=scheduling)


def fitted(job: JobPlan, workers: tuple[WorkerPlan, ...]) -> JobPlan:
    """The job with demands that some worker can meet: one that waits for ever ends no run."""
    if job.on is None:
        zone = job.scheduling.zone
        best = max(
            (each for each in workers if zone in ("", each.zone)),
            key=lambda each: (each.gpus >= job.gpus, each.cpus_milli),
        )
    else:
        best = workers[job.on]
    return replace(
        job, cpus_milli=min(job.cpus_milli, best.cpus_milli), gpus=min(job.gpus, best.gpus)
    )


def _placed(job: JobPlan, random: Random, workers: int) -> JobPlan:
    """The job, perhaps for a certain worker."""
    return replace(job, on=random.choice((None, None, None, random.randrange(workers))))


def _limited(job: JobPlan, random: Random) -> JobPlan:
    """The job, perhaps with a time limit."""
    if random.random() < 0.75:
        return job
    limit_ms = random.choice(TIME_LIMITS_MS)
    return replace(
        job,
        time_limit_ms=limit_ms,
        grace_ms=random.choice(GRACES_MS),
        warn_before_ms=random.choice((0, limit_ms // 2, limit_ms - 1)),
    )


def _random_drain(random: Random, size: _Size) -> DrainPlan:
    return DrainPlan(
        at_ms=random.randint(0, size.faults_end_ms),
        worker=random.randrange(max(size.workers)),
        for_ms=random.choice((0, 20, 2_000, 15_000)),
    )


def _random_job(random: Random, size: _Size, short_percent: int) -> JobPlan:
    is_short = random.randrange(100) < short_percent
    tasks = random.choice(size.short_tasks if is_short else (0, 0, 3, 6))
    cancel = None
    if random.random() < 0.3:
        first = random.randint(0, 5)
        whole = random.random() < 0.6
        cancel = CancelPlan(
            after_ms=random.choice((0, 5, 300, 5_000, 20_000)),
            first=0 if whole else first,
            last=1_000_000 if whole else first + random.randint(0, 10),
            grace_ms=random.choice((0, 500, 5_000)),
        )
    return JobPlan(
        submit_ms=random.randint(0, size.faults_end_ms // (1 if random.random() < 0.4 else 6)),
        tasks=tasks,
        cpus_milli=1_000 if is_short else random.choice((500, 1_000, 1_000, 2_000)),
        gpus=0 if is_short else random.choice((0, 0, 0, 1)),
        priority=random.choice((0, 0, 0, 5)),
        run_ms=random.choice(SHORT_RUNS_MS if is_short else size.long_runs_ms),
        exit_codes=random.choice(EXIT_CODES),
        ignores_sigterm=random.random() < 0.2,
        is_launched=random.random() < 0.95,
        cancel=cancel,
    )
