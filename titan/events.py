"""Everything that can happen, a class each, and its form in the log.

A record is one msgpack array `[time_us, [event, …]]`, an event `[code, field, …]`.
A code's meaning never changes: new meaning, new code. New fields go last and have a
default, so that older logs still read. A code or a field that this version does not
know is an error and never skipped, since the state would silently be another one.

Events are facts: past tense, complete, with every time and every random choice inside.
Knows nothing of the state; no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgpack

from titan.model import PLAIN, SIGTERM, Execution, IndexRange, execution_fields, execution_of
from titan.scheduling import (
    PLAIN_SCHEDULING,
    Scheduling,
    scheduling_fields,
    scheduling_of,
)


class EventError(Exception):
    """A record cannot be understood."""


class NewerEvent(EventError):
    """The record was written by a later version of Titan."""


class ClusterCreated(NamedTuple):
    """The first event of every log."""

    cluster_id: bytes


class ManagerStarted(NamedTuple):
    """A manager took the log over. Jobs remember the epoch of their submit."""

    epoch: int
    version: str


class EnvironmentStored(NamedTuple):
    """An environment that jobs refer to by its digest; stored once however many share it.

    With it comes the script that these jobs run, if they run one that was sent. Of secrets only
    the names are here: the values are in a file called `secret_id`, a random number, beside the
    log, as long as one of the jobs has not ended.
    """

    digest: bytes
    exported: tuple[tuple[bytes, bytes], ...]
    set: tuple[tuple[bytes, bytes], ...]
    script: bytes = b""
    secret_id: bytes = b""
    secret_names: tuple[bytes, ...] = ()


class JobSubmitted(NamedTuple):
    """A job was accepted. Without ranges in `array` it is a plain job with the one task 0.

    time_limit_ms 0: its tasks may run as long as they like. end_signal 0: none is sent
    end_signal_before_ms before the limit. `on`: only the worker of that name, or of that id
    in hexadecimal; empty: any.
    """

    job_id: int
    user: str
    name: str
    command: tuple[bytes, ...]
    cwd: bytes
    environment: bytes
    cpus_milli: int
    memory_bytes: int
    named: tuple[tuple[str, int], ...]
    priority: int
    array: tuple[IndexRange, ...]
    time_limit_ms: int = 0
    grace_ms: int = 10_000
    end_signal: int = 0
    end_signal_before_ms: int = 0
    execution: Execution = PLAIN
    on: str = ""
    scheduling: Scheduling = PLAIN_SCHEDULING


class RequestAccepted(NamedTuple):
    """The jobs first_job_id … were submitted under this request id.

    `content` is a hash of the request: the same id with other content is an error.
    """

    user: str
    request_id: bytes
    content: bytes
    first_job_id: int
    jobs: int


class CancelRequested(NamedTuple):
    """Somebody wants tasks gone. Pending ones are CANCELLED by it, the others when gone.

    Without ranges it means the whole job. The signal is what comes before the grace. Without a user
    it follows from the job's own terms.
    """

    job_id: int
    indexes: tuple[IndexRange, ...]
    grace_ms: int
    signal: int = SIGTERM
    user: str = ""


class TaskAssigned(NamedTuple):
    """An attempt was given to a worker, in a slot or ahead of one, by a rule of a policy."""

    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    attempt: int
    worker: int
    ahead: bool
    policy: int
    policy_version: int
    rule: int


class RecallRequested(NamedTuple):
    """The manager would like an attempt back that has not started. A wish, no more.

    With a user: he put the task back to the queue.
    """

    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    attempt: int
    user: str = ""


class Recalled(NamedTuple):
    """The worker's answer: not started and never will be."""

    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    attempt: int


class TaskStarted(NamedTuple):
    """The worker runs it. The time is the worker's."""

    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    attempt: int
    start_us: int


class AttemptEnded(NamedTuple):
    """How an attempt ended, and what its task becomes by it.

    start_us 0: it never ran. A start that was not told before is told by this.
    exit_code and signal are -1 where there is none. A task that is PENDING by it waits until
    not_before_us; what it is charged with is one of the CHARGE_ numbers.
    """

    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    attempt: int
    state: int
    reason: int
    exit_code: int
    signal: int
    start_us: int
    end_us: int
    cpu_user_us: int
    cpu_system_us: int
    max_rss_bytes: int
    detail: str
    task_state: int
    not_before_us: int = 0
    charge: int = 0


