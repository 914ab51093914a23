"""Messages as the dicts that users see, in `--json` and from the Python client alike.

Pure. Every field is always there, None while it is not known. Times are Unix seconds
with their fraction, states and reasons upper case, keys of counts lower case; bytes
that are not UTF-8 become U+FFFD.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID

from titan.client.arrays import format_array
from titan.client.enums import enum_name
from titan.client.execution import execution_view
from titan.client.scheduling import scheduling_view
from titan.model import IndexRange, Reason, State, WorkerState
from titan.rpc.v1 import manager_pb2, types_pb2

View = dict[str, Any]


class JobsChanged(NamedTuple):
    """Jobs as they are after a change; `lsn` is what a later watch goes on from."""

    lsn: int
    jobs: list[View]


def show_view(response: manager_pb2.GetJobStatusResponse) -> View:
    """A job with the attempts that were asked for."""
    job = job_view(response.job)
    total = job.pop("attempts_total")
    return job | {
        "attempts": [attempt_view(attempt) for attempt in response.attempts],
        "attempts_total": total,
    }


def job_view(job: manager_pb2.Job) -> View:
    """A job without attempts."""
    return {
        "job_id": job.job_id,
        "name": job.name,
        "user": job.user,
        "state": enum_name(State, job.state),
        "reason": enum_name(Reason, job.reason),
        "detail": job.detail or None,
        "cancel_requested": job.cancel_requested,
        "waiting_for": job.waiting_for or None,
        "command": [to_text(word) for word in job.command],
        "cwd": to_text(job.cwd) or None,
        "cpus": _cpus(job.resources.cpus_milli),
        "memory_bytes": job.resources.memory_bytes,
        "resources": _sorted(job.resources.named),
        "priority": job.priority,
        "retries": job.scheduling.retries,
        "retry_on": list(job.scheduling.retry_on),
        "time_limit_seconds": job.time_limit_ms / 1000 if job.time_limit_ms else None,
        "on": job.on or None,
        **execution_view(job.execution),
        "secret_env": [to_text(name) for name in job.secret_env],
        "array": array_view(job.array),
        **scheduling_view(job),
        "submit_time": _time(job.submit_us),
        "start_time": _time(job.start_us),
        "end_time": _time(job.end_us),
        "exit_code": job.exit_code if job.HasField("exit_code") else None,
        "signal": job.signal if job.HasField("signal") else None,
        "tasks": counts_view(job.tasks),
        "attempts_total": job.attempts_total,
    }


def attempt_view(attempt: manager_pb2.Attempt) -> View:
    """One try at one task."""
    has_rss = attempt.HasField("rss_bytes")
    is_measured = has_rss or (attempt.start_us > 0 and attempt.end_us > 0)
    return {
        "index": attempt.index,
        "attempt": attempt.attempt,
        "worker": attempt.worker or None,
        "state": enum_name(State, attempt.state),
        "reason": enum_name(Reason, attempt.reason),
        "detail": attempt.detail or None,
        "exit_code": attempt.exit_code if attempt.HasField("exit_code") else None,
        "signal": attempt.signal if attempt.HasField("signal") else None,
        "start_time": _time(attempt.start_us),
        "end_time": _time(attempt.end_us),
        "cpu_user_seconds": attempt.cpu_user_us / 1e6 if is_measured else None,
        "cpu_system_seconds": attempt.cpu_system_us / 1e6 if is_measured else None,
        "max_rss_bytes": attempt.max_rss_bytes if is_measured else None,
        "rss_bytes": attempt.rss_bytes if has_rss else None,
        "stdout_path": to_text(attempt.stdout_path) or None,
        "stderr_path": to_text(attempt.stderr_path) or None,
    }


def event_view(event: manager_pb2.Event) -> View:
    """An event as `titan wal dump` prints it: its fields follow its name."""
    fields: View = json.loads(event.fields)
    return {"lsn": event.lsn, "time": event.time_us / 1e6, "event": event.event} | fields


def outcome_view(job: manager_pb2.Job) -> View:
    """What `cancel` and `wait` tell of a job."""
    view = job_view(job)
    return {key: view[key] for key in ("job_id", "state", "exit_code")}


def change_views(response: manager_pb2.ChangeJobResponse) -> list[View]:
    """What `hold`, `release`, `update`, `suspend` and `resume` tell of each job."""
    return [change_view(job) for job in response.jobs]


def change_view(job: manager_pb2.Job) -> View:
    """A job with what those commands change of it."""
    return {
        "job_id": job.job_id,
        "state": enum_name(State, job.state),
        "held": job.scheduling.held,
        "suspended": job.suspended,
        "priority": job.priority,
        "time_limit_seconds": job.time_limit_ms / 1000 if job.time_limit_ms else None,
    }


def requeued_jobs(
    response: manager_pb2.RequeueJobResponse,
) -> list[tuple[int, manager_pb2.Job]]:
    """The number of each job that was named, and the job whose tasks wait now."""
    old_of_new = {new: old for old, new in response.submitted_again.items()}
    return [(old_of_new.get(job.job_id, job.job_id), job) for job in response.jobs]


def requeue_views(response: manager_pb2.RequeueJobResponse) -> list[View]:
    """What `requeue` tells of each job; the state is that of the one submitted again, if any."""
    return [
        {
            "job_id": job_id,
            "state": enum_name(State, job.state),
            "submitted_again": job.job_id if job.job_id != job_id else None,
        }
        for job_id, job in requeued_jobs(response)
    ]


def explanation_view(explanation: manager_pb2.Explanation) -> View:
    """Why a task waits, or how it came to be where it is. Of a planned job nothing is known yet."""
    return {
        "job_id": explanation.job_id or None,
        "index": explanation.index if explanation.job_id else None,
        "state": enum_name(State, explanation.state),
        "verdict": verdict_name(explanation.verdict),
        "sentence": explanation.sentence,
        "waiting_for": list(explanation.waiting_for),
        "workers": explanation.workers,
        "workers_with_room": explanation.workers_with_room,
        "turned_away": [
            {"workers": each.workers, "why": each.why, "never": each.never}
            for each in explanation.turned_away
        ],
        "tasks_ahead": explanation.tasks_ahead,
        "start_time": _time(explanation.start_us),
        "worker": explanation.worker or None,
        "ends_job_id": explanation.ends_job_id or None,
        "attempt": explanation.attempt or None,
        "assigned_time": _time(explanation.assigned_us),
        "assigned_lsn": explanation.assigned_lsn or None,
        "policy": explanation.policy or None,
        "policy_version": explanation.policy_version or None,
        "rule": explanation.rule or None,
        "candidates": [_candidate_view(each) for each in explanation.candidates],
    }


def _candidate_view(candidate: manager_pb2.Candidate) -> View:
    free = candidate.free
    return {
        "worker": candidate.worker,
        "free": {
            "cpus": _cpus(free.cpus_milli),
            "memory_bytes": free.memory_bytes,
            "resources": _sorted(free.named),
        },
        "had_room": candidate.had_room,
        "chosen": candidate.chosen,
    }


def verdict_name(number: int) -> str | None:
    """NOW, LATER, NEVER, PLACED or ENDED; None for 0. A newer manager may send one unknown here."""
    if number == 0:
        return None
    known = manager_pb2.Verdict.DESCRIPTOR.values_by_number.get(number)
    return known.name.removeprefix("VERDICT_") if known else f"UNKNOWN_{number}"


def policy_view(response: manager_pb2.PolicyResponse) -> View:
    """How tasks are ordered and placed. A user's limit is None where that user has none."""
    policy = response.policy
    return {
        "placement": policy.placement,
        "order": policy.order,
        "fair_share": policy.fair_share,
        "preempt": policy.preempt,
        "reserve_after_seconds": policy.reserve_after_ms / 1000,
        "user_limits": {
            each.user: _cpus(each.cpus_milli) if each.cpus_milli else None
            for each in sorted(policy.user_limits, key=lambda each: each.user)
        },
        "was_set": response.was_set,
    }


