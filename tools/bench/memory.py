"""(r) What the manager remembers, in bytes of its resident memory."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from titan import events as ev
from titan.manager.kernel import Kernel, Settings
from titan.model import IndexRange, Reason, Resources, State
from titan.state.cluster import ClusterState
from tools.bench.heartbeats import registration
from tools.bench.processes import seconds_of
from tools.bench.result import Result

JOBS: Final = 100_000
JOBS_QUICK: Final = 2_000
ARRAY_TASKS: Final = 1_000_000
ARRAY_TASKS_QUICK: Final = 20_000
RUNNING: Final = 20_000
RUNNING_QUICK: Final = 1_000
JOBS_PER_RECORD: Final = 100
# Of which each worker runs so many.
TASKS_PER_WORKER: Final = 1_000
NOW_US: Final = 1_800_000_000_000_000
_ENVIRONMENT: Final = b"environment 0001"
_VARIABLES: Final = tuple((b"VARIABLE_%d" % number, b"value" * 8) for number in range(20))


class Row(NamedTuple):
    """A kind of thing, and how many bytes one may take."""

    what: str
    bound_bytes: float
    things: int
    things_quick: int


ROWS: Final = {
    "pending": Row("a pending job with its request id", 1024, JOBS, JOBS_QUICK),
    "array": Row("a pending task of an array", 1, ARRAY_TASKS, ARRAY_TASKS_QUICK),
    "running": Row("a running task", 1500, RUNNING, RUNNING_QUICK),
    "ended": Row("a job that has ended", 400, JOBS, JOBS_QUICK),
    "ended-array": Row("a task of an array that has ended", 100, JOBS, JOBS_QUICK),
}


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """Each kind in processes of its own: what was freed before would hide what is taken."""
    results = []
    for kind, row in ROWS.items():
        count = row.things_quick if quick else row.things
        values = tuple(seconds_of("memory", f"{kind},{count}", directory) for _ in range(rounds))
        results.append(
            Result(
                part="r",
                what=row.what,
                unit="bytes",
                values=values,
                floor=f"{row.bound_bytes:g} bytes",
                floors=(row.bound_bytes,),
                ratios=tuple(value / row.bound_bytes for value in values),
                must="≤ 1",
                goal="",
                details={"of so many": float(count)},
            )
        )
    return results


class Cluster:
    """A kernel without a log, and workers with room for all that is wanted."""

    def __init__(self) -> None:
        self.kernel = Kernel(ClusterState(), Settings(forget_over=1 << 40))
        self.kernel.start(cluster_id=b"cluster id 0 1 2", epoch=1, version="0", now_us=NOW_US)
        self.kernel.emit(ev.EnvironmentStored(_ENVIRONMENT, _VARIABLES, ()))

    def add_workers(self, workers: int) -> None:
        """Numbers from 1; each with a cpu for every task."""
        capacity = Resources(1000 * TASKS_PER_WORKER, 1 << 40)
        for number in range(1, workers + 1):
            self.kernel.decide(replace(registration(number), capacity=capacity), NOW_US, 0)
        self.settle()

    def submit(
        self, jobs: int, array: tuple[IndexRange, ...] = (), *, with_requests: bool = True
    ) -> None:
        """Jobs that differ, each by a request of its own, whose id is remembered or not."""
        first = self.kernel.state.next_job_id
        for job_id in range(first, first + jobs):
            self.kernel.emit(
                ev.JobSubmitted(
                    job_id, "grace", f"step {job_id}",
                    (b"/usr/bin/python3", b"step.py", b"--input", b"part-%d.csv" % job_id),
                    b"/srv/project", _ENVIRONMENT, 1000, 0, (), 0, array,
                )
            )  # fmt: skip
            if with_requests:
                request_id, content = os.urandom(16), os.urandom(16)
                self.kernel.emit(ev.RequestAccepted("grace", request_id, content, job_id, 1))
            if not job_id % JOBS_PER_RECORD:
                self.settle()
        self.settle()

    def start(self, jobs: int) -> None:
        """Jobs of one task, of which each worker runs so many."""
        self.submit(jobs)
        for position in range(jobs):
            worker = 1 + position // TASKS_PER_WORKER
            self.kernel.emit(ev.TaskAssigned(position + 1, 0, 1, worker, False, 1, 1, 1))
            self.kernel.emit(ev.TaskStarted(position + 1, 0, 1, NOW_US + position))
            if not position % JOBS_PER_RECORD:
                self.settle()
        self.settle()

    def run(self, jobs: int) -> None:
        """Jobs of one task, of which one after the other comes and completes.

        Some at a time: what all would take while they wait is not what is measured. Nor are
        request ids, which are forgotten by themselves.
        """
        for position in range(jobs):
            if not position % JOBS_PER_RECORD:
                self.submit(min(JOBS_PER_RECORD, jobs - position), with_requests=False)
            self._run_task(position, position + 1, 0)
        self.settle()

    def run_array(self, tasks: int) -> None:
        """An array whose tasks complete one after the other."""
        self.submit(1, (IndexRange(0, tasks),))
        for position in range(tasks):
            self._run_task(position, 1, position)
        self.settle()

    def _run_task(self, position: int, job_id: int, index: int) -> None:
        start_us = NOW_US + 1_000 * position
        self.kernel.emit(ev.TaskAssigned(job_id, index, 1, 1, False, 1, 1, 1))
        self.kernel.emit(
            ev.AttemptEnded(
                job_id, index, 1, State.COMPLETED, Reason.EXIT, 0, -1, start_us,
                start_us + 1_500 + position % 997, 1_200 + position % 301, 400, 22_904_832, "",
                State.COMPLETED, 0, 0,
            )
        )  # fmt: skip
        if not position % JOBS_PER_RECORD:
            self.settle()

    def settle(self) -> None:
        """A tick, as there are some each second: what ended is packed.

        What would be written, sent and told is let go; the scheduler takes up what is new.
        """
        self.kernel.tick(NOW_US, 0)
        while self.kernel.take_record() is not None:
            pass
        self.kernel.take_changed_jobs()
        self.kernel.take_ready_outboxes()
        self.kernel.scheduler.refresh()


def main(what: str, _directory: str) -> int:
    """Prints the bytes that one more of a kind takes."""
    kind, _, number = what.partition(",")
    count = int(number)
    here = Cluster()
    # The workers are there before.
    here.add_workers(-(-count // TASKS_PER_WORKER) if kind == "running" else 1)
    works: dict[str, Callable[[], None]] = {
        "pending": lambda: here.submit(count),
        "array": lambda: here.submit(1, (IndexRange(0, count),)),
        "running": lambda: here.start(count),
        "ended": lambda: here.run(count),
        "ended-array": lambda: here.run_array(count),
    }
    before = _resident_bytes()
    works[kind]()
    # A few pages more or less are nothing's.
    print(max(_resident_bytes() - before, 1) / count)
    return 0


def _resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
