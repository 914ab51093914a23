"""The nouns of Titan: states, their legal transitions, resources, keys.

Pure data. Knows no clock, no file and no wire. The numbers of the enums stand in
the log and on the wire, where the generated enums have the same ones: a number's
meaning never changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

ARRAY_TASKS_MAX: Final = 10_000_000
# An index fits in 31 bits, which keeps what is remembered of an ended task small.
INDEX_MAX: Final = (1 << 31) - 1
CPUS_MILLI_MAX: Final = 1_000_000_000
MEMORY_BYTES_MAX: Final = 1 << 60
NAMED_RESOURCE_MAX: Final = 1 << 40
# Ten years; whoever means longer means no limit.
TIME_LIMIT_MS_MAX: Final = 10 * 365 * 86_400_000
# The year 9999.
TIME_US_MAX: Final = 253_402_300_799_000_000
RETRIES_MAX: Final = 1_000
# A program's start takes some of it; what asks for less could only fail.
MEMORY_LIMIT_BYTES_MIN: Final = 16 << 20
PIDS_MAX: Final = 1 << 22
# Those of getrlimit(2).
ULIMITS: Final = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
    "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip
UMASK_MAX: Final = 0o777
# A task that needs a day to end itself holds its resources for it.
GRACE_MS_MAX: Final = 86_400_000
# It goes with every batch of tasks that run it: data belongs into files.
SCRIPT_BYTES_MAX: Final = 1 << 20
# A task that is to run at most once goes on for so long without the manager, and not longer.
LEASE_US: Final = 20_000_000
# The numbers of Linux, real-time signals included.
SIGNAL_MAX: Final = 64
SIGTERM: Final = 15
# These have a place of their own in Resources and are not among the named ones.
OWN_RESOURCES: Final = ("cpus", "memory")


class State(IntEnum):
    """Where a job, a task or an attempt is.

    A task is never LOST or RECALLED: those are ends of an attempt which put its
    task back to PENDING. An attempt is never PENDING.
    """

    PENDING = 1
    SCHEDULED = 2
    RUNNING = 3
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6
    LOST = 7
    RECALLED = 8


class Reason(IntEnum):
    """Why an attempt, and with it its task, ended as it did."""

    NONE = 0
    EXIT = 1
    SIGNAL = 2
    LAUNCH_ERROR = 3
    WORKER_LOST = 4
    CANCELLED = 5
    TIMEOUT = 6
    OOM = 7
    """It used more memory than it asked for."""
    OUTPUT_LIMIT = 8
    """It wrote more than the worker keeps, where no part of that can be let go."""
    DEPENDENCY_FAILED = 9
    """What it waited for can't happen any more."""
    DEADLINE = 10
    """It could not end by its deadline."""
    PREEMPTED = 11
    """It was stopped for a higher priority, or put back by its user; its task waits again."""


class WorkerState(IntEnum):
    """What the manager makes of a worker's silence."""

    HEALTHY = 1
    UNHEALTHY = 2
    DISCONNECTED = 3
    # It took its leave; kept only as the name that old attempts refer to.
    DEREGISTERED = 4


TASK_ENDS: Final = (State.COMPLETED, State.FAILED, State.CANCELLED)

TASK_TRANSITIONS: Final[dict[State, tuple[State, ...]]] = {
    State.PENDING: (
        State.SCHEDULED,
        State.CANCELLED,
        # A worker that had been given up comes back with the attempt.
        State.RUNNING,
        State.COMPLETED,
        State.FAILED,
    ),
    # The start of a short task may be told together with its end.
    State.SCHEDULED: (State.RUNNING, State.PENDING, *TASK_ENDS),
    State.RUNNING: (State.PENDING, *TASK_ENDS),
    State.COMPLETED: (),
    State.FAILED: (),
    State.CANCELLED: (),
}

ATTEMPT_TRANSITIONS: Final[dict[State, tuple[State, ...]]] = {
    State.SCHEDULED: (State.RUNNING, State.RECALLED, State.LOST, *TASK_ENDS),
    State.RUNNING: (State.LOST, *TASK_ENDS),
    # Its worker had been given up and came back.
    State.LOST: (State.RUNNING, *TASK_ENDS),
    State.COMPLETED: (),
    State.FAILED: (),
    State.CANCELLED: (),
    State.RECALLED: (),
}