# A letter for each state of a task; of the others' names CANCELLED has the first letter already.
TASK_LETTERS: Final = {
    State.PENDING: "P",
    State.SCHEDULED: "S",
    State.RUNNING: "R",
    State.COMPLETED: "C",
    State.FAILED: "F",
    State.CANCELLED: "X",
}
_LETTERS: Final = bytes.maketrans(bytes(TASK_LETTERS), "".join(TASK_LETTERS.values()).encode())


def tasks_view(response: manager_pb2.ListTasksResponse) -> View:
    """The states of a job's tasks in the order of their indexes, a letter each."""
    return {
        "job_id": response.job_id,
        "array": array_view(response.array),
        "total": response.total,
        "first": response.first,
        "states": response.states.translate(_LETTERS).decode("ascii"),
    }


def worker_view(worker: manager_pb2.Worker) -> View:
    """A worker."""
    return {
        "worker_id": _uuid(worker.worker_id),
        "name": worker.name,
        "address": worker.address or None,
        "state": enum_name(WorkerState, worker.state),
        "reason": worker.reason or None,
        "cpus": _cpus(worker.capacity.cpus_milli),
        "cpus_free": _cpus(worker.free.cpus_milli),
        "memory_bytes": worker.capacity.memory_bytes,
        "memory_free_bytes": worker.free.memory_bytes,
        "resources": _sorted(worker.capacity.named),
        "resources_free": _sorted(worker.free.named),
        "labels": _sorted(worker.labels),
        "running": worker.running,
        "queued": worker.queued,
        "last_heartbeat_time": _time(worker.last_heartbeat_us),
        "version": worker.version or None,
        "draining": worker.draining,
        "limits": worker.limits or None,
        **_statistics_view(worker),
    }


