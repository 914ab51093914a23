"""What a manager tells Prometheus.

What is, such as how many tasks wait, is read from counts that the state keeps; what happened was
counted as it did (`kernel/tally.py`, `metrics/calls.py`, the log's writer thread). So a scrape
walks the workers at most, and never the jobs. No label has a job, a user or a command as its value.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import wal
from titan import events as ev
from titan.manager.journal import FlushedJournal
from titan.manager.keeper import Keeper
from titan.manager.kernel.tally import Tally
from titan.manager.lead_metrics import build_family, disk_family, lead_families
from titan.manager.shell import Shell
from titan.metrics.calls import Calls
from titan.metrics.family import (
    Family,
    counter,
    counters,
    gauge,
    gauges,
    histogram,
)
from titan.metrics.histogram import SHORT_SECONDS, Histogram
from titan.model import TASK_ENDS, State, WorkerState
from titan.snapshots import snapshot_directory

# The lag of the loop is sampled so often; each costs it some 20 us.
PROBE_SECONDS: Final = 0.1
# In how many priorities the oldest task is looked for.
PRIORITIES_MAX: Final = 64
_TASK_STATES: Final = tuple(State)[: State.CANCELLED]
_WORKER_STATES: Final = (WorkerState.HEALTHY, WorkerState.UNHEALTHY, WorkerState.DISCONNECTED)
_OFFERING: Final = (WorkerState.HEALTHY, WorkerState.UNHEALTHY)
_FLUSH_RECORDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_FLUSH_BYTES: Final = tuple(float(1 << power) for power in range(7, 26, 2))


class ManagerMetrics:
    """Counts for one manager from now on, and tells what it is like."""

    def __init__(
        self, shell: Shell, journal: FlushedJournal, data_directory: Path, calls: Calls
    ) -> None:
        """Begins to count: to be made after the replay, before the journal is started.

        `calls` counts those of the manager's server, and has while it stood by.
        """
        self._shell = shell
        self._journal = journal
        self._directory = data_directory
        self._tally = shell.kernel.tally = Tally(shell.kernel.state)
        self._sync_seconds = Histogram(SHORT_SECONDS)
        self._flush_records = Histogram(_FLUSH_RECORDS)
        self._flush_bytes = Histogram(_FLUSH_BYTES)
        self._lag_seconds = Histogram(SHORT_SECONDS)
        self.calls = calls
        self.keeper: Keeper | None = None
        """Who takes snapshots, once there is one."""
        journal.observe_flushes(self._note_flush)

    async def run_probe(self) -> None:
        """Samples the lag of the loop until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PROBE_SECONDS
            await asyncio.sleep(PROBE_SECONDS)
            self._lag_seconds.observe(max(loop.time() - due, 0.0))

    def read(self) -> Iterator[Family]:
        """What is known in the loop, as it is in this turn of it."""
        yield build_family()
        yield from lead_families(self._shell.leadership)
        yield from self._queue()
        yield from self._work()
        yield from self._workers()
        yield from self._log()
        yield from self.calls.read()
        yield histogram(
            "titan_loop_lag_seconds",
            "How much later than it should the event loop came to something, sampled each 0.1 s.",
            self._lag_seconds.read(),
        )

    def look(self) -> Iterator[Family]:
        """What the disk knows; called in a thread."""
        yield disk_family(self._directory)
        segments = wal.list_segments(self._directory / "wal")
        yield gauge("titan_wal_segments", "Files that the log consists of.", len(segments))
        yield gauge(
            "titan_wal_size_bytes",
            "The size of these files, of which the last is allocated in advance.",
            sum(each.size_bytes for each in segments),
        )
        yield from self._newest_snapshot()
        yield from self._readers()

    def _queue(self) -> Iterator[Family]:
        state = self._shell.kernel.state
        yield gauges(
            "titan_tasks",
            "Tasks by state; those that ended until their jobs are forgotten.",
            "state", _by_state(state.task_counts),
        )  # fmt: skip
        yield gauges(
            "titan_jobs",
            "Jobs by state; those that ended until they are forgotten.",
            "state", _by_state(state.job_counts),
        )  # fmt: skip
        yield gauge(
            "titan_queue_oldest_age_seconds",
            "How long ago the oldest job was submitted that has tasks which wait for nothing but "
            "room; 0 when there is none.",
            self._oldest_age_seconds(),
        )

    def _oldest_age_seconds(self) -> float:
        kernel = self._shell.kernel
        submits = [
            kernel.state.live_jobs[job_class.pending_jobs.peekitem(0)[0]].submit_us
            for place in kernel.scheduler.queue.firsts(PRIORITIES_MAX)
            # It is as the last pass has left it.
            if (job_class := kernel.state.classes.get(place.class_id)) and job_class.pending_jobs
        ]
        return max(self._shell.now_us() - min(submits), 0) / 1e6 if submits else 0.0

    def _work(self) -> Iterator[Family]:
        tally = self._tally
        yield counter(
            "titan_jobs_submitted_total", "Jobs accepted.", tally.count_of(ev.JobSubmitted)
        )
        yield counter("titan_tasks_submitted_total", "Tasks of them.", tally.tasks_submitted)
        yield _ended("titan_jobs_ended_total", "Jobs that ended, by state.", tally.jobs_ended)
        yield _ended("titan_tasks_ended_total", "Tasks that ended, by state.", tally.tasks_ended)
        yield counter(
            "titan_attempts_assigned_total",
            "Attempts given to workers.",
            tally.count_of(ev.TaskAssigned),
        )
        yield counter("titan_attempts_started_total", "Attempts that started.", tally.started)
        yield counters(
            "titan_attempts_ended_total",
            "Attempts that ended, by state and reason; after LOST, RECALLED and some that FAILED "
            "their task waits again.",
            ("state", "reason"),
            (
                ((state.name, reason.name), count)
                for state, reason, count in tally.attempts_ended
            ),
        )  # fmt: skip
        yield counter(
            "titan_task_retries_total", "Failures after which a task was retried.", tally.retries
        )
        yield counter(
            "titan_recalls_requested_total",
            "Attempts that a worker was asked to give back before they start.",
            tally.count_of(ev.RecallRequested),
        )
        yield counter(
            "titan_preemptions_total",
            "Attempts that were to be stopped for a higher priority, or put back by their user.",
            tally.count_of(ev.Preempted),
        )
        yield counter(
            "titan_adoptions_total",
            "Attempts that ran on after they had been given up with their worker.",
            tally.count_of(ev.Adopted),
        )
        yield histogram(
            "titan_task_wait_seconds",
            "From the submit of its job to the first start of a task.",
            tally.wait_seconds.read(),
        )
        yield histogram(
            "titan_task_run_seconds",
            "From the start of an attempt to its end, however it ended; one that was adopted ended "
            "twice.",
            tally.run_seconds.read(),
        )

    def _workers(self) -> Iterator[Family]:
        kernel = self._shell.kernel
        counts = dict.fromkeys(_WORKER_STATES, 0)
        draining = cpus_milli = free_cpus_milli = memory_bytes = free_memory_bytes = 0
        for worker in kernel.state.workers.values():
            if worker.state not in counts:
                continue
            counts[worker.state] += 1
            if worker.state in _OFFERING:
                draining += worker.is_draining
                cpus_milli += worker.capacity.cpus_milli
                memory_bytes += worker.capacity.memory_bytes
                free_cpus_milli += worker.free_cpus_milli
                free_memory_bytes += worker.free_memory_bytes
        yield gauges(
            "titan_workers", "Workers by state; those that took their leave are none.", "state",
            {state.name: count for state, count in counts.items()},
        )  # fmt: skip
        yield gauge("titan_workers_draining", "Workers that get no new tasks.", draining)
        yield counter(
            "titan_worker_registrations_total", "Times that a worker called in.",
            self._tally.count_of(ev.WorkerRegistered),
        )  # fmt: skip
        yield counter(
            "titan_workers_lost_total",
            "Times that a worker was silent for the heartbeat timeout.",
            self._tally.count_of(ev.WorkerLost),
        )
        longest_us = next(iter(kernel.heard_us.values()), kernel.turned_us)
        yield gauge(
            "titan_worker_silence_max_seconds",
            "How long the worker that is silent for longest, and is not lost, was not heard.",
            max(kernel.turned_us - longest_us, 0) / 1e6,
        )
        yield gauge("titan_cpus_offered", "Cpus of workers that are not lost.", cpus_milli / 1000)
        yield gauge(
            "titan_cpus_promised",
            "Cpus of these that are promised to tasks.",
            (cpus_milli - free_cpus_milli) / 1000,
        )
        yield gauge(
            "titan_memory_offered_bytes", "Memory of workers that are not lost.", memory_bytes
        )
        yield gauge(
            "titan_memory_promised_bytes",
            "Memory of these that is promised to tasks.",
            memory_bytes - free_memory_bytes,
        )

    def _log(self) -> Iterator[Family]:
        journal, shell = self._journal, self._shell
        yield gauge("titan_wal_last_lsn", "The last record of the log.", shell.lsn)
        yield gauge(
            "titan_wal_durable_lsn",
            "The last record of the log that survives a power loss.",
            journal.durable_lsn,
        )
        yield counter(
            "titan_wal_appended_bytes_total",
            "Bytes of records given to the log.",
            journal.appended_bytes,
        )
        yield gauge(
            "titan_wal_room", "1 while the disk takes more than ends; else submits are refused.",
            journal.room,
        )  # fmt: skip
        yield histogram(
            "titan_wal_fsync_duration_seconds",
            "How long the disk took to make a flush durable.",
            self._sync_seconds.read(),
        )
        yield histogram(
            "titan_wal_flush_records",
            "How many records were made durable at once.",
            self._flush_records.read(),
        )
        yield histogram(
            "titan_wal_flush_bytes",
            "How many bytes were made durable at once.",
            self._flush_bytes.read(),
        )
        yield gauge(
            "titan_recovery_duration_seconds",
            "How long the start took to make the state from snapshot and log.",
            shell.recovery_us / 1e6,
        )
        yield gauge(
            "titan_recovery_records",
            "Records that the start replayed behind its snapshot.",
            shell.recovered_records,
        )
        if self.keeper is not None:
            yield counters(
                "titan_snapshots_total",
                "Snapshots that were tried, by result.",
                ("result",),
                (
                    (("taken",), self.keeper.snapshots_taken),
                    (("failed",), self.keeper.snapshots_failed),
                ),
            )
            yield gauge(
                "titan_snapshot_duration_seconds",
                "How long the last snapshot of this run took; 0 before it.",
                self.keeper.last_snapshot_seconds,
            )

    def _newest_snapshot(self) -> Iterator[Family]:
        directory = snapshot_directory(self._directory)
        lsns = wal.find_snapshots(directory)
        lsn = lsns[-1] if lsns else 0
        size_bytes, time_seconds = 0, 0.0
        if lsn:
            # It may be removed meanwhile.
            with suppress(FileNotFoundError):
                status = os.stat(directory / wal.snapshot_name(lsn))
                size_bytes, time_seconds = status.st_size, status.st_mtime
        yield gauge("titan_snapshot_lsn", "The last record in the newest snapshot.", lsn)
        yield gauge("titan_snapshot_size_bytes", "The size of the newest snapshot.", size_bytes)
        yield gauge(
            "titan_snapshot_timestamp_seconds",
            "When the newest snapshot was written, in Unix time; 0: there is none.",
            time_seconds,
        )

    def _readers(self) -> Iterator[Family]:
        # What can't be read the keeper warns of.
        slots = wal.read_slots(self._directory / "readers", on_warning=lambda _: None)
        end_lsn = self._journal.durable_lsn
        yield gauges(
            "titan_reader_lag_records",
            "How many durable records a reader of the log, such as the history, has yet to say "
            "that it has done.",
            "reader", {name: max(end_lsn - position.lsn, 0) for name, position in slots},
        )  # fmt: skip

    def _note_flush(self, flush: wal.Flush) -> None:
        """Called in the log's writer thread, which alone writes to these."""
        self._sync_seconds.observe(flush.sync_seconds)
        self._flush_records.observe(flush.records)
        self._flush_bytes.observe(flush.size_bytes)


def _by_state(counts: Iterable[int]) -> dict[str, float]:
    return {state.name: count for state, count in zip(_TASK_STATES, counts, strict=True)}


def _ended(name: str, help_text: str, counts: Iterable[int]) -> Family:
    samples = zip(((state.name,) for state in TASK_ENDS), counts, strict=True)
    return counters(name, help_text, ("state",), samples)
