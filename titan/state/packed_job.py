"""A job as bytes: what a snapshot holds of it, and how ended ones are kept in memory.

A msgpack array of the fields in the order of `pack_job`. New fields go last, and a
snapshot says by its format which ones there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgpack

from titan.model import IndexRange, Resources, State
from titan.state.attempts import Attempt, AttemptLog
from titan.state.index_set import IndexSet
from titan.state.job import Job
from titan.state.job_class import JobClass

_packer: Final = msgpack.Packer(use_bin_type=True)
_STATES: Final = {int(state): state for state in State}


def pack_job(job: Job) -> bytes:
    """The job with all that its tasks did."""
    ended = job.ended
    packed: bytes = _packer.pack(
        (
            job.job_id, job.epoch, job.name, job.command, job.cwd, job.environment, job.array,
            job.job_class.class_id, job.submit_us, job.submit_lsn, job.start_us, job.end_us,
            job.ended_us, _flat(job.pending.ranges),
            _flat(job.cancelled.ranges) if job.cancelled is not None else None,
            [_pack_attempt(each) for each in job.active.values()] if job.active else (),
            ended.data if ended is not None else None,
            [(*key, text) for key, text in ended.details.items()]
            if ended is not None and ended.details else (),
            list(job.attempts_made.items()) if job.attempts_made else (),
            job.attempts_total, job.cancel_requested, job.lowest_failed, job.counts,
            job.changed_lsn,
        )
    )  # fmt: skip
    return packed


def unpack_job(data: bytes, classes: Mapping[int, JobClass]) -> Job:
    """The job again; its class is one of these. Raises ValueError, KeyError, TypeError."""
    return build_job(msgpack.unpackb(data, use_list=False), classes)


def build_job(fields: tuple[Any, ...], classes: Mapping[int, JobClass]) -> Job:
    """A job from its unpacked fields."""
    job = Job.__new__(Job)
    (
        job.job_id, job.epoch, job.name, job.command, job.cwd, job.environment, array,
        class_id, job.submit_us, job.submit_lsn, job.start_us, job.end_us, job.ended_us,
        pending, cancelled, active, ended, details, made, job.attempts_total,
        job.cancel_requested, job.lowest_failed, counts, job.changed_lsn,
    ) = fields  # fmt: skip
    job.array = tuple(IndexRange._make(each) for each in array) if array else ()
    job.job_class = classes[class_id]
    job.pending = _index_set(pending)
    job.cancelled = _index_set(cancelled) if cancelled is not None else None
    job.active = {}
    for each in active:
        job.active[each[0]] = _build_attempt(job.job_id, each)
    job.ended = None
    if ended is not None:
        job.ended = AttemptLog()
        job.ended.data = bytearray(ended)
        if details:
            job.ended.details = {(index, attempt): text for index, attempt, text in details}
    job.attempts_made = dict(made) if made else None
    job.counts = list(counts)
    job.known_state = job.state
    return job


def export_job(job: Job) -> bytes:
    """An ended job for somebody whose state may not have its class any more."""
    exported: bytes = _packer.pack((pack_job(job), job.user, job.priority, job.demand))
    return exported


def import_job(data: bytes) -> Job:
    """A job that was exported, with a class of its own. Raises ValueError, TypeError."""
    packed, user, priority, demand = msgpack.unpackb(data, use_list=False)
    own = JobClass(0, user, priority, Resources(*demand))
    fields = msgpack.unpackb(packed, use_list=False)
    return build_job(fields, {fields[_CLASS_FIELD]: own})


_CLASS_FIELD: Final = 7


def _flat(ranges: Iterable[range]) -> list[int]:
    return [number for each in ranges for number in (each.start, each.stop, each.step)]


def _index_set(flat: tuple[int, ...]) -> IndexSet:
    if not flat:
        return IndexSet()
    if len(flat) == 3:
        return IndexSet((range(*flat),))
    return IndexSet(range(*flat[at : at + 3]) for at in range(0, len(flat), 3))


def _pack_attempt(each: Attempt) -> tuple[int | bool, ...]:
    return (
        each.index, each.attempt, each.worker, each.ahead, each.assigned_us, int(each.state),
        each.start_us, each.cancel_grace_ms, each.recall_requested,
    )  # fmt: skip


def _build_attempt(job_id: int, fields: tuple[Any, ...]) -> Attempt:
    index, number, worker, ahead, assigned_us, state, start_us, grace_ms, recall = fields
    attempt = Attempt(job_id, index, number, worker, ahead, assigned_us)
    attempt.state = _STATES[state]
    attempt.start_us = start_us
    attempt.cancel_grace_ms = grace_ms
    attempt.recall_requested = recall
    return attempt
