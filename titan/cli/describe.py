"""Jobs and workers in words, and as exit codes. Pure."""

from __future__ import annotations

import signal
from collections.abc import Iterable

from titan import units
from titan.client.cursors import has_ended
from titan.client.enums import enum_name
from titan.model import Reason, State, WorkerState, task_name
from titan.rpc.v1 import manager_pb2, types_pb2

SIGNALLED = 128
TIMED_OUT = 124
OUT_OF_MEMORY = 137
LAUNCH_FAILED = 127
CANCELLED = 130

# What ended it is told by name; how it took that says little.
_LIMITS = (
    types_pb2.REASON_DEADLINE,
    types_pb2.REASON_TIMEOUT,
    types_pb2.REASON_OOM,
    types_pb2.REASON_OUTPUT_LIMIT,
)
# Nobody cancelled it: it was clear that it could not do what was asked.
_CANCELLED_BY_ITSELF = (types_pb2.REASON_DEPENDENCY_FAILED, types_pb2.REASON_DEADLINE)


def job_exit_code(job: manager_pb2.Job) -> int:
    """What a command exits with that exits as the job did."""
    if job.state == types_pb2.COMPLETED:
        return 0
    if job.reason in {types_pb2.REASON_TIMEOUT, types_pb2.REASON_DEADLINE}:
        return TIMED_OUT
    if job.reason in {types_pb2.REASON_WORKER_LOST, types_pb2.REASON_DEPENDENCY_FAILED}:
        return 1
    if job.state == types_pb2.CANCELLED:
        return CANCELLED
    if job.reason == types_pb2.REASON_OOM:
        return OUT_OF_MEMORY
    if job.reason == types_pb2.REASON_LAUNCH_ERROR:
        return LAUNCH_FAILED
    if job.HasField("signal") and job.signal:
        return SIGNALLED + job.signal
    # Only the low byte would arrive.
    return job.exit_code % 256 or 1


def first_failure(codes: Iterable[int]) -> int:
    """Of several exit codes the first that is not 0."""
    return next((code for code in codes if code), 0)


def outcome_sentence(job: manager_pb2.Job, name: str = "") -> str:
    """`job 42 FAILED: exit code 1 on w1 after 0.4 s`; `name` is what to call it instead of 42."""
    why = why_ended(job)
    return (
        f"job {name or job.job_id} {state_text(job)}"
        + (f": {why}" if why else "")
        + (f" on {job.worker}" if job.worker and job.worker not in why else "")
        + (f" after {span_text(job.start_us, job.end_us)}" if job.start_us and job.end_us else "")
    )


def why_ended(job: manager_pb2.Job) -> str:
    """The reason in a few words; empty for what needs none."""
    total = total_tasks(job)
    if not has_ended(job) or job.state == types_pb2.COMPLETED:
        return ""
    if job.array:
        failed = f"{job.tasks.failed} of {total} tasks failed" if job.tasks.failed else ""
        cancelled = f"{job.tasks.cancelled} of {total} cancelled" if job.tasks.cancelled else ""
        return ", ".join(part for part in (failed, cancelled) if part)
    if job.state == types_pb2.CANCELLED and job.reason not in _CANCELLED_BY_ITSELF:
        return "" if job.start_us else "before it started"
    return end_text(job)


def end_text(end: manager_pb2.Job | manager_pb2.Attempt) -> str:
    """`exit code 1`, `signal 9 (SIGKILL)`, or the detail where that says more."""
    if end.reason in _LIMITS:
        name = enum_name(Reason, end.reason) or ""
        return f"{name}, {end.detail}" if end.detail else name
    if end.reason == types_pb2.REASON_EXIT or (end.HasField("exit_code") and not end.detail):
        return f"exit code {end.exit_code}"
    if end.HasField("signal") and end.signal:
        name = _signal_name(end.signal)
        return f"signal {end.signal}" + (f" ({name})" if name else "")
    return end.detail or (enum_name(Reason, end.reason) or "").lower().replace("_", " ")


def state_text(job: manager_pb2.Job) -> str:
    """The state, and whether it is being cancelled, or held, or suspended."""
    state = enum_name(State, job.state) or "UNKNOWN"
    if has_ended(job):
        return state
    words = (
        ("cancelling", job.cancel_requested),
        ("held", job.scheduling.held),
        ("suspended", job.suspended),
    )
    said = ", ".join(word for word, is_so in words if is_so)
    return f"{state} ({said})" if said else state


def total_tasks(job: manager_pb2.Job) -> int:
    """How many tasks it has."""
    counts = job.tasks
    return ended_tasks(job) + counts.pending + counts.scheduled + counts.running


def ended_tasks(job: manager_pb2.Job) -> int:
    """How many of them have ended."""
    return job.tasks.completed + job.tasks.failed + job.tasks.cancelled


def span_text(start_us: int, end_us: int) -> str:
    """`0.4 s`, from a minute on `1m30s`."""
    seconds = max(0.0, (end_us - start_us) / 1e6)
    return f"{seconds:.1f} s" if seconds < 60 else units.format_age(seconds)


def time_limit_text(job: manager_pb2.Job) -> str:
    """`1h30m, SIGKILL 10s later, SIGUSR1 1m before`; empty without a limit."""
    if not job.time_limit_ms:
        return ""
    limit, grace, before = (
        units.format_duration(ms / 1000)
        for ms in (job.time_limit_ms, job.grace_ms, job.end_signal_before_ms)
    )
    name = _signal_name(job.end_signal) or f"signal {job.end_signal}"
    return (
        limit
        + (f", SIGKILL {grace} later" if job.grace_ms else ", by SIGKILL")
        + (f", {name} {before} before" if job.end_signal else "")
    )


def task_text(job: manager_pb2.Job, index: int) -> str:
    """`42.7`, or `42` for a plain job."""
    return task_name(job.job_id, index, is_array=bool(job.array))


def worker_state_text(worker: manager_pb2.Worker) -> str:
    """`HEALTHY (draining)`, `HEALTHY (drained)` once nothing is left there."""
    state = enum_name(WorkerState, worker.state) or "UNKNOWN"
    if not worker.draining:
        return state
    return f"{state} ({'drained' if is_drained(worker) else 'draining'})"


def is_drained(worker: manager_pb2.Worker) -> bool:
    """Whether it gets no tasks and has none."""
    return worker.draining and not worker.running and not worker.queued


def held_text(worker: manager_pb2.Worker) -> str:
    """`3 running, 1 queued`; `nothing` when that is so."""
    counts = ((worker.running, "running"), (worker.queued, "queued"))
    return ", ".join(f"{count} {name}" for count, name in counts if count) or "nothing"


def drain_sentence(worker: manager_pb2.Worker) -> str:
    """What became of a drain, or of lifting it."""
    if not worker.draining:
        return f"{worker.name} takes tasks"
    return (
        f"{worker.name} is drained"
        if is_drained(worker)
        else f"{worker.name} is draining: {held_text(worker)}"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""
