"""Makes a log of so many events: what a manager with twenty busy workers would have written.

The events are the kernel's own, so that the log is legal: jobs of one task and arrays, some of
which fail, reports in batches, heartbeats. Nothing is random but by the seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import wal
from titan import events as ev
from titan.manager.kernel import Kernel, Settings
from titan.manager.kernel import commands as cmd
from titan.model import AttemptKey, Held, IndexRange, Reason, ReportKind, Resources, State
from titan.state.cluster import ClusterState

WORKERS: Final = 20
CPUS: Final = 32
SEED: Final = 20
START_US: Final = 1_700_000_000_000_000
TURN_US: Final = 5_000
# So many records of the live log share a flush when it is busy.
RECORDS_PER_FLUSH: Final = 10

_VARIABLES: Final = tuple((b"VARIABLE_%d" % number, b"value" * 8) for number in range(20))


def write_history(directory: Path, events: int) -> int:
    """Writes at least so many events into a new log and returns how many. Raises wal.WalError."""
    count = 0
    with wal.Log.open(directory) as log:
        for record in History().records():
            lsn = log.append(ev.encode_record(*record))
            count += len(record[1])
            if lsn % RECORDS_PER_FLUSH == 0:
                log.flush()
            if count >= events:
                return count
    raise AssertionError("a history has no end")


def write_lives(directory: Path, tasks: int, history: History, *, singly: Path | None) -> int:
    """Writes the whole life of so many tasks into a new log and returns how many events it has.

    The same events, one a record, go into another log in `singly`. Raises wal.WalError.
    """
    count = ended = 0
    with ExitStack() as stack:
        log = stack.enter_context(wal.Log.open(directory))
        single = stack.enter_context(wal.Log.open(singly)) if singly is not None else None
        for time_us, events in history.records():
            lsn = log.append(ev.encode_record(time_us, events))
            count += len(events)
            for event in events:
                if single is not None:
                    single.append(ev.encode_record(time_us, [event]))
                ended += isinstance(event, ev.AttemptEnded) and event.task_state != State.PENDING
            if lsn % RECORDS_PER_FLUSH == 0:
                log.flush()
                if single is not None:
                    single.flush()
            if ended >= tasks:
                return count
    raise AssertionError("a history has no end")


class History:
    """One manager's life, turn by turn.

    `turn_us` passes in a turn, in which some 150 tasks end; without `arrays` each is a job.
    """

    def __init__(
        self, *, turn_us: int = TURN_US, arrays: bool = True, start_us: int = START_US
    ) -> None:
        self._turn_us = turn_us
        self._arrays = arrays
        self._random = random.Random(SEED)
        self._state = ClusterState()
        self._kernel = Kernel(self._state, Settings())
        self._now_us = start_us
        self._sessions = [b"session %d" % number for number in range(WORKERS)]
        self._report_seqs = [0] * WORKERS
        self._environment = cmd.NewEnvironment(b"environment 0001", _VARIABLES, ())

    @property
    def state(self) -> ClusterState:
        """The state after the last record."""
        return self._state

    def records(
        self, *, live_jobs_after: int | None = None, live_jobs: int = 0
    ) -> Iterator[tuple[int, list[ev.Event]]]:
        """Record after record, for ever.

        Or until so many tasks have ended; then so many jobs are submitted that nobody runs.
        """
        self._kernel.start(
            cluster_id=b"cluster id 0 1 2", epoch=1, version="0", now_us=self._now_us
        )
        for number in range(WORKERS):
            self._register(number)
        turn = 0
        while True:
            turn += 1
            self._now_us += self._turn_us
            # A few milliseconds of a busy cluster: somebody submits, some workers report.
            if self._state.task_counts[0] < WORKERS * CPUS:
                self._submit(turn)
            for number in self._random.sample(range(WORKERS), 3):
                self._report(number)
            if turn % 200 == 0:
                for session in self._sessions:
                    self._decide(cmd.Heartbeat(session=session, held=Held((), 0, 0)))
                self._kernel.tick(self._now_us, self._now_us)
            self._kernel.schedule(self._now_us)
            self._kernel.take_ready_outboxes()
            self._kernel.take_changed_jobs()
            record = self._kernel.take_record()
            if record is not None:
                yield record
            if live_jobs_after is not None and self._state.jobs.ended_count >= live_jobs_after:
                break
        while len(self._state.live_jobs) < live_jobs:
            turn += 1
            self._submit(turn)
            record = self._kernel.take_record()
            if record is not None:
                yield record

    def _decide(self, command: cmd.Command) -> None:
        self._kernel.decide(command, self._now_us, self._now_us)

    def _register(self, number: int) -> None:
        self._decide(
            cmd.RegisterWorker(
                worker_id=b"worker id %06d" % number,
                instance=b"instance",
                boot_id="boot",
                name=f"worker{number}",
                address=f"10.0.0.{number}:7000",
                token="token",
                capacity=Resources(CPUS * 1000, 64 << 30),
                labels=(),
                version="0",
                output_directory=b"/var/lib/titan/worker/output",
                cluster_id=b"",
                held=Held((), 0, 0),
                acknowledged_seq=0,
                new_worker_id=b"",
                session=self._sessions[number],
            )
        )

    def _submit(self, turn: int) -> None:
        for _ in range(self._random.randrange(1, 40)):
            self._submit_job(turn, ())
        if self._arrays and turn % 4 == 0:
            size = self._random.randrange(10, 2_000)
            self._submit_job(turn, (IndexRange(0, size),))

    def _submit_job(self, turn: int, array: tuple[IndexRange, ...]) -> None:
        command = (b"/usr/bin/python3", b"step.py", b"--input", b"part-%d" % turn)
        terms = cmd.NewTerms(
            cwd=b"/srv/project",
            environment=0,
            resources=Resources(1000 * self._random.choice((1, 1, 1, 2, 4)), 1 << 30),
            priority=0,
            array=array,
        )
        self._decide(
            cmd.SubmitJobs(
                user=f"user{self._random.randrange(4)}",
                request_id=self._random.randbytes(16),
                content=self._random.randbytes(16),
                size_bytes=1_000,
                environments=(self._environment,),
                jobs=(cmd.NewJob(f"step-{turn % 100}", command, terms),),
            )
        )

    def _report(self, number: int) -> None:
        """Some of what waits has started, some of what runs has ended."""
        worker = self._state.get_worker(number + 1)
        outbox = self._kernel.sessions[self._sessions[number]]
        batch = outbox.next_batch(self._state)
        if batch is not None:
            outbox.acknowledged(batch)
        reports: list[cmd.Report] = []
        seq = self._report_seqs[number]
        for (job_id, index), attempt in list(worker.attempts.items()):
            key = AttemptKey(self._state.get_job(job_id).epoch, job_id, index, attempt.attempt)
            if attempt.ahead or self._random.random() < 0.3:
                continue
            seq += 1
            if attempt.state is State.SCHEDULED and self._random.random() < 0.5:
                start_us = self._now_us
                reports.append(cmd.Report(seq, key, ReportKind.STARTED, start_us=start_us))
            else:
                reports.append(self._end(seq, key, attempt.start_us))
        if reports:
            self._report_seqs[number] = seq
            self._decide(
                cmd.ReportTasks(
                    session=self._sessions[number],
                    first_seq=reports[0].seq,
                    last_seq=seq,
                    reports=tuple(reports),
                )
            )

    def _end(self, seq: int, key: AttemptKey, start_us: int) -> cmd.Report:
        fails = self._random.random() < 0.02
        return cmd.Report(
            seq,
            key,
            ReportKind.ENDED,
            State.FAILED if fails else State.COMPLETED,
            Reason.EXIT,
            1 if fails else 0,
            -1,
            start_us or self._now_us - 1_000,
            self._now_us,
            900,
            300,
            4 << 20,
            "exit code 1" if fails else "",
        )
