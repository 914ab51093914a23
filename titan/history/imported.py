"""A job that another scheduler ran, and its rows.

Its id is below 0, so it never meets one of the cluster, and its `lsn` is 0: no rebuild of the
history from the log touches it. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from titan.history.rows import Row, text

NUMBER_MAX: Final = 10**15
STATES: Final = ("COMPLETED", "FAILED", "CANCELLED", "UNKNOWN")
# Where the other scheduler did not say.
UNKNOWN_USER: Final = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedJob:
    """Of one task, which was tried once, or ended before it was."""

    number: int
    """As it was called there, 0 to NUMBER_MAX."""
    name: str
    user: str
    command: Sequence[str]
    worker: str
    cpus: float
    memory_bytes: int
    """0: none was asked for."""
    priority: int
    time_limit_seconds: float | None
    state: str
    """One of STATES."""
    reason: str | None
    exit_code: int | None
    signal: int | None
    submit: float
    """Unix seconds, as all times."""
    start: float | None
    """None: it never ran."""
    wait_seconds: float | None
    end: float
    cpu_user_seconds: float
    """0: it is not known, as with the next two."""
    cpu_system_seconds: float
    max_rss_bytes: int
    stdout_path: str | None
    stderr_path: str | None


def imported_job_row(job: ImportedJob, job_id: int) -> Row:
    """For the table of jobs."""
    state = job.state
    return {
        "job_id": job_id,
        "name": text(job.name),
        "user_name": text(job.user),
        "command": text(json.dumps([*job.command], ensure_ascii=False)),
        "cwd": "",
        "cpus": job.cpus,
        "memory_bytes": job.memory_bytes,
        "resources": "{}",
        "priority": job.priority,
        "time_limit_seconds": job.time_limit_seconds,
        "array": None,
        "tasks": 1,
        "tasks_completed": int(state == "COMPLETED"),
        "tasks_failed": int(state == "FAILED"),
        "tasks_cancelled": int(state == "CANCELLED"),
        "attempts": int(job.start is not None),
        "state": state,
        "reason": job.reason,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "submit_time": job.submit,
        "start_time": job.start,
        "end_time": job.end,
        "submit_lsn": 0,
    }


def imported_cancelled_row(job: ImportedJob, job_id: int) -> Row:
    """For the table of what was cancelled while it waited; only of one that never ran."""
    return {
        "job_id": job_id,
        "lsn": 0,
        "place": 0,
        "tasks": 1,
        "name": text(job.name),
        "user_name": text(job.user),
        "reason": job.reason or job.state,
        "submit_time": job.submit,
        "end_time": job.end,
        "cpus": job.cpus,
        "memory_bytes": job.memory_bytes,
    }


def imported_attempt_row(job: ImportedJob, job_id: int) -> Row:
    """For the table of attempts; only of one that ran."""
    assert job.start is not None
    return {
        "job_id": job_id,
        "task_index": 0,
        "attempt": 1,
        "name": text(job.name),
        "user_name": text(job.user),
        "worker": text(job.worker),
        "state": job.state,
        "reason": job.reason,
        "detail": None,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "submit_time": job.submit,
        "start_time": job.start,
        "end_time": job.end,
        "wait_seconds": job.wait_seconds,
        "run_seconds": max(job.end - job.start, 0.0),
        "cpu_user_seconds": job.cpu_user_seconds,
        "cpu_system_seconds": job.cpu_system_seconds,
        "max_rss_bytes": job.max_rss_bytes,
        "cpus": job.cpus,
        "memory_bytes": job.memory_bytes,
        "stdout_path": text(job.stdout_path) if job.stdout_path is not None else None,
        "stderr_path": text(job.stderr_path) if job.stderr_path is not None else None,
        "lsn": 0,
    }
