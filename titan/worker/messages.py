"""What agent, host and the pure parts speak about: plain tuples, no I/O, no wire format.

The words are those of the wire API; `agent/translate.py` translates between its generated
messages and these, `protocol.py` carries these over the socket between agent and host.
The numbers of the enums are those of the wire and stand in `host.journal` too: a
number's meaning never changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from titan.model import (
    PLAIN,
    AttemptKey,
    Execution,
    HeldState,
    Reason,
    ReportKind,
    Sandbox,
    State,
    Stop,
)

Variables: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Environment variables as (name, value), the last of a name wins."""


DeviceIds: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""The ids of devices by the named resource that they are of."""

OfferedDevices: TypeAlias = tuple[tuple[str, tuple[str, ...] | None], ...] | None
"""The same of all that a worker has, in the order in which tasks get them; None of a resource:
it is only counted. None of all: nothing is known of devices."""


class Environment(NamedTuple):
    """What the submitter's environment gives to a task."""

    exported: Variables
    chosen: Variables
    """Asked for by name; wins over everything but TITAN_*."""
    script: bytes = b""
    """The text that tasks with ScriptSource.SENT run."""
    secrets: Variables = ()
    """As `chosen`, but nothing of it is kept for longer than the task, or written down."""
    secrets_fault: str = ""
    """Why there are no values: the tasks end with LAUNCH_ERROR and this sentence."""

    @property
    def has_secrets(self) -> bool:
        """Whether it is for tasks that were promised some."""
        return bool(self.secrets or self.secrets_fault)


class Launch(NamedTuple):
    """What the tasks of one job share."""

    epoch: int
    job_id: int
    job_name: str
    command: tuple[bytes, ...]
    cwd: bytes
    environment: int
    """Which of the batch's environments."""
    cpus_milli: int
    memory_bytes: int
    class_id: int
    """Tasks of one class may take each other's place."""
    array_count: int
    """0: not an array."""
    time_limit_ms: int = 0
    """From the start of each attempt: then SIGTERM, and after the grace SIGKILL. 0: none."""
    grace_ms: int = 0
    end_signal: int = 0
    """Sent that long before the limit, once. 0: none."""
    end_signal_before_ms: int = 0
    execution: Execution = PLAIN
    named: tuple[tuple[str, int], ...] = ()
    """What it asks for of named resources, sorted by name."""
    at_most_once: bool = False
    """They run only under the host's lease."""
    user: str = ""
    """Who submitted them; empty: nobody whose name is proven."""
    traced: bool = False
    """Whether each attempt has a span of its own in the trace of `execution`."""

    @property
    def is_isolated(self) -> bool:
        """Whether they run as another account than the host, or in a sandbox."""
        return bool(self.execution.run_as) or self.execution.sandbox is not Sandbox.NONE


class Start(NamedTuple):
    """One task to run."""

    launch: int
    """Which of the batch's launches."""
    task_index: int
    attempt: int


class StartBatch(NamedTuple):
    """Tasks to run, oldest first, and how many of each class may run at once."""

    environments: tuple[Environment, ...]
    launches: tuple[Launch, ...]
    starts: tuple[Start, ...]
    slots: tuple[tuple[int, int], ...]
    """(class id, slots) for each class in the batch."""


class Fetched(NamedTuple):
    """What the answer to a heartbeat brings."""

    cannot_call: str = ""
    """Why the manager cannot call this worker, empty when it can."""
    waited: bool = False
    """The next heartbeat may go at once: the manager waits with its answer."""
    dispatch_seq: int = 0
    """Of the batch, 0 when there is none; it starts or stops, never both."""
    start: StartBatch | None = None
    stops: tuple[Stop, ...] = ()


class Report(NamedTuple):
    """What happened to an attempt, numbered by the host instance from 1 without gaps.

    Times are wall-clock microseconds, 0 where there is none.
    """

    seq: int
    kind: ReportKind
    key: AttemptKey
    state: State | None = None
    """Of an ENDED: COMPLETED, FAILED or CANCELLED."""
    reason: Reason = Reason.NONE
    exit_code: int | None = None
    signal: int | None = None
    start_us: int = 0
    end_us: int = 0
    cpu_user_us: int = 0
    cpu_system_us: int = 0
    max_rss_bytes: int = 0
    detail: str = ""
    """A sentence for people."""


def merged(reports: Iterable[Report]) -> tuple[Report, ...]:
    """Without starts whose ends are here too: an end says when its attempt began."""
    reports = tuple(reports)
    over = {report.key for report in reports if report.kind != ReportKind.STARTED}
    return tuple(
        report for report in reports if report.kind != ReportKind.STARTED or report.key not in over
    )


class Exit(NamedTuple):
    """How a process ended and what it used, with its children it waited for."""

    exit_code: int | None
    signal: int | None
    cpu_user_us: int = 0
    cpu_system_us: int = 0
    max_rss_bytes: int = 0
    oom: str = ""
    """A sentence when the kernel killed something of it for its memory limit."""
    note: str = ""
    """What may explain a failure."""
    not_run: str = ""
    """A sentence when something else ended, before it could become the task's program."""


class Description(NamedTuple):
    """An attempt that the host knows, for whoever wants to know what is here."""

    key: AttemptKey
    state: HeldState
    command: tuple[bytes, ...]
    """Empty of a manager's that has ended."""
    cwd: bytes
    pid: int = 0
    """Of its main process, which began at `start_ticks`; 0 when it does not run."""
    start_ticks: int = 0
    start_us: int = 0
    end: Report | None = None
    """How it ended."""

    @property
    def size_bytes(self) -> int:
        """About what it takes in a message."""
        return 200 + sum(map(len, self.command)) + len(self.cwd)
