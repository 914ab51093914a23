"""A job and its tasks: what waits as ranges, what is under way as objects, what ended packed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from titan.events import JobSubmitted
from titan.model import PLAIN, TASK_ENDS, Execution, IndexRange, Reason, Resources, State
from titan.scheduling import PLAIN_SCHEDULING, Scheduling
from titan.state.attempts import Attempt, AttemptLog
from titan.state.index_set import IndexSet
from titan.state.job_class import JobClass
from titan.state.waits import Waits

# A plain job has one task: what waits of it, and how many there are in which state, is one of
# these, shared by all of them. They are never changed.
ONE_WAITS: Final = IndexSet((range(1),))
NONE_WAITS: Final = IndexSet()
PLAIN_COUNTS: Final = tuple(
    tuple(int(state == position) for position in range(6)) for state in range(6)
)
# A member of an enum takes long to look up.
_PLAIN_WAITS: Final = PLAIN_COUNTS[0]
_PENDING: Final = State.PENDING
# Of a job none of whose tasks was ever under way.
NO_ATTEMPTS: Final[dict[int, Attempt]] = {}


class Terms(NamedTuple):
    """On what terms a job's tasks run.

    Those of a session's jobs are mostly equal, and then one object.
    """

    cwd: bytes
    environment: bytes
    time_limit_ms: int
    grace_ms: int
    end_signal: int
    end_signal_before_ms: int
    execution: Execution = PLAIN


class Job:
    """What a user submitted, and how far it is. Changed by the state's apply alone.

    Each task is in exactly one place: `pending`, `waits.tasks` (PENDING too, but it waits for
    something else than a place), `active`, `cancelled` (while it waited) or ended by the last
    record that `ended` has of it.
    """

    __slots__ = (
        "active",
        "array",
        "attempts_made",
        "attempts_total",
        "cancel_requested",
        "cancelled",
        "changed_lsn",
        "counts",
        "cut_short",
        "end_us",
        "ended",
        "ended_us",
        "epoch",
        "job_class",
        "job_id",
        "known_state",
        "lowest_failed",
        "name",
        "packed_command",
        "pending",
        "scheduling",
        "start_us",
        "submit_lsn",
        "submit_us",
        "terms",
        "waits",
    )

    def __init__(
        self,
        event: JobSubmitted,
        epoch: int,
        submit_lsn: int,
        submit_us: int,
        job_class: JobClass,
        terms: Terms,
    ) -> None:
        self.job_id = event.job_id
        self.epoch = epoch
        self.name = event.name
        self.packed_command = pack_command(event.command)
        self.terms = terms
        self.array: tuple[IndexRange, ...] = event.array
        self.scheduling: Scheduling = event.scheduling
        self.job_class = job_class
        self.submit_lsn = submit_lsn
        self.submit_us = submit_us
        # The first start and the last end of its tasks; 0: none yet.
        self.start_us = 0
        self.end_us = 0
        # When the manager knew that all had ended; 0: not yet.
        self.ended_us = 0
        # Its tasks that wait for room, to be changed by the methods below only; and how many tasks
        # are in each state, in the order of the states.
        self.counts: Sequence[int]
        if event.array:
            self.pending = IndexSet(each.indexes for each in event.array)
            self.counts = [len(self.pending), 0, 0, 0, 0, 0]
        else:
            self.pending = ONE_WAITS
            self.counts = _PLAIN_WAITS
        # What keeps tasks from starting besides room; None: nothing, now or so far.
        self.waits: Waits | None = None
        # By index; to be added to by `add_active` only.
        self.active = NO_ATTEMPTS
        # Why tasks that never started ended, if it was not by a cancel: a reason, and the job
        # that they waited for.
        self.cut_short: tuple[Reason, int] | None = None
        self.cancelled: IndexSet | None = None
        self.ended: AttemptLog | None = None
        # Of tasks that do not end with their latest attempt so far: how many attempts were made.
        self.attempts_made: dict[int, int] | None = None
        self.attempts_total = 0
        self.cancel_requested = False
        # (index, attempt) of the failed task with the lowest index.
        self.lowest_failed: tuple[int, int] | None = None
        self.changed_lsn = submit_lsn
        # What `state` was after the last change: two look-ups of it cost more than keeping it.
        self.known_state = _PENDING

    @property
    def command(self) -> tuple[bytes, ...]:
        """The program and its arguments."""
        packed = self.packed_command
        return tuple(packed.split(b"\0")) if isinstance(packed, bytes) else packed

    @property
    def cwd(self) -> bytes:
        """Where its tasks run."""
        return self.terms.cwd

    @property
    def environment(self) -> bytes:
        """The digest of its environment."""
        return self.terms.environment

    @property
    def time_limit_ms(self) -> int:
        """How long each attempt may run; 0: as long as it likes."""
        return self.terms.time_limit_ms

    @property
    def grace_ms(self) -> int:
        """Between SIGTERM and SIGKILL where Titan stops a task by itself."""
        return self.terms.grace_ms

    @property
    def end_signal(self) -> int:
        """What is sent before the time limit; 0: nothing."""
        return self.terms.end_signal

    @property
    def end_signal_before_ms(self) -> int:
        """How long before."""
        return self.terms.end_signal_before_ms

    @property
    def execution(self) -> Execution:
        """How its tasks are run."""
        return self.terms.execution

    @property
    def user(self) -> str:
        """Who submitted it."""
        return self.job_class.user

    @property
    def priority(self) -> int:
        """Higher goes first."""
        return self.job_class.priority

    @property
    def demand(self) -> Resources:
        """What each of its tasks asks for."""
        return self.job_class.demand

    @property
    def on(self) -> str:
        """The one worker where its tasks may run, by name or id; empty: any."""
        return self.job_class.on

    @property
    def may_start(self) -> bool:
        """Whether one more of its pending tasks may start, as far as the job is concerned."""
        waits = self.waits
        if waits is not None and waits.blocked:
            return False
        limit = self.scheduling.array_limit
        return not limit or self.counts[1] + self.counts[2] < limit

    @property
    def is_held(self) -> bool:
        """Whether its tasks wait for a release."""
        return self.waits is not None and self.waits.held

    @property
    def is_suspended(self) -> bool:
        """Whether its tasks wait for a resume."""
        return self.waits is not None and self.waits.suspended

    @property
    def is_array(self) -> bool:
        """Whether its tasks have names of their own."""
        return bool(self.array)

    @property
    def tasks_total(self) -> int:
        """How many tasks it has."""
        return sum(self.counts)

    @property
    def has_ended(self) -> bool:
        """Whether every task ended."""
        pending, scheduled, running, *_ = self.counts
        return not (pending or scheduled or running)

    @property
    def state(self) -> State:
        """The job's state, derived from those of its tasks."""
        pending, scheduled, running, completed, failed, _ = self.counts
        if not (pending or scheduled or running):
            return derive_state(self.counts)
        if running or completed or failed:
            return State.RUNNING
        # What had started was cancelled, or went down with its worker.
        if self.start_us and self.tasks_total > 1:
            return State.RUNNING
        return State.SCHEDULED if scheduled else State.PENDING

    def find_task_state(self, index: int) -> State | None:
        """The state of one task, None when the job has no such task."""
        attempt = self.active.get(index)
        if attempt is not None:
            return attempt.state
        if self.is_pending(index):
            return State.PENDING
        if self.cancelled is not None and index in self.cancelled:
            return State.CANCELLED
        records = self.ended.of_index(index) if self.ended else []
        return task_end(records[-1].state) if records else None

    def task_ends(self) -> dict[int, State]:
        """How each task ended that has. Costs a walk over all attempts that ended."""
        ends: dict[int, State] = {}
        for record in self.ended or ():
            if record.index not in self.active and not self.is_pending(record.index):
                ends[record.index] = task_end(record.state)
        for index in self.cancelled or ():
            ends[index] = State.CANCELLED
        return ends

    def is_pending(self, index: int) -> bool:
        """Whether the task waits, for whatever."""
        waits = self.waits
        return index in self.pending or (waits is not None and index in waits.tasks)

    def next_waiting(self, start: int) -> int | None:
        """The lowest index from that one on of a task that waits, for whatever."""
        found = [self.pending.find_from(start)]
        if self.waits is not None:
            found.append(self.waits.tasks.find_from(start))
        return min((index for index in found if index is not None), default=None)

    def remove_pending(self, index: int) -> None:
        """Takes out a task that waits. Raises KeyError."""
        waits = self.waits
        if waits is not None and index in waits.tasks:
            waits.remove(index)
        else:
            self.take_pending(index)

    def take_pending(self, index: int) -> None:
        """Takes out a task that waits for room. Raises KeyError."""
        if self.pending is ONE_WAITS:
            if index:
                raise KeyError(index)
            self.pending = NONE_WAITS
        elif self.pending is NONE_WAITS:
            raise KeyError(index)
        else:
            self.pending.remove(index)

    def take_pending_in(self, spans: Sequence[IndexRange]) -> list[range]:
        """Takes out and returns those in the spans, as `IndexSet.take` does."""
        if self.pending is ONE_WAITS:
            self.pending = IndexSet(self.pending.ranges)
        return self.pending.take(spans) if self.pending is not NONE_WAITS else []

    def put_pending(self, index: int) -> None:
        """A task waits for room that did not."""
        if self.pending is NONE_WAITS:
            self.pending = ONE_WAITS if not index else IndexSet((range(index, index + 1),))
        else:
            self.pending.add(index)

    def add_active(self, attempt: Attempt) -> None:
        """An attempt is under way."""
        if self.active is NO_ATTEMPTS:
            self.active = {}
        self.active[attempt.index] = attempt

    def waits_made(self) -> Waits:
        """What keeps its tasks from starting; made at the first thing that does."""
        if self.waits is None:
            self.waits = Waits()
        return self.waits

    def next_attempt(self, index: int) -> int:
        """The number that the next attempt at a pending task gets."""
        made = self.attempts_made
        return 1 if made is None else made.get(index, 0) + 1

    def note_attempts(self, index: int, made: int) -> None:
        """Remembers how many attempts were made at a task that goes on."""
        if self.attempts_made is None:
            self.attempts_made = {}
        self.attempts_made[index] = max(made, self.attempts_made.get(index, 0))

    def forget_attempts(self, index: int) -> None:
        """The count is told by the attempt under way, or needed no more."""
        if self.attempts_made is not None:
            self.attempts_made.pop(index, None)
            self.attempts_made = self.attempts_made or None

    def forget_task(self, index: int) -> None:
        """A task ended: what was counted of its earlier attempts is needed no more."""
        if self.attempts_made is not None:
            self.forget_attempts(index)
        if self.waits is not None:
            self.waits.forget(index)


