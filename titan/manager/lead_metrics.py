"""What a manager tells Prometheus of who leads, and all that one tells that stands by."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

from titan import __version__
from titan.manager.leadership import Leadership
from titan.manager.standby_view import StandbyView
from titan.metrics.calls import Calls
from titan.metrics.family import Family, Kind, gauge


def build_family() -> Family:
    """Which version it is."""
    return Family(
        "titan_build_info", Kind.GAUGE, "1, and the version of Titan that runs.",
        ("version",), (((__version__,), 1),),
    )  # fmt: skip


def lead_families(leadership: Leadership) -> Iterator[Family]:
    """Whether this manager leads; of a lease only where it holds one."""
    leads = leadership.leads()
    yield gauge("titan_leader", "1 while this manager leads; 0: it stands by.", leads)
    yield gauge(
        "titan_term", "The term of the lease of whoever leads; 0: there is none.", leadership.term
    )
    if leads and math.isfinite(leadership.seconds_left):
        yield gauge(
            "titan_lease_seconds_left",
            "How long this manager may lead if its lease is not renewed any more.",
            max(leadership.seconds_left, 0.0),
        )


def disk_family(directory: Path) -> Family:
    """To be asked in a thread."""
    return gauge(
        "titan_disk_free_bytes",
        "What is free where the manager's data directory lies.",
        shutil.disk_usage(directory).free,
    )


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
