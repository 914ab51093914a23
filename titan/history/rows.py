"""What the state says of jobs, attempts and workers, as rows of the tables in `schema.py`.

Pure: no clock, no I/O, no SQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from titan.model import IndexRange, Reason, State, WorkerState
from titan.queries.views import named_paths, output_paths
from titan.state.attempts import Attempt, EndedAttempt
from titan.state.job import Job
from titan.state.job_class import JobClass
from titan.state.worker import Worker

Row = dict[str, Any]

# A look-up in an enum by its number takes longer than all the rest of a column.
_STATES: Final = {int(each): each.name for each in State}
_REASONS: Final = {int(each): each.name if each else None for each in Reason}
# What of a name or an argument was not UTF-8, or JSON wrote by itself.
_HALVES: Final = re.compile("[\ud800-\udfff]")
_NO_RESOURCES: Final = "{}"


def job_row(job: Job) -> Row:
    """A job as it is. Costs the same whatever the size of its array, but for one that failed."""
    cpus_milli, memory_bytes, named = job.demand
    counts = job.counts
    has_ended = job.has_ended
    reason, exit_code, signal = _end_of(job) if has_ended else (None, None, None)
    return {
        "job_id": job.job_id,
        "name": text(job.name),
        "user_name": text(job.user),
        "command": _json([_decoded(word) for word in job.command]),
        "cwd": _decoded(job.cwd),
        "cpus": cpus_milli / 1000,
        "memory_bytes": memory_bytes,
        "resources": _json(dict(named)) if named else _NO_RESOURCES,
        "priority": job.priority,
        "time_limit_seconds": job.time_limit_ms / 1000 if job.time_limit_ms else None,
        "array": array_text(job.array) if job.array else None,
        "tasks": sum(counts),
        "tasks_completed": counts[3],
        "tasks_failed": counts[4],
        "tasks_cancelled": counts[5],
        "attempts": job.attempts_total,
        "state": _STATES[job.state],
        "reason": reason,
        "exit_code": exit_code,
        "signal": signal,
        "submit_time": job.submit_us / 1e6,
        "start_time": job.start_us / 1e6 if job.start_us else None,
        "end_time": job.end_us / 1e6 if has_ended else None,
        "submit_lsn": job.submit_lsn,
    }


def attempt_row(
    job: Job,
    job_class: JobClass,
    worker: Worker,
    ended: EndedAttempt,
    before_us: int,
    detail: str,
    lsn: int,
) -> Row:
    """An attempt that ended; `job_class` is the one it was started in.

    `before_us`: as `AttemptLog.find_end_before` has it.
    """
    cpus_milli, memory_bytes, _ = job_class.demand
    index, attempt, start_us, end_us = ended.index, ended.attempt, ended.start_us, ended.end_us
    stdout: str | None = None
    stderr: str | None = None
    if start_us:
        own = output_paths(worker, job.job_id, index, attempt)
        named = named_paths(job, index, attempt)
        stdout, stderr = (_decoded(path or other) for path, other in zip(named, own, strict=True))
    submit_us = job.submit_us
    return {
        "job_id": job.job_id,
        "task_index": index,
        "attempt": attempt,
        "name": text(job.name),
        "user_name": text(job_class.user),
        "worker": text(worker.name),
        "state": _STATES[ended.state],
        "reason": _REASONS[ended.reason],
        "detail": text(detail) or None,
        "exit_code": ended.exit_code if ended.exit_code >= 0 else None,
        "signal": ended.signal or None,
        "submit_time": submit_us / 1e6,
        "start_time": start_us / 1e6 if start_us else None,
        "end_time": end_us / 1e6,
        # The clock of a worker may be behind.
        "wait_seconds": max(start_us - (before_us or submit_us), 0) / 1e6 if start_us else None,
        "run_seconds": max(end_us - start_us, 0) / 1e6 if start_us else None,
        "cpu_user_seconds": ended.cpu_user_us / 1e6,
        "cpu_system_seconds": ended.cpu_system_us / 1e6,
        "max_rss_bytes": ended.max_rss_bytes,
        "cpus": cpus_milli / 1000,
        "memory_bytes": memory_bytes,
        "stdout_path": stdout,
        "stderr_path": stderr,
        "lsn": lsn,
    }


def cancelled_row(
    job: Job, tasks: int, reason: str, time_us: int, lsn: int, place: int = -1
) -> Row:
    """Tasks of a job that were cancelled together while they waited."""
    cpus_milli, memory_bytes, _ = job.demand
    return {
        "job_id": job.job_id,
        "lsn": lsn,
        "place": place,
        "tasks": tasks,
        "name": text(job.name),
        "user_name": text(job.user),
        "reason": reason,
        "submit_time": job.submit_us / 1e6,
        "end_time": time_us / 1e6,
        "cpus": cpus_milli / 1000,
        "memory_bytes": memory_bytes,
    }


def running_row(job: Job, attempt: Attempt, worker: Worker) -> Row:
    """An attempt that runs."""
    cpus_milli, memory_bytes, _ = attempt.job_class.demand
    return {
        "job_id": job.job_id,
        "task_index": attempt.index,
        "attempt": attempt.attempt,
        "name": text(job.name),
        "user_name": text(job.user),
        "worker": text(worker.name),
        "submit_time": job.submit_us / 1e6,
        "start_time": attempt.start_us / 1e6,
        "cpus": cpus_milli / 1000,
        "memory_bytes": memory_bytes,
    }


def worker_row(worker: Worker) -> Row:
    """A worker as it is."""
    return {
        "number": worker.number,
        "worker_id": worker.worker_id.hex(),
        "name": text(worker.name),
        "address": text(worker.address),
        "state": WorkerState(worker.state).name,
        "draining": worker.is_draining,
        "cpus": worker.capacity.cpus_milli / 1000,
        "memory_bytes": worker.capacity.memory_bytes,
        "resources": _json(dict(worker.capacity.named)),
        "labels": _json(dict(worker.labels)),
        "version": text(worker.version),
    }


def cancel_reason(job: Job) -> str:
    """Why tasks of it are CANCELLED; the last reason that there was."""
    if job.cut_short is not None and not job.cancel_requested:
        return job.cut_short[0].name
    return Reason.CANCELLED.name


def array_text(ranges: Sequence[IndexRange]) -> str:
    """Indexes as --array takes them: `0-9:2,20`."""
    parts = []
    for each in ranges:
        indexes = each.indexes
        first, last = indexes[0], indexes[-1]
        step = f":{each.step}" if each.step != 1 and first != last else ""
        parts.append(f"{first}-{last}{step}" if first != last else str(first))
    return ",".join(parts)


def text(value: str) -> str:
    """As a database takes it: PostgreSQL has no zero characters, and none has halves of others."""
    if "\0" in value:
        value = value.replace("\0", "\ufffd")
    return value if value.isascii() else _HALVES.sub("\ufffd", value)


def _end_of(job: Job) -> tuple[str | None, int | None, int | None]:
    """Reason, exit code and signal of a job that ended."""
    if job.state is State.COMPLETED:
        return Reason.EXIT.name, 0, None
    if job.state is State.CANCELLED:
        return cancel_reason(job), None, None
    record = None
    if job.lowest_failed is not None and job.ended is not None:
        record = job.ended.find(*job.lowest_failed)
    if record is None:
        return None, None, None
    exit_code = record.exit_code if record.exit_code >= 0 else None
    return _REASONS[record.reason], exit_code, record.signal or None


def _decoded(value: bytes) -> str:
    return text(value.decode("utf-8", "replace"))


def _json(value: Any) -> str:
    return text(json.dumps(value, ensure_ascii=False, sort_keys=True))