def pack_command(words: tuple[bytes, ...]) -> bytes | tuple[bytes, ...]:
    """The words in one object, which takes a quarter of the memory.

    No word of a program to be run holds a zero byte: see `check_command`. A log that has one all
    the same is read as it is.
    """
    packed = b"\0".join(words)
    return packed if words and packed.count(b"\0") == len(words) - 1 else words


def derive_state(counts: Sequence[int]) -> State:
    """The state of a job all of whose tasks ended so."""
    _, _, _, _, failed, cancelled = counts
    return State.FAILED if failed else State.CANCELLED if cancelled else State.COMPLETED


def weigh(tasks: int) -> int:
    """What an ended job of so many tasks takes of the memory for them, in plain jobs.

    A plain job takes some 360 bytes, an ended task of an array 59.
    """
    return max(1, -(-tasks // 8))


def weigh_live(job: Job) -> int:
    """What one that has not ended takes of the memory, in plain jobs, besides what runs of it.

    A plain job takes some 850 bytes, of which its command and its directory are a part.
    """
    command = job.packed_command
    size_bytes = len(command) if isinstance(command, bytes) else sum(map(len, command))
    tasks = weigh(job.tasks_total) if job.array else 1
    size_bytes += len(job.terms.cwd)
    return (size_bytes >> 10) + tasks + weigh_named(job.scheduling)


def weigh_named(scheduling: Scheduling) -> int:
    """The part of that which a job has for the jobs and the labels that it names.

    Each takes some 200 bytes, a job that it waits for another 480 if nobody waited for that before.
    """
    if scheduling is PLAIN_SCHEDULING:
        return 0
    labels = sum(len(each.values) for each in scheduling.constraints)
    return (len(scheduling.after) + len(scheduling.affinities) + labels) // 5


def task_end(state: int) -> State:
    """How a task ended whose last attempt ended so: a cancelled one may have lost its worker."""
    return State(state) if state in TASK_ENDS else State.CANCELLED
