"""A job as bytes: what a snapshot holds of it, and how ended ones are kept in memory.

First a head of fixed places, which is read without unpacking the rest, then the rest as a
msgpack array:

    offset  size  field
         0     8  when the manager knew that it had ended, microseconds since the epoch, or 0
         8     8  LSN of its last change
        16    24  its tasks by state, six times 4 bytes
        40     4  number of its class
        44     2  bytes of its name, n
        46     1  bytes of its environment's digest, m
        47     n  name, UTF-8
      47+n     m  digest
    47+n+m        [job_id, epoch, command, …], in the order of `pack_job`

The command is its words with zero bytes between them. A job of which just one attempt ended, as
of most that ended, has numbers in place of that attempt's record, the start after the submit and
the end after the start, and nil for its own start or end where they are that attempt's.

New fields of the rest go last, and a snapshot says by its format which ones there are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgpack

from titan.model import IndexRange, Reason, State, execution_fields, execution_of
from titan.scheduling import PLAIN_SCHEDULING, Scheduling, scheduling_fields, scheduling_of
from titan.state.attempts import Attempt, AttemptLog, EndedAttempt, pack_ended
from titan.state.index_set import IndexSet
from titan.state.job import (
    NO_ATTEMPTS,
    NONE_WAITS,
    ONE_WAITS,
    PLAIN_COUNTS,
    Job,
    Terms,
    derive_state,
    pack_command,
    weigh,
)
from titan.state.job_class import JobClass
from titan.state.waits import Waits, waits_of

_packer: Final = msgpack.Packer(use_bin_type=True)
_STATES: Final = {int(state): state for state in State}
# A packer keeps room for the largest that it has packed, so what is larger gets one of its own.
_PACKER_BYTES_MAX: Final = 64 * 1024
_HEAD: Final = struct.Struct("<qq6IIHB")
assert _HEAD.size == 47


class JobHead(NamedTuple):
    """What lists ask for of a job, without the rest of it."""

    job_id: int
    name: str
    job_class: JobClass
    environment: bytes
    counts: tuple[int, ...]
    changed_lsn: int
    ended_us: int
    """0: it lives."""
    state: State

    @property
    def user(self) -> str:
        """Who submitted it."""
        return self.job_class.user

    @property
    def weight(self) -> int:
        """What it takes of the memory for ended jobs."""
        return weigh(sum(self.counts))


def head_of(job: Job) -> JobHead:
    """The head of a job that is not packed."""
    return JobHead(
        job.job_id, job.name, job.job_class, job.environment, tuple(job.counts),
        job.changed_lsn, job.ended_us, job.state,
    )  # fmt: skip


def read_head(job_id: int, data: bytes, classes: Mapping[int, JobClass]) -> JobHead:
    """The head of a packed job that ended."""
    ended_us, changed_lsn, *counts, class_id, name_bytes, digest_bytes = _HEAD.unpack_from(data)
    name_end = _HEAD.size + name_bytes
    return JobHead(
        job_id, data[_HEAD.size : name_end].decode(), classes[class_id],
        data[name_end : name_end + digest_bytes], tuple(counts), changed_lsn, ended_us,
        derive_state(counts),
    )  # fmt: skip


def pack_job(job: Job) -> bytes:
    """The job with all that its tasks did."""
    ended = job.ended
    name = job.name.encode()
    head = _HEAD.pack(
        job.ended_us, job.changed_lsn, *job.counts, job.job_class.class_id, len(name),
        len(job.environment),
    )  # fmt: skip
    log: bytes | bytearray | tuple[int, ...] | None = None
    start_us: int | None = job.start_us
    end_us: int | None = job.end_us
    packer = _packer
    if ended is not None:
        log = ended.data
        if len(ended) == 1:
            only = ended.last()
            log = _pack_ended(job, only)
            start_us = None if only.start_us == start_us else start_us
            end_us = None if only.end_us == end_us else end_us
        elif len(log) > _PACKER_BYTES_MAX:
            packer = msgpack.Packer(use_bin_type=True)
    rest: bytes = packer.pack(
        (
            job.job_id, job.epoch, job.packed_command, job.cwd, job.array, job.submit_us,
            job.submit_lsn, start_us, end_us, _flat(job.pending.ranges),
            _flat(job.cancelled.ranges) if job.cancelled is not None else None,
            [_pack_attempt(each) for each in job.active.values()] if job.active else (),
            log,
            [(*key, text) for key, text in ended.details.items()]
            if ended is not None and ended.details else (),
            list(job.attempts_made.items()) if job.attempts_made else (),
            job.attempts_total, job.cancel_requested, job.lowest_failed,
            job.time_limit_ms, job.grace_ms, job.end_signal, job.end_signal_before_ms,
            execution_fields(job.execution), *_pack_waits(job),
        )
    )  # fmt: skip
    return b"".join((head, name, job.environment, rest))


def unpack_job(
    data: bytes,
    classes: Mapping[int, JobClass],
    shared_terms: Callable[[Terms], Terms] | None = None,
) -> Job:
    """The job again; its class is one of these. Raises ValueError, KeyError, TypeError.

    `shared_terms` finds terms that are there already, for one that is to be kept.
    """
    job = Job.__new__(Job)
    try:
        job.ended_us, job.changed_lsn, *counts, class_id, name_bytes, digest_bytes = (
            _HEAD.unpack_from(data)
        )
    except struct.error as error:
        raise ValueError(str(error)) from error
    name_end = _HEAD.size + name_bytes
    rest = name_end + digest_bytes
    job.job_class = classes[class_id]
    job.name = data[_HEAD.size : name_end].decode()
    (
        job.job_id, job.epoch, command, cwd, array, job.submit_us, job.submit_lsn,
        start_us, end_us, pending, cancelled, active, ended, details, made,
        job.attempts_total, job.cancel_requested, job.lowest_failed,
        time_limit_ms, grace_ms, end_signal, end_signal_before_ms, execution, *waiting,
    ) = msgpack.unpackb(memoryview(data)[rest:], use_list=False)  # fmt: skip
    job.array = tuple(IndexRange._make(each) for each in array) if array else ()
    job.packed_command = command if isinstance(command, bytes) else pack_command(command)
    terms = Terms(
        cwd, data[name_end:rest], time_limit_ms, grace_ms, end_signal, end_signal_before_ms,
        execution_of(execution),
    )  # fmt: skip
    job.terms = shared_terms(terms) if shared_terms is not None else terms
    job.counts = counts
    if array:
        job.pending = _index_set(pending)
    else:
        job.counts = PLAIN_COUNTS[counts.index(1)]
        job.pending = ONE_WAITS if pending else NONE_WAITS
    job.cancelled = _index_set(cancelled) if cancelled is not None else None
    job.active = NO_ATTEMPTS
    for each in active:
        job.add_active(_build_attempt(job, each, classes))
    job.ended = None
    if ended is not None:
        job.ended = AttemptLog()
        job.ended.data = bytearray(
            ended if isinstance(ended, bytes) else _unpack_ended(job.submit_us, *ended)
        )
        if start_us is None:
            start_us = job.ended.last().start_us
        if end_us is None:
            end_us = job.ended.last().end_us
        if details:
            job.ended.details = {(index, attempt): text for index, attempt, text in details}
    job.start_us, job.end_us = start_us, end_us
    job.attempts_made = dict(made) if made else None
    job.scheduling, job.waits, job.cut_short = _unpack_waits(waiting)
    job.known_state = job.state
    return job


def _flat(ranges: Iterable[range]) -> list[int]:
    return [number for each in ranges for number in (each.start, each.stop, each.step)]


def _index_set(flat: tuple[int, ...]) -> IndexSet:
    if not flat:
        return IndexSet()
    if len(flat) == 3:
        return IndexSet((range(*flat),))
    return IndexSet(range(*flat[at : at + 3]) for at in range(0, len(flat), 3))


def _pack_waits(job: Job) -> tuple[Any, ...]:
    """What the job asked for, what it waits for, why tasks were cut short; () for most jobs."""
    waits = job.waits
    if job.scheduling == PLAIN_SCHEDULING and waits is None and job.cut_short is None:
        return ()
    # An ended job waits for nothing any more.
    waiting = waits.fields() if waits is not None and not job.has_ended else None
    return scheduling_fields(job.scheduling), waiting, job.cut_short


def _unpack_waits(
    packed: Sequence[Any],
) -> tuple[Scheduling, Waits | None, tuple[Reason, int] | None]:
    if not packed:
        return PLAIN_SCHEDULING, None, None
    scheduling, waits, cut_short = packed
    return (
        scheduling_of(scheduling),
        waits_of(waits) if waits is not None else None,
        (Reason(cut_short[0]), cut_short[1]) if cut_short is not None else None,
    )


def _pack_ended(job: Job, ended: EndedAttempt) -> tuple[int, ...]:
    start_us, end_us = ended.start_us, ended.end_us
    return (*ended[:7], start_us - job.submit_us, end_us - start_us, *ended[9:])


def _unpack_ended(submit_us: int, *fields: int) -> bytes:
    start_us = submit_us + fields[7]
    return pack_ended(*fields[:7], start_us, start_us + fields[8], *fields[9:])


def _pack_attempt(each: Attempt) -> tuple[int | bool, ...]:
    return (
        each.index, each.attempt, each.worker, each.ahead, each.assigned_us, int(each.state),
        each.start_us, each.cancel_grace_ms, each.recall_requested, each.cancel_signal,
        each.job_class.class_id, each.limit_ms, each.since_us, each.preempt_grace_ms,
        each.suspended, each.was_suspended, each.limit_changed,
    )  # fmt: skip


def _build_attempt(job: Job, fields: tuple[Any, ...], classes: Mapping[int, JobClass]) -> Attempt:
    (
        index, number, worker, ahead, assigned_us, state, start_us, grace_ms, recall, signal, *rest,
    ) = fields  # fmt: skip
    job_class = classes[rest[0]] if rest else job.job_class
    attempt = Attempt(job_class, job.job_id, index, number, worker, ahead, assigned_us)
    attempt.state = _STATES[state]
    attempt.start_us = start_us
    attempt.cancel_grace_ms = grace_ms
    attempt.cancel_signal = signal
    attempt.recall_requested = recall
    if rest:
        (
            _, attempt.limit_ms, attempt.since_us, attempt.preempt_grace_ms,
            attempt.suspended, attempt.was_suspended, attempt.limit_changed,
        ) = rest  # fmt: skip
    return attempt