# What an end costs a task that goes on: nothing, one of its retries, or one of the few workers
# that it may be lost with.
CHARGE_NOTHING: Final = 0
CHARGE_RETRY: Final = 1
CHARGE_LOSS: Final = 2


class Adopted(NamedTuple):
    """An attempt that was given up with its worker runs after all, and its task still waits."""

    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    attempt: int
    start_us: int
    takes_back_loss: bool = False
    """Whether its loss, if it was counted, is counted no more."""


class WorkerRegistered(NamedTuple):
    """A worker called in, for the first time or again."""

    worker: int
    worker_id: bytes
    instance: bytes
    boot_id: str
    name: str
    address: str
    cpus_milli: int
    memory_bytes: int
    named: tuple[tuple[str, int], ...]
    labels: tuple[tuple[str, str], ...]
    version: str
    output_directory: bytes
    limits: str = ""


class WorkerHeartbeats(NamedTuple):
    """Who was heard since the last one."""

    workers: tuple[int, ...]


class WorkerHealthy(NamedTuple):
    """A worker that was UNHEALTHY is heard again, and gives no reason to be."""

    worker: int


class WorkerUnhealthy(NamedTuple):
    """It gets no new tasks: silent for half the timeout, or for the reason that it gives itself."""

    worker: int
    reason: str = ""


class WorkerLost(NamedTuple):
    """Silent for the timeout. The ends of its attempts stand in the same record, before it."""

    worker: int


class WorkerDraining(NamedTuple):
    """A worker gets no new tasks from now on; what runs there runs on.

    An administrator (`user`) drains it until that is lifted. `stopping`: the worker asked for it
    itself, since it ends once nothing is left there. The one does not touch the other.
    """

    worker: int
    reason: str
    user: str
    stopping: bool


class WorkerUndrained(NamedTuple):
    """A worker's drain was lifted, or it came back from the stop that it had drained for."""

    worker: int
    user: str
    stopping: bool


class WorkerDeregistered(NamedTuple):
    """A worker took its leave. The ends of its attempts stand in the same record, before it."""

    worker: int


class JobsForgotten(NamedTuple):
    """Jobs that ended leave the memory; what they were stays in the log."""

    job_ids: tuple[int, ...]


class DelaysPassed(NamedTuple):
    """All that waited for a time up to this one need not wait for it any more."""

    until_us: int


class DependencyFailed(NamedTuple):
    """What these tasks wait for of another job can't happen any more: they are CANCELLED.

    Without ranges it means the whole job.
    """

    job_id: int
    indexes: tuple[IndexRange, ...]
    dependency: int


class DeadlinePassed(NamedTuple):
    """A job can't end in time: what waits is CANCELLED, and if it is over, what runs is stopped."""

    job_id: int
    is_over: bool


class JobHeld(NamedTuple):
    """None of its tasks starts until it is released."""

    job_id: int
    user: str


class JobReleased(NamedTuple):
    """A hold of the job was lifted."""

    job_id: int
    user: str


class JobUpdated(NamedTuple):
    """A job's priority and time limit are these from now on, for running tasks too."""

    job_id: int
    priority: int
    time_limit_ms: int
    user: str


class JobSuspended(NamedTuple):
    """None of its tasks starts until it is resumed; those that run are suspended one by one."""

    job_id: int
    user: str


class JobResumed(NamedTuple):
    """A suspended job may go on; its tasks run on once their cpus are free."""

    job_id: int
    user: str


class AttemptSuspended(NamedTuple):
    """A running attempt stands still from now on and leaves its cpus to others.

    for_job: the one of higher priority that it makes room for; 0: somebody suspended its job.
    """

    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    attempt: int
    for_job: int


class AttemptResumed(NamedTuple):
    """It runs on and has its cpus again."""

    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    attempt: int


