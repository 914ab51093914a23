"""The reports that the manager has not acknowledged, and the batch of them that is on its way.

Pure. A batch that gets no answer is sent again exactly as it was: the manager may have it
already. Numbers up to `acknowledged_seq` are acknowledged, the batch covers those from there
to its last, and the rest gathers behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

from titan.worker.messages import Report, merged

# A batch is acknowledged as a whole: larger ones gain little and delay the first end in them.
BATCH_REPORTS_MAX: Final = 1_000
BATCH_BYTES_MAX: Final = 1 << 20
# A report is some 80 bytes on the wire, besides its sentence.
_REPORT_BYTES: Final = 100


class Batch(NamedTuple):
    """Reports that go together; it stands for all numbers from first to last."""

    first_seq: int
    last_seq: int
    reports: tuple[Report, ...]
    """In order; without starts whose ends are here too."""


class ReportQueue:
    """Unacknowledged reports in order."""

    def __init__(self, reports: Iterable[Report] = (), acknowledged_seq: int = 0) -> None:
        """`acknowledged_seq` is the number before that of the first report."""
        self.acknowledged_seq = acknowledged_seq
        self._batch: Batch | None = None
        self._behind = deque(reports)

    def __len__(self) -> int:
        return len(self._behind) + (len(self._batch.reports) if self._batch else 0)

    @property
    def is_empty(self) -> bool:
        """Whether all is acknowledged."""
        return self._batch is None and not self._behind

    def add(self, report: Report) -> None:
        """The next one."""
        self._behind.append(report)

    def batch(self) -> Batch | None:
        """What is to be sent: the same until something of it is acknowledged."""
        if self._batch is None and self._behind:
            self._batch = self._take()
        return self._batch

    def acknowledge(self, report_seq: int) -> list[Report] | None:
        """The reports of the batch up to this number, which are done with.

        None, and nothing is changed, when the manager took nothing of the batch.
        """
        if self._batch is None:
            return None
        report_seq = min(report_seq, self._batch.last_seq)
        if report_seq <= self.acknowledged_seq:
            return None
        reports, self._batch = self._batch.reports, None
        self.acknowledged_seq = report_seq
        taken = [report for report in reports if report.seq <= report_seq]
        self._behind.extendleft(reversed(reports[len(taken) :]))
        return taken

    def _take(self) -> Batch:
        size_bytes = count = 0
        for report in islice(self._behind, BATCH_REPORTS_MAX):
            size_bytes += _REPORT_BYTES + len(report.detail)
            if size_bytes > BATCH_BYTES_MAX and count:
                break
            count += 1
        taken = [self._behind.popleft() for _ in range(count)]
        return Batch(self.acknowledged_seq + 1, taken[-1].seq, merged(taken))
