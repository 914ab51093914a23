"""What a manager tells Prometheus that stands by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from titan.manager.lead_metrics import build_family, disk_family, lead_families
from titan.manager.leadership import Leadership
from titan.manager.several.standby_view import StandbyView
from titan.metrics.calls import Calls
from titan.metrics.family import Family, gauge


class StandbyMetrics:
    """Of a manager that stands by."""

    def __init__(
        self, view: StandbyView, leadership: Leadership, calls: Calls, data_directory: Path
    ) -> None:
        self._view = view
        self._leadership = leadership
        self._directory = data_directory
        self.calls = calls

    def read(self) -> Iterator[Family]:
        """What is known in the loop."""
        yield build_family()
        yield from lead_families(self._leadership)
        yield gauge("titan_wal_last_lsn", "The last record of the log.", self._view.lsn)
        yield gauge(
            "titan_journal_lag_records",
            "How many records the log had, when it was looked at last, that this manager has not.",
            self._view.lag_records,
        )
        yield gauge(
            "titan_journal_lag_seconds",
            "How long ago this manager had all that the log had; it grows while that is away.",
            self._view.lag_seconds,
        )
        yield from self.calls.read()

    def look(self) -> Iterator[Family]:
        """What the disk knows; called in a thread."""
        yield disk_family(self._directory)