class Preempted(NamedTuple):
    """An attempt is to be stopped, and its task then waits again.

    for_job: the one of higher priority for which its room is kept; 0: a user put it back.
    """

    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    attempt: int
    for_job: int
    grace_ms: int
    user: str = ""


class Reserved(NamedTuple):
    """A worker is kept for a job, until a task of it comes there."""

    job_id: int
    worker: int


class ReservationLifted(NamedTuple):
    """A worker is not kept for a job any more."""

    worker: int


class PolicySet(NamedTuple):
    """How tasks are ordered and placed from now on, whatever the manager was started with.

    user_limits: (user, thousandths of cpus that may run at once), sorted; the user "" is each
    who is not named.
    """

    user: str
    placement: int
    order: int
    fair_share: bool
    preempt: int
    reserve_after_ms: int
    user_limits: tuple[tuple[str, int], ...]


Event = (
    ClusterCreated
    | ManagerStarted
    | EnvironmentStored
    | JobSubmitted
    | RequestAccepted
    | CancelRequested
    | TaskAssigned
    | RecallRequested
    | Recalled
    | TaskStarted
    | AttemptEnded
    | Adopted
    | WorkerRegistered
    | WorkerHeartbeats
    | WorkerHealthy
    | WorkerUnhealthy
    | WorkerLost
    | WorkerDraining
    | WorkerUndrained
    | WorkerDeregistered
    | JobsForgotten
    | DelaysPassed
    | DependencyFailed
    | DeadlinePassed
    | JobHeld
    | JobReleased
    | JobUpdated
    | JobSuspended
    | JobResumed
    | AttemptSuspended
    | AttemptResumed
    | Preempted
    | Reserved
    | ReservationLifted
    | PolicySet
)

# Never reused, never renumbered.
EVENT_OF_CODE: Final[dict[int, type[Event]]] = {
    1: ClusterCreated,
    2: ManagerStarted,
    3: JobSubmitted,
    4: CancelRequested,
    5: TaskAssigned,
    6: RecallRequested,
    7: Recalled,
    8: TaskStarted,
    9: AttemptEnded,
    10: Adopted,
    11: WorkerRegistered,
    12: WorkerHeartbeats,
    13: WorkerHealthy,
    14: WorkerUnhealthy,
    15: WorkerLost,
    16: WorkerDraining,
    17: WorkerUndrained,
    18: WorkerDeregistered,
    19: JobsForgotten,
    20: EnvironmentStored,
    21: RequestAccepted,
    22: DelaysPassed,
    23: DependencyFailed,
    24: DeadlinePassed,
    25: JobHeld,
    26: JobReleased,
    27: JobUpdated,
    28: JobSuspended,
    29: JobResumed,
    30: AttemptSuspended,
    31: AttemptResumed,
    32: Preempted,
    33: Reserved,
    34: ReservationLifted,
    35: PolicySet,
}
CODE_OF_EVENT: Final[dict[type[Event], int]] = {kind: code for code, kind in EVENT_OF_CODE.items()}

Record = tuple[int, Sequence[Event]]

_EXECUTION_AT: Final = JobSubmitted._fields.index("execution")
assert JobSubmitted._fields[_EXECUTION_AT:] == ("execution", "on", "scheduling")
_SUBMITTED: Final = CODE_OF_EVENT[JobSubmitted]
_packer = msgpack.Packer(use_bin_type=True)


def encode_record(time_us: int, events: Sequence[Event]) -> bytes:
    """The bytes of a record."""
    codes = CODE_OF_EVENT
    items = [
        _submitted(event) if type(event) is JobSubmitted else (codes[type(event)], *event)
        for event in events
    ]
    packed: bytes = _packer.pack((time_us, items))
    return packed


def _submitted(event: JobSubmitted) -> tuple[Any, ...]:
    execution, scheduling = event.execution, event.scheduling
    return (
        _SUBMITTED,
        *event[:_EXECUTION_AT],
        () if execution is PLAIN else execution_fields(execution),
        event.on,
        () if scheduling is PLAIN_SCHEDULING else scheduling_fields(scheduling),
    )


