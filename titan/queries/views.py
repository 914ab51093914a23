"""The state as messages: what users see of jobs, attempts and workers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

from titan.events import PolicySet
from titan.isolation import shown_labels
from titan.model import AttemptKey, Reason, Resources, State, WorkerState
from titan.patterns import expand
from titan.rpc.execution import execution_message
from titan.rpc.scheduling import scheduling_message
from titan.rpc.v1 import manager_pb2, types_pb2
from titan.scheduler.filters import drain_text
from titan.scheduler.summary import Known, explain_waiting
from titan.scheduling import (
    ORDERS,
    PLACEMENTS,
    PREEMPTIONS,
    WHOLE_JOB,
    DependencyCondition,
)
from titan.state.attempts import Attempt, EndedAttempt
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.worker import Worker

# Sorting more than that for one question would be felt by everybody else.
SORTED_MAX: Final = 10_000
# A list is made of many jobs, and some have many attempts under way.
LOOKED_THROUGH_MAX: Final = 100
# In the order of the states.
_COUNTS: Final = ("pending", "scheduled", "running", "completed", "failed", "cancelled")
CANCELLED_WAITING = "cancelled before it started"


def resources_message(resources: Resources) -> types_pb2.Resources:
    """Resources on the wire."""
    return types_pb2.Resources(
        cpus_milli=resources.cpus_milli,
        memory_bytes=resources.memory_bytes,
        named=dict(resources.named),
    )


def job_message(state: ClusterState, job: Job, known: Known) -> manager_pb2.Job:
    """A job as it is. Costs the same whatever the size of its array.

    `known` is shared by the messages that are made of the same state at once.
    """
    message = manager_pb2.Job.FromString(_terms_of(state, job, known))
    message.job_id = job.job_id
    message.state = types_pb2.State.ValueType(job.state)
    message.submit_us = job.submit_us
    message.attempts_total = job.attempts_total
    message.lsn = job.changed_lsn
    _add_counts(message.tasks, job.counts)
    # What is not so mostly is left out: to set a field takes as long as to look.
    if job.cancel_requested:
        message.cancel_requested = True
    if waiting_for := explain_waiting(state, job, known):
        message.waiting_for = waiting_for
    if job.array:
        message.array.extend(map(_range_message, job.array))
    if job.start_us:
        message.start_us = job.start_us
    if job.has_ended:
        message.end_us = job.end_us
    if worker := _worker_of(state, job):
        message.worker = worker
    if job.is_held:
        message.scheduling.held = True
    if job.is_suspended or _stands_still(job):
        message.suspended = True
    _add_end(state, message, job)
    return message


def _terms_of(state: ClusterState, job: Job, known: Known) -> bytes:
    """The part of a job's message that does not change while it runs, as it is sent.

    Jobs that are submitted by the thousand have most of it in common.
    """
    key = (job.name, job.packed_command, job.job_class.class_id, job.terms, job.scheduling)
    found = known.terms.get(key)
    if found is None:
        message = manager_pb2.Job(
            name=job.name,
            user=job.user,
            command=job.command,
            cwd=job.cwd,
            resources=resources_message(job.demand),
            priority=job.priority,
            tasks=manager_pb2.TaskCounts(),
            time_limit_ms=job.time_limit_ms,
            grace_ms=job.grace_ms,
            end_signal=job.end_signal,
            end_signal_before_ms=job.end_signal_before_ms,
            execution=execution_message(job.execution),
            on=job.on,
            scheduling=scheduling_message(job.scheduling, held=False),
            secret_env=state.environments[job.environment].secret_names,
        )
        found = known.terms[key] = message.SerializeToString()
    return found


def policy_message(policy: PolicySet) -> manager_pb2.Policy:
    """A policy by its names."""
    return manager_pb2.Policy(
        placement=PLACEMENTS[policy.placement - 1],
        order=ORDERS[policy.order - 1],
        fair_share=policy.fair_share,
        preempt=PREEMPTIONS[policy.preempt - 1],
        reserve_after_ms=policy.reserve_after_ms,
        user_limits=[
            manager_pb2.UserLimit(user=user, cpus_milli=cpus_milli)
            for user, cpus_milli in policy.user_limits
        ],
    )


def counts_message(counts: Iterable[int]) -> manager_pb2.TaskCounts:
    """Six counts in the order of the states."""
    message = manager_pb2.TaskCounts()
    _add_counts(message, counts)
    return message


def _add_counts(message: manager_pb2.TaskCounts, counts: Iterable[int]) -> None:
    for name, count in zip(_COUNTS, counts, strict=True):
        if count:
            setattr(message, name, count)


def attempt_messages(
    state: ClusterState, job: Job, indexes: Iterable[range], states: frozenset[int]
) -> Iterator[manager_pb2.Attempt]:
    """Ended attempts, by task up to SORTED_MAX of them, beyond by end; then those under way.

    Only of tasks and in states that were asked for.
    """
    chosen = list(indexes)
    if len(chosen) == 1 and len(chosen[0]) == 1:
        ended: Iterable[EndedAttempt] = job.ended.of_index(chosen[0].start) if job.ended else ()
    else:
        ended = job.ended or ()
        if len(job.ended or ()) <= SORTED_MAX:
            ended = sorted(ended)
    for record in ended:
        if _is_chosen(record.index, chosen) and (not states or record.state in states):
            yield _ended_message(state, job, record)
    for index, attempt in sorted(job.active.items()):
        if _is_chosen(index, chosen) and (not states or attempt.state in states):
            yield _active_message(state, job, attempt)


def worker_message(worker: Worker, *, last_heard_us: int, reason: str) -> manager_pb2.Worker:
    """A worker as the state has it."""
    queued = sum(attempt.state is State.SCHEDULED for attempt in worker.attempts.values())
    return manager_pb2.Worker(
        worker_id=worker.worker_id,
        name=worker.name,
        address=worker.address,
        state=types_pb2.WorkerState.ValueType(worker.state),
        reason=reason,
        capacity=resources_message(worker.capacity),
        free=resources_message(worker.free),
        labels=shown_labels(worker.labels),
        running=len(worker.attempts) - queued,
        queued=queued,
        last_heartbeat_us=last_heard_us,
        version=worker.version,
        draining=worker.is_draining,
        fault=worker.fault,
        limits=worker.limits,
    )


def reason_text(worker: Worker, now_us: int, heard_us: int, *, has_called_in: bool = True) -> str:
    """Why a worker gets no tasks; empty for one that does."""
    why = "" if has_called_in else "not heard since the manager started"
    if worker.fault:
        why = worker.fault
    elif worker.state is not WorkerState.HEALTHY:
        why = f"not heard for {(now_us - heard_us) // 1_000_000} s"
    return "; ".join(part for part in (why, drain_text(worker)) if part)


def listed_workers(state: ClusterState) -> list[Worker]:
    """Those that have not taken their leave, by number."""
    return [each for each in state.workers.values() if each.state is not WorkerState.DEREGISTERED]


def output_paths(worker: Worker, job_id: int, index: int, attempt: int) -> tuple[bytes, bytes]:
    """Where the worker keeps the task's stdout and stderr."""
    folder = os.path.join(worker.output_directory, b"%d" % job_id, b"%d" % (index // 1000))
    base = os.path.join(folder, b"%d.%d" % (index, attempt))
    return base + b".out", base + b".err"


def named_paths(job: Job, index: int, attempt: int) -> tuple[bytes, bytes]:
    """The files that the job named for an attempt's stdout and stderr; empty: none."""
    execution = job.execution
    key = AttemptKey(job.epoch, job.job_id, index, attempt)
    stdout, stderr = (
        os.path.join(job.cwd, expand(pattern, key, job.name)) if pattern else b""
        for pattern in (execution.stdout, execution.stderr)
    )
    return stdout, stderr


def _worker_of(state: ClusterState, job: Job) -> str:
    numbers = {attempt.worker for attempt in job.active.values()} if len(job.active) < 9 else set()
    if not numbers and job.ended and not job.is_array:
        numbers = {job.ended.last().worker}
    return state.get_worker(min(numbers)).name if len(numbers) == 1 else ""


def _add_end(state: ClusterState, message: manager_pb2.Job, job: Job) -> None:
    """How it ended: an array as its failed task with the lowest index."""
    if not job.has_ended:
        return
    if job.state is State.COMPLETED:
        message.exit_code = 0
        message.reason = types_pb2.REASON_EXIT
        return
    if job.state is State.CANCELLED:
        message.reason = types_pb2.REASON_CANCELLED
        if job.cut_short is not None and not job.cancel_requested:
            reason, other_id = job.cut_short
            message.reason = types_pb2.Reason.ValueType(reason)
            message.detail = _cut_short_text(state, job, reason, other_id)
        elif job.ended is None:
            message.detail = CANCELLED_WAITING
        elif not job.is_array:
            message.detail = job.ended.detail(0, job.ended.last().attempt)
        return
    if job.lowest_failed is None or job.ended is None:
        return
    record = job.ended.find(*job.lowest_failed)
    if record is None:
        return
    message.reason = types_pb2.Reason.ValueType(record.reason)
    message.detail = job.ended.detail(*job.lowest_failed)
    if record.exit_code >= 0:
        message.exit_code = record.exit_code
    if record.signal:
        message.signal = record.signal


def _cut_short_text(state: ClusterState, job: Job, reason: Reason, other_id: int) -> str:
    """Why tasks ended before they started."""
    if reason is Reason.DEADLINE:
        return "it could not end by its deadline"
    other = state.jobs.get(other_id)
    ended = f" {other.state.name}" if other is not None and other.has_ended else ""
    after = next((each for each in job.scheduling.after if each.job_id == other_id), None)
    if after is None:
        return f"what it waited for of job {other_id} can't happen any more"
    wanted = {
        DependencyCondition.OK: "complete",
        DependencyCondition.FAILED: "fail",
        DependencyCondition.ANY: "end",
    }[after.condition]
    what = f"job {other_id}" if after.index == WHOLE_JOB else f"tasks of job {other_id}"
    return f"it waited for {what} to {wanted}" + (f", which is{ended}" if ended else "")


def _stands_still(job: Job) -> bool:
    """Whether one of its few attempts under way is suspended for others, or waits for its cpus."""
    return len(job.active) <= LOOKED_THROUGH_MAX and any(
        each.suspended for each in job.active.values()
    )


def _is_chosen(index: int, chosen: list[range]) -> bool:
    return not chosen or any(index in each for each in chosen)


def _ended_message(state: ClusterState, job: Job, record: EndedAttempt) -> manager_pb2.Attempt:
    worker = state.get_worker(record.worker)
    message = manager_pb2.Attempt(
        index=record.index,
        attempt=record.attempt,
        worker=worker.name,
        state=types_pb2.State.ValueType(record.state),
        reason=types_pb2.Reason.ValueType(record.reason),
        detail=job.ended.detail(record.index, record.attempt) if job.ended else "",
        start_us=record.start_us,
        end_us=record.end_us,
        cpu_user_us=record.cpu_user_us,
        cpu_system_us=record.cpu_system_us,
        max_rss_bytes=record.max_rss_bytes,
    )
    if record.exit_code >= 0:
        message.exit_code = record.exit_code
    if record.signal:
        message.signal = record.signal
    if record.start_us:
        _add_paths(message, worker, job)
    return message


def _active_message(state: ClusterState, job: Job, attempt: Attempt) -> manager_pb2.Attempt:
    worker = state.get_worker(attempt.worker)
    message = manager_pb2.Attempt(
        index=attempt.index,
        attempt=attempt.attempt,
        worker=worker.name,
        state=types_pb2.State.ValueType(attempt.state),
        reason=types_pb2.Reason.ValueType(Reason.NONE),
        start_us=attempt.start_us,
    )
    if attempt.start_us:
        _add_paths(message, worker, job)
    return message


def _add_paths(message: manager_pb2.Attempt, worker: Worker, job: Job) -> None:
    own = output_paths(worker, job.job_id, message.index, message.attempt)
    named = named_paths(job, message.index, message.attempt)
    message.stdout_path, message.stderr_path = (
        path or other for path, other in zip(named, own, strict=True)
    )


def _range_message(each: tuple[int, int, int]) -> types_pb2.IndexRange:
    start, stop, step = each
    return types_pb2.IndexRange(start=start, stop=stop, step=step)