WORKER_TRANSITIONS: Final[dict[WorkerState, tuple[WorkerState, ...]]] = {
    WorkerState.HEALTHY: (
        WorkerState.UNHEALTHY,
        WorkerState.DISCONNECTED,
        WorkerState.DEREGISTERED,
    ),
    WorkerState.UNHEALTHY: (
        WorkerState.HEALTHY,
        WorkerState.DISCONNECTED,
        WorkerState.DEREGISTERED,
    ),
    WorkerState.DISCONNECTED: (WorkerState.HEALTHY, WorkerState.DEREGISTERED),
    WorkerState.DEREGISTERED: (WorkerState.HEALTHY,),
}


class Resources(NamedTuple):
    """What a task asks for, or what a worker has.

    Integers only: cpus in thousandths, memory in bytes, named countable ones as
    (name, count) sorted by name, without zero counts.
    """

    cpus_milli: int = 0
    memory_bytes: int = 0
    named: tuple[tuple[str, int], ...] = ()

    def fits_in(self, room: Resources) -> bool:
        """Whether all of it is there in `room`."""
        if self.cpus_milli > room.cpus_milli or self.memory_bytes > room.memory_bytes:
            return False
        if not self.named:
            return True
        have = dict(room.named)
        return all(count <= have.get(name, 0) for name, count in self.named)

    def plus(self, other: Resources) -> Resources:
        """The sum."""
        return self._combined(other, 1)

    def minus(self, other: Resources) -> Resources:
        """The difference; a part of it may be negative."""
        return self._combined(other, -1)

    def _combined(self, other: Resources, sign: int) -> Resources:
        named = self.named
        if other.named:
            counts = dict(named)
            for name, count in other.named:
                counts[name] = counts.get(name, 0) + sign * count
            named = named_resources(counts.items())
        return Resources(
            self.cpus_milli + sign * other.cpus_milli,
            self.memory_bytes + sign * other.memory_bytes,
            named,
        )


