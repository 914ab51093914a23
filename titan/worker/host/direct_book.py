"""Programs that a client started on this worker by itself: the manager never hears of them.

Pure. Their keys have the epoch 0 and ids that count down from -1, one for each program, so that
nothing of theirs is ever taken for a manager's attempt: neither output nor environment. What
they were and how they ended is kept for whoever asks, of the last ones that ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from titan.model import AttemptKey, Reason, ReportKind, State
from titan.worker.host.records import DirectRecord, DirectRun, EndRecord, Record
from titan.worker.messages import Launch, Report

EPOCH: Final = 0
# Nothing else holds a client back that starts one after the other.
LIVE_MAX: Final = 1_000
TOO_MANY: Final = f"no more than {LIVE_MAX} programs run at once that clients started"
# That have ended.
KEPT_MAX: Final = 1_000
# Of all commands together: one has at most a mebibyte, most have less than a hundred bytes.
KEPT_BYTES_MAX: Final = 16 << 20
LOST_DETAIL: Final = "its task host was killed; it was stopped"


def is_direct(key: AttemptKey) -> bool:
    """Whether the manager has nothing to do with it: its jobs count up from 1."""
    return key.job_id < 0


class DirectBook:
    """The programs of one worker. All is O(1) for a program."""

    def __init__(self, runs: Iterable[DirectRun] = ()) -> None:
        """Begins with those of the host before this one: what ran then is over."""
        self._records: dict[AttemptKey, DirectRecord] = {}
        # In the order of their ends.
        self._ends: dict[AttemptKey, Report] = {}
        self._kept_bytes = 0
        self._last_id = 0
        for record, end in runs:
            self._records[record.key] = record
            self._last_id = min(self._last_id, record.key.job_id)
            self.end(end or _lost(record.key))

    @property
    def live_count(self) -> int:
        """How many have not ended."""
        return len(self._records) - len(self._ends)

    def add(self, launch: Launch) -> tuple[AttemptKey, Launch]:
        """A new one: its key, and how it is launched under that."""
        self._last_id -= 1
        key = AttemptKey(EPOCH, self._last_id, 0, 1)
        self._records[key] = DirectRecord(key, launch.command, launch.cwd)
        # A class of its own: it waits for nobody, and nobody for it.
        number = key.job_id
        return key, launch._replace(epoch=EPOCH, job_id=number, class_id=number, array_count=0)

    def end(self, report: Report) -> Report:
        """It ended so. Returns the report as it is kept: it is none of those that are numbered."""
        report = report._replace(seq=0)
        self._ends[report.key] = report
        self._kept_bytes += self._records[report.key].size_bytes
        while len(self._ends) > KEPT_MAX or self._kept_bytes > KEPT_BYTES_MAX:
            self._forget_oldest()
        return report

    def find(self, key: AttemptKey) -> DirectRecord | None:
        """What was started under that key, None when it was not, or is forgotten."""
        return self._records.get(key)

    def find_end(self, key: AttemptKey) -> Report | None:
        """How it ended, None when it has not."""
        return self._ends.get(key)

    def keys(self) -> Sequence[AttemptKey]:
        """Of all that are known."""
        return list(self._records)

    def live(self) -> Sequence[AttemptKey]:
        """Of those that have not ended."""
        return [key for key in self._records if key not in self._ends]

    def records(self) -> Iterator[Record]:
        """What a fresh journal must hold of them, in the order of their ends."""
        for key, report in self._ends.items():
            yield self._records[key]
            yield EndRecord(report)
        for key in self.live():
            yield self._records[key]

    def _forget_oldest(self) -> None:
        key = next(iter(self._ends))
        del self._ends[key]
        self._kept_bytes -= self._records.pop(key).size_bytes


def _lost(key: AttemptKey) -> Report:
    return Report(0, ReportKind.ENDED, key, State.LOST, Reason.WORKER_LOST, detail=LOST_DETAIL)
