"""What is asked of the tables: attempts, sums over them, and what stands out among them.

Answers are rows with the names that `titan … --json` has for the same things.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa

from titan.history.database import HistoryRefused, Unavailable, check_form, reason_of
from titan.history.imports import SOURCES as IMPORTED
from titan.history.rows import text
from titan.history.schema import ATTEMPTS, CANCELLED, IMPORTS, JOBS

Row = dict[str, Any]

GROUPS: Final = ("user", "day", "worker")
TITAN: Final = "titan"
SOURCES: Final = (TITAN, *IMPORTED)
# What an attempt that never started is; listed only where it is asked for.
NEVER_STARTED: Final = "RECALLED"
# Of 64 bits.
_NUMBER_MAX: Final = (1 << 63) - 1
CANCELLED_STATE: Final = "CANCELLED"
# Zones of time differ by whole quarters of an hour: sums over these add up to days in any of them.
_QUARTER_SECONDS: Final = 900


# What a row of an answer has, by its own names.
_OF_ATTEMPTS: Final = (
    *(each.name for each in ATTEMPTS.columns if each.name not in ("user_name", "task_index")),
    "user", "index", "cpu_efficiency", "memory_efficiency",
)  # fmt: skip


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


class Questions:
    """Asks one database. Raises HistoryRefused where it can't answer."""

    def __init__(self, engine: sa.Engine) -> None:
        """Of `database.open_for_reading`."""
        self._engine = engine

    def list_attempts(self, wanted: Wanted, limit: int, *, slowest: bool = False) -> list[Row]:
        """At most so many, the last ended first; or those that ran longest.

        Among the former is a row for tasks that were cancelled together while they waited: without
        an attempt and, of an array, without an index.
        """
        a = ATTEMPTS.c
        order = [a.run_seconds.desc()] if slowest else [_end(ATTEMPTS, wanted).desc()]
        query = (
            _of_jobs(ATTEMPTS)
            .where(*_conditions(wanted))
            .order_by(*order, a.job_id.desc(), a.task_index.desc(), a.attempt.desc())
            .limit(min(limit, _NUMBER_MAX))
        )
        if slowest:
            query = query.where(a.start_time.is_not(None))
        with self.asked() as connection:
            found = [_attempt(row) for row in connection.execute(query).mappings()]
            if slowest or not _may_have_waited(wanted):
                return found
            c = CANCELLED.c
            query = (
                _of_jobs(CANCELLED)
                .where(*_chosen(CANCELLED, wanted))
                .order_by(
                    _end(CANCELLED, wanted).desc(), c.job_id.desc(), c.lsn.desc(), c.place.desc()
                )
                .limit(min(limit, _NUMBER_MAX))
            )
            waited = [_cancelled(row) for row in connection.execute(query).mappings()]
        by_end = merge(
            found, waited, key=lambda row: (row["end_time"], row["job_id"]), reverse=True
        )
        return list(islice(by_end, min(limit, _NUMBER_MAX)))

    def most_failing(self, wanted: Wanted, limit: int) -> list[Row]:
        """The names under which most attempts FAILED, by user."""
        a = ATTEMPTS.c
        failed = _count(a.state == "FAILED")
        query = (
            sa.select(
                _unsorted(a.name).label("name"),
                _unsorted(a.user_name).label("user"),
                failed.label("failed"),
                sa.func.count().label("attempts"),
                sa.func.max(a.end_time).label("last_end_time"),
            )
            .where(*_conditions(wanted))
            .group_by(_unsorted(a.name), _unsorted(a.user_name))
            .having(failed > 0)
            .order_by(failed.desc(), sa.literal_column("1"), sa.literal_column("2"))
            .limit(min(limit, _NUMBER_MAX))
        )
        with self.asked() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def totals(self, wanted: Wanted, by: str) -> list[Row]:
        """Sums by user, local day (of the end) or worker; most cpu time first, days in order."""
        a = ATTEMPTS.c
        key: sa.ColumnElement[Any]
        if by == "day":
            key = round_down(a.end_time / _QUARTER_SECONDS, self._engine.dialect.name)
        else:
            key = _unsorted({"user": a.user_name, "worker": a.worker}[by])
        query = sa.select(key.label("key"), *_SUMS).where(*_conditions(wanted)).group_by(key)
        with self.asked() as connection:
            found = [dict(row) for row in connection.execute(query).mappings()]
        if by == "day":
            found = _by_day(found)
        rows = [_total(row, by) for row in found]
        if by != "day":
            rows.sort(key=lambda row: (-row["cpu_hours"], row[by]))
        return rows

    @contextmanager
    def asked(self) -> Iterator[sa.Connection]:
        """A connection to tables of this version, whose errors become sentences."""
        try:
            with self._engine.connect() as connection:
                check_form(connection)
                yield connection
        except Unavailable as error:
            raise HistoryRefused(f"the history does not answer: {reason_of(error)}") from error
        except sa.exc.SQLAlchemyError as error:
            raise HistoryRefused(f"the history cannot be read: {reason_of(error)}") from error


def _of_jobs(table: sa.Table) -> sa.Select[Any]:
    """Its rows, with what is to be told of their jobs."""
    t = table.c
    return (
        sa.select(
            table,
            JOBS.c.array.is_not(None).label("is_array"),
            sa.func.coalesce(IMPORTS.c.source, TITAN).label("source"),
            (IMPORTS.c.first_job_id - t.job_id).label("source_job"),
        )
        .join(JOBS, JOBS.c.job_id == t.job_id)
        .outerjoin(IMPORTS, sa.and_(t.job_id < 0, _is_of_import(table)))
    )


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    """Of attempts."""
    a = ATTEMPTS.c
    conditions = _chosen(ATTEMPTS, wanted)
    if wanted.worker is not None:
        conditions.append(a.worker == text(wanted.worker))
    states = wanted.states
    conditions.append(a.state.in_(states) if states else a.state != NEVER_STARTED)
    return conditions


