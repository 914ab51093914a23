"""The course of a simulation: from instant to instant, as fast as the kernel decides.

At each instant at which something happens there come first the ends, then the submits, then one
pass of the scheduler. What it places starts at that instant. A job that takes no time ends
in it, too, and another pass follows.

Pure: time is what the trace says. No worker falls silent, since the kernel counts silence in
time that it is told of and is told of none.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import groupby
from typing import Final, NamedTuple

from titan.manager.kernel import Kernel, Settings
from titan.manager.kernel.commands import NewEnvironment, NewJob, NewTerms, SubmitJobs, Submitted
from titan.manager.kernel.submit import JOBS_PER_REQUEST_MAX
from titan.model import AttemptKey, Resources
from titan.simulator.swf import TraceJob
from titan.simulator.worker import VirtualWorker
from titan.state import ClusterState

# In the kernel a start at 0 stands for none, so time begins a second later than in the trace.
_ORIGIN_US: Final = 1_000_000
# The kernel forgets jobs by the tick, which costs little when it is for so many.
_ENDS_PER_TICK: Final = 1_000
_CLUSTER_ID: Final = bytes(16)
_ENVIRONMENT: Final = NewEnvironment(bytes(16), (), ())
_COMMAND: Final = (b"true",)


class Schedule(NamedTuple):
    """When each job of a trace started."""

    jobs: Sequence[TraceJob]
    starts_us: array[int]


class Simulation:
    """One run of a trace through a cluster of workers that are all alike."""

    def __init__(
        self,
        jobs: Sequence[TraceJob],
        *,
        workers: int,
        cpus_milli: int,
        settings: Settings,
        by_user: bool = False,
    ) -> None:
        """`jobs` in the order of their submits, each of a size that fits on a worker.

        `by_user`: they are submitted by the users of the trace, else all by one.
        """
        self._jobs = jobs
        self._by_user = by_user
        self._starts_us = array("q", [-1]) * len(jobs)
        self._submitted = 0
        self._ended = 0
        self._ended_at_tick = 0
        # What runs: its end, a number that keeps ends of one instant in the order of their starts.
        self._running: list[tuple[int, int, int, AttemptKey]] = []
        self._started = 0
        self.kernel = Kernel(ClusterState(), settings)
        self.kernel.start(cluster_id=_CLUSTER_ID, epoch=1, version="", now_us=_ORIGIN_US)
        made = [
            VirtualWorker(self.kernel, each, cpus_milli, _ORIGIN_US)
            for each in range(1, workers + 1)
        ]
        self._workers = {worker.number: worker for worker in made}
        self._drop_records()

    def run(self, progress: Callable[[int], None] = lambda _: None) -> Schedule:
        """Runs it to its end; `progress` hears after each instant how many jobs have ended."""
        jobs = self._jobs
        while self._submitted < len(jobs) or self._running:
            instants = [self._running[0][0]] if self._running else []
            if self._submitted < len(jobs):
                instants.append(_ORIGIN_US + jobs[self._submitted].submit_us)
            now_us = min(instants)
            self._end_due(now_us)
            self._submit_due(now_us)
            self._pass(now_us)
            while self._running and self._running[0][0] == now_us:
                self._end_due(now_us)
                self._pass(now_us)
            if self._ended - self._ended_at_tick >= _ENDS_PER_TICK:
                self._ended_at_tick = self._ended
                self.kernel.tick(now_us, 0)
            self._drop_records()
            progress(self._ended)
        assert self._ended == len(jobs), "a job was never started though it fits"
        return Schedule(jobs, self._starts_us)

    def _end_due(self, now_us: int) -> None:
        ended: dict[int, list[tuple[AttemptKey, int]]] = {}
        while self._running and self._running[0][0] == now_us:
            _, _, worker, key = heappop(self._running)
            start_us = _ORIGIN_US + self._starts_us[key.job_id - 1]
            ended.setdefault(worker, []).append((key, start_us))
        for worker, runs in ended.items():
            self._workers[worker].end(runs, now_us)
            self._ended += len(runs)

    def _submit_due(self, now_us: int) -> None:
        first = end = self._submitted
        jobs = self._jobs
        while end < len(jobs) and _ORIGIN_US + jobs[end].submit_us == now_us:
            end += 1
        for user, group in groupby(jobs[first:end], key=self._user_of):
            due = list(group)
            for place in range(0, len(due), JOBS_PER_REQUEST_MAX):
                self._submit(user, due[place : place + JOBS_PER_REQUEST_MAX], now_us)

    def _submit(self, user: str, jobs: Sequence[TraceJob], now_us: int) -> None:
        command = SubmitJobs(
            user=user,
            request_id=b"",
            content=b"",
            size_bytes=0,
            environments=(_ENVIRONMENT,),
            jobs=tuple(map(_new_job, jobs)),
        )
        answer: Submitted = self.kernel.decide(command, now_us, 0)
        assert answer.job_ids.start == self._submitted + 1, "ids count up with the trace"
        self._submitted += len(jobs)

    def _pass(self, now_us: int) -> None:
        kernel = self.kernel
        while kernel.schedule_wanted:
            kernel.schedule(now_us)
        for outbox in kernel.take_ready_outboxes():
            for key in self._workers[outbox.worker].receive(now_us):
                place = key.job_id - 1
                self._starts_us[place] = now_us - _ORIGIN_US
                self._started += 1
                entry = (now_us + self._jobs[place].run_us, self._started, outbox.worker, key)
                heappush(self._running, entry)

    def _drop_records(self) -> None:
        """There is no log, and nobody to tell of changes."""
        while self.kernel.take_record() is not None:
            pass
        self.kernel.changed_jobs.clear()

    def _user_of(self, job: TraceJob) -> str:
        return f"user-{job.user}" if self._by_user and job.user > 0 else "user"


def _new_job(job: TraceJob) -> NewJob:
    terms = NewTerms(
        cwd=b"/",
        environment=0,
        resources=Resources(job.cpus * 1000),
        priority=0,
        array=(),
        # 0 would stand for no limit.
        time_limit_ms=max(1, -(-job.limit_us // 1000)),
    )
    return NewJob(f"swf-{job.number}", _COMMAND, terms)
