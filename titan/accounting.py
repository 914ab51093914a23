"""The nouns of the history: what is asked of it, and what becomes of the sums that it answers with.

Pure. Whoever reads the tables and whoever asks through the manager make the same rows of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

Row = dict[str, Any]

GROUPS: Final = ("user", "day", "worker")
TITAN: Final = "titan"
MINI_SLURM: Final = "mini-slurm"
SWF: Final = "swf"
# Who ran a job: Titan itself, or what it was imported from.
SOURCES: Final = (TITAN, MINI_SLURM, SWF)
# How attempts end; in a timeline they may also run.
ENDS: Final = ("COMPLETED", "FAILED", "CANCELLED", "LOST", "RECALLED", "UNKNOWN")
RUNNING: Final = "RUNNING"
# What an attempt that never started is; listed only where it is asked for.
NEVER_STARTED: Final = "RECALLED"
# Zones of time differ by whole quarters of an hour: sums over these add up to days in any of them.
QUARTER_SECONDS: Final = 900
# Of the tasks that started, in `Usage.waits`.
SHARES: Final = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which attempts: those that ended from `since` to before `until`, in Unix seconds.

    None and () choose all; without states all but RECALLED ones. What was cancelled while it waited
    ran on no worker.
    """

    since: float | None = None
    until: float | None = None
    user: str | None = None
    name: str | None = None
    worker: str | None = None
    states: tuple[str, ...] = ()
    job_id: int | None = None
    source: str | None = None
    """One of SOURCES."""


class HistoryRows(NamedTuple):
    """An answer of the history."""

    rows: list[Row]
    more: bool
    """There are more than were asked for at most."""
    lsn: int
    """The tables had everything up to that record of the log."""
    time: float
    """Unix seconds: of that record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """From `since` to `until` in Unix seconds; each series has a number for each slot of it."""

    since: float
    until: float
    waits: tuple[float | None, ...]
    """Seconds from submit to first start of tasks that started then: SHARES of them took less."""
    ended: tuple[int, ...]
    """Attempts."""
    failed: tuple[int, ...]
    busy_cpus: tuple[float, ...]
    """Asked for by what ran, on average."""
    cpus: tuple[float, ...]
    """Offered, on average."""
    waiting: tuple[float, ...]
    """Tasks that could start and had not yet, on average, without those that never did; those that
    wait for another attempt now count from the submit until it starts."""

    @property
    def utilisation(self) -> float | None:
        """The share of the offered cpus that were in use; None: none were offered."""
        offered = sum(self.cpus)
        return sum(self.busy_cpus) / offered if offered else None


def attempt_view(columns: Mapping[str, Any]) -> Row:
    """An attempt as `titan history --json` has it, from its columns under the names there.

    Or tasks that were cancelled together while they waited, which have no attempt.
    """
    found = dict(columns)
    if found["attempt"] is None:
        return found | {"cpu_efficiency": None, "memory_efficiency": None}
    used = found["cpu_user_seconds"] + found["cpu_system_seconds"]
    ran = found["run_seconds"] or 0
    is_own, peak = found["job_id"] > 0, found["max_rss_bytes"]
    found["cpu_efficiency"] = _share(used, ran * found["cpus"]) if is_own or used else None
    found["memory_efficiency"] = _share(peak, found["memory_bytes"]) if is_own or peak else None
    return found


def total_views(sums: Iterable[Row], by: str) -> list[Row]:
    """Totals as --json has them; most cpu time first, days in order.

    Each of the sums has its `key`: a user, a worker or, by day, a quarter of an hour since the Unix
    epoch. Days are those of this process's time zone.
    """
    rows = [_total(row, by) for row in (_by_day(sums) if by == "day" else sums)]
    if by != "day":
        rows.sort(key=lambda row: (-row["cpu_hours"], row[by]))
    return rows


def usage_view(usage: Usage) -> Row:
    """As --json has it."""
    p50, p95, p99 = usage.waits
    return {
        "since_time": usage.since,
        "until_time": usage.until,
        "wait_p50_seconds": p50,
        "wait_p95_seconds": p95,
        "wait_p99_seconds": p99,
        "ended": sum(usage.ended),
        "failed": sum(usage.failed),
        "ended_per_second": sum(usage.ended) / (usage.until - usage.since),
        "utilisation": usage.utilisation,
        "series": {
            "seconds": (usage.until - usage.since) / len(usage.ended),
            "ended": list(usage.ended),
            "failed": list(usage.failed),
            "busy_cpus": list(usage.busy_cpus),
            "cpus": list(usage.cpus),
            "waiting_tasks": list(usage.waiting),
        },
    }


def _by_day(rows: Iterable[Row]) -> Sequence[Row]:
    days: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row["key"]):
        day = time.strftime("%Y-%m-%d", time.localtime(row["key"] * QUARTER_SECONDS))
        sums = days.setdefault(day, {"key": day})
        for name, value in row.items():
            if name != "key":
                sums[name] = sums.get(name, 0) + value
    return list(days.values())


def _total(row: Row, by: str) -> Row:
    return {
        by: row["key"],
        "attempts": row["attempts"],
        "completed": row["completed"],
        "failed": row["failed"],
        "run_hours": row["run_seconds"] / 3600,
        "cpu_hours": row["cpu_seconds"] / 3600,
        "used_cpu_hours": row["used_cpu_seconds"] / 3600,
        "cpu_efficiency": _share(row["used_cpu_seconds"], row["known_cpu_seconds"]),
        "memory_efficiency": _share(row["used_byte_seconds"], row["byte_seconds"]),
    }


def _share(used: float, asked: float) -> float | None:
    """Used ÷ requested; None: nothing was requested, or it never ran."""
    return used / asked if asked else None
