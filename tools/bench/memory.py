"""(r) What a job, and what a task of an array, takes of the manager's memory.

Each kind in a process of its own, which holds the real kernel and brings it there by commands
as they come from the wire: the resident set after it less that before it, garbage collected, by
how many there are. What leaves the process (the log's records, the workers' batches) is made and
dropped.
"""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from titan import events as ev
from titan.manager import translate
from titan.manager.kernel import Kernel, Settings
from titan.manager.kernel.commands import Report, ReportTasks
from titan.manager.kernel.outbox import Outbox, key_of
from titan.model import Reason, ReportKind, Resources, State
from titan.rpc.v1 import manager_pb2
from titan.state import ClusterState
from titan.state.attempts import Attempt
from tools.bench.calls import distinct_jobs_request, submit_request
from tools.bench.heartbeats import registration
from tools.bench.processes import ROOT
from tools.bench.result import Result, against, compared_rows

WORKERS: Final = 10
# How many start at once, and end at once where they are to end.
WAVE: Final = 1_000
# What is made once, whatever comes, is made before it counts.
WARM_UP: Final = 1_000
_START_US: Final = 1_800_000_000_000_000
_RUN_US: Final = 1_500_000


class Kind(NamedTuple):
    """What is counted, how many of it, and how many bytes each may take."""

    what: str
    number: int
    bytes_max: int


KINDS: Final = {
    "pending": Kind("a pending job with its request id", 100_000, 1_024),
    "pending-array": Kind("a pending task of an array", 1_000_000, 1),
    "running": Kind("a running job with its request id", 20_000, 1_500),
    "running-array": Kind("a running task of an array", 20_000, 1_500),
    "finished": Kind("a finished job", 100_000, 400),
    "finished-array": Kind("a finished task of an array", 100_000, 100),
}
QUICK_DIVISOR: Final = 50


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """Each kind in a process of its own, in each round."""
    del directory
    results: list[Result] = []
    for name, kind in KINDS.items():
        count = kind.number // QUICK_DIVISOR if quick else kind.number
        values = tuple(_bytes_each(name, count) for _ in range(rounds))
        results += compared_rows(
            [("what it may take", "≤ 1", against(kind.bytes_max, values))],
            part="r",
            what=kind.what,
            unit="bytes",
            values=values,
        )
    return results


def _bytes_each(name: str, count: int) -> float:
    command = [sys.executable, "-m", "tools.bench.memory", name, str(count)]
    return float(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def bytes_each(name: str, count: int) -> float:
    """In this process, which should have done nothing before."""
    state, _, kind = name.partition("-")
    manager = _Manager(slots=max(WAVE, count + WARM_UP if state == "running" else 0))
    bring = manager.bring_array if kind else manager.bring_jobs
    bring(WARM_UP, state)
    before = _resident_bytes()
    bring(count, state)
    # It is counted in pages: what takes less than one may have taken that.
    return max(_resident_bytes() - before, resource.getpagesize()) / count


class _Manager:
    """The kernel, and what a shell and workers do to it."""

    def __init__(self, slots: int) -> None:
        self._kernel = Kernel(ClusterState(), Settings())
        self._now_us = _START_US
        self._seqs = [0] * WORKERS
        self._submitted = 0
        self._kernel.start(cluster_id=b"c" * 16, epoch=1, version="0", now_us=self._now_us)
        cpus = -(-slots // WORKERS)
        capacity = Resources(1000 * cpus, cpus << 30)
        for number in range(WORKERS):
            command = replace(registration(number), capacity=capacity)
            self._kernel.decide(command, self._now_us, 0)
        self._write()

    def bring_jobs(self, count: int, state: str) -> None:
        """So many jobs; those that only end come by many in a request."""
        at_once = WAVE if state == "finished" else 1
        for done in range(at_once, count + 1, at_once):
            request = distinct_jobs_request(self._submitted, at_once, request_id=os.urandom(16))
            self._submitted += at_once
            self._submit(request)
            if state == "pending" or done % WAVE:
                continue
            started = self._run()
            if state == "finished":
                self._finish(started)

    def bring_array(self, count: int, state: str) -> None:
        """One array of so many tasks."""
        request = submit_request(b"/bin/true", request_id=os.urandom(16), tasks=count)
        self._submit(request.SerializeToString())
        if state == "pending":
            return
        started = self._run()
        while state == "finished" and started:
            self._finish(started)
            started = self._run()

    def _submit(self, data: bytes) -> None:
        # Of jobs that come one by one each has a moment of its own.
        self._now_us += 1000
        command = translate.submit_command(manager_pb2.SubmitJobRequest.FromString(data))
        self._kernel.decide(command, self._now_us, 0)
        self._write()

    def _run(self) -> list[Attempt]:
        """Places what has room, and lets it start."""
        kernel = self._kernel
        kernel.schedule_wanted = True
        while kernel.schedule_wanted:
            kernel.schedule(self._now_us)
            self._write()
        started = []
        for outbox in kernel.take_ready_outboxes():
            while (batch := outbox.next_batch(kernel.state)) is not None:
                outbox.acknowledged(batch)
                started += batch.starts
                self._report(outbox, batch.starts, ReportKind.STARTED)
        return started

    def _finish(self, attempts: Iterable[Attempt]) -> None:
        self._now_us += _RUN_US
        by_worker: dict[int, list[Attempt]] = {}
        for attempt in attempts:
            by_worker.setdefault(attempt.worker, []).append(attempt)
        for number, ended in by_worker.items():
            self._report(self._kernel.outboxes[number], ended, ReportKind.ENDED)
        # What ended is packed by ticks.
        self._kernel.tick(self._now_us, 0)
        self._write()

    def _report(self, outbox: Outbox, attempts: list[Attempt], kind: ReportKind) -> None:
        first = outbox.applied_seq + 1
        reports = tuple(
            Report(
                seq, key_of(self._kernel.state, attempt), kind,
                state=State.COMPLETED, reason=Reason.EXIT, exit_code=0,
                start_us=attempt.start_us or self._now_us, end_us=self._now_us,
                cpu_user_us=1_200_000, cpu_system_us=30_000, max_rss_bytes=80 << 20,
            )
            for seq, attempt in enumerate(attempts, first)
        )  # fmt: skip
        command = ReportTasks(
            session=outbox.session,
            first_seq=first,
            last_seq=first + len(reports) - 1,
            reports=reports,
        )
        self._kernel.decide(command, self._now_us, 0)
        self._write()

    def _write(self) -> None:
        while (record := self._kernel.take_record()) is not None:
            ev.encode_record(*record)
        self._kernel.take_changed_jobs()


def _resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    print(bytes_each(sys.argv[1], int(sys.argv[2])))
