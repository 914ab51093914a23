"""(k) The scheduler on a large cluster: 10,000 workers, 1,000,000 waiting tasks of 1,000 classes.

The real kernel, without a log: the seconds are those of `kernel.schedule`, in which the assignments
are applied to the state, too. Each number is measured before and after a million jobs have ended.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from titan import events as ev
from titan.manager.kernel import Kernel, Settings
from titan.manager.kernel.commands import (
    NewEnvironment,
    NewJob,
    NewTerms,
    RegisterWorker,
    SubmitJobs,
)
from titan.model import Held, IndexRange, Resources, State
from titan.state.cluster import ClusterState
from tools.bench.result import Result

WORKERS: Final = 10_000
CLASSES: Final = 1_000
TASKS_PER_CLASS: Final = 1_000
ENDED_JOBS: Final = 1_000_000
START_US: Final = 1_800_000_000_000_000
GIB: Final = 1 << 30
_ENVIRONMENT: Final = NewEnvironment(b"\0" * 16, (), ())
_LONG_MS: Final = 3_600_000


class Scale(NamedTuple):
    """How large a cluster is measured."""

    workers: int
    classes: int
    tasks_per_class: int
    ended_jobs: int


FULL: Final = Scale(WORKERS, CLASSES, TASKS_PER_CLASS, ENDED_JOBS)
QUICK: Final = Scale(50, 20, 10, 500)


class Cluster:
    """A kernel with its workers, at a time of its own."""

    def __init__(self, scale: Scale, *, time_limits: bool = False) -> None:
        self.scale = scale
        self.kernel = Kernel(ClusterState(), Settings(lookahead=False))
        self.now_us = START_US
        self.time_limits = time_limits
        self.kernel.start(cluster_id=b"c" * 16, epoch=7, version="bench", now_us=self.now_us)
        draw = random.Random(5)
        for number in range(1, scale.workers + 1):
            self._register(number, draw)
        self.take()

    def take(self) -> int:
        """Forgets the records and batches so far; returns how many tasks were assigned."""
        assigned = 0
        while (record := self.kernel.take_record()) is not None:
            assigned += sum(type(event) is ev.TaskAssigned for event in record[1])
        for outbox in self.kernel.take_ready_outboxes():
            while (batch := outbox.next_batch(self.kernel.state)) is not None:
                outbox.acknowledged(batch)
        self.kernel.take_changed_jobs()
        return assigned

    def submit(self, *jobs: NewJob, user: str = "ada") -> float:
        """Seconds that it takes."""
        command = SubmitJobs(
            user=user,
            request_id=b"",
            content=b"",
            size_bytes=100,
            environments=(_ENVIRONMENT,),
            jobs=jobs,
        )
        begin = time.perf_counter()
        self.kernel.decide(command, self.now_us, 0)
        return time.perf_counter() - begin

    def schedule(self) -> float:
        """Seconds of a pass, as far as one record goes."""
        self.kernel.schedule_wanted = True
        begin = time.perf_counter()
        self.kernel.schedule(self.now_us)
        return time.perf_counter() - begin

    def job(self, cpus: float, memory_bytes: int = 0, tasks: int = 0) -> NewJob:
        """A job of one task, or an array."""
        terms = NewTerms(
            cwd=b"/",
            environment=0,
            resources=Resources(round(cpus * 1000), memory_bytes),
            priority=0,
            array=(IndexRange(0, tasks),) if tasks else (),
            time_limit_ms=_LONG_MS if self.time_limits else 0,
        )
        return NewJob("job", (b"true",), terms)

    def submit_classes(self, cpus: Callable[[int], float], memory: Callable[[int], int]) -> None:
        """The many waiting tasks."""
        for number in range(self.scale.classes):
            self.submit(self.job(cpus(number), memory(number), self.scale.tasks_per_class))
        self.take()

    def end_jobs(self, jobs: int) -> None:
        """So many jobs were submitted, ran and ended; the oldest are forgotten as ever."""
        state, kernel = self.kernel.state, self.kernel
        for each in range(jobs):
            if each % 1_000 == 0:
                self.take()
                kernel.tick(self.now_us, 0)
                self.take()
            job_id = state.next_job_id
            kernel.emit(
                ev.JobSubmitted(
                    job_id, "grace", "ended", (b"true",), b"/", _ENVIRONMENT.digest, 1, 0, (), 0, ()
                )
            )
            kernel.emit(ev.TaskAssigned(job_id, 0, 1, 1, False, 1, 1, 0))
            kernel.emit(
                ev.AttemptEnded(
                    job_id, 0, 1, State.COMPLETED, 1, 0, -1, START_US, START_US + 10**9, 0, 0, 0,
                    "", State.COMPLETED,
                )
            )  # fmt: skip
        self.take()

    def _register(self, number: int, draw: random.Random) -> None:
        command = RegisterWorker(
            worker_id=number.to_bytes(16, "big"), instance=b"i" * 16, boot_id="b",
            name=f"w{number}", address="127.0.0.1:1", token="t",
            # Machines of one kind differ by a few pages.
            capacity=Resources(64_000, 256 * GIB - 4096 * draw.randrange(100)),
            labels=(("zone", "abc"[number % 3]),), version="bench", output_directory=b"/o",
            cluster_id=b"", held=Held((), 0, 0), acknowledged_seq=0,
            new_worker_id=b"", session=number.to_bytes(16, "big"),
        )  # fmt: skip
        self.kernel.decide(command, self.now_us, 0)


def measure(_directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """All numbers, before and after many jobs have ended."""
    scale = QUICK if quick else FULL
    results: list[Result] = []
    for what, unit, must, run in (
        ("a pass in which nothing fits, the first", "ms", "", _first_full),
        ("a pass in which nothing fits", "ms", "≤ 20", _full),
        ("the same, with time limits and a reservation", "ms", "≤ 20", _full_limited),
        ("placements in a pass, taking turns", "tasks/s", "≥ 50,000", _turns),
        ("placements in a pass, best fit", "tasks/s", "≥ 50,000", _best),
        ("submit and place one among all that wait", "ms", "≤ 1", _one),
    ):
        values, later = run(scale, rounds)
        results.append(
            Result(
                part="k", what=what, unit=unit, values=values,
                floor=f"the same after {scale.ended_jobs:,} jobs have ended", floors=later,
                ratios=tuple(a / b for a, b in zip(values, later, strict=True)), must=must,
            )
        )  # fmt: skip
    return results


def _twice(
    cluster: Cluster, rounds: int, once: Callable[[], float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Before and after."""
    _settle_garbage()
    before = tuple(once() for _ in range(rounds))
    cluster.end_jobs(cluster.scale.ended_jobs)
    _settle_garbage()
    return before, tuple(once() for _ in range(rounds))