def _may_have_waited(wanted: Wanted) -> bool:
    """Whether tasks that were cancelled while they waited are among what is wanted."""
    return wanted.worker is None and (not wanted.states or CANCELLED_STATE in wanted.states)


def _chosen(table: sa.Table, wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    """By what attempts and tasks that never became one have in common."""
    t = table.c
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.since is not None:
        conditions.append(t.end_time >= wanted.since)
    if wanted.until is not None:
        conditions.append(t.end_time < wanted.until)
    for column, value in ((t.user_name, wanted.user), (t.name, wanted.name)):
        if value is not None:
            conditions.append(column == text(value))
    if wanted.job_id is not None:
        # Whoever asks may write any number.
        is_one = -_NUMBER_MAX <= wanted.job_id <= _NUMBER_MAX
        conditions.append(t.job_id == wanted.job_id if is_one else sa.false())
    if wanted.source == TITAN:
        conditions.append(t.job_id > 0)
    elif wanted.source is not None:
        imported = sa.exists().where(IMPORTS.c.source == wanted.source, _is_of_import(table))
        # Those that list attempts have the same table beside them.
        conditions += [t.job_id < 0, imported.correlate(table)]
    return conditions


def _is_of_import(table: sa.Table) -> sa.ColumnElement[bool]:
    return table.c.job_id.between(IMPORTS.c.last_job_id, IMPORTS.c.first_job_id)


def _end(table: sa.Table, wanted: Wanted) -> sa.ColumnElement[float]:
    """What its rows come in the order of. Of one job's SQLite would go through all ends for it."""
    end: sa.ColumnElement[float] = table.c.end_time
    return end if wanted.job_id is None else end + sa.literal_column("0")


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def _sum(value: Any) -> sa.ColumnElement[float]:
    return sa.func.coalesce(sa.func.sum(value), 0)


def _sums() -> Sequence[sa.ColumnElement[Any]]:
    a = ATTEMPTS.c
    used = a.cpu_user_seconds + a.cpu_system_seconds
    # What was imported may not say what it used.
    is_used_known = sa.or_(a.job_id > 0, used > 0)
    is_peak_known = sa.and_(a.memory_bytes > 0, sa.or_(a.job_id > 0, a.max_rss_bytes > 0))
    asked_memory = sa.case((is_peak_known, a.run_seconds * a.memory_bytes), else_=0.0)
    used_memory = sa.case((is_peak_known, a.run_seconds * a.max_rss_bytes), else_=0.0)
    return (
        sa.func.count().label("attempts"),
        _count(a.state == "COMPLETED").label("completed"),
        _count(a.state == "FAILED").label("failed"),
        _sum(a.run_seconds).label("run_seconds"),
        _sum(a.run_seconds * a.cpus).label("cpu_seconds"),
        _sum(used).label("used_cpu_seconds"),
        _sum(sa.case((is_used_known, a.run_seconds * a.cpus), else_=0.0)).label(
            "known_cpu_seconds"
        ),
        _sum(asked_memory).label("byte_seconds"),
        _sum(used_memory).label("used_byte_seconds"),
    )


_SUMS: Final = _sums()


def _unsorted(column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """The same, but for SQLite, which would go through the whole index of a column that it groups
    by, in place of the last day's rows."""
    return column.concat(sa.literal_column("''"))


def round_down(number: Any, dialect: str) -> sa.ColumnElement[int]:
    """A positive number without its fraction: a cast does that in SQLite alone."""
    return sa.cast(number if dialect == "sqlite" else sa.func.floor(number), sa.BigInteger)


def _by_day(rows: Sequence[Row]) -> list[Row]:
    days: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row["key"]):
        day = time.strftime("%Y-%m-%d", time.localtime(row["key"] * _QUARTER_SECONDS))
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


def _attempt(row: sa.RowMapping) -> Row:
    found = dict(row)
    # As the rest of Titan names them: see schema.py.
    found["user"], found["index"] = found.pop("user_name"), found.pop("task_index")
    del found["lsn"]
    found["tasks"] = 1
    used = found["cpu_user_seconds"] + found["cpu_system_seconds"]
    ran = found["run_seconds"] or 0
    is_own, peak = found["job_id"] > 0, found["max_rss_bytes"]
    found["cpu_efficiency"] = _share(used, ran * found["cpus"]) if is_own or used else None
    found["memory_efficiency"] = _share(peak, found["memory_bytes"]) if is_own or peak else None
    return found


def _cancelled(row: sa.RowMapping) -> Row:
    """With the names that an attempt has, None where there is nothing to tell."""
    known = dict(row)
    found: Row = dict.fromkeys(_OF_ATTEMPTS)
    found |= known
    del found["lsn"], found["place"], found["user_name"]
    found["user"] = known["user_name"]
    found["index"] = None if known["is_array"] else 0
    found["state"] = CANCELLED_STATE
    found["wait_seconds"] = max(known["end_time"] - known["submit_time"], 0.0)
    return found


def _share(used: float, asked: float) -> float | None:
    """Used ÷ requested; None: nothing was requested, or it never ran."""
    return used / asked if asked else None
