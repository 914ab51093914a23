"""What the task host writes down in `host.journal`, and what a new host reads out of it.

Pure: `host_journal.py` has the file. The records of an attempt that runs come in this
order: intent, process, end; then, for all ends up to a number, acknowledged. Those of a
program that a client started begin with what it is, and its end has no number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from titan.model import AttemptKey
from titan.worker.messages import Report


class ClusterRecord(NamedTuple):
    """The attempts from here on are that cluster's."""

    cluster_id: bytes


class IntentRecord(NamedTuple):
    """It is about to be spawned: from here on there may be a process."""

    key: AttemptKey


class ProcessRecord(NamedTuple):
    """It was spawned as this process, which also leads a session and a group of that number."""

    key: AttemptKey
    pid: int
    start_ticks: int
    """When the process started: clock ticks since boot, as in /proc/PID/stat."""


class EndRecord(NamedTuple):
    """It is over, as this report says."""

    report: Report


class ForgottenRecord(NamedTuple):
    """It is over, and nothing is to be reported: it was stopped to be handed back."""

    key: AttemptKey


class AcknowledgedRecord(NamedTuple):
    """The manager has every report up to this one."""

    report_seq: int


class DirectRecord(NamedTuple):
    """A client started it on this worker by itself."""

    key: AttemptKey
    command: tuple[bytes, ...]
    cwd: bytes

    @property
    def size_bytes(self) -> int:
        """Of what is kept of it."""
        return sum(map(len, self.command)) + len(self.cwd)


Record: TypeAlias = (
    ClusterRecord
    | IntentRecord
    | ProcessRecord
    | EndRecord
    | ForgottenRecord
    | AcknowledgedRecord
    | DirectRecord
)


class Unfinished(NamedTuple):
    """An attempt of a dead host that may still run."""

    key: AttemptKey
    intent: int
    """Which record, from 0, was its intent."""
    process: ProcessRecord | None
    """None: the host died before it knew; there may be a process all the same."""


class DirectRun(NamedTuple):
    """A program that a client started, and how it ended."""

    record: DirectRecord
    end: Report | None
    """None: it may still run, and is unfinished."""


class Recovered(NamedTuple):
    """What the journal of a dead host tells."""

    cluster_id: bytes
    ends: tuple[Report, ...]
    """Unacknowledged, in order, with the numbers of the dead instance."""
    unfinished: tuple[Unfinished, ...]
    direct: tuple[DirectRun, ...] = ()
    """In the order of their ends; those that may still run last."""
    starts: int = 0
    """How many hosts were started in the directory until then."""


def recover(records: Iterable[Record]) -> Recovered:
    """Read a journal. O(records)."""
    cluster_id = b""
    ends: deque[Report] = deque()
    unfinished: dict[AttemptKey, Unfinished] = {}
    direct: dict[AttemptKey, DirectRecord] = {}
    over: list[DirectRun] = []
    for number, record in enumerate(records):
        match record:
            case ClusterRecord():
                cluster_id = record.cluster_id
            case IntentRecord():
                unfinished[record.key] = Unfinished(record.key, number, None)
            case ProcessRecord():
                unfinished[record.key] = unfinished[record.key]._replace(process=record)
            case DirectRecord():
                direct[record.key] = record
            case EndRecord():
                unfinished.pop(record.report.key, None)
                run = direct.pop(record.report.key, None)
                if run is None:
                    ends.append(record.report)
                else:
                    over.append(DirectRun(run, record.report))
            case ForgottenRecord():
                unfinished.pop(record.key, None)
            case AcknowledgedRecord():
                while ends and ends[0].seq <= record.report_seq:
                    ends.popleft()
    over += [DirectRun(run, None) for run in direct.values()]
    return Recovered(cluster_id, tuple(ends), tuple(unfinished.values()), tuple(over))