def _filled(scale: Scale, *, time_limits: bool = False) -> Cluster:
    """Each worker has all cpus taken but one, which is free on none: others are taken by memory."""
    cluster = Cluster(scale, time_limits=time_limits)
    cluster.submit(cluster.job(48, 0, scale.workers), cluster.job(8, 250 * GIB, scale.workers))
    while cluster.schedule() and cluster.take():
        pass
    # Of 8 cpus and 6 GiB that are free everywhere no class gets both.
    cluster.submit_classes(
        lambda number: 1 + number % 8 + (8 if number % 2 else 0), lambda number: (7 + number) * GIB
    )
    return cluster


def _first_full(scale: Scale, rounds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    cluster = _filled(scale)

    def once() -> float:
        # As after a start: nothing is known of what fits where.
        cluster.kernel.scheduler = type(cluster.kernel.scheduler)(
            cluster.kernel.state, cluster.kernel.outboxes
        )
        return cluster.schedule() * 1e3

    return _twice(cluster, rounds, once)


def _full(
    scale: Scale, rounds: int, *, time_limits: bool = False
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    cluster = _filled(scale, time_limits=time_limits)
    cluster.schedule()
    numbers: Iterator[int] = iter(range(10**9))

    def once() -> float:
        # A hundred workers have had something end, and too little is free there by it.
        state = cluster.kernel.state
        for _ in range(100):
            worker = state.get_worker(1 + next(numbers) % scale.workers)
            worker.free_memory_bytes += 1
            worker.touch()
        return cluster.schedule() * 1e3

    found = _twice(cluster, rounds, once)
    assert not cluster.take(), "something fitted"
    return found


def _full_limited(scale: Scale, rounds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return _full(scale, rounds, time_limits=True)


def _turns(scale: Scale, rounds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    def cluster() -> Cluster:
        made = Cluster(scale)
        made.submit_classes(
            lambda number: 0.001 + number % 7 / 1000, lambda number: (number % 20) * 16 << 20
        )
        return made

    return _rates(cluster, rounds)


def _best(scale: Scale, rounds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    def cluster() -> Cluster:
        made = Cluster(scale)
        # One worker is full, so that no class finds room everywhere.
        made.submit(made.job(64))
        made.schedule()
        made.take()
        made.submit_classes(lambda number: 1 + number % 3, lambda number: (1 + number % 5) * GIB)
        return made

    return _rates(cluster, rounds)


def _rates(make: Callable[[], Cluster], rounds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Tasks placed a second, by the first passes over all that wait."""
    rates: list[tuple[float, ...]] = []
    for ends_jobs in (False, True):
        cluster = make()
        if ends_jobs:
            cluster.end_jobs(cluster.scale.ended_jobs)
        _settle_garbage()
        found = []
        for _ in range(rounds):
            seconds = cluster.schedule()
            found.append(cluster.take() / seconds)
        rates.append(tuple(found))
    return rates[0], rates[1]


def _settle_garbage() -> None:
    """What is there stays: as a manager does once it is up, it is not gone through any more."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _one(scale: Scale, rounds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    cluster = _filled(scale)
    cluster.schedule()
    cluster.take()

    def once() -> float:
        each = []
        for _ in range(50):
            seconds = cluster.submit(cluster.job(0.5))
            each.append(seconds + cluster.schedule())
            assert cluster.take() == 1, "the one was not placed"
        return median(each) * 1e3

    return _twice(cluster, rounds, once)
