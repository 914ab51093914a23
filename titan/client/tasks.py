"""Some tasks of an array as if they were a job of their own. Pure.

What `wait 42.7` and `42.0-9` need: the manager tells of whole jobs and of attempts.
"""

from __future__ import annotations

from collections.abc import Iterable

from titan.client.cursors import has_ended
from titan.client.names import to_wire
from titan.model import TASK_ENDS, IndexRange
from titan.rpc.v1 import manager_pb2, types_pb2


def narrow(
    job: manager_pb2.Job,
    attempts: Iterable[manager_pb2.Attempt],
    indexes: Iterable[types_pb2.IndexRange],
) -> manager_pb2.Job:
    """The job cut down to these indexes, with state, counts and end made from their attempts.

    A task without an attempt is pending, and cancelled once its job has ended. One task
    reads like a plain job.
    """
    ranges = [IndexRange(part.start, part.stop, part.step or 1) for part in indexes]
    latest: dict[int, manager_pb2.Attempt] = {}
    for attempt in attempts:
        if attempt.index not in latest or attempt.attempt >= latest[attempt.index].attempt:
            latest[attempt.index] = attempt
    counts = manager_pb2.TaskCounts()
    for attempt in latest.values():
        _count(counts, attempt.state)
    silent = sum(len(part.indexes) for part in ranges) - len(latest)
    if has_ended(job):
        counts.cancelled += silent
    else:
        counts.pending += silent
    part = manager_pb2.Job()
    part.CopyFrom(job)
    for field in ("reason", "detail", "exit_code", "signal", "worker", "end_us"):
        part.ClearField(field)
    part.tasks.CopyFrom(counts)
    del part.array[:]
    if len(latest) + silent > 1:
        part.array.extend(to_wire(tuple(ranges)))
    part.state = _state(counts)
    failed = [latest[index] for index in sorted(latest) if latest[index].state == types_pb2.FAILED]
    ends = [attempt for attempt in latest.values() if int(attempt.state) in TASK_ENDS]
    decisive = failed[0] if failed else ends[0] if ends else None
    if has_ended(part) and decisive is not None:
        _take_end(part, decisive)
        part.end_us = max(attempt.end_us for attempt in ends)
    elif has_ended(part) and job.state == types_pb2.CANCELLED:
        # None of them was ever placed: what cancelled the job cancelled them.
        part.reason, part.detail = job.reason, job.detail
    return part


def _count(counts: manager_pb2.TaskCounts, state: int) -> None:
    name = {
        types_pb2.SCHEDULED: "scheduled",
        types_pb2.RUNNING: "running",
        types_pb2.COMPLETED: "completed",
        types_pb2.FAILED: "failed",
        types_pb2.CANCELLED: "cancelled",
    }.get(types_pb2.State.ValueType(state), "pending")
    setattr(counts, name, getattr(counts, name) + 1)


def _state(counts: manager_pb2.TaskCounts) -> types_pb2.State.ValueType:
    """The rule for the state of an array."""
    has_begun = counts.running or counts.completed or counts.failed
    if counts.pending or counts.scheduled or counts.running:
        if has_begun:
            return types_pb2.RUNNING
        return types_pb2.SCHEDULED if counts.scheduled else types_pb2.PENDING
    if counts.failed:
        return types_pb2.FAILED
    return types_pb2.CANCELLED if counts.cancelled else types_pb2.COMPLETED


def _take_end(part: manager_pb2.Job, attempt: manager_pb2.Attempt) -> None:
    part.reason = attempt.reason
    part.detail = attempt.detail
    part.worker = attempt.worker
    for field in ("exit_code", "signal"):
        if attempt.HasField(field):
            setattr(part, field, getattr(attempt, field))