def named_resources(counts: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """The canonical form of named resources: sorted, no zeros."""
    return tuple(sorted((name, count) for name, count in counts if count))


class AttemptKey(NamedTuple):
    """Names one try at one task, for ever: the epoch is that of the job's submit."""

    epoch: int
    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    attempt: int


class StopMode(IntEnum):
    """What is wished of an attempt. Each may be wished again: that changes nothing."""

    CANCEL = 1
    """Not started: dropped. Running: SIGTERM, grace, SIGKILL. Ends CANCELLED."""
    RECALL = 2
    """Not started: dropped and RECALLED. Running: let be."""
    SUSPEND = 3
    """Not started: dropped and RECALLED. Running: stands still, and so does its time limit."""
    RESUME = 4
    """Suspended: goes on, with what was left of its time limit."""
    LIMIT = 5
    """From now on it has that time limit, counted from its start."""


class Stop(NamedTuple):
    """What a worker should do with an attempt: end it, mostly."""

    key: AttemptKey
    mode: StopMode
    grace_ms: int
    signal: int = SIGTERM
    """Of a cancel: what comes before the grace; SIGKILL comes after it."""
    time_limit_ms: int = 0
    """Of a LIMIT; 0: none."""


class HeldState(IntEnum):
    """What a task host does with an attempt that it answers for."""

    QUEUED = 1
    RUNNING = 2
    ENDED = 3
    """Over, and the report of it not acknowledged."""


class HeldAttempt(NamedTuple):
    """An attempt that a task host answers for."""

    key: AttemptKey
    state: HeldState
    start_us: int
    """0: not started."""


class Held(NamedTuple):
    """All that a task host answers for; true after that batch, with every report up to that."""

    attempts: tuple[HeldAttempt, ...]
    dispatch_seq: int
    report_seq: int


class ReportKind(IntEnum):
    """What a report of a task host tells."""

    STARTED = 1
    ENDED = 2
    """With a start when it ran: one that was not told before is told by it."""
    RECALLED = 3
    """Not started and never will be."""


class IndexRange(NamedTuple):
    """The indexes start, start+step, … below stop; as `range`."""

    start: int
    stop: int
    step: int = 1

    @property
    def indexes(self) -> range:
        """The same as a `range`."""
        return range(self.start, self.stop, self.step)


def index_ranges(indexes: Iterable[int]) -> tuple[IndexRange, ...]:
    """Rising indexes as ranges, those side by side in one."""
    ranges: list[IndexRange] = []
    for index in indexes:
        if ranges and ranges[-1].stop == index:
            ranges[-1] = IndexRange(ranges[-1].start, index + 1)
        else:
            ranges.append(IndexRange(index, index + 1))
    return tuple(ranges)


class ScriptSource(IntEnum):
    """Where the script is that a task runs, if it runs one."""

    NONE = 0
    """It runs a command."""
    SENT = 1
    """Its text came with the job, beside the environment; the first word is what it is called."""
    ON_WORKER = 2
    """The first word is its path below the worker's folder of scripts."""


class Sandbox(IntEnum):
    """What keeps a task from the rest of its machine."""

    NONE = 0
    BUBBLEWRAP = 1
    """bwrap(1): a /tmp, /dev and /proc of its own, all else read-only but its directory."""


class Execution(NamedTuple):
    """How a task is run, as the user asked: the worker's business alone.

    Of all of it a placement decision reads `run_as` and `sandbox` alone, see `isolation.py`.

    New fields go last and have a default, here, on the wire and in the log alike.
    """

    umask: int = -1
    """-1: that of the task host."""
    script_source: ScriptSource = ScriptSource.NONE
    interpreter: tuple[bytes, ...] = ()
    """Of a script: the words before its path. Empty: its #! line says."""
    stdin: bytes = b""
    """A file on the worker, from the task's directory; with %j, %i, %n and %a. Empty: /dev/null."""
    ulimits: tuple[tuple[str, int, int], ...] = ()
    """(name, soft, hard) as setrlimit(2) has them, sorted by name; -1: unlimited."""
    pids_max: int = 0
    """How many processes and threads it may have at once; 0: not limited."""
    cpu_limit: bool = False
    """Whether it may use no more cpu time than its cpus give."""
    pin: bool = False
    """Whether it runs on that many cpus of its own, which are whole ones then."""
    stdout: bytes = b""
    """A file on the worker, named as `stdin` is; appended to. Empty: one of the worker's own."""
    stderr: bytes = b""
    run_as: str = ""
    """The account of the worker's machine that it runs as; empty: that of the task host."""
    sandbox: Sandbox = Sandbox.NONE
    no_network: bool = False
    """Of a sandbox: whether it has no network but a loopback of its own."""
    trace_parent: str = ""
    """The trace that it belongs to, as in `trace_context.py`; empty: none."""
    trace_state: str = ""


PLAIN: Final = Execution()
"""Nothing was asked for."""


def execution_fields(execution: Execution) -> tuple[Any, ...]:
    """Plain values for `execution_of`: what was not asked for takes no room, now or ever."""
    if execution == PLAIN:
        return ()
    asked = [given != default for given, default in zip(execution, PLAIN, strict=True)]
    return tuple(execution[: len(asked) - asked[::-1].index(True)])


def execution_of(fields: Sequence[Any]) -> Execution:
    """From plain values, of which the last ones may be missing. Raises ValueError, TypeError."""
    if not fields:
        return PLAIN
    execution = Execution(*fields)
    return execution._replace(
        script_source=ScriptSource(execution.script_source),
        interpreter=tuple(execution.interpreter),
        ulimits=tuple((name, soft, hard) for name, soft, hard in execution.ulimits),
        sandbox=Sandbox(execution.sandbox),
    )


def task_name(job_id: int, index: int, is_array: bool) -> str:
    """How users write a task: `42.7`, and `42` for the one task of a plain job."""
    return f"{job_id}.{index}" if is_array else str(job_id)