def _statistics_view(worker: manager_pb2.Worker) -> View:
    """How busy its machine was at its last heartbeat; None where that is not known."""
    measured = worker.statistics if worker.HasField("statistics") else None
    return {
        "cpu_percent": round(measured.cpu_percent, 1) if measured else None,
        "load_1m": round(measured.load_1m, 2) if measured else None,
        "memory_used_bytes": measured.memory_used_bytes if measured else None,
        "memory_total_bytes": measured.memory_total_bytes if measured else None,
        "disk_free_bytes": measured.disk_free_bytes if measured else None,
    }


def stats_view(stats: manager_pb2.GetStatsResponse) -> View:
    """The cluster in numbers."""
    return {
        "cluster_id": _uuid(stats.cluster_id),
        "version": stats.version or None,
        "lsn": stats.lsn,
        "start_time": _time(stats.started_us),
        "time": _time(stats.now_us),
        # Of the past the log tells neither: they are a run's, which then has its start.
        "recovery_seconds": stats.recovery_us / 1e6 if stats.started_us else None,
        "recovered_records": stats.recovered_records if stats.started_us else None,
        "jobs": counts_view(stats.jobs),
        "tasks": counts_view(stats.tasks),
        "workers": {state.name.lower(): 0 for state in WorkerState}
        | {name.lower(): count for name, count in sorted(stats.workers.items())},
        "cpus": _cpus(stats.capacity.cpus_milli),
        "cpus_free": _cpus(stats.free.cpus_milli),
        "memory_bytes": stats.capacity.memory_bytes,
        "memory_free_bytes": stats.free.memory_bytes,
        "resources": _sorted(stats.capacity.named),
        "resources_free": _sorted(stats.free.named),
    }


def counts_view(counts: manager_pb2.TaskCounts) -> View:
    """How many are in each state; all six."""
    return {
        "pending": counts.pending,
        "scheduled": counts.scheduled,
        "running": counts.running,
        "completed": counts.completed,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
    }


def array_view(ranges: Iterable[types_pb2.IndexRange]) -> str | None:
    """The SPEC of an array, None for a plain job."""
    return format_array(IndexRange(part.start, part.stop, part.step or 1) for part in ranges)


def to_text(value: bytes) -> str:
    """Bytes for people and JSON."""
    return value.decode("utf-8", "replace")


def _time(time_us: int) -> float | None:
    return time_us / 1e6 if time_us else None


def _cpus(cpus_milli: int) -> int | float:
    whole, rest = divmod(cpus_milli, 1000)
    return cpus_milli / 1000 if rest else whole


def _sorted(mapping: Mapping[str, Any]) -> View:
    return dict(sorted(mapping.items()))


def _uuid(value: bytes) -> str | None:
    if not value:
        return None
    return str(UUID(bytes=value)) if len(value) == 16 else value.hex()
