"""What the agent's core wants done: calls to the manager, messages to the host, the rest.

Pure. `core.py` says when; `agent.py` does it, and so does the simulation.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from titan.model import Held, Stop
from titan.worker.messages import Report, StartBatch


class Level(IntEnum):
    """Of log lines; the numbers of the standard library's logging."""

    INFO = 20
    WARNING = 30
    ERROR = 40


class Register(NamedTuple):
    """Call RegisterWorker; `registered` or `failed`."""

    call: int
    delay_us: int
    worker_id: bytes
    instance: bytes
    host_starts: int
    """Of two instances the one with more is the later one; 0: not known."""
    cluster_id: bytes
    """Empty: nothing of any cluster is held."""
    held: Held
    acknowledged_seq: int
    """Reports up to it were acknowledged, by whichever manager."""
    is_stopping: bool
    """The agent leaves once nothing is held: it wants no new tasks."""
    fault: str
    """What keeps this worker from taking tasks; empty: nothing."""
    passes_on: bool = False
    """The manager that answered last does not count: another of them is to be called."""


class SendReports(NamedTuple):
    """Call ReportTaskStatus; `reports_taken` or `failed`."""

    call: int
    delay_us: int
    session: bytes
    first_seq: int
    last_seq: int
    reports: tuple[Report, ...]


class SendHeartbeat(NamedTuple):
    """Call Heartbeat; `heartbeat_taken` or `failed`."""

    call: int
    session: bytes
    held: Held
    is_stopping: bool
    fault: str
    """Both as in Register."""
    wait_ms: int = 0
    """So long the manager may wait with its answer for something to tell."""


class Deregister(NamedTuple):
    """Call DeregisterWorker; `deregistered` or `failed`."""

    call: int
    session: bytes
    dispatch_seq: int
    """The last batch that was taken."""


class PassCluster(NamedTuple):
    """Tell the host which cluster attempts come from."""

    cluster_id: bytes


class PassStart(NamedTuple):
    """Give the host attempts to run."""

    batch: StartBatch


class PassStop(NamedTuple):
    """Give the host attempts to stop."""

    stops: tuple[Stop, ...]


class PassAcknowledged(NamedTuple):
    """Tell the host that the manager has the reports up to this one."""

    report_seq: int


class PassLease(NamedTuple):
    """Tell the host until when, on CLOCK_BOOTTIME, what is to run at most once may run."""

    until_us: int


class PassLeave(NamedTuple):
    """Tell the host to stop all and end."""

    grace_ms: int


class KeepIdentity(NamedTuple):
    """Store the id durably before the next call is made."""

    worker_id: bytes


class BeatEvery(NamedTuple):
    """From now on call `heartbeat_due` at this interval."""

    interval_ms: int


class Say(NamedTuple):
    """Write a log line."""

    level: Level
    message: str


class Quit(NamedTuple):
    """All is handed back: the agent ends."""


Action: TypeAlias = (
    Register
    | SendReports
    | SendHeartbeat
    | Deregister
    | PassCluster
    | PassStart
    | PassStop
    | PassAcknowledged
    | PassLease
    | PassLeave
    | KeepIdentity
    | BeatEvery
    | Say
    | Quit
)
