"""Which events tell of a job, and which records may hold some."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from math import gcd
from typing import Final

import msgpack

from titan import events as ev
from titan.model import IndexRange

# msgpack has integers up to it in one byte, which is in nearly every record.
ONE_BYTE_MAX: Final = 0x7F


def find_mentions(job_id: int) -> Callable[[bytes], object]:
    """What tells of a record's payload that it may be about the job; true too often, never too
    seldom."""
    number: bytes = msgpack.packb(job_id)
    if job_id > ONE_BYTE_MAX:
        return lambda payload: number in payload
    # In events about a job its number follows their code; others have it in a list.
    codes = bytes(sorted(ev.CODE_OF_EVENT[kind] for kind in _OF_A_JOB))
    pattern = b"[" + re.escape(codes) + b"]" + re.escape(number) + b"|" + re.escape(_FORGOTTEN)
    return re.compile(pattern, re.DOTALL).search


def find_forgetting_mentions(job_id: int) -> Callable[[bytes], bool]:
    """The same for the record by which the job was forgotten."""
    number: bytes = msgpack.packb(job_id)
    if job_id > ONE_BYTE_MAX:
        # The first alone is in few records, and the second in those is rare.
        return lambda payload: _FORGOTTEN in payload and number in payload
    return lambda payload: _FORGOTTEN in payload


# How the event begins: an array of two, of which the first is its code.
_FORGOTTEN: Final = b"\x92" + bytes([ev.CODE_OF_EVENT[ev.JobsForgotten]])

_OF_A_JOB: Final[tuple[type[ev.Event], ...]] = (
    ev.JobSubmitted,
    ev.CancelRequested,
    ev.TaskAssigned,
    ev.RecallRequested,
    ev.Recalled,
    ev.TaskStarted,
    ev.AttemptEnded,
    ev.Adopted,
    ev.DependencyFailed,
    ev.DeadlinePassed,
    ev.JobHeld,
    ev.JobReleased,
    ev.JobUpdated,
    ev.JobSuspended,
    ev.JobResumed,
    ev.AttemptSuspended,
    ev.AttemptResumed,
    ev.Preempted,
    ev.Reserved,
)


def tells_of(event: ev.Event, job_id: int, indexes: Sequence[IndexRange]) -> bool:
    """Whether the event is about the job, or about one of these tasks of it (empty: all)."""
    match event:
        case ev.RequestAccepted():
            return event.first_job_id <= job_id < event.first_job_id + event.jobs
        case ev.JobsForgotten():
            return job_id in event.job_ids
        case (
            ev.JobSubmitted()
            | ev.DeadlinePassed()
            | ev.JobHeld()
            | ev.JobReleased()
            | ev.JobUpdated()
            | ev.JobSuspended()
            | ev.JobResumed()
            | ev.Reserved()
        ):
            return event.job_id == job_id
        case ev.DependencyFailed():
            return event.job_id == job_id and _meet(event.indexes, indexes)
        case ev.CancelRequested():
            return event.job_id == job_id and _meet(event.indexes, indexes)
        case (
            ev.TaskAssigned()
            | ev.RecallRequested()
            | ev.Recalled()
            | ev.TaskStarted()
            | ev.AttemptEnded()
            | ev.Adopted()
            | ev.AttemptSuspended()
            | ev.AttemptResumed()
            | ev.Preempted()
        ):
            return event.job_id == job_id and _holds(indexes, event.index)
        case _:
            return False


def _holds(ranges: Iterable[IndexRange], index: int) -> bool:
    chosen = [each.indexes for each in ranges]
    return not chosen or any(index in each for each in chosen)


def _meet(some: Sequence[IndexRange], others: Sequence[IndexRange]) -> bool:
    if not some or not others:
        return True
    return any(_share_an_index(a, b) for a in some for b in others)


def _share_an_index(a: IndexRange, b: IndexRange) -> bool:
    """Whether an index is in both. O(1): a range may have millions of indexes.

    The common members of two arithmetic progressions are one themselves, by the Chinese
    remainder theorem; it is looked where its first member behind both starts is.
    """
    common = gcd(a.step, b.step)
    apart, remainder = divmod(b.start - a.start, common)
    if remainder:
        return False
    step = b.step // common
    first = a.start + a.step * (apart * pow(a.step // common, -1, step) % step)
    # How many times the step of what they have in common it is to the later start, rounded up.
    turns = max(0, -((first - b.start) // (a.step * step)))
    return first + turns * a.step * step < min(a.stop, b.stop)