def decode_record(payload: bytes) -> tuple[int, list[Event]]:
    """The time in microseconds and the events of a record.

    Raises NewerEvent for what a later version wrote, EventError for what is no record.
    """
    try:
        time_us, items = msgpack.unpackb(payload, raw=False, strict_map_key=False)
        if type(time_us) is not int or type(items) is not list:
            raise EventError(f"a record of {len(payload)} bytes has no time or no events")
        shapes, make = _PLAIN_SHAPES, _make_tuple
        events: list[Event] = []
        for item in items:
            # Whole events without lists in them, which are nearly all, with nothing to look at.
            code = item[0]
            kind, size = shapes.get(code, _NO_SHAPE)
            if size == len(item) and type(code) is int and type(item) is list:
                events.append(make(kind, item[1:]))
            else:
                events.append(_decode_event(item))
    except EventError:
        raise
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise EventError(f"a record of {len(payload)} bytes is not understood: {error}") from error
    return time_us, events


def _decode_event(item: list[Any]) -> Event:
    # Of these alone a later version can be told; anything else is no event.
    if type(item) is not list or type(item[0]) is not int:
        raise EventError("an event is a list that begins with its code")
    shape = _SHAPES.get(item[0])
    if shape is None:
        raise NewerEvent(f"event code {item[0]} is not known to this version")
    kind, items, nested = shape
    if len(item) > items:
        raise NewerEvent(
            f"{kind.__name__} has {len(item) - 1} fields, this version knows {items - 1}"
        )
    for position, build in nested:
        # The last ones may not have been there when it was written.
        if position < len(item):
            item[position] = build(item[position])
    is_whole = len(item) == items
    del item[0]
    # With all fields there the class has no defaults to fill in, which halves the cost.
    event: Event = _make_tuple(kind, item) if is_whole else kind(*item)
    return event


def _fields(kind: type[Event]) -> tuple[str, ...]:
    return kind._fields


def _scalars(value: list[Any]) -> tuple[Any, ...]:
    return tuple(value)


def _pairs(value: list[Any]) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(pair) for pair in value)


def _ranges(value: list[Any]) -> tuple[IndexRange, ...]:
    return tuple(IndexRange(*item) for item in value)


def _execution(value: list[Any]) -> Execution:
    known = len(Execution._fields)
    if len(value) > known:
        raise NewerEvent(f"a way to run tasks has {len(value)} fields, this version knows {known}")
    return execution_of(value)


def _scheduling(value: list[Any]) -> Scheduling:
    known = len(Scheduling._fields)
    if len(value) > known:
        raise NewerEvent(f"a job's scheduling has {len(value)} fields, this version knows {known}")
    return scheduling_of(value)


# Where lists stand in the items (the code is item 0) and what they become.
_NESTED: Final[dict[int, tuple[tuple[int, Callable[[list[Any]], Any]], ...]]] = {
    CODE_OF_EVENT[kind]: tuple((_fields(kind).index(name) + 1, build) for name, build in fields)
    for kind, fields in {
        EnvironmentStored: (
            ("exported", _pairs),
            ("set", _pairs),
            ("secret_names", _scalars),
        ),
        JobSubmitted: (
            ("command", _scalars),
            ("named", _pairs),
            ("array", _ranges),
            ("execution", _execution),
            ("scheduling", _scheduling),
        ),
        CancelRequested: (("indexes", _ranges),),
        DependencyFailed: (("indexes", _ranges),),
        PolicySet: (("user_limits", _pairs),),
        WorkerRegistered: (("named", _pairs), ("labels", _pairs)),
        WorkerHeartbeats: (("workers", _scalars),),
        JobsForgotten: (("job_ids", _scalars),),
    }.items()
}

_make_tuple: Final[Callable[[type[Any], list[Any]], Any]] = tuple.__new__

# By code: the class and how many items a whole one has, with its code.
_PLAIN_SHAPES: Final = {
    code: (kind, len(_fields(kind)) + 1)
    for code, kind in EVENT_OF_CODE.items()
    if code not in _NESTED
}
_NO_SHAPE: Final = (ClusterCreated, -1)

# By code: the class, how many items a whole one has with its code, and where its lists stand.
_SHAPES: Final = {
    code: (kind, len(_fields(kind)) + 1, _NESTED.get(code, ()))
    for code, kind in EVENT_OF_CODE.items()
}
